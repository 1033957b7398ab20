import json
import shutil
from dataclasses import asdict, replace
from pathlib import Path

import pytest
import torch

from ddpm_app.core.losses import TimestepSampler
from ddpm_app.core.schedules import SCHEDULES
from ddpm_app.models import load_model
from ddpm_app.training import train
from ddpm_app.training.checkpoints import (
    PARTIAL,
    SETTINGS,
    STATE,
    TrainingState,
    load_state,
    save_pipeline,
    save_state,
    writing,
)
from ddpm_app.training.labels import called
from ddpm_app.training.network import build_unet
from tests.doubles import refusal
from tests.training.runs import assert_same_weights, state_of, weights_of


def test_the_settings_beside_the_weights_name_the_data_but_not_their_place(config, pictures):
    others = shutil.copytree(pictures, pictures.parent / "others")
    config = replace(config, num_steps=1, held_out=str(others))
    list(train(config))
    settings = json.loads(Path(config.out, SETTINGS).read_text())
    assert settings.pop("steps_done") == 1
    wanted = asdict(config) | {"data": "pictures", "out": "run", "held_out": "others"}
    assert settings == json.loads(json.dumps(wanted))


def test_a_split_of_a_folder_names_its_place_no_more_than_the_folder_does(config, pictures):
    split = pictures / "train"
    split.mkdir()
    for file in pictures.glob("*.png"):
        file.rename(split / file.name)
    config = replace(config, num_steps=1, data=f"{pictures}:train")
    list(train(config))
    assert json.loads(Path(config.out, SETTINGS).read_text())["data"] == "pictures:train"
    assert called(config.data) == f"{pictures.parent.name}/pictures:train"


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_the_saved_chain_is_the_one_that_was_trained(config, tmp_path, schedule):
    config = replace(config, schedule=schedule, num_train_timesteps=30, prediction_type="v_prediction")
    save_pipeline(tmp_path / "run", build_unet(config), config, 1)
    chain = load_model("run", "cpu", checkpoints=tmp_path).diffusion
    torch.testing.assert_close(chain.betas, SCHEDULES[schedule](30))
    assert chain.prediction_type == "v_prediction"
    assert chain.variance_type == "fixed_large"
    assert chain.clip_denoised
    assert chain.timestep_spacing == "trailing"


def test_the_saved_network_has_the_averaged_weights(config, tmp_path):
    list(train(replace(config, ema_decay=0.5)))
    state = state_of(config.out)
    network = load_model("run", "cpu", checkpoints=tmp_path)
    unet = build_unet(config)
    for parameter, average in zip(unet.parameters(), state["ema"]["shadow_params"], strict=True):
        parameter.data = average
    x_t, t = torch.randn(1, 3, 8, 8, generator=torch.Generator().manual_seed(0)), torch.tensor([5])
    with torch.inference_mode():
        # the folder has half precision
        torch.testing.assert_close(unet.eval()(x_t, t).sample, network.denoiser(x_t, t), atol=5e-3, rtol=0)
    trained = list(state["network"].values())
    averaged = state["ema"]["shadow_params"]
    assert not all(torch.equal(a, b) for a, b in zip(trained, averaged, strict=True))


def test_a_resumed_run_averages_with_the_decay_that_it_is_given(config):
    list(train(replace(config, num_steps=2, ema_decay=0.999)))
    list(train(replace(config, ema_decay=0.0)))
    state = state_of(config.out)
    for weight, average in zip(state["network"].values(), state["ema"]["shadow_params"], strict=True):
        torch.testing.assert_close(weight, average, rtol=0, atol=1e-6)


def test_the_scale_of_half_precision_gradients_is_resumed(config, tmp_path):
    from diffusers.training_utils import EMAModel

    states = []
    for scale in (32.0, 65536.0):  # what it came to, and what every run begins with
        network = build_unet(config)
        optimizer, timesteps = torch.optim.Adam(network.parameters()), TimestepSampler(8, False)
        scaler = torch.amp.GradScaler("cpu", init_scale=scale)
        states.append(TrainingState(network, EMAModel(network.parameters()), optimizer, timesteps, scaler))
    saved, loaded = states
    save_state(tmp_path, saved, config)
    load_state(tmp_path, loaded, config)
    assert loaded.scaler.get_scale() == 32.0
    save_state(tmp_path, replace(saved, scaler=None), config)  # a run in another precision
    load_state(tmp_path, loaded, config)
    assert loaded.scaler.get_scale() == 32.0


def test_averaged_weights_are_put_back_even_after_an_error():
    from diffusers.training_utils import EMAModel

    network = torch.nn.Linear(2, 2)
    state = TrainingState(network, EMAModel(network.parameters()), None, None)
    with torch.no_grad():
        network.weight += 1
    trained = network.weight.clone()

    def fail_inside():
        with state.averaged():
            assert torch.equal(network.weight, state.ema.shadow_params[0])
            assert not network.training
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail_inside()
    assert torch.equal(network.weight, trained)
    assert network.training


def test_what_a_dead_process_left_half_written_is_cleared_away(config):
    list(train(replace(config, num_steps=2)))
    (Path(config.out, PARTIAL) / "unet").mkdir(parents=True)
    (Path(config.out, PARTIAL) / "unet" / "left.bin").write_bytes(b"half a file")
    (Path(config.out, PARTIAL) / STATE).write_bytes(b"half a state")
    list(train(config))
    assert state_of(config.out)["step"] == 4
    assert not list(Path(config.out).rglob("left.bin"))
    assert not Path(config.out, PARTIAL).exists()


def test_a_run_of_another_network_or_process_is_not_resumed(config):
    list(train(replace(config, num_steps=1)))
    before = weights_of(config.out)
    for changes in ({"block_out_channels": (64,)}, {"channels": 1}):
        sentence = refusal(lambda changes=changes: list(train(replace(config, **changes))))
        assert "another network" in sentence
        assert config.out in sentence
    for changes in (
        {"schedule": "cosine"},
        {"prediction_type": "sample"},
        {"num_train_timesteps": 500},
        {"image_size": 16},
        {"variance_type": "learned", "objective": "vlb"},
        {"objective": "vlb"},
        {"data": "shapes"},
        {"attention_head_dim": 8},
        {"norm_num_groups": 4},
    ):
        sentence = refusal(lambda changes=changes: list(train(replace(config, **changes))))
        assert next(iter(changes)) in sentence
        assert "--out" in sentence
    assert all(torch.equal(a, b) for a, b in zip(before, weights_of(config.out), strict=True))


def test_weights_are_resumed_as_what_they_were_learned_for_whatever_model_was_saved_since(config):
    list(train(replace(config, num_steps=1)))
    other = replace(config, prediction_type="v_prediction")
    save_pipeline(Path(config.out), build_unet(other), other, 1)  # and killed before its state
    assert "prediction_type epsilon" in refusal(lambda: list(train(other)))
    assert [at.step for at in train(config)] == [4]


def test_a_state_of_an_earlier_version_is_resumed_by_the_settings_beside_it(config):
    list(train(replace(config, num_steps=1)))
    state = state_of(config.out)
    del state["process"]
    torch.save(state, Path(config.out, STATE))
    assert "schedule linear" in refusal(lambda: list(train(replace(config, schedule="cosine"))))
    assert [at.step for at in train(config, report_every=1)] == [2, 3, 4]


@pytest.mark.parametrize("kept", [20, 0.99])
def test_a_damaged_state_is_told_and_can_be_left_aside(config, kept):
    list(train(replace(config, num_steps=1)))
    file = Path(config.out, STATE)
    file.write_bytes(file.read_bytes()[: int(kept if kept > 1 else kept * file.stat().st_size)])
    assert "damaged" in refusal(lambda: list(train(config)))
    assert [at.step for at in train(config, resume=False)] == [4]


def test_without_resuming_a_run_begins_again(config, tmp_path):
    fresh = replace(config, out=str(tmp_path / "fresh"))
    list(train(replace(config, num_steps=2, seed=5)))
    list(train(config, resume=False))
    list(train(fresh))
    assert_same_weights(config.out, fresh.out)


def test_a_run_begun_again_and_killed_before_it_saves_is_not_the_one_before_it(config):
    list(train(replace(config, num_steps=2)))
    begun = train(config, resume=False, report_every=1)
    next(begun)
    begun.close()
    assert [at.step for at in train(config, report_every=1)] == [1, 2, 3, 4]


def test_a_run_goes_on_where_the_model_it_began_with_is_gone(config, tmp_path, monkeypatch):
    given, whole = str(tmp_path / "given"), str(tmp_path / "whole")
    list(train(replace(config, out=given, num_steps=1)))
    config = replace(config, init_from=given, out=str(tmp_path / "mnist-28"))
    list(train(replace(config, out=whole)))
    answers = iter([False, True])
    list(train(config, stopping=lambda: next(answers)))
    shutil.rmtree(given)
    monkeypatch.chdir(tmp_path)
    config = replace(config, out="mnist-28")  # the folder here, not the bundled model
    assert [at.step for at in train(config, report_every=1)] == [3, 4]
    assert_same_weights(config.out, whole)


def test_the_loss_of_held_out_pictures_is_known_after_a_pause(config, pictures):
    others = shutil.copytree(pictures, pictures.parent / "others")
    config = replace(config, held_out=str(others), save_every=1)
    list(train(replace(config, num_steps=2)))
    begun = train(config, report_every=1)
    assert next(begun).step == 3
    begun.close()
    assert "on 6 pictures kept out of the training" in Path(config.out, "README.md").read_text()
    *_, last = train(replace(config, held_out=""))
    assert last.held_out_loss is None
    assert "kept out of the training" not in Path(config.out, "README.md").read_text()


def test_a_second_run_into_the_same_folder_is_refused_while_the_first_one_works(config):
    begun = train(config, report_every=1)
    next(begun)
    assert "another process trains into" in refusal(lambda: list(train(config)))
    begun.close()
    assert [at.step for at in train(config)] == [4]


def test_a_folder_that_has_gone_since_is_not_taken_for_a_data_set_of_the_hub(config, pictures, monkeypatch):
    monkeypatch.chdir(pictures.parents[1])
    own = f"{pictures.parent.name}/{pictures.name}"
    steps = train(replace(config, data=own, save_every=1), report_every=1)
    next(steps)
    shutil.move(pictures, pictures.with_name("elsewhere"))
    list(steps)
    assert json.loads(Path(config.out, SETTINGS).read_text())["data"] == pictures.name
    assert "datasets:" not in Path(config.out, "README.md").read_text()
    shutil.move(pictures.with_name("elsewhere"), pictures)
    assert [at.step for at in train(replace(config, data=own, num_steps=5))] == [5]


def test_the_place_of_data_that_has_gone_since_is_not_written_down(config, pictures):
    begun = train(replace(config, save_every=1), report_every=1)
    next(begun)
    shutil.rmtree(pictures)
    next(begun)
    assert json.loads(Path(config.out, SETTINGS).read_text())["data"] == "pictures"
    begun.close()


def test_a_run_that_cannot_begin_again_leaves_the_one_before_it(config):
    list(train(replace(config, num_steps=2)))
    refusal(lambda: list(train(replace(config, data="nowhere"), resume=False)))
    assert [at.step for at in train(config, report_every=1)] == [3, 4]


def test_what_cannot_be_written_is_told_with_its_reason(tmp_path):
    (tmp_path / "taken").write_text("a file")

    def write():
        with writing(tmp_path):
            (tmp_path / "taken" / "below").mkdir()

    sentence = refusal(write)
    assert str(tmp_path) in sentence
    assert "Not a directory" in sentence
