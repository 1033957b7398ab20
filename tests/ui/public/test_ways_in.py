"""A page for strangers, through the real server: every way in is held to the same limits."""

import base64
import json
from argparse import Namespace
from pathlib import Path

import gradio as gr
import httpx
import pytest
from gradio.utils import get_upload_folder
from gradio_client import Client, handle_file
from gradio_client.exceptions import AppError
from PIL import Image

from ddpm_app.engine import UNLIMITED, Engine
from ddpm_app.models import HUB_MODELS
from ddpm_app.ui import launch_options
from ddpm_app.ui.app import HEADER
from ddpm_app.ui.files import sweep
from ddpm_app.ui.public import NOTICE, is_public, limits_of
from tests.ui.public.conftest import MODEL, asked, endpoints
from tests.ui.served import bomb

ROOT = Path(__file__).parents[3]


# what is no way in


def test_there_is_no_way_around_the_queue(page: gr.Blocks):
    for fn in endpoints(page).values():
        for way in (f"run/{fn.api_name}", f"run/{fn.api_name}/", f"api/{fn.api_name}", "run/predict"):
            answer = httpx.post(f"{page.local_url}gradio_api/{way}", json={"data": [], "fn_index": fn._id})
            assert answer.status_code == 404, way


@pytest.mark.slow
def test_what_does_not_queue_draws_nothing(page: gr.Blocks, engine: Engine, monkeypatch: pytest.MonkeyPatch):
    used: list[object] = []
    monkeypatch.setattr(engine, "_perform", lambda request, token: used.append(request) or [])
    free = [fn for fn in page.fns.values() if fn.fn and not fn.queue]
    assert len(free) > 20
    for fn in free:
        values = [None if isinstance(each.value, dict) else each.value for each in fn.inputs]
        body = {"data": values, "fn_index": fn._id, "session_hash": "a1"}
        httpx.post(f"{page.local_url}gradio_api/run/predict", json=body, timeout=60)
    assert used == []


def test_files_of_the_server_are_not_given_away(page: gr.Blocks, engine: Engine):
    inside = engine.checkpoints / "tiny-8" / "model_index.json"
    assert inside.exists()
    ours = Path(get_upload_folder(), "ddpm_app")
    wanted = [inside, ROOT / "app.py", "/etc/passwd", f"{ours}/../../../../etc/passwd", ours, ours.parent]
    for file in wanted:
        for way in ("gradio_api/file=", "gradio_api/file/", "file="):
            answer = httpx.get(f"{page.local_url}{way}{file}")
            assert answer.status_code in (403, 404), (way, file)


def test_pictures_lie_under_names_that_nobody_can_guess_and_are_gone_by_age(client: Client, page: gr.Blocks):
    def kept() -> list[Path]:
        return list(Path(get_upload_folder(), "ddpm_app").iterdir())

    before = set(kept())
    client.predict(model=MODEL, num_inference_steps=2, num_images=2, api_name="/sample")
    new = set(kept()) - before
    assert new
    assert all(len(folder.name) >= 22 for folder in new)
    assert len({folder.name[:6] for folder in new}) == len(new)
    (sheet,) = [file for folder in new for file in folder.glob("sheet.png")]
    assert httpx.get(f"{page.local_url}gradio_api/file={sheet}").status_code == 200
    sweep(-1)
    assert not kept()
    assert httpx.get(f"{page.local_url}gradio_api/file={sheet}").status_code == 403


def test_a_picture_named_by_its_path_or_address_is_not_taken(page: gr.Blocks):
    for path in (str(ROOT / "docs" / "sample.png"), "http://127.0.0.1:9/a.png"):
        picture = {"path": path, "meta": {"_type": "gradio.FileData"}}
        answer = asked(page, "forward", {"model": MODEL, "picture": picture})
        assert answer.status_code == 400
        assert "upload it first" in answer.json()["detail"]


def test_an_upload_of_more_than_five_megabytes_is_refused(client: Client, page: gr.Blocks, tmp_path: Path):
    file = tmp_path / "large.png"
    file.write_bytes(b"0" * (5 * 2**20 + 1))
    with file.open("rb") as opened:
        answer = httpx.post(f"{page.local_url}gradio_api/upload", files={"files": opened})
    assert answer.status_code == 413


@pytest.mark.parametrize("way", ["upload", "data"])
def test_a_small_file_that_grows_to_a_huge_picture_gets_its_sentence(
    client: Client, page: gr.Blocks, tmp_path: Path, way: str
):
    file = bomb(tmp_path / "bomb.png", 13_000)
    picture = handle_file(file)
    if way == "data":
        url = "data:image/png;base64," + base64.b64encode(file.read_bytes()).decode()
        picture = {"path": None, "url": url, "meta": {"_type": "gradio.FileData"}}
    with pytest.raises(AppError, match="8 million pixels"):
        client.predict(model=MODEL, picture=picture, api_name="/forward")


def test_a_picture_in_a_data_url_is_read_like_an_uploaded_one(client: Client, tmp_path: Path):
    Image.new("RGB", (32, 32), (200, 10, 10)).save(tmp_path / "red.png")
    url = "data:image/png;base64," + base64.b64encode((tmp_path / "red.png").read_bytes()).decode()
    picture = {"path": None, "url": url, "meta": {"_type": "gradio.FileData"}}
    now, *_ = client.predict(model=MODEL, picture=picture, api_name="/forward")
    with Image.open(now["value"] if isinstance(now, dict) else now) as shown:
        assert shown.convert("RGB").getpixel((0, 0)) == (200, 10, 10)


# what is told to strangers


def test_a_bug_is_told_as_one_without_its_traceback(
    client: Client, engine: Engine, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    def broken(*_):
        raise KeyError(str(ROOT))

    monkeypatch.setattr(engine, "_spend", broken)
    with pytest.raises(AppError) as told:
        client.predict(model=MODEL, num_inference_steps=2, num_images=1, api_name="/sample")
    assert "bug in the app" in str(told.value)
    assert str(ROOT) not in str(told.value)
    assert "KeyError" in caplog.text


def test_what_gradio_itself_stumbles_over_is_told_without_paths(page: gr.Blocks):
    answer = asked(page, "sample", {"model": MODEL, "num_images": {"path": None, "odd": [1, 2]}})
    event = answer.json()["event_id"]
    said = httpx.get(f"{page.local_url}gradio_api/call/v2/sample/{event}", timeout=60).text
    assert "event: error" in said
    assert "Traceback" not in said
    assert str(ROOT) not in said


def test_the_page_names_no_folder_of_the_server(page: gr.Blocks, engine: Engine):
    for path in ("", "config", "gradio_api/info", "gradio_api/openapi.json", "gradio_api/startup-events"):
        said = httpx.get(page.local_url + path).text
        for folder in (ROOT, engine.checkpoints, Path.home() / ""):
            assert f"{folder}/" not in said.replace(str(get_upload_folder()), ""), (path, folder)


def test_every_answer_has_the_headers_of_a_public_page(page: gr.Blocks):
    for path in ("", "config", "gradio_api/file=/etc/passwd", "gradio_api/run/x", "nowhere"):
        headers = httpx.get(page.local_url + path).headers
        assert headers["X-Content-Type-Options"] == "nosniff"
        assert headers["Content-Security-Policy"] == "frame-ancestors 'none'"
        assert headers["Referrer-Policy"] == "same-origin"


def test_a_public_page_says_so_and_shows_no_training_and_no_paths(page: gr.Blocks):
    said = json.dumps(page.get_config_file(), default=str)
    assert '"Train"' not in said
    assert "type a folder" not in said
    (model,) = [each for each in page.blocks.values() if getattr(each, "label", "") == "Model"]
    assert not model.allow_custom_value
    assert [value for _, value in model.choices] == [MODEL, "tiny-8"]
    header = [each.value for each in page.blocks.values() if getattr(each, "elem_classes", "") == ["header"]]
    assert header == [HEADER, NOTICE]


def options(**flags) -> Namespace:
    own = {"share": False, "public": False, "host": "127.0.0.1", "auth": None, "device": "cpu"}
    return Namespace(**own | {"model": MODEL, "checkpoints": Path("/nowhere")} | flags)


def test_who_is_public_is_limited_and_nobody_else(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("SPACE_ID", raising=False)
    assert limits_of(options()) == UNLIMITED
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    for flag in ("share", "public"):
        limits = limits_of(options(**{flag: True}))
        assert limits.public
        assert set(HUB_MODELS) < set(limits.models)
    monkeypatch.setenv("SPACE_ID", "owner/space")
    assert is_public(options())
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert limits_of(options(model="my/own")).models == ("my/own", MODEL, "exact-normal")


def test_with_a_password_nothing_is_served_without_it():
    with gr.Blocks(analytics_enabled=False) as small:
        gr.Button().click(lambda: 7, outputs=gr.Number(), api_name="seven")
    small.queue(api_open=False)
    small.launch(prevent_thread_lock=True, quiet=True, auth=("me", "pass"), **launch_options(public=True))
    try:
        for path in ("config", "gradio_api/info", "gradio_api/file=/etc/passwd", "gradio_api/queue/status"):
            assert httpx.get(small.local_url + path).status_code == 401, path
        answer = httpx.post(f"{small.local_url}gradio_api/call/seven", json={"data": []})
        assert answer.status_code == 401
        upload = httpx.post(f"{small.local_url}gradio_api/upload", files={"files": b"1"})
        assert upload.status_code == 401
        client = Client(small.local_url, auth=("me", "pass"), verbose=False)
        assert client.predict(api_name="/seven") == 7
        client.close()
    finally:
        small.close()
