"""The data sets that the authors' released models were trained on: a weights file does not state them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ctnet.backbones import MEAN, STD
from ctnet.core.class_names import COCO_NAMES, PASCAL_VOC_NAMES


@dataclass(frozen=True)
class ReleasedData:
    """One data set as the release used it.

    Attributes:
        name: for messages.
        categories: as in the COCO file.
        size: (width, height) of the training input, pixels.
        mean, std: RGB, on the scale 0..1, as applied there.
    """

    name: str
    categories: Sequence[Mapping[str, Any]]
    size: tuple[int, int] = (512, 512)
    mean: tuple[float, float, float] = MEAN
    std: tuple[float, float, float] = STD


_JOINTS = (
    "nose", "left_eye", "right_eye", "left_ear", "right_ear", "left_shoulder", "right_shoulder", "left_elbow",
    "right_elbow", "left_wrist", "right_wrist", "left_hip", "right_hip", "left_knee", "right_knee",
    "left_ankle", "right_ankle",
)  # fmt: skip
_LIMBS = (
    (16, 14), (14, 12), (17, 15), (15, 13), (12, 13), (6, 12), (7, 13), (6, 7), (6, 8), (7, 9), (8, 10),
    (9, 11), (2, 3), (1, 2), (1, 3), (2, 4), (3, 5), (4, 6), (5, 7),
)  # fmt: skip

# For VOC and KITTI the release applies ImageNet's RGB figures to BGR images.
_SWAPPED = {"mean": (0.406, 0.456, 0.485), "std": (0.225, 0.224, 0.229)}


def numbered(names: Sequence[str]) -> list[dict[str, Any]]:
    """Categories with the ids 1, 2, ...; the id of an empty name is left out."""
    return [{"id": place, "name": name} for place, name in enumerate(names, start=1) if name]


COCO = ReleasedData("COCO", numbered(COCO_NAMES))
COCO_PERSON = ReleasedData(
    "COCO's persons",
    [{**COCO.categories[0], "keypoints": list(_JOINTS), "skeleton": [list(limb) for limb in _LIMBS]}],
)
VOC = ReleasedData("Pascal VOC", numbered(PASCAL_VOC_NAMES), (384, 384), **_SWAPPED)
KITTI = ReleasedData("KITTI", numbered(("Pedestrian", "Car", "Cyclist")), (1280, 384), **_SWAPPED)

RELEASED = (COCO, COCO_PERSON, VOC, KITTI)
