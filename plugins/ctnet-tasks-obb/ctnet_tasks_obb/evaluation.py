"""Mean average precision over rotated IoU, by the rules of Pascal VOC and DOTA."""

from __future__ import annotations

import numpy as np

from ctnet.plugin import MatchedEvaluator
from ctnet_tasks_obb.boxes import corners_iou


class RotatedEvaluator(MatchedEvaluator):
    """Mean average precision of rotated boxes; DOTA's development kit averages over eleven recalls."""

    column = "corners"
    shape = (4, 2)

    def overlap(self, found: np.ndarray, objects: np.ndarray) -> np.ndarray:
        return corners_iou(found, objects)
