"""Joining the detections of one image that several looks at it gave."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ctnet.core.records import Detections
from ctnet.ops.nms import THRESHOLD, Nms, suppress


def merge(parts: Sequence[Detections], method: Nms, topk: int, threshold: float = THRESHOLD) -> Detections:
    """Join the detections of one image that several looks at it gave; suppress class by class.

    Args:
        parts: at least one; numpy columns, boxes in image pixels.
        method: see ``suppress``.
        topk: rows that are kept, all classes together.
        threshold: see ``suppress``.

    Returns:
        Best first, with the weakened scores.
    """
    joined = _joined(parts)
    labels = np.asarray(joined.labels)
    kept, scores = [np.zeros(0, np.int64)], [np.zeros(0)]
    for label in np.unique(labels) if method != "none" else [None]:
        members = np.arange(len(labels)) if label is None else np.flatnonzero(labels == label)
        rows, weakened = suppress(joined.boxes[members], joined.scores[members], method, threshold)
        kept.append(members[rows])
        scores.append(weakened)
    score = np.concatenate(scores)
    best = np.argsort(-score, kind="stable")[:topk]
    result = joined[np.concatenate(kept)[best]]
    return result.replace(scores=score[best].astype(np.asarray(joined.scores).dtype))


def _joined(parts: Sequence[Detections]) -> Detections:
    if len(parts) == 1:
        return parts[0]
    columns = [part.fields() for part in parts]
    joined = {name: np.concatenate([column[name] for column in columns]) for name in columns[0]}
    boxes, scores, labels = (joined.pop(name) for name in ("boxes", "scores", "labels"))
    return Detections(boxes, scores, labels, joined)
