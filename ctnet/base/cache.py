"""Where ctnet keeps what it can make or fetch again."""

from __future__ import annotations

import os
import sys
from pathlib import Path


def cache_folder() -> Path:
    """``$CTNET_CACHE``, or the usual place of the user's caches.

    Raises:
        RuntimeError: for a user without a home folder.
    """
    if folder := os.environ.get("CTNET_CACHE"):
        return Path(folder)
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local") / "ctnet" / "cache"
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches" / "ctnet"
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "ctnet"
