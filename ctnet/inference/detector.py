"""Detector: images in, detections in image pixels out."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, cast, get_args

import numpy as np
import torch

from ctnet.checkpoint import Description, load, load_model
from ctnet.data.augment import letterbox
from ctnet.data.geometry import Affine, move
from ctnet.data.images import read_image
from ctnet.device import autocast, choose_device, normalise
from ctnet.errors import CtnetError
from ctnet.model import CenterNet, check_input_size
from ctnet.records import Detections, ImageInfo
from ctnet.task import Task

Resize = Literal["fix", "keep"]


@dataclass(frozen=True)
class Prepared:
    """One image as the network takes it.

    Attributes:
        input: (H, W, 3) uint8, RGB; H and W divisible by the backbone's divisor.
        affine: image pixels -> input pixels.
        info: identity and size of the image.
    """

    input: np.ndarray
    affine: Affine
    info: ImageInfo


@dataclass(frozen=True)
class Preprocessor:
    """Resizes and pads images; small enough to be sent to worker processes.

    Attributes:
        resize: "fix" fits the whole image into ``size``; "keep" keeps its resolution and pads it to the
            divisor, as the paper's evaluation does.
        size: (width, height) of the input for "fix", pixels.
        divisor: what the network's input sides are multiples of.
    """

    resize: Resize
    size: tuple[int, int]
    divisor: int

    def __call__(self, image: np.ndarray, info: ImageInfo, scale: float = 1.0) -> Prepared:
        """Prepare one image.

        Args:
            image: (H, W, 3) uint8, RGB.
            info: identity and size of the image.
            scale: the image is resized by this factor first.

        Source: the released code's preprocessing, in two steps (resize, then pad or warp) as there.
        """
        import cv2

        height, width = image.shape[:2]
        new_width, new_height = int(width * scale), int(height * scale)
        if (new_width, new_height) != (width, height):
            image = np.asarray(cv2.resize(image, (new_width, new_height)))
        if self.resize == "keep":
            # One more divisor when the side is a multiple already: the released evaluation pads so.
            size = tuple((side | (self.divisor - 1)) + 1 for side in (new_width, new_height))
            middle = (new_width // 2, new_height // 2)
            affine = Affine.centred(middle, size[0], size)  # type: ignore[arg-type]
        else:
            size = self.size
            unscaled = letterbox((width, height), size)
            factor = unscaled.matrix[0, 0]
            affine = Affine.centred((new_width / 2, new_height / 2), size[0] / factor, size)
        warped = affine.warp(image, size)  # type: ignore[arg-type]
        return Prepared(warped, affine.after(Affine.scaling(scale)), info)


class Detector:
    """A trained network with everything around it.

    Attributes:
        task: what it detects.
        model: the network, in evaluation mode on ``device``.
        description: what the checkpoint says of itself.
        device: where it runs.
    """

    def __init__(
        self, task: Task, model: CenterNet, description: Description, device: torch.device | None = None
    ) -> None:
        self.task = task
        self.description = description
        self.device = device or torch.device("cpu")
        self.model = model.to(self.device).to(memory_format=torch.channels_last).eval()

    @classmethod
    def load(cls, path: str | Path, device: str = "auto") -> Detector:
        """Open a checkpoint file or a run folder (its best weights).

        Raises:
            CtnetError: for a file that is missing, damaged, or not of ctnet; for an unusable device.
        """
        checkpoint = load(checkpoint_of(path))
        task, model = load_model(checkpoint)
        return cls(task, model, checkpoint.description, choose_device(device))

    def preprocessor(self, resize: Resize = "fix", size: tuple[int, int] | None = None) -> Preprocessor:
        """How images are made to fit the network.

        Args:
            resize: see ``Preprocessor``.
            size: (width, height) for "fix"; the training size when None.

        Raises:
            CtnetError: for another mode, a size that the network cannot take, or a size for "keep".
        """
        if resize_mode(resize) == "keep" and size is not None:
            raise CtnetError(f"size {size[0]}x{size[1]} is for resize fix; with keep every image has its own")
        divisor = self.model.backbone.divisor
        size = size or self.description.size
        check_input_size(size, divisor, self.description.backbone)
        return Preprocessor(resize, size, divisor)

    def __call__(
        self,
        images: np.ndarray | str | Path | Iterable[np.ndarray | str | Path],
        topk: int = 100,
        resize: Resize = "fix",
        size: tuple[int, int] | None = None,
        batch_size: int = 8,
    ) -> list[Detections]:
        """Detect in one image or several, of any sizes.

        Args:
            images: (H, W, 3) uint8 RGB arrays or files, one or many.
            topk: detections per image.
            resize: "fix" (the training size) or "keep" (the image's own resolution).
            size: (width, height) for "fix"; the training size when None.
            batch_size: images a forward pass.

        Returns:
            One record per image, in order, best detection first, boxes in pixels of that image.

        Raises:
            CtnetError: for an image that cannot be read, or a size that does not fit.
        """
        single = isinstance(images, (np.ndarray, str, Path))
        sources = [images] if single else list(images)  # type: ignore[arg-type]
        preprocess = self.preprocessor(resize, size)
        waiting: dict[tuple[int, ...], list[tuple[int, Prepared]]] = {}
        found: dict[int, Detections] = {}

        def flush(shape: tuple[int, ...]) -> None:
            group = waiting.pop(shape)
            results = self.detect([prepared for _, prepared in group], topk)
            found.update(zip((position for position, _ in group), results, strict=True))

        for position, source in enumerate(sources):
            prepared = preprocess(*_opened(source, position))  # type: ignore[arg-type]
            group = waiting.setdefault(prepared.input.shape, [])
            group.append((position, prepared))
            if len(group) == batch_size:
                flush(prepared.input.shape)
        for shape in list(waiting):
            flush(shape)
        return [found[position] for position in range(len(sources))]

    @torch.inference_mode()
    def detect(
        self, batch: Sequence[Prepared], topk: int = 100, amp: torch.dtype | None = None
    ) -> list[Detections]:
        """Detections of images whose inputs have one size, in pixels of each image.

        Args:
            batch: prepared images.
            topk: detections per image.
            amp: type for autocast; None for full precision.

        Raises:
            CtnetError: when the network gives NaN or infinities.
        """
        stacked = torch.from_numpy(np.stack([prepared.input for prepared in batch])).to(self.device)
        inputs = normalise(stacked, self.description.mean, self.description.std)
        with autocast(self.device, amp):
            maps = self.model.activated(inputs)
        if not torch.stack([values.isfinite().all() for values in maps.values()]).all():
            names = ", ".join(prepared.info.file_name or str(prepared.info.image_id) for prepared in batch)
            raise CtnetError(
                f"the network gives NaN or infinities ({names}); it diverged, or its weights are damaged"
            )
        results = []
        for prepared, detections in zip(batch, self.task.decode(maps, topk).per_image(), strict=True):
            to_grid = Affine.scaling(1 / self.description.stride).after(prepared.affine)
            detections = move(detections, to_grid.inverse(), self.task.point_fields)
            results.append(self.task.lift(detections, prepared.info))
        return results


def resize_mode(text: str) -> Resize:
    """Check the name of a resize mode.

    Raises:
        CtnetError: for another name.
    """
    for mode in get_args(Resize):
        if text == mode:
            return cast(Resize, mode)
    raise CtnetError(f"resize is {text!r}; it must be fix or keep")


def checkpoint_of(path: str | Path) -> Path:
    """The file to open: a checkpoint itself, or a run folder's best.pt (or last.pt, before any evaluation).

    Raises:
        CtnetError: when there is none.
    """
    path = Path(path)
    if not path.is_dir():
        return path
    for name in ("best.pt", "last.pt"):
        if (path / name).is_file():
            return path / name
    raise CtnetError(
        f"{path} holds neither best.pt nor last.pt; is it a run folder, and was a checkpoint saved yet?"
    )


def _opened(source: np.ndarray | str | Path, position: int) -> tuple[np.ndarray, ImageInfo]:
    image = source if isinstance(source, np.ndarray) else read_image(source)
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8:
        raise CtnetError(
            f"image {position} is {image.dtype} {image.shape}; it must be uint8 (height, width, 3), RGB"
        )
    name = "" if isinstance(source, np.ndarray) else str(source)
    return image, ImageInfo(position, name, image.shape[1], image.shape[0])
