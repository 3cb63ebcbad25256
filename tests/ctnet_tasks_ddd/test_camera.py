"""Projection and its inverse, 3D boxes, angles."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ctnet_tasks_ddd.camera import (
    MIRRORED_CORNERS,
    NEAR,
    box_corners,
    camera_of,
    heading,
    known_camera,
    middle,
    observation_of,
    project,
    rotation_of,
    unproject,
    wrap,
)

CAMERA = np.array([[721.5, 0, 609.6, 44.9], [0, 715.0, 172.9, 0.22], [0, 0, 1, 0.0027]])
EXAMPLES = settings(max_examples=25, deadline=None)


@EXAMPLES
@given(st.floats(-30, 30), st.floats(-3, 3), st.floats(1, 80), st.floats(-50, 50), st.floats(-0.5, 2))
def test_unprojecting_undoes_projecting_for_a_camera_beside_its_frame(x, y, z, beside, ahead) -> None:
    camera = CAMERA.copy()
    camera[0, 3], camera[2, 3] = beside, ahead
    point = np.array([[x, y, z]])
    back = unproject(project(point, camera), np.array([z + ahead]), camera)
    np.testing.assert_allclose(back, point, atol=1e-8)


def test_projection_is_the_matrix_product_divided_by_its_last_row() -> None:
    homogeneous = CAMERA @ np.array([2.0, 1.0, 10.0, 1.0])
    np.testing.assert_allclose(project(np.array([2.0, 1, 10]), CAMERA), homogeneous[:2] / homogeneous[2])


def test_what_is_behind_the_camera_is_projected_finitely_to_its_side() -> None:
    pixels = project(np.array([[3.0, 1, -5], [-3.0, 1, 0.0]]), CAMERA)
    assert np.isfinite(pixels).all()
    assert pixels[0, 0] > 2000
    assert pixels[1, 0] < -2000
    np.testing.assert_allclose(project(np.array([[0.0, 0, -9]]), CAMERA)[0, 1], 172.9 + 0.22 / NEAR, atol=5)


def test_corners_equal_the_obvious_ones() -> None:
    height, width, length, turn = 1.5, 1.6, 4.0, 0.7
    location = np.array([2.0, 1.7, 20.0])
    expected = []
    for up in (0.0, height):
        for along, left in ((1, 1), (1, -1), (-1, -1), (-1, 1)):
            forward = along * length / 2 * np.array([math.cos(turn), 0, -math.sin(turn)])
            # To the left of an object that faces along x is z, away from the camera.
            sideways = left * width / 2 * np.array([math.sin(turn), 0, math.cos(turn)])
            expected.append(location + forward + sideways - [0, up, 0])
    body = np.array([[height, width, length]]), location[None], np.array([turn])
    np.testing.assert_allclose(box_corners(*body)[0], expected, atol=1e-12)
    np.testing.assert_allclose(box_corners(*body)[0].mean(axis=0), middle(*body[:2])[0])
    front = np.mean([expected[0], expected[1]], axis=0)
    np.testing.assert_allclose(heading(*body)[0], [location, location + 2 * (front - location)])


def test_a_mirrored_box_has_the_mirrored_corners() -> None:
    dimensions, location, turn = np.array([[1.5, 1.6, 4.0]]), np.array([[2.0, 1.7, 20.0]]), np.array([0.7])
    mirrored = box_corners(dimensions, location * [-1, 1, 1], wrap(math.pi - turn))
    expected = box_corners(dimensions, location, turn)[:, list(MIRRORED_CORNERS)] * [-1, 1, 1]
    np.testing.assert_allclose(mirrored, expected, atol=1e-12)


@EXAMPLES
@given(st.floats(-20, 20))
def test_wrapped_angles_are_the_same_angles(angle: float) -> None:
    wrapped = wrap(angle)
    assert -math.pi <= wrapped < math.pi
    assert math.cos(wrapped) == pytest.approx(math.cos(angle), abs=1e-9)
    assert math.sin(wrapped) == pytest.approx(math.sin(angle), abs=1e-9)


@EXAMPLES
@given(st.floats(-3.1, 3.1), st.floats(0, 1242))
def test_rotation_and_observation_are_inverse(angle: float, x: float) -> None:
    assert wrap(observation_of(rotation_of(angle, x, CAMERA), x, CAMERA) - angle) == pytest.approx(
        0, abs=1e-9
    )


def test_observation_is_rotation_less_the_direction_of_the_ray() -> None:
    camera = CAMERA.copy()
    camera[:, 3] = 0
    location = np.array([[4.0, 1.0, 12.0]])
    x = project(location, camera)[0, 0]
    assert observation_of(0.3, x, camera) == pytest.approx(0.3 - math.atan2(4, 12))


def test_the_camera_of_an_image() -> None:
    np.testing.assert_array_equal(camera_of({"calib": CAMERA.tolist()}), CAMERA)
    assert camera_of({}) is None
    assert camera_of({"calib": None}) is None


@pytest.mark.parametrize(
    ("calib", "message"),
    [
        (CAMERA[:2].tolist(), "not a 3x4 matrix of finite numbers"),
        ([1, 2, 3], "not a 3x4 matrix of finite numbers"),
        ("P2", "not a 3x4 matrix of finite numbers"),
        ([[1, 2], [3]], "not a 3x4 matrix of finite numbers"),
        (np.where(CAMERA == 1, np.nan, CAMERA).tolist(), "not a 3x4 matrix of finite numbers"),
        ((-CAMERA).tolist(), "a focal length that is not positive"),
    ],
)
def test_a_broken_camera_is_refused(calib, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        camera_of({"calib": calib})
    assert known_camera({"calib": calib}) is None
