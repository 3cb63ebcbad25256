"""tracks: the objects of any task, and where each was in the frame before."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
from torch import Tensor

from ctnet.plugin import (
    BOX_METRICS,
    DEMO,
    SHAPES,
    Augmentation,
    CellTargets,
    CtnetError,
    Detections,
    Field,
    Frames,
    Grid,
    Identity,
    ImageInfo,
    Instances,
    Loss,
    MetricFactory,
    OverlapTracker,
    Points,
    Recipe,
    Regression,
    Scenes,
    Target,
    Task,
    View,
    box_centres,
    constant,
    create_task,
    load_task_class,
    metric,
    option,
    scenes_of,
)
from ctnet_tasks_tracks.association import DisplacementTracker
from ctnet_tasks_tracks.evaluation import TrackEvaluator
from ctnet_tasks_tracks.scenes import draw_pair, film, second_view

#: Heads of the base that give an object's peak and its size: without them it has no boxes.
_NEEDED = ("heatmap", "size")
_DEMO = replace(
    DEMO,
    epochs=7,
    size=(96, 96),
    batch_size=8,
    options={"missed": 0.2},
    augmentation=Augmentation(scale=(0.9, 1.1), shift=0.1, colour=0.2, lighting=0.05),
)


@dataclass(frozen=True)
class Options:
    """Options of tracks."""

    base: str = option("ctdet", "the task whose objects are followed: ctdet, pose, ddd, obb")
    base_options: str = option("", "options of the base: name=value, separated by commas")
    displacement_weight: float = option(1.0, "weight of the displacement head", limits=(0, 1e6))
    association: Literal["displacement", "overlap"] = option(
        "displacement", "how detections find the objects that they continue"
    )
    missed: float = option(0.4, "fraction of the objects left out of the prior heatmap", limits=(0, 1))
    false: float = option(0.1, "false objects in the prior heatmap per object", limits=(0, 1))
    jitter: float = option(0.05, "noise of the prior heatmap's centres, in sizes of the box", limits=(0, 1))
    reach: int = option(3, "frames between the two of a training pair, at most", limits=(1, 1000))
    still_shift: float = option(
        0.1, "largest shift of a still image's second view, as a fraction of the input", limits=(0, 1)
    )
    still_zoom: float = option(
        0.05, "largest change of scale of a still image's second view", limits=(0, 0.5)
    )


@dataclass(frozen=True)
class Displacement(Regression):
    """From an object's cell to where its centre was in the frame before, cells."""

    def mirror(self, activated: Tensor) -> Tensor | None:
        return activated.flip(-1) * constant([-1, 1], activated)[:, None, None]


class Tracks(Task):
    """Objects of another task, followed through a video: its heads, and ``displacement`` [2].

    The network sees this frame, the one before, and a heatmap of what was found there. Instances and
    detections have the base's fields, ``track_id`` (N,) int64, which says who an object is (-1: unknown), and
    ``before`` (N, 2), where its centre was in the frame before (NaN: unknown), image pixels.

    Source: Zhou, Koltun, Krähenbühl, "Tracking Objects as Points", 2020.
    """

    name = "tracks"
    contract = 2
    Options = Options
    metrics: Mapping[str, MetricFactory] = {"tracks": metric(TrackEvaluator), **BOX_METRICS}  # type: ignore[misc]
    scenes: Scenes | None = Scenes(  # type: ignore[misc]
        SHAPES,
        draw_pair,
        counts={"train": 640, "val": 120},
        recipe=_DEMO,
        video=film,
        length=20,
        chosen=lambda options: _scenes_for(str(options.get("base", "ctdet"))),
    )

    def __init__(self, categories: Any, **options: Any) -> None:
        super().__init__(categories, **options)
        chosen: Options = self.options
        self.base = base = _base_of(chosen, list(self.categories))
        self.heads = {**base.heads, "displacement": Displacement(2, weight=chosen.displacement_weight)}
        self.fields: Mapping[str, Field] = {
            **base.fields,
            "track_id": Identity(json="track_id"),
            # Not measured: a wrong one shows as a wrong identity.
            "before": Points(json="previous", needed="never", measured=False, tolerance=0.02),
        }
        own = {"layout": base.layout, "suppression": base.suppression, "peaks": base.peaks}
        own["metrics"] = {"tracks": metric(TrackEvaluator), **base.metrics}
        if chosen.base != "ctdet":
            own["scenes"] = None if base.scenes is None else _scenes_for(chosen.base)
        own["needs_average"] = base.needs_average
        own["__doc__"] = f"{type(self).__doc__}\nThe base:\n{base.__doc__}"
        vars(self).update(own)
        self.frames = Frames(
            count=2,
            planes=1,
            link=_linked,
            tracker=OverlapTracker if chosen.association == "overlap" else DisplacementTracker,
            reach=chosen.reach,
            missed=chosen.missed,
            false=chosen.false,
            jitter=chosen.jitter,
            shift=chosen.still_shift,
            zoom=chosen.still_zoom,
        )

    # --- from annotations to targets

    def errors(self, annotation: Mapping[str, Any], image: Mapping[str, Any]) -> list[str]:
        return self.base.errors(annotation, image)

    def complete(self, instances: Instances, image: Mapping[str, Any]) -> Instances:
        """The base's derived columns, and unknown identities where the annotations have none."""
        return self.base.complete(instances, image)

    def encode(self, instances: Instances, grid: Grid) -> dict[str, Target]:
        cells = self.base.cells(instances, grid)
        known = (cells >= 0).all(axis=1) & np.isfinite(instances.before).all(axis=1) & ~instances.crowd
        displacement = CellTargets.of(cells[known], (instances.before - cells)[known])
        return {**self.base.encode(instances, grid), "displacement": displacement}

    def losses(self, predicted: Mapping[str, Tensor], targets: Mapping[str, Target]) -> dict[str, Loss]:
        own = self.heads["displacement"].loss(predicted["displacement"], targets["displacement"])
        return {**self.base.losses(*map(self._of_base, (predicted, targets))), "displacement": own}

    def taught(self, targets: Mapping[str, Target], seen: Mapping[str, Tensor]) -> Mapping[str, Target]:
        taught = self.base.taught(self._of_base(targets), self._of_base(seen))
        return {**taught, "displacement": targets["displacement"]}

    def cells(self, instances: Instances, grid: Grid) -> np.ndarray:
        return self.base.cells(instances, grid)

    def collides(self, instances: Instances, grid: Grid) -> np.ndarray:
        return self.base.collides(instances, grid)

    # --- from maps to results

    def decode(self, maps: Mapping[str, Tensor], k: int) -> Detections:
        found = self.base.decode(self._of_base(maps), k)
        cells = found.cells
        if "displacement" not in maps:  # a head may be missing in ablations
            return found.replace(before=(found.boxes[..., :2] + found.boxes[..., 2:]) / 2)
        return found.replace(before=cells + _read(maps["displacement"], cells))

    def lift(self, detections: Detections, view: View) -> Detections:
        return self.base.lift(detections, view)

    def overlap(self, a: Detections, b: Detections) -> np.ndarray:
        """As the base's objects overlap."""
        return self.base.overlap(a, b)

    def draw(self, image: np.ndarray, detections: Detections, info: ImageInfo | None = None) -> np.ndarray:
        return self.base.draw(image, detections, info)

    # --- training

    def recipes(self, backbone: str) -> Mapping[str, Recipe]:
        """The base's, for the same base."""
        recipes = self.base.recipes(backbone)
        return {name: _for_tracks(recipe, self.options.base) for name, recipe in recipes.items()}

    def _of_base(self, by_head: Mapping[str, Any]) -> dict[str, Any]:
        return {name: value for name, value in by_head.items() if name != "displacement"}


def _read(maps: Tensor, cells: Tensor) -> Tensor:
    """A map's values (B, k, D) at cells (B, k, 2)."""
    depth, width = maps.shape[1], maps.shape[3]
    place = (cells[..., 1] * width + cells[..., 0])[:, None].expand(-1, depth, -1)
    return maps.flatten(2).gather(2, place).transpose(1, 2)


def _linked(instances: Instances, earlier: np.ndarray) -> Instances:
    """The instances with ``before``: the centres of their boxes in the earlier frame."""
    return instances.replace(before=box_centres(earlier).astype(np.float32))


def _base_of(chosen: Options, categories: Sequence[Mapping[str, Any]]) -> Task:
    """The base task.

    Raises:
        CtnetError: for one that is unknown, that sees two frames itself, or that has no boxes.
    """
    pairs = [pair.partition("=") for pair in chosen.base_options.split(",") if pair.strip()]
    if any(not sign for _, sign, _ in pairs):
        raise CtnetError(
            f"option base_options of task tracks is {chosen.base_options!r}; write name=value, separated by "
            "commas"
        )
    options = {name.strip(): value.strip() for name, _, value in pairs}
    if chosen.base == Tracks.name:
        raise CtnetError("option base of task tracks is tracks itself; choose the task of one image")
    base = create_task(chosen.base, categories, **options)
    if "crowd" not in options and hasattr(base.options, "crowd"):  # regions in which nobody is told apart
        base = create_task(chosen.base, categories, **options, crowd="ignore")
    missing = [name for name in _NEEDED if name not in base.heads]
    if missing:
        raise CtnetError(
            f"task {chosen.base} has no head {' and '.join(missing)}, so its objects are not boxes around a "
            "centre that could be followed; choose another base, such as ctdet"
        )
    return base


def _scenes_for(base: str) -> Scenes:
    """The moving shapes; for another base its own scenes, with a second view as the frame before.

    Raises:
        CtnetError: for a base without scenes.
    """
    if base == "ctdet":
        return scenes_of(Tracks)
    scenes = scenes_of(load_task_class(base))

    def draw(rng: np.random.Generator, size: tuple[int, int]) -> Any:
        return second_view(rng, scenes.draw(rng, size))

    return replace(scenes, draw=draw, recipe=_for_tracks(scenes.recipe, base))


def _for_tracks(recipe: Recipe, base: str) -> Recipe:
    """A recipe of the base, with its options as those of tracks."""
    given = ",".join(f"{name}={value}" for name, value in recipe.options.items())
    named: dict[str, Any] = {} if base == "ctdet" else {"base": base}
    return replace(recipe, options={**named, "base_options": given} if given else named)
