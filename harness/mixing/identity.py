"""What decides a trajectory's vectors, as JSON: so that a folder is never gone on with for another one. No training."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

import numpy as np

from harness.core.digest import digest_bytes
from harness.core.errors import DataError, why_unreadable
from harness.mixing.agent import Agent
from harness.mixing.trainer import Recipe, check_bases

BLOCK, BLOCKS = 2**12, 256
"""Bytes of a block, and how many blocks of a file are read: corpora are too large to be read in whole at each start."""


def recipe_card(recipe: Recipe) -> dict[str, Any]:
    """The recipe, with the content of its files in place of their paths. Raises DataError, CheckpointError for bases that cannot be."""
    check_bases(recipe)
    card = recipe.model_dump(mode="json")
    card["tokens"] = {domain: sampled_digest(Path(path)) for domain, path in recipe.tokens.items()}
    card["bases"] = [_base_card(base) for base in recipe.bases]
    return card


def sampled_digest(path: Path) -> str:
    """Of a file's size and of blocks all over it. Raises DataError."""
    hasher = hashlib.sha256()
    try:
        size = path.stat().st_size
        hasher.update(str(size).encode())
        with path.open("rb") as file:
            for place in range(BLOCKS):
                file.seek(place * max(size - BLOCK, 0) // (BLOCKS - 1))
                hasher.update(file.read(BLOCK))
    except OSError as error:
        raise DataError(f"cannot read {path}: {why_unreadable(error)}") from error
    return f"sampled:{hasher.hexdigest()}"


def policy_card(policy: Any) -> Any:
    """Of an agent its card and weights, of other policies their fields; of what has none, its class."""
    if isinstance(policy, Agent):
        return {
            "agent": policy.card.model_dump(mode="json", by_alias=True, exclude={"weights"}),
            "weights": policy.digest,
        }
    if isinstance(policy, np.ndarray):
        return policy.tolist()
    if isinstance(policy, Mapping):
        return {str(key): policy_card(value) for key, value in policy.items()}
    if isinstance(policy, list | tuple):
        return [policy_card(one) for one in policy]
    if policy is None or isinstance(policy, bool | int | float | str):
        return policy
    card: dict[str, Any] = {"class": type(policy).__name__}
    if is_dataclass(policy):
        card |= {one.name: policy_card(getattr(policy, one.name)) for one in fields(policy)}
    return card


def _base_card(base: str) -> dict[str, str]:
    return {path.name: _file_card(path) for path in sorted(Path(base).iterdir()) if path.is_file()}


def _file_card(path: Path) -> str:
    return sampled_digest(path) if path.suffix == ".safetensors" else digest_bytes(path.read_bytes())
