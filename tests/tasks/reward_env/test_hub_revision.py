"""Loading from a hub, over HTTP, with the real client: which revision was asked for and which commit was scored."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from hub import NEW, OLD, Hub, client_environment, serving

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
        environment = client_environment(self.endpoint, self.home, offline=offline)
        command = [sys.executable, "-c", LOAD, json.dumps(requests)]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=False)
        assert done.returncode == 0, done.stderr
        return [json.loads(line) for line in done.stdout.splitlines()]


@pytest.fixture(scope="module")
def endpoint() -> Iterator[str]:
    with serving() as address:
        yield address


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
    assert client.load((maths, "v1"), (code, "v1"), (code, OLD), offline=True)[:2] == [online, part]
    assert Hub.seen == []


def test_offline_a_copy_of_some_files_is_read_only_where_it_is_the_whole_of_what_is_asked(client: Client) -> None:
    code = client.definition("code", split="validation", data_files="validation/Code/**")
    both = client.definition("both", split="validation", data_files="validation/**")
    client.load((code, None))
    found, other, commit = client.load((code, None), (both, None), (code, OLD), offline=True)
    assert [q for q, _ in found["pairs"]] == ["code 0:", "code 1:", "code 2:"]
    assert other["error"].endswith("connect to the hub once, or give local files of the same columns as data_files")
    assert "error" in commit, "another commit"
    (blob,) = (client.home / "hf" / "hub").glob("datasets--lab--maths/snapshots/*/validation/Code/chunk1/0.jsonl")
    blob.unlink()
    (lost,) = client.load((code, None), offline=True)
    assert "error" in lost


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
