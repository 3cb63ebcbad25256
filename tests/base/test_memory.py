from __future__ import annotations

import cv2
import numpy as np
import pytest
import torch
from torch import nn

from ctnet.base import memory
from ctnet.base.memory import available_memory, bytes_per_pixel, is_out_of_memory


def refused(action) -> BaseException:
    try:
        action()
    except Exception as error:
        return error
    raise AssertionError("that much memory was had")


@pytest.mark.parametrize(
    "action",
    [
        lambda: torch.zeros(1 << 60),
        lambda: np.zeros(1 << 58, np.float64),
        lambda: bytearray(1 << 60),
        lambda: cv2.resize(np.zeros((2, 2, 3), np.float64), (2**31 - 1, 2**25)),
    ],
    ids=["torch", "numpy", "python", "opencv"],
)
def test_whatever_allocator_refuses(action) -> None:
    assert is_out_of_memory(refused(action))


def test_other_errors_are_something_else() -> None:
    for action in (lambda: torch.zeros(2) @ torch.zeros(3), lambda: cv2.imdecode(None, 1), lambda: 1 / 0):
        assert not is_out_of_memory(refused(action))


def test_memory_of_a_container_counts(tmp_path, monkeypatch) -> None:
    free = available_memory(torch.device("cpu"))
    assert free is None or free > 0
    for name, text in (("max", "5000\n"), ("current", "2000\n")):
        (tmp_path / name).write_text(text)
    monkeypatch.setattr(memory, "_GROUPS", ((str(tmp_path / "max"), str(tmp_path / "current")),))
    assert available_memory(torch.device("cpu")) == 3000
    (tmp_path / "max").write_text("max\n")
    assert available_memory(torch.device("cpu")) != 3000
    assert available_memory(torch.device("meta")) is None


def test_the_least_a_network_needs() -> None:
    model = nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(inplace=True), nn.Conv2d(8, 4, 3, stride=2, padding=1)
    )
    # The first layer holds 3 + 8 values of 4 bytes per pixel at once; ReLU works in place.
    assert bytes_per_pixel(model.eval(), 32, torch.device("cpu")) == 4 * (3 + 8)
    assert all(not module._forward_hooks for module in model.modules())
