"""The studies of the paper: what point detectors and anchor detectors miss, and why.

Those that run a network are loaded on first use, so that the others need no torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from ctnet.analysis.anchors import UnmatchedAnchors, UnmatchedCount, count_unmatched_anchors
from ctnet.analysis.collisions import Collisions, CrowdedImage, Group, PairCount, count_collisions

if TYPE_CHECKING:
    from ctnet.analysis.breakdown import Breakdown, break_down
    from ctnet.analysis.nms import NmsComparison, compare_nms
    from ctnet.analysis.oracles import Oracle, oracle
    from ctnet.analysis.resolution import ResolutionComparison, compare_resolutions
    from ctnet.analysis.speed import Speed, measure_speed

_HOMES = {
    "Breakdown": "breakdown",
    "NmsComparison": "nms",
    "Oracle": "oracles",
    "ResolutionComparison": "resolution",
    "Speed": "speed",
    "break_down": "breakdown",
    "compare_nms": "nms",
    "compare_resolutions": "resolution",
    "measure_speed": "speed",
    "oracle": "oracles",
}

__all__ = [
    "Breakdown",
    "Collisions",
    "CrowdedImage",
    "Group",
    "NmsComparison",
    "Oracle",
    "PairCount",
    "ResolutionComparison",
    "Speed",
    "UnmatchedAnchors",
    "UnmatchedCount",
    "break_down",
    "compare_nms",
    "compare_resolutions",
    "count_collisions",
    "count_unmatched_anchors",
    "measure_speed",
    "oracle",
]


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(importlib.import_module(f"ctnet.analysis.{_HOMES[name]}"), name)
    raise AttributeError(f"module 'ctnet.analysis' has no attribute {name!r}")
