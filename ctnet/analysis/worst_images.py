"""The images of a report on which a detector is most wrong, with everything that is drawn on them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np

from ctnet.analysis.breakdown import RIGHT, TYPES
from ctnet.analysis.scored import THRESHOLDS, WORST, Scored
from ctnet.core.documents import truth_of
from ctnet.core.evaluator import State
from ctnet.core.fields import Angle, Length, Points, move_record
from ctnet.core.geometry import Affine
from ctnet.core.heads import Heatmap
from ctnet.core.masks import Mask
from ctnet.core.records import Detections, ImageInfo
from ctnet.core.task import Task
from ctnet.data.dataset import Dataset
from ctnet.data.images import ImageError
from ctnet.inference.detector import Detector
from ctnet.measuring.reading import Settings
from ctnet.report.captions import Caption, place_captions
from ctnet.report.draw import without_captions
from ctnet.report.embedding import as_jpeg, fitting_scale, heat_picture, overlay_of, resized
from ctnet.report.page import Gallery, Mark, Shown

TITLES = {
    "missed": "Missed objects",
    "false": "False detections with high scores",
    "class": "Wrong class",
    "place": "Badly placed",
}

#: Detections that are drawn on an image, objects, and how many of each as their task draws them.
MOST_FOUND, _MOST_OBJECTS, _MOST_OVERLAYS = 40, 150, 12
_FEW_NAMES = 15  # with more objects, their names would cover the picture
_LEAST_SCORE = 0.05


@dataclass
class WorstImages:
    """Chooses images and draws them, as many as fit into a number of characters.

    Attributes:
        detector: where the heatmaps come from.
        dataset: the images, bound to the detector's task.
        found: detections by image id.
        scored: their matches.
        settings: test-time settings.
        step: objects count as missed, and detections as wrong, from this index of ``THRESHOLDS``.
        room: characters for the pictures.
        left_out: number of images that did not fit.
    """

    detector: Detector
    dataset: Dataset
    found: State
    scored: Scored
    settings: Settings
    step: int
    room: int
    left_out: int = field(default=0)

    def galleries(self, most: int) -> list[Gallery]:
        """The worst images by kind, no image twice.

        Args:
            most: images of each kind.
        """
        score = float(THRESHOLDS[self.step])
        queues = {kind: iter(self.scored.worst(score, kind)) for kind in WORST}
        taken: set[int] = set()
        images: dict[str, list[Shown]] = {kind: [] for kind in WORST}
        for _ in range(most):
            for kind, queue in queues.items():  # alternating, so that each kind has its worst ones
                index = next((one for one in queue if one not in taken), None)
                if index is None:
                    continue
                taken.add(index)
                shown = self.draw(index, self._reason(index, kind))
                if shown.size > self.room:
                    self.left_out += 1
                    continue
                self.room -= shown.size
                images[kind].append(shown)
        return [Gallery(TITLES[kind], some) for kind, some in images.items() if some]

    def draw(self, index: int, why: str) -> Shown:
        """One image.

        Args:
            index: in the data set.
            why: the reason to show it.
        """
        info = self.dataset.info(index)
        width, height = _size_of(info)
        canvas, picture, heat, why_not = None, "", "", ""
        try:
            image = self.dataset[index].image
        except ImageError as error:
            why_not = str(error)
        else:
            canvas = resized(image, (width, height))
            picture = as_jpeg(canvas)
            heat = self._heatmap(image, info, (width, height))
        to_picture = Affine.scaling(width / info.width, height / info.height)
        truth = move_record(truth_of(self.task, self.dataset.instances(index)), to_picture, self.task.fields)
        all_found = self.found.get(info.image_id, Detections.empty())
        rows, kinds = self._rows(index)
        found = move_record(all_found[rows[:MOST_FOUND]], to_picture, self.task.fields)
        return Shown(
            name=info.file_name,
            why=why,
            width=width,
            height=height,
            picture=picture,
            heatmap=heat,
            annotated=list(self._objects(index, truth, canvas, info)),
            detected=list(self._detections(found, kinds, canvas, info)),
            why_not=why_not,
        )

    @property
    def task(self) -> Task:
        """The detector's task."""
        return self.detector.task

    def _reason(self, index: int, kind: str) -> str:
        names = self.task.categories.names
        score = THRESHOLDS[self.step]
        if kind == "missed":
            mine = self.scored.object_image == index
            missed = int((mine & (self.scored.object_scores < score)).sum())
            return f"{missed} of {int(mine.sum())} objects missed"
        rows, kinds = self._rows(index)
        of_kind = self.scored.worst_row(index, kind)
        row = rows[of_kind]
        found = self.found[int(self.dataset.image_ids[index])]
        return (
            f"{names[int(found.labels[row])]} {float(found.scores[row]):.2f}: {_SAID[TYPES[kinds[of_kind]]]}"
        )

    def _rows(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        """Rows of the detections of an image that count, highest score first, and their kinds."""
        mine = np.flatnonzero(self.scored.image == index)
        return self.scored.row[mine], self.scored.kinds[mine]

    def _objects(
        self, index: int, truth: Detections, canvas: np.ndarray | None, info: ImageInfo
    ) -> Iterator[Mark]:
        scores = self.scored.object_scores[self.scored.object_image == index]
        names = self.task.categories.names
        named = len(names) > 1 and len(truth) <= _FEW_NAMES
        truth = truth[:_MOST_OBJECTS]
        texts = [names[int(label)] if named else "" for label in truth.labels]
        boxes, captions = _placed(truth, texts, info)
        for row, text in enumerate(texts):
            overlay = self._overlay(truth[row], canvas, info, row)
            yield Mark(boxes[row], text, captions[row], "object", step_of(float(scores[row])), overlay)

    def _detections(
        self, found: Detections, kinds: np.ndarray, canvas: np.ndarray | None, info: ImageInfo
    ) -> Iterator[Mark]:
        names, scores = self.task.categories.names, found.scores.tolist()
        words = [f"{names[int(label)]} " if len(names) > 1 else "" for label in found.labels]
        texts = [f"{word}{score:.2f}" for word, score in zip(words, scores, strict=True)]
        boxes, captions = _placed(found, texts, info)
        for row, score in enumerate(scores):
            kind = "right" if kinds[row] == RIGHT else TYPES[kinds[row]]
            overlay = self._overlay(found[row], canvas, info, row) if score >= _LEAST_SCORE else None
            yield Mark(boxes[row], texts[row], captions[row], kind, step_of(score), overlay)

    def _overlay(
        self, one: Detections, canvas: np.ndarray | None, info: ImageInfo, number: int
    ) -> tuple[str, tuple[int, int, int, int]] | None:
        """What the task draws for an object, where its fields say that it is more than a box."""
        shapes = (Points, Length, Angle, Mask)
        if canvas is None or number >= _MOST_OVERLAYS:
            return None
        if not any(isinstance(declared, shapes) for declared in self.task.fields.values()):
            return None
        height, width = canvas.shape[:2]
        with without_captions():
            drawn = [self.task.draw(np.full_like(canvas, paper), one, info) for paper in (0, 255)]
        return overlay_of(*(one[:height, :width] for one in drawn))

    def _heatmap(self, image: np.ndarray, info: ImageInfo, size: tuple[int, int]) -> str:
        """The first heatmap, the highest of its channels, over the picture; "" for an exported file."""
        if self.detector.exported is not None:
            return ""
        name = next((name for name, head in self.task.heads.items() if isinstance(head, Heatmap)), None)
        if name is None:
            return ""
        prepared = self.detector.preprocessor(self.settings.resize, self.settings.size)(image, info)
        heat = self.detector.maps([prepared])[name][0].amax(dim=0).float().cpu().numpy()
        to_picture = Affine.scaling(size[0] / info.width, size[1] / info.height)
        from_grid = to_picture.after(prepared.view(self.detector.description.stride).affine)
        return heat_picture(from_grid.warp(heat, size), size)


_SAID = {
    "background": "nothing there",
    "duplicate": "found a second time",
    "both": "wrong class and badly placed",
    "classification": "wrong class",
    "localisation": "badly placed",
}


def _size_of(info: ImageInfo) -> tuple[int, int]:
    """Width and height of the picture of an image."""
    scale = fitting_scale(info.width, info.height)
    return max(1, round(info.width * scale)), max(1, round(info.height * scale))


def step_of(score: float) -> int:
    """The last index of ``THRESHOLDS`` at which a score counts; -1 below all."""
    return int(np.searchsorted(THRESHOLDS, score, side="right")) - 1


def _placed(
    some: Detections, texts: Sequence[str], info: ImageInfo
) -> tuple[list[tuple[float, float, float, float]], list[Caption]]:
    """Boxes in pixels of the picture, and where their texts stand."""
    boxes = [_box(box) for box in some.boxes]
    return boxes, place_captions(boxes, texts, _size_of(info))


def _box(box: np.ndarray) -> tuple[float, float, float, float]:
    x1, y1, x2, y2 = (float(value) for value in box)
    return x1, y1, max(x2 - x1, 0.0), max(y2 - y1, 0.0)
