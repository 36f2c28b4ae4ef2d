"""What a task needs and is not here is said in seconds, before anything is fetched or loaded, with what to do."""

from __future__ import annotations

import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from inspect_tasks import component, write_apps, write_arc, write_humaneval, write_mbpp, write_words
from pydantic import ValidationError

from harness.components.inspect.checks import docker_problem
from harness.core.errors import SpecError
from harness.tasks.suites.inspect_cards import card_of
from harness.tasks.suites.offline import offline
from harness.tasks.suites.sandbox import RULES

no_docker = pytest.mark.skipif(docker_problem() is None, reason="Docker is here")


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        ({"task": "inspect_evals/humaneval"}, "Docker.*sandbox: harness with allow_code_execution"),
        ({"task": "inspect_evals/humaneval", "sandbox": "harness"}, "allow_code_execution: true"),
        ({"task": "inspect_evals/humaneval", "sandbox": "local"}, "local runs programs.*allow_code_execution"),
        ({"task": "inspect_evals/swe_bench_verified_mini"}, r"swebench>=3.*pip install 'inspect_evals\[swe-bench\]'"),
        ({"task": "inspect_evals/swe_bench_verified_mini"}, "Docker.*internet"),
        (
            {"task": "inspect_evals/agent_bench_os", "sandbox": "harness", "allow_code_execution": True},
            "agents work in",
        ),
        ({"task": "inspect_evals/gaia_level1", "sandbox": "k8s"}, "inspect-k8s-sandbox"),
        ({"task": "inspect_evals/gaia_level1"}, "gaia-benchmark/GAIA is gated; accept its conditions.*HF_TOKEN"),
        ({"task": "inspect_evals/tau2_airline"}, "asks other models as user.*model: checkpoint"),
        ({"task": "inspect_evals/no_such_task"}, "has no task 'no_such_task'"),
        (
            {"task": "inspect_evals/arc_challenge"},
            "allenai/ai2_arc is not on this machine.*hf download.*--revision.*data:",
        ),
        ({"task": "inspect_evals/gpqa_diamond"}, "nothing is fetched while a task is built; set fetch: true"),
        (
            {"task": "inspect_evals/mbpp", "sandbox": "harness", "allow_code_execution": True},
            "mbpp is not on this machine",
        ),
        (
            {"task": "inspect_evals/arc_challenge", "args": {"shots": 3}},
            "args: inspect_evals/arc_challenge has no shots",
        ),
        ({"task": "nowhere/none"}, "no task 'nowhere/none' is registered"),
        ({"task": "gone.py@none"}, "no file .*gone.py"),
    ],
)
@no_docker
def test_what_is_missing_is_named_with_what_to_do(keys: dict[str, Any], words: str, tmp_path: Path) -> None:
    with pytest.raises(SpecError, match=words):
        component(tmp_path, **keys)


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        ({"sample_ids": ["w1", "w77"]}, "no sample w77; its ids are like w0"),
        ({"task": "words.py@nothing"}, "words.py@nothing"),
        ({"task": "words.py"}, "has the tasks .*name one"),
        ({"args": {"suffix": "x"}}, "has no suffix; it takes prefix"),
        ({"data": {"a/b": {"files": {"test": "words.jsonl"}}}}, "data names a/b, which .* does not ask for"),
        ({"roles": {"user": {"model": "hosted_vllm/m"}}}, "role user needs api_base"),
        ({"sandbox": "dokcer"}, "'dokcer' not recognized.*sandbox is docker, k8s, harness, local"),
        ({"sandbox": "local:gone.yaml", "allow_code_execution": True}, "no file .*gone.yaml"),
        (
            {"roles": {"user": {"model": "hosted_vllm/m", "api_base": "http://h/v1", "api_key_env": "UNSET_KEY"}}},
            "UNSET_KEY",
        ),
        ({"task": "words.py@graded"}, "would grade itself.*roles: .grader"),
        (
            {"roles": {"user": {"model": "mockllm/model", "args": {"temprature": 1}}}},
            "no option 'temprature'; did you mean 'temperature'",
        ),
        ({"generate": {"cache": True}}, "cache is not for a component; every checkpoint is asked anew"),
        ({"generate": {"timeout": 5}}, "use the component's request_timeout_s"),
        ({"generate": {"temperature": "hot"}}, "generate: temperature: .*number"),
        ({"roles": {"user": {"model": "checkpoint", "api_base": "http://h/v1"}}}, "is the checkpoint, so it has no"),
    ],
)
def test_what_is_wrong_with_a_file_of_tasks_is_named(keys: dict[str, Any], words: str, tmp_path: Path) -> None:
    write_words(tmp_path)
    with pytest.raises(SpecError, match=words):
        component(tmp_path, **{"task": "words.py@words", **keys})


@pytest.mark.parametrize(
    "keys",
    [
        {},
        {"task": "words.py@words", "suite": "coding"},
        {"suite": "cooking"},
        {"task": "words"},
        {"task": "words.py@words", "limit": 2, "sample_ids": ["w1"]},
        {"task": "words.py@words", "reducer": "max"},
        {"task": "words.py@words", "generate": {"extra_headers": {"Authorization": "sk-1"}}},
        {"task": "words.py@words", "generate": {"temprature": 0}},
        {"suite": "coding", "epochs": 2},
    ],
)
def test_keys_that_do_not_go_together_are_refused(keys: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises((ValidationError, SpecError)):
        write_words(tmp_path)
        component(tmp_path, **keys)


def test_a_file_that_does_not_load_is_said_with_its_own_error(tmp_path: Path) -> None:
    (tmp_path / "bad.py").write_text(
        "from inspect_ai import Task, task\nraise RuntimeError('half written')\n\n\n@task\ndef it():\n    return Task()\n"
    )
    with pytest.raises(SpecError, match=r"bad.py@it cannot be built \(.*half written"):
        component(tmp_path, task="bad.py@it")


def test_two_samples_of_one_id_are_refused(tmp_path: Path) -> None:
    path = write_words(tmp_path)
    rows = path.with_name("words.jsonl")
    rows.write_text(rows.read_text() * 2)
    with pytest.raises(SpecError, match=r"two samples of .* have one id"):
        component(tmp_path, task="words.py@words")


def test_a_split_that_the_files_do_not_have_is_named(tmp_path: Path) -> None:
    keys = write_arc(tmp_path)
    keys["data"]["allenai/ai2_arc"]["files"] = {"train": "arc.jsonl"}
    with pytest.raises(SpecError, match="split 'test', and its files have train"):
        component(tmp_path, **keys)


def test_data_can_be_a_copy_of_the_repository_or_a_saved_folder(tmp_path: Path) -> None:
    import datasets

    keys = write_arc(tmp_path)
    first = component(tmp_path, **keys)
    loaded = datasets.load_dataset("json", data_files={"test": str(tmp_path / "arc.jsonl")})
    loaded.save_to_disk(str(tmp_path / "saved"))
    keys["data"] = {"allenai/ai2_arc": {"path": "saved"}}
    assert component(tmp_path, **keys).definition == first.definition


def test_a_file_that_cannot_be_read_is_named_at_once(tmp_path: Path) -> None:
    """inspect_evals takes it for an outage of the hub, and would wait two minutes."""
    keys = write_mbpp(tmp_path)
    (tmp_path / "mbpp.jsonl").write_text("{broken\n")
    started = time.monotonic()
    with pytest.raises(SpecError, match=r"mbpp: .*mbpp\.jsonl: json cannot be read \(ArrowInvalid: JSON parse error"):
        component(tmp_path, **keys)
    assert time.monotonic() - started < 30


def test_a_local_copy_of_a_repository_is_read_each_time_and_never_kept_as_the_hubs(tmp_path: Path) -> None:
    """APPS copies it to a folder of its own, looks there first the next time, and prepares it under the data set's name."""
    from datasets import config
    from inspect_evals.constants import INSPECT_EVALS_CACHE_PATH

    kept = [INSPECT_EVALS_CACHE_PATH / "apps_dataset", Path(config.HF_DATASETS_CACHE) / "apps"]
    before = [path.exists() for path in kept]
    found = [component(tmp_path, **write_apps(tmp_path, name)) for name in ("one", "two")]
    assert found[0].definition == found[1].definition and found[0].n_items == 2
    changed = tmp_path / "two" / "test.jsonl"
    changed.write_text(changed.read_text().replace("Write", "Please write"))
    again = component(tmp_path, **{**write_apps(tmp_path, "three"), "data": {"codeparrot/apps": {"path": "two"}}})
    assert again.built.samples[0].input == "Please write number 11."
    assert [path.exists() for path in kept] == before and again.built.environment == {}


def test_local_data_is_never_kept_as_the_hubs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Inspect stores what it loads under the data set's name on the hub, for every later run on the machine."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    from inspect_ai._util.appdirs import inspect_cache_dir

    component(tmp_path, **write_arc(tmp_path))
    assert not list(inspect_cache_dir("hf_datasets").glob("allenai*"))


def test_nothing_reaches_a_network_while_a_task_is_built(tmp_path: Path) -> None:
    (tmp_path / "far.py").write_text(
        "import urllib.request\nfrom inspect_ai import Task, task\n\n\n@task\ndef far():\n"
        "    urllib.request.urlopen('http://example.org/samples.json')\n    return Task()\n"
    )
    with pytest.raises(SpecError, match=r"asks example.org, and nothing is fetched while a task is built"):
        component(tmp_path, task="far.py@far")
    (tmp_path / "far.py").write_text((tmp_path / "far.py").read_text().replace("example.org", "no-such-host.invalid"))
    started = time.monotonic()
    with pytest.raises(SpecError, match=r"no-such-host.invalid, which cannot be reached"):
        component(tmp_path, task="far.py@far", fetch=True)
    assert time.monotonic() - started < 60, "it is tried once"
    assert socket.getaddrinfo("localhost", 80), "as before"
    with pytest.raises(RuntimeError), offline({}):
        raise RuntimeError
    assert socket.getaddrinfo.__module__ == "socket"


@pytest.mark.long
@no_docker
def test_every_task_of_inspect_evals_is_answered_in_seconds(tmp_path: Path) -> None:
    """Without network: each is built or refused by name; none downloads, waits between attempts or dies of something else."""
    import yaml

    from harness.tasks.suites.inspect_cards import evals_folder

    slow, unforeseen = {}, {}
    for path in sorted(evals_folder().glob("*/eval.yaml")):
        for row in (yaml.safe_load(path.read_text()) or {}).get("tasks") or ():
            started = time.monotonic()
            try:
                component(tmp_path, task=f"inspect_evals/{row['name']}", limit=1)
            except SpecError:
                pass
            except Exception as error:  # noqa: BLE001
                unforeseen[row["name"]] = f"{type(error).__name__}: {error}"
            if (seconds := time.monotonic() - started) > 20:
                slow[row["name"]] = seconds
    assert not unforeseen and not slow


def test_cards_say_what_an_eval_needs() -> None:
    card = card_of("gaia_level1")
    assert card is not None and card.internet and card.sandbox == ("solver",) and card.searches()
    assert [asset.gated for asset in card.assets] == [True]
    assert (bfcl := card_of("bfcl")) is not None and bfcl.key_names() == {"SERPAPI_API_KEY"}
    assert card_of("tau2_banking") is not None and card_of("tau2_banking").roles() == {"user"}  # type: ignore[union-attr]
    assert card_of("webarena") is None


def test_reading_a_spec_needs_no_inspect(tmp_path: Path) -> None:
    code = (
        "from harness.components.inspect.config import InspectConfig\nimport sys\n"
        "InspectConfig.model_validate({'name': 'a', 'kind': 'inspect', 'suite': 'web'})\n"
        "assert not {'inspect_ai', 'inspect_evals', 'datasets', 'torch', 'openai'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=tmp_path)


def test_humaneval_needs_permission_alone(tmp_path: Path) -> None:
    it = component(tmp_path, **write_humaneval(tmp_path))
    assert it.definition["sandbox"] == ["harness", f"Python 3.{sys.version_info.minor}", RULES]
    (check, *_) = it.checks()
    assert check.ok and "sandbox harness" in check.words
