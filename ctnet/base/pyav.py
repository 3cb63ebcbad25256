"""PyAV, which the extra ``video`` brings: more codecs than OpenCV's, and H.264."""

from __future__ import annotations

import importlib
from typing import Any

#: How to get it.
EXTRA = "pip install 'ctnet-toolkit[video]'"


def pyav() -> Any:
    """The module ``av``; None where it is not installed."""
    try:
        return importlib.import_module("av")
    except ImportError:
        return None
