"""What the recorder must see, and what it must not take for a stall."""

from __future__ import annotations

from contextlib import suppress

import pytest
import torch
from fake_gpu import Stalls
from torch._subclasses.fake_tensor import DataDependentOutputException, DynamicOutputShapeException


@pytest.mark.parametrize(
    "wait",
    [
        lambda x: x.sum().item(),
        lambda x: x.tolist(),
        lambda x: bool(x.any()),
        lambda x: torch.equal(x, x),
        lambda x: torch.repeat_interleave(x.long()),
    ],
)
def test_reading_a_value_is_a_wait(stalls: Stalls, wait) -> None:
    x = torch.zeros(3, device="cuda")
    with suppress(DataDependentOutputException, DynamicOutputShapeException):  # the recorder is asked first
        wait(x)
    assert len(stalls.waits) == 1


def test_copies_block_unless_they_are_from_page_locked_memory(stalls: Stalls) -> None:
    device = torch.device("cuda")
    torch.zeros(3).to(device)
    torch.zeros(3).to(device, non_blocking=True)
    torch.zeros(3, device="cuda").cpu()
    torch.tensor([1.0, 2.0], device=device)
    torch.zeros(3, device="cuda").new_tensor([1.0])
    assert len(stalls.copies) == 5
    torch.zeros(3).pin_memory().to(device, non_blocking=True)
    torch.zeros(3, device="cuda").double()
    torch.zeros(3, device="cuda")[1:] + 1
    assert len(stalls.copies) == 5


def test_devices_do_not_mix(stalls: Stalls) -> None:
    with pytest.raises(RuntimeError, match="device"):
        torch.zeros(3, device="cuda") + torch.zeros(3)


@pytest.mark.thorough
def test_none_of_these_tests_is_skipped_where_all_run(stalls: Stalls) -> None:
    """The fixture fails, instead of skipping, where all extras are said to be installed."""
    assert torch.zeros(1, device="cuda").device.type == "cuda"
