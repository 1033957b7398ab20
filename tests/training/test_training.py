import json
import math
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from PIL import Image

from ddpm_app.core.images import from_uint8
from ddpm_app.engine import Engine, SampleRequest
from ddpm_app.models import available_models, load_model
from ddpm_app.pictures import to_picture
from ddpm_app.training import TrainingConfig, train
from ddpm_app.training.checkpoints import STATE
from ddpm_app.training.loop import averaged_weights, build_unet, learning_rate, training_batch
from tests.doubles import refusal

PLAIN = {
    "image_size": 8,
    "block_out_channels": (32,),
    "attention_resolutions": (),
    "num_steps": 4,
    "batch_size": 4,
    "learning_rate": 1e-3,
    "warmup_steps": 1,
}


def picture(seed, channels=3, size=8):
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(256, (channels, size, size), generator=generator, dtype=torch.uint8)


@pytest.fixture
def folder(tmp_path):
    """Six pictures of 8 x 8, one of them in a folder below."""
    where = tmp_path / "pictures"
    (where / "below").mkdir(parents=True)
    for seed in range(6):
        to_picture(picture(seed)).save((where / "below" if seed == 5 else where) / f"{seed}.png")
    return where


@pytest.fixture
def config(folder, tmp_path):
    return TrainingConfig(data=str(folder), out=str(tmp_path / "run"), **PLAIN)


def weights_of(out):
    """Every tensor that a run keeps: the network's, their average, and the optimizer's."""
    state = torch.load(f"{out}/{STATE}", weights_only=True)
    moments = [value for each in state["optimizer"]["state"].values() for value in each.values()]
    return [*state["network"].values(), *state["ema"]["shadow_params"], *moments]


def assert_same_weights(a, b):
    pairs = list(zip(weights_of(a), weights_of(b), strict=True))
    assert len(pairs) > 50
    assert all(torch.equal(one, other) for one, other in pairs)


# batches


def test_batches_go_through_the_epochs_without_loss_or_repetition(config):
    pixels = torch.arange(10, dtype=torch.uint8).view(10, 1, 1, 1).expand(-1, 3, 8, 8)
    batches = [training_batch(config, pixels, step)[0] for step in range(5)]  # 20 images: two epochs
    seen = ((torch.cat(batches)[:, 0, 0, 0] + 1) * 127.5).round().int().tolist()
    assert sorted(seen[:10]) == sorted(seen[10:]) == list(range(10))


def test_a_batch_larger_than_the_data_set_is_filled_from_the_next_epochs(config):
    x_0, t, noise = training_batch(replace(config, batch_size=9), torch.stack([picture(0), picture(1)]), 3)
    assert x_0.shape == noise.shape == (9, 3, 8, 8)
    assert t.shape == (9,)


def test_the_batch_of_a_step_follows_from_seed_and_step_alone(config):
    pixels = torch.stack([picture(seed) for seed in range(6)])
    config = replace(config, flip=True)
    first = training_batch(config, pixels, 7)
    torch.randn(3)  # the global generator has no part in it
    later = training_batch(replace(config, num_steps=999, learning_rate=1e-5), pixels, 7)
    assert all(torch.equal(a, b) for a, b in zip(first, later, strict=True))
    for other in (training_batch(config, pixels, 8), training_batch(replace(config, seed=1), pixels, 7)):
        assert not any(torch.equal(a, b) for a, b in zip(first, other, strict=True))


def test_timesteps_cover_the_chain_and_the_noise_is_standard(config):
    _, t, noise = training_batch(replace(config, batch_size=4000), torch.stack([picture(0)]), 0)
    assert t.min() < 10
    assert t.max() > 989
    assert noise.mean().abs() < 0.01
    assert abs(noise.std() - 1) < 0.01


def test_about_half_of_the_pictures_are_flipped_when_asked(config):
    pixels = picture(0)[None]
    x_0, *_ = training_batch(replace(config, batch_size=400, flip=True), pixels, 0)
    plain = from_uint8(pixels[0])
    flipped = sum(torch.equal(image, plain.flip(-1)) for image in x_0)
    assert flipped + sum(torch.equal(image, plain) for image in x_0) == 400
    assert 150 < flipped < 250


# settings


def test_the_learning_rate_warms_up_and_ends_where_it_should(config):
    config = replace(config, num_steps=1000, warmup_steps=100, learning_rate=2e-4, final_learning_rate=0.1)
    rates = [learning_rate(config, step) for step in range(1001)]
    assert rates[0] == pytest.approx(2e-6, rel=1e-3)
    assert max(rates) == pytest.approx(2e-4, rel=0.05)
    assert rates[1000] == pytest.approx(2e-5)
    assert all(before < after for before, after in pairwise(rates[:90]))
    assert all(before > after for before, after in pairwise(rates[100:]))


def test_without_warm_up_and_decay_the_learning_rate_is_constant(config):
    config = replace(config, warmup_steps=0, final_learning_rate=1.0)
    assert [learning_rate(config, step) for step in (0, 2, 4)] == pytest.approx([1e-3] * 3)


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("schedule", "steep", "linear"),
        ("prediction_type", "noise", "epsilon"),
        ("variance_type", "learned_range", "fixed_large"),
        ("channels", 2, "1 or 3"),
        ("image_size", 0, "at least 1"),
        ("image_size", 9, "multiple of 2"),
        ("block_out_channels", (), "multiples of 32"),
        ("block_out_channels", (32, 40), "multiples of 32"),
        ("num_steps", 0, "at least 1"),
        ("batch_size", -1, "at least 1"),
        ("learning_rate", math.nan, "0..1"),
        ("ema_decay", 1.5, "0..1"),
        ("dropout", -0.1, "0..1"),
    ],
)
def test_a_setting_that_cannot_work_is_refused_by_name(name, value, said):
    settings = PLAIN | {"block_out_channels": (32, 64)} | {name: value}
    sentence = refusal(lambda: TrainingConfig(data="a", out="b", **settings))
    assert sentence.startswith(name)
    assert said in sentence


# the loop


def test_a_finished_run_is_a_diffusers_folder_that_loads_and_samples_everywhere(config, tmp_path):
    from diffusers import DDPMPipeline

    *_, last = train(config)
    assert (last.step, last.num_steps) == (4, 4)
    assert math.isfinite(last.loss)
    assert last.images_per_second > 0
    assert "run" in available_models(tmp_path)
    model = load_model("run", "cpu", checkpoints=tmp_path)
    assert model.image_shape == (3, 8, 8)
    assert model.diffusion.variance_type == "fixed_large"
    pipeline = DDPMPipeline.from_pretrained(config.out)
    assert pipeline.unet.config.sample_size == 8
    *_, frame = Engine("cpu", tmp_path).run(SampleRequest(model="run", num_inference_steps=2, num_images=1))
    assert frame.images.shape == (1, 3, 8, 8)
    settings = json.loads((tmp_path / "run" / "training.json").read_text())
    assert settings["steps_done"] == 4
    assert settings["seed"] == 0


@pytest.mark.parametrize("schedule", ["linear", "cosine", "quadratic", "sigmoid"])
def test_the_saved_chain_is_the_one_that_was_trained(config, tmp_path, schedule):
    from ddpm_app.core.schedules import SCHEDULES

    config = replace(
        config, schedule=schedule, num_train_timesteps=50, prediction_type="v_prediction", num_steps=1
    )
    list(train(config))
    chain = load_model("run", "cpu", checkpoints=tmp_path).diffusion
    torch.testing.assert_close(chain.betas, SCHEDULES[schedule](50))
    assert chain.prediction_type == "v_prediction"


def test_the_saved_network_has_the_averaged_weights(config, tmp_path):
    list(train(replace(config, ema_decay=0.5)))
    state = torch.load(tmp_path / "run" / STATE, weights_only=True)
    network = load_model("run", "cpu", checkpoints=tmp_path)
    unet = build_unet(config)
    for parameter, average in zip(unet.parameters(), state["ema"]["shadow_params"], strict=True):
        parameter.data = average
    x_t, t = torch.randn(1, 3, 8, 8, generator=torch.Generator().manual_seed(0)), torch.tensor([500])
    with torch.inference_mode():
        # the folder has half precision
        torch.testing.assert_close(unet.eval()(x_t, t).sample, network.denoiser(x_t, t), atol=5e-3, rtol=0)
        assert not torch.equal(
            torch.cat([value.flatten() for value in state["network"].values()]),
            torch.cat([value.flatten() for value in state["ema"]["shadow_params"]]),
        )


def test_averaged_weights_are_put_back_even_after_an_error():
    from diffusers.training_utils import EMAModel

    network = torch.nn.Linear(2, 2)
    ema = EMAModel(network.parameters())
    with torch.no_grad():
        network.weight += 1
    trained = network.weight.clone()

    def fail_inside():
        with averaged_weights(ema, network):
            assert torch.equal(network.weight, ema.shadow_params[0])
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail_inside()
    assert torch.equal(network.weight, trained)


@pytest.mark.parametrize("dropout", [0.0, 0.3])
def test_a_run_that_was_stopped_and_resumed_ends_with_the_same_weights(config, tmp_path, dropout):
    config = replace(config, save_every=2, dropout=dropout)
    list(train(config))
    stopped = replace(config, out=str(tmp_path / "stopped"))
    steps = train(stopped, report_every=1)
    while next(steps).step < 3:  # one step beyond the last save
        pass
    steps.close()
    torch.randn(5)
    assert [at.step for at in train(stopped, report_every=1)] == [3, 4]
    assert_same_weights(config.out, stopped.out)


def test_the_seed_decides_the_whole_run(config, tmp_path):
    runs = {name: replace(config, num_steps=1, out=str(tmp_path / name)) for name in ("a", "b", "c")}
    runs["c"] = replace(runs["c"], seed=1)
    for each in runs.values():
        list(train(each))
    assert_same_weights(runs["a"].out, runs["b"].out)
    assert not torch.equal(weights_of(runs["a"].out)[0], weights_of(runs["c"].out)[0])


def test_training_leaves_the_global_generator_alone(config):
    before = torch.random.get_rng_state()
    steps = train(replace(config, dropout=0.1), report_every=1)
    next(steps)
    steps.close()
    assert torch.equal(torch.random.get_rng_state(), before)


def test_a_run_that_is_done_trains_no_further(config):
    list(train(config))
    before = weights_of(config.out)
    assert list(train(config)) == []
    assert all(torch.equal(a, b) for a, b in zip(before, weights_of(config.out), strict=True))


def test_the_loss_falls_where_there_is_little_to_learn(tmp_path):
    Image.new("L", (8, 8), 255).save(tmp_path / "white.png")
    config = TrainingConfig(
        data=str(tmp_path),
        out=str(tmp_path / "run"),
        **PLAIN | {"channels": 1, "num_steps": 40, "batch_size": 16, "learning_rate": 5e-3},
    )
    losses = [at.loss for at in train(config, report_every=5)]
    assert losses[-1] < 0.4 * losses[0]


def test_unreadable_files_are_told(config, folder, capsys):
    (folder / "broken.png").write_bytes(b"no picture")
    list(train(replace(config, num_steps=1)))
    assert "1 unreadable: broken.png" in capsys.readouterr().out


def test_a_run_of_another_network_or_process_is_not_resumed(config):
    list(train(replace(config, num_steps=1)))
    for changes in ({"block_out_channels": (64,)}, {"channels": 1}):
        sentence = refusal(lambda changes=changes: list(train(replace(config, **changes))))
        assert "another network" in sentence
        assert config.out in sentence
    for changes in ({"schedule": "cosine"}, {"prediction_type": "sample"}, {"num_train_timesteps": 500}):
        sentence = refusal(lambda changes=changes: list(train(replace(config, **changes))))
        assert next(iter(changes)) in sentence
        assert "--out" in sentence


def test_a_damaged_state_is_told_and_can_be_left_aside(config, tmp_path):
    list(train(replace(config, num_steps=1)))
    (tmp_path / "run" / STATE).write_bytes(b"half a file")
    assert "damaged" in refusal(lambda: list(train(config)))
    assert [at.step for at in train(config, resume=False)] == [4]


def test_a_loss_that_is_no_number_ends_the_run_before_it_is_saved(config, monkeypatch):
    monkeypatch.setattr(
        "ddpm_app.training.loop.loss_simple",
        lambda diffusion, denoiser, x_0, t, noise: 0 * denoiser(x_0, t) + math.nan,
    )
    assert "no longer a number" in refusal(lambda: list(train(replace(config, save_every=2))))
    assert not Path(config.out, STATE).exists()
