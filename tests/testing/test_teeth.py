"""The kit has teeth: every way to spoil a good task is caught by the check meant for it."""

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
from ctnet.core.geometry import Affine, move
from ctnet.core.heads import Heatmap, Regression
from ctnet.core.losses import Loss
from ctnet.core.options import option
from ctnet.core.records import Detections
from ctnet.core.targets import CellTargets, Peaks
from ctnet.core.task import Task
from ctnet.evaluation import CocoBoxEvaluator
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

# --- a good task: boxes with a left and a right hand


@dataclasses.dataclass(frozen=True)
class HandOptions:
    hand_weight: float = option(1.0, "weight of the hands")


@dataclasses.dataclass(frozen=True)
class HandOffsets(Regression):
    """Offsets of left and right hand, which change places in the mirror."""

    def mirror(self, activated: Tensor) -> Tensor | None:
        left_x, left_y, right_x, right_y = activated.flip(-1).unbind(1)
        return torch.stack([-right_x, right_y, -left_x, left_y], dim=1)


class Hands(CenterDetection):
    """Boxes with a left and a right hand: heads heatmap, size, offset and hand_offsets, field ``hands``."""

    name = "hands"
    point_fields = ("boxes", "hands")
    metrics = ("coco",)
    Options = HandOptions

    def __init__(self, categories: Any, **options: Any) -> None:
        Task.__init__(self, categories, **options)
        self.heads = {
            "heatmap": Heatmap(len(self.categories)),
            "size": Regression(2, symmetric=True),
            "offset": Regression(2),
            "hand_offsets": HandOffsets(4, weight=self.options.hand_weight),
        }

    # ctdet's own code asks for options that hands do not have.
    def encode(self, instances: Any, grid: Any) -> Any:
        plain = CenterDetection(self.categories).encode(instances, grid)
        boxes = np.clip(instances.boxes, 0, [grid.width - 1, grid.height - 1] * 2)
        seen = (boxes[:, 2:] > boxes[:, :2]).all(1)
        cell = np.stack([plain["size"].x, plain["size"].y], 1)
        return {
            **plain,
            "hand_offsets": CellTargets.of(cell, (instances.hands[seen] - cell[:, None]).reshape(-1, 4)),
        }

    def decode(self, maps: Any, k: int) -> Detections:
        found = CenterDetection(self.categories).decode(maps, k)
        from ctnet.heatmap import find_peaks, gather

        peaks = find_peaks(maps["heatmap"], k)
        cell = torch.stack([peaks.x, peaks.y], 2).unsqueeze(2)
        hands = gather(maps["hand_offsets"], peaks).reshape(len(found), -1, 2, 2) + cell
        return Detections(found.boxes, found.scores, found.labels, {"hands": hands})

    def swap_sides(self, instances: Any) -> Any:
        return instances.replace(hands=instances.hands[:, ::-1])

    def parse(self, annotations: Any, image: Any) -> Any:
        hands = np.array([entry["hands"] for entry in annotations], np.float32).reshape(-1, 2, 2)
        return super().parse(annotations, image).replace(hands=hands)

    def annotate(self, instances: Any) -> Any:
        plain = super().annotate(instances)
        return [
            {**entry, "hands": hands.tolist()} for entry, hands in zip(plain, instances.hands, strict=True)
        ]

    def results(self, image_id: int, detections: Any) -> Any:
        plain = super().results(image_id, detections)
        return [
            {**entry, "hands": hands.tolist()} for entry, hands in zip(plain, detections.hands, strict=True)
        ]

    def read_results(self, entries: Any) -> Any:
        hands = np.array([entry["hands"] for entry in entries]).reshape(-1, 2, 2)
        return super().read_results(entries).replace(hands=hands)

    def example(self, rng: Any, size: Any) -> Any:
        scene = super().example(rng, size)
        low, high = scene.instances.boxes[:, None, :2], scene.instances.boxes[:, None, 2:]
        hands = (low + rng.random((len(low), 2, 2)) * (high - low)).astype(np.float32)
        return dataclasses.replace(scene, instances=scene.instances.replace(hands=hands))


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


class WithHead(Hands):
    changed: ClassVar[tuple[str, Any]]

    def __init__(self, categories: Any, **options: Any) -> None:
        super().__init__(categories, **options)
        name, change = self.changed
        change(name, self)


# the law


@caught_by("the_law_holds")
class SwappedAxis(Hands):
    """decode swaps width and height"""

    def decode(self, maps: Any, k: int) -> Detections:
        return super().decode({**maps, "size": maps["size"].flip(1)}, k)


@caught_by("the_law_holds")
class HalfAPixel(Hands):
    """decode is off by half a pixel of the image"""

    def decode(self, maps: Any, k: int) -> Detections:
        found = super().decode(maps, k)
        return found.replace(boxes=found.boxes + 0.125)


@caught_by("the_law_holds")
class HandsFromCentre(Hands):
    """hands are encoded from the cell and decoded from the centre"""

    def decode(self, maps: Any, k: int) -> Detections:
        found = super().decode(maps, k)
        middle = (found.boxes[..., :2] + found.boxes[..., 2:]) / 2
        return found.replace(hands=found.hands + (middle - middle.floor()).unsqueeze(2))


@caught_by("the_law_holds")
class LostObject(Hands):
    """encode forgets the last object"""

    def encode(self, instances: Any, grid: Any) -> Any:
        return super().encode(instances[: max(1, len(instances) - 1)], grid)


@caught_by("the_law_holds")
class Ghost(Hands):
    """the rendered heatmap holds a peak that is no object"""

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


@caught_by("the_law_holds")
class AllCollide(Hands):
    """every object is said to collide"""

    def collides(self, instances: Any, grid: Any) -> Any:
        return np.ones(len(instances), bool)


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

    def swap_sides(self, instances: Any) -> Any:
        return instances


@caught_by("encode_commutes_with_mirroring")
class WrongSwapOfMaps(WithHead):
    """a head's mirror exchanges x and y where it should exchange left and right"""

    changed = ("hand_offsets", head(mirror=lambda self, activated: activated.flip(-1)[:, [1, 0, 3, 2]]))


@caught_by("encode_commutes_with_mirroring")
class ExchangedHeads(Hands):
    """mirror_maps lets two heads change places that have no sides"""

    def mirror_maps(self, maps: Any) -> Any:
        mirrored = super().mirror_maps(maps)
        return {**mirrored, "size": mirrored["offset"], "offset": mirrored["size"]}


@caught_by("head_mirror_of_mirror_is_the_identity")
class MirrorLosesAHead(Hands):
    """mirror_maps leaves a head out"""

    def mirror_maps(self, maps: Any) -> Any:
        return {name: values for name, values in super().mirror_maps(maps).items() if name != "offset"}


@caught_by("mirror_moves_every_point")
class UnmovedInstances(Hands):
    """the engine is not told to move the hands with the boxes, so swap_sides mirrors them in the box"""

    def swap_sides(self, instances: Any) -> Any:
        hands = instances.hands.copy()
        hands[..., 0] = instances.boxes[:, None, [0, 2]].sum(axis=2) - hands[..., 0]
        return instances.replace(hands=hands)


@caught_by("mirror_moves_every_point")
class MirrorOffByOne(Hands):
    """swap_sides moves what is moved already, by one"""

    def swap_sides(self, instances: Any) -> Any:
        return super().swap_sides(instances.replace(boxes=instances.boxes + np.float32([1, 0, 1, 0])))


@caught_by("mirror_of_mirror_is_the_identity")
class MirrorForgets(Hands):
    """swap_sides puts the right hand where the left one was, and leaves the left one"""

    def swap_sides(self, instances: Any) -> Any:
        return instances.replace(hands=instances.hands[:, [0, 0]])


@caught_by("head_mirror_of_mirror_is_the_identity")
class RollingMirror(WithHead):
    """a head's mirror shifts its channels round"""

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


@caught_by("encode_leaves_instances_alone")
class InPlace(Hands):
    """encode moves the boxes that it is given"""

    def encode(self, instances: Any, grid: Any) -> Any:
        targets = super().encode(instances, grid)
        instances.boxes[:] += 1
        return targets


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


@caught_by("loss_reads_only_what_counts")
class PullsEverywhere(WithHead):
    """a loss has a gradient where nothing counts"""

    changed = ("offset", head(loss=_pulls_everywhere))


@caught_by("loss_reads_only_what_counts")
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
    """example draws from the global generator"""

    def example(self, rng: Any, size: Any) -> Any:
        return super().example(np.random.default_rng(np.random.randint(1 << 30)), size)


@caught_by("example_is_reproducible")
class AlwaysTheSame(Hands):
    """example ignores its generator"""

    def example(self, rng: Any, size: Any) -> Any:
        return super().example(np.random.default_rng(0), size)


@caught_by("example_is_valid")
class BoxesOutside(Hands):
    """example gives boxes that leave the image"""

    def example(self, rng: Any, size: Any) -> Any:
        scene = super().example(rng, size)
        return dataclasses.replace(scene, instances=move(scene.instances, Affine.scaling(2), ("boxes",)))


@caught_by("annotations_come_back")
class LosesHands(Hands):
    """annotate rounds the hands to ten pixels"""

    def annotate(self, instances: Any) -> Any:
        return super().annotate(instances.replace(hands=instances.hands.round(-1)))


# results


class DeafEvaluator(CocoBoxEvaluator):
    def merge(self, states: Any) -> None:
        super().merge(list(states)[:1])


class ProudEvaluator(CocoBoxEvaluator):
    def compute(self) -> dict[str, float]:
        return {name: 100 * value for name, value in super().compute().items()}


class NeedyEvaluator(CocoBoxEvaluator):
    def compute(self) -> dict[str, float]:
        scores = np.concatenate([found.scores for found in self._detections.values()])
        return {**super().compute(), "score": float(scores.mean())}


class WithEvaluator(Hands):
    kind: ClassVar[type[CocoBoxEvaluator]]

    def evaluator(self, truth: Any, metric: Any = None, engine: Any = None) -> Any:
        return self.kind(truth.as_coco(), self.category_ids, self.class_names)


@caught_by("evaluators_merge")
class Deaf(WithEvaluator):
    """merge takes in one process only"""

    kind = DeafEvaluator


@caught_by("evaluator_gives_truth_the_perfect_score")
class Proud(WithEvaluator):
    """figures are percentages"""

    kind = ProudEvaluator


@caught_by("evaluator_gives_truth_the_perfect_score")
class WrongTruth(Hands):
    """truth gives boxes as xywh"""

    def truth(self, instances: Any, info: Any) -> Any:
        found = super().truth(instances, info)
        return found.replace(
            boxes=np.concatenate([found.boxes[:, :2], found.boxes[:, 2:] - found.boxes[:, :2]], 1)
        )


@caught_by("evaluator_takes_no_detections")
class Needy(WithEvaluator):
    """a figure is NaN without detections"""

    kind = NeedyEvaluator


@caught_by("results_come_back")
class LosesResults(Hands):
    """results leave out the hands"""

    def results(self, image_id: int, detections: Any) -> Any:
        return CenterDetection.results(self, image_id, detections)


@caught_by("drawing_makes_a_new_picture")
class DrawsOver(Hands):
    """draw draws on the image itself"""

    def draw(self, image: Any, detections: Any, info: Any = None) -> Any:
        image[:] = super().draw(image, detections, info)
        return image


@caught_by("drawing_makes_a_new_picture")
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
class MetricTwice(Hands):
    """a metric is named twice"""

    metrics = ("coco", "coco")


@caught_by("names_are_declared")
class DemoOfNoOption(Hands):
    """the demo's recipe wants an option that the task has not"""

    demo_recipe = dataclasses.replace(Hands.demo_recipe, options={"hand_wait": 2.0})


@caught_by("point_fields_exist")
class PointField(Hands):
    """a point field is no field"""

    point_fields = ("boxes", "hands", "feet")


@caught_by("options_survive_a_checkpoint")
class Doubled(Hands):
    """the task changes its own options"""

    def __init__(self, categories: Any, **options: Any) -> None:
        super().__init__(categories, **options)
        self.options = dataclasses.replace(self.options, hand_weight=2 * self.options.hand_weight)


@caught_by("words_describe_it")
class Wordless(Hands):
    """no docstring"""


@pytest.mark.parametrize(("check", "mutation", "mutant"), MUTATIONS, ids=[text for _, text, _ in MUTATIONS])
def test_a_mutation_is_caught(check: str, mutation: str, mutant: type[Task]) -> None:
    if check == "decode_exports" and not (find_spec("onnxruntime") and find_spec("onnxscript")):
        pytest.skip("the extra 'export' is not installed")
    meant = next(one for one in TASK_CHECKS if one.name == check)
    with pytest.raises(ContractViolation, match=rf"^{check}: .+ \(.+\); but .+"):
        meant(mutant(mutant.example_categories))


def test_every_check_catches_something() -> None:
    assert {check for check, _, _ in MUTATIONS} == {check.name for check in TASK_CHECKS}


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave out the one check that takes seconds."""
    rest = [check for check in TASK_CHECKS if check.name != "decode_exports"]
    monkeypatch.setattr("ctnet.testing.tasks.TASK_CHECKS", rest)


@pytest.mark.usefixtures("quick")
def test_all_failures_are_named_together() -> None:
    with pytest.raises(ContractViolation) as caught:
        check_task(MirrorOffByOne)
    lines = str(caught.value).splitlines()
    assert lines[0] == f"task hands fails 2 of {len(TASK_CHECKS) - 1} checks"
    assert [line.split(":")[0] for line in lines[1:]] == [
        "- mirror_moves_every_point",
        "- encode_commutes_with_mirroring",
    ]


def test_an_error_in_the_task_is_a_failure_with_its_place() -> None:
    class Broken(Hands):
        __doc__ = Hands.__doc__

        def draw(self, image: Any, detections: Any, info: Any = None) -> Any:
            raise ZeroDivisionError("of all things")

    check = next(one for one in TASK_CHECKS if one.name == "drawing_makes_a_new_picture")
    with pytest.raises(ContractViolation, match=r"ZeroDivisionError at .*test_teeth.py:\d+: of all things"):
        check(Broken(Hands.example_categories))


@pytest.mark.usefixtures("quick")
def test_a_task_without_scenes_is_told_so() -> None:
    class Sceneless(Hands):
        __doc__ = Hands.__doc__
        example = Task.example

    with pytest.raises(ContractViolation, match="none is drawn: task hands draws no example scenes"):
        check_task(Sceneless)


# --- backbones


class Good(Backbone):
    channels, divisor, hidden = 8, 8, 8

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 8, 3, stride=2, padding=1)
        self.norm = nn.BatchNorm2d(8)
        self.second = nn.Conv2d(8, 8, 3, stride=2, padding=1)

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
    """the divisor is no multiple of the stride"""

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
    """a weight plays no part"""

    def __init__(self) -> None:
        super().__init__()
        self.idle = nn.Linear(3, 3)


class Forgets(Good):
    """a random number is no part of the state"""

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


BACKBONES = [
    ("features_have_the_promised_shape", WrongChannels),
    ("features_have_the_promised_shape", NoStacks),
    ("attributes_are_declared", OddDivisor),
    ("wrong_sizes_are_refused", AnySize),
    ("images_do_not_mix", Mixes),
    ("images_do_not_mix", Counts),
    ("every_weight_learns", Idle),
    ("weights_come_back", Forgets),
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
    with pytest.raises(ContractViolation, match="the factory makes a Linear, no Backbone"):
        check_backbone(lambda pretrained: nn.Linear(1, 1))
