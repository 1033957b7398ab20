import gc
import inspect

import gradio as gr
import pytest

from ddpm_app.ui.stubs import without_stubs


def test_a_component_made_within_the_block_gets_no_stub_file(monkeypatch):
    read = []
    monkeypatch.setattr("gradio.component_meta.extract_class_source_code", lambda *args: read.append(args))
    with without_stubs():
        type("Child", (gr.Button,), {"__module__": "gradio.child"})
    assert read == []
    with pytest.raises(TypeError):  # outside it, Gradio goes on to read the source
        type("Child", (gr.Button,), {"__module__": "gradio.components.button"})


def test_inspect_finds_all_else_and_is_whole_again_however_the_block_ends():
    getfile = inspect.getfile
    with without_stubs():
        assert inspect.getfile(Ours) == __file__
    with pytest.raises(KeyError), without_stubs():
        raise KeyError
    assert inspect.getfile is getfile
    assert inspect.getfile(gr.Button).endswith("button.py")


class Ours(Exception):
    pass


def test_the_start_script_leaves_the_collector_at_work():
    import app

    assert app.main
    assert gc.isenabled()
