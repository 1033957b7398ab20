"""The gate of a public page around an app that says what it got."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route
from starlette.testclient import TestClient

from ddpm_app.ui.gate import MAX_JSON, MAX_UPLOAD, Gate

JOIN = "/gradio_api/queue/join"


async def length(request: Request) -> PlainTextResponse:
    return PlainTextResponse(f"got {len(await request.body())}")


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path / "cache"))
    monkeypatch.delenv("SPACE_ID", raising=False)
    return tmp_path / "cache"


@pytest.fixture
def client(cache: Path) -> Iterator[TestClient]:
    routes = [Route("/{path:path}", length, methods=["GET", "POST"])]
    with TestClient(Starlette(routes=routes, middleware=[Middleware(Gate)])) as client:
        yield client


@pytest.mark.parametrize(
    "path",
    [
        "/",
        "/config",
        "/assets/index.js",
        "/theme.css",
        "/gradio_api/info",
        "/gradio_api/queue/data?session_hash=a1",
        "/gradio_api/call/sample/0123",
        "/gradio_api/call/v2/sample/0123",
        "/gradio_api/heartbeat/a1",
        "/gradio_api/file=/tmp/gradio/0123/a.png",
        "/gradio_api/startup-events",
        "/gradio_api/run/predict",
    ],
)
def test_what_the_page_and_the_clients_ask_for_goes_through(client: TestClient, path: str):
    assert client.get(path).text == "got 0"


@pytest.mark.parametrize(
    "path",
    [
        "/gradio_api/run/sample",
        "/gradio_api/api/predict",
        "/gradio_api/file=http://example.org/a.png",
        "/gradio_api/file=file:///etc/passwd",
        "/gradio_api/proxy=http://example.org/",
        "/gradio_api/deep_link",
        "/gradio_api/component_server",
        "/gradio_api/stream/0123",
        "/gradio_api/vibe-edit",
        "/gradio_api/dev/reload",
    ],
)
def test_no_other_address_of_the_api_is_served(client: TestClient, path: str):
    for answer in (client.get(path), client.post(path, json={})):
        assert answer.status_code == 404


def test_every_answer_has_its_headers(client: TestClient):
    for answer in (client.get("/"), client.post("/gradio_api/run/sample", json={})):
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
        assert answer.headers["Referrer-Policy"] == "same-origin"
        assert answer.headers["Content-Security-Policy"] == "frame-ancestors 'none'"


def test_a_space_may_stand_in_the_frame_of_its_own_page_alone(cache: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("SPACE_ID", "owner/space")
    with TestClient(Starlette(middleware=[Middleware(Gate)])) as client:
        assert "huggingface.co" in client.get("/").headers["Content-Security-Policy"]


@pytest.mark.parametrize(("path", "most"), [("/gradio_api/upload", MAX_UPLOAD), (JOIN, MAX_JSON)])
def test_a_request_of_too_many_bytes_is_refused_before_it_is_read_whole(
    client: TestClient, path: str, most: int
):
    assert client.post(path, content=b"0" * most).text == f"got {most}"
    assert client.post(path, content=b"0" * (most + 1)).status_code == 413
    in_parts = (b"0" * 2**16 for _ in range(most // 2**16 + 1))  # without a length told before
    assert client.post(path, content=in_parts).status_code == 413


def test_files_are_taken_from_the_uploads_alone(client: TestClient, cache: Path, tmp_path: Path):
    (tmp_path / "secret.png").touch()
    cache.mkdir()
    (cache / "link").symlink_to(tmp_path)
    good = [
        {"path": str(cache / "0123" / "a.png"), "url": "http://127.0.0.1:1/gradio_api/file=a.png"},
        {"path": None, "url": "data:image/png;base64,AAAA"},
        {"path": None, "url": None},
    ]
    bad = [
        {"path": str(tmp_path / "secret.png")},
        {"path": str(cache / ".." / "secret.png")},
        {"path": str(cache / "link" / "secret.png")},
        {"path": f"{cache}-beside/a.png"},
        {"path": "app.py"},
        {"path": "http://127.0.0.1/a.png"},
        {"path": None, "url": "http://169.254.169.254/latest"},
        {"path": "", "url": "file:///etc/passwd"},
    ]
    for file in good:
        body = json.dumps({"data": [1, {"image": file, "caption": None}]}).encode()
        assert client.post(JOIN, content=body).text == f"got {len(body)}"
    for file in bad:
        answer = client.post(JOIN, json={"data": [[file]]})
        assert answer.status_code == 400, file
        assert "upload" in answer.json()["detail"]


def test_json_that_is_nested_too_deep_is_refused_in_words(client: TestClient):
    answer = client.post(JOIN, content="[" * 10**5 + "]" * 10**5)
    assert answer.status_code == 400
    assert "nested" in answer.json()["detail"]
