"""Center grouping: every four extreme points around a centre are an object."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from ctnet.plugin import Detections, find_peaks, locate
from ctnet_tasks_exdet.aggregation import aggregate
from ctnet_tasks_exdet.edges import BOTTOM, EDGES, LEFT, OUTWARD, RIGHT, TOP
from ctnet_tasks_exdet.options import Options

#: Number of top points that are combined with all other points at a time, which bounds memory.
_SLAB = 5
#: Added to the score of an invalid group: far below any group's sum of six values in [0, 1].
_REJECTED = -100.0


def group_points(maps: Mapping[str, Tensor], k: int, options: Options) -> Detections:
    """Activated maps -> k objects per image on the output grid, best first; rows of score 0 are not objects.

    Four points are an object when they are in order (none above the top one, none left of the left one, ...),
    of one class, and the centre heatmap has a high value in the middle between them. The score is the mean of
    the four and twice the centre's.

    Args:
        maps: ``top``, ``left``, ``bottom``, ``right`` (B, C or 1, H, W), ``centre`` (B, C, H, W), and
            optionally ``top_offset``, ... (B, 2, H, W); without them points lie in the middle of their cells.
        k: objects per image.
        options: exdet's options.

    Returns:
        Detections with ``extreme_points`` (B, k, 4, 2).

    Source: ExtremeNet, algorithm 1; thresholds, score and order as in the released code.
    """
    edges = [_find(maps, name, dim, options) for name, dim in zip(EDGES, (3, 2, 3, 2), strict=True)]
    centre = maps["centre"]
    height, width = centre.shape[2:]
    row, column = _middles(edges, 1, height, options), _middles(edges, 0, width, options)
    heat, label = centre.max(dim=1, keepdim=True) if options.agnostic else (centre, None)
    heat = torch.where(heat >= options.centre_threshold, 2 * heat, _REJECTED).flatten(1, 2)
    row_of_heat = row if options.agnostic else row + height * edges[TOP].label.unsqueeze(2)
    score, number = _best_groups(heat, row_of_heat, column, _Sums.of(edges, options), k)
    picked = _points_of(number, edges[TOP].score.shape[1])
    columns = [one.unsqueeze(2).expand(-1, -1, 2) for one in picked]
    points = torch.stack([edge.at.gather(1, at) for edge, at in zip(edges, columns, strict=True)], dim=2)
    x, y = _pairs(column, picked[LEFT], picked[RIGHT]), _pairs(row, picked[TOP], picked[BOTTOM])
    if label is None:
        labels = edges[TOP].label.gather(1, picked[TOP])
    else:
        labels = label.flatten(1).gather(1, y * width + x)
    boxes = [points[:, :, LEFT, 0], points[:, :, TOP, 1], points[:, :, RIGHT, 0], points[:, :, BOTTOM, 1]]
    extra = {"extreme_points": points, "cells": torch.stack([x, y], dim=2)}
    return Detections(torch.stack(boxes, dim=2), score, labels, extra)


class _Points(NamedTuple):
    """The k highest peaks of one edge, best first."""

    score: Tensor  #: (B, k) in [0, 1]
    label: Tensor  #: (B, k) int64
    cell: Tensor  #: (B, k, 2) int64, (x, y)
    at: Tensor  #: (B, k, 2), the points on the grid


def _find(maps: Mapping[str, Tensor], name: str, dim: int, options: Options) -> _Points:
    heatmap = maps[name]
    if options.aggregation > 0:
        heatmap = aggregate(heatmap, dim, options.aggregation)
    peaks = find_peaks(heatmap, options.points)
    at = locate(peaks, maps.get(f"{name}_offset"))
    return _Points(peaks.score.clamp(max=1), peaks.channel, peaks.cells, at)


def _middles(edges: list[_Points], axis: int, size: int, options: Options) -> Tensor:
    """(B, k, k) int64: the cell in the middle between every top (left) and every bottom (right) point.

    Args:
        edges: the points.
        axis: 1 for rows, between top and bottom; 0 for columns, between left and right.
        size: the size of the grid along that axis.
        options: whether to use points or their cells.
    """
    one, other = (edges[TOP], edges[BOTTOM]) if axis == 1 else (edges[LEFT], edges[RIGHT])
    if options.middle == "cells":
        total = one.cell[:, :, axis].unsqueeze(2) + other.cell[:, :, axis].unsqueeze(1)
        return torch.div(total, 2, rounding_mode="floor")
    middle = (one.at[:, :, axis].unsqueeze(2) + other.at[:, :, axis].unsqueeze(1)) / 2
    return middle.floor().clamp(0, size - 1).long()  # an extreme offset must not leave the grid


class _Sums(NamedTuple):
    """The score of a group of points without its centre, in terms that depend on fewer than four points.

    The terms add up to the sum of the four scores; it is far below zero where points are out of order, of
    different classes or too weak.
    """

    top_bottom_left: Tensor  #: (B, k, k, k)
    top_right: Tensor  #: (B, k, k)
    bottom_left_right: Tensor  #: (B, k, k, k)

    @classmethod
    def of(cls, edges: list[_Points], options: Options) -> _Sums:
        """Compute the terms; the order of points is that of their cells, as released."""
        score = [torch.where(edge.score >= options.point_threshold, edge.score, _REJECTED) for edge in edges]

        def pair(one: int, other: int) -> Tensor:
            """(B, k, k): 0 for points of two edges that can be one group, else far below."""
            first, second = edges[one], edges[other]
            # No point is further out than that of the edge itself.
            fits = _outward(first, one).unsqueeze(2) >= _outward(second, one).unsqueeze(1)
            fits &= _outward(second, other).unsqueeze(1) >= _outward(first, other).unsqueeze(2)
            if one == TOP and not options.agnostic:
                fits &= first.label.unsqueeze(2) == second.label.unsqueeze(1)
            return torch.where(fits, 0.0, _REJECTED)

        top_bottom = pair(TOP, BOTTOM) + score[TOP].unsqueeze(2) + score[BOTTOM].unsqueeze(1)
        top_left = pair(TOP, LEFT) + score[LEFT].unsqueeze(1)
        return cls(
            top_bottom.unsqueeze(3) + top_left.unsqueeze(2) + pair(BOTTOM, LEFT).unsqueeze(1),
            pair(TOP, RIGHT) + score[RIGHT].unsqueeze(1),
            pair(BOTTOM, RIGHT).unsqueeze(2) + pair(LEFT, RIGHT).unsqueeze(1),
        )


def _outward(points: _Points, edge: int) -> Tensor:
    """(B, k) int64: position of points' cells along an edge's outward direction."""
    axis, sign = OUTWARD[edge]
    return sign * points.cell[:, :, axis]


def _best_groups(heat: Tensor, row: Tensor, column: Tensor, sums: _Sums, k: int) -> tuple[Tensor, Tensor]:
    """Scores (B, k) of the best groups, and their numbers (B, k), see ``_points_of``.

    Top points are processed a few at a time, so that not all groups are in memory at once.

    Args:
        heat: (B, rows, W), twice the centre heatmap.
        row: (B, k, k), by top and bottom: the centre's row of ``heat``.
        column: (B, k, k), by left and right: the centre's column.
        sums: the terms of the points' scores.
        k: number of groups; if there are fewer, the last rows have score 0.
    """
    count, width = column.shape[1], heat.shape[2]
    columns = column.flatten(1).unsqueeze(1)  # (B, 1, k^2)
    scores, numbers = [], []
    for start in range(0, count, _SLAB):
        slab = slice(start, start + _SLAB)
        rows = row[:, slab].flatten(1).unsqueeze(2)
        rows = heat.gather(1, rows.expand(-1, -1, width))  # (B, slab k, W)
        total = rows.gather(2, columns.expand(-1, rows.shape[1], -1))
        total = total.view(-1, rows.shape[1] // count, count, count, count)  # by top, bottom, left, right
        # In place: these are by far the largest tensors here.
        total += sums.top_bottom_left[:, slab].unsqueeze(4)
        total += sums.top_right[:, slab, None, None, :]
        total += sums.bottom_left_right.unsqueeze(1)
        total = total.flatten(1)
        score, number = total.topk(min(k, total.shape[1]), dim=1)
        scores.append(score)
        numbers.append(number + start * count * count * count)
    joined = torch.cat(scores, dim=1)
    score, position = joined.topk(min(k, joined.shape[1]), dim=1)
    number = torch.cat(numbers, dim=1).gather(1, position)
    missing = (0, k - score.shape[1])
    return functional.pad(score.clamp(min=0) / 6, missing), functional.pad(number, missing)


def _points_of(number: Tensor, count: int) -> list[Tensor]:
    """The point of each edge of groups, in the order of ``EDGES``.

    Args:
        number: (B, n), of groups: its digits to the base of ``count`` are the points of top, bottom, left and
            right.
        count: points of each edge.
    """
    places = (3, 1, 2, 0)  # of the digits of top, left, bottom and right
    # With neither % nor powers of the count: exporters know no such operations on sizes that are not fixed.
    above = [number]
    for _ in range(4):
        above.append(torch.div(above[-1], count, rounding_mode="floor"))
    return [above[place] - above[place + 1] * count for place in places]


def _pairs(table: Tensor, first: Tensor, second: Tensor) -> Tensor:
    """Entries (B, n) of a table (B, k, k)."""
    return table.flatten(1).gather(1, first * table.shape[2] + second)
