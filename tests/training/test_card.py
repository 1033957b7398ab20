from dataclasses import dataclass, replace

import pytest
import yaml
from PIL import Image

from ddpm_app.training import TrainingConfig
from ddpm_app.training.card import CardFacts, write_card
from tests.doubles import save_pipeline, tiny_network

FACTS = CardFacts(steps_done=3800, seconds=5400, loss=0.03125, num_images=1588, num_parameters=4_500_123)


@pytest.fixture
def config(tmp_path):
    return TrainingConfig(
        data=str(tmp_path / "secret" / "noto-emoji"),
        out=str(tmp_path / "emoji-32"),
        num_steps=3800,
        batch_size=32,
        prediction_type="v_prediction",
    )


@pytest.fixture
def out(tmp_path):
    (tmp_path / "emoji-32").mkdir()
    return tmp_path / "emoji-32"


def written(out, config, facts=FACTS):
    write_card(out, config, facts)
    assert [file.name for file in out.glob("README*")] == ["README.md"]
    return (out / "README.md").read_text("utf-8")


def front_matter(card):
    assert card.startswith("---\n")
    return yaml.safe_load(card.split("---\n")[1])


def test_the_hub_is_told_what_the_folder_is(out, config):
    told = front_matter(written(out, config))
    assert told["library_name"] == "diffusers"
    assert told["pipeline_tag"] == "unconditional-image-generation"
    assert "ddpm" in told["tags"]
    assert "license" not in told
    assert "datasets" not in told


def test_a_license_and_a_data_set_of_the_hub_stand_in_the_front_matter(out, config):
    card = written(out, config, replace(FACTS, license="mit", hub_dataset="huggan/smithsonian"))
    assert front_matter(card)["license"] == "mit"
    assert front_matter(card)["datasets"] == ["huggan/smithsonian"]
    assert "https://huggingface.co/datasets/huggan/smithsonian" in card


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({}, "DDPMPipeline"),
        ({"variance_type": "learned", "objective": "vlb"}, "no variance_type `learned`"),
        ({"prediction_type": "posterior_mean"}, "no prediction_type `posterior_mean`"),
    ],
)
def test_diffusers_is_named_for_sampling_only_where_it_samples_the_same(out, config, settings, told):
    card = written(out, replace(config, **settings))
    assert told in card
    assert ("DDPMPipeline" in card) == (not settings)
    assert "python -m ddpm_app sample" in card


def test_what_was_trained_on_what_and_how_long_is_told(out, config):
    card = written(out, config, replace(FACTS, held_out_loss=0.0421))
    for said in (
        "`noto-emoji`: 1,588 pictures",
        "4,500,123 parameters",
        "(32, 64, 128, 128)",
        "attention at 8 x 8 and 4 x 4",
        "linear schedule, T = 1,000",
        "fixed_large",
        "v_prediction",
        "L_simple",
        "3,800 of 3,800 steps of 32 pictures, each seen about 77 times; 1 h 30 min",
        "0.03125",
        "0.0421",
    ):
        assert said in card


def test_no_place_on_this_machine_is_told(out, config, tmp_path):
    @dataclass(frozen=True)
    class Further(TrainingConfig):
        held_out: str = str(tmp_path / "secret" / "test-pictures")

    values = {name: getattr(config, name) for name in ("data", "out")}
    card = written(out, Further(**values))
    assert str(tmp_path) not in card
    assert "secret" not in card
    assert "| `held_out` | `test-pictures` |" in card


def test_every_setting_is_in_the_table(out, config):
    card = written(out, config)
    for name in ("learning_rate", "ema_decay", "flip", "seed", "batch_size"):
        assert f"| `{name}` | `{getattr(config, name)}` |" in card


def test_pictures_uploaded_into_the_folder_are_called_that(out, config):
    assert "uploaded pictures: 1,588" in written(out, replace(config, data=str(out / "data")))
    assert "`cats`: 1,588" in written(out, replace(config, data=str(out / "cats")))


def test_the_sheet_is_shown_once_there_is_one(out, config):
    assert "samples.png" not in written(out, config)
    Image.new("RGB", (8, 8)).save(out / "samples.png")
    assert "](samples.png)" in written(out, config)


def test_a_run_that_was_not_finished_says_so(out, config):
    assert "1,800 of its steps" in written(out, config, replace(FACTS, steps_done=2000))
    assert "still to do" not in written(out, config)


def test_without_held_out_pictures_the_card_claims_no_held_out_loss(out, config):
    card = written(out, config)
    assert "held-out loss" not in card
    assert "No loss on held-out pictures is known" in card
    assert "No loss on held-out" not in written(out, config, replace(FACTS, held_out_loss=0.04))


LOSSES = {
    "L_simple": {},
    "L_simple weighted by min(SNR, 5)": {"min_snr_gamma": 5.0},
    "L_vlb": {"objective": "vlb"},
    "L_hybrid": {"objective": "hybrid", "variance_type": "learned_range"},
}


@pytest.mark.parametrize("loss", LOSSES)
def test_each_loss_is_called_what_it_is_and_losses_of_two_kinds_are_not_compared(out, config, loss):
    card = written(out, replace(config, **LOSSES[loss]), replace(FACTS, held_out_loss=0.0421))
    assert f"| training loss | 0.03125 at the end, {loss} |" in card
    assert "| held-out loss | 0.0421, L_simple, every t alike, of the averaged weights, on" in card
    assert ("losses are of different kinds" in card) == (loss != "L_simple")


def test_a_guided_model_says_what_it_learned_instead_of_the_pictures(out, config):
    guided = {"init_from": "mnist-28", "guide": "/home/me/weak", "guidance_scale": 2.5, "guidance_from": 0.4}
    card = written(out, replace(config, **guided))
    row = next(line for line in card.splitlines() if line.startswith("| objective |"))
    for told in ("from t = 400 on", "`mnist-28`", "`weak`", "2.5"):
        assert told in row
    assert "less various" in card
    assert "/home/me" not in card
    assert "less various" not in written(out, config)


def test_notes_and_license_by_hand_outlive_every_save(out, config):
    first = written(out, config, replace(FACTS, steps_done=100))
    notes = "## Notes\n\nHeld out: 4.191 bits/dim.\n\n## Sources\n\nNoto Emoji.\n"
    (out / "README.md").write_text(first.replace("---\n", "---\nlicense: apache-2.0\n", 1) + "\n" + notes)
    for _ in range(2):
        card = written(out, config)
        assert card.endswith("\n\n" + notes)
        assert card.count("## Notes") == 2  # the heading, and the sentence about it
        assert front_matter(card)["license"] == "apache-2.0"
        assert "3,800 of 3,800" in card
        assert "100 of 3,800" not in card


def test_a_card_by_hand_without_notes_is_replaced(out, config):
    (out / "README.md").write_text("the license: none of these words\n")
    card = written(out, config)
    assert "none of these" not in card
    assert "license" not in front_matter(card)


@pytest.mark.parametrize(
    ("seconds", "said"), [(45, "45 s"), (119.6, "2 min"), (3599, "1 h 0 min"), (90_000, "25 h 0 min")]
)
def test_the_time_is_told_in_the_unit_that_fits(out, config, seconds, said):
    assert f"times; {said} |" in written(out, config, replace(FACTS, seconds=seconds))


def test_the_code_in_the_card_draws_a_picture(tmp_path, out, config, monkeypatch):
    save_pipeline(out, tiny_network(), num_train_timesteps=3)
    card = written(out, replace(config, num_train_timesteps=3))
    code = card.split("```python\n")[1].split("```")[0]
    monkeypatch.chdir(tmp_path)
    exec(code, {})
    with Image.open(tmp_path / "sample.png") as picture:
        assert picture.size == (8, 8)


def test_the_command_in_the_card_is_one_of_ours(tmp_path, out, config, monkeypatch, capsys):
    from ddpm_app.commands import main

    save_pipeline(out, tiny_network(), num_train_timesteps=3)
    command = next(
        line
        for line in written(out, replace(config, num_train_timesteps=3)).splitlines()
        if line.startswith("python -m ddpm_app")
    )
    monkeypatch.chdir(tmp_path)
    assert main(command.split()[3:]) == 0
    assert (tmp_path / "samples" / "grid.png").exists()
