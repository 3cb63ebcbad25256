"""VIA: shapes, the attribute that holds the class, files, what is left out."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest

from ctnet.base.errors import CtnetError
from ctnet.convert.via import import_via

RECT = {"name": "rect", "x": 5, "y": 6, "width": 20, "height": 10}


def region(shape: Any = RECT, **attributes: Any) -> dict[str, Any]:
    return {"shape_attributes": shape, "region_attributes": attributes}


def entries(*regions: Any, name: str = "a.png") -> dict[str, Any]:
    return {f"{name}99": {"filename": name, "size": 99, "regions": regions, "file_attributes": {}}}


@pytest.mark.parametrize(
    ("shape", "box", "outline"),
    [
        (RECT, [5, 6, 20, 10], None),
        ({"name": "circle", "cx": 20, "cy": 20, "r": 5.5}, [14.5, 14.5, 11, 11], None),
        ({"name": "ellipse", "cx": 20, "cy": 20, "rx": 8, "ry": 4}, [12, 16, 16, 8], None),
        (
            {"name": "ellipse", "cx": 20, "cy": 20, "rx": 8, "ry": 4, "theta": math.pi / 2},
            [16, 12, 8, 16],
            None,
        ),
        (
            {"name": "polygon", "all_points_x": [5, 25, 20], "all_points_y": [6, 6, 30]},
            [5, 6, 20, 24],
            [[5, 6, 25, 6, 20, 30]],
        ),
    ],
)
def test_shapes(
    tmp_path: Path, picture: Any, document: Any, converted: Any, shape: Any, box: Any, outline: Any
) -> None:
    picture("in/a.png")
    document("in/via.json", entries(region(shape, label="bolt", colour="red")))
    assert not import_via(tmp_path / "in", tmp_path / "out").problems
    (annotation,) = converted()["annotations"]
    assert annotation["bbox"] == box
    assert annotation.get("segmentation") == outline
    assert annotation["attributes"] == {"colour": "red"}


@pytest.mark.parametrize(
    ("value", "name"),
    [("bolt", "bolt"), (" nut ", "nut"), ({"bolt": True, "nut": False}, "bolt"), ({"nut": True}, "nut")],
)
def test_classes(tmp_path: Path, picture: Any, document: Any, value: Any, name: str) -> None:
    picture("in/a.png")
    document("in/via.json", entries(region(kind=value)))
    assert import_via(tmp_path / "in", tmp_path / "out").splits[0].objects == {name: 1}


def test_which_attribute_is_the_class(tmp_path: Path, picture: Any, document: Any) -> None:
    picture("in/a.png")
    file = document("in/via.json", entries(region(size="big", species="ant")))
    with pytest.raises(
        CtnetError, match="have the attributes size, species; choose the one with the class with --attr"
    ):
        import_via(file, tmp_path / "out")
    assert import_via(file, tmp_path / "out", attribute="species").splits[0].objects == {"ant": 1}
    document("in/via.json", entries(region()))
    report = import_via(file, tmp_path / "out")
    assert report.splits[0].objects == {"object": 1}
    assert report.notes == ("no region has an attribute: all are called 'object'",)


@pytest.mark.parametrize(
    ("bad", "kind"),
    [
        (region({"name": "point", "cx": 1, "cy": 2}, label="bolt"), "shape without area"),
        (
            region({"name": "polyline", "all_points_x": [1], "all_points_y": [1]}, label="x"),
            "shape without area",
        ),
        (region({"name": "polygon", "all_points_x": [1, 2]}, label="x"), "polygon without its points"),
        (region({"name": "rect", "x": 1, "y": 2, "width": 3}, label="x"), "coordinate that is not a number"),
        (region({**RECT, "width": 0}, label="x"), "box without area"),
        (region({**RECT, "x": 64}, label="x"), "box outside the image"),
        (region(), "region without class"),
        (region(label={}), "region of several classes or none"),
        (region(label={"a": True, "b": True}), "region of several classes or none"),
        ("none", "region that is not an object"),
    ],
)
def test_what_is_left_out_is_listed(tmp_path: Path, picture: Any, document: Any, bad: Any, kind: str) -> None:
    picture("in/a.png")
    document("in/via.json", entries(region(label="bolt"), bad))
    report = import_via(tmp_path / "in", tmp_path / "out")
    assert [(problem.kind, problem.where) for problem in report.problems] == [
        (kind, "via.json a.png region 1")
    ]
    assert sum(report.splits[0].objects.values()) == 1


def test_a_folder_for_each_split_and_regions_by_number(tmp_path: Path, picture: Any, document: Any) -> None:
    for split in ("train", "val"):
        picture(f"in/{split}/a.png")
        content = entries(name="a.png")
        content["a.png99"]["regions"] = {"0": region(), "1": region()}  # VIA 1
        document(f"in/{split}/via_region_data.json", content)
    report = import_via(tmp_path / "in", tmp_path / "out")
    assert [(split.name, split.images, split.objects) for split in report.splits] == [
        ("train", 1, {"object": 2}),
        ("val", 1, {"object": 2}),
    ]
    with pytest.raises(CtnetError, match="--split applies to a single one"):
        import_via(tmp_path / "in", tmp_path / "out", split="pool")


def test_csv_with_empty_images_and_broken_cells(tmp_path: Path, picture: Any, document: Any) -> None:
    for name in ("a.png", "b.png", "c.png"):
        picture(f"in/{name}")
    head = (
        "#filename,file_size,file_attributes,region_count,region_id,region_shape_attributes,region_attributes"
    )
    shape = '"{""name"":""rect"",""x"":5,""y"":6,""width"":20,""height"":10}"'
    rows = [
        f'a.png,9,"{{""caption"":""x""}}",2,0,{shape},"{{""class"":""bolt""}}"',
        f'a.png,9,"{{}}",2,1,{shape},"{{""class"":""nut""}}"',
        'b.png,9,"{}",0,0,"{}","{}"',
        'c.png,9,"{}",2,0,"{oops","{}"',
        f'c.png,9,"{{}}",2,1,{shape[:-2]},""x"":7}}","{{}}"',  # a key twice
    ]
    file = document("in/via.csv", "\n".join([head, *rows]) + "\n")
    report = import_via(tmp_path / "in", tmp_path / "out")
    assert (report.splits[0].images, report.splits[0].objects) == (3, {"bolt": 1, "nut": 1})
    assert [problem.where for problem in report.problems] == [
        "via.csv c.png region 0",
        "via.csv c.png region 1",
    ]
    file.write_text("filename,x\na.png,3\n")
    with pytest.raises(CtnetError, match="is not VIA's CSV: it has no column region_attributes"):
        import_via(file, tmp_path / "out")


def test_images_that_are_missing_or_listed_twice(tmp_path: Path, picture: Any, document: Any) -> None:
    picture("pictures/a.png")
    twice = {"x": entries(region())["a.png99"], "y": entries(region())["a.png99"]}
    file = document("in/via.json", {**twice, **entries(region(), name="gone.png")})
    report = import_via(file, tmp_path / "out", image_folder=tmp_path / "pictures")
    assert [problem.kind for problem in report.problems] == [
        "image that is listed twice",
        "image that is not there",
    ]
    assert report.splits[0].images == 1


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("[1]", "is not VIA 2's JSON"),
        ("{", "is not valid JSON"),
        ({"project": 1, "config": 2, "metadata": 3}, "it is of VIA 3, which is not supported"),
        ({"a": {"filename": "x"}}, "is not VIA 2's JSON"),
    ],
)
def test_files_of_others(tmp_path: Path, document: Any, content: Any, message: str) -> None:
    with pytest.raises(CtnetError, match=message):
        import_via(document("in/via.json", content), tmp_path / "out")
    with pytest.raises(CtnetError, match="no file of VIA 2"):
        import_via(tmp_path / "in", tmp_path / "out")


def test_a_name_too_long_for_the_file_system_is_listed(tmp_path: Path, picture: Any, document: Any) -> None:
    picture("in/a.png")
    document("in/via.json", entries(region()) | entries(region(), name="a" * 300 + ".png"))
    report = import_via(tmp_path / "in/via.json", tmp_path / "out")
    assert len(report.problems) == 1
    assert report.splits[0].images == 1
