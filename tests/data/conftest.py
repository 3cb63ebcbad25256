"""A small data set on disk, which tests then damage in one way or another."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest


@pytest.fixture(autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """No test writes into the user's cache folder."""
    monkeypatch.setenv("CTNET_CACHE", str(tmp_path_factory.mktemp("cache")))


@pytest.fixture
def picture() -> np.ndarray:
    """(40, 60, 3) uint8 RGB: smooth, so that JPEG nearly keeps it, and different in every corner."""
    y, x = np.mgrid[:40, :60]
    return np.stack([x * 4, y * 6, (x + y) * 2], axis=2).astype(np.uint8)


@pytest.fixture
def document() -> dict[str, Any]:
    """Three images of 60x40 pixels, the second without annotations; ids have gaps and no order."""
    return {
        "info": {"description": "made for a test"},
        "images": [
            {"id": 12, "file_name": "a.jpg", "width": 60, "height": 40, "calib": [1, 2, 3]},
            {"id": 5, "file_name": "b.jpg", "width": 60, "height": 40},
            {"id": 40, "file_name": "c.jpg", "width": 60, "height": 40},
        ],
        "categories": [{"id": 7, "name": "ball"}, {"id": 3, "name": "box"}],
        "annotations": [
            {"id": 17, "image_id": 40, "category_id": 3, "bbox": [10, 10, 20, 15], "iscrowd": 1},
            {"id": 0, "image_id": 12, "category_id": 7, "bbox": [1.5, 2.25, 30, 20], "area": 333.0},
            {"id": 9, "image_id": 40, "category_id": 7, "bbox": [50, 30, 20, 20], "keypoints": [55, 35, 2]},
        ],
    }


@pytest.fixture
def make_data(tmp_path: Path, document: dict[str, Any], picture: np.ndarray) -> Callable[..., Path]:
    """Write ``document`` as annotation files of the given names, and its images into ``folder``."""

    def make(*names: str, folder: str = "val") -> Path:
        for name in names or ("instances_val.json",):
            path = tmp_path / "annotations" / name
            path.parent.mkdir(exist_ok=True)
            path.write_text(json.dumps(document), encoding="utf-8")
        for entry in document["images"]:
            path = tmp_path / folder / entry["file_name"]
            path.parent.mkdir(parents=True, exist_ok=True)
            cv2.imwrite(str(path), picture[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 95])
        return tmp_path

    return make
