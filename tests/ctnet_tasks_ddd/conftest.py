"""The slow evaluation, and small KITTI data sets."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import cv2
import numpy as np
import pytest

P2 = "721.5377 0.0 609.5593 44.85728 0.0 721.5377 172.854 0.2163791 0.0 0.0 1.0 0.002745884"
CAR = "Car 0.00 1 -1.57 600.00 170.00 700.25 250.50 1.50 1.60 3.90 1.25 1.70 20.00 -1.52"
LINES = (
    CAR,
    "Pedestrian 0.10 0 0.20 712.40 143.00 810.73 307.92 1.89 0.48 1.20 1.84 1.47 8.41 0.01",
    "Van 0.00 2 1.85 387.63 181.54 423.81 203.12 1.67 1.87 3.69 -16.53 2.39 58.49 1.57",
    "Tram 0.00 0 -0.00 100.00 120.00 200.00 220.00 3.53 2.54 16.00 -20.00 1.30 40.00 -0.00",
    "DontCare -1 -1 -10 503.89 169.71 590.61 190.13 -1 -1 -1 -1000 -1000 -1000 -10",
)


@pytest.fixture(scope="session")
def slow() -> ModuleType:
    """The evaluation in plain Python."""
    path = Path(__file__).parent / "slow_kitti_eval.py"
    spec = importlib.util.spec_from_file_location("slow_kitti_eval", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def make_kitti(tmp_path: Path):
    """A function that makes a KITTI data set from label lines by frame; ``size`` None leaves images out."""

    def make(frames: dict[str, list[str]], size: tuple[int, int] | None = None, p2: str = P2) -> Path:
        folder = tmp_path / "kitti"
        for part in ("label_2", "calib", "image_2"):
            (folder / "training" / part).mkdir(parents=True)
        for name, lines in frames.items():
            text = "".join(f"{line}\n" for line in lines)
            (folder / "training" / "label_2" / f"{name}.txt").write_text(text)
            (folder / "training" / "calib" / f"{name}.txt").write_text(f"P0: 1 2 3\nP2: {p2}\n\n")
            if size is not None:
                image = np.zeros((size[1], size[0], 3), np.uint8)
                cv2.imwrite(str(folder / "training" / "image_2" / f"{name}.png"), image)
        return folder

    return make


@pytest.fixture
def lines() -> list[str]:
    """One label line of every kind."""
    return list(LINES)
