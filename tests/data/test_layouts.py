"""Errors for what is not a data directory; see also tests/docs/test_formats.py."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from ctnet.base.errors import CtnetError
from ctnet.data.dataset import splits
from ctnet.data.layouts import advice

COCO = {"images": [{"file_name": "a.png"}], "annotations": [], "categories": []}


def write(path: Path, content: object) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


def test_nothing_that_is_known(tmp_path: Path) -> None:
    assert advice(tmp_path) is None
    write(tmp_path / "a.txt", "x")
    write(tmp_path / "b.json", {"a": 1})
    write(tmp_path / "c.json", b"\xff\xfe".decode("latin-1"))
    assert advice(tmp_path) is None
    assert advice(tmp_path / "nowhere") is None
    with pytest.raises(CtnetError, match=r"has no JSON file in annotations/; .*ctnet convert makes one"):
        splits(tmp_path)


def test_a_file_is_given(tmp_path: Path) -> None:
    assert "unpack it" in str(advice(write(tmp_path / "export.zip", "PK")))
    assert f"ctnet convert yolo {tmp_path}/data.yaml -o {tmp_path}/data-coco" in str(
        advice(write(tmp_path / "data.yaml", "names: [a]"))
    )
    assert "ctnet convert coco" in str(advice(write(tmp_path / "x.json", COCO)))
    assert advice(write(tmp_path / "x.csv", "a,b\n")) is None


def test_a_folder_above_or_below_is_given(tmp_path: Path) -> None:
    write(tmp_path / "data/annotations/instances_train.json", COCO)
    assert advice(tmp_path) == f"the data directory is {tmp_path / 'data'}: give that"
    assert str(tmp_path / "data") in str(advice(tmp_path / "data/annotations"))


def test_an_archive_that_unpacked_into_a_folder_of_its_own(tmp_path: Path) -> None:
    write(tmp_path / "bolts.v1/data.yaml", "names: [a]")
    assert f"ctnet convert yolo {tmp_path / 'bolts.v1'} " in str(advice(tmp_path))


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("via_export.csv", "filename,region_shape_attributes,region_attributes\n"),
        ("via_project.json", '{"_via_settings": {}, "_via_img_metadata": {}}'),
    ],
)
def test_a_file_of_a_folder_is_converted_to_a_folder_beside_that(
    tmp_path: Path, name: str, content: str
) -> None:
    file = write(tmp_path / "cells" / name, content)
    command = f"ctnet convert via {file} -o {tmp_path / 'cells-coco'}"
    assert command in str(advice(tmp_path / "cells"))
