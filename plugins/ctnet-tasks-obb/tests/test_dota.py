"""DOTA's labels to COCO and back: nothing is lost, nothing bad is silent."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from ctnet_tasks_obb.boxes import Rectangles, misfit
from ctnet_tasks_obb.dota import CLASSES, import_dota, min_area_rectangle
from ctnet_tasks_obb.dota_export import export_dota
from typer.testing import CliRunner

from ctnet.base.errors import CtnetError
from ctnet.cli import app
from ctnet.data.dataset import open_splits
from ctnet.ops.polygons import polygon_areas

HEADER = "imagesource:GoogleEarth\ngsd:0.146343590398\n"
GOOD = [
    "100.0 100.0 140.0 100.0 140.0 120.0 100.0 120.0 ship 0",
    "53.0 21.0 87.0 31.0 84.0 41.0 50.0 31.0 plane 1",  # a turned one, rounded to whole pixels
    "160.5 20.25 180.5 20.25 180.5 40.25 160.5 40.25 small-vehicle 0",
]
TRAPEZIUM = "10.0 60.0 50.0 60.0 40.0 90.0 12.0 80.0 harbor 0"
BAD = {
    "1 2 3 4 ship 0": "line that is not eight numbers, a class and 0 or 1 (6 words)",
    "1 2 3 4 5 6 7 ship 0": "coordinate that is not a number ('ship')",
    "10 10 x 10 20 20 10 20 ship 0": "coordinate that is not a number ('x')",
    "10 10 nan 10 20 20 10 20 ship 0": "coordinate that is not a number ('nan')",
    "10 10 20 10 20 20 10 20 ship 2": "difficult that is not 0 or 1 (2)",
    "10 10 20 20 30 30 20 20 ship 0": "box without area (10 10 20 20 30 30 20 20)",
    "300 9 320 9 320 20 300 20 ship 0": "box outside the image (300 9 320 9 320 20 300 20; it has 200x150)",
    "9 9 20 9 20 20 9 20 large vehicle 0": "line that is not eight numbers, a class and 0 or 1 (11 words)",
}


def write(folder: Path, name: str, lines: list[str], header: str = HEADER, image: bool = True) -> None:
    (folder / "images").mkdir(parents=True, exist_ok=True)
    (folder / "labelTxt").mkdir(exist_ok=True)
    if image:
        cv2.imwrite(str(folder / "images" / f"{name}.png"), np.full((150, 200, 3), 90, np.uint8))
    (folder / "labelTxt" / f"{name}.txt").write_text(header + "".join(f"{line}\n" for line in lines))


def content(data: Path, split: str) -> dict:
    return json.loads((data / "annotations" / f"instances_{split}.json").read_text())


@pytest.fixture
def dota(tmp_path: Path) -> Path:
    """Two splits of good lines."""
    write(tmp_path / "DOTA" / "train", "P0001", GOOD)
    write(tmp_path / "DOTA" / "train", "P0002", [], header="")
    write(tmp_path / "DOTA" / "val", "P0003", GOOD[:1], header="imagesource:GF\ngsd:null\n")
    return tmp_path / "DOTA"


def test_corners_are_those_of_the_line(dota: Path, tmp_path: Path) -> None:
    report = import_dota(dota, tmp_path / "data")
    assert (report.problems, report.notes) == ((), ())
    assert [(split.name, split.images) for split in report.splits] == [("train", 2), ("val", 1)]
    train = content(tmp_path / "data", "train")
    assert [category["name"] for category in train["categories"]] == ["plane", "small-vehicle", "ship"]
    assert train["images"][0]["gsd"] == "0.146343590398"
    ship, plane, vehicle = train["annotations"]
    assert ship["corners"] == [100, 100, 140, 100, 140, 120, 100, 120]
    assert (ship["bbox"], ship["area"], ship["difficult"]) == ([100, 100, 40, 20], 800, 0)
    assert plane["corners"] == [53, 21, 87, 31, 84, 41, 50, 31]
    assert (plane["difficult"], plane["ignore"]) == (1, 1)
    assert vehicle["corners"][:2] == [160.5, 20.25]
    ids = [image["id"] for split in ("train", "val") for image in content(tmp_path / "data", split)["images"]]
    assert ids == [1, 2, 3]


def test_the_task_can_use_it(dota: Path, tmp_path: Path) -> None:
    import_dota(dota, tmp_path / "data")
    dataset = open_splits(tmp_path / "data", "train", "obb")[0]
    assert not dataset.problems
    assert dataset[0].image.shape == (150, 200, 3)
    assert dataset[0].instances.corners.shape == (3, 4, 2)


def test_there_and_back(dota: Path, tmp_path: Path) -> None:
    """Numbers, classes, difficulty and header lines are the same; so is the COCO file of a second round."""
    import_dota(dota, tmp_path / "data")
    report = export_dota(tmp_path / "data", tmp_path / "back")
    assert report.problems == ()
    for split, name in (("train", "P0001"), ("train", "P0002"), ("val", "P0003")):
        before, after = (
            (folder / split / "labelTxt" / f"{name}.txt").read_text() for folder in (dota, tmp_path / "back")
        )
        assert after == before
        assert (tmp_path / "back" / split / "images" / f"{name}.png").is_file()
    import_dota(tmp_path / "back", tmp_path / "again")
    for split in ("train", "val"):
        first, second = content(tmp_path / "data", split), content(tmp_path / "again", split)
        assert {**first, "info": {}} == {**second, "info": {}}


def test_printed_digits_survive(tmp_path: Path) -> None:
    """Random rectangles with up to six decimals, clockwise or not, come back unchanged."""
    rng = np.random.default_rng(0)
    lines = []
    for digits in range(7):
        for _ in range(20):
            corners = Rectangles(
                rng.uniform(60, 90, (1, 2)), rng.uniform(5, 60, (1, 2)), np.exp(1j * rng.uniform(0, 7, 1))
            ).corners[0].round(digits)  # fmt: skip
            corners = corners[:: rng.choice([-1, 1])]
            lines.append(" ".join(repr(float(v)) for v in corners.flatten()) + f" ship {rng.integers(2)}")
    write(tmp_path / "DOTA", "P0001", lines, header="")
    assert import_dota(tmp_path / "DOTA", tmp_path / "data").notes == ()
    export_dota(tmp_path / "data", tmp_path / "back")
    assert (tmp_path / "back" / "train" / "labelTxt" / "P0001.txt").read_text().splitlines() == lines


def test_what_is_no_rectangle_becomes_the_least_one(tmp_path: Path) -> None:
    write(tmp_path / "DOTA", "P0001", [*GOOD, TRAPEZIUM])
    report = import_dota(tmp_path / "DOTA", tmp_path / "data")
    assert report.notes == (
        "1 quadrilaterals were not rectangles and were replaced by their minimum-area rectangles",
    )
    corners = np.array(content(tmp_path / "data", "train")["annotations"][-1]["corners"]).reshape(1, 4, 2)
    given = np.array(TRAPEZIUM.split()[:8], float).reshape(1, 4, 2)
    assert misfit(corners)[0] < 0.002
    around, inner = corners[0].astype(np.float32), given[0].astype(np.float32)
    assert all(cv2.pointPolygonTest(around, point.tolist(), True) > -0.01 for point in inner)
    assert np.linalg.norm(corners[0, 0] - given[0, 0]) < 15  # and begins near its first corner
    # No other rectangle around it is smaller.
    for angle in np.linspace(0, np.pi / 2, 181):
        turned = (given[0, :, 0] + 1j * given[0, :, 1]) * np.exp(-1j * angle)
        assert np.ptp(turned.real) * np.ptp(turned.imag) >= polygon_areas(corners)[0] - 0.1
    # The rectangle is one by its own digits: a second round changes nothing.
    export_dota(tmp_path / "data", tmp_path / "back")
    assert import_dota(tmp_path / "back", tmp_path / "again").notes == ()


def test_the_least_rectangle_far_from_the_origin() -> None:
    points = np.array([[0, 0], [40, 3], [38, 12], [-1, 9]], float)
    far = min_area_rectangle(points + 2e4) - 2e4
    assert far == pytest.approx(min_area_rectangle(points), abs=2e-3)


def test_bad_lines_are_listed_with_file_and_line(tmp_path: Path) -> None:
    write(tmp_path / "DOTA" / "train", "P0001", [GOOD[0], *BAD, GOOD[1]])
    report = import_dota(tmp_path / "DOTA", tmp_path / "data")
    expected = [
        f"train/labelTxt/P0001.txt:{number}: {text}" for number, text in enumerate(BAD.values(), start=4)
    ]
    assert [str(problem) for problem in report.problems] == expected
    assert len(content(tmp_path / "data", "train")["annotations"]) == 2
    with pytest.raises(CtnetError, match="has 8 bad records"):
        import_dota(tmp_path / "DOTA", tmp_path / "strict", strict=True)
    assert not (tmp_path / "strict").exists()


def test_images_that_lack_something_are_named(tmp_path: Path) -> None:
    write(tmp_path / "DOTA", "P0001", GOOD[:1])
    write(tmp_path / "DOTA", "P0002", GOOD[:1], image=False)
    cv2.imwrite(str(tmp_path / "DOTA" / "images" / "P0009.png"), np.zeros((8, 8, 3), np.uint8))
    (tmp_path / "DOTA" / "images" / "P0003.png").write_text("no image")
    (tmp_path / "DOTA" / "labelTxt" / "P0003.txt").write_text(GOOD[0])
    report = import_dota(tmp_path / "DOTA", tmp_path / "data")
    assert [problem.where for problem in report.problems] == ["labelTxt/P0002.txt", "labelTxt/P0003.txt"]
    assert [problem.kind for problem in report.problems] == ["no image", "image that cannot be read"]
    assert "1 images of train have no label file and were left out" in report.notes


def test_a_line_without_difficulty_is_not_difficult(tmp_path: Path) -> None:
    write(tmp_path / "DOTA", "P0001", [GOOD[0].removesuffix(" 0")])
    import_dota(tmp_path / "DOTA", tmp_path / "data")
    assert content(tmp_path / "data", "train")["annotations"][0]["difficult"] == 0


def test_several_folders_of_labels_need_a_choice(dota: Path, tmp_path: Path) -> None:
    (dota / "train" / "labelTxt").rename(dota / "train" / "labelTxt-v1.0")
    (dota / "train" / "labelTxt-v1.5").mkdir()
    with pytest.raises(CtnetError, match="choose one with --labels"):
        import_dota(dota, tmp_path / "data")
    report = import_dota(dota, tmp_path / "data", labels="labelTxt-v1.0")
    assert [split.name for split in report.splits] == ["train"]
    assert "val has images but no folder labelTxt-v1.0, and was left out" in report.notes


def test_crowds_and_old_names(dota: Path, tmp_path: Path) -> None:
    import_dota(dota, tmp_path / "data")
    path = tmp_path / "data" / "annotations" / "instances_val.json"
    changed = json.loads(path.read_text())
    changed["annotations"][0]["iscrowd"] = 1
    path.write_text(json.dumps(changed))
    assert export_dota(tmp_path / "data", tmp_path / "back").notes == (
        "1 crowd regions were left out: DOTA's labels cannot express them",
    )
    changed["categories"][0]["name"] = "large vehicle"
    path.write_text(json.dumps(changed))
    with pytest.raises(CtnetError, match="'large vehicle' has a space in it"):
        export_dota(tmp_path / "data", tmp_path / "back")


def test_the_command(dota: Path, tmp_path: Path) -> None:
    def run(*words: str) -> str:
        result = CliRunner().invoke(app, ["convert", "dota", *words])
        assert result.exit_code == 0, result.output
        return result.stdout

    report = json.loads(run(str(dota), "-o", str(tmp_path / "data"), "--json"))
    assert [split["objects"] for split in report["splits"]] == [3, 1]
    out = json.loads(
        run(str(tmp_path / "data"), "-o", str(tmp_path / "b"), "--export", "--images", "none", "--json")
    )
    assert out["problems"] == []
    assert not (tmp_path / "b" / "train" / "images").exists()
    failed = CliRunner().invoke(app, ["convert", "dota", str(dota), "-o", "x", "--export", "--labels", "y"])
    assert isinstance(failed.exception, CtnetError)


def test_other_layouts_are_refused(tmp_path: Path) -> None:
    with pytest.raises(CtnetError, match="does not have DOTA's layout"):
        import_dota(tmp_path, tmp_path / "data")
    with pytest.raises(CtnetError, match="it does not exist"):
        import_dota(tmp_path / "nowhere", tmp_path / "data")
    assert len(set(CLASSES)) == 18


def test_images_are_told_apart_by_their_paths(tmp_path: Path) -> None:
    folder = tmp_path / "DOTA" / "train"
    for name in ("a/P1", "b/P1", "P2", "c/P3", "P4"):
        for place in ("images", "labelTxt"):
            (folder / place / name).parent.mkdir(parents=True, exist_ok=True)
        write(folder, name, GOOD[:1])
    (folder / "labelTxt/c/P3.txt").rename(folder / "labelTxt/P3.txt")  # labels may lie together
    (folder / "images/P4.jpg").write_bytes((folder / "images/P2.png").read_bytes())
    report = import_dota(tmp_path / "DOTA", tmp_path / "data")
    images = [image["file_name"] for image in content(tmp_path / "data", "train")["images"]]
    assert sorted(images) == [f"images/train/{name}.png" for name in ("P2", "a/P1", "b/P1", "c/P3")]
    assert [problem.kind for problem in report.problems] == ["several images of one name"]
    assert report.notes == ()
