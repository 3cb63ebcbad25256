"""The rotation's bins, the losses of the paper and of the released code, depth, mirror images."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ctnet.core.losses import Loss
from ctnet.core.targets import CellTargets
from ctnet_tasks_ddd.camera import wrap
from ctnet_tasks_ddd.heads import (
    Depth,
    Distances,
    Rotation,
    Values,
    angle_of,
    released_rotation_losses,
    rotation_loss,
    rotation_values,
)

ANGLES = np.linspace(-math.pi, math.pi, 721)


def targets(angles: np.ndarray, seed: int = 0) -> CellTargets:
    """Rotation targets in cells of a 5x7 map, one per cell."""
    cells = np.random.default_rng(seed).permutation(35)[: len(angles)]
    return CellTargets.of(np.stack([cells % 7, cells // 7], axis=1), *rotation_values(angles))


@settings(max_examples=50, deadline=None)
@given(st.floats(-math.pi, math.pi))
def test_an_angle_comes_back_from_its_targets(angle: float) -> None:
    value, _ = rotation_values(np.array([angle]))
    found = float(angle_of(torch.from_numpy(value))[0])
    assert -math.pi - 1e-6 <= found <= math.pi
    assert abs(wrap(found - angle)) < 1e-5


def test_the_bins_overlap_by_sixty_degrees_at_both_ends() -> None:
    value, weight = rotation_values(ANGLES)
    first, second = value[:, 1] == 1, value[:, 5] == 1
    assert (first | second).all()
    both = np.abs(np.abs(wrap(ANGLES)) - math.pi / 2) > math.pi / 3 + 1e-3
    np.testing.assert_array_equal((first & second)[both], True)
    alone = np.abs(np.abs(wrap(ANGLES)) - math.pi / 2) < math.pi / 3 - 1e-3
    np.testing.assert_array_equal((first & second)[alone], False)
    np.testing.assert_array_equal(weight[:, 2], first)
    np.testing.assert_array_equal(weight[:, 0], 1)


def test_the_surer_bin_decides() -> None:
    value, _ = rotation_values(np.array([0.2]))  # in both bins
    rotation = torch.from_numpy(np.repeat(value, 2, axis=0))
    rotation[0, 1], rotation[0, 2:4] = 3, torch.tensor([0.0, 1.0])  # the middle of the first
    rotation[1, 5], rotation[1, 6:8] = 3, torch.tensor([0.0, 1.0])
    np.testing.assert_allclose(angle_of(rotation), [-math.pi / 2, math.pi / 2], atol=1e-6)


def test_the_mirror_of_the_maps_is_that_of_the_angle() -> None:
    value, _ = rotation_values(ANGLES)
    maps = torch.from_numpy(value.T[None, :, None].copy())
    mirrored = Rotation(8).mirror(maps)
    found = angle_of(mirrored.flip(-1)[0, :, 0].T).numpy()
    assert np.abs(wrap(found - (math.pi - ANGLES))).max() < 1e-5


def test_distances_change_sides_in_the_mirror() -> None:
    maps = torch.arange(4.0).view(1, 4, 1, 1) * torch.ones(1, 1, 1, 3)
    assert Distances(4).mirror(maps)[0, :, 0, 0].tolist() == [2, 1, 0, 3]


def mean(*losses: Loss) -> float:
    """Their means, added."""
    return sum((loss.total / loss.count.clamp(min=1)).item() for loss in losses)


def slow_rotation_loss(output: np.ndarray, angles: np.ndarray, norm: str) -> tuple[float, list[list[float]]]:
    """Cross entropy summed over objects, and the errors of sine and cosine by bin."""
    entropy, errors = 0.0, [[], []]
    for row, angle in zip(output.astype(float), angles, strict=True):
        for number, mid in enumerate((-math.pi / 2, math.pi / 2)):
            part = row[4 * number : 4 * number + 4]
            turn = wrap(angle - mid)
            inside = abs(turn) < 2 * math.pi / 3
            probability = np.exp(part[:2]) / np.exp(part[:2]).sum()
            entropy -= math.log(probability[int(inside)])
            if inside:
                for value, wanted in ((part[2], math.sin(turn)), (part[3], math.cos(turn))):
                    error = abs(value - wanted)
                    errors[number].append(error if norm == "l1" or error >= 1 else error**2 / 2)
                    if norm == "smooth" and error >= 1:
                        errors[number][-1] -= 0.5
    return entropy, errors


def test_the_rotation_losses_equal_the_obvious_ones() -> None:
    angles = np.random.default_rng(1).uniform(-math.pi, math.pi, 9)
    output = torch.randn(9, 8, generator=torch.Generator().manual_seed(2)) * 2
    target = targets(angles)
    entropy, errors = slow_rotation_loss(output.numpy(), angles, "l1")
    expected = (entropy + sum(map(sum, errors))) / 9
    assert mean(rotation_loss(output, target)) == pytest.approx(expected, rel=1e-5)
    entropy, errors = slow_rotation_loss(output.numpy(), angles, "smooth")
    expected = (entropy + 2 * (20 - 9) * math.log(2)) / 20 + sum(2 * np.mean(part) for part in errors)
    released = released_rotation_losses(output, target, 20)
    assert [*released] == ["rotation_bins", "rotation_first", "rotation_second"]
    assert mean(*released.values()) == pytest.approx(expected, rel=1e-5)
    twice = released_rotation_losses(output, dataclasses.replace(target, images=2), 20)
    assert (twice["rotation_bins"].count, released["rotation_bins"].count) == (40, 20)


@pytest.mark.parametrize("head", [Values(8), Values(8, slots=50), Depth(8), Depth(8, slots=50), Rotation(8)])
def test_losses_without_objects_are_finite_and_have_no_gradient(head) -> None:
    raw, target = torch.randn(2, 8, 5, 7).requires_grad_(), targets(np.zeros(0))
    loss = head.loss(target.gather(raw), target)
    loss.total.backward()
    assert math.isfinite(mean(loss))
    assert not raw.grad.any()


def test_in_the_release_every_empty_slot_costs() -> None:
    losses = released_rotation_losses(torch.zeros(0, 8), targets(np.zeros(0)), 50)
    assert mean(*losses.values()) == pytest.approx(2 * math.log(2))


def test_the_paper_divides_by_what_counts_the_release_by_slots() -> None:
    value = np.array([[2.0, 4, 6], [10, 10, 10]])
    one = CellTargets.of([[1, 1], [2, 2]], value, np.array([[1.0, 1, 1], [0, 0, 0]]))
    samples = CellTargets.collate([one, CellTargets.of(np.zeros((0, 2)), np.zeros((0, 3)))])
    predicted = torch.zeros(2, 3)
    assert mean(Values(3).loss(predicted, samples)) == pytest.approx(4)
    assert mean(Values(3, slots=50).loss(predicted, samples)) == pytest.approx(12 / (2 * 50 * 3))


def test_depth_is_finite_and_learnt_from_any_raw_value() -> None:
    raw = torch.linspace(-30, 30, 61)
    depth = Depth(1).activate(raw)
    assert depth.isfinite().all()
    assert (depth.diff() <= 0).all()
    np.testing.assert_allclose(Depth(1).activate(torch.tensor(-math.log(20.0))), 20, rtol=1e-3)
    assert Depth(1).activate(torch.tensor(Depth(1).bias)).item() == pytest.approx(20, rel=0.02)
    np.testing.assert_allclose(Depth(1).activate(torch.zeros(1, dtype=torch.bfloat16)), 1, atol=1e-5)
