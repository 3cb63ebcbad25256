"""The options of exdet."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from ctnet.plugin import option

#: k points of each edge make k^4 groups: more would take too long for every image.
_MOST_POINTS = 100


@dataclass(frozen=True)
class Options:
    """Options of exdet."""

    agnostic: bool = option(False, "one heatmap per edge for all classes; the centre has the class")
    points: int = option(
        40, "peaks per edge to group, 1 to 100; k peaks make k^4 groups", limits=(1, _MOST_POINTS)
    )
    point_threshold: float = option(0.1, "minimum value of an extreme point's peak")
    centre_threshold: float = option(0.1, "minimum value of the centre heatmap between the points")
    middle: Literal["points", "cells"] = option(
        "points", "look up the centre between the points, or (as released) between their cells"
    )
    aggregation: float = option(
        0.0, "weight of edge aggregation; ExtremeNet's is 0.1, the release's 0", limits=(0, math.inf)
    )
    ghosts: Literal["keep", "suppress"] = option(
        "keep", "halve the score of boxes around boxes with three times their score"
    )
    offset_weight: float = option(1.0, "weight of each offset head")
    radius: Literal["official", "corrected"] = option("official", "formula of the Gaussian radius")
    crowd: Literal["positive", "ignore"] = option(
        "positive", "crowd regions are objects, or only reduce the penalty around them"
    )
