"""A hub for tests: its HTTP interface, as far as reading a data set or a model needs it, over two repositories."""

from __future__ import annotations

import hashlib
import json
import os
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlparse

OLD, NEW = "a" * 40, "b" * 40
REFS = {"v1": OLD, OLD: OLD, "main": NEW, NEW: NEW}
CARD = """---
configs:
- config_name: algebra
  data_files: [{split: train, path: algebra/train.jsonl}]
- config_name: geometry
  data_files: [{split: train, path: geometry/train.jsonl}]
---
"""


def files_of(commit: str) -> dict[str, bytes]:
    """A data set repository with two configurations, and parts of a split in a folder, at one commit."""

    def rows(topic: str) -> bytes:
        return "".join(
            json.dumps({"problem": f"{topic} {n}", "solution": f"from {commit[0]}"}) + "\n" for n in range(3)
        ).encode()

    return {
        "README.md": CARD.encode(),
        "algebra/train.jsonl": rows("algebra"),
        "geometry/train.jsonl": rows("geometry"),
        "validation/Code/chunk1/0.jsonl": rows("code"),
        "validation/Prose/chunk1/0.jsonl": rows("prose"),
    }


class Hub(BaseHTTPRequestHandler):
    """The part of the hub's HTTP interface that reading a data set needs, for one repository, `lab/maths`."""

    protocol_version = "HTTP/1.1"
    seen: list[str] = []
    models: dict[str, Path] = {}
    """Repositories of models, each a folder, the same at every commit."""

    def do_GET(self) -> None:
        self._answer(b"")

    def do_HEAD(self) -> None:
        self._answer(b"")

    def do_POST(self) -> None:
        self._answer(self.rfile.read(int(self.headers.get("Content-Length") or 0)))

    def log_message(self, *args: Any) -> None:
        """Requests are kept in `seen`."""

    def _answer(self, body: bytes) -> None:
        path = unquote(urlparse(self.path).path)
        self.seen.append(f"{self.command} {path}")
        match = re.fullmatch(
            r"/(?:api/)?datasets/lab/maths(?:/(resolve|revision|tree|paths-info)/([^/]+)(?:/(.*))?)?", path
        )
        if match is None:
            return self._model(path)
        commit = REFS.get(match[2] or "main")
        if commit is None:
            return self._reply(404, error="RevisionNotFound")
        files, name = files_of(commit), match[3] or ""
        if match[1] == "resolve":
            if name not in files:
                return self._reply(404, error="EntryNotFound", commit=commit)
            return self._reply(200, files[name], commit=commit)
        if match[1] == "tree":
            inside = [file for file in files if file.startswith(f"{name}/" if name else "")]
            if not inside:
                return self._reply(404, error="EntryNotFound", commit=commit)
            deep = "recursive=true" in self.path.lower()
            return self._json([self._entry(item, files) for item in sorted(_children(inside, name, deep=deep))])
        if match[1] == "paths-info":
            wanted = json.loads(body)["paths"] if body.startswith(b"{") else parse_qs(body.decode())["paths"]
            known = set(files) | _children(list(files), "", deep=True)
            return self._json([self._entry(item, files) for item in wanted if item in known])
        return self._json({"id": "lab/maths", "sha": commit, "siblings": [{"rfilename": file} for file in files]})

    def _model(self, path: str) -> None:
        match = re.fullmatch(r"/(?:api/models/)?([\w.-]+/[\w.-]+)(?:/(resolve|revision|tree)/([^/]+)(?:/(.*))?)?", path)
        folder = self.models.get(match[1]) if match else None
        if match is None or folder is None:
            return self._reply(404, error="RepoNotFound")
        commit = REFS.get(match[3] or "main")
        if commit is None:
            return self._reply(404, error="RevisionNotFound")
        files = {file.name: file.read_bytes() for file in sorted(folder.iterdir())}
        if match[2] == "resolve":
            if match[4] not in files:
                return self._reply(404, error="EntryNotFound", commit=commit)
            return self._reply(200, files[match[4]], commit=commit)
        if match[2] == "tree":
            return self._json([self._entry(name, files) for name in files])
        return self._json({"id": match[1], "sha": commit, "siblings": [{"rfilename": name} for name in files]})

    def _entry(self, path: str, files: dict[str, bytes]) -> dict[str, Any]:
        content = files.get(path)
        kind = "directory" if content is None else "file"
        return {"type": kind, "path": path, "oid": _etag(content or b""), "size": len(content or b"")}

    def _json(self, value: Any) -> None:
        self._reply(200, json.dumps(value).encode())

    def _reply(self, status: int, body: bytes = b"", *, error: str = "", commit: str = "") -> None:
        self.send_response(status)
        headers = {"X-Error-Code": error, "X-Repo-Commit": commit, "ETag": f'"{_etag(body)}"' if body else ""}
        for header, value in {**headers, "Content-Length": str(len(body))}.items():
            if value:
                self.send_header(header, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)


def _children(files: list[str], folder: str, *, deep: bool) -> set[str]:
    found = set()
    for file in files:
        steps = file[len(folder) + 1 if folder else 0 :].split("/")
        for depth in range(1, len(steps) + 1 if deep else 2):
            found.add("/".join([folder, *steps[:depth]] if folder else steps[:depth]))
    return found


def _etag(content: bytes) -> str:
    return hashlib.sha1(content).hexdigest()


@contextmanager
def serving() -> Iterator[str]:
    """The address of a hub, until the end of the block."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()
    thread.join()


def client_environment(endpoint: str, home: Path, *, offline: bool = False) -> dict[str, str]:
    """Of a fresh process, whose libraries read the hub's address and cache at import."""
    flag = "1" if offline else "0"
    environment = {
        **os.environ,
        "HF_ENDPOINT": endpoint,
        "HF_HOME": str(home / "hf"),
        "HARNESS_CACHE": str(home / "harness-cache"),
        "HF_HUB_OFFLINE": flag,
        "HF_DATASETS_OFFLINE": flag,
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "HF_TOKEN": "",
        "NO_PROXY": "127.0.0.1",
        "no_proxy": "127.0.0.1",
    }
    for variable in ("HF_HUB_CACHE", "HF_DATASETS_CACHE", "HUGGINGFACE_HUB_CACHE"):
        environment.pop(variable, None)
    return environment
