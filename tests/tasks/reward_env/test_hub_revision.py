"""Loading from a hub, over HTTP, with the real client: which revision was asked for and which commit was scored."""

from __future__ import annotations

import hashlib
import json
import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlparse

import pytest
import yaml

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
            return self._reply(404, error="RepoNotFound")
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


LOAD = """
import json, sys
from harness.core.errors import DataError
from harness.tasks.reward_env.catalog import load_field
for field, revision in json.loads(sys.argv[1]):
    try:
        found = load_field(field, revision=revision)
        result = {"source": found.source, "pairs": [[pair.q, pair.r] for pair in found.content]}
    except DataError as error:
        result = {"error": str(error)}
    print(json.dumps(result))
"""


class Client:
    """Loads fields in a fresh process, whose libraries read the hub's address and cache at import."""

    def __init__(self, endpoint: str, home: Path) -> None:
        self.endpoint, self.home = endpoint, home
        self.home.mkdir(exist_ok=True)

    def definition(self, name: str, **hub: Any) -> str:
        path = self.home / f"{name}.yaml"
        value = {"path": "lab/maths", "split": "train", "q": "{{ problem }}:", "r": " {{ solution }}", **hub}
        path.write_text(yaml.safe_dump({"task": name, "metadata": {"hub": value}}))
        return str(path)

    def load(self, *requests: tuple[str, str | None], offline: bool = False) -> list[dict[str, Any]]:
        flag = "1" if offline else "0"
        environment = {
            **os.environ,
            "HF_ENDPOINT": self.endpoint,
            "HF_HOME": str(self.home / "hf"),
            "HF_HUB_OFFLINE": flag,
            "HF_DATASETS_OFFLINE": flag,
            "HF_HUB_DISABLE_TELEMETRY": "1",
            "HF_TOKEN": "",
            "NO_PROXY": "127.0.0.1",
            "no_proxy": "127.0.0.1",
        }
        for variable in ("HF_HUB_CACHE", "HF_DATASETS_CACHE", "HUGGINGFACE_HUB_CACHE"):
            environment.pop(variable, None)
        command = [sys.executable, "-c", LOAD, json.dumps(requests)]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=False)
        assert done.returncode == 0, done.stderr
        return [json.loads(line) for line in done.stdout.splitlines()]


@pytest.fixture(scope="module")
def endpoint() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture
def client(endpoint: str, tmp_path: Path) -> Client:
    Hub.seen.clear()
    return Client(endpoint, tmp_path / "home")


def test_a_tag_a_branch_and_a_commit_are_recorded_as_asked_and_as_resolved(client: Client) -> None:
    field = client.definition("maths", names=["algebra", "geometry"])
    newest, tagged, exact = client.load((field, None), (field, "v1"), (field, OLD))
    assert [newest["source"][key] for key in ("revision", "resolved_revision")] == [None, NEW]
    assert [tagged["source"][key] for key in ("revision", "resolved_revision")] == ["v1", OLD]
    assert [exact["source"][key] for key in ("revision", "resolved_revision")] == [OLD, OLD]
    assert newest["source"]["names"] == ["algebra", "geometry"]
    topics = [f"{topic} {n}:" for topic in ("algebra", "geometry") for n in range(3)]
    assert newest["pairs"] == [[q, " from b"] for q in topics]
    assert tagged["pairs"] == exact["pairs"] == [[q, " from a"] for q in topics]
    assert "HEAD /datasets/lab/maths/resolve/v1/README.md" in Hub.seen
    assert f"GET /datasets/lab/maths/resolve/{OLD}/algebra/train.jsonl" in Hub.seen


def test_a_pattern_of_files_reads_those_alone(client: Client) -> None:
    field = client.definition("code", split="validation", data_files="validation/Code/**")
    (found,) = client.load((field, None))
    assert [q for q, _ in found["pairs"]] == ["code 0:", "code 1:", "code 2:"]
    assert found["source"]["resolved_revision"] == NEW
    assert not [request for request in Hub.seen if "Prose" in request and "GET /datasets" in request]


def test_offline_the_copy_at_hand_is_read_and_named_by_its_commit(client: Client) -> None:
    maths = client.definition("maths", names=["algebra", "geometry"])
    code = client.definition("code", split="validation", data_files="validation/Code/**")
    online, part = client.load((maths, "v1"), (code, "v1"))
    assert online["source"]["resolved_revision"] == part["source"]["resolved_revision"] == OLD
    Hub.seen.clear()
    whole, part = client.load((maths, "v1"), (code, "v1"), offline=True)
    assert whole == online
    assert part["error"].endswith("connect to the hub each time, or give local files of the same columns as data_files")
    assert Hub.seen == []


def test_offline_another_revision_is_never_passed_off_as_the_one_asked_for(client: Client) -> None:
    """Offline, the data set library takes its newest copy whatever revision is asked for."""
    field = client.definition("maths", names=["algebra"])
    client.load((field, None), (field, "v1"))
    same, branch, commit = client.load((field, OLD), (field, "main"), (field, NEW), offline=True)
    assert same["source"]["resolved_revision"] == OLD
    for result, asked in ((branch, "main"), (commit, NEW)):
        assert result["error"] == (
            f"field 'maths': without the hub, data set lab/maths comes from commit {OLD}, which is not revision {asked}; "
            "connect to the hub, or set revision to that commit"
        )


def test_what_is_not_on_the_hub_is_one_line_with_what_to_do(client: Client) -> None:
    maths = client.definition("maths", names=["algebra"])
    results = client.load(
        (maths, "no-such-tag"),
        (client.definition("missing", path="lab/nothing"), None),
        (client.definition("config", names=["poetry"]), None),
        (client.definition("split", names=["algebra"], split="dev"), None),
        (client.definition("sample", names=["algebra"], sample=4), None),
    )
    tag, repository, configuration, split, sample = (result["error"] for result in results)
    assert "Revision 'no-such-tag' doesn't exist for dataset 'lab/maths' on the Hub" in tag
    assert "Dataset 'lab/nothing' doesn't exist on the Hub or cannot be accessed" in repository
    assert "BuilderConfig 'poetry' not found" in configuration
    assert "Unknown split" in split
    for message in (tag, repository, configuration, split):
        assert "\n" not in message
        assert message.startswith("field '")
        assert message.endswith("; connect to the hub once, or give local files of the same columns as data_files")
    assert sample == ("field 'sample' samples 4 rows, but lab/maths split 'train' has 3; give a revision that has them")
