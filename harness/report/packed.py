"""Values as text for the page, compact and without any character of markup: JSON, bzip2, base 85. `js/packed.js` decodes it.

bzip2 and not gzip, which browsers have built in: of transcripts, whose repetitions are far apart, the result is a third smaller.
"""

from __future__ import annotations

import base64
import bz2
import json
from typing import Any

_OWN, _STANDARD = b",.:", b"<&>"
"""Three of b85's characters have a meaning in HTML, and are replaced by others."""


def packed(value: Any) -> str:
    """Equal values give equal text. Raises ValueError for NaN."""
    text = json.dumps(value, separators=(",", ":"), allow_nan=False)
    return base64.b85encode(bz2.compress(text.encode("ascii"))).translate(bytes.maketrans(_STANDARD, _OWN)).decode()


def unpacked(text: str) -> Any:
    """What was packed."""
    coded = text.encode("ascii").translate(bytes.maketrans(_OWN, _STANDARD))
    return json.loads(bz2.decompress(base64.b85decode(coded)))
