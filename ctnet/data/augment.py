"""Augmentation: one affine map for image and instances, then colour jitter."""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

import numpy as np

from ctnet.core.fields import forget_under_zoom, mirror_record, move_record
from ctnet.core.geometry import Affine, Fit
from ctnet.core.recipe import Augmentation
from ctnet.core.records import Instances
from ctnet.core.task import Task

#: Principal components of ImageNet's RGB values (Krizhevsky et al. 2012), RGB, on the scale 0..1.
_EIGENVALUES = np.array([0.2175, 0.0188, 0.0045])
_EIGENVECTORS = np.array([[-0.5675, 0.7192, 0.4009], [-0.5808, -0.0045, -0.8140], [-0.5836, -0.6948, 0.4203]])
_GREY = np.array([0.299, 0.587, 0.114])

#: Half the largest margin at the image's border without crop centres, pixels.
_BORDER = 128


class Crop(NamedTuple):
    """The part of an image that is shown to the network, and whether it is mirrored."""

    affine: Affine  #: image pixels -> input pixels, mirroring included
    mirrored: bool
    #: from a pixel's position in the letterbox to its position in this crop (before mirroring); None: the
    #: same
    change: Affine | None = None


def letterbox(image_size: tuple[int, int], input_size: tuple[int, int], fit: Fit = "inside") -> Affine:
    """The affine map that centres the image in the input.

    Args:
        image_size, input_size: (width, height), pixels.
        fit: "inside": all of it, as large as possible; "width": as wide as the input.
    """
    width, height = image_size
    return Affine.centred((width / 2, height / 2), _plain_side(image_size, input_size, fit), input_size)


def _plain_side(image_size: tuple[int, int], input_size: tuple[int, int], fit: Fit) -> float:
    """Image pixels across the input's width, without augmentation."""
    (width, height), (input_width, input_height) = image_size, input_size
    return width if fit == "width" else max(width, height * input_width / input_height)


def random_crop(
    rng: np.random.Generator,
    image_size: tuple[int, int],
    input_size: tuple[int, int],
    augmentation: Augmentation,
    fit: Fit = "inside",
) -> Crop:
    """A random flip, scale, crop and rotation.

    Args:
        rng: the only source of randomness.
        image_size, input_size: (width, height), pixels.
        augmentation: the strength of each.
        fit: see ``letterbox``.

    Source: the released code: scale in steps of 0.1, crop centres outside a border that halves until
    it fits the image.
    """
    if augmentation.geometric < 1 and rng.random() >= augmentation.geometric:
        augmentation = replace(augmentation, scale=None, shift=0.0, rotate=0.0)
    width, height = image_size
    side = _plain_side(image_size, input_size, fit)
    centre = [width / 2, height / 2]
    if augmentation.scale is not None:
        low, high = augmentation.scale
        side *= float(rng.choice(np.arange(low, high + 0.05, 0.1)))
    if augmentation.shift == "border":
        centre = [float(_crop_centre(rng, extent)) for extent in image_size]
    elif augmentation.shift:
        centre = [extent * (0.5 + rng.uniform(-1, 1) * float(augmentation.shift)) for extent in image_size]
    degrees = rng.uniform(-augmentation.rotate, augmentation.rotate) if augmentation.rotate else 0.0
    affine = Affine.centred((centre[0], centre[1]), side, input_size, degrees)
    plain = letterbox(image_size, input_size, fit)
    change = None if np.allclose(affine.matrix, plain.matrix) else affine.after(plain.inverse())
    mirrored = bool(rng.random() < augmentation.flip)
    if mirrored:
        affine = affine.after(Affine.mirror(width))
    return Crop(affine, mirrored, change)


def _crop_centre(rng: np.random.Generator, extent: int) -> int:
    margin = _BORDER
    while extent - margin <= margin and margin > 1:
        margin //= 2
    return int(rng.integers(margin, extent - margin)) if extent > 2 * margin else extent // 2


def crop_instances(instances: Instances, crop: Crop, task: Task, stride: int) -> Instances:
    """Instances of a cropped image, on the output grid.

    Args:
        instances: in image pixels.
        crop: what the network sees.
        task: its fields define what mirroring and zooming do to their values.
        stride: input pixels per output cell.
    """
    if crop.change is not None:
        instances = forget_under_zoom(instances, task.fields)
    moved = move_record(instances, Affine.scaling(1 / stride).after(crop.affine), task.fields)
    return mirror_record(moved, task.fields) if crop.mirrored else moved


def jitter(rng: np.random.Generator, image: np.ndarray, augmentation: Augmentation) -> np.ndarray:
    """Random brightness, contrast, saturation (in random order) and lighting.

    All four are linear in a pixel's colour, so they are combined into one 3x4 matrix and applied once.

    Args:
        rng: the only source of randomness.
        image: (H, W, 3) uint8, RGB.
        augmentation: the strengths.

    Returns:
        A new (H, W, 3) uint8 image; values outside 0..255 are clipped.

    Source: the released code's colour augmentation (there on floats that are not clipped).
    """
    import cv2

    if not (augmentation.colour or augmentation.lighting):
        return image
    matrix, shift = np.eye(3), np.zeros(3)
    mean_grey = float(_GREY @ np.asarray(cv2.mean(image))[:3])
    for kind in rng.permutation(3):
        factor = 1 + rng.uniform(-augmentation.colour, augmentation.colour)
        if kind == 0:  # brightness
            matrix, shift = factor * matrix, factor * shift
        elif kind == 1:  # contrast: towards the mean grey
            matrix, shift = factor * matrix, factor * shift + (1 - factor) * mean_grey
        else:  # saturation: towards each pixel's grey
            blend = factor * np.eye(3) + (1 - factor) * np.tile(_GREY, (3, 1))
            matrix, shift = blend @ matrix, blend @ shift
    noise = rng.normal(0, augmentation.lighting, 3) if augmentation.lighting else np.zeros(3)
    shift = shift + 255 * _EIGENVECTORS @ (_EIGENVALUES * noise)
    return np.asarray(cv2.transform(image, np.concatenate([matrix, shift[:, None]], axis=1)))
