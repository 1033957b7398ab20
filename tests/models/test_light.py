import json
import subprocess
import sys

from ddpm_app.models.light import import_diffusers
from tests.doubles import tiny_network

FRESH = """
import json, sys
import torch
from ddpm_app.models.light import import_diffusers

disable = torch.compiler.disable
diffusers = import_diffusers()
names = [name for name in ("DPMSolverMultistepScheduler", "UNet2DModel") if hasattr(diffusers, name)]
before = "torch._dynamo" in sys.modules
import torch._dynamo
whole = hasattr(torch._dynamo, "allow_in_graph")
print(json.dumps([names, before, torch.compiler.disable is disable, whole]))
"""


def test_diffusers_comes_without_the_compiler_which_can_be_imported_afterwards():
    run = subprocess.run([sys.executable, "-c", FRESH], capture_output=True, text=True, timeout=200)
    assert run.returncode == 0, run.stderr
    names, compiler_was_there, same_disable, compiler_is_whole = json.loads(run.stdout)
    assert names == ["DPMSolverMultistepScheduler", "UNet2DModel"]
    assert not compiler_was_there
    assert same_disable
    assert compiler_is_whole


def test_where_the_compiler_is_already_there_it_stays():
    import torch._dynamo

    assert isinstance(tiny_network(), import_diffusers().UNet2DModel)
    assert sys.modules["torch._dynamo"] is torch._dynamo
