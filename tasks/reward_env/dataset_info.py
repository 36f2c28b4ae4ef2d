"""LLaMA-Factory's dataset_info.json: a data set's files, columns and names of roles.

An entry turns each record into one of the common forms; columns that it does not name are not read, as in LLaMA-Factory.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from harness.core.errors import DataError
from harness.tasks.reward_env.records import Located, parse_json, read_content, read_records

_FILE = re.compile(r"(?P<file>(?:.*/)?[^/#]*dataset_info[^/#]*\.json)(?:#(?P<entry>.+))?")
_COMMON = ("system", "tools", "images", "videos", "audios", "chosen", "rejected", "kto_tag")
_COLUMNS = {
    "alpaca": (*_COMMON, "prompt", "query", "response", "history"),
    "sharegpt": (*_COMMON, "messages"),
    "openai": (*_COMMON, "messages"),
}
_DEFAULTS = {"prompt": "instruction", "query": "input", "response": "output", "messages": "conversations"}
_TAGS = {
    "role_tag": "from",
    "content_tag": "value",
    "user_tag": "human",
    "assistant_tag": "gpt",
    "observation_tag": "observation",
    "function_tag": "function_call",
    "system_tag": "system",
}
_SPEAKERS = {
    "user_tag": "human",
    "assistant_tag": "gpt",
    "observation_tag": "observation",
    "function_tag": "function_call",
    "system_tag": "system",
}
_ELSEWHERE = ("hf_hub_url", "ms_hub_url", "om_hub_url", "script_url", "cloud_file_name")
_ALPACA = {"prompt": "instruction", "query": "input", "response": "output"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One data set of the file: `files` in order, `columns` from LLaMA-Factory's names to the file's."""

    name: str
    files: tuple[Path, ...]
    formatting: str
    ranking: bool
    columns: dict[str, str]
    tags: dict[str, str] = field(default_factory=dict)

    @property
    def form(self) -> str:
        """The form that its records have once they are renamed."""
        if self.ranking:
            return "preference"
        return "alpaca" if self.formatting == "alpaca" else "sharegpt"

    def records(self) -> Iterator[Located]:
        """The records, renamed. Raises DataError."""
        found = [record for path in self.files for record in read_records(path)]
        for key, column in self.columns.items():
            if found and not any(column in record.value for record in found):
                raise DataError(
                    f"{found[0].where}: key {column!r} is missing, which {self.name!r} of dataset_info.json names as {key!r}"
                )
        for record in found:
            yield Located(record.where, self._renamed(record))

    def _renamed(self, record: Located) -> dict[str, Any]:
        found = {key: record.value.get(column) for key, column in self.columns.items()}
        value = {_ALPACA.get(key, key): item for key, item in found.items() if item is not None and key != "messages"}
        if "messages" in found:
            value["conversations"] = [self._turn(turn, record) for turn in self._turns(record)]
            self._check_order(value["conversations"], record)
        for key in ("chosen", "rejected"):
            if isinstance(value.get(key), dict):
                value[key] = self._turn(value[key], record)
        if "id" in record.value:
            value["id"] = record.value["id"]
        if self.ranking and not ({"chosen", "rejected"} <= value.keys()):
            raise DataError(f"{record.where}: {self.name!r} is ranking, and a record has no 'chosen' or no 'rejected'")
        if "kto_tag" in self.columns and not isinstance(value.get("kto_tag"), bool):
            raise DataError(
                f"{record.where}: {self.columns['kto_tag']!r} is {value.get('kto_tag')!r}; it must be true or false"
            )
        return value

    def _turns(self, record: Located) -> list[dict[str, Any]]:
        turns = record.value.get(self.columns["messages"])
        if isinstance(turns, str):
            turns = parse_json(turns, f"{record.where}: {self.columns['messages']!r}")
        if not isinstance(turns, list) or not all(isinstance(turn, dict) for turn in turns):
            raise DataError(f"{record.where}: {self.columns['messages']!r} must be a list of objects")
        return turns

    def _check_order(self, turns: list[dict[str, Any]], record: Located) -> None:
        """Refuse what LLaMA-Factory leaves out of training, whole records with turns in another order, or parts of them."""
        spoken = [turn["from"] for turn in turns]
        if spoken[:1] == ["system"]:
            del spoken[0]
        if self.formatting == "openai":  # results in a row are one there
            spoken = [
                name
                for name, after in zip(spoken, [*spoken[1:], ""], strict=True)
                if not name == after == "observation"
            ]
        speakers = (("human", "observation"), ("gpt", "function_call"))
        in_turn = all(name in speakers[position % 2] for position, name in enumerate(spoken))
        if not in_turn or len(spoken) % 2 != self.ranking:
            raise DataError(
                f"{record.where}: the turns are {', '.join(spoken)}, and LLaMA-Factory leaves out a record whose questions and "
                f"answers do not take turns{'' if self.ranking else ', up to an answer'}; correct or remove it"
            )
        if any(turn["value"] and turn.get("tool_calls") for turn in turns if self.formatting == "openai"):
            raise DataError(
                f"{record.where}: a turn has text beside 'tool_calls', which LLaMA-Factory leaves out; remove one of them"
            )

    def _turn(self, turn: dict[str, Any], record: Located) -> dict[str, Any]:
        role, content = self.tags["role_tag"], self.tags["content_tag"]
        speaker = turn.get(role)
        known = {self.tags[tag]: name for tag, name in _SPEAKERS.items()}
        if not isinstance(speaker, str) or speaker not in known:
            raise DataError(f"{record.where}: {role!r} is {speaker!r}, which is none of {', '.join(known)}")
        rest = {key: value for key, value in turn.items() if key not in (role, content)}
        return {**rest, "from": known[speaker], "value": turn.get(content)}


def is_dataset_info(path: str) -> bool:
    """Whether a path names a dataset_info.json, with or without `#name` after it."""
    return _FILE.fullmatch(path) is not None


def read_entry(path: str) -> Entry:
    """The data set that `dataset_info.json#name` names; without a name, the only one. Raises DataError."""
    found = _FILE.fullmatch(path)
    assert found is not None
    file, name = Path(found["file"]), found["entry"]
    described = parse_json(read_content(file).decode("utf-8", errors="replace"), str(file))
    if not isinstance(described, dict) or not described or not all(isinstance(e, dict) for e in described.values()):
        raise DataError(
            f"{file}: expected an object with one entry per data set, as LLaMA-Factory's dataset_info.json has"
        )
    if name is None and len(described) > 1:
        some = ", ".join(list(described)[:8])
        raise DataError(f"{file} has {len(described)} data sets ({some}); name one: {file}#{next(iter(described))}")
    name = name or next(iter(described))
    if name not in described:
        raise DataError(f"{file} has no data set {name!r}; it has {', '.join(list(described)[:8])}")
    return _entry(file, name, described[name])


def _entry(file: Path, name: str, value: dict[str, Any]) -> Entry:
    where = f"{file}: {name!r}"
    if not isinstance(value.get("file_name"), str):
        elsewhere = next((key for key in _ELSEWHERE if key in value), None)
        cause = f"is not a local file ({elsewhere}); give a local copy" if elsewhere else "has no file_name; give one"
        raise DataError(f"{where} {cause}")
    if value.get("num_samples") is not None:
        raise DataError(
            f"{where}: num_samples is a random sample, which is not drawn here; remove it and set limit in the spec"
        )
    formatting = value.get("formatting", "alpaca")
    if formatting not in _COLUMNS:
        raise DataError(f"{where}: formatting {formatting!r} is none of {', '.join(_COLUMNS)}")
    columns = value.get("columns")
    if columns is None:
        columns = {key: column for key, column in _DEFAULTS.items() if key in _COLUMNS[formatting]}
        if value.get("ranking"):
            columns = {key: column for key, column in columns.items() if key != "response"}
    tags = value.get("tags") or {}
    for part, known in (("columns", _COLUMNS[formatting]), ("tags", tuple(_TAGS))):
        given = columns if part == "columns" else tags
        unknown = set(given) - set(known) if isinstance(given, dict) else {given}
        if unknown or not all(isinstance(column, str) for column in given.values()):
            raise DataError(
                f"{where}: {part} are names of {', '.join(known)}; {sorted(map(str, unknown))} is none of them"
            )
    needed = "messages" if formatting != "alpaca" else "prompt"
    if needed not in columns:
        raise DataError(f"{where}: columns name no {needed!r}")
    if formatting == "alpaca" and not value.get("ranking") and "response" not in columns:
        raise DataError(
            f"{where}: columns name no 'response' (pre-training data have none), so there is nothing to score"
        )
    if value.get("ranking") and not {"chosen", "rejected"} <= columns.keys():
        raise DataError(f"{where}: ranking needs the columns 'chosen' and 'rejected'")
    path = file.parent / value["file_name"]
    files = tuple(sorted(one for one in path.iterdir() if one.is_file())) if path.is_dir() else (path,)
    return Entry(
        name=name,
        files=files,
        formatting=formatting,
        ranking=bool(value.get("ranking")),
        columns=columns,
        tags={**_TAGS, **tags},
    )
