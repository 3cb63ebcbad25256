"""Grouping against a plain loop over all fours of points; its edges; its export; its memory."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from ctnet_tasks_exdet import ExtremeDetection
from ctnet_tasks_exdet.edges import EDGES
from ctnet_tasks_exdet.grouping import group_points
from ctnet_tasks_exdet.options import Options
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

HEIGHT, WIDTH = 9, 12


def random_maps(seed: int, classes: int, agnostic: bool, batch: int = 2) -> dict[str, Tensor]:
    """Maps with few peaks, so that points are in order now and then."""
    generator = torch.Generator().manual_seed(seed)

    def rand(channels: int) -> Tensor:
        return torch.rand((batch, channels, HEIGHT, WIDTH), generator=generator)

    maps = {edge: rand(1 if agnostic else classes) ** 2 for edge in EDGES}
    maps["centre"] = rand(classes)
    maps.update({f"{edge}_offset": 1.2 * rand(2) - 0.1 for edge in EDGES})
    return maps


def slow_points(maps: dict[str, Tensor], edge: str, count: int) -> list[tuple]:
    """(score, label, x, y, exact x, exact y) of one edge's highest peaks."""
    found = []
    heat = maps[edge]
    for label, y, x in itertools.product(range(len(heat)), range(HEIGHT), range(WIDTH)):
        around = heat[label, max(y - 1, 0) : y + 2, max(x - 1, 0) : x + 2]
        value = float(heat[label, y, x])
        if value >= float(around.max()):
            dx, dy = 0.5, 0.5
            if f"{edge}_offset" in maps:
                dx, dy = (float(value) for value in maps[f"{edge}_offset"][:, y, x])
            found.append((value, label, x, y, x + dx, y + dy))
    return sorted(found, reverse=True)[:count]


def slow_groups(maps: dict[str, Tensor], k: int, how: Options) -> list[tuple]:
    """(score, label, four points) of the best groups of one image: ExtremeNet's algorithm 1."""
    found = []
    points = [slow_points(maps, edge, how.points) for edge in EDGES]
    for top, left, bottom, right in itertools.product(*points):
        four = (top, left, bottom, right)
        if min(point[0] for point in four) < how.point_threshold:
            continue
        if any(top[3] > other[3] or bottom[3] < other[3] for other in four):
            continue
        if any(left[2] > other[2] or right[2] < other[2] for other in four):
            continue
        if not how.agnostic and len({point[1] for point in four}) > 1:
            continue
        if how.middle == "cells":
            x, y = (left[2] + right[2]) // 2, (top[3] + bottom[3]) // 2
        else:
            x = min(max(int((left[4] + right[4]) / 2), 0), WIDTH - 1)
            y = min(max(int((top[5] + bottom[5]) / 2), 0), HEIGHT - 1)
        values = maps["centre"][:, y, x]
        label = int(values.argmax()) if how.agnostic else top[1]
        centre = float(values[label])
        if centre >= how.centre_threshold:
            score = (sum(point[0] for point in four) + 2 * centre) / 6
            found.append((score, label, [point[4:] for point in four]))
    return sorted(found, key=lambda group: -group[0])[:k]


@given(
    seed=st.integers(0, 10_000),
    classes=st.integers(1, 3),
    agnostic=st.booleans(),
    between_cells=st.booleans(),
    offsets=st.booleans(),
    points=st.integers(1, 11),
    threshold=st.sampled_from([0.1, 0.4]),
)
@settings(max_examples=15, deadline=None)
def test_grouping_equals_a_plain_loop(seed, classes, agnostic, between_cells, offsets, points, threshold):
    maps = random_maps(seed, classes, agnostic)
    if not offsets:
        maps = {name: values for name, values in maps.items() if not name.endswith("_offset")}
    how = Options(
        points=points,
        point_threshold=threshold,
        centre_threshold=threshold,
        agnostic=agnostic,
        middle="cells" if between_cells else "points",
    )
    found = group_points(maps, 30, how)
    assert found.boxes.shape == (2, 30, 4)
    for image in range(2):
        expected = slow_groups({name: values[image] for name, values in maps.items()}, 30, how)
        count = len(expected)
        assert (found.scores[image, count:] == 0).all()
        scores = torch.tensor([group[0] for group in expected])
        torch.testing.assert_close(found.scores[image, :count], scores, atol=1e-5, rtol=0)
        assert found.labels[image, :count].tolist() == [group[1] for group in expected]
        at = torch.tensor([group[2] for group in expected]).reshape(count, 4, 2)
        torch.testing.assert_close(found.extreme_points[image, :count], at, atol=1e-4, rtol=0)
        box = torch.stack([at[:, 1, 0], at[:, 0, 1], at[:, 3, 0], at[:, 2, 1]], dim=1)
        torch.testing.assert_close(found.boxes[image, :count], box, atol=1e-4, rtol=0)


def test_the_loop_above_has_something_to_compare():
    counts = []
    for seed in range(10):
        maps = random_maps(seed, 2, False, batch=1)
        single = {name: values[0] for name, values in maps.items()}
        counts.append(len(slow_groups(single, 30, Options(points=11))))
    assert np.mean(counts) > 5


def test_one_object_comes_out_of_four_points_around_a_centre():
    maps = {edge: torch.zeros(1, 1, 16, 16) for edge in (*EDGES, "centre")}
    for edge, (x, y), value in (
        ("top", (7, 2), 0.9),
        ("left", (3, 6), 0.8),
        ("bottom", (6, 12), 0.7),
        ("right", (13, 9), 0.6),
    ):
        maps[edge][0, 0, y, x] = value
    maps["centre"][0, 0, 7, 8] = 0.5
    found = group_points(maps, 3, Options())
    assert found.scores[0].tolist() == pytest.approx([(0.9 + 0.8 + 0.7 + 0.6 + 2 * 0.5) / 6, 0, 0])
    assert found.boxes[0, 0].tolist() == [3.5, 2.5, 13.5, 12.5]
    for change in ({"centre_threshold": 0.51}, {"point_threshold": 0.61}):
        assert not group_points(maps, 3, Options(**change)).scores.any()


def test_a_small_grid_has_fewer_points_and_still_k_rows():
    maps = {name: values[..., :1, :2] for name, values in random_maps(0, 1, False).items()}
    found = group_points(maps, 50, Options())
    assert found.boxes.shape == (2, 50, 4)
    assert found.extreme_points.isfinite().all()


def test_wild_offsets_do_not_leave_the_grid():
    maps = random_maps(0, 2, False)
    maps.update({f"{edge}_offset": 1000 * (maps[f"{edge}_offset"] - 0.5) for edge in EDGES})
    assert group_points(maps, 20, Options()).boxes.isfinite().all()


class Decode(torch.nn.Module):
    def __init__(self, task: ExtremeDetection) -> None:
        super().__init__()
        self.task = task

    def forward(self, *maps: Tensor) -> tuple[Tensor, ...]:
        return tuple(self.task.decode(dict(zip(self.task.heads, maps, strict=True)), 20).fields().values())


def test_every_option_at_once_exports():
    onnxruntime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    task = ExtremeDetection(
        [{"id": 1, "name": "a"}, {"id": 2, "name": "b"}],
        agnostic=True,
        points=9,
        middle="cells",
        aggregation=0.05,
        ghosts="suppress",
    )

    def maps(seed: int) -> tuple[Tensor, ...]:
        made = random_maps(seed, 2, True, batch=1)
        # Aggregated scores are cut at 1: below that no two are equal.
        return tuple(0.5 * made[name] if "offset" not in name else made[name] for name in task.heads)

    program = torch.onnx.export(Decode(task).eval(), maps(0), dynamo=True, verbose=False)
    session = onnxruntime.InferenceSession(
        program.model_proto.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    for seed in (1, 2):
        inputs = {
            port.name: value.numpy() for port, value in zip(session.get_inputs(), maps(seed), strict=True)
        }
        expected = Decode(task)(*maps(seed))
        counts = expected[1] > 0
        assert counts.sum() > 5
        for got, wanted in zip(session.run(None, inputs), expected, strict=True):
            np.testing.assert_allclose(got[counts], wanted[counts], rtol=1e-4, atol=1e-4)


def test_memory_stays_far_below_that_of_all_groups():
    """40 points per edge make 2.56 million groups: 10 MB for each number that is kept of all of them."""
    largest = 0

    class Watch(torch.utils._python_dispatch.TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            nonlocal largest
            out = func(*args, **(kwargs or {}))
            if isinstance(out, Tensor):
                largest = max(largest, out.untyped_storage().nbytes())
            return out

    maps = {name: torch.rand(1, 2, 32, 32) for name in (*EDGES, "centre")}
    maps.update({f"{edge}_offset": torch.rand(1, 2, 32, 32) for edge in EDGES})
    with torch.inference_mode(), Watch():
        group_points(maps, 100, Options(points=40))
    assert 100_000 < largest < 2_000_000
