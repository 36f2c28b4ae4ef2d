"""Content identities: `sha256:<hex>` of bytes, and of JSON values in one canonical form."""

from __future__ import annotations

import hashlib
import json
from typing import Any


def digest_bytes(*parts: bytes) -> str:
    """`sha256:<64 hex digits>` of the concatenated parts."""
    hasher = hashlib.sha256()
    for part in parts:
        hasher.update(part)
    return f"sha256:{hasher.hexdigest()}"


def digest_json(value: Any) -> str:
    """Digest of a JSON value: keys sorted, no whitespace, NaN refused, so formatting never changes an identity."""
    return digest_bytes(
        json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False).encode()
    )
