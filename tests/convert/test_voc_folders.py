"""Pascal VOC files without lists: splits by folder, images by name, what is left out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from ctnet.base.errors import CtnetError
from ctnet.convert.voc_folders import import_voc


def xml(filename: str, xmax: int = 30) -> str:
    return (
        f"<annotation><filename>{filename}</filename><size><width>64</width><height>48</height></size><object>"
        f"<name>bolt</name><bndbox><xmin>11</xmin><ymin>13</ymin><xmax>{xmax}</xmax><ymax>28</ymax></bndbox>"
        "</object></annotation>"
    )


def test_folders_are_splits_and_images_are_found(
    tmp_path: Path, picture: Any, document: Any, converted: Any
) -> None:
    picture("in/train/a.png")
    picture("in/pool/b.bmp")
    picture("in/valid/c.png")
    document("in/train/a.xml", xml("whatever.jpg"))
    document("in/xml/b_1.xml", xml("b"))
    document("in/valid/c.xml", xml("c.png"))
    document("in/valid/settings.xml", "<settings/>")
    report = import_voc(tmp_path / "in", tmp_path / "out")
    assert not report.problems
    assert [(split.name, split.images, split.objects) for split in report.splits] == [
        ("train", 2, {"bolt": 2}),
        ("val", 1, {"bolt": 1}),
    ]
    assert [image["file_name"] for image in converted()["images"]] == ["a.png", "b.bmp"]
    assert converted("val")["annotations"][0]["bbox"] == [10, 12, 20, 16]


def test_what_is_left_out_is_listed(tmp_path: Path, picture: Any, document: Any) -> None:
    picture("in/a.png")
    picture("in/b.png")
    document("in/a.xml", xml("a.png", xmax=11))
    document("in/b.xml", "<annotation>")
    document("in/c.xml", xml("c.png"))
    report = import_voc(tmp_path / "in", tmp_path / "out")
    assert [(problem.kind, problem.where) for problem in report.problems] == [
        ("box without area", "a.xml object 0"),
        ("broken XML", "b.xml"),
        ("image that is not there", "c.xml"),
    ]
    with pytest.raises(CtnetError, match="3 bad records"):
        import_voc(tmp_path / "in", tmp_path / "again", strict=True)
    assert not (tmp_path / "again").exists()


def test_no_file_at_all(tmp_path: Path, document: Any) -> None:
    document("in/a.xml", "<other/>")
    with pytest.raises(CtnetError, match="has no Pascal VOC annotation"):
        import_voc(tmp_path / "in", tmp_path / "out")
