"""The identity of a trajectory as JSON: everything that decides its vectors, so that a folder is never resumed for another one.
No training."""

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
"""Bytes of a block, and the number of blocks that are read of a file: corpora are too large to be read completely at each start."""


def recipe_card(recipe: Recipe) -> dict[str, Any]:
    """The recipe, with digests of its files in place of their paths.

    Raises DataError, CheckpointError for bases that cannot be used.
    """
    check_bases(recipe)
    card = recipe.model_dump(mode="json")
    card["tokens"] = {domain: sampled_digest(Path(path)) for domain, path in recipe.tokens.items()}
    card["bases"] = [_base_card(base) for base in recipe.bases]
    return card


def sampled_digest(path: Path) -> str:
    """Digest of a file's size and of BLOCKS blocks spread over it. Raises DataError."""
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
    """A policy's identity: an agent's card and weights, a dataclass's fields, another object's class."""
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
