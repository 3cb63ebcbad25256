"""Masks of detections: sampled from the shared map on the grid, and back in the image."""

from __future__ import annotations

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from ctnet.plugin import Detections, ImageInfo, RunLength
from ctnet_tasks_masks.prototypes import logits_of

#: Samples across a box, in each direction.
SIDE = 48


def sample(shared: Tensor, code: Tensor, boxes: Tensor) -> Tensor:
    """The masks of objects inside their boxes: (B, k, SIDE, SIDE) probabilities.

    The memory that it takes does not depend on the size of the grid.

    Args:
        shared: (B, C, H, W), the map that all objects share.
        code: (B, k, D), coefficients.
        boxes: (B, k, 4) xyxy, on the grid.
    """
    batch, k = boxes.shape[:2]
    height, width = shared.shape[2:]
    step = (torch.arange(SIDE, device=boxes.device, dtype=boxes.dtype) + 0.5) / SIDE
    low, size = boxes[..., :2, None], (boxes[..., 2:] - boxes[..., :2])[..., None]
    at = low + size * step  # (B, k, 2, SIDE): x and y of the columns and rows
    x = at[:, :, 0, None, :].expand(batch, k, SIDE, SIDE)
    y = at[:, :, 1, :, None].expand(batch, k, SIDE, SIDE)
    # The middle of cell c is c + 0.5: where grid_sample has it without aligned corners.
    grid = torch.stack([2 * x / width - 1, 2 * y / height - 1], dim=4).reshape(batch, k * SIDE, SIDE, 2)
    values = functional.grid_sample(shared, grid, padding_mode="border", align_corners=False)
    values = values.reshape(batch, -1, k, SIDE * SIDE).transpose(1, 2)
    return logits_of(code, values).sigmoid().reshape(batch, k, SIDE, SIDE)


def in_image(detections: Detections, info: ImageInfo) -> Detections:
    """Detections with their windows replaced by masks of the image's size, one by one.

    Args:
        detections: objects of one image, in its pixels, with ``windows`` (N, SIDE, SIDE).
        info: its size.
    """
    masks = np.empty(len(detections), object)
    boxes = np.asarray(detections.boxes, np.float64)
    for row, (window, box) in enumerate(zip(detections.windows, boxes, strict=True)):
        masks[row] = _mask_of(np.asarray(window), box, (info.width, info.height))
    return detections.without("windows").replace(mask=masks)


def _mask_of(window: np.ndarray, box: np.ndarray, size: tuple[int, int]) -> RunLength:
    """The pixels of an image whose centres are more likely inside than not.

    Args:
        window: (SIDE, SIDE) probabilities at places spread over the box.
        box: (4,) xyxy, image pixels.
        size: (width, height) of the image.
    """
    first = np.clip(np.floor(box[:2]), 0, size).astype(int)
    last = np.clip(np.ceil(box[2:]), first, size).astype(int)
    width, height = (last - first).tolist()
    corner = (int(first[0]), int(first[1]))
    if width == 0 or height == 0:
        return RunLength.of_window(np.zeros((0, 0), bool), (0, 0), size)
    scale = SIDE / np.maximum(box[2:] - box[:2], 1e-6)
    start = (first + 0.5 - box[:2]) * scale - 0.5
    to_window = np.array([[scale[0], 0, start[0]], [0, scale[1], start[1]]])
    # Logits are straight across an edge, where probabilities bend.
    logits = np.log(np.clip(window, 1e-3, 1) / np.clip(1 - window, 1e-3, 1)).astype(np.float32)
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    shown = cv2.warpAffine(logits, to_window, (width, height), flags=flags, borderMode=cv2.BORDER_REPLICATE)
    inside = np.asarray(shown) > 0
    # Pixels of which the box covers less than half are outside it.
    x, y = (np.arange(side) + start + 0.5 for side, start in ((width, first[0]), (height, first[1])))
    inside &= ((x > box[0]) & (x < box[2]))[None, :] & ((y > box[1]) & (y < box[3]))[:, None]
    return RunLength.of_window(inside, corner, size)
