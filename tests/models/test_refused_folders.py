"""What cannot be run is refused in one sentence, and runs nothing."""

import pickle
from pathlib import Path

import pytest
import torch

from ddpm_app.models import load_model
from tests.doubles import edit, refusal, save_bin

NETWORK, SCHEDULER, INDEX = "unet/config.json", "scheduler/scheduler_config.json", "model_index.json"
WEIGHTS = "diffusion_pytorch_model.safetensors"


@pytest.mark.parametrize(
    ("file", "changes", "words"),
    [
        (
            NETWORK,
            {"_class_name": "UNet2DConditionModel"},
            ["UNet2DConditionModel", "choose an unconditional"],
        ),
        (NETWORK, {"in_channels": 4, "out_channels": 4}, ["4 channels", "choose"]),
        (NETWORK, {"out_channels": 5}, ["5", "choose"]),
        (NETWORK, {"num_class_embeds": 10}, ["class-conditional", "choose"]),
        (NETWORK, {"class_embed_type": "timestep"}, ["class-conditional", "choose"]),
        (NETWORK, {"sample_size": None}, ["sample_size None", "write"]),
        (NETWORK, {"sample_size": "8"}, ["sample_size '8'", "write"]),
        (NETWORK, {"sample_size": [8, 8, 8]}, ["sample_size [8, 8, 8]", "write"]),
        (NETWORK, {"sample_size": 9}, ["sample_size 9", "multiple of 2"]),
        (NETWORK, {"norm_num_groups": 5}, ["config.json", "no network can be built"]),
        (NETWORK, {"norm_num_groups": 0}, ["config.json", "no network can be built"]),
        (NETWORK, {"down_block_types": ["NoSuchBlock", "DownBlock2D"]}, ["NoSuchBlock"]),
        (NETWORK, {"block_out_channels": [8, 32]}, ["do not fit", "fetch"]),
        (NETWORK, {"layers_per_block": 2}, ["do not fit", "missing", "fetch"]),
        (NETWORK, {"add_attention": False}, ["do not fit", "unknown", "fetch"]),
        (INDEX, {"vqvae": ["diffusers", "VQModel"]}, ["latent", "vqvae", "choose"]),
        (INDEX, {"vae": ["diffusers", "AutoencoderKL"]}, ["latent", "vae", "choose"]),
        (SCHEDULER, {"beta_schedule": "laplace"}, ["laplace", "linear, scaled_linear"]),
        (SCHEDULER, {"beta_schedule": ["linear"]}, ["beta_schedule must be one of"]),
        (SCHEDULER, {"variance_type": "medium"}, ["medium", "fixed_small, fixed_large"]),
        (SCHEDULER, {"variance_type": ["fixed_small"]}, ["scheduler_config.json"]),
        (SCHEDULER, {"variance_type": "learned_range"}, ["learned_range", "correct it to fixed_small"]),
        (SCHEDULER, {"prediction_type": "noise"}, ["noise", "epsilon, sample"]),
        (SCHEDULER, {"timestep_spacing": "random"}, ["random", "leading, trailing"]),
        (SCHEDULER, {"num_train_timesteps": "many"}, ["scheduler_config.json"]),
        (SCHEDULER, {"num_train_timesteps": -1}, ["scheduler_config.json"]),
        (SCHEDULER, {"beta_end": 2.0}, ["(0, 1]", "correct"]),
        (SCHEDULER, {"trained_betas": ["a"]}, ["scheduler_config.json"]),
        (SCHEDULER, {"rescale_betas_zero_snr": True}, ["scheduler_config.json", "prediction_type must be"]),
    ],
)
def test_a_configuration_that_cannot_be_run_is_refused(tiny_copy, file, changes, words):
    edit(tiny_copy / file, **changes)
    sentence = refusal(lambda: load_model(tiny_copy, "cpu"))
    assert tiny_copy.name in sentence
    for word in words:
        assert word in sentence


@pytest.mark.parametrize(
    "scheduler", ["ScoreSdeVeScheduler", "KarrasVeScheduler", "FlowMatchEulerDiscreteScheduler"]
)
def test_a_scheduler_without_betas_is_refused(tiny_copy, scheduler):
    edit(tiny_copy / SCHEDULER, "beta_schedule", "trained_betas", _class_name=scheduler)
    assert f"{scheduler}, which has no beta schedule" in refusal(lambda: load_model(tiny_copy, "cpu"))


def test_a_part_that_the_pipeline_leaves_empty_is_no_latent_space(tiny_copy):
    edit(tiny_copy / INDEX, vqvae=[None, None])
    assert load_model(tiny_copy, "cpu").image_shape == (3, 8, 8)


@pytest.mark.parametrize("text", ["", '{"sample_size": 8', "[1, 2]", b"\xff\xfe\x00"])
@pytest.mark.parametrize("file", [NETWORK, SCHEDULER, INDEX])
def test_damaged_json_is_refused(tiny_copy, file, text):
    (tiny_copy / file).write_bytes(text if isinstance(text, bytes) else text.encode())
    sentence = refusal(lambda: load_model(tiny_copy, "cpu"))
    assert Path(file).name in sentence
    assert "fetch or save the model again" in sentence


def test_another_librarys_config_is_refused(tiny_copy):
    (tiny_copy / NETWORK).write_text('{"model_type": "bert", "hidden_size": 768}')
    assert "another kind" in refusal(lambda: load_model(tiny_copy, "cpu"))


def test_a_missing_schedule_is_refused(tiny_copy):
    (tiny_copy / SCHEDULER).unlink()
    assert "add that file" in refusal(lambda: load_model(tiny_copy, "cpu"))


def test_missing_weights_are_refused_and_a_variant_is_named(tiny_copy):
    weights = tiny_copy / "unet" / WEIGHTS
    weights.rename(weights.with_name("diffusion_pytorch_model.fp16.safetensors"))
    sentence = refusal(lambda: load_model(tiny_copy, "cpu"))
    assert "has no diffusion_pytorch_model.safetensors" in sentence
    assert "diffusion_pytorch_model.fp16.safetensors" in sentence
    weights.with_name("diffusion_pytorch_model.fp16.safetensors").unlink()
    assert "variant" not in refusal(lambda: load_model(tiny_copy, "cpu"))


@pytest.mark.parametrize("keep", [0.0, 0.5, 0.99])
@pytest.mark.parametrize("suffix", [".safetensors", ".bin"])
def test_truncated_weights_are_refused(tiny_copy, suffix, keep):
    if suffix == ".bin":
        save_bin(tiny_copy / "unet")
    weights = (tiny_copy / "unet" / WEIGHTS).with_suffix(suffix)
    data = weights.read_bytes()
    weights.write_bytes(data[: int(keep * len(data))])
    sentence = refusal(lambda: load_model(tiny_copy, "cpu"))
    assert weights.name in sentence
    assert "damaged" in sentence
    assert "fetch" in sentence


class Malicious:
    """On unpickling, makes the folder it was given."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __reduce__(self):
        return Path.mkdir, (self.folder,)


@pytest.mark.parametrize("save", [torch.save, lambda table, file: file.write_bytes(pickle.dumps(table))])
def test_a_bin_that_would_run_code_is_refused_and_runs_none(tiny_copy, tmp_path, save):
    marker = tmp_path / "code has run"
    save_bin(tiny_copy / "unet")
    file = tiny_copy / "unet" / "diffusion_pytorch_model.bin"
    table = torch.load(file, weights_only=True) | {"conv_in.bias": Malicious(marker)}
    save(table, file)
    sentence = refusal(lambda: load_model(tiny_copy, "cpu"))
    assert not marker.exists()
    assert "not opened" in sentence
    assert "save it as safetensors" in sentence
    torch.load(file, weights_only=False) if save is torch.save else pickle.loads(file.read_bytes())
    assert marker.exists()  # it would have


def test_a_bin_of_something_else_than_a_table_of_tensors_is_refused(tiny_copy):
    (tiny_copy / "unet" / WEIGHTS).unlink()
    torch.save({"epoch": 3}, tiny_copy / "unet" / "diffusion_pytorch_model.bin")
    assert "not a table of tensors" in refusal(lambda: load_model(tiny_copy, "cpu"))
