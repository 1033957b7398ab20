"""A Hub on this machine that takes models too: what was pushed can be downloaded from it."""

import base64
import hashlib
import json
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import yaml

from tests.doubles import HubStub

TOKEN = "hf_letters"  # one that may write to `owner`


class UploadStub(HubStub):
    """Takes commits into folders below `root` from the tokens in `rights`, which name their namespaces."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.rights = {TOKEN: {"owner"}}
        self.private: set[str] = set()
        self.sdks: dict[str, str] = {}
        self.hardware: dict[str, str] = {}
        self.large: dict[str, bytes] = {}
        super().__init__()

    def files(self, repository: str) -> dict[str, bytes]:
        """What the repository holds, by name."""
        folder = self.folders[repository, "main"]
        return {
            file.relative_to(folder).as_posix(): file.read_bytes()
            for file in folder.rglob("*")
            if file.is_file()
        }

    def make(self, repository: str) -> None:
        """An empty repository."""
        self.add(repository, self.root / repository)
        (self.root / repository).mkdir(parents=True)

    def answer(self, path: str) -> tuple[int, dict[str, str], bytes]:
        """As HubStub's, and a repository's own page of facts."""
        owner_and_name = path.removeprefix("/api/models/").removeprefix("/api/spaces/")
        if owner_and_name.count("/") > 1:
            return super().answer(path)
        if (owner_and_name, "main") not in self.folders:
            return 404, {"X-Error-Code": "RepoNotFound"}, b"{}"
        facts = {"id": owner_and_name, "private": owner_and_name in self.private}
        return 200, {}, json.dumps(facts).encode()

    def take(self, path: str, token: str, body: bytes) -> tuple[int, dict[str, Any]]:
        """Status and answer for what was sent to `path`."""
        if path.startswith("/lfs/"):  # a signed address: it needs no token
            self.large[path.removeprefix("/lfs/")] = body
            return 200, {}
        if path == "/api/validate-yaml":  # for everybody
            return self._check_card(json.loads(body)["content"])
        if token not in self.rights:
            return 401, {"error": "Invalid credentials in Authorization header"}
        if path == "/api/repos/create":
            return self._create(token, json.loads(body))
        path = path.removeprefix("/api/models/").removeprefix("/api/spaces/").removeprefix("/spaces/")
        owner, name = path.lstrip("/").split("/")[:2]
        repository = f"{owner}/{name.removesuffix('.git')}"
        if owner not in self.rights[token]:
            return 403, {"error": "no right to write"}
        if path.endswith("/hardware"):
            self.hardware[repository] = json.loads(body)["flavor"]
            return 200, {"stage": "BUILDING", "hardware": {"requested": self.hardware[repository]}}
        if "/preupload/" in path:
            return 200, {"files": [self._mode(file) for file in json.loads(body)["files"]]}
        if path.endswith("/objects/batch"):
            return 200, {"objects": [self._place(each) for each in json.loads(body)["objects"]]}
        return self._commit(repository, [json.loads(line) for line in body.splitlines()])

    def _check_card(self, content: str) -> tuple[int, dict[str, Any]]:
        try:
            yaml.safe_load(content.split("---")[1])
        except yaml.YAMLError:
            return 400, {"errors": [{"message": "the front matter is no YAML"}]}
        return 200, {"errors": [], "warnings": []}

    def _create(self, token: str, wanted: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        repository = f"{wanted['organization']}/{wanted['name']}"
        if wanted["organization"] not in self.rights[token]:
            return 403, {"error": "no right to this namespace"}
        told = {"url": f"{self.url}/{repository}"}
        if (repository, "main") in self.folders:
            return 409, told | {"error": "it exists"}
        self.make(repository)
        if wanted.get("type") == "space":
            self.sdks[repository] = wanted["sdk"]
            told = {"url": f"{self.url}/spaces/{repository}"}
        if wanted.get("visibility") == "private" or wanted.get("private"):
            self.private.add(repository)
        return 200, told

    @staticmethod
    def _mode(file: dict[str, Any]) -> dict[str, Any]:
        binary = b"\0" in base64.b64decode(file["sample"])
        return {"path": file["path"], "uploadMode": "lfs" if binary else "regular", "shouldIgnore": False}

    def _place(self, wanted: dict[str, Any]) -> dict[str, Any]:
        return wanted | {"actions": {"upload": {"href": f"{self.url}/lfs/{wanted['oid']}"}}}

    def _commit(self, repository: str, lines: list[dict[str, Any]]) -> tuple[int, dict[str, Any]]:
        for line in lines:
            value = line["value"]
            if line["key"] == "header":
                continue
            if line["key"] == "deletedFile":
                (self.folders[repository, "main"] / value["path"]).unlink()
                continue
            if line["key"] == "lfsFile":
                content = self.large[value["oid"]]
                assert hashlib.sha256(content).hexdigest() == value["oid"]
            else:
                content = base64.b64decode(value["content"])
            file = self.folders[repository, "main"] / value["path"]
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(content)
        commit = self.commit(repository, "main")
        return 200, {"commitUrl": f"{self.url}/{repository}/commit/{commit}", "commitOid": commit}

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        hub = self

        class Handler(super()._handler()):  # type: ignore[misc]
            def do_POST(self) -> None:
                path = urlsplit(self.path).path
                hub.log.append(f"{self.command} {path}")
                token = self.headers.get("Authorization", "").removeprefix("Bearer ")
                status, told = hub.take(path, token, self.body())
                answer = json.dumps(told).encode()
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(answer)))
                self.end_headers()
                self.wfile.write(answer)

            do_PUT = do_POST

            def body(self) -> bytes:
                if "Content-Length" in self.headers:
                    return self.rfile.read(int(self.headers["Content-Length"]))
                chunks = []
                while size := int(self.rfile.readline(), 16):
                    chunks.append(self.rfile.read(size))
                    self.rfile.readline()
                self.rfile.readline()
                return b"".join(chunks)

        return Handler
