"""Where the reference numbers and the real data are found; without them their tests skip and say so."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

SHARED = Path(os.environ.get("CTNET_SHARED", Path(__file__).parents[4] / "shared"))


def _shared_folder(name: str) -> Path:
    folder = SHARED / name
    if not folder.is_dir():
        pytest.skip(f"no {name} folder in {SHARED}; set CTNET_SHARED to the folder that holds it")
    return folder


@pytest.fixture(scope="session")
def golden() -> Path:
    """The folder of reference numbers."""
    return _shared_folder("golden")


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real data sets."""
    return _shared_folder("data")
