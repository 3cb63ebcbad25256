"""Operating points of a training: chosen from each evaluation whose weights are kept, stored with them."""

from __future__ import annotations

from ctnet import checkpoint
from ctnet.base.errors import CtnetError
from ctnet.core.operating import OperatingPoints
from ctnet.core.tally import Tally
from ctnet.data.dataset import Dataset
from ctnet.evaluation.operating import operating_points, warnings_of
from ctnet.training.run import Run

#: Draws of the intervals: fewer than in a study, since thresholds are chosen again with every better epoch.
_DRAWS = 200


def points_of(tally: Tally | None, val: Dataset | None) -> OperatingPoints | None:
    """The thresholds of the best F1 on the validation images.

    Args:
        tally: what they contributed to the evaluation.
        val: the data set that they are of.

    Returns:
        None without an evaluation, and where none can be chosen: nothing found, one image, an evaluator of a
        plugin that keeps no tally.
    """
    if tally is None or val is None:
        return None
    try:
        return operating_points(tally, val.split or "val", draws=_DRAWS)
    except CtnetError:
        return None


def threshold_lines(run: Run) -> list[str]:
    """What there is to say about the operating points in a finished run's best.pt."""
    points = checkpoint.load(run.best).operating_points if run.best.is_file() else None
    if points is None:
        return ["no operating points were chosen; `ctnet analyze thresholds` says why"]
    return [points.said, *(f"warning: {line}" for line in warnings_of(points))]
