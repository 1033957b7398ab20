"""The gate of a public page: which routes there are, how large a request may be, which files it may name."""

__all__ = ["Gate"]

import json
import os
import re
from collections.abc import Iterator
from typing import Any

from gradio.utils import get_upload_folder
from starlette.datastructures import MutableHeaders
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

API = "/gradio_api/"
# What the page and the clients use; Gradio also has routes that fetch other addresses, keep links, edit code.
# The page's events that do not queue come by run/predict, where Gradio refuses all others.
ROUTES = re.compile(
    r"(info|openapi\.json|app_id|user|login_check|token|startup-events|theme\.css|heartbeat/\w+|reset|cancel"
    r"|run/predict|queue/(join|data|status)|call/.+|upload|upload_progress|file=(?!\w+:)/?[^:]+|mcp(/.*)?)/?"
)
MAX_UPLOAD = 12 * 2**20  # of all files together; launch() bounds each
MAX_JSON = 2**20
SPACE_FRAMES = "'self' https://huggingface.co https://*.hf.space"


class Refused(Exception):
    """The request ends here."""

    def __init__(self, status: int, sentence: str) -> None:
        super().__init__(sentence)
        self.answer = JSONResponse({"detail": sentence}, status)


class Gate:
    """Middleware around Gradio's app."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app
        self.frames = SPACE_FRAMES if "SPACE_ID" in os.environ else "'none'"

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Lets the request through, or answers it."""
        if scope["type"] != "http":
            return await self.app(scope, receive, send)
        answered = False

        async def with_headers(message: Message) -> None:
            nonlocal answered
            if message["type"] == "http.response.start":
                answered = True
                headers = MutableHeaders(scope=message)
                headers["X-Content-Type-Options"] = "nosniff"
                headers["Referrer-Policy"] = "same-origin"  # addresses of pictures are secrets
                headers["Content-Security-Policy"] = f"frame-ancestors {self.frames}"
            await send(message)

        try:
            await self.app(scope, await checked(scope, receive), with_headers)
        except Refused as refused:
            if not answered:
                await refused.answer(scope, receive, with_headers)


async def checked(scope: Scope, receive: Receive) -> Receive:
    """What the app may receive of this request; Refused for what it may not."""
    _, api, route = scope["path"].partition(API)
    if api and not ROUTES.fullmatch(route):
        raise Refused(404, "a public page does not serve this address")
    if scope["method"] in ("GET", "HEAD", "OPTIONS"):
        return receive
    if route.rstrip("/") == "upload":
        return bounded(receive, MAX_UPLOAD)
    body, receiving = b"", bounded(receive, MAX_JSON)
    while (message := await receiving())["type"] == "http.request":
        body += message.get("body", b"")
        if not message.get("more_body"):
            break
    check_files(body)
    first: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def again() -> Message:
        return first.pop() if first else await receive()

    return again


def bounded(receive: Receive, most: int) -> Receive:
    """The same, until more than `most` bytes have come."""
    come = 0

    async def receiving() -> Message:
        nonlocal come
        message = await receive()
        come += len(message.get("body", b""))
        if come > most:
            raise Refused(413, f"a request to a public page may have {most / 2**20:.0f} MB at most")
        return message

    return receiving


def check_files(body: bytes) -> None:
    """Refused where JSON names a file that was not uploaded here, or one elsewhere on the network."""
    try:
        content = json.loads(body)
    except ValueError:  # a form, or nothing: no files are read from it
        return
    except RecursionError:
        raise Refused(400, "this JSON is nested too deep") from None
    folder = os.path.realpath(get_upload_folder())
    for named in files(content):
        path, url = named.get("path"), named.get("url")
        if isinstance(path, str) and path:
            inside = os.path.isabs(path) and os.path.realpath(path).startswith(folder + os.sep)
        else:
            inside = not isinstance(url, str) or not url or url.startswith("data:")
        if not inside:
            raise Refused(400, "a public page takes only pictures that were uploaded to it; upload it first")


def files(content: Any) -> Iterator[dict]:
    """Every object in the JSON that Gradio may take for a file."""
    waiting = [content]
    while waiting:
        here = waiting.pop()
        if isinstance(here, dict):
            if "path" in here or "url" in here:
                yield here
            waiting += here.values()
        elif isinstance(here, list):
            waiting += here
