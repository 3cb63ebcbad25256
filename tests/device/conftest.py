from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))  # of the modules beside this one

from fake_gpu import Stalls, fake_gpu, is_possible


@pytest.fixture
def stalls() -> Iterator[Stalls]:
    """Within the test "cuda" is a device of fake tensors; what would stall a real one is noted."""
    if not is_possible():
        # CI must notice when torch's private names change.
        assert not os.environ.get("CTNET_ALL_EXTRAS"), "this torch has no fake tensors on fake devices"
        pytest.skip("this torch has no fake tensors on fake devices")
    with fake_gpu() as noted:
        yield noted
