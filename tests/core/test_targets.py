from __future__ import annotations

import numpy as np
import pytest
import torch

from ctnet.core.heads import BoxDistances
from ctnet.core.targets import CellTargets, DenseTargets, Grid, Peaks, collate_targets, join_targets


def peaks(count: int, start: int = 0) -> Peaks:
    points = np.stack([np.arange(count) + start + 0.5, np.arange(count) + 0.25], 1)
    return Peaks.of(points, np.arange(count), np.full(count, start))


def samples(count: int, depth: int = 2, seed: int = 0) -> CellTargets:
    rng = np.random.default_rng([seed, count])
    return CellTargets.of(
        rng.integers(0, 5, (count, 2)), rng.random((count, depth)), rng.random((count, depth))
    )


@pytest.mark.parametrize("counts", [(2, 3), (0, 2, 0, 0, 1), (0, 0), (1,), (4, 0)])
def test_peaks_are_joined_with_the_number_of_their_image(counts: tuple[int, ...]) -> None:
    parts = [peaks(count, start=10 * number) for number, count in enumerate(counts)]
    joined = Peaks.collate(parts)
    assert len(joined) == sum(counts)
    assert joined.batch.tolist() == [number for number, count in enumerate(counts) for _ in range(count)]
    for name in ("x", "y", "radius", "channel", "positive"):
        assert getattr(joined, name).tolist() == [v for part in parts for v in getattr(part, name).tolist()]
    assert joined.cells == sum((2 * r + 1) ** 2 for count in counts for r in range(count))


@pytest.mark.parametrize("counts", [(2, 3), (0, 2, 0), (0, 0)])
def test_samples_are_joined(counts: tuple[int, ...]) -> None:
    parts = [samples(count, seed=number) for number, count in enumerate(counts)]
    joined = CellTargets.collate(parts)
    assert joined.value.shape == joined.weight.shape == (sum(counts), 2)
    for number, part in enumerate(parts):
        mine = joined.batch == number
        assert torch.equal(joined.value[mine], part.value)
        assert torch.equal(joined.x[mine], part.x)


def test_collate_targets_keeps_the_kind() -> None:
    assert isinstance(collate_targets([peaks(1), peaks(2)]), Peaks)
    assert isinstance(collate_targets([samples(1), samples(2)]), CellTargets)


def test_types() -> None:
    one, other = peaks(2), samples(2)
    assert [c.dtype for c in (one.batch, one.x, one.radius, one.channel, one.positive)] == [
        torch.int64,
        torch.float32,
        torch.int64,
        torch.int64,
        torch.bool,
    ]
    assert [c.dtype for c in (other.batch, other.x, other.value, other.weight)] == [
        torch.int64,
        torch.int64,
        torch.float32,
        torch.float32,
    ]
    assert isinstance(one.cells, int)


def test_defaults() -> None:
    assert peaks(3).positive.all()
    assert (CellTargets.of(np.zeros((3, 2)), np.zeros((3, 4))).weight == 1).all()


def test_gather_equals_a_plain_loop() -> None:
    joined = CellTargets.collate([samples(7, seed=1), samples(0), samples(9, seed=2)])
    maps = torch.rand(3, 4, 5, 6)
    gathered = joined.gather(maps)
    assert gathered.shape == (16, 4)
    for row in range(len(joined)):
        image, y, x = (int(column[row]) for column in (joined.batch, joined.y, joined.x))
        assert torch.equal(gathered[row], maps[image, :, y, x])


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_gather_reads_any_layout_and_its_gradient_adds_up(layout: torch.memory_format) -> None:
    joined = CellTargets.collate([CellTargets.of(np.array([[1, 2], [1, 2], [0, 0]]), np.zeros((3, 2)))])
    maps = torch.rand(1, 2, 4, 3).to(memory_format=layout).requires_grad_()
    joined.gather(maps).sum().backward()
    assert maps.grad is not None
    assert maps.grad[0, :, 2, 1].tolist() == [2, 2]
    assert maps.grad.sum() == 6


def test_gather_of_nothing() -> None:
    assert samples(0).gather(torch.rand(1, 2, 3, 3)).shape == (0, 2)


def test_moving_keeps_everything() -> None:
    joined = Peaks.collate([peaks(2), peaks(1)])
    moved = joined.to("cpu")
    assert moved.cells == joined.cells
    assert torch.equal(moved.x, joined.x)
    assert joined.to("meta").x.is_meta


@pytest.mark.golden
def test_dense_samples_equal_the_reference(golden):
    for file in sorted(golden.glob("gaussian*.npz")):
        data = np.load(file)
        value = data["dense_value"]
        _, height, width = data["dense_regmap"].shape
        samples = CellTargets.dense(
            data["dense_xy"], data["dense_radius"], value, np.ones_like(value), Grid(height, width)
        )
        rendered, weight = np.zeros((2, 2, height, width))
        rendered[:, samples.y, samples.x] = samples.value.T
        weight[:, samples.y, samples.x] = samples.weight.T
        np.testing.assert_allclose(weight, np.stack([data["dense_hm"]] * 2), atol=1e-6)
        # The reference compares a Gaussian with its own copy in float32, and skips the cells where that copy
        # was rounded up (see docs/fidelity.md).
        highest = np.zeros((height, width))
        y, x = np.mgrid[:height, :width]
        for (cx, cy), r in zip(np.floor(data["dense_xy"]), data["dense_radius"], strict=True):
            drawn = np.exp(-((x - cx) ** 2 + (y - cy) ** 2) / (2 * ((2 * r + 1) / 6) ** 2))
            near = np.maximum(abs(x - cx), abs(y - cy)) <= r
            highest = np.maximum(highest, np.where(near, drawn, 0))
        kept = highest.astype(np.float32) <= highest
        assert kept.mean() > 0.5
        np.testing.assert_allclose(rendered[:, kept], data["dense_regmap"][:, kept], atol=1e-5)


@pytest.mark.parametrize("seed", range(5))
def test_dense_samples_equal_rendering_one_object_after_the_other(seed):
    rng = np.random.default_rng(seed)
    points, radius = rng.uniform(-3, 20, (12, 2)), rng.integers(0, 6, 12)
    value, grid = rng.normal(size=(12, 1)), Grid(14, 17)
    rendered, best = np.zeros((14, 17)), np.zeros((14, 17))
    for (x, y), r, v in zip(np.floor(points).astype(int), radius, value[:, 0], strict=True):
        for dy in range(-r, r + 1):
            for dx in range(-r, r + 1):
                if 0 <= y + dy < 14 and 0 <= x + dx < 17:
                    height = np.exp(-(dx * dx + dy * dy) / (2 * ((2 * r + 1) / 6) ** 2))
                    if height >= best[y + dy, x + dx]:
                        rendered[y + dy, x + dx], best[y + dy, x + dx] = v, height
    samples = CellTargets.dense(points, radius, value, np.ones_like(value), grid)
    ours, weight = np.zeros((2, 14, 17))
    ours[samples.y, samples.x] = samples.value[:, 0]
    weight[samples.y, samples.x] = samples.weight[:, 0]
    np.testing.assert_allclose(weight, best, rtol=1e-6)
    np.testing.assert_allclose(ours, rendered, rtol=1e-6)
    assert len(samples) == (best > 0).sum()
    none = np.zeros((0, 1))
    assert len(CellTargets.dense(np.zeros((0, 2)), np.zeros(0, int), none, none, grid)) == 0


def test_relative_dense_samples_point_at_the_centre_from_every_cell():
    centre = np.array([[6.25, 4.5]])
    value = centre - np.floor(centre)
    samples = CellTargets.dense(
        centre, np.array([2]), value, np.ones_like(value), Grid(9, 12), [[-1, 0], [0, -1]]
    )
    assert len(samples) == 25
    pointed = np.stack([samples.x, samples.y], axis=1) + samples.value.numpy()
    np.testing.assert_allclose(pointed, np.repeat(centre, 25, axis=0), rtol=1e-6)


def test_distances_give_the_same_box_from_every_cell():
    box, centre = np.array([[2.0, 3.0, 11.0, 6.5]], np.float32), np.array([[6.5, 4.75]])
    value = BoxDistances.of(box, np.floor(centre).astype(np.int64))
    dense = (centre, np.array([2]), value, np.ones_like(value), Grid(9, 14))
    samples = CellTargets.dense(*dense, BoxDistances.STEPS)
    middle = np.stack([samples.x, samples.y], axis=1) + 0.5
    distances = samples.value.numpy()
    back = np.concatenate([middle - distances[:, :2], middle + distances[:, 2:]], axis=1)
    np.testing.assert_allclose(back, np.repeat(box, 25, axis=0), rtol=1e-5)


def test_objects_of_any_size_can_weigh_the_same():
    points, radius = np.array([[4.5, 4.5], [20.2, 9.9], [20.9, 10.1], [0.0, 0.0]]), np.array([1, 5, 0, 3])
    value = np.arange(4, dtype=np.float32)[:, None]
    samples = CellTargets.dense(points, radius, value, np.ones_like(value), Grid(20, 30), equally=True)
    for row in range(4):
        assert samples.weight[samples.value == row].sum().item() == pytest.approx(1, rel=1e-5)


def test_parts_of_an_image_are_joined_at_their_places():
    one = CellTargets.of(np.array([[1, 2]]), np.array([[5.0]]))
    peaks = Peaks.of(np.array([[1.5, 2.25]]), np.array([2]), np.array([0]))
    cells = join_targets([one, one.moved(10, 20)])
    assert (cells.x.tolist(), cells.y.tolist(), cells.batch.tolist()) == ([1, 11], [2, 22], [0, 0])
    assert cells.images == 1
    drawn = join_targets([peaks, peaks.moved(10, 20)])
    assert (drawn.x.tolist(), drawn.y.tolist(), drawn.cells) == ([1.5, 11.5], [2.25, 22.25], 50)


# --- whole maps


def windows_of(seed: int, kind: type, depth: int = 3) -> tuple[np.ndarray, list[np.ndarray]]:
    rng = np.random.default_rng(seed)
    sides = rng.integers(1, 5, (4, 2))
    corners = np.array([[rng.integers(0, 8 - w), rng.integers(0, 6 - h)] for h, w in sides])
    values = [rng.random((*side, depth)) for side in sides]
    return corners, [value > 0.5 if kind is bool else value.astype(np.float32) for value in values]


@pytest.mark.parametrize("kind", [bool, float])
def test_windows_of_a_batch_hold_what_was_put_in(kind: type) -> None:
    parts = [windows_of(seed, kind) for seed in range(3)]
    empty = DenseTargets.of(np.zeros((0, 2)), [], 3)
    joined = DenseTargets.collate([DenseTargets.of(*parts[0], 3), empty, DenseTargets.of(*parts[1], 3)])
    cells = joined.unpacked()
    expected = []
    for image, (corners, windows) in ((0, parts[0]), (2, parts[1])):
        for (x, y), window in zip(corners.tolist(), windows, strict=True):
            for row, column in np.ndindex(window.shape[:2]):
                expected.append((image, y + row, x + column, *window[row, column].astype(float).tolist()))
    got = torch.cat([torch.stack([cells.batch, cells.y, cells.x], 1).float(), cells.value], 1)
    torch.testing.assert_close(got, torch.tensor(expected, dtype=torch.float32))
    assert joined.cells == len(expected)
    assert (joined.value.dtype == torch.uint8) == (kind is bool)


def test_a_map_is_read_and_drawn_at_the_cells_of_windows() -> None:
    flags = [np.array([[[True], [False]]]), np.array([[[True]], [[True]]])]
    target = DenseTargets.of(np.array([[1, 0], [2, 0]]), flags, 1)
    maps = torch.arange(12.0).reshape(1, 1, 3, 4)
    assert target.unpacked().gather(maps).flatten().tolist() == [1, 2, 2, 6]
    assert target.draw((1, 1, 3, 4))[0, 0].tolist() == [[0, 1, 1, 0], [0, 0, 1, 0], [0, 0, 0, 0]]
