import math
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from PIL import Image

from ddpm_app.core.losses import HISTORY
from ddpm_app.engine import Engine, SampleRequest
from ddpm_app.models import available_models, load_model
from ddpm_app.training import loop, train
from ddpm_app.training.trainer import Trainer, learning_rate
from tests.training.runs import (
    OBJECTIVES,
    assert_same_weights,
    logged,
    start,
    state_of,
    weights_of,
)

# the learning rate


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


# what comes out


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_every_objective_ends_in_a_folder_that_loads_and_samples_everywhere(config, tmp_path, objective):
    from diffusers import DDPMPipeline

    config = replace(config, **OBJECTIVES[objective])
    *_, last = train(config)
    assert (last.step, last.num_steps) == (4, 4)
    assert math.isfinite(last.loss)
    assert "run" in available_models(tmp_path)
    model = load_model("run", "cpu", checkpoints=tmp_path)
    assert model.image_shape == (3, 8, 8)
    assert model.diffusion.variance_type == config.variance_type
    assert model.diffusion.prediction_type == config.prediction_type
    assert len(model.diffusion) == config.num_train_timesteps
    pipeline = DDPMPipeline.from_pretrained(config.out)
    assert pipeline.unet.config.sample_size == 8
    pipeline.set_progress_bar_config(disable=True)
    drawn = pipeline(num_inference_steps=2, generator=torch.Generator().manual_seed(0), output_type="np")
    assert drawn.images.shape == (1, 8, 8, 3)
    steps = len(model.diffusion) if config.variance_type == "learned" else 2  # it knows single steps alone
    request = SampleRequest(model="run", num_inference_steps=steps, num_images=1)
    *_, frame = Engine("cpu", tmp_path).run(request)
    assert frame.images.shape == (1, 3, 8, 8)


def test_the_loss_falls_where_there_is_little_to_learn(config, tmp_path):
    white = tmp_path / "white"
    white.mkdir()
    Image.new("L", (8, 8), 255).save(white / "white.png")
    config = replace(config, data=str(white), channels=1, num_steps=25, batch_size=16, learning_rate=5e-3)
    losses = [at.loss for at in train(replace(config, num_train_timesteps=1000), report_every=5)]
    assert losses[-1] < 0.4 * losses[0]


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


def test_a_batch_taken_in_parts_teaches_the_same(config, tmp_path):
    parts = replace(config, gradient_accumulation_steps=2, out=str(tmp_path / "parts"))
    whole, halves = (list(train(each, report_every=1)) for each in (config, parts))
    for one, other in zip(whole, halves, strict=True):
        assert one.loss == pytest.approx(other.loss, rel=1e-4)
    for one, other in zip(
        state_of(config.out)["network"].values(), state_of(parts.out)["network"].values(), strict=True
    ):
        # Adam makes steps of the learning rate, 1e-3, even of gradients that are rounding alone
        torch.testing.assert_close(one, other, rtol=0, atol=2e-4)


def test_unreadable_files_are_told(config, pictures, capsys):
    (pictures / "broken.png").write_bytes(b"no picture")
    list(train(replace(config, num_steps=1)))
    assert "left out 1 unreadable: broken.png" in capsys.readouterr().out


def test_importance_is_learned_and_remembered(config):
    list(train(replace(config, **OBJECTIVES["importance"])))
    state = state_of(config.out)
    assert state["timestep_counts"].sum() == 4 * 24
    assert state["timestep_counts"].min() >= HISTORY
    assert (state["timestep_history"] > 0).all()


def test_a_report_tells_the_speed_since_the_last_one_and_the_time_that_is_left_at_it(config, monkeypatch):
    clock, seconds = [100.0], iter([9.0, 1.0, 2.0, 2.0, 4.0, 4.0])
    advance = Trainer.advance

    def takes_its_time(trainer):
        clock[0] += next(seconds)
        return advance(trainer)

    monkeypatch.setattr(Trainer, "advance", takes_its_time)
    monkeypatch.setattr(loop, "time", SimpleNamespace(perf_counter=lambda: clock[0]))
    told = list(train(replace(config, num_steps=6, batch_size=4, sample_every=100), report_every=2))
    assert [at.images_per_second for at in told] == pytest.approx([8 / 10, 8 / 4, 8 / 8])
    assert [at.seconds_left for at in told] == pytest.approx([4 * 5, 2 * 2, 0])
    assert state_of(config.out)["seconds"] == pytest.approx(22)


def test_tensorboard_gets_every_report(config):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    told = list(train(replace(config, log_with="tensorboard"), report_every=2))
    events = EventAccumulator(str(next(Path(config.out).rglob("events.out.*")).parent))
    events.Reload()
    assert [(each.step, each.value) for each in events.Scalars("loss")] == [
        (at.step, pytest.approx(at.loss)) for at in told
    ]


@pytest.mark.slow
def test_half_precision_learns_nearly_the_same(config, tmp_path):
    list(train(config))
    half = replace(config, precision="bf16", out=str(tmp_path / "half"))
    process = start(half, tmp_path / "said")  # accelerate has one precision a process
    process.join()
    assert process.exitcode == 0
    one, other = (next(iter(logged(out))) for out in (config.out, half.out))
    assert one["loss"] != other["loss"]
    assert one["loss"] == pytest.approx(other["loss"], rel=0.01)  # bf16 has 8 bits


def test_gradients_are_clipped_to_the_norm_asked_for_and_with_none_asked_for_are_as_they_are(
    config, tmp_path, monkeypatch
):
    norms = []

    def step(optimizer, *args, **kwargs):
        gradients = [each.grad for group in optimizer.param_groups for each in group["params"]]
        norms.append(torch.stack([each.norm() for each in gradients]).norm().item())

    monkeypatch.setattr(torch.optim.Adam, "step", step)
    for most in (0.01, 0.0):
        list(train(replace(config, max_grad_norm=most, num_steps=1, out=str(tmp_path / str(most)))))
    assert norms[0] == pytest.approx(0.01, rel=1e-3)
    assert norms[1] > 0.1
