"""Edge aggregation against a plain loop."""

from __future__ import annotations

import pytest
import torch
from ctnet_tasks_exdet.aggregation import aggregate, climbing_sum
from hypothesis import given, settings
from hypothesis import strategies as st


def slow_climbing_sum(values: list[float]) -> list[float]:
    sums = []
    for index, _ in enumerate(values):
        total, before = 0.0, index
        while before > 0 and values[before] >= values[before - 1]:
            before -= 1
            total += values[before]
        sums.append(total)
    return sums


@given(st.lists(st.sampled_from([0.0, 0.25, 0.5, 0.75, 1.0]), min_size=1, max_size=20))
@settings(deadline=None)
def test_the_sum_equals_a_plain_loop(values):
    heat = torch.tensor(values).reshape(1, 1, 1, -1)
    assert climbing_sum(heat, 3).flatten().tolist() == pytest.approx(slow_climbing_sum(values))


def test_each_line_of_a_map_is_added_up_on_its_own_from_both_sides():
    heat = torch.rand(2, 3, 5, 7, generator=torch.Generator().manual_seed(0))
    for dim in (2, 3):
        got = aggregate(heat, dim, 0.1).transpose(dim, 3).reshape(-1, heat.shape[dim])
        for line, sums in zip(heat.transpose(dim, 3).reshape(-1, heat.shape[dim]).tolist(), got, strict=True):
            rising, falling = slow_climbing_sum(line), slow_climbing_sum(line[::-1])[::-1]
            wanted = [v + 0.1 * (a + b) for v, a, b in zip(line, rising, falling, strict=True)]
            assert sums.tolist() == pytest.approx(wanted, abs=1e-6)


def test_a_flat_edge_outdoes_a_lone_peak():
    heat = torch.zeros(1, 1, 3, 9)
    heat[0, 0, 1] = torch.tensor([0, 0, 0.3, 0.3, 0.3, 0.3, 0, 0, 0.4])
    strong = aggregate(heat, 3, 0.5)
    assert strong[0, 0, 1, 2:6].max() > strong[0, 0, 1, 8]
