"""The studies of the paper: the objects that point and anchor detectors miss, and why.

Those that run a network are imported on first use, so that the others need no torch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ctnet.analysis.anchors import Anchors, UnmatchedAnchors, UnmatchedCount, count_unmatched_anchors
from ctnet.analysis.collisions import Collisions, CrowdedImage, Group, PairCount, count_collisions
from ctnet.base.lazy import lazy_attributes

if TYPE_CHECKING:
    from ctnet.analysis.breakdown import Breakdown, break_down
    from ctnet.analysis.nms import NmsComparison, compare_nms
    from ctnet.analysis.oracles import Oracle, oracle
    from ctnet.analysis.resolution import ResolutionComparison, compare_resolutions
    from ctnet.analysis.speed import Speed, measure_speed
    from ctnet.analysis.thresholds import ThresholdStudy, choose_thresholds

_HOMES = {
    "Breakdown": "ctnet.analysis.breakdown",
    "NmsComparison": "ctnet.analysis.nms",
    "Oracle": "ctnet.analysis.oracles",
    "ResolutionComparison": "ctnet.analysis.resolution",
    "Speed": "ctnet.analysis.speed",
    "ThresholdStudy": "ctnet.analysis.thresholds",
    "break_down": "ctnet.analysis.breakdown",
    "choose_thresholds": "ctnet.analysis.thresholds",
    "compare_nms": "ctnet.analysis.nms",
    "compare_resolutions": "ctnet.analysis.resolution",
    "measure_speed": "ctnet.analysis.speed",
    "oracle": "ctnet.analysis.oracles",
}

__all__ = [
    "Anchors",
    "Breakdown",
    "Collisions",
    "CrowdedImage",
    "Group",
    "NmsComparison",
    "Oracle",
    "PairCount",
    "ResolutionComparison",
    "Speed",
    "ThresholdStudy",
    "UnmatchedAnchors",
    "UnmatchedCount",
    "break_down",
    "choose_thresholds",
    "compare_nms",
    "compare_resolutions",
    "count_collisions",
    "count_unmatched_anchors",
    "measure_speed",
    "oracle",
]

__getattr__ = lazy_attributes(__name__, _HOMES)


def __dir__() -> list[str]:
    return list(__all__)
