"""Pascal VOC's mean average precision."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import get_args

import numpy as np

from ctnet.core.evaluator import metric
from ctnet.evaluation.matching import MatchedEvaluator, Metric
from ctnet.ops.boxes import box_iou


class VocEvaluator(MatchedEvaluator):
    """Mean average precision at an IoU of 0.5, as the VOC development kit computes it.

    ``compute`` gives ``mAP`` and ``AP/<class>`` in [0, 1]; the rules are those of ``MatchedEvaluator``.

    Boxes are given by their edges here, so areas are width times height. The development kit uses inclusive
    pixel indices and adds 1 to every width and height, which gives the same areas: ``ctnet convert voc``
    writes the edges of those pixels.
    """

    main_metric = "mAP"
    overlaps = (0.5,)

    def overlap(self, found: np.ndarray, objects: np.ndarray) -> np.ndarray:
        return box_iou(found, objects)

    def figures(self, table: Mapping[str, Sequence[float]]) -> dict[str, float]:
        by_class = {f"AP/{name}": row[0] for name, row in table.items()}
        return {"mAP": float(np.mean(list(by_class.values()))) if by_class else 0.0, **by_class}


#: Pascal VOC's mAP as of 2007 (11 recalls) and of 2010 (the area under the curve).
VOC_METRICS = {name: metric(VocEvaluator, metric=name) for name in get_args(Metric)}
