"""The one-way rule: who may import whom, read from the source, and what importing does."""

import ast
import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FILES = sorted((ROOT / "ddpm_app").rglob("*.py"))
CORE = {"core", "errors"}
INSIDE = {  # layer -> the layers it may stand on
    "errors": set(),
    "pictures": {"errors"},
    "core": CORE,
    "models": CORE | {"models"},
    "engine": CORE | {"models", "engine"},
    "training": CORE | {"models", "engine", "training", "pictures"},
    "evaluation": CORE | {"models", "engine", "training", "evaluation", "pictures"},
    "commands": CORE | {"models", "engine", "training", "evaluation", "pictures", "commands"},
    "ui": CORE | {"models", "engine", "training", "evaluation", "pictures", "ui"},
    "__init__": set(),
    "__main__": {"commands"},
}
BEYOND = {  # package -> the only layers that may import it
    "gradio": {"ui"},
    "diffusers": {"models", "engine", "training", "evaluation"},
    "openvino": {"models", "engine"},
    "huggingface_hub": {"models", "engine", "training", "evaluation"},
    "safetensors": {"models", "engine", "training", "evaluation"},
    "accelerate": {"training", "evaluation"},
    "gradio_client": {"evaluation"},
    "pyarrow": {"training"},
    "PIL": {"pictures", "training", "evaluation", "ui"},
}
IMPORT_ALL = """
import importlib, json, pkgutil, sys
import torch
probed = []
def probe(name):
    return lambda *args: probed.append(name) or False
torch.cuda.is_available = probe("cuda")
torch.backends.mps.is_available = probe("mps")
torch.cpu._is_avx512_bf16_supported = probe("bfloat16")
opened = []
sys.addaudithook(lambda event, args: opened.append(str(args[0])) if event == "open" else None)
import ddpm_app.ui
heavy = ("diffusers", "transformers", "accelerate", "safetensors", "datasets", "openvino")
heavy += ("ddpm_app.training",)
loaded = [name for name in heavy if name in sys.modules]
blocks = sum(type(value).__name__ == "Blocks" for value in vars(sys.modules["ddpm_app.ui.app"]).values())
wrong = []
for found in pkgutil.walk_packages(ddpm_app.__path__, "ddpm_app."):
    if not found.name.endswith("__main__"):
        module = importlib.import_module(found.name)
        offered = getattr(module, "__all__", [])
        wrong += [f"{found.name}.{name}" for name in offered if not hasattr(module, name)]
weights = [path for path in opened if "checkpoints/" in path]
print(json.dumps({"probed": probed, "loaded": loaded, "blocks": blocks, "wrong": wrong, "weights": weights}))
"""


def layer_of(file):
    return file.relative_to(ROOT / "ddpm_app").parts[0].removesuffix(".py")


def imports(file):
    """The dotted name of everything that `file` imports, wherever in it."""
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file} has a relative import, which hides its layer"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def inner_layers(file):
    return {name.split(".")[1] for name in imports(file) if name.startswith("ddpm_app.")}


every_file = pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(ROOT)))


@every_file
def test_a_module_stands_on_the_layers_below_it_alone(file):
    assert inner_layers(file) <= INSIDE[layer_of(file)]


@every_file
def test_a_package_is_imported_where_it_belongs(file):
    packages = {name.split(".")[0] for name in imports(file)}
    strays = {package for package in packages & BEYOND.keys() if layer_of(file) not in BEYOND[package]}
    assert not strays


@pytest.mark.parametrize("file", [f for f in FILES if layer_of(f) in CORE], ids=lambda file: file.name)
def test_core_needs_torch_and_the_standard_library_alone(file):
    packages = {name.split(".")[0] for name in imports(file)}
    assert packages <= {"torch", "ddpm_app"} | sys.stdlib_module_names


def test_the_layers_are_those_of_the_folder():
    assert {layer_of(file) for file in FILES} == INSIDE.keys()


def test_the_start_script_stands_on_the_package_alone():
    packages = {name.split(".")[0] for name in imports(ROOT / "app.py")}
    assert packages <= {"ddpm_app", "gradio"} | sys.stdlib_module_names


def test_the_rule_would_notice_a_breach(tmp_path):
    breach = tmp_path / "breach.py"
    breach.write_text(
        "import gradio as gr\nfrom ddpm_app.ui import build_app\ndef f():\n    import diffusers.utils"
    )
    assert sorted(imports(breach)) == ["ddpm_app.ui.build_app", "diffusers.utils", "gradio"]
    assert inner_layers(breach) == {"ui"}


# in a fresh interpreter


@pytest.fixture(scope="module")
def importing():
    run = subprocess.run(
        [sys.executable, "-c", IMPORT_ALL], capture_output=True, text=True, cwd=ROOT, timeout=200
    )
    assert run.returncode == 0, run.stderr
    return json.loads(run.stdout.splitlines()[-1])


def test_importing_the_page_imports_no_network_library(importing):
    assert importing["loaded"] == []


def test_importing_the_page_probes_no_device_and_opens_no_checkpoint(importing):
    assert importing["probed"] == []
    assert importing["weights"] == []


def test_importing_the_page_builds_no_page(importing):
    assert importing["blocks"] == 0


def test_every_name_a_module_offers_exists(importing):
    assert importing["wrong"] == []
