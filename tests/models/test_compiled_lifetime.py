"""A compiled network leaves memory with its model, whenever that is."""

import gc
import subprocess
import sys
import threading
from weakref import ref

import pytest
import torch

from ddpm_app.models import compiled, pieces
from ddpm_app.models.model import network_denoiser
from tests.doubles import tiny_network

pytestmark = pytest.mark.usefixtures("runtime")


def uncompiled(network):
    return network_denoiser(network, torch.device("cpu"), "exact")[0]


@pytest.fixture
def layouts(monkeypatch):
    """The layouts that were compiled, and what is called before each of them."""
    made, before, compile_one = [], [], pieces.Compiler.compile

    def watched(compiler, layout):
        for callback in before:
            callback()
        made.append(layout)
        return compile_one(compiler, layout)

    monkeypatch.setattr(pieces.Compiler, "compile", watched)
    return made, before


def test_nothing_of_a_compiled_network_stays_in_memory_once_it_is_let_go():
    network = tiny_network()
    gone, denoiser = ref(network), uncompiled(network)
    denoiser.settle((3, 8, 8))
    assert str(denoiser).startswith("OpenVINO")
    gc.disable()  # nobody is to come by later
    try:
        del network, denoiser
        assert gone() is None
    finally:
        gc.enable()


def test_a_network_that_left_memory_while_another_was_compiled_is_not_compiled(layouts):
    denoiser = uncompiled(tiny_network())
    with compiled._COMPILING:
        denoiser.start((3, 8, 8))
        thread, gone = denoiser._thread, ref(denoiser)
        del denoiser
        assert gone() is None
    thread.join()
    assert layouts[0] == []


def test_a_network_that_leaves_memory_while_it_is_compiled_is_compiled_no_further(layouts):
    (made, before), begun, left = layouts, threading.Event(), threading.Event()
    before += [begun.set, lambda: left.wait(60)]
    denoiser = uncompiled(tiny_network())
    denoiser.start((3, 8, 8))
    thread = denoiser._thread
    assert begun.wait(60)
    del denoiser
    left.set()
    thread.join()
    assert len(made) == 1


ENDING = """
import torch
from ddpm_app.models.compiled import CompiledDenoiser

class Network(torch.nn.Conv2d):
    def forward(self, x_t, t, return_dict):
        return (super().forward(x_t) + t.view(-1, 1, 1, 1),)

network = Network(3, 3, 1).requires_grad_(False)
CompiledDenoiser(network, lambda x_t, t: network(x_t, t, False)[0], "float32").start((3, 8, 8))
"""


def test_a_program_that_ends_while_compiling_ends_well():
    run = subprocess.run([sys.executable, "-c", ENDING], capture_output=True, text=True, timeout=200)
    assert (run.returncode, run.stderr) == (0, "")
