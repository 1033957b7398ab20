"""docs/api.md and the README: complete, and every example in them does what it says."""

import asyncio
import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from ddpm_app.engine import Engine
from ddpm_app.ui import build_app, launch_options
from ddpm_app.ui.api import MARK, reference
from tests.doubles import refusal
from tests.ui.conftest import MODEL

ROOT = Path(__file__).parents[2]
SERVER = "http://127.0.0.1:7860"


def blocks(document: str, language: str) -> list[str]:
    """The fenced examples of that language, in order."""
    text = (ROOT / document).read_text(encoding="utf-8")
    return re.findall(rf"^```{language}\n(.*?)^```", text, re.DOTALL | re.MULTILINE)


def test_the_reference_has_every_endpoint_parameter_and_default():
    written = (ROOT / "docs/api.md").read_text(encoding="utf-8").split(MARK)[1].lstrip()
    assert written == reference(build_app().get_api_info()), "run python -m ddpm_app.ui.api"


@pytest.mark.slow
def test_the_python_examples_of_the_api_page_run(url: str, capsys: pytest.CaptureFixture[str]):
    examples = "\n".join(blocks("docs/api.md", "python")).replace(SERVER, url)
    names: dict = {}
    exec(examples, names)
    assert "4 pictures<" in capsys.readouterr().out
    assert len(names["pictures"]["value"]) == 4
    assert "bits/dim" in str(names["answer"][0])
    names["client"].close()


def test_the_curl_examples_of_the_api_page_run(url: str):
    if not (shutil.which("curl") and shutil.which("bash")):
        pytest.skip("no curl or bash here")
    first, second = blocks("docs/api.md", "bash")
    script = (first + second).replace(SERVER, url.rstrip("/"))
    done = subprocess.run(["bash", "-ec", script], capture_output=True, text=True, timeout=120)
    complete = re.findall(r"^event: complete\ndata: (.*)$", done.stdout, re.MULTILINE)
    assert len(complete) == 2, done.stdout[-500:] + done.stderr
    assert "4 pictures<" in json.loads(complete[0])[0]
    assert "Interpolated<" in json.loads(complete[1])[0]


def test_the_python_examples_of_the_readme_run(url: str, capsys: pytest.CaptureFixture[str]):
    engine_example, client_example = blocks("README.md", "python")
    exec(engine_example.replace("emoji-32", MODEL).replace("num_images=16", "num_images=2"), {})
    assert "torch.Size([2, 3, 32, 32])" in capsys.readouterr().out.splitlines()[-1]
    names: dict = {}
    exec(client_example.replace(SERVER, url), names)
    assert "4 pictures<" in str(names["status"])


@pytest.fixture
def tools_url(engine: Engine) -> Iterator[str]:
    demo = build_app(engine, MODEL, training=False)
    demo.launch(prevent_thread_lock=True, quiet=True, **launch_options(tools=True))
    assert demo.mcp_server
    yield f"{demo.local_url}gradio_api/mcp/"
    demo.close()


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.filterwarnings("ignore:This MCP server includes a tool that has a gr.State")  # /fork
def test_an_assistant_finds_every_endpoint_as_a_tool_and_draws_with_one(tools_url: str):
    pytest.importorskip("mcp", reason="the package mcp is not installed")
    from mcp import ClientSession
    from mcp.client.streamable_http import streamablehttp_client

    async def asked():
        async with (
            streamablehttp_client(tools_url) as (reading, writing, _),
            ClientSession(reading, writing) as session,
        ):
            await session.initialize()
            tools = {tool.name: tool for tool in (await session.list_tools()).tools}
            name = next(name for name in tools if name.endswith("sample"))
            settings = {"model": MODEL, "num_images": 2, "num_inference_steps": 3}
            return tools, await session.call_tool(name, settings)

    tools, answer = asyncio.run(asked())
    endpoints = {name.removeprefix("/") for name in build_app().get_api_info()["named_endpoints"]}
    assert {name for name in endpoints if not any(tool.endswith(name) for tool in tools)} == set()
    assert all(tool.description for tool in tools.values())
    assert not answer.isError
    assert any("2 pictures<" in getattr(part, "text", "") for part in answer.content)


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("ddpm_app.ui.tools.find_spec", lambda name: None)
    assert "pip install 'mcp>=1.21,<2'" in refusal(lambda: launch_options(tools=True))
