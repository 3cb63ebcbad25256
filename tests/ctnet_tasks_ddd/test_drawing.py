"""Pictures of 3D objects, and the synthetic streets."""

from __future__ import annotations

import numpy as np
import pytest

from ctnet.core.records import Detections
from ctnet.report.draw import class_colour
from ctnet_tasks_ddd.camera import box_corners, observation_of, project, wrap
from ctnet_tasks_ddd.drawing import draw_objects, draw_wireframe, from_above
from ctnet_tasks_ddd.fields import CATEGORIES
from ctnet_tasks_ddd.scenes import camera_for, draw_street

SIZE = (384, 128)


def street(seed: int = 0, size=SIZE):
    return draw_street(np.random.default_rng(seed), size)


def objects(location, rotation_y=0.0, label=1, score=0.9) -> Detections:
    """One object 4 m long and 2 m wide."""
    body = np.array([[1.5, 2.0, 4.0]]), np.array([location], float), np.array([rotation_y], float)
    corners = project(box_corners(*body), camera_for(SIZE))
    boxes = np.concatenate([corners.min(axis=1), corners.max(axis=1)], axis=1)
    columns = {"dimensions": body[0], "location": body[1], "rotation_y": body[2], "corners": corners}
    return Detections(boxes, np.array([score]), np.array([label]), columns)


def test_the_view_from_above_stands_beside_the_picture() -> None:
    image = np.full((128, 384, 3), 90, np.uint8)
    drawn = draw_objects(image, objects([0, 1.65, 10]), CATEGORIES)
    assert drawn.shape == (128, 384 + 128, 3)
    assert (image == 90).all()
    assert (drawn[:, :384] != 90).any()
    empty = draw_objects(image, objects([0, 1.65, 10])[:0], CATEGORIES)
    assert empty.shape == drawn.shape
    assert (empty[:, :384] == 90).all()


def test_the_view_from_above_is_true_to_scale() -> None:
    """A range of 20 m on 200 pixels less 5 %: an object 10 m ahead and 4 m to the right."""
    panel = from_above(objects([4, 1.65, 10]), 200)
    colour = np.array(class_colour(1))
    rows, columns = np.nonzero((np.abs(panel.astype(int) - colour) < 40).all(axis=2))
    scale = 190 / 20
    assert rows.mean() == pytest.approx(199 - 10 * scale, abs=2)
    assert columns.min() == pytest.approx(100 + 2 * scale, abs=2)  # 4 m long, along x
    assert rows.max() - rows.min() == pytest.approx(2 * scale, abs=3)
    assert columns.max() == pytest.approx(100 + 8 * scale, abs=2)  # the heading: one length ahead


def test_a_wild_regression_is_drawn_without_a_crash() -> None:
    canvas = np.zeros((50, 60, 3), np.uint8)
    draw_wireframe(canvas, np.full((8, 2), 1e30) * [[1, -1]], (255, 0, 0))
    draw_wireframe(canvas, np.full((8, 2), np.nan), (255, 0, 0))
    far = objects([1e9, 1.65, 1e9])
    assert draw_objects(np.zeros((128, 384, 3), np.uint8), far, CATEGORIES).shape == (128, 512, 3)


def test_streets_show_whole_objects_that_count() -> None:
    kinds = set()
    for seed in range(12):
        scene = street(seed)
        found, camera = scene.instances, np.array(scene.info.record["calib"])
        kinds |= set(found.labels.tolist())
        assert scene.image.shape == (128, 384, 3)
        assert 1 <= len(found) <= 6
        low, high = found.boxes[:, :2], found.boxes[:, 2:]
        assert (low >= 0).all()
        assert (high <= [383, 127]).all()
        assert (high - low)[:, 1].min() >= 24
        body = found.dimensions, found.location, found.rotation_y
        corners = project(box_corners(*body), camera)
        np.testing.assert_allclose(corners.min(axis=1), low, atol=1e-3)
        pixel = project(body[1], camera)[:, 0]
        assert np.abs(wrap(found.alpha - observation_of(body[2], pixel, camera))).max() < 0.03
    assert kinds == {0, 1, 2}


def test_a_seed_gives_one_street() -> None:
    one, same, other = street(3), street(3), street(4)
    np.testing.assert_array_equal(one.image, same.image)
    for name, column in one.instances.fields().items():
        np.testing.assert_array_equal(column, same.instances.fields()[name])
    assert one.image.shape == other.image.shape
    assert not np.array_equal(one.image, other.image)


def test_fronts_and_backs_of_cars_differ() -> None:
    """A car that comes towards us has bright lights, one that drives away has red ones."""
    from ctnet_tasks_ddd import scenes

    camera = camera_for(SIZE)
    red = []
    for turn in (-np.pi / 2, np.pi / 2):
        thing = scenes._Object(1, np.array([1.5, 1.7, 4.0]), np.array([0.0, 1.65, 8]), turn)
        canvas = np.zeros((256, 768, 3), np.uint8)
        scenes._draw(canvas, thing, np.random.default_rng(0), camera)
        r, g, b = np.moveaxis(canvas.astype(int), 2, 0)
        red.append(((r > 100) & (g < 30) & (b < 30)).sum())
    away, towards = red  # the heading of -90 degrees is z, away from us
    assert away > 20
    assert towards == 0
