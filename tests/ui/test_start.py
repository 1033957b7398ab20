import gc
import inspect
import urllib.request

import gradio as gr
import httpx
import pytest

from ddpm_app.ui import launch_options
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


@pytest.mark.parametrize(("named", "others"), [({}, False), ({"NO_PROXY": "corp.example"}, True)])
def test_the_start_script_asks_its_own_server_without_a_proxy(
    monkeypatch: pytest.MonkeyPatch, named: dict[str, str], others: bool
):
    import app

    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.setenv(name, named.get(name, ""))
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    app.spare_the_proxy("192.0.2.7")
    assert all(urllib.request.proxy_bypass(host) for host in ("127.0.0.1", "localhost", "192.0.2.7"))
    assert bool(urllib.request.proxy_bypass("corp.example")) == others
    assert not urllib.request.proxy_bypass("huggingface.co")


def test_a_page_that_a_busy_machine_is_slow_to_answer_stays(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("gradio.networking.url_ok", lambda url: False)  # nothing within the 3 s of Gradio's
    with gr.Blocks(analytics_enabled=False) as small:
        gr.Markdown("here")
    small.launch(prevent_thread_lock=True, quiet=True, **launch_options())
    try:
        assert httpx.get(small.local_url).status_code == 200
    finally:
        small.close()
