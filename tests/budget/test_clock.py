from __future__ import annotations

from itertools import count

import pytest
import torch
from torch import Tensor, nn

from ctnet.backbones import Backbone
from ctnet.budget.blocks import blocks_of, prepared_on_meta
from ctnet.budget.clock import predicted, threads, time_blocks, time_network
from ctnet.core.heads import Heatmap
from ctnet.model import CenterNet, create_model


class Ticks:
    """A clock on which the n-th reading is n^2 seconds: every measured call takes longer than the last."""

    def __init__(self) -> None:
        self.readings = count()

    def __call__(self) -> float:
        return float(next(self.readings) ** 2)


def test_the_median_leaves_out_the_first_round() -> None:
    """Reading 0 begins the warm-up; 1 and 2, 3 and 4, 5 and 6 are of the others: 3, 7 and 11 seconds."""
    with torch.device("meta"):
        model = create_model({"heatmap": Heatmap(3)}, "light16")
    model = model.to_empty(device="cpu")
    assert time_network(model, (32, 32), Ticks(), rounds=3) == 7000.0


def test_a_network_is_the_sum_of_its_blocks_as_often_as_each_occurs() -> None:
    counts = blocks_of(prepared_on_meta(lambda: create_model({"heatmap": Heatmap(3)}, "light16")), (32, 32))
    times = time_blocks(list(counts), rounds=2)
    assert times.keys() == counts.keys()
    assert all(0 < value < 1000 for value in times.values())
    assert predicted(counts, times) == pytest.approx(sum(times[block] for block in counts.elements()))
    assert sum(times.values()) < predicted(counts, times)


def test_a_measured_network_is_not_changed() -> None:
    torch.manual_seed(0)
    model = create_model({"heatmap": Heatmap(3)}, "light16").eval()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    time_network(model, (32, 32), rounds=1)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_the_number_of_threads_is_restored() -> None:
    before = torch.get_num_threads()
    with pytest.raises(ZeroDivisionError), threads(before + 1):
        _ = 1 / (before + 1 - torch.get_num_threads())
    assert torch.get_num_threads() == before


@torch.library.custom_op("ctnet_tests::picky", mutates_args=())
def picky(x: Tensor) -> Tensor:
    """An operation on numbers above 2 alone, which random values are not."""
    if not (x > 2).all():
        raise ValueError("numbers above 2 only")
    return x.clone()


@picky.register_fake
def _(x: Tensor) -> Tensor:
    return torch.empty_like(x)


class Picky(Backbone):
    channels = hidden = 4

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Conv2d(3, 4, 4, stride=4)

    def forward(self, images: Tensor) -> list[Tensor]:
        return [picky(self.layer(images).sigmoid() + 2)]


def test_what_cannot_be_called_on_its_own_is_left_out_and_said(caplog: pytest.LogCaptureFixture) -> None:
    model = prepared_on_meta(lambda: CenterNet(Picky(), {"heatmap": Heatmap(3)}))
    times = time_blocks(list(blocks_of(model, (32, 32))), rounds=1)
    assert [block.name for block, value in times.items() if value == 0] == ["ctnet_tests.picky.default"]
    said = (
        "is not part of the predicted times, since it cannot be measured (ValueError: numbers above 2 only)"
    )
    assert f"ctnet_tests.picky.default {said}" in caplog.text
