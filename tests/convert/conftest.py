"""Small files as annotation tools write them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest


@pytest.fixture
def picture(tmp_path: Path) -> Callable[..., Path]:
    """Writes an image of 64x48 pixels below the test's folder."""

    def write(name: str, shade: int = 90) -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(path), np.full((48, 64, 3), shade, np.uint8))
        return path

    return write


@pytest.fixture
def document(tmp_path: Path) -> Callable[..., Path]:
    """Writes a string, or a value as JSON, below the test's folder."""

    def write(name: str, content: Any) -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
        return path

    return write


@pytest.fixture
def converted(tmp_path: Path) -> Callable[..., Any]:
    """An annotation file of ``out``."""

    def read(split: str = "train") -> Any:
        return json.loads((tmp_path / "out" / "annotations" / f"instances_{split}.json").read_text())

    return read
