"""Frames whose names are not numbers, and text files beside them that are not frames."""

from __future__ import annotations

import zipfile
from pathlib import Path

import pytest

from ctnet.base.errors import CtnetError
from ctnet_tasks_ddd.frame_files import FrameFiles
from ctnet_tasks_ddd.frame_names import is_frame
from ctnet_tasks_ddd.kitti_eval import evaluate

LABEL = "Car 0 0 0.1 10 12 30 28 1.5 1.6 4 -0.5 0.5 40 0.09"


@pytest.mark.parametrize(
    ("stem", "text", "frame"),
    [
        ("000012", "whatever", True),
        ("lot_0001", LABEL, True),
        ("lot_0001", f"\n{LABEL} 0.93\n", True),
        ("lot_0001", "", True),
        ("lot_0001", "P0: 7.2e+02 0 1\n", True),
        ("lot_0001", LABEL.replace("0.1", "nan"), True),
        ("README", "labels of the lot\n", False),
        ("stats_car_detection", "0.9 " * 41, False),
        ("train", "lot_0001\nlot_0002\n", False),
        ("cut", LABEL[:-12], False),
        ("words", "Car " * 15, False),
    ],
)
def test_is_frame(stem: str, text: str, frame: bool) -> None:
    assert is_frame(stem, text.encode) is frame


def make(folder: Path, names: list[str], line: str) -> Path:
    folder.mkdir(parents=True)
    for name in names:
        (folder / f"{name}.txt").write_text(f"{line}\n")
    return folder


def test_names_make_no_difference_to_figures(tmp_path: Path) -> None:
    figures = []
    for kind, names in (("named", ["lot_a", "lot_b", "lot_c"]), ("numbered", ["000000", "000001", "000002"])):
        labels = make(tmp_path / kind / "label", names, LABEL)
        make(tmp_path / kind / "results" / "data", names[:2], f"{LABEL} 0.9")
        (tmp_path / kind / "results" / "stats_car_detection.txt").write_text("0.5 " * 41)
        (labels / "README.txt").write_text("who made this\n")
        done = evaluate(labels, tmp_path / kind / "results", names)
        assert done.frames == 3
        figures.append(done.as_dict(curves=False))
    assert figures[0] == figures[1]


def test_frames_in_a_zip(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "labels.zip", "w") as archive:
        archive.writestr("label_2/lot_b.txt", LABEL)
        archive.writestr("label_2/lot_a.txt", "")
        archive.writestr("notes.txt", "of the lot")
    assert FrameFiles(tmp_path / "labels.zip").names == ("lot_a", "lot_b")


def test_no_frames(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("of the lot")
    with pytest.raises(CtnetError, match=r"has no files NNNNNN\.txt"):
        FrameFiles(tmp_path)
