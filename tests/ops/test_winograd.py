"""Strips of tiles; what is computed with them is tested by the layers."""

from __future__ import annotations

import pytest
import torch

from ctnet.ops import winograd
from ctnet.ops.winograd import Kind


@pytest.mark.parametrize("kind", ["3x3", "up"])
def test_strips_cover_every_pixel_once(kind: Kind) -> None:
    scale = 2 if kind == "up" else 1
    for batch, height, width in [(1, 128, 128), (5, 11, 27), (3, 1, 1), (200, 8, 4), (2, 17, 1200)]:
        read, written = torch.zeros(batch * height * width), torch.zeros(batch * height * width * scale**2)
        for reads, writes, (images, above, rows, _, own) in winograd._strips(kind, batch, height, width):
            read[reads] += 1
            written[writes] += 1
            assert above in (0, 1)
            assert images * -(-own // 4) * -(-width // 4) <= max(winograd._STRIP, -(-width // 4))
            assert len(read[reads]) == images * rows * width
        assert read.min() == 1
        assert (written == 1).all()
