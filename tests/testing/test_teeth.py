"""The kit has teeth: every way to spoil a good task is caught by the check meant for it.

``MUTATIONS`` is the list, check by check. Mistakes that people make when they write a task from docs alone
are among them (a length that does not follow the zoom, a target one cell off, an evaluator that counts
duplicates), and rarer ones: a target of weight 0, wrong cells, values of crowds trained without their
peaks, missing values trained, an image without annotations refused, unusable values accepted, a loss of
one channel alone, a length that grows with the root of the zoom, a derived angle that does not turn, a column
that ``complete`` doubles, sizes clipped to those of the scenes, overlaps of distant objects, rows lost in
``lift``, crowds that must be found, a field declared unmeasured.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from importlib.util import find_spec
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from ctnet.backbones import Backbone
from ctnet.base.errors import CtnetError
from ctnet.core.declarations import Scenes
from ctnet.core.evaluator import Evaluator, metric
from ctnet.core.fields import Angle, Field, Length, Points, Value
from ctnet.core.frames import Frames, Identity
from ctnet.core.geometry import Affine
from ctnet.core.heads import Head, Heatmap, Regression
from ctnet.core.losses import Loss
from ctnet.core.options import option
from ctnet.core.records import Detections
from ctnet.core.tally import JoinedTally, Matches, Tally
from ctnet.core.targets import CellTargets, DenseTargets, Peaks
from ctnet.core.task import Task
from ctnet.core.tracking import OverlapTracker
from ctnet.data.shape_scenes import SHAPES, draw_scene
from ctnet.evaluation import CocoBoxEvaluator
from ctnet.heatmap import find_peaks, gather
from ctnet.ops.boxes import box_iou
from ctnet.tasks.ctdet import CenterDetection
from ctnet.testing import (
    BACKBONE_CHECKS,
    TASK_CHECKS,
    ContractViolation,
    backbone_checks,
    check_backbone,
    check_task,
    task_checks,
)

# --- a good task: boxes with a left and a right hand, and their reach


@dataclasses.dataclass(frozen=True)
class HandOptions:
    hand_weight: float = option(1.0, "weight of the hands")


@dataclasses.dataclass(frozen=True)
class HandOffsets(Regression):
    """Offsets of left and right hand, which swap in the mirror."""

    def mirror(self, activated: Tensor) -> Tensor | None:
        left_x, left_y, right_x, right_y = activated.flip(-1).unbind(1)
        return torch.stack([-right_x, right_y, -left_x, left_y], dim=1)


class HandEvaluator(CocoBoxEvaluator):
    """COCO's figures, and the share of objects found with both hands and their reach, to two pixels."""

    needs_all = True

    def __init__(self, truth: Any, *rest: Any) -> None:
        super().__init__(truth, *rest)
        self.entries = truth["annotations"]

    def compute(self) -> dict[str, float]:
        objects = [entry for entry in self.entries if not entry["iscrowd"]]
        return {**super().compute(), "hands": float(np.mean([self._is_found(entry) for entry in objects]))}

    def _is_found(self, entry: Any) -> bool:
        found = self.state().get(entry["image_id"])
        if found is None:
            return False
        hands = np.array(entry["hands"]).reshape(1, 2, 2)
        near = (np.abs(found.hands - hands) < 2).all(axis=(1, 2))
        return bool((near & (np.abs(found.reach - entry["arms"]["reach"]) < 2)).any())


#: Scenes by state of the generator and size: a hundred tasks draw the same ones.
DRAWN: dict[tuple[str, tuple[int, int]], Any] = {}


def draw_hands(rng: np.random.Generator, size: tuple[int, int]) -> Any:
    key = (str(rng.bit_generator.state), size)
    if key not in DRAWN:
        DRAWN[key] = _draw_hands(rng, size)
    return DRAWN[key]


def _draw_hands(rng: np.random.Generator, size: tuple[int, int]) -> Any:
    scene = draw_scene(rng, size)
    low, high = scene.instances.boxes[:, None, :2], scene.instances.boxes[:, None, 2:]
    hands = (low + rng.random((len(low), 2, 2)) * (high - low)).astype(np.float32)
    reach = (high - low).max(axis=(1, 2)) / 2
    return dataclasses.replace(scene, instances=scene.instances.replace(hands=hands, reach=reach))


class Hands(CenterDetection):
    """Boxes with two hands: heads heatmap, size, offset, hand_offsets, far; fields ``hands``, ``reach``."""

    name = "hands"
    metrics: ClassVar[Any] = {"hands": metric(HandEvaluator)}
    Options = HandOptions
    scenes = Scenes(SHAPES, draw_hands)
    fields: ClassVar[dict[str, Field]] = {
        "hands": Points(json="hands", n=2, swap=(1, 0)),
        "reach": Length(json="arms.reach"),
    }

    def __init__(self, categories: Any, **options: Any) -> None:
        Task.__init__(self, categories, **options)
        self.heads = {
            "heatmap": Heatmap(len(self.categories)),
            "size": Regression(2, symmetric=True),
            "offset": Regression(2),
            "hand_offsets": HandOffsets(4, weight=self.options.hand_weight),
            "far": Regression(1, symmetric=True),
        }

    # ctdet's own code needs options that hands do not have.
    def encode(self, instances: Any, grid: Any) -> Any:
        plain = CenterDetection(self.categories, crowd="ignore").encode(instances, grid)
        boxes = np.clip(instances.boxes, 0, [grid.width - 1, grid.height - 1] * 2)
        seen = (boxes[:, 2:] > boxes[:, :2]).all(1) & ~instances.crowd
        cell = np.stack([plain["size"].x, plain["size"].y], 1)
        return {
            **plain,
            "hand_offsets": CellTargets.of(cell, (instances.hands[seen] - cell[:, None]).reshape(-1, 4)),
            "far": CellTargets.of(cell, instances.reach[seen, None]),
        }

    def decode(self, maps: Any, k: int) -> Detections:
        found = CenterDetection(self.categories).decode(maps, k)
        peaks = find_peaks(maps["heatmap"], k)
        cell = torch.stack([peaks.x, peaks.y], 2).unsqueeze(2)
        hands = gather(maps["hand_offsets"], peaks).reshape(len(found), -1, 2, 2) + cell
        reach = gather(maps["far"], peaks).squeeze(2)
        return Detections(found.boxes, found.scores, found.labels, {"hands": hands, "reach": reach})


@task_checks(Hands)
def test_the_good_task_passes(task, check) -> None:
    check(task)


# --- and every way to spoil it

MUTATIONS: list[tuple[str, str, type[Task]]] = []


def caught_by(check: str) -> Callable[[type[Task]], type[Task]]:
    """Say which check catches the mutation that the class's docstring names."""

    def add(mutant: type[Task]) -> type[Task]:
        mutation = mutant.__doc__ or ""
        if mutation != "no docstring":
            mutant.__doc__ = Hands.__doc__
        MUTATIONS.append((check, mutation, mutant))
        return mutant

    return add


def head(**changes: Any) -> Callable[[str, Hands], None]:
    """Exchange methods or fields of one of a task's heads."""

    def change(name: str, task: Hands) -> None:
        old = task.heads[name]
        methods = {key: value for key, value in changes.items() if callable(value)}
        kind = dataclasses.dataclass(frozen=True)(type("Changed", (type(old),), methods))
        fields = {field.name: getattr(old, field.name) for field in dataclasses.fields(old)}
        rest = {key: value for key, value in changes.items() if not callable(value)}
        task.heads = {**task.heads, name: kind(**{**fields, **rest})}

    return change


def changed_field(name: str, kind: type[Field] | None = None, **changes: Any) -> dict[str, Field]:
    """The fields of hands, one of them with other attributes or of another kind."""
    old: Any = Hands.fields[name]
    attributes = {field.name: getattr(old, field.name) for field in dataclasses.fields(old)}
    return {**Hands.fields, name: (kind or type(old))(**{**attributes, **changes})}


def drawn(change: Callable[[Any], Any]) -> Scenes:
    """The scenes of hands, changed after they are drawn."""
    return dataclasses.replace(Hands.scenes, draw=lambda rng, size: change(draw_hands(rng, size)))


class WithHead(Hands):
    changed: ClassVar[tuple[str, Any]]

    def __init__(self, categories: Any, **options: Any) -> None:
        super().__init__(categories, **options)
        name, change = self.changed
        change(name, self)


# the law


@caught_by("the_round_trip_holds")
class SwappedAxis(Hands):
    """decode swaps width and height"""

    def decode(self, maps: Any, k: int) -> Detections:
        return super().decode({**maps, "size": maps["size"].flip(1)}, k)


@caught_by("the_round_trip_holds")
class HalfAPixel(Hands):
    """decode is off by half a pixel of the image"""

    def decode(self, maps: Any, k: int) -> Detections:
        found = super().decode(maps, k)
        return found.replace(boxes=found.boxes + 0.125)


@caught_by("the_round_trip_holds")
class HandsFromCentre(Hands):
    """hands are encoded from the cell and decoded from the centre"""

    def decode(self, maps: Any, k: int) -> Detections:
        found = super().decode(maps, k)
        middle = (found.boxes[..., :2] + found.boxes[..., 2:]) / 2
        return found.replace(hands=found.hands + (middle - middle.floor()).unsqueeze(2))


@caught_by("targets_move_with_their_cells")
class AbsoluteValues(Hands):
    """offsets are taught as places on the grid, which decode takes apart again"""

    def encode(self, instances: Any, grid: Any) -> Any:
        targets = super().encode(instances, grid)
        offset = targets["offset"]
        place = torch.stack([offset.x, offset.y], dim=1)
        return {**targets, "offset": dataclasses.replace(offset, value=offset.value + place)}


@caught_by("the_round_trip_holds")
class LostObject(Hands):
    """encode forgets the last object"""

    def encode(self, instances: Any, grid: Any) -> Any:
        return super().encode(instances[: max(1, len(instances) - 1)], grid)


@caught_by("the_round_trip_holds")
class Ghost(Hands):
    """the rendered heatmap holds a peak that is not an object"""

    def encode(self, instances: Any, grid: Any) -> Any:
        targets = super().encode(instances, grid)
        ghost = Peaks.of(
            np.full((len(instances[:1]), 2), 1.5), np.zeros(len(instances[:1])), [0] * len(instances[:1])
        )
        joined = {
            name: torch.cat([getattr(targets["heatmap"], name), getattr(ghost, name)])
            for name in ("batch", "x", "y", "radius", "channel", "positive")
        }
        cells = targets["heatmap"].cells + ghost.cells
        return {**targets, "heatmap": Peaks(**joined, cells=cells)}


@caught_by("the_round_trip_holds")
class AllCollide(Hands):
    """every object is said to collide"""

    def collides(self, instances: Any, grid: Any) -> Any:
        return np.ones(len(instances), bool)


def _shifted(target: CellTargets, x: int, y: int, grid: Any) -> CellTargets:
    """The same values, taught in the cell beside or below."""
    moved = {"x": (target.x + x).clamp(max=grid.width - 1), "y": (target.y + y).clamp(max=grid.height - 1)}
    return dataclasses.replace(target, **moved)


@caught_by("the_round_trip_holds_at_single_cells")
class OneBelow(Hands):
    """a target is placed one cell below the object's"""

    def encode(self, instances: Any, grid: Any) -> Any:
        targets = super().encode(instances, grid)
        return {**targets, "size": _shifted(targets["size"], 0, 1, grid)}


@caught_by("the_round_trip_holds_at_single_cells")
class OneRight(Hands):
    """a target is placed one cell to the right of the object's"""

    def encode(self, instances: Any, grid: Any) -> Any:
        targets = super().encode(instances, grid)
        return {**targets, "far": _shifted(targets["far"], 1, 0, grid)}


@caught_by("the_round_trip_holds_at_single_cells")
class Masked(Hands):
    """a target's weight is 0, so it is trained nowhere"""

    def encode(self, instances: Any, grid: Any) -> Any:
        targets = super().encode(instances, grid)
        nothing = torch.zeros_like(targets["far"].weight)
        return {**targets, "far": dataclasses.replace(targets["far"], weight=nothing)}


@caught_by("the_round_trip_holds_under_zoom")
class CutSizes(Hands):
    """decode cuts sizes to those of the example scenes"""

    def decode(self, maps: Any, k: int) -> Detections:
        return super().decode({**maps, "size": maps["size"].clamp(max=24)}, k)


# the mirror


@caught_by("encode_commutes_with_mirroring")
class MissingMirror(WithHead):
    """a head's mirror does not mirror"""

    changed = ("size", head(mirror=lambda self, activated: activated))


@caught_by("encode_commutes_with_mirroring")
class MissingMirrorOfHeatmap(WithHead):
    """the heatmap's mirror does not mirror"""

    changed = ("heatmap", head(mirror=lambda self, activated: activated))


@caught_by("encode_commutes_with_mirroring")
class WrongSwap(Hands):
    """the mirror does not take the left hand for the right one"""

    fields: ClassVar[Any] = changed_field("hands", swap=())


@caught_by("encode_commutes_with_mirroring")
class WrongSwapOfMaps(WithHead):
    """a head's mirror exchanges x and y where it should exchange left and right"""

    changed = ("hand_offsets", head(mirror=lambda self, activated: activated.flip(-1)[:, [1, 0, 3, 2]]))


@caught_by("encode_commutes_with_mirroring")
class ExchangedHeads(Hands):
    """two heads without sides swap in the mirror"""

    def __init__(self, categories: Any, **options: Any) -> None:
        super().__init__(categories, **options)
        offset = dataclasses.replace(self.heads["offset"], symmetric=True, twin="size")
        self.heads = {**self.heads, "size": Regression(2, symmetric=True, twin="offset"), "offset": offset}


@caught_by("head_mirror_of_mirror_is_the_identity")
class MirrorLosesAChannel(WithHead):
    """a head's mirror leaves a channel out"""

    changed = ("size", head(mirror=lambda self, activated: activated.flip(-1)[:, :1]))


class MirroredInTheBox(Points):
    def move(self, name: str, columns: Any, affine: Any) -> Any:
        return {}

    def mirror(self, name: str, columns: Any) -> Any:
        hands = columns[name].copy()
        hands[..., 0] = columns["boxes"][:, None, [0, 2]].sum(axis=2) - hands[..., 0]
        return {name: hands}


@caught_by("mirror_moves_every_point")
class UnmovedInstances(Hands):
    """hands are not moved with the image, but mirrored in their boxes"""

    fields: ClassVar[Any] = changed_field("hands", MirroredInTheBox)


class MirroredOneFurther(Points):
    def mirror(self, name: str, columns: Any) -> Any:
        return {name: super().mirror(name, columns)[name] + np.float32([1, 0])}


@caught_by("mirror_moves_every_point")
class MirrorOffByOne(Hands):
    """the mirror moves what is moved already, by one"""

    fields: ClassVar[Any] = changed_field("hands", MirroredOneFurther)


@caught_by("mirror_of_mirror_is_the_identity")
class MirrorForgets(Hands):
    """the mirror puts the left hand where the right one was, too"""

    fields: ClassVar[Any] = changed_field("hands", swap=(0, 0))


@caught_by("mirrored_values_hold_at_fractions")
class SymmetricOffsets(WithHead):
    """offsets are declared symmetric in the mirror"""

    changed = ("offset", head(symmetric=True))


@caught_by("mirrored_values_hold_at_fractions")
class SymmetricHands(WithHead):
    """hands keep their offsets in the mirror, as if half a cell did not matter"""

    changed = ("hand_offsets", head(mirror=lambda self, activated: activated.flip(-1)[:, [2, 3, 0, 1]]))


@caught_by("head_mirror_of_mirror_is_the_identity")
class RollingMirror(WithHead):
    """a head's mirror rotates its channels"""

    changed = ("hand_offsets", head(mirror=lambda self, activated: activated.flip(-1).roll(1, 1)))


# encode


@caught_by("encode_stays_in_range")
class SwappedCells(Hands):
    """encode writes x where y belongs"""

    def encode(self, instances: Any, grid: Any) -> Any:
        targets = super().encode(instances, grid)
        offset = targets["offset"]
        return {**targets, "offset": dataclasses.replace(offset, x=offset.y, y=offset.x)}


@caught_by("encode_stays_in_range")
class UncutObjects(Hands):
    """encode keeps objects whose centre lies outside the grid"""

    def encode(self, instances: Any, grid: Any) -> Any:
        boxes = instances.boxes
        cell = ((boxes[:, :2] + boxes[:, 2:]) / 2).astype(int)
        targets = super().encode(instances, grid)
        return {**targets, "size": CellTargets.of(cell, boxes[:, 2:] - boxes[:, :2])}


@caught_by("encode_stays_in_range")
class WrongCells(Hands):
    """peaks miscount the cells they cover"""

    def encode(self, instances: Any, grid: Any) -> Any:
        targets = super().encode(instances, grid)
        return {**targets, "heatmap": dataclasses.replace(targets["heatmap"], cells=1)}


@caught_by("encode_takes_an_empty_image")
class NoEmptyImages(Hands):
    """encode reads the first object without asking whether there is one"""

    def encode(self, instances: Any, grid: Any) -> Any:
        assert instances.labels[0] >= 0
        return super().encode(instances, grid)


@caught_by("encode_takes_missing_values")
class TeachesWhatIsMissing(Hands):
    """a value that may be missing is trained all the same"""

    fields: ClassVar[Any] = changed_field("reach", needed="never")


@caught_by("encode_leaves_instances_alone")
class InPlace(Hands):
    """encode moves the boxes that it is given"""

    def encode(self, instances: Any, grid: Any) -> Any:
        targets = super().encode(instances, grid)
        instances.boxes[:] += 1
        return targets


@caught_by("objects_have_peaks_in_their_cells")
class NoneAtTheBorder(Hands):
    """objects at the border are not encoded"""

    def encode(self, instances: Any, grid: Any) -> Any:
        boxes = instances.boxes
        whole = (boxes >= 0).all(1) & (boxes <= [grid.width - 1, grid.height - 1] * 2).all(1)
        return super().encode(instances[whole], grid)


@caught_by("objects_have_peaks_in_their_cells")
class CellsElsewhere(Hands):
    """cells are those of the boxes' upper left corners"""

    def cells(self, instances: Any, grid: Any) -> Any:
        return np.where(super().cells(instances, grid) < 0, -1, instances.boxes[:, :2].clip(0)).astype(int)


@caught_by("objects_have_peaks_in_their_cells")
class NoCells(Hands):
    """objects that the border cuts are said to have no cell"""

    def cells(self, instances: Any, grid: Any) -> Any:
        limits = [grid.width - 1, grid.height - 1] * 2
        cut = ((instances.boxes < 0) | (instances.boxes > limits)).any(1, keepdims=True)
        return np.where(cut, -1, super().cells(instances, grid))


@caught_by("crowds_follow_their_option")
class CrowdsAsObjects(Hands):
    """crowds are trained as objects"""

    def encode(self, instances: Any, grid: Any) -> Any:
        return super().encode(instances.replace(crowd=np.zeros(len(instances), bool)), grid)


@caught_by("crowds_follow_their_option")
class SizesOfCrowds(Hands):
    """crowds are not positives, but their sizes are trained"""

    def encode(self, instances: Any, grid: Any) -> Any:
        everyone = CrowdsAsObjects.encode(self, instances, grid)  # type: ignore[arg-type]
        return {**everyone, "heatmap": super().encode(instances, grid)["heatmap"]}


# whole maps


@dataclasses.dataclass(frozen=True)
class FarMap(Head):
    """The reach of objects as windows of a cell each."""

    def loss(self, predicted: Tensor, target: Any) -> Loss:
        cells = target.unpacked()
        apart = (cells.gather(predicted) - cells.value.to(predicted.dtype)).abs().sum(dim=1)
        weight = target.weight.to(apart.dtype)[cells.row]
        return Loss((weight * apart).sum(), target.weight.sum())

    def render(self, target: Any, grid: Any) -> Tensor:
        return target.draw((grid.batch, self.channels, grid.height, grid.width))


class Reaching(Hands):
    """Hands whose reach is a target of a whole map: heads heatmap, size, offset, hand_offsets, far; fields
    ``hands``, ``reach``."""

    oracles: ClassVar[Any] = {"body": ("size", "offset")}

    def __init__(self, categories: Any, **options: Any) -> None:
        super().__init__(categories, **options)
        self.heads = {**self.heads, "far": FarMap(1)}

    def encode(self, instances: Any, grid: Any) -> Any:
        targets = super().encode(instances, grid)
        single = targets["far"]
        windows = [np.full((1, 1, 1), value, np.float32) for value in single.value[:, 0].tolist()]
        corners = np.stack([single.x, single.y], axis=1)
        return {**targets, "far": DenseTargets.of(corners, windows, 1)}


@task_checks(Reaching)
def test_the_good_task_with_whole_maps_passes(task, check) -> None:
    check(task)


class WithFar(Reaching):
    changes: ClassVar[Callable[[DenseTargets, Any], dict[str, Any]]]

    def encode(self, instances: Any, grid: Any) -> Any:
        targets = super().encode(instances, grid)
        far = targets["far"]
        return {**targets, "far": dataclasses.replace(far, **type(self).changes(far, grid))}


@caught_by("encode_stays_in_range")
class WindowsBeyond(WithFar):
    """a window ends outside the grid"""

    changes = staticmethod(
        lambda far, grid: {"x": torch.full_like(far.x, grid.width - 1), "width": far.width + 1}
    )


@caught_by("encode_stays_in_range")
class MiscountedWindows(WithFar):
    """windows have other cells than is said"""

    changes = staticmethod(lambda far, grid: {"cells": far.cells + 1})


@caught_by("encode_stays_in_range")
class NegativeWindows(WithFar):
    """the weight of a window is negative"""

    changes = staticmethod(lambda far, grid: {"weight": -far.weight})


@caught_by("crowds_follow_their_option")
class WindowsOfCrowds(Reaching):
    """crowds are not positives, but their windows are trained"""

    def encode(self, instances: Any, grid: Any) -> Any:
        everyone = super().encode(instances.replace(crowd=np.zeros(len(instances), bool)), grid)
        return {**super().encode(instances, grid), "far": everyone["far"]}


@caught_by("loss_ignores_weight_zero")
class PullsInWindows(Reaching):
    """a loss counts windows of weight 0"""

    def losses(self, predicted: Any, targets: Any) -> dict[str, Loss]:
        far = targets["far"]
        heavy = dataclasses.replace(far, weight=torch.ones_like(far.weight))
        return super().losses(predicted, {**targets, "far": heavy})


@caught_by("the_round_trip_holds_at_single_cells")
class ReadsBeside(Reaching):
    """decode reads a whole map outside the windows that are taught"""

    def decode(self, maps: Any, k: int) -> Detections:
        return super().decode({**maps, "far": maps["far"].roll(1, 3)}, k)


@caught_by("heads_are_declared")
class OracleOfNothing(Hands):
    """a group of heads for the oracles names a head that does not exist"""

    oracles: ClassVar[Any] = {"arm": ("far", "near")}


# losses


def _plain(predicted: Tensor, target: Any) -> Loss:
    return Regression(2).loss(predicted, target)


def _mean(self: Any, predicted: Tensor, target: Any) -> Loss:
    loss = _plain(predicted, target)
    return Loss(loss.total / loss.count.clamp(min=1), torch.ones_like(loss.count))


def _nan_without_objects(self: Any, predicted: Tensor, target: Any) -> Loss:
    loss = _plain(predicted, target)
    return Loss(loss.total / loss.count * loss.count, loss.count)


def _pulls_everywhere(self: Any, predicted: Tensor, target: Any) -> Loss:
    loss = _plain(predicted, target)
    return Loss(loss.total + 0.01 * predicted.square().sum(), loss.count)


def _looks_everywhere(self: Any, predicted: Tensor, target: Any) -> Loss:
    loss = _plain(predicted, target)
    return Loss(loss.total / (1 + predicted.detach().square().mean()), loss.count)


def _negative(self: Any, predicted: Tensor, target: Any) -> Loss:
    loss = _plain(predicted, target)
    return Loss(-loss.total, loss.count)


def _counts_errors(self: Any, predicted: Tensor, target: Any) -> Loss:
    wrong = (predicted - target.value).abs() > 0.5
    return Loss(_plain(predicted, target).total, wrong.sum())


def _first_channel(predicted: Tensor, target: Any) -> Loss:
    first = torch.cat([predicted[:, :1], target.value[:, 1:].to(predicted.dtype)], dim=1)
    return _plain(first, target)


@caught_by("parts_give_the_gradients_of_the_whole")
class MeanOfABatch(WithHead):
    """a loss is the mean over what its batch happens to hold"""

    changed = ("size", head(loss=_mean))


@caught_by("parts_give_the_gradients_of_the_whole")
class ScaledByTheBatch(Hands):
    """losses of a task grow with the number of images"""

    def losses(self, predicted: Any, targets: Any) -> dict[str, Loss]:
        images = len(predicted["heatmap"])
        losses = super().losses(predicted, targets)
        return {name: Loss(images * loss.total, loss.count) for name, loss in losses.items()}


@caught_by("counts_depend_on_targets_alone")
class CountsErrors(WithHead):
    """a loss is divided by the number of values that are off"""

    changed = ("offset", head(loss=_counts_errors))


@caught_by("a_teacher_changes_no_count")
class TeacherAddsPositives(Hands):
    """an unmarked object that a teacher sees becomes a positive"""

    def taught(self, targets: Any, seen: Any) -> Any:
        peaks = targets["heatmap"]
        moved = dataclasses.replace(peaks, x=peaks.x + 3, y=peaks.y + 2)
        joined = dataclasses.replace(
            peaks,
            **{
                name: torch.cat([getattr(peaks, name), getattr(moved, name)])
                for name in ("batch", "x", "y", "radius", "channel", "positive")
            },
            cells=2 * peaks.cells,
        )
        return {**targets, "heatmap": joined}


@caught_by("a_teacher_changes_no_count")
class TeacherChangesTargets(Hands):
    """a teacher's values are written into the targets that were given"""

    def taught(self, targets: Any, seen: Any) -> Any:
        targets["size"].value.mul_(2)
        return targets


def _softens_weights(self: Any, target: Any, seen: Any, share: float) -> Any:
    return dataclasses.replace(target, weight=target.weight * target.gather(seen).sigmoid())


@caught_by("a_teacher_changes_no_count")
class TeacherWeighs(WithHead):
    """a head trusts its teacher more at some objects, and counts them more"""

    changed = ("offset", head(soften=_softens_weights))


@caught_by("loss_takes_an_empty_image")
class NaNOnEmptyImages(WithHead):
    """a loss divides by the number of objects, and gives NaN without any"""

    changed = ("offset", head(loss=_nan_without_objects))


@caught_by("loss_takes_an_empty_image")
class NoLossOnEmptyImages(Hands):
    """a loss is left out where there is nothing to learn"""

    def losses(self, predicted: Any, targets: Any) -> dict[str, Loss]:
        losses = super().losses(predicted, targets)
        return {name: loss for name, loss in losses.items() if len(targets[name])}


@caught_by("loss_ignores_weight_zero")
class PullsEverywhere(WithHead):
    """a loss has a gradient where nothing counts"""

    changed = ("offset", head(loss=_pulls_everywhere))


@caught_by("loss_ignores_weight_zero")
class LooksEverywhere(WithHead):
    """a loss depends on values that do not count, though it has no gradient there"""

    changed = ("offset", head(loss=_looks_everywhere))


@caught_by("loss_is_lower_for_rendered_maps")
class WrongWay(WithHead):
    """a loss rewards errors"""

    changed = ("size", head(loss=_negative))


@caught_by("loss_is_lower_for_rendered_maps")
class WrongActivation(WithHead):
    """a head activates what its loss does not"""

    changed = ("offset", head(activate=lambda self, raw: raw.sigmoid()))


@caught_by("loss_is_finite_and_differentiable")
class Detached(WithHead):
    """a loss cuts the graph"""

    changed = ("size", head(loss=lambda self, predicted, target: _plain(predicted.detach(), target)))


@caught_by("loss_is_finite_and_differentiable")
class Rounded(WithHead):
    """a loss has no gradient, since it rounds"""

    changed = ("far", head(loss=lambda self, predicted, target: _plain(predicted.round(), target)))


@caught_by("loss_is_finite_and_differentiable")
class OneChannel(WithHead):
    """a loss reads the first channel alone"""

    changed = ("size", head(loss=lambda self, predicted, target: _first_channel(predicted, target)))


@caught_by("loss_is_finite_and_differentiable")
class PlainNumber(WithHead):
    """a loss is a total without a count"""

    changed = ("size", head(loss=lambda self, predicted, target: _plain(predicted, target).total))


# decode


@caught_by("batch_equals_one_by_one")
class BatchOrder(Hands):
    """decode reads the offsets of the first image for all of the batch"""

    def decode(self, maps: Any, k: int) -> Detections:
        return super().decode({**maps, "offset": maps["offset"][:1].expand_as(maps["offset"])}, k)


@caught_by("batch_equals_one_by_one")
class BatchNormalised(Hands):
    """decode scales scores by the best one of the batch"""

    def decode(self, maps: Any, k: int) -> Detections:
        found = super().decode(maps, k)
        return found.replace(scores=found.scores / found.scores.max().clamp(min=1e-6))


@caught_by("batch_equals_one_by_one")
class TiesByPosition(Hands):
    """the order of detections with equal scores depends on their image's place in the batch"""

    def decode(self, maps: Any, k: int) -> Detections:
        found = super().decode(maps, k)
        turned = {name: column.flip(1) for name, column in found.fields().items()}
        order = turned["scores"].argsort(dim=1, descending=True, stable=True)
        rows, odd = torch.arange(len(order))[:, None], torch.arange(len(order)) % 2 == 1
        columns = {name: column.clone() for name, column in found.fields().items()}
        for name, column in turned.items():
            columns[name][odd] = column[rows, order][odd]
        return Detections._of(columns)


@caught_by("grids_can_be_merged")
class AsWideAsTheGrid(Hands):
    """a column of detections is as wide as the grid"""

    def decode(self, maps: Any, k: int) -> Detections:
        found = super().decode(maps, k)
        profile = maps["heatmap"].amax(dim=(1, 2))[:, None]
        return found.replace(profile=profile.expand(-1, found.scores.shape[1], -1))


@caught_by("grids_can_be_merged")
class LiftsWhatIsThere(Hands):
    """lift adds a column only where something was found"""

    def lift(self, detections: Any, view: Any) -> Any:
        return detections.replace(area=detections.reach**2) if len(detections) else detections


@caught_by("grids_can_be_merged")
class LiftsTheBest(Hands):
    """lift leaves rows out"""

    def lift(self, detections: Any, view: Any) -> Any:
        return detections[:5]


@caught_by("overlap_is_a_fraction")
class Percent(Hands):
    """overlaps are percentages"""

    def overlap(self, a: Any, b: Any) -> Any:
        return 100 * super().overlap(a, b)


@caught_by("overlap_is_a_fraction")
class NotItself(Hands):
    """an object overlaps itself by half"""

    def overlap(self, a: Any, b: Any) -> Any:
        return super().overlap(a, b) / 2


@caught_by("overlap_is_a_fraction")
class PartOfTheFirst(Hands):
    """overlaps are shares of the first object, so not symmetric"""

    def overlap(self, a: Any, b: Any) -> Any:
        low = np.maximum(a.boxes[:, None, :2], b.boxes[None, :, :2])
        high = np.minimum(a.boxes[:, None, 2:], b.boxes[None, :, 2:])
        own = (a.boxes[:, 2:] - a.boxes[:, :2]).prod(1, keepdims=True)
        return (high - low).clip(0).prod(2) / own


@caught_by("overlap_is_a_fraction")
class Far(Hands):
    """objects far apart overlap as much as they are alike in size"""

    def overlap(self, a: Any, b: Any) -> Any:
        one, other = a.reach[:, None], b.reach[None]
        return np.minimum(one, other) / np.maximum(one, other)


@caught_by("decode_gives_the_best_first")
class UnstableOrder(Hands):
    """decode orders rows by their label"""

    def decode(self, maps: Any, k: int) -> Detections:
        found = super().decode(maps, k)
        order = found.labels.argsort(dim=1)
        rows = torch.arange(len(order))[:, None]
        return Detections._of({name: column[rows, order] for name, column in found.fields().items()})


@caught_by("decode_gives_the_best_first")
class TooFewRows(Hands):
    """decode drops rows of low score"""

    def decode(self, maps: Any, k: int) -> Detections:
        found = super().decode(maps, k)
        return Detections._of({name: column[:, : k - 3] for name, column in found.fields().items()})


@caught_by("decode_takes_a_blank_image")
class NoBlankImages(Hands):
    """decode divides by the best score"""

    def decode(self, maps: Any, k: int) -> Detections:
        found = super().decode(maps, k)
        return found.replace(scores=found.scores / found.scores[:, :1])


@caught_by("decode_exports")
class Branches(Hands):
    """decode branches on values"""

    def decode(self, maps: Any, k: int) -> Detections:
        found = super().decode(maps, k)
        return found if found.scores.max() > 0.5 else found.replace(boxes=found.boxes + 1)


# scenes and annotations


@caught_by("example_is_reproducible")
class GlobalRandomness(Hands):
    """scenes are drawn from the global generator"""

    scenes = dataclasses.replace(
        Hands.scenes,
        draw=lambda rng, size: draw_hands(np.random.default_rng(np.random.randint(1 << 30)), size),
    )


@caught_by("example_is_reproducible")
class AlwaysTheSame(Hands):
    """drawing ignores its generator"""

    scenes = dataclasses.replace(
        Hands.scenes, draw=lambda rng, size: draw_hands(np.random.default_rng(0), size)
    )


def _doubled(scene: Any) -> Any:
    boxes = Affine.scaling(2).boxes(scene.instances.boxes)
    return dataclasses.replace(scene, instances=scene.instances.replace(boxes=boxes))


@caught_by("example_is_valid")
class BoxesOutside(Hands):
    """scenes have boxes that leave the image"""

    scenes = drawn(_doubled)


@caught_by("annotations_survive_a_file")
class LosesHands(Hands):
    """annotations hold the hands rounded to ten pixels"""

    fields: ClassVar[Any] = changed_field("hands", digits=-1)


# fields


class WithColumn(Hands):
    """With a column that follows from the others."""

    declared: ClassVar[Field]

    def __init__(self, categories: Any, **options: Any) -> None:
        super().__init__(categories, **options)
        self.fields = {**Hands.fields, "more": self.declared}

    def complete(self, instances: Any, image: Any) -> Any:
        return instances.replace(more=self.more(instances).astype(np.float32))

    def more(self, instances: Any) -> np.ndarray:
        return np.zeros(len(instances))


@caught_by("lengths_are_declared_as_such")
class ReachUnderZoom(Hands):
    """a length is declared a plain value, and does not follow the zoom"""

    fields: ClassVar[Any] = {**Hands.fields, "reach": Value(json="arms.reach")}


@caught_by("lengths_are_declared_as_such")
class PixelsUnderZoom(Hands):
    """a value in pixels does not follow the zoom"""

    fields: ClassVar[Any] = {**Hands.fields, "reach": Value(json="arms.reach", unit="px")}


@caught_by("fields_move_with_the_image")
class DerivedUnderZoom(WithColumn):
    """a length that is derived is declared a plain value"""

    declared = Value(json="")

    def more(self, instances: Any) -> np.ndarray:
        return np.linalg.norm(instances.hands[:, 1] - instances.hands[:, 0], axis=1)


@caught_by("fields_move_with_the_image")
class AngleThatStays(WithColumn):
    """an angle in the image does not turn with it"""

    declared = Angle(json="")

    def more(self, instances: Any) -> np.ndarray:
        across, down = (instances.hands[:, 1] - instances.hands[:, 0]).T
        return np.arctan2(down, across)


class RootOfZoom(Length):
    def move(self, name: str, columns: Any, affine: Any) -> Any:
        return {name: np.sqrt(columns[name] * super().move(name, columns, affine)[name])}


@caught_by("fields_move_with_the_image")
class LengthAsAnArea(Hands):
    """a length grows with the root of the zoom"""

    fields: ClassVar[Any] = changed_field("reach", RootOfZoom)


@caught_by("images_without_annotations_are_read")
class NeedsAnObject(Hands):
    """complete reads the first object without asking whether there is one"""

    def complete(self, instances: Any, image: Any) -> Any:
        assert instances.reach[0] > 0
        return instances


class Undemanding(Length):
    def error(self, value: Any, found: bool = False, image: Any = None) -> str | None:
        return None


class Strict(Length):
    def error(self, value: Any, found: bool = False, image: Any = None) -> str | None:
        return super().error(value) or (None if value == int(value) else f"is {value}, not whole")


@caught_by("unusable_values_are_refused")
class TakesAnything(Hands):
    """a field takes every value"""

    fields: ClassVar[Any] = changed_field("reach", Undemanding)


@caught_by("unusable_values_are_refused")
class RefusesItsOwn(Hands):
    """a field refuses values that it writes itself"""

    fields: ClassVar[Any] = changed_field("reach", Strict)


class ReadDoubled(Length):
    def read(self, name: str, values: Any, found: bool = False) -> Any:
        return {name: 2 * super().read(name, values, found)[name]}

    def write(self, name: str, columns: Any, found: bool = False) -> Any:
        return super().write(name, {name: columns[name] / 2}, found)


class FoundDoubled(ReadDoubled):
    def read(self, name: str, values: Any, found: bool = False) -> Any:
        return (ReadDoubled if found else Length).read(self, name, values, found)

    def write(self, name: str, columns: Any, found: bool = False) -> Any:
        return (ReadDoubled if found else Length).write(self, name, columns, found)


@caught_by("annotations_are_read_by_their_keys")
class Diameter(Hands):
    """a field is read as its double, and written as its half"""

    fields: ClassVar[Any] = changed_field("reach", ReadDoubled)


@caught_by("annotations_are_read_by_their_keys")
class CompletedTwice(Hands):
    """complete changes a column that was read"""

    def complete(self, instances: Any, image: Any) -> Any:
        return instances.replace(reach=2 * instances.reach)


@caught_by("results_are_read_by_their_keys")
class FoundDiameter(Hands):
    """results hold the half of a field"""

    fields: ClassVar[Any] = changed_field("reach", FoundDoubled)


class OtherTruth(Points):
    def as_found(self, name: str, columns: Any) -> Any:
        return {name: columns[name][:, ::-1]}


@caught_by("truth_is_what_is_annotated")
class TruthSwapsHands(Hands):
    """the truth has the hands in another order than the annotation"""

    fields: ClassVar[Any] = changed_field("hands", OtherTruth)


class Blind(Points):
    def as_found(self, name: str, columns: Any) -> Any:
        return {name: columns[name].round(-1)}


@caught_by("truth_is_what_is_annotated")
class BluntTruth(Hands):
    """the truth is less exact than the annotation"""

    fields: ClassVar[Any] = changed_field("hands", Blind)


# results


class DeafEvaluator(HandEvaluator):
    def merge(self, states: Any) -> None:
        super().merge(list(states)[:1])


class StaleEvaluator(HandEvaluator):
    def compute(self) -> dict[str, float]:
        figures = super().compute()
        return {**figures, "AP50": figures["AP50"] ** 2}


class ProudEvaluator(HandEvaluator):
    def compute(self) -> dict[str, float]:
        return {name: 100 * value for name, value in super().compute().items()}


class SwappedEvaluator(HandEvaluator):
    def tally(self) -> Tally:
        return Swapped(super().tally())


class Swapped(JoinedTally):
    """What is right is kept as wrong, and the reverse."""

    def matches(self) -> Matches:
        found = super().matches()
        classes = {
            name: dataclasses.replace(one, right=one.wrong, wrong=one.right)
            for name, one in found.classes.items()
        }
        return dataclasses.replace(found, classes=classes)


class NeedyEvaluator(HandEvaluator):
    def compute(self) -> dict[str, float]:
        scores = np.concatenate([found.scores for found in self.state().values()])
        return {**super().compute(), "score": float(scores.mean())}


class CrowdedEvaluator(HandEvaluator):
    def __init__(self, truth: Any, *rest: Any) -> None:
        annotations = [{**entry, "iscrowd": 0} for entry in truth["annotations"]]
        super().__init__({**truth, "annotations": annotations}, *rest)


class HandlessEvaluator(HandEvaluator):
    def _is_found(self, entry: Any) -> bool:
        found = self.state().get(entry["image_id"])
        return found is not None and bool((np.abs(found.reach - entry["arms"]["reach"]) < 2).any())


class OwnEvaluator(Evaluator):
    """Average precision at an IoU of 0.5 in a few lines, good unless a setting spoils it.

    Settings: ``twice``: an object may be found twice; ``classes``: labels count; ``ordered``: scores count;
    ``least``: IoU that is asked for; ``every``: images without detections count.
    """

    main_metric = "AP50"

    def __init__(self, truth: Any, category_ids: Any, class_names: Any, **settings: Any) -> None:
        super().__init__(truth, category_ids, class_names)
        self.entries = truth["annotations"]
        defaults = {"twice": False, "classes": True, "ordered": True, "least": 0.5, "every": True}
        self.settings = {**defaults, **settings}

    def compute(self) -> dict[str, float]:
        counted = [
            entry
            for entry in self.entries
            if not entry["iscrowd"] and (self.settings["every"] or self._some_in(entry["image_id"]))
        ]
        rows = [row for image_id, found in self.state().items() for row in self._matched(image_id, found)]
        rows.sort(key=lambda row: -row[0] if self.settings["ordered"] else -row[1])
        right = np.array([row[1] for row in rows], float)
        precision = right.cumsum() / np.arange(1, len(right) + 1)
        return {"AP50": float((precision * right).sum() / max(len(counted), 1))}

    def _some_in(self, image_id: int) -> bool:
        found = self.state().get(image_id)
        return found is not None and len(found) > 0

    def _matched(self, image_id: int, found: Detections) -> list[tuple[float, bool]]:
        entries = [e for e in self.entries if e["image_id"] == image_id and not e["iscrowd"]]
        boxes = np.array([entry["bbox"] for entry in entries], float).reshape(-1, 4)
        overlap = box_iou(np.asarray(found.boxes, float), boxes + np.pad(boxes[:, :2], ((0, 0), (2, 0))))
        if self.settings["classes"]:
            labels = np.array([self.category_ids.index(entry["category_id"]) for entry in entries])
            overlap = np.where(np.asarray(found.labels)[:, None] == labels, overlap, -1)
        left, rows = np.ones(len(entries), bool), []
        for row in np.argsort(-np.asarray(found.scores), kind="stable"):
            best = int(np.where(left, overlap[row], -2).argmax()) if len(entries) else -1
            right = best >= 0 and left[best] and overlap[row, best] >= self.settings["least"]
            left[best] &= self.settings["twice"] or not right
            rows.append((float(found.scores[row]), bool(right)))
        return rows


class Own(Hands):
    """Measured by an evaluator of its own, and by that of hands."""

    def __init_subclass__(cls, **settings: Any) -> None:
        cls.metrics = {"own": metric(OwnEvaluator, **settings), **Hands.metrics}


class OwnAndGood(Own):
    """no mutation"""


@pytest.mark.parametrize("check", [check.name for check in TASK_CHECKS if "evaluator" in check.name])
def test_an_evaluator_of_ones_own_passes(check: str) -> None:
    next(one for one in TASK_CHECKS if one.name == check)(OwnAndGood(SHAPES))


@caught_by("evaluator_counts_an_object_once")
class FoundTwice(Own, twice=True):
    """the evaluator counts duplicates: the truth given twice scores 2"""


@caught_by("evaluator_reads_labels")
class Classless(Own, classes=False):
    """the evaluator ignores labels"""


@caught_by("evaluator_reads_scores")
class Unordered(Own, ordered=False):
    """the evaluator ignores the order of scores"""


@caught_by("evaluator_reads_positions")
class AnyPlace(Own, least=0.0):
    """the evaluator accepts any overlap"""


@caught_by("evaluator_counts_images_without_detections")
class Forgetful(Own, every=False):
    """the evaluator forgets images without detections"""


@caught_by("metrics_read_every_field")
class Handless(Hands):
    """no metric reads the hands"""

    metrics: ClassVar[Any] = {"hands": metric(HandlessEvaluator)}


@caught_by("metrics_read_every_field")
class BoxesAlone(Hands):
    """metrics read boxes alone"""

    metrics: ClassVar[Any] = {"coco": metric(CocoBoxEvaluator)}


@caught_by("metrics_read_every_field")
class SaidToBeUnmeasured(Hands):
    """a field is declared not to be measured, and is"""

    fields: ClassVar[Any] = changed_field("reach", measured=False)


@caught_by("evaluators_merge")
class Deaf(Hands):
    """merge takes in one process only"""

    metrics: ClassVar[Any] = {"hands": metric(DeafEvaluator)}


@caught_by("evaluator_tallies_exactly")
class Stale(Hands):
    """compute changes a metric that the inherited tally does not"""

    metrics: ClassVar[Any] = {"hands": metric(StaleEvaluator)}


@caught_by("matched_truth_is_right")
class WrongSide(Hands):
    """the tally takes right detections for wrong ones"""

    metrics: ClassVar[Any] = {"hands": metric(SwappedEvaluator)}


@caught_by("evaluator_gives_truth_the_perfect_score")
class Proud(Hands):
    """figures are percentages"""

    metrics: ClassVar[Any] = {"hands": metric(ProudEvaluator)}


@caught_by("evaluator_gives_truth_the_perfect_score")
class Crowded(Hands):
    """the evaluator wants crowd regions to be found"""

    metrics: ClassVar[Any] = {"hands": metric(CrowdedEvaluator)}


@caught_by("evaluator_gives_truth_the_perfect_score")
class Demanding(Own, least=1.1):
    """the evaluator asks for more than a perfect overlap"""


@caught_by("evaluator_takes_no_detections")
class Needy(Hands):
    """a figure is NaN without detections"""

    metrics: ClassVar[Any] = {"hands": metric(NeedyEvaluator)}


class Unwritten(Points):
    def write(self, name: str, columns: Any, found: bool = False) -> Any:
        return [None] * len(columns[name]) if found else super().write(name, columns)


@caught_by("results_survive_a_file")
class LosesResults(Hands):
    """results leave out the hands"""

    fields: ClassVar[Any] = changed_field("hands", Unwritten)


@caught_by("drawing_makes_a_new_image")
class DrawsOver(Hands):
    """draw draws on the image itself"""

    def draw(self, image: Any, detections: Any, info: Any = None) -> Any:
        image[:] = super().draw(image, detections, info)
        return image


@caught_by("drawing_makes_a_new_image")
class DrawsNothing(Hands):
    """draw leaves no trace"""

    def draw(self, image: Any, detections: Any, info: Any = None) -> Any:
        return image.copy()


# declarations


@caught_by("heads_are_declared")
class BiasNaN(WithHead):
    """a head starts with a bias of NaN"""

    changed = ("offset", head(bias=float("nan")))


@caught_by("heads_make_a_network")
class OddShape(WithHead):
    """a head's activation drops a channel"""

    changed = ("offset", head(activate=lambda self, raw: raw[:, :1]))


@caught_by("names_are_declared")
class MetricByName(Hands):
    """a metric is a name, not a factory"""

    metrics: ClassVar[Any] = {"coco": "coco"}


@caught_by("names_are_declared")
class DemoOfNoOption(Hands):
    """the demo's recipe sets an option that the task does not have"""

    scenes = dataclasses.replace(
        Hands.scenes, recipe=dataclasses.replace(Hands.scenes.recipe, options={"hand_wait": 2.0})
    )


@caught_by("fields_are_declared")
class FieldWithoutColumn(Hands):
    """a declared field is not a column of the scenes"""

    fields: ClassVar[Any] = {**Hands.fields, "feet": Points(json="feet", n=2)}


@caught_by("fields_are_declared")
class OneKeyTwice(Hands):
    """two fields share a JSON key"""

    fields: ClassVar[Any] = changed_field("reach", json="hands")


@caught_by("options_survive_a_checkpoint")
class Doubled(Hands):
    """the task changes its own options"""

    def __init__(self, categories: Any, **options: Any) -> None:
        super().__init__(categories, **options)
        self.options = dataclasses.replace(self.options, hand_weight=2 * self.options.hand_weight)


@caught_by("tiles_give_what_the_whole_gives")
class UnknownPeaks(Hands):
    """the head of the peaks does not exist"""

    peaks = "heatmaps"


@caught_by("tiles_give_what_the_whole_gives")
class PeaksOfSizes(Hands):
    """the head of the peaks is another one"""

    peaks = "size"


@caught_by("tiles_give_what_the_whole_gives")
class RelativeScores(Hands):
    """scores depend on the best object of the image"""

    def decode(self, maps: Any, k: int) -> Detections:
        found = super().decode(maps, k)
        return found.replace(scores=found.scores / found.scores.amax(dim=1, keepdim=True))


@caught_by("documentation_is_complete")
class Wordless(Hands):
    """no docstring"""


# two frames


def draw_two(rng: np.random.Generator, size: tuple[int, int]) -> Any:
    """A scene of hands, and the same objects four pixels further left as the frame before."""
    scene = draw_hands(rng, size)
    who = np.arange(1, len(scene.instances) + 1)
    before = scene.instances.replace(who=who, came=np.full((len(who), 2), np.nan, np.float32))
    moved = before.replace(boxes=before.boxes - np.array([4, 0, 4, 0], np.float32))
    came = ((moved.boxes[:, :2] + moved.boxes[:, 2:]) / 2).astype(np.float32)
    now = scene.instances.replace(who=who, came=came)
    return dataclasses.replace(
        scene, instances=now, previous=dataclasses.replace(scene, instances=moved, previous=None)
    )


def link_centres(instances: Any, earlier: np.ndarray) -> Any:
    return instances.replace(came=(earlier[:, :2] + earlier[:, 2:]) / 2)


class Watched(Hands):
    """Followed: heads heatmap, size, offset, hand_offsets, far, step; fields hands, reach, who, came."""

    scenes = dataclasses.replace(Hands.scenes, draw=draw_two)
    fields: ClassVar[dict[str, Field]] = {
        **Hands.fields,
        "who": Identity(json="who"),
        "came": Points(json="came", needed="never", measured=False),
    }
    frames = Frames(count=2, planes=1, link=link_centres, tracker=OverlapTracker)

    def __init__(self, categories: Any, **options: Any) -> None:
        super().__init__(categories, **options)
        self.heads = {**self.heads, "step": Regression(2)}

    def encode(self, instances: Any, grid: Any) -> Any:
        cells = self.cells(instances, grid)
        known = (cells >= 0).all(1) & np.isfinite(instances.came).all(1) & ~instances.crowd
        step = CellTargets.of(cells[known], (instances.came - cells)[known])
        return {**super().encode(instances, grid), "step": step}

    def decode(self, maps: Any, k: int) -> Detections:
        peaks = find_peaks(maps["heatmap"], k)
        came = gather(maps["step"], peaks) + torch.stack([peaks.x, peaks.y], 2)
        return super().decode(maps, k).replace(came=came)


@caught_by("frames_are_declared")
class Nameless(Watched):
    """nothing says who an object is"""

    fields: ClassVar[dict[str, Field]] = {name: Watched.fields[name] for name in ("hands", "reach", "came")}


@caught_by("frames_are_declared")
class OneFrame(Watched):
    """the scenes are single images"""

    scenes = dataclasses.replace(
        Hands.scenes, draw=lambda rng, size: dataclasses.replace(draw_two(rng, size), previous=None)
    )


@caught_by("objects_are_linked_to_where_they_were")
class Unlinked(Watched):
    """link ignores where objects were"""

    frames = dataclasses.replace(Watched.frames, link=lambda instances, earlier: instances)


@caught_by("objects_are_linked_to_where_they_were")
class LosesRows(Watched):
    """link drops the objects whose place is unknown"""

    frames = dataclasses.replace(
        Watched.frames,
        link=lambda instances, earlier: link_centres(instances, earlier)[np.isfinite(earlier).all(1)],
    )


@caught_by("objects_are_linked_to_where_they_were")
class TakesUnknown(Watched):
    """unknown places are taught"""

    def encode(self, instances: Any, grid: Any) -> Any:
        cells = self.cells(instances, grid)
        step = CellTargets.of(cells, instances.came - cells)
        return {**super().encode(instances, grid), "step": step}


class NewEachFrame(OverlapTracker):
    def update(self, found: Any) -> Any:
        self.reset()
        return super().update(found)


class Recounting(OverlapTracker):
    def reset(self) -> None:
        super().reset()
        self._next = 1


@caught_by("a_tracker_keeps_identities")
class Anew(Watched):
    """every frame has new identities"""

    frames = dataclasses.replace(Watched.frames, tracker=NewEachFrame)


@caught_by("a_tracker_keeps_identities")
class Again(Watched):
    """identities are used again after a reset"""

    frames = dataclasses.replace(Watched.frames, tracker=Recounting)


@pytest.mark.parametrize(("check", "mutation", "mutant"), MUTATIONS, ids=[text for _, text, _ in MUTATIONS])
def test_a_mutation_is_caught(check: str, mutation: str, mutant: type[Task]) -> None:
    if check == "decode_exports" and not (find_spec("onnxruntime") and find_spec("onnxscript")):
        pytest.skip("the extra 'export' is not installed")
    meant = next(one for one in TASK_CHECKS if one.name == check)
    with pytest.raises(ContractViolation, match=rf"^{check}: .+ \(.+\); but .+"):
        meant(mutant(SHAPES))


@task_checks(Watched)
def test_the_good_task_of_two_frames_passes(task, check) -> None:
    if check.name != "decode_exports":  # as of hands, which is slow
        check(task)


def test_every_check_catches_something() -> None:
    assert {check for check, _, _ in MUTATIONS} == {check.name for check in TASK_CHECKS}


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave out the checks that take long."""
    slow = {"decode_exports", "the_round_trip_holds", "loss_is_lower_for_rendered_maps"}
    rest = [check for check in TASK_CHECKS if check.name not in slow]
    monkeypatch.setattr("ctnet.testing.tasks.TASK_CHECKS", rest)


@pytest.mark.usefixtures("quick")
def test_all_failures_are_named_together() -> None:
    with pytest.raises(ContractViolation) as caught:
        check_task(MirrorOffByOne)
    lines = str(caught.value).splitlines()
    assert lines[0] == f"task hands fails 2 of {len(TASK_CHECKS) - 3} checks"
    assert [line.split(":")[0] for line in lines[1:]] == [
        "- mirror_moves_every_point",
        "- encode_commutes_with_mirroring",
    ]


def test_an_error_in_the_task_is_a_failure_with_its_place() -> None:
    class Broken(Hands):
        __doc__ = Hands.__doc__

        def draw(self, image: Any, detections: Any, info: Any = None) -> Any:
            raise ZeroDivisionError("of all things")

    check = next(one for one in TASK_CHECKS if one.name == "drawing_makes_a_new_image")
    with pytest.raises(ContractViolation, match=r"ZeroDivisionError at .*test_teeth.py:\d+: of all things"):
        check(Broken(SHAPES))


def test_a_failure_names_the_place_that_makes_it() -> None:
    check = next(one for one in TASK_CHECKS if one.name == "crowds_follow_their_option")
    with pytest.raises(ContractViolation, match=r"peak of head heatmap \(encode: .*test_teeth.py:\d+\)$"):
        check(CrowdsAsObjects(SHAPES))
    check = next(one for one in TASK_CHECKS if one.name == "lengths_are_declared_as_such")
    with pytest.raises(
        ContractViolation, match=r"reach .*longer side.* \(ReachUnderZoom: .*test_teeth.py:\d+\)$"
    ):
        check(ReachUnderZoom(SHAPES))


def test_an_error_below_the_task_has_the_place_in_the_task() -> None:
    class Broken(Hands):
        __doc__ = Hands.__doc__

        def draw(self, image: Any, detections: Any, info: Any = None) -> Any:
            return box_iou(detections.boxes, "of another kind")  # type: ignore[arg-type]

    check = next(one for one in TASK_CHECKS if one.name == "drawing_makes_a_new_image")
    with pytest.raises(ContractViolation, match=r"but \w+ at .*test_teeth.py:\d+: "):
        check(Broken(SHAPES))


# --- failures that are expected

EXPECTED = {"overlap_is_a_fraction": "it is in percent, as the readers of its figures are used to"}


# Of all checks that one and the one before it.
FEW = task_checks(Percent, expected_failures=EXPECTED).mark.args[1]
FEW = [case for case in FEW if case.values[1].name in {"grids_can_be_merged", *EXPECTED}]


@pytest.mark.parametrize(("task", "check"), FEW)
def test_an_expected_failure_is_not_a_failure(task, check) -> None:
    check(task)


@pytest.mark.usefixtures("quick")
def test_expected_failures_are_reported_with_their_reason() -> None:
    done = check_task(Percent, expected_failures=EXPECTED)
    assert [one.reason for one in done if one.result == "expected"] == [*EXPECTED.values()]
    assert {one.result for one in done} == {"passed", "expected"}


@pytest.mark.usefixtures("quick")
def test_an_expected_failure_that_passes_fails() -> None:
    message = (
        r"^task hands fails 1 of .*\n- overlap_is_a_fraction: it passes, but is expected to fail \(it is in"
    )
    with pytest.raises(ContractViolation, match=message):
        check_task(Hands, expected_failures=EXPECTED)


def test_expected_failures_are_of_checks_and_have_reasons() -> None:
    with pytest.raises(CtnetError, match="there is no check called 'overlap_is_a_sphere'"):
        check_task(Hands, expected_failures={"overlap_is_a_sphere": "why not"})
    with pytest.raises(CtnetError, match="check overlap_is_a_fraction is expected without a reason"):
        task_checks(Hands, expected_failures={"overlap_is_a_fraction": " "})


@pytest.mark.usefixtures("quick")
def test_a_task_without_scenes_is_reported() -> None:
    class Sceneless(Hands):
        __doc__ = Hands.__doc__
        scenes = None

    with pytest.raises(ContractViolation, match="none is drawn: task hands has no example scenes"):
        check_task(Sceneless(SHAPES))


# --- backbones


class Good(Backbone):
    channels, divisor, hidden = 8, 8, 8

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 8, 3, stride=2, padding=1)
        self.norm = nn.BatchNorm2d(8)
        self.second = nn.Conv2d(8, 8, 3, stride=2, padding=1)

    def freezable_stages(self) -> dict[str, tuple[nn.Module, ...]]:
        return {"first": (self.first, self.norm), "second": (self.second,)}

    def forward(self, images: Tensor) -> list[Tensor]:
        self.check_size(images)
        return [self.second(self.norm(self.first(images)).relu())]


def good(pretrained: bool = False) -> Backbone:
    return Good()


@backbone_checks(good, "resfpn18")
def test_good_backbones_pass(factory, check) -> None:
    check(factory)


class WrongChannels(Good):
    """channels are not those of the maps"""

    channels = 16


class NoStacks(Good):
    """it has two stacks and gives one map"""

    stacks = 2


class OddDivisor(Good):
    """the divisor is not a multiple of the stride"""

    divisor = 6


class AnySize(Good):
    """sizes are not checked"""

    def check_size(self, images: Tensor) -> None:
        pass


class Mixes(Good):
    """images of a batch mix"""

    def forward(self, images: Tensor) -> list[Tensor]:
        return super().forward(images - images.mean(0, keepdim=True))


class Counts(Good):
    """batch norm learns in evaluation mode"""

    def forward(self, images: Tensor) -> list[Tensor]:
        self.norm.train()
        return super().forward(images)


class Idle(Good):
    """a weight is ignored"""

    def __init__(self) -> None:
        super().__init__()
        self.idle = nn.Linear(3, 3)


class Forgets(Good):
    """a random number is not part of the state"""

    def __init__(self) -> None:
        super().__init__()
        self.number = float(torch.rand((), device="cpu"))

    def forward(self, images: Tensor) -> list[Tensor]:
        return [self.number * super().forward(images)[0]]


class Allocates(Good):
    """it insists on memory"""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(1, device="cpu"))

    def forward(self, images: Tensor) -> list[Tensor]:
        return [self.scale * super().forward(images)[0]]


class Backwards(Good):
    """its stages are listed from the end"""

    def freezable_stages(self) -> dict[str, tuple[nn.Module, ...]]:
        return {"second": (self.second,), "first": (self.first, self.norm)}


class Overlapping(Good):
    """a layer is in two stages"""

    def freezable_stages(self) -> dict[str, tuple[nn.Module, ...]]:
        return {"first": (self.first,), "second": (self.norm, self.first)}


class Foreign(Good):
    """a stage is a copy"""

    def freezable_stages(self) -> dict[str, tuple[nn.Module, ...]]:
        return {"first": (nn.Conv2d(3, 8, 3),)}


class Unused(Good):
    """an image does not pass through a stage"""

    def __init__(self) -> None:
        super().__init__()
        self.unused = nn.Dropout()

    def freezable_stages(self) -> dict[str, tuple[nn.Module, ...]]:
        return {"first": (self.first, self.norm), "second": (self.unused,)}


BACKBONES = [
    ("stages_come_in_order", Backwards),
    ("stages_come_in_order", Overlapping),
    ("stages_come_in_order", Foreign),
    ("stages_come_in_order", Unused),
    ("features_have_the_promised_shape", WrongChannels),
    ("features_have_the_promised_shape", NoStacks),
    ("attributes_are_declared", OddDivisor),
    ("wrong_sizes_are_refused", AnySize),
    ("images_do_not_mix", Mixes),
    ("images_do_not_mix", Counts),
    ("every_weight_learns", Idle),
    ("weights_survive_a_state_dict", Forgets),
    ("builds_without_memory", Allocates),
]


@pytest.mark.parametrize(("check", "mutant"), BACKBONES, ids=[kind.__doc__ for _, kind in BACKBONES])
def test_a_mutant_backbone_is_caught(check: str, mutant: type[Good]) -> None:
    def factory(pretrained: bool = False) -> Backbone:
        return mutant()

    with pytest.raises(ContractViolation, match=rf"(?m)^- {check}: .+ \(.+\); but .+"):
        check_backbone(factory)


def test_every_backbone_check_catches_something() -> None:
    assert {check for check, _ in BACKBONES} == {check.name for check in BACKBONE_CHECKS}


def test_what_is_no_backbone() -> None:
    with pytest.raises(ContractViolation, match="the factory returns a Linear, not a Backbone"):
        check_backbone(lambda pretrained: nn.Linear(1, 1))
