"""From an image to the network's input."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np

from ctnet.base.choices import Resize
from ctnet.base.errors import CtnetError
from ctnet.core.frames import Frames
from ctnet.core.geometry import Affine, View
from ctnet.core.records import ImageInfo
from ctnet.data.augment import letterbox
from ctnet.inference.tiles import Canvas
from ctnet.model import LARGEST_INPUT

#: Limit on the pixels of decoded images that are batched together.
PIXELS_AT_ONCE = 1 << 25


@dataclass(frozen=True)
class Prepared:
    """One image, preprocessed for the network.

    Attributes:
        affine: image pixels -> input pixels.
        info: identity and size of the image.
        input: (H, W, 3) uint8, RGB; H and W divisible by the backbone's divisor. Of a task that sees two
            frames: the channels of this one, of the earlier one, and its planes.
    """

    affine: Affine
    info: ImageInfo
    input: np.ndarray

    def view(self, stride: int) -> View:
        """The view of the image for an output grid with this many input pixels per cell."""
        return View.through(self.info, self.affine, stride)


#: One image at every scale, ready for the network or to be cut into tiles.
Views = Sequence[Prepared | Canvas]


@dataclass(frozen=True)
class Preprocessor:
    """Resizes and pads images; cheap to send to worker processes.

    Attributes:
        resize: "fix" fits the image into ``size``; "keep" keeps its resolution and pads it to the divisor,
            as the paper's evaluation does.
        size: (width, height) of the input for "fix", pixels.
        divisor: the network's input sides are multiples of it.
        fit: how "fix" fits the image into the input, see ``Layout``.
        whole: False leaves the inputs of "keep" to be cut out in tiles: ``views`` gives ``Canvas``.
        frames: what the task is shown of a video: a single image is the first frame of one.
    """

    resize: Resize
    size: tuple[int, int]
    divisor: int
    fit: Literal["inside", "width"] = "inside"
    whole: bool = True
    frames: Frames = field(default_factory=Frames)

    def __call__(self, image: np.ndarray, info: ImageInfo, scale: float = 1.0) -> Prepared:
        """Prepare one image.

        Args:
            image: (H, W, 3) uint8, RGB.
            info: identity and size of the image.
            scale: the image is resized by this factor first; with "fix" the input size stays the same, so it
                shows more around the image or less of it.

        Source: the released code's preprocessing, in two steps (resize, then pad or warp) as there.
        """
        height, width = image.shape[:2]
        scaled = self._scaled(width, height, scale)
        if max(scaled) > LARGEST_INPUT:
            raise CtnetError(
                f"{info.file_name} of {width}x{height} pixels at scale {scale:g} has a side above "
                f"{LARGEST_INPUT} pixels; choose a smaller scale, or --tiles"
            )
        affine, size = self._fitted((width, height), scaled)
        resized = _resized(image, scaled)
        input = first_frame(affine.warp(resized, size), self.frames)
        return Prepared(affine.after(Affine.scaling(scale)), info, input)

    def canvas(self, image: np.ndarray, info: ImageInfo, scale: float = 1.0) -> Canvas:
        """One image with "keep", not yet padded; arguments as ``__call__``. Its size has no limit."""
        height, width = image.shape[:2]
        scaled = self._scaled(width, height, scale)
        affine, size = self._fitted((width, height), scaled)
        x, y = affine.matrix[:, 2].astype(int).tolist()
        return Canvas(affine.after(Affine.scaling(scale)), info, _resized(image, scaled), (x, y), size)

    def geometry(self, width: int, height: int, scale: float = 1.0) -> tuple[Affine, tuple[int, int]]:
        """The affine map from image to input pixels, and the (width, height) of the input.

        Args:
            width, height: size of the image, pixels.
            scale: see ``__call__``.
        """
        affine, size = self._fitted((width, height), self._scaled(width, height, scale))
        return affine.after(Affine.scaling(scale)), size

    def _scaled(self, width: int, height: int, scale: float) -> tuple[int, int]:
        return max(int(width * scale), 1), max(int(height * scale), 1)

    def _fitted(self, original: tuple[int, int], scaled: tuple[int, int]) -> tuple[Affine, tuple[int, int]]:
        """Pixels of the scaled image -> input pixels, and the input's (width, height)."""
        width, height = scaled
        if self.resize == "keep":
            # One more divisor if the side is already a multiple, as in the released evaluation.
            size = ((width | (self.divisor - 1)) + 1, (height | (self.divisor - 1)) + 1)
            return Affine.centred((width // 2, height // 2), size[0], size), size
        factor = letterbox(original, self.size, self.fit).matrix[0, 0]
        return Affine.centred((width / 2, height / 2), self.size[0] / factor, self.size), self.size

    def views(self, image: np.ndarray, info: ImageInfo, scales: Sequence[float]) -> Views:
        """Prepare the image at several scales: with "fix" the input size scales too.

        The released code, for multi-scale testing with a fixed input, crops the border at scales above 1 and
        detects partial objects there. No published result uses that.

        Args:
            image, info: see above.
            scales: 1 for the usual size.
        """
        if not self.whole:
            return tuple(self.canvas(image, info, scale) for scale in scales)
        return tuple(self._at_scale(image, info, scale) for scale in scales)

    def _at_scale(self, image: np.ndarray, info: ImageInfo, scale: float) -> Prepared:
        if self.resize == "keep" or scale == 1:
            return self(image, info, scale)
        width, height = (max(self.divisor, round(s * scale / self.divisor) * self.divisor) for s in self.size)
        return replace(self, size=(width, height))(image, info)


def first_frame(image: np.ndarray, frames: Frames) -> np.ndarray:
    """The input of a stream's first frame: itself as the earlier one, and planes without objects."""
    if frames.count == 1:
        return image
    planes = np.zeros((*image.shape[:2], frames.planes), np.uint8)
    return np.concatenate([image, image, planes], axis=2)


def _resized(image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """The image at another (width, height)."""
    import cv2

    return image if size == (image.shape[1], image.shape[0]) else np.asarray(cv2.resize(image, size))
