"""``ctnet analyze``: what it prints, where, and its exit codes."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Ctnet = Callable[..., Any]


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Two images of cats; a pair in one cell, a pair that overlaps, a crowd region and a box without area."""
    boxes = [
        (1, [100, 100, 40, 40], 0),
        (1, [101, 101, 40, 40], 0),
        (2, [0, 0, 20, 20], 0),
        (2, [4, 0, 20, 20], 0),
        (2, [0, 0, 300, 200], 1),
        (2, [0, 0, 0, 20], 0),
    ]
    content = {
        "images": [{"id": i, "file_name": f"{i}.png", "width": 400, "height": 300} for i in (1, 2)],
        "categories": [{"id": 1, "name": "cat"}, {"id": 2, "name": "dog"}],
        "annotations": [
            {"id": i, "image_id": image, "category_id": 1, "bbox": box, "iscrowd": crowd}
            for i, (image, box, crowd) in enumerate(boxes, 1)
        ],
    }
    folder = tmp_path / "data"
    (folder / "annotations").mkdir(parents=True)
    (folder / "annotations" / "instances_train2017.json").write_text(json.dumps(content))
    (folder / "annotations" / "instances_bare.json").write_text(json.dumps({**content, "annotations": []}))
    return folder


def row(text: str, start: str) -> list[str]:
    return next(line.split() for line in text.splitlines() if line.startswith(start))


def test_collisions_prints_tables_to_stdout(ctnet: Ctnet, data: Path) -> None:
    result = ctnet("analyze", "collisions", data)
    assert result.code == 0
    assert "train2017: 5 objects, 1 of them crowd regions" in result.out
    assert row(result.out, "center") == ["center", "1", "2", "1", "20"]
    assert row(result.out, "iou>0.7") == ["iou>0.7", "1", "2", "1", "20"]
    assert row(result.out, "iou>0.5") == ["iou>0.5", "2", "4", "2", "40"]
    assert row(result.out, "small") == ["small", "0", "0", "1", "2"]
    assert row(result.out, "medium") == ["medium", "1", "1", "1", "2"]
    assert row(result.out, "cat") == ["cat", "1", "1", "2", "5"]
    assert row(result.out, "1 ") == ["1", "1.png", "1", "1", "1"]
    assert "same cell of 4 px (floor)" in result.out
    assert "1 bad records are not counted; ctnet data check names them" in result.err


def test_collisions_as_json(ctnet: Ctnet, data: Path) -> None:
    result = ctnet(
        "analyze", "collisions", data, "--json", "--iou", 0.6, "--crowd", "--exact", "--stride", 50
    )
    content = json.loads(result.out)
    assert [content[key] for key in ("stride", "inclusive", "crowd")] == [50, False, True]
    assert content["kinds"] == ["center", "iou>0.6"]
    assert content["total"]["collisions"]["center"]["pairs"] == 2
    images = [(image["image_id"], image["pairs"]["iou>0.6"]) for image in content["images"]]
    assert images == [(1, [[1, 2]]), (2, [[3, 4]])]


def test_collisions_where_there_are_none(ctnet: Ctnet, data: Path) -> None:
    result = ctnet("analyze", "collisions", data, "--stride", 1, "--iou", 0.99)
    assert row(result.out, "center") == ["center", "0", "0", "0", "0"]
    assert "pairs by class" not in result.out
    assert "file" not in result.out


def test_long_tables_say_how_much_is_left_out(ctnet: Ctnet, data: Path) -> None:
    path = data / "annotations" / "instances_train2017.json"
    content = json.loads(path.read_text())
    content["images"] = [{**content["images"][0], "id": i} for i in range(1, 15)]
    first, second = content["annotations"][:2]
    content["annotations"] = [
        {**box, "id": 2 * i + k, "image_id": i} for i in range(1, 15) for k, box in enumerate((first, second))
    ]
    path.write_text(json.dumps(content))
    result = ctnet("analyze", "collisions", data)
    assert "and 4 more images with a collision; --json lists all" in result.out
    assert len(json.loads(ctnet("analyze", "collisions", data, "--json").out)["images"]) == 14


def test_anchors_prints_tables_to_stdout(ctnet: Ctnet, data: Path) -> None:
    result = ctnet("analyze", "anchors", data, "--size", 400, "--ratio", 1)
    assert result.code == 0
    assert "train2017: objects whose best anchor has an IoU under 0.5" in result.out
    assert row(result.out, "small") == ["small", "2", "2", "100"]
    assert row(result.out, "large") == ["large", "1", "0", "0"]
    assert row(result.out, "all") == ["all", "5", "4", "80"]
    assert row(result.out, "cat") == ["cat", "5", "4", "80"]
    assert "1 anchors (official) every 16 px, shorter side 800 px; 1 crowd regions counted" in result.out
    assert "1 bad records are not counted" in result.err


def test_anchors_as_json(ctnet: Ctnet, data: Path) -> None:
    options = ["--variant", "paper", "--no-crowd", "--stride", 8, "--shorter-side", 300, "--iou", 0.4]
    content = json.loads(ctnet("analyze", "anchors", data, "--json", *options).out)
    names = ("variant", "crowd", "stride", "shorter_side", "threshold", "sizes")
    assert [content[name] for name in names] == ["paper", False, 8, 300, 0.4, [32, 64, 128, 256, 512]]
    assert (content["total"]["objects"], content["total"]["unmatched"]) == (4, 2)


@pytest.mark.parametrize("command", ["collisions", "anchors"])
@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--stride", 0], "the stride is 0"),
        (["--category", "cta"], "there is no category called 'cta'; did you mean cat?"),
        (["--category", "dog"], "has no objects of category 'dog'; leave that out"),
        (["--split", "bare"], "has no objects; there is nothing to count"),
        (["--split", "test"], "has no split 'test'; it has bare, train2017"),
    ],
)
def test_mistakes_are_one_line(
    ctnet: Ctnet, data: Path, command: str, options: list[object], message: str
) -> None:
    assert message in ctnet("analyze", command, data, *options).message


@pytest.mark.parametrize("command", ["collisions", "anchors"])
def test_help_has_examples(ctnet: Ctnet, command: str) -> None:
    assert f"ctnet analyze {command} " in ctnet("analyze", command, "--help").out.split("Examples")[1]
