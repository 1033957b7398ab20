import json
import signal
from argparse import ArgumentParser
from dataclasses import asdict, fields, replace

import pytest

from ddpm_app.commands import main, train
from ddpm_app.training import TrainingConfig, trainer
from ddpm_app.training.checkpoints import SETTINGS
from tests.doubles import refusal
from tests.training.runs import TINY, assert_same_weights, flags, save_pictures, state_of

GIVEN = {  # every setting, none at its default
    "data": "pictures",
    "out": "run",
    "image_size": 8,
    "channels": 1,
    "flip": True,
    "held_out": "owner/others",
    "block_out_channels": (32, 64),
    "layers_per_block": 2,
    "attention_resolutions": (4,),
    "attention_head_dim": 8,
    "norm_num_groups": 4,
    "dropout": 0.25,
    "init_from": "owner/model",
    "schedule": "cosine",
    "num_train_timesteps": 50,
    "prediction_type": "v_prediction",
    "variance_type": "learned_range",
    "objective": "hybrid",
    "timestep_sampling": "importance",
    "min_snr_gamma": 5.0,
    "num_steps": 7,
    "batch_size": 2,
    "gradient_accumulation_steps": 2,
    "learning_rate": 1e-5,
    "warmup_steps": 3,
    "final_learning_rate": 0.5,
    "ema_decay": 0.5,
    "max_grad_norm": 0.5,
    "precision": "fp32",
    "seed": 11,
    "save_every": 3,
    "sample_every": 4,
    "log_with": "tensorboard",
}
GUIDED = {  # and what goes with it
    "guide": "owner/weaker",
    "guidance_scale": 3.0,
    "guidance_from": 0.5,
    "objective": "simple",
    "variance_type": "fixed_small",
}


def understood(*arguments):
    """The configuration that the command makes of its arguments."""
    parser = ArgumentParser()
    train.add_arguments(parser)
    return TrainingConfig(**train.settings(parser.parse_args([*map(str, arguments)])))


@pytest.fixture
def config(tmp_path):
    data = save_pictures(tmp_path / "pictures", range(3))
    return TrainingConfig(data=str(data), out=str(tmp_path / "run"), **TINY)


def test_every_setting_has_a_flag():
    defaults = {field.name: field.default for field in fields(TrainingConfig)}
    assert defaults.keys() == (GIVEN | GUIDED).keys()
    assert not [name for name in GIVEN if GIVEN[name] == defaults[name]]
    for given in (GIVEN, GIVEN | GUIDED):
        config = TrainingConfig(**given)
        assert understood(*flags(config)[1:]) == config


def test_what_is_not_given_has_its_default():
    assert understood("--data", "a", "--out", "b") == TrainingConfig("a", "b")
    assert not understood("--data", "a", "--out", "b", "--no-flip").flip
    assert understood("--data", "a", "--out", "b", "--attention-resolutions").attention_resolutions == ()


def test_the_settings_of_another_run_are_taken_over_but_for_its_places(tmp_path):
    file = tmp_path / SETTINGS
    file.write_text(json.dumps(GIVEN | {"steps_done": 3, "of a later version": 1}))
    given = ["--config", file, "--data", "mine", "--out", "there"]
    places = {"data": "mine", "out": "there", "held_out": "", "init_from": ""}
    assert understood(*given) == TrainingConfig(**GIVEN | places)
    flag = understood(*given, "--num-steps", 99, "--no-flip", "--block-out-channels", 32)
    assert flag == replace(understood(*given), num_steps=99, flip=False, block_out_channels=(32,))


def test_data_and_out_are_asked_for_even_with_the_settings_of_another_run(tmp_path):
    file = tmp_path / SETTINGS
    file.write_text(json.dumps(GIVEN))
    for before in ((), ("--config", file)):
        assert refusal(lambda before=before: understood(*before, "--out", "b")).startswith(
            "--data is missing"
        )
        assert refusal(lambda before=before: understood(*before, "--data", "a")).startswith(
            "--out is missing"
        )


@pytest.mark.parametrize(
    "content",
    [None, "", "not json", "[1, 2]", '{"num_steps": "many"}', '{"num_steps": 0}', '{"batch_size": null}'],
)
def test_a_file_that_holds_no_settings_is_refused(tmp_path, content):
    file = tmp_path / "settings.json"
    if content is not None:
        file.write_text(content)
    sentence = refusal(lambda: understood("--config", file, "--data", "a", "--out", "b"))
    assert sentence.startswith(f"--config {file} is not the training.json of a run")


def test_the_settings_that_a_run_leaves_make_the_same_run_again(capsys, config, tmp_path):
    assert main([*flags(config), "--json"]) == 0
    values = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert (values["out"], values["steps"]) == (config.out, 4)
    assert 0 < values["loss"] < 10
    again = replace(config, out=str(tmp_path / "again"))
    file = tmp_path / "run" / SETTINGS
    assert main(["train", "--config", str(file), "--data", again.data, "--out", again.out]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == f"the model is in {again.out}"
    assert_same_weights(config.out, again.out)
    left = json.loads((tmp_path / "again" / SETTINGS).read_text())
    assert left == json.loads(file.read_text()) | {"out": "again"}
    assert TrainingConfig(**{name: left[name] for name in asdict(config)}).seed == config.seed


def test_the_settings_of_a_run_with_held_out_pictures_make_a_run_without_them(capsys, config, tmp_path):
    held_out = save_pictures(tmp_path / "others", range(3, 5))
    assert main(flags(replace(config, num_steps=1, held_out=str(held_out)))) == 0
    settings = str(tmp_path / "run" / SETTINGS)
    assert main(["train", "--config", settings, "--data", config.data, "--out", f"{config.out}-again"]) == 0


def test_an_error_of_held_out_pictures_names_their_own_flag(capsys, config):
    assert main(flags(replace(config, held_out="nowhere"))) == 2
    assert capsys.readouterr().err.startswith("error: --held-out must be ")


def test_no_resume_begins_again(capsys, config):
    begin = replace(config, num_steps=1)
    assert main(flags(begin)) == 0
    assert main([*flags(replace(config, seed=3)), "--no-resume", "--json"]) == 0
    *told, last = capsys.readouterr().out.splitlines()
    assert told[-1].startswith("step 4 of 4  loss ")
    assert json.loads(last)["steps"] == 4
    assert main(flags(replace(config, seed=3))) == 0
    assert capsys.readouterr().out.startswith("all 4 steps were done before; ")
    fresh = replace(config, seed=3, out=f"{config.out}-fresh")
    assert main(flags(fresh)) == 0
    assert_same_weights(config.out, fresh.out)
    assert state_of(config.out)["step"] == 4


def test_an_interrupt_while_pictures_are_loading_ends_the_command_at_once(capsys, config, monkeypatch):
    def interrupted(*args, **more):
        signal.raise_signal(signal.SIGINT)
        pytest.fail("it went on")

    monkeypatch.setattr(trainer, "load_images", interrupted)
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored in a background job
    try:
        assert main(flags(config)) == 130
    finally:
        signal.signal(signal.SIGINT, before)
    assert capsys.readouterr().err == "stopped\n"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_an_interrupt_between_steps_is_an_answer_to_the_next_question(number):
    before = signal.getsignal(number)
    with train.told_to_stop() as stopping:
        assert not stopping()
        signal.raise_signal(number)
        assert stopping()
    assert signal.getsignal(number) is before


def test_what_cannot_be_mended_by_the_program_is_one_line(capsys, config):
    assert main(flags(replace(config, data="nowhere"))) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("error: ")
    assert err.count("\n") == 1
