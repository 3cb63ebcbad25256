"""Dividing items with several labels: sizes, proportions, reproducibility."""

from __future__ import annotations

import numpy as np
import pytest

from ctnet.data.stratify import stratify


def items(rng: np.random.Generator, count: int, rates: list[float]) -> np.ndarray:
    labels = (rng.random((count, len(rates))) < rates).astype(float)
    return np.concatenate([labels, np.ones((count, 1))], axis=1)


def shares_of(labels: np.ndarray, parts: np.ndarray, part: int) -> np.ndarray:
    return labels[parts == part].sum(axis=0) / labels.sum(axis=0)


@pytest.mark.parametrize("seed", range(5))
def test_each_label_is_divided_as_the_whole_and_better_than_at_random(seed: int) -> None:
    rng = np.random.default_rng(seed)
    labels = items(rng, 400, [0.5, 0.3, 0.05, 0.02])
    parts = stratify(labels, [0.8, 0.2], rng)
    off = np.abs(shares_of(labels, parts, 1) - 0.2)
    assert (parts == 1).sum() == 80
    assert (off * labels.sum(axis=0) <= 1.01).all()  # no label is off by more than an item
    drawn = (rng.permutation(400) < 80).astype(int)
    assert off.sum() < np.abs(shares_of(labels, drawn, 1) - 0.2).sum()


def test_rare_labels_reach_every_part() -> None:
    rng = np.random.default_rng(0)
    labels = items(rng, 300, [0.6, 0.0])
    labels[:5, 1] = 1  # five items of 300
    parts = stratify(labels, [0.2] * 5, rng)
    assert sorted(parts[:5]) == [0, 1, 2, 3, 4]
    assert np.bincount(parts).tolist() == [60] * 5


def test_parts_are_filled_even_where_every_item_has_a_label_of_its_own() -> None:
    labels = np.concatenate([np.eye(10), np.ones((10, 1))], axis=1)
    assert np.bincount(stratify(labels, [0.7, 0.2, 0.1], np.random.default_rng(0))).tolist() == [7, 2, 1]


def test_heavy_items_are_counted_by_their_weight() -> None:
    weights = np.array([30.0] + [1.0] * 70)
    labels = np.stack([weights, weights], axis=1)
    parts = stratify(labels, [0.7, 0.3], np.random.default_rng(0))
    assert abs(weights[parts == 1].sum() - 30) <= 1


def test_the_generator_decides() -> None:
    labels = items(np.random.default_rng(0), 60, [0.4])
    first, again, other = (stratify(labels, [0.5, 0.5], np.random.default_rng(seed)) for seed in (1, 1, 2))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


def test_nothing_to_divide() -> None:
    assert stratify(np.zeros((0, 2)), [0.5, 0.5], np.random.default_rng(0)).tolist() == []
