"""Pascal VOC to COCO JSON."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from ctnet.base.errors import CtnetError
from ctnet.convert.voc import convert_voc
from ctnet.core.class_names import PASCAL_VOC_NAMES
from ctnet.data.dataset import Dataset

pytestmark = pytest.mark.filterwarnings("error")


def box_xml(name: str, *corners: object, **flags: int) -> str:
    tags = "".join(f"<{tag}>{value}</{tag}>" for tag, value in flags.items())
    sides = zip(("xmin", "ymin", "xmax", "ymax"), corners, strict=False)
    inner = "".join(f"<{tag}>{value}</{tag}>" for tag, value in sides)
    return f"<object><name>{name}</name>{tags}<bndbox>{inner}</bndbox></object>"


def annotation_xml(*objects: str, size: str = "<width>40</width><height>30</height>", head: str = "") -> str:
    return f"{head}<annotation><size>{size}</size>{''.join(objects)}</annotation>"


def make_voc(folder: Path, files: dict[str, str], lists: dict[str, str] | None = None) -> Path:
    """A tiny data set: XML by image name, and the lists of ImageSets/Main."""
    for part in ("Annotations", "JPEGImages", "ImageSets/Main"):
        (folder / part).mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (folder / "Annotations" / f"{name}.xml").write_text(text, encoding="utf-8")
        cv2.imwrite(str(folder / "JPEGImages" / f"{name}.jpg"), np.zeros((30, 40, 3), np.uint8))
    for name, text in (lists or {"train": "\n".join(files)}).items():
        (folder / "ImageSets" / "Main" / f"{name}.txt").write_text(text)
    return folder


def read_split(folder: Path, split: str = "train") -> dict:
    return json.loads((folder / "annotations" / f"instances_{split}.json").read_text())


def test_first_and_last_pixel_belong_to_the_box(tmp_path: Path) -> None:
    source = make_voc(tmp_path / "voc", {"a": annotation_xml(box_xml("cell", 1, 1, 40, 30))})
    convert_voc(source, tmp_path / "out")
    (annotation,) = read_split(tmp_path / "out")["annotations"]
    assert annotation["bbox"] == [0, 0, 40, 30]
    assert annotation["area"] == 1200
    dataset = Dataset.open(tmp_path / "out", "train")
    assert dataset[0].instances.boxes.tolist() == [[0, 0, 40, 30]]
    assert dataset.problems == []


def test_flags_are_kept_and_difficult_is_ignored_not_crowd(tmp_path: Path) -> None:
    flagged = box_xml("cell", 2, 3, 10.5, 12, difficult=1, truncated=0, occluded=1)
    source = make_voc(tmp_path / "voc", {"a": annotation_xml(flagged, box_xml("cell", 2, 3, 9, 9))})
    convert_voc(source, tmp_path / "out")
    first, second = read_split(tmp_path / "out")["annotations"]
    assert first["bbox"] == [1, 2, 9.5, 10]
    assert {key: first[key] for key in ("difficult", "truncated", "occluded", "ignore", "iscrowd")} == {
        "difficult": 1,
        "truncated": 0,
        "occluded": 1,
        "ignore": 1,
        "iscrowd": 0,
    }
    assert second["ignore"] == 0
    assert "truncated" not in second


@pytest.mark.parametrize(
    ("bad", "kind"),
    [
        (box_xml("cell", 5, 5, 5, 5), "box without area"),
        (box_xml("cell", 9, 5, 5, 8), "box without area"),
        (box_xml("cell", 41, 5, 45, 8), "box outside the image"),
        (box_xml("cell", 1, "nan", 5, 8), "box that is not four numbers"),
        (box_xml("cell", 1, 2, 5), "box that is not four numbers"),
        (box_xml("cell", 1, 2, "1e200", "1e200"), "box that is not four numbers"),
        (box_xml("cell", 1, 2, "9" * 5000, 8), "box that is not four numbers"),
        (box_xml("cell", 1, 2, "²", 8), "box that is not four numbers"),
        (box_xml("  ", 1, 2, 5, 8), "object without name"),
    ],
)
def test_bad_objects_are_listed_and_skipped_or_refused(tmp_path: Path, bad: str, kind: str) -> None:
    good = box_xml("cell", 1, 1, 5, 5)
    source = make_voc(tmp_path / "voc", {"a": annotation_xml(good, bad, good)})
    report = convert_voc(source, tmp_path / "out")
    assert [(problem.kind, problem.where) for problem in report.problems] == [(kind, "a.xml object 1")]
    assert len(read_split(tmp_path / "out")["annotations"]) == 2
    with pytest.raises(CtnetError, match=r"1 bad records.*a\.xml object 1"):
        convert_voc(source, tmp_path / "strict", strict=True)
    assert not (tmp_path / "strict").exists()


ENTITIES = '<!DOCTYPE x [<!ENTITY a "aaaa"><!ENTITY b "&a;&a;&a;">]>'


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
def test_document_types_are_refused_in_any_encoding(tmp_path: Path, encoding: str) -> None:
    source = make_voc(tmp_path / "voc", {"a": annotation_xml()})
    (source / "Annotations" / "a.xml").write_text(annotation_xml("&b;", head=ENTITIES), encoding=encoding)
    (problem,) = convert_voc(source, tmp_path / "out").problems
    assert problem.kind == "broken XML"
    assert "document type" in problem.what


def test_broken_and_missing_files_are_listed(tmp_path: Path) -> None:
    whole = annotation_xml(box_xml("cell", 1, 1, 5, 5))
    files = {"a": whole, "cut": whole[:-30], "no_image": whole, "no_size": annotation_xml(size="")}
    lists = {"train": "a\ncut\nno_image\nno_xml\nno_size\n\na\n", "test": "no_xml\n"}
    source = make_voc(tmp_path / "voc", files, lists)
    (source / "JPEGImages" / "no_image.jpg").unlink()
    report = convert_voc(source, tmp_path / "out")
    assert {(problem.kind, Path(problem.where).name) for problem in report.problems} == {
        ("broken XML", "cut.xml"),
        ("no file in JPEGImages", "no_image.xml"),
        ("no file in Annotations", "no_xml.xml"),
        ("name listed twice", "train.txt:7"),
    }
    images = read_split(tmp_path / "out")["images"]
    assert [(image["file_name"], image["width"]) for image in images] == [
        ("images/a.jpg", 40),
        ("images/no_size.jpg", 40),
    ]
    assert read_split(tmp_path / "out", "test")["images"] == []


def test_class_lists_are_no_splits_and_shared_images_are_placed_once(tmp_path: Path) -> None:
    xml = annotation_xml(box_xml("dog", 1, 1, 5, 5), box_xml("cat", 1, 1, 5, 5))
    lists = {"train": "a", "val": "b", "trainval": "b\na", "dog_train": "a  1\nb -1\n"}
    source = make_voc(tmp_path / "voc", dict.fromkeys("abc", xml), lists)
    report = convert_voc(source, tmp_path / "out")
    assert [split.name for split in report.splits] == ["train", "trainval", "val"]
    assert any("1 lists of single classes" in note for note in report.notes)
    assert any("1 images in JPEGImages are in no list" in note for note in report.notes)
    assert "some lists share images; they name 2 different ones" in report.notes
    assert sorted(path.name for path in (tmp_path / "out" / "images").iterdir()) == ["a.jpg", "b.jpg"]
    ids = {
        split: [image["id"] for image in read_split(tmp_path / "out", split)["images"]]
        for split in lists
        if "_" not in split
    }
    assert ids == {"train": [1], "val": [2], "trainval": [2, 1]}
    categories = read_split(tmp_path / "out")["categories"]
    assert [category["name"] for category in categories] == list(PASCAL_VOC_NAMES)
    assert categories[0]["id"] == 1


def test_years_of_a_devkit_are_joined(tmp_path: Path) -> None:
    xml = annotation_xml(box_xml("zebra", 1, 1, 5, 5), box_xml("ant", 1, 1, 5, 5))
    make_voc(tmp_path / "VOCdevkit" / "VOC2007", {"a": xml}, {"trainval": "a"})
    make_voc(tmp_path / "VOCdevkit" / "VOC2012", {"b": xml}, {"trainval": "b"})
    for source in (tmp_path / "VOCdevkit", tmp_path):
        convert_voc(source, tmp_path / "out")
        content = read_split(tmp_path / "out", "trainval")
        assert [image["file_name"] for image in content["images"]] == ["images/a.jpg", "images/b.jpg"]
        assert [category["name"] for category in content["categories"]] == ["ant", "zebra"]


def test_same_name_in_two_years_is_listed(tmp_path: Path) -> None:
    for year in ("VOC2007", "VOC2012"):
        make_voc(tmp_path / "kit" / year, {"a": annotation_xml()}, {year: "a"})
    kinds = {problem.kind for problem in convert_voc(tmp_path / "kit", tmp_path / "out").problems}
    assert kinds == {"name in several folders"}


@pytest.mark.parametrize("mode", ["link", "copy", "none"])
def test_how_images_are_placed(tmp_path: Path, mode: str) -> None:
    source = make_voc(tmp_path / "voc", {"a": annotation_xml()})
    for _ in range(2):  # a second conversion over the first changes nothing
        convert_voc(source, tmp_path / "out", images=mode)
    original, placed = source / "JPEGImages" / "a.jpg", tmp_path / "out" / "images" / "a.jpg"
    assert placed.exists() == (mode != "none")
    if mode != "none":
        assert placed.read_bytes() == original.read_bytes()
        assert placed.samefile(original) == (mode == "link")
        assert len(list(placed.parent.iterdir())) == 1


def test_without_hard_links_images_are_copied(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise PermissionError("no hard links here")

    monkeypatch.setattr("os.link", refuse)
    source = make_voc(tmp_path / "voc", {"a": annotation_xml()})
    convert_voc(source, tmp_path / "out")
    assert (tmp_path / "out" / "images" / "a.jpg").stat().st_size > 0


def test_what_is_no_voc_data_set_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CtnetError, match="does not exist"):
        convert_voc(tmp_path / "nowhere", tmp_path / "out")
    with pytest.raises(CtnetError, match="not a Pascal VOC data set"):
        convert_voc(tmp_path, tmp_path / "out")
    (tmp_path / "Annotations").mkdir()
    with pytest.raises(CtnetError, match=r"lists no split; write .*train\.txt"):
        convert_voc(tmp_path, tmp_path / "out")


@pytest.mark.real
def test_bccd_has_the_counts_of_its_description(shared_data: Path, tmp_path: Path) -> None:
    source = shared_data / "bccd"
    if not source.is_dir():
        pytest.skip(f"no bccd in {shared_data}")
    report = convert_voc(source, tmp_path / "out", images="none")
    counts = {split.name: (split.images, split.objects) for split in report.splits}
    assert counts["train"] == (205, {"RBC": 2381, "WBC": 214, "Platelets": 209})
    assert counts["val"] == (87, {"RBC": 967, "WBC": 87, "Platelets": 83})
    assert counts["test"] == (72, {"RBC": 805, "WBC": 71, "Platelets": 69})
    assert [(problem.kind, problem.where) for problem in report.problems] == [
        ("box without area", "BloodImage_00338.xml object 12"),
        ("box without area", "BloodImage_00343.xml object 3"),
    ]


# --- names are paths, and files of other tools


def write_picture(path: Path, value: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), np.full((30, 40, 3), value, np.uint8))


def test_names_in_subfolders_are_different_pictures(tmp_path: Path) -> None:
    names = ("cam1/0001", "cam2/0001")
    source = make_voc(tmp_path / "voc", {}, {"train": "\n".join(names)})
    for value, name in enumerate(names):
        write_picture(source / "JPEGImages" / f"{name}.png", 100 * value)
        xml = source / "Annotations" / f"{name}.xml"
        xml.parent.mkdir()
        xml.write_text(annotation_xml(box_xml("cell", 1, 1, 9, 9)))
    report = convert_voc(source, tmp_path / "out")
    assert report.problems == ()
    assert [image["file_name"] for image in read_split(tmp_path / "out")["images"]] == [
        "images/cam1/0001.png",
        "images/cam2/0001.png",
    ]
    dataset = Dataset.open(tmp_path / "out", "train")
    assert [int(dataset[index].image.mean()) for index in range(2)] == [0, 100]


@pytest.mark.parametrize(
    ("stated", "found"), [("<filename>a.png</filename>", 200), ("<filename>a.jpg</filename>", 0), ("", None)]
)
def test_of_two_pictures_of_one_stem_the_file_says_which(tmp_path: Path, stated: str, found) -> None:
    text = annotation_xml(box_xml("cell", 1, 1, 9, 9)).replace("<size>", f"{stated}<size>")
    source = make_voc(tmp_path / "voc", {"a": text})
    write_picture(source / "JPEGImages" / "a.png", 200)
    report = convert_voc(source, tmp_path / "out")
    if found is None:
        assert [str(problem) for problem in report.problems] == [
            "a.xml: several pictures of one name (a.jpg and a.png; <filename> is '')"
        ]
    else:
        assert report.problems == ()
        assert int(Dataset.open(tmp_path / "out", "train")[0].image.mean()) == found


@pytest.mark.parametrize("line", ["photo 1", "photo 1.jpg", "photo 1.xml", "./photo 1"])
def test_lists_with_spaces_and_suffixes(tmp_path: Path, line: str) -> None:
    source = make_voc(
        tmp_path / "voc", {"photo 1": annotation_xml(box_xml("cell", 1, 1, 9, 9))}, {"train": f"{line}\n"}
    )
    report = convert_voc(source, tmp_path / "out")
    assert report.problems == ()
    assert [split.images for split in report.splits] == [1]


def test_windows_separators_in_lists(tmp_path: Path) -> None:
    source = make_voc(tmp_path / "voc", {}, {"train": "cam1\\0001\n"})
    write_picture(source / "JPEGImages/cam1/0001.png", 3)
    (source / "Annotations/cam1").mkdir()
    (source / "Annotations/cam1/0001.xml").write_text(annotation_xml(box_xml("cell", 1, 1, 9, 9)))
    report = convert_voc(source, tmp_path / "out")
    assert report.problems == ()
    assert [split.images for split in report.splits] == [1]


@pytest.mark.parametrize(
    "change",
    [
        lambda text: text.replace("<annotation>", '<annotation xmlns="http://example.org/voc">'),
        lambda text: text.replace("object>", "Object>").replace("xmin", "Xmin"),
        lambda text: text.upper().replace("CELL", "cell"),
        lambda text: f"<export><annotation>{text[len('<annotation>') :]}</export>",
        lambda text: text.replace("<object>", "<objects><object>").replace(
            "</object>", "</object></objects>"
        ),
        lambda text: text.replace("annotation>", "label>"),
    ],
)
def test_objects_of_other_spellings_are_found(tmp_path: Path, change) -> None:
    text = annotation_xml(box_xml("cell", 1, 1, 40, 30))
    assert change(text) != text
    convert_voc(make_voc(tmp_path / "voc", {"a": change(text)}), tmp_path / "out")
    content = read_split(tmp_path / "out")
    assert [annotation["bbox"] for annotation in content["annotations"]] == [[0, 0, 40, 30]]
    assert [category["name"] for category in content["categories"]] == ["cell"]


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("<svg><path/></svg>", "no VOC annotation"),
        ("<all><annotation/><annotation/></all>", "several annotations in one file"),
    ],
)
def test_other_xml_is_a_bad_record(tmp_path: Path, text: str, kind: str) -> None:
    good = annotation_xml(box_xml("cell", 1, 1, 9, 9))
    report = convert_voc(make_voc(tmp_path / "voc", {"a": text, "b": good}), tmp_path / "out")
    assert [(problem.kind, problem.where) for problem in report.problems] == [(kind, "a.xml")]
