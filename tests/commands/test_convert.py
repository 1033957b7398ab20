import json

import torch

from ddpm_app.commands import main
from tests.models.layouts import HoUNet, OpenAIUNet, filled


def test_models_convert_writes_a_model_that_the_other_commands_take(capsys, tmp_path):
    torch.save(filled(HoUNet()).state_dict(), tmp_path / "ema_ho.ckpt")
    out = tmp_path / "checkpoints" / "ho"
    assert main(["models", "convert", "--out", str(out), str(tmp_path / "ema_ho.ckpt"), "--json"]) == 0
    values = json.loads(capsys.readouterr().out)
    assert values["out"] == str(out)
    assert values["facts"]["weights"] == {"value": "averaged (EMA)", "source": "read"}
    assert values["facts"]["T"] == {"value": "1000", "source": "assumed"}
    assert sorted(path.name for path in out.iterdir()) == [
        "README.md",
        "model_index.json",
        "scheduler",
        "unet",
    ]
    assert main(["models", "ho", "--checkpoints", str(out.parent), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["image_shape"] == [3, 32, 32]


def test_the_card_tells_how_each_fact_is_known_as_the_command_does(capsys, tmp_path):
    torch.save(filled(OpenAIUNet()).state_dict(), tmp_path / "model.pt")
    told = ["--num-heads", "1", "--image-size", "64", "--num-train-timesteps", "4000", "--schedule", "cosine"]
    assert main(["models", "convert", str(tmp_path / "model.pt"), "--out", str(tmp_path / "out"), *told]) == 0
    printed, card = capsys.readouterr().out, (tmp_path / "out" / "README.md").read_text()
    for what, value, source in (
        ("schedule", "cosine", "given"),
        ("network sees 1000 t / T", "True", "assumed"),
        ("attention at", "32, 16, the middle", "read"),
    ):
        assert f"{what}: {value} ({source})\n" in printed
        assert f"| {what} | {value} | " in card
    assert "num_inference_steps=4000" in card


def test_models_convert_says_what_is_missing(capsys, tmp_path):
    torch.save(OpenAIUNet().state_dict(), tmp_path / "model.pt")
    assert main(["models", "convert", str(tmp_path / "model.pt"), "--out", str(tmp_path / "out")]) == 2
    assert "--num-heads" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
