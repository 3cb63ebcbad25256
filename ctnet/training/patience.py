"""Counting the evaluations that brought nothing new."""

from __future__ import annotations

from ctnet.training.state import Position


def evaluations_since_best(position: Position, metric: str) -> int:
    """Evaluations after that of the best epoch.

    Args:
        position: the progress of the run; its ``waits_from`` leaves out earlier ones.
        metric: the metric that decides which epoch is the best.
    """
    evaluated = [row for row in position.rows if metric in row]
    if not evaluated:
        return 0
    best = max(evaluated, key=lambda row: row[metric])  # the first of equal ones, as for best.pt
    return sum(row["epoch"] > max(best["epoch"], position.waits_from) for row in evaluated)
