import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from ddpm_app.models import BUNDLED, DEFAULT_MODEL, HUB_MODELS, available_models, catalogue, load_model
from ddpm_app.models.exact import EXACT_MODELS
from tests.doubles import edit, refusal

# in a fresh interpreter: what is imported, and which files and addresses are opened, until a model is loaded
WATCH = """
import json, sys
opened = []
sys.addaudithook(lambda event, args: opened.append(str(args[0])) if event == "open" else None)
sys.addaudithook(lambda event, args: opened.append(event) if event == "socket.connect" else None)
import ddpm_app.models
known = ("diffusers", "huggingface_hub", "gradio", "safetensors", "transformers", "accelerate")
def imported():
    return [name for name in known if name in sys.modules]
report = {"imported": imported(), "opened": list(opened)}
opened.clear()
for name in sys.argv[1:]:
    ddpm_app.models.load_model(name, "cpu")
print(json.dumps(report | {"imported_by_loading": imported(), "opened_by_loading": opened}))
"""


@pytest.fixture(scope="module")
def fresh_interpreter():
    command = [sys.executable, "-c", WATCH, *EXACT_MODELS]
    run = subprocess.run(command, capture_output=True, text=True, check=True, cwd=Path(__file__).parents[2])
    return json.loads(run.stdout.splitlines()[-1])


def test_importing_models_imports_no_diffusers_hub_client_or_gradio(fresh_interpreter):
    assert fresh_interpreter["imported"] == []


def test_importing_models_opens_no_checkpoint_and_no_connection(fresh_interpreter):
    assert "socket.connect" not in fresh_interpreter["opened"]
    assert not any(path.startswith(str(BUNDLED)) for path in fresh_interpreter["opened"])


def test_the_exact_models_load_from_code_alone(fresh_interpreter):
    assert fresh_interpreter["imported_by_loading"] == []
    opened = fresh_interpreter["opened_by_loading"]
    assert [path for path in opened if not path.endswith((".py", ".pyc"))] == []


def make_models(checkpoints: Path, *names: str) -> Path:
    for name in names:
        (checkpoints / name / "unet").mkdir(parents=True)
        (checkpoints / name / "unet" / "config.json").write_text("{}")
    return checkpoints


def test_the_default_comes_first_then_the_other_folders_then_the_exact_models(tmp_path):
    make_models(tmp_path, "zebras", DEFAULT_MODEL, "apples")
    assert available_models(tmp_path) == [DEFAULT_MODEL, "apples", "zebras", *EXACT_MODELS]


def test_what_is_no_model_is_not_listed(tmp_path):
    make_models(tmp_path, "apples")
    (tmp_path / "notes").mkdir()
    (tmp_path / "README.md").write_text("how these were trained")
    assert available_models(tmp_path) == ["apples", *EXACT_MODELS]


def test_without_checkpoints_the_exact_models_remain(tmp_path):
    assert available_models(tmp_path / "missing") == list(EXACT_MODELS)


def test_a_folder_that_appears_is_listed_and_loads_at_once(tiny_copy, tmp_path):
    checkpoints = tmp_path / "growing"
    assert "mine" not in available_models(checkpoints)
    shutil.copytree(tiny_copy, checkpoints / "mine")
    assert "mine" in available_models(checkpoints)
    model = load_model("mine", "cpu", checkpoints=checkpoints)
    assert (model.name, model.image_shape) == ("mine", (3, 8, 8))


def test_a_folder_that_disappears_is_listed_no_more(tiny_copy):
    checkpoints = tiny_copy.parent
    assert tiny_copy.name in available_models(checkpoints)
    shutil.rmtree(tiny_copy)
    assert tiny_copy.name not in available_models(checkpoints)
    assert tiny_copy.name in refusal(lambda: load_model(tiny_copy.name, "cpu", checkpoints=checkpoints))


def test_a_changed_folder_is_read_anew(tiny_copy):
    assert load_model(tiny_copy, "cpu").diffusion.clip_denoised
    edit(tiny_copy / "scheduler" / "scheduler_config.json", clip_sample=False)
    assert not load_model(tiny_copy, "cpu").diffusion.clip_denoised


def test_a_model_is_named_by_its_name_its_folder_or_its_path(tiny_pipeline, monkeypatch):
    monkeypatch.chdir(tiny_pipeline.parent)
    checkpoints = tiny_pipeline.parent
    for name in (tiny_pipeline.name, f" {tiny_pipeline.name}\n", str(tiny_pipeline), tiny_pipeline):
        assert load_model(name, "cpu", checkpoints=checkpoints).num_parameters > 0
    assert load_model(f"./{tiny_pipeline.name}", "cpu").num_parameters > 0


def test_a_home_folder_is_understood(tiny_pipeline, monkeypatch):
    monkeypatch.setenv("HOME", str(tiny_pipeline.parent))
    assert load_model(f"~/{tiny_pipeline.name}", "cpu").image_shape == (3, 8, 8)


@pytest.mark.parametrize("name", ["", "   "])
def test_an_empty_name_is_told(name):
    sentence = refusal(lambda: load_model(name, "cpu"))
    assert "no name" in sentence
    assert "exact-shapes" in sentence


@pytest.mark.parametrize(
    "name",
    [
        "emoji-23",
        "~nobody-here/model",
        "x" * 5000,
        "a\nb",
        "a\0b",
        "owner/../repo",
        "a/b/c",
        "/no/such/folder",
    ],
)
def test_an_unknown_name_is_told_with_the_names_that_there_are(tiny_copy, name):
    sentence = refusal(lambda: load_model(name, "cpu", checkpoints=tiny_copy.parent))
    assert repr(name)[1:20] in sentence
    assert tiny_copy.name in sentence
    assert "owner/repo" in sentence


def test_a_folder_without_a_model_is_told(tmp_path):
    sentence = refusal(lambda: load_model(str(tmp_path), "cpu"))
    assert str(tmp_path) in sentence
    assert "give a folder with" in sentence


@pytest.mark.parametrize("given", ["weights/ho.pt", "./weights/ho.pt", "weights"])
def test_who_brings_a_checkpoint_of_another_program_is_told_how_it_becomes_a_model(
    tmp_path, monkeypatch, given
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "weights").mkdir()
    (tmp_path / "weights" / "ho.pt").write_bytes(b"tensors")
    sentence = refusal(lambda: load_model(given, "cpu"))
    assert given in sentence
    assert "models convert" in sentence


def test_a_device_or_precision_that_is_not_there_is_told_before_anything_is_loaded():
    assert "tpu" in refusal(lambda: load_model("no such model", "tpu"))
    assert "'best'" in refusal(lambda: load_model("no such model", "cpu", "best"))


def test_a_hub_model_never_cached_is_told_when_offline():
    assert "check the network" in refusal(lambda: load_model(HUB_MODELS[0], "cpu"))


def test_the_listed_hub_models_are_names_of_repositories():
    assert all(catalogue.REPOSITORY.fullmatch(name) for name in HUB_MODELS)
