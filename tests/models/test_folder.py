import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from ddpm_app.core.schedules import cosine_betas
from ddpm_app.models import load_model
from tests.doubles import edit, flatten, noisy_batch, refusal, save_bin, save_pipeline, tiny_network

NETWORK, SCHEDULER = "unet/config.json", "scheduler/scheduler_config.json"
WEIGHTS = "diffusion_pytorch_model.safetensors"


def predict(folder: Path) -> torch.Tensor:
    return load_model(folder, "cpu").denoiser(*noisy_batch())


def diffusers_predicts(folder: Path) -> torch.Tensor:
    from diffusers import DDPMPipeline

    network = DDPMPipeline.from_pretrained(folder).unet.float().eval()
    with torch.inference_mode():
        return network(*noisy_batch()).sample


def same(ours: torch.Tensor, theirs: torch.Tensor) -> bool:
    return bool((ours - theirs).abs().max() <= 1e-5)


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32])
@pytest.mark.parametrize("suffix", [".safetensors", ".bin"])
@pytest.mark.parametrize("at_root", [False, True])
def test_a_folder_predicts_what_diffusers_predicts(tmp_path, at_root, suffix, dtype):
    folder = save_pipeline(tmp_path / "model", tiny_network(), dtype=dtype)
    if suffix == ".bin":
        save_bin(folder / "unet")
    if at_root:
        flatten(folder)
    model = load_model(folder, "cpu")
    output = model.denoiser(*noisy_batch())
    assert output.dtype == torch.float32
    assert same(output, diffusers_predicts(folder))
    assert model.image_shape == (3, 8, 8)
    assert model.num_parameters == sum(parameter.numel() for parameter in tiny_network().parameters())


def test_safetensors_are_preferred_to_bin(tiny_copy):
    expected = predict(tiny_copy)
    torch.save(tiny_network(seed=1).state_dict(), tiny_copy / "unet" / "diffusion_pytorch_model.bin")
    assert same(predict(tiny_copy), expected)


def test_a_network_in_several_files_is_put_together(tiny_copy):
    expected = predict(tiny_copy)
    (tiny_copy / "unet" / WEIGHTS).unlink()
    tiny_network().half().save_pretrained(tiny_copy / "unet", max_shard_size="10KB")
    shards = sorted((tiny_copy / "unet").glob("*.safetensors"))
    assert len(shards) > 1
    assert same(predict(tiny_copy), expected)
    shards[-1].unlink()
    assert "missing" in refusal(lambda: load_model(tiny_copy, "cpu"))


def test_a_loaded_network_does_not_follow_the_file_that_it_came_from(tmp_path):
    folder = save_pipeline(tmp_path / "model", tiny_network(), dtype=torch.float32)
    model = load_model(folder, "cpu")
    before = model.denoiser(*noisy_batch())
    file = folder / "unet" / "diffusion_pytorch_model.safetensors"
    whole = file.read_bytes()
    with file.open("r+b") as written:
        written.seek(len(whole) // 2)
        written.write(bytes(len(whole) - len(whole) // 2))
    assert torch.equal(model.denoiser(*noisy_batch()), before)


def test_attention_weights_under_their_old_names_load(tiny_copy):
    expected = predict(tiny_copy)
    old = {".to_q.": ".query.", ".to_k.": ".key.", ".to_v.": ".value.", ".to_out.0.": ".proj_attn."}
    file = tiny_copy / "unet" / WEIGHTS
    renamed = load_file(file)
    for new_name, old_name in old.items():
        renamed = {key.replace(new_name, old_name): tensor for key, tensor in renamed.items()}
    assert sum(".proj_attn." in key for key in renamed) > 1
    save_file(renamed, file)
    assert same(predict(tiny_copy), expected)


def test_a_grey_picture_that_is_not_square_keeps_its_shape(tmp_path):
    network = tiny_network(sample_size=(8, 12), in_channels=1, out_channels=1)
    model = load_model(save_pipeline(tmp_path / "grey", network), "cpu")
    assert model.image_shape == (1, 8, 12)
    assert model.denoiser(torch.zeros(1, 1, 8, 12), torch.tensor([9])).shape == (1, 1, 8, 12)


# the configuration is honoured


@pytest.mark.parametrize("attention_head_dim", [4, 8, None])
def test_a_stated_attention_head_dim_is_followed(tmp_path, attention_head_dim):
    network = tiny_network(attention_head_dim=attention_head_dim)
    folder = save_pipeline(tmp_path / "model", network, dtype=torch.float32)
    assert json.loads((folder / NETWORK).read_text())["attention_head_dim"] == attention_head_dim
    with torch.inference_mode():
        assert same(predict(folder), network(*noisy_batch()).sample)
    assert load_model(folder, "cpu").notes == ()


def test_an_attention_head_dim_left_out_means_one_head_and_is_noted(tiny_copy):
    edit(tiny_copy / NETWORK, "attention_head_dim")
    ours, theirs = predict(tiny_copy), diffusers_predicts(tiny_copy)
    assert any("one head" in note for note in load_model(tiny_copy, "cpu").notes)
    edit(tiny_copy / NETWORK, attention_head_dim=16)  # the attention has 16 channels
    assert same(ours, diffusers_predicts(tiny_copy))
    assert (ours - theirs).abs().max() > 1e-4  # diffusers' default of 8 makes two heads of them


@pytest.mark.parametrize(
    ("key", "value", "attribute", "expected"),
    [
        ("clip_sample", True, "clip_denoised", True),
        ("clip_sample", False, "clip_denoised", False),
        ("variance_type", "fixed_small", "variance_type", "fixed_small"),
        ("variance_type", "fixed_small_log", "variance_type", "fixed_small"),
        ("variance_type", "fixed_large", "variance_type", "fixed_large"),
        ("variance_type", "fixed_large_log", "variance_type", "fixed_large"),
        ("timestep_spacing", "linspace", "timestep_spacing", "linspace"),
        ("timestep_spacing", "trailing", "timestep_spacing", "trailing"),
        ("prediction_type", "sample", "prediction_type", "sample"),
        ("prediction_type", "v_prediction", "prediction_type", "v_prediction"),
    ],
)
def test_a_scheduler_setting_reaches_the_chain(tiny_copy, key, value, attribute, expected):
    edit(tiny_copy / SCHEDULER, **{key: value})
    assert getattr(load_model(tiny_copy, "cpu").diffusion, attribute) == expected


@pytest.mark.parametrize(("predict_epsilon", "expected"), [(True, "epsilon"), (False, "sample")])
def test_the_first_schedulers_said_otherwise_what_is_predicted(tiny_copy, predict_epsilon, expected):
    edit(tiny_copy / SCHEDULER, "prediction_type", predict_epsilon=predict_epsilon)
    assert load_model(tiny_copy, "cpu").diffusion.prediction_type == expected


@pytest.mark.parametrize(
    "name", ["DPMSolverMultistepScheduler", "DPMSolverSinglestepScheduler", "SASolverScheduler"]
)
def test_a_solver_that_knows_no_variance_type_leaves_the_chain_the_default(tiny_copy, name):
    import diffusers

    getattr(diffusers, name)(beta_schedule="squaredcos_cap_v2").save_pretrained(tiny_copy / "scheduler")
    assert json.loads((tiny_copy / SCHEDULER).read_text())["variance_type"] is None
    model = load_model(tiny_copy, "cpu")
    assert model.diffusion.variance_type == "fixed_small"
    torch.testing.assert_close(model.diffusion.betas, cosine_betas(1000))
    assert any(name in note for note in model.notes)


def test_settings_left_out_have_diffusers_defaults(tiny_copy):
    from diffusers import DDPMScheduler

    (tiny_copy / SCHEDULER).write_text("{}")
    chain, default = load_model(tiny_copy, "cpu").diffusion, DDPMScheduler()
    torch.testing.assert_close(chain.betas.float(), default.betas)
    assert chain.timestep_spacing == default.config.timestep_spacing == "leading"
    assert chain.variance_type == default.config.variance_type
    assert chain.prediction_type == default.config.prediction_type
    assert chain.clip_denoised is default.config.clip_sample


@pytest.mark.parametrize("num_train_timesteps", [50, 1000])
@pytest.mark.parametrize("beta_schedule", ["linear", "scaled_linear", "squaredcos_cap_v2", "sigmoid"])
def test_every_beta_schedule_is_that_of_diffusers(tiny_copy, beta_schedule, num_train_timesteps):
    from diffusers import DDPMScheduler

    settings = {"beta_start": 2e-4, "beta_end": 0.03, "num_train_timesteps": num_train_timesteps}
    edit(tiny_copy / SCHEDULER, beta_schedule=beta_schedule, **settings)
    betas = load_model(tiny_copy, "cpu").diffusion.betas
    assert betas.dtype == torch.float64
    expected = DDPMScheduler(beta_schedule=beta_schedule, **settings).betas
    torch.testing.assert_close(betas.float(), expected, rtol=1e-5, atol=1e-9)


def test_trained_betas_are_taken_as_they_are(tiny_copy):
    trained_betas = [0.1, 0.2, 0.15, 0.4]
    edit(tiny_copy / SCHEDULER, trained_betas=trained_betas, beta_schedule="no such")
    assert load_model(tiny_copy, "cpu").diffusion.betas.tolist() == trained_betas


def test_betas_are_rescaled_to_zero_snr_when_asked(tiny_copy):
    from diffusers import DDPMScheduler

    edit(tiny_copy / SCHEDULER, rescale_betas_zero_snr=True, prediction_type="v_prediction")
    diffusion = load_model(tiny_copy, "cpu").diffusion
    assert diffusion.alphas_cumprod[-1] == 0
    expected = DDPMScheduler(rescale_betas_zero_snr=True).betas  # in float32, and worst where alpha-bar ends
    torch.testing.assert_close(diffusion.betas.float(), expected, rtol=1e-3, atol=1e-6)


def test_a_learned_range_comes_with_twice_the_channels(tmp_path):
    network = tiny_network(out_channels=6)
    model = load_model(save_pipeline(tmp_path / "model", network, variance_type="learned_range"), "cpu")
    x_t, t = noisy_batch()
    p = model.diffusion.p_mean_variance(model.denoiser(x_t, t), x_t, t)
    assert p.variance.shape == p.mean.shape == x_t.shape
    assert model.diffusion.variance_type == "learned_range"


def test_a_learned_variance_is_noted_to_be_read_as_a_logarithm(tmp_path):
    save_pipeline(tmp_path / "learned", tiny_network(out_channels=6), variance_type="learned")
    (note,) = load_model(tmp_path / "learned", "cpu").notes
    assert "logarithm" in note


@pytest.mark.parametrize("widths", [(32, 32), (32, 64, 32)])
def test_a_network_whose_norms_see_one_number_of_the_smallest_picture_loads(tmp_path, widths):
    network = tiny_network(
        sample_size=16,
        block_out_channels=widths,
        norm_num_groups=32,
        down_block_types=["DownBlock2D"] * len(widths),
        up_block_types=["UpBlock2D"] * len(widths),
    )
    assert load_model(save_pipeline(tmp_path / "narrow", network), "cpu").image_shape == (3, 16, 16)


def test_learned_embeddings_of_fewer_timesteps_than_the_chain_has_are_refused(tmp_path):
    network = tiny_network(time_embedding_type="learned", num_train_timesteps=100)
    folder = save_pipeline(tmp_path / "short", network)
    assert "100 timesteps" in refusal(lambda: load_model(folder, "cpu"))
    edit(folder / SCHEDULER, num_train_timesteps=100)
    assert len(load_model(folder, "cpu").diffusion) == 100


def test_another_scheduler_with_betas_is_noted_and_loads(tiny_copy):
    edit(tiny_copy / SCHEDULER, _class_name="PNDMScheduler")
    (note,) = load_model(tiny_copy, "cpu").notes
    assert "PNDMScheduler" in note


@pytest.mark.parametrize(
    "setting",
    [{"thresholding": True}, {"clip_sample_range": 2.0}, {"steps_offset": 1}, {"set_alpha_to_one": False}],
)
def test_a_setting_that_is_not_applied_is_noted(tiny_copy, setting):
    edit(tiny_copy / SCHEDULER, **setting)
    (note,) = load_model(tiny_copy, "cpu").notes
    assert next(iter(setting)) in note
