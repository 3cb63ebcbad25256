"""COCO's metrics over masks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ctnet.plugin import CocoBoxEvaluator, CtnetError, Detections, Outline, RunLength, outline_of


class CocoMaskEvaluator(CocoBoxEvaluator):
    """COCO's metrics with the overlap of masks; an object that is annotated by its box alone is that box."""

    needs_all = True
    masks = True

    def __init__(
        self,
        ground_truth: Mapping[str, Any],
        category_ids: Sequence[int] | np.ndarray,
        class_names: Sequence[str],
        engine: str = "faster-coco-eval",
    ) -> None:
        """See ``CocoEvaluator``."""
        super().__init__(ground_truth, category_ids, class_names, engine)
        self._sizes = {
            int(image["id"]): (int(image["width"]), int(image["height"])) for image in ground_truth["images"]
        }
        for annotation in self.annotations:
            size = self._sizes[int(annotation["image_id"])]
            annotation["segmentation"] = _encoded(annotation.get("segmentation"), annotation["bbox"], size)

    def results(self, image_id: int, detections: Detections) -> list[dict[str, Any]]:
        """As entries with an encoding each."""
        if len(detections) and "mask" not in detections.fields():
            raise CtnetError(
                f"the detections of image {image_id} have no masks (segmentation in a results file), which "
                "this metric measures; choose --metric coco for boxes"
            )
        entries = super().results(image_id, detections)
        size = self._sizes[image_id]
        masks = detections.fields().get("mask", ())
        for entry, mask in zip(entries, masks, strict=True):
            entry["segmentation"] = (Outline(()) if mask is None else mask).runs(*size).encoding
        return entries


def _encoded(segmentation: Any, bbox: Sequence[float], size: tuple[int, int]) -> dict[str, Any]:
    """An annotation's mask as COCO's tools take it."""
    if isinstance(segmentation, Mapping):
        return RunLength.of_coco(segmentation).encoding
    x, y, width, height = bbox
    around = [[x, y, x + width, y, x + width, y + height, x, y + height]]
    outline = outline_of(segmentation or around)
    assert outline is not None
    return outline.runs(*size).encoding
