"""The rule of the choice, on a machine of which every time is known."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from ctnet.backbones import Backbone
from ctnet.base.errors import CtnetError
from ctnet.budget import choice
from ctnet.budget.blocks import Block, blocks_of, multiply_adds, prepared_on_meta
from ctnet.budget.choice import LARGEST, SMALLEST, propose, trainable_backbones
from ctnet.budget.proposal import Budget, Candidate, Proposal
from ctnet.core.heads import Heatmap, Regression
from ctnet.model import CenterNet, create_model

HEADS = {"heatmap": Heatmap(3), "size": Regression(2)}
#: Multiply-adds per millisecond of the machine.
RATE = 1e7


class Machine:
    """A machine whose times follow from the arithmetic alone.

    Attributes:
        surprise: by backbone, how many times as long as predicted a whole network takes.
        measured: the networks that were measured as a whole.
    """

    def __init__(self) -> None:
        self.surprise: dict[str, float] = {}
        self.measured: list[tuple[str, tuple[int, int]]] = []
        self.threads: set[int] = set()

    def time_blocks(self, blocks: Collection[Block], clock: object) -> dict[Block, float]:
        self.threads.add(torch.get_num_threads())
        return {block: block.multiply_adds / RATE for block in blocks}

    def time_network(self, model: CenterNet, size: tuple[int, int], clock: object) -> float:
        self.threads.add(torch.get_num_threads())
        name = {8: "slim", 16: "broad"}[model.backbone.channels]
        self.measured.append((name, size))
        return self.surprise.get(name, 1.0) * takes(name, size)


def takes(name: str, size: tuple[int, int]) -> float:
    counts = blocks_of(prepared_on_meta(lambda: create_model(HEADS, name)), size)
    return multiply_adds(counts) / RATE


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Machine:
    made = Machine()
    monkeypatch.setattr(choice, "time_blocks", made.time_blocks)
    monkeypatch.setattr(choice, "time_network", made.time_network)
    return made


def asked(
    names: Collection[str], milliseconds: float, size: tuple[int, int] | None = None, threads: int = 1
) -> Proposal:
    return propose(sorted(names), HEADS, Budget(milliseconds, threads), size)


def test_each_backbone_gets_the_largest_input_that_fits(machine: Machine, slim_and_broad) -> None:
    for milliseconds in (2.0, 11.0, 40.0):
        for one in asked(slim_and_broad, milliseconds).candidates:
            side = one.size[0]
            assert one.size == (side, side)
            assert one.predicted == pytest.approx(takes(one.backbone, one.size))
            assert one.predicted <= milliseconds
            assert side == LARGEST or takes(one.backbone, (side + 32, side + 32)) > milliseconds


def test_a_longer_time_never_gives_less(machine: Machine, slim_and_broad) -> None:
    chosen = [asked(slim_and_broad, milliseconds).chosen for milliseconds in (0.4, 1, 2, 4, 8, 16, 32, 64)]
    arithmetic = [one.multiply_adds for one in chosen]
    assert arithmetic == sorted(arithmetic)
    assert {one.backbone for one in chosen} == {"slim", "broad"}


def test_the_choice_is_measured_and_said(machine: Machine, slim_and_broad) -> None:
    machine.surprise = {"slim": 0.9, "broad": 0.9}
    found = asked(slim_and_broad, 8.0, threads=2)
    assert machine.measured == [(found.chosen.backbone, found.chosen.size)]
    assert found.chosen.measured == pytest.approx(0.9 * found.chosen.predicted)
    assert machine.threads == {2}
    (line,) = found.lines()
    assert line == (
        f"{found.chosen.backbone} at {found.chosen.size[0]}x{found.chosen.size[1]}: predicted "
        f"{found.chosen.predicted:.1f} ms, measured {found.chosen.measured:.1f} ms (median of 15, 2 threads)"
    )


def test_what_takes_longer_than_predicted_is_replaced_by_a_smaller_one(machine, slim_and_broad) -> None:
    first = asked(slim_and_broad, 16.0).chosen
    machine.surprise = {first.backbone: 1.2}
    machine.measured.clear()
    found = asked([first.backbone], 16.0)
    assert [one.size for one in found.refused] == [size for _, size in machine.measured[:-1]]
    sides = [size[0] for _, size in machine.measured]
    assert sides == list(range(first.size[0], found.chosen.size[0] - 1, -32))
    assert len(sides) > 1
    assert found.chosen.measured is not None
    assert found.chosen.measured <= 16.0
    assert "the next smaller one instead" in next(found.lines())


def test_at_a_given_size_the_backbone_with_the_most_arithmetic_that_fits(machine, slim_and_broad) -> None:
    size = (256, 128)
    assert takes("slim", size) < takes("broad", size)
    between = (takes("slim", size) + takes("broad", size)) / 2
    assert asked(slim_and_broad, 1.01 * takes("broad", size), size).chosen.backbone == "broad"
    found = asked(slim_and_broad, between, size)
    assert (found.chosen.backbone, found.chosen.size) == ("slim", size)
    assert {one.backbone: one.fits for one in found.candidates} == {"slim": True, "broad": False}
    machine.surprise = {"broad": 2.0}  # the lighter one is left
    assert asked(slim_and_broad, 1.01 * takes("broad", size), size).chosen.backbone == "slim"


def test_a_time_that_nothing_meets_names_the_fastest(machine: Machine, slim_and_broad) -> None:
    fastest = takes("slim", (SMALLEST, SMALLEST))
    with pytest.raises(CtnetError) as refused:
        asked(slim_and_broad, 0.5 * fastest, threads=2)
    assert str(refused.value) == (
        f"no backbone takes {0.5 * fastest:g} ms on 2 threads or less: the fastest, slim at "
        f"{SMALLEST}x{SMALLEST}, takes {fastest:.1f} ms; give --budget 1ms or more"
    )
    assert machine.measured == []
    with pytest.raises(CtnetError, match=r"slim at 256x256, takes .* or a smaller --size$"):
        asked(slim_and_broad, fastest, (256, 256))


def test_a_network_that_is_always_slower_than_predicted_is_refused(machine: Machine, slim_and_broad) -> None:
    machine.surprise = {"slim": 3.0}
    with pytest.raises(CtnetError, match="the fastest, slim at 128x128, takes"):
        asked(["slim"], 1.5 * takes("slim", (128, 128)))


def test_what_could_never_fit_is_not_measured(machine: Machine, slim_and_broad) -> None:
    budget = 1.1 * takes("slim", (SMALLEST, SMALLEST))
    assert asked(slim_and_broad, budget).skipped == {}
    seen = propose(["slim", "huge"], HEADS, Budget(budget, 1))
    assert seen.skipped == {"huge": "its arithmetic alone takes far too long"}
    assert [one.backbone for one in seen.candidates] == ["slim"]


def fickle(pretrained: bool = False) -> Backbone:
    """A backbone whose way depends on values, which a network without values cannot take."""

    class Fickle(Backbone):
        channels = hidden = 3

        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Conv2d(3, 3, 4, stride=4)

        def forward(self, images: Tensor) -> list[Tensor]:
            return [self.layer(images) if images.sum() > 0 else self.layer(-images)]

    return Fickle()


@pytest.mark.filterwarnings("ignore:batch norms of Fickle are not folded")
def test_a_network_without_a_plan_is_left_out(machine: Machine, slim_and_broad, registered_backbones) -> None:
    with registered_backbones(fickle):
        found = asked(["slim", "fickle"], 5.0)
        assert [one.backbone for one in found.candidates] == ["slim"]
        assert next(found.lines()).startswith("fickle is left out: its blocks cannot be found (")
        with pytest.raises(CtnetError, match=r"^fickle: its blocks cannot be found"):
            asked(["fickle"], 5.0)


def test_a_size_that_suits_no_backbone_is_refused(machine: Machine, slim_and_broad) -> None:
    with pytest.raises(CtnetError, match="the next size that fits is 128x96"):
        asked(slim_and_broad, 100, (100, 96))
    found = propose(["slim", "huge"], HEADS, Budget(100, 1), (96, 96))  # of which one takes it
    assert [one.backbone for one in found.candidates] == ["slim"]


def test_trunk_and_input_grow_together() -> None:
    """On the line a side twice as long goes with eight times the arithmetic per pixel."""
    balanced = Candidate("a", (256, 256), 1.0, True, 13_000 * 256 * 256)
    assert balanced.imbalance == pytest.approx(0)
    larger = Candidate("b", (512, 512), 1.0, True, 8 * 13_000 * 512 * 512)
    assert larger.imbalance == pytest.approx(0)
    assert replace(larger, size=(1024, 256)).imbalance == pytest.approx(0)  # as many pixels
    for other in (replace(balanced, size=(512, 512)), replace(balanced, multiply_adds=10**10)):
        assert other.imbalance > 0.1


def test_only_backbones_that_learn_from_scratch_are_trained(monkeypatch: pytest.MonkeyPatch) -> None:
    names = ["light16", "resnet18", "resdcn18", "resfpn18"]
    monkeypatch.setattr(choice, "list_backbones", lambda: names)
    assert trainable_backbones() == ["light16", "resfpn18"]
