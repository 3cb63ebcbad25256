"""JSON on one line, as a service answers."""

from __future__ import annotations

from typing import Any

from ctnet.base.files import to_json
from ctnet.base.output import finite

#: The media type of ``json_bytes``.
JSON = "application/json"


def json_bytes(value: Any) -> bytes:
    """A value as one line of JSON; NaN and infinities become null."""
    return f"{to_json(finite(value))}\n".encode()
