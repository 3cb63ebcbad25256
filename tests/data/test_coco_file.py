from __future__ import annotations

import copy
import json
import logging
import os
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ctnet.base.errors import CtnetError
from ctnet.data import coco, json_reader
from ctnet.data.coco import CocoFile
from ctnet.data.problems import refuse, summarize

COLUMNS = (
    "image_ids",
    "widths",
    "heights",
    "first",
    "annotation_ids",
    "category_ids",
    "boxes",
    "areas",
    "crowd",
)


@pytest.fixture
def write(tmp_path: Path) -> Any:
    def write(document: Any) -> Path:
        path = tmp_path / "instances_val.json"
        path.write_text(document if isinstance(document, str) else json.dumps(document), encoding="utf-8")
        return path

    return write


def test_columns(write: Any, document: dict[str, Any]) -> None:
    file = CocoFile.open(write(document))
    assert len(file) == 3
    assert file.image_ids.tolist() == [12, 5, 40]
    assert [file.file_name(image) for image in range(3)] == ["a.jpg", "b.jpg", "c.jpg"]
    assert file.first.tolist() == [0, 1, 1, 3]
    assert file.annotation_ids.tolist() == [0, 17, 9]
    assert file.areas.tolist() == [333.0, 300.0, 400.0]
    assert file.crowd.tolist() == [False, True, False]
    assert file.categories == document["categories"]
    assert file.raw_image(0) == document["images"][0]
    assert next(file.raw_annotations([2])) == document["annotations"][2]
    assert file.usable.all()
    assert file.problems == []


# --- against json.load

NAMES = st.text(st.characters(codec="utf-8"), min_size=1, max_size=12)
NUMBERS = st.floats(-50, 200, width=32) | st.integers(-50, 200)
POLYGON = st.lists(NUMBERS, min_size=6, max_size=40).map(lambda numbers: [numbers, numbers[:6]])


@st.composite
def documents(draw: st.DrawFn) -> dict[str, Any]:
    image_ids = draw(st.lists(st.integers(0, 10**12), min_size=1, max_size=5, unique=True))
    category_ids = draw(st.lists(st.integers(0, 99), min_size=1, max_size=4, unique=True))
    images = [
        {
            "id": i,
            "file_name": draw(NAMES),
            "width": draw(st.integers(1, 99)),
            "height": draw(st.integers(1, 99)),
        }
        for i in image_ids
    ]
    optional = st.fixed_dictionaries(
        {},
        optional={
            "area": NUMBERS,
            "iscrowd": st.integers(0, 1),
            "segmentation": POLYGON,
            "caption": NAMES,
            "extra": st.sampled_from([None, True, {"a": [[]]}, '"]}[[1', {"counts": 'x\\"y'}]),
        },
    )
    annotations = [
        {
            "image_id": draw(st.sampled_from([*image_ids, -1])),
            "id": number * 3,
            "category_id": draw(st.sampled_from([*category_ids, 100])),
            "bbox": draw(st.lists(NUMBERS, min_size=4, max_size=4)),
            **draw(optional),
        }
        for number in range(draw(st.integers(0, 8)))
    ]
    parts = {
        "images": images,
        "annotations": annotations,
        "categories": [{"id": i, "name": f"{i} {draw(NAMES)}", "skeleton": [[1, 2]]} for i in category_ids],
        draw(NAMES): draw(st.sampled_from([{}, [], 12, -1.5e3, None, "ü", [[{"images": 1}]]])),
    }
    return {key: parts[key] for key in draw(st.permutations(list(parts)))}


@settings(max_examples=60, deadline=None)
@given(
    documents(),
    st.sampled_from([None, 0, 3]),
    st.booleans(),
    st.sampled_from([(",", ":"), (" ,\n", "\t: ")]),
    st.sampled_from([1, 7, 64, 1 << 20]),
)
def test_equals_naive_reading(
    tmp_path_factory: pytest.TempPathFactory,
    document: dict[str, Any],
    indent: int | None,
    ascii_only: bool,
    separators: tuple[str, str],
    chunk: int,
) -> None:
    path = tmp_path_factory.mktemp("coco") / "file.json"
    text = json.dumps(document, indent=indent, ensure_ascii=ascii_only, separators=separators)
    path.write_bytes(b" \n" + text.encode("utf-8") + b"\n")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(json_reader, "CHUNK", chunk)
        file = CocoFile.open(path)
    assert_equals_naive(file, json.loads(path.read_bytes()))


def assert_equals_naive(file: CocoFile, document: dict[str, Any]) -> None:
    categories = {category["id"] for category in document["categories"]}
    assert file.categories == document["categories"]
    assert file.image_ids.tolist() == [image["id"] for image in document["images"]]
    errors = 0
    for index, image in enumerate(document["images"]):
        assert file.raw_image(index) == image
        assert file.file_name(index) == image["file_name"]
        assert (file.widths[index], file.heights[index]) == (image["width"], image["height"])
        mine = [entry for entry in document["annotations"] if entry["image_id"] == image["id"]]
        rows = range(file.first[index], file.first[index + 1])
        assert list(file.raw_annotations(rows)) == mine
        for row, entry in zip(rows, mine, strict=True):
            x, y, width, height = entry["bbox"]
            assert file.boxes[row].tolist() == entry["bbox"]
            box, area = float(width) * float(height), entry.get("area")
            filler = area is None or area <= 0 or (area <= 1 and box >= 16)
            assert file.areas[row] == (box if filler else area)
            assert file.crowd[row] == entry.get("iscrowd", 0)
            assert file.annotation_ids[row] == entry["id"]
            assert file.category_ids[row] == entry["category_id"]
            assert file.image_index[row] == index
            inside = x < image["width"] and y < image["height"] and x + width > 0 and y + height > 0
            good = width > 0 and height > 0 and inside and entry["category_id"] in categories
            assert file.usable[row] == good
            errors += not good
    strangers = [entry for entry in document["annotations"] if entry["image_id"] == -1]
    assert list(file.raw_annotations(range(file.first[-1], len(file.boxes)))) == strangers
    assert len(file.problems) == errors + len(strangers)


def test_long_polygons_are_kept_in_the_file(write: Any, document: dict[str, Any]) -> None:
    """Lists that the first reading skips come out whole, wherever pieces of the file end."""
    for entry in document["annotations"]:
        entry["segmentation"] = [[float(number) for number in range(300)], [1.5] * 80]
    document["categories"][0]["outline"] = [[float(number) for number in range(300)]]
    path = write(document)
    for chunk in (64, 500, 1 << 20):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(json_reader, "CHUNK", chunk)
            assert_equals_naive(CocoFile.open(path), document)


def test_defaults_of_what_is_missing(write: Any, document: dict[str, Any]) -> None:
    for entry in document["annotations"]:
        entry.pop("id")
        entry.pop("area", None)
    document["annotations"][0]["id"] = 100
    document["annotations"][2]["area"] = "large"
    file = CocoFile.open(write(document))
    assert file.annotation_ids.tolist() == [101, 100, 102]
    assert file.areas.tolist() == [600, 300, 400]
    assert file.problems == []


def test_file_without_annotations_is_a_test_set(write: Any, document: dict[str, Any]) -> None:
    del document["annotations"], document["categories"]
    file = CocoFile.open(write(document))
    assert len(file) == 3
    assert len(file.rows(2)) == 0
    assert file.problems == []


def test_byte_order_mark_and_whole_floats(tmp_path: Path, document: dict[str, Any]) -> None:
    document["images"][0]["id"] = 12.0
    path = tmp_path / "file.json"
    path.write_bytes(b"\xef\xbb\xbf" + json.dumps(document).encode())
    file = CocoFile.open(path)
    assert file.image_ids.tolist() == [12, 5, 40]
    assert file.raw_image(2) == document["images"][2]
    assert len(file.rows(0)) == 1


# --- bad records


@pytest.mark.parametrize(
    ("changes", "kind", "what"),
    [
        ({"bbox": [float("nan"), 1, 2, 3]}, "box that is not four finite numbers", "bbox [NaN, 1, 2, 3]"),
        (
            {"bbox": [1, 1, float("inf"), 3]},
            "box that is not four finite numbers",
            "bbox [1, 1, Infinity, 3]",
        ),
        ({"bbox": [1, 2, 3]}, "box that is not four finite numbers", "bbox [1, 2, 3]"),
        ({"bbox": [1, 2, 3, "4"]}, "box that is not four finite numbers", 'bbox [1, 2, 3, "4"]'),
        ({"bbox": [1, 2, 3, 10**400]}, "box that is not four finite numbers", "bbox [1, 2, 3, 1000"),
        ({"bbox": None}, "box that is not four finite numbers", "bbox null"),
        ({"bbox": [1, 2, 0, 4]}, "box without area", "bbox [1, 2, 0, 4]"),
        ({"bbox": [10, 10, -3, 4]}, "box without area", "bbox [10, 10, -3, 4]"),
        ({"bbox": [60, 2, 3, 4]}, "box outside its image", "bbox [60, 2, 3, 4], image 60x40"),
        ({"bbox": [1, -5, 3, 4.5]}, "box outside its image", "bbox [1, -5, 3, 4.5], image 60x40"),
        ({"category_id": 8}, "unknown category", "category_id 8"),
        ({"category_id": None}, "unknown category", "category_id null"),
        ({"image_id": 6}, "unknown image", "image_id 6"),
        ({"image_id": "6"}, "unknown image", 'image_id "6"'),
        ({"iscrowd": "0"}, "crowd flag that is neither 0 nor 1", 'iscrowd "0"'),
        ({"iscrowd": 2}, "crowd flag that is neither 0 nor 1", "iscrowd 2"),
        ({"iscrowd": [0]}, "crowd flag that is neither 0 nor 1", "iscrowd [0]"),
    ],
)
def test_bad_annotation_is_left_out_and_listed(
    write: Any, document: dict[str, Any], changes: dict[str, Any], kind: str, what: str
) -> None:
    bad = document["annotations"][2]
    bad.update(changes)
    file = CocoFile.open(write(document))
    [problem] = file.problems
    assert problem.kind == kind
    assert problem.where == f"annotation {bad['id']} of image {bad['image_id']}"
    assert problem.what.startswith(what)
    assert file.usable.sum() == 2
    assert sum(len(file.rows(image)) for image in range(3)) == 2


def test_annotation_ids_may_repeat(write: Any, document: dict[str, Any]) -> None:
    for annotation in document["annotations"]:
        annotation["id"] = 1
    file = CocoFile.open(write(document))
    assert file.problems == []
    assert file.usable.all()


@pytest.mark.parametrize("mark", [0, 1, False, True, 0.0, 1.0, None])
def test_crowd_marks(write: Any, document: dict[str, Any], mark: Any) -> None:
    document["annotations"] = [{**document["annotations"][0], "iscrowd": mark}]
    file = CocoFile.open(write(document))
    assert file.problems == []
    assert file.crowd.tolist() == [bool(mark)]


@pytest.mark.parametrize(
    ("area", "kept", "odd"),
    [
        (30.5, 30.5, False),
        (None, 80.0, False),
        (0, 80.0, True),
        (1, 80.0, True),
        (-3, 80.0, True),
        ("30", 80.0, True),
        (float("inf"), 80.0, True),
    ],
)
def test_an_area_that_cannot_be_is_the_boxs(
    write: Any, document: dict[str, Any], area: Any, kept: float, odd: bool
) -> None:
    document["annotations"] = [{**document["annotations"][0], "bbox": [1, 1, 10, 8], "area": area}]
    file = CocoFile.open(write(document))
    assert file.areas.tolist() == [kept]
    assert file.odd_areas.tolist() == [odd]


def test_a_tiny_object_may_have_an_area_of_1(write: Any, document: dict[str, Any]) -> None:
    document["annotations"] = [{**document["annotations"][0], "bbox": [1, 1, 1, 1.5], "area": 1}]
    assert not CocoFile.open(write(document)).odd_areas.any()


@pytest.mark.parametrize("key", ["images", "annotations", "categories"])
def test_a_list_that_occurs_twice_is_refused(tmp_path: Path, document: dict[str, Any], key: str) -> None:
    text = json.dumps(document)
    (tmp_path / "twice.json").write_text(f'{text[:-1]}, "{key}": []}}')
    with pytest.raises(CtnetError, match=f"twice.json .* the key '{key}' a second time"):
        CocoFile.open(tmp_path / "twice.json")


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ('"bbox": [1, 1, 5, 5], ', "bbox"),
        ('"id" :9,', "id"),
        ('"more": [{"a": 1, "a": 1}], ', "a"),
        ('"\\u0062box": [1, 1, 5, 5], ', "bbox"),
    ],
)
def test_an_annotation_with_a_key_twice_is_left_out_and_listed(
    write: Any, document: dict[str, Any], text: str, key: str
) -> None:
    """Readers would silently take the second."""
    bad = document["annotations"][1]
    whole = json.dumps(document)
    file = CocoFile.open(write(whole.replace(json.dumps(bad), "{" + text + json.dumps(bad)[1:])))
    [problem] = file.problems
    assert problem.kind == "key that occurs twice"
    assert problem.where == f"annotation {bad['id']} of image {bad['image_id']}"
    assert problem.what == f"{key!r}; keep one of them"
    assert file.usable.sum() == 2


@pytest.mark.parametrize("noun", ["image", "category"])
def test_an_image_or_category_with_a_key_twice_is_refused(
    write: Any, document: dict[str, Any], noun: str
) -> None:
    entry = document["images" if noun == "image" else "categories"][0]
    whole = json.dumps(document).replace(json.dumps(entry), '{"id": 77, ' + json.dumps(entry)[1:])
    with pytest.raises(CtnetError, match=rf"{noun} 1 of .* \(byte \d+\) has the key 'id' twice; keep one"):
        CocoFile.open(write(whole))


def test_equal_category_names_are_refused(write: Any, document: dict[str, Any]) -> None:
    document["categories"].append({"id": 9, "name": document["categories"][0]["name"]})
    with pytest.raises(CtnetError, match=r"categories \d+ and 9 of .* are both called"):
        CocoFile.open(write(document))


def test_an_unpaired_surrogate_is_not_a_category_name(write: Any, document: dict[str, Any]) -> None:
    document["categories"][1]["name"] = "a\ud800"
    with pytest.raises(
        CtnetError, match=r"category 2 of .* is called 'a\\ud800', which holds an unpaired surrogate"
    ):
        CocoFile.open(write(document))


def test_box_partly_outside_is_good(write: Any, document: dict[str, Any]) -> None:
    document["annotations"][0]["bbox"] = [-5, -5, 5.5, 100]
    assert CocoFile.open(write(document)).problems == []


def test_later_image_of_the_same_id_is_left_out(write: Any, document: dict[str, Any]) -> None:
    document["images"].append({**document["images"][0], "file_name": "other.jpg"})
    file = CocoFile.open(write(document))
    assert file.image_ids.tolist() == [12, 5, 40]
    assert file.file_name(0) == "a.jpg"
    assert [str(problem) for problem in file.problems] == [
        "image 12: duplicate image id (the later entry is left out)"
    ]


def test_summary_and_refusal(write: Any, document: dict[str, Any]) -> None:
    document["annotations"][0]["bbox"][2] = 0
    document["annotations"][1]["category_id"] = 99
    document["annotations"][2]["bbox"][3] = -1
    problems = CocoFile.open(write(document)).problems
    assert summarize(problems) == [
        "skipped 1 with unknown category (first: annotation 0 of image 12, category_id 99)",
        "skipped 2 with box without area (first: annotation 17 of image 40, bbox [10, 10, 0, 15])",
    ]
    with pytest.raises(
        CtnetError, match=r"^file.json has 3 bad records: 1 with unknown .*; 2 with box"
    ) as error:
        refuse(problems, "file.json")
    assert "\n" not in str(error.value)
    refuse([], "file.json")


# --- files that cannot be used


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(CtnetError, match=r"cannot read .*none.json: No such file"):
        CocoFile.open(tmp_path / "none.json")


def test_cut_anywhere(write: Any, document: dict[str, Any]) -> None:
    """A file cut short at any byte is refused as such, in one line with the place."""
    document["annotations"][1]["segmentation"] = [[-1.5e3] * 30]
    text = json.dumps(document)
    for length in {*range(0, len(text), 4), len(text) - 1}:
        with pytest.raises(CtnetError, match="ends in the middle of") as error:
            CocoFile.open(write(text[:length]))
        assert f"at byte {length}; was it cut short?" in str(error.value)


def test_cut_names_the_annotation(write: Any, document: dict[str, Any]) -> None:
    text = json.dumps(document)
    with pytest.raises(CtnetError, match="ends in the middle of annotation 2 at byte"):
        CocoFile.open(write(text[: text.index("333")]))


def _without(field: str) -> Any:
    def change(document: dict[str, Any]) -> None:
        del document["images"][1][field]

    return change


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda d: d.pop("images"), "has no 'images'"),
        (lambda d: d.pop("categories"), "has annotations but no 'categories'"),
        (lambda d: d.update(images={"a": 1}), "has an object as 'images' at byte"),
        (lambda d: d.update(annotations=None), "has null as 'annotations' at byte"),
        (lambda d: d["annotations"].insert(2, [1]), r"annotation 3 of .* is a list; it must be an object"),
        (lambda d: d["images"].append("x"), r"image 4 of .* is a string; it must be an object"),
        (lambda d: d["images"][1].update(id="5"), r"image 2 of .* needs a whole number 'id', has '5'"),
        (_without("file_name"), r"image 2 of .* \(id 5\) needs a 'file_name', has None"),
        (_without("width"), r"image 2 of .* \(id 5, b.jpg\) needs its 'width' in pixels, has None"),
        (lambda d: d["images"][1].update(height=0), r"image 2 .* needs its 'height' in pixels, has 0"),
        (
            lambda d: d["categories"][1].pop("name"),
            r"category 2 of .* needs a whole number 'id' and a",
        ),
        (lambda d: d["categories"][1].update(id=7), r"category 2 of .* has the id 7 of an earlier one"),
    ],
)
def test_unusable_document(write: Any, document: dict[str, Any], change: Any, message: str) -> None:
    change(document)
    with pytest.raises(CtnetError, match=message) as error:
        CocoFile.open(write(document))
    assert "instances_val.json" in str(error.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[1, 2]", "holds a list, not an object .* is it a file of results"),
        ("12", "holds a number, not an object"),
        ('{"images": [],}', "is not valid JSON in the document at byte"),
        ('{"images": [] "annotations": []}', "is not valid JSON in .*'\"' where , or } should be"),
        ('{"images": [{"id": 1, "file_name": oops}]}', "is not valid JSON in image 1 at byte 35"),
        ('{"images": []} {}', "text after the end"),
        ('{"images": [], 3: 4}', "a key that is not a string"),
        ('{"images": [], "x": ' + "[" * 100_000 + "]" * 100_000 + "}", "nested too deeply"),
    ],
)
def test_not_a_coco_file(write: Any, text: str, message: str) -> None:
    with pytest.raises(CtnetError, match=message):
        CocoFile.open(write(text))


def test_text_that_is_not_utf8(tmp_path: Path) -> None:
    path = tmp_path / "file.json"
    path.write_bytes('{"images": [{"id": 1, "file_name": "ü"}]}'.encode("latin-1"))
    with pytest.raises(CtnetError, match="in image 1 at byte 12: text that is not UTF-8"):
        CocoFile.open(path)


# --- the index


@pytest.fixture
def index_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "cache" / "deep"
    monkeypatch.setenv("CTNET_CACHE", str(folder))
    monkeypatch.setattr(coco, "_SMALL", 0)
    return folder


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """The files that were read in full."""
    read: list[Path] = []
    original = coco.read_columns

    def counted(path: Path, size: int) -> Any:
        read.append(path)
        return original(path, size)

    monkeypatch.setattr(coco, "read_columns", counted)
    return read


def assert_same(one: CocoFile, other: CocoFile) -> None:
    for name in COLUMNS:
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name))
    assert one.categories == other.categories
    assert one.problems == other.problems
    assert one.file_name(1) == other.file_name(1)
    assert list(one.raw_annotations([0, 1, 2])) == list(other.raw_annotations([0, 1, 2]))


def test_second_opening_takes_the_index(
    write: Any, document: dict[str, Any], index_folder: Path, reads: list[Path]
) -> None:
    document["annotations"][0]["bbox"] = [0, 0, 0, 0]
    path = write(document)
    first, second = CocoFile.open(path), CocoFile.open(path)
    assert len(reads) == 1
    assert len(list(index_folder.iterdir())) == 1
    assert_same(first, second)


def test_index_is_never_stale(
    write: Any, document: dict[str, Any], index_folder: Path, reads: list[Path]
) -> None:
    """Other content of the same size and the same time is read again."""
    path = write(document)
    status = path.stat()
    CocoFile.open(path)
    document["annotations"][0]["bbox"] = [10, 10, 21, 15]
    write(document)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert path.stat().st_size == status.st_size
    assert CocoFile.open(path).boxes[1].tolist() == [10, 10, 21, 15]
    assert len(reads) == 2


@pytest.mark.parametrize("damage", ["cut", "flipped", "empty", "other"])
def test_damaged_index_is_rebuilt(
    write: Any, document: dict[str, Any], index_folder: Path, reads: list[Path], damage: str, caplog: Any
) -> None:
    path = write(document)
    first = CocoFile.open(path)
    [index] = index_folder.iterdir()
    data = bytearray(index.read_bytes())
    if damage == "flipped":
        position = data.index(first.boxes.tobytes())
        data[position] ^= 1
    replaced = {"cut": data[: len(data) // 2], "flipped": data, "empty": b"", "other": b"[1, 2]" * 100}
    index.write_bytes(replaced[damage])
    with caplog.at_level(logging.WARNING, "ctnet"):
        assert_same(first, CocoFile.open(path))
    assert len(reads) == 2
    assert "is damaged" in caplog.text
    CocoFile.open(path)
    assert len(reads) == 2


def test_unwritable_cache_is_reported_and_not_an_error(
    write: Any, document: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: Any
) -> None:
    monkeypatch.setattr(coco, "_SMALL", 0)
    (tmp_path / "file").write_text("not a folder")
    monkeypatch.setenv("CTNET_CACHE", str(tmp_path / "file" / "cache"))
    with caplog.at_level(logging.WARNING, "ctnet"):
        assert len(CocoFile.open(write(document))) == 3
    [line] = caplog.messages
    assert "set CTNET_CACHE to use another folder" in line


def test_small_files_and_refused_cache_leave_no_index(
    write: Any, document: dict[str, Any], index_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write(document)
    CocoFile.open(path, cache=False)
    assert not index_folder.exists()
    monkeypatch.undo()
    monkeypatch.setenv("CTNET_CACHE", str(index_folder))
    CocoFile.open(path)
    assert not index_folder.exists()


def test_pickle_is_small_and_opens_again(write: Any, document: dict[str, Any]) -> None:
    template = document["annotations"][0]
    document["annotations"] = [{**template, "id": number} for number in range(500)]
    file = CocoFile.open(write(document))
    data = pickle.dumps(file)
    assert len(data) < 500
    assert_same(file, pickle.loads(data))


def test_file_that_changes_while_open(write: Any, document: dict[str, Any]) -> None:
    path = write(document)
    file = CocoFile.open(path)
    data = pickle.dumps(file)
    os.utime(path, (1, 1))  # touched, but the same
    assert next(file.raw_annotations([0])) == document["annotations"][1]
    changed = copy.deepcopy(document)
    changed["images"][0]["file_name"] = "longer.jpg"
    write(changed)
    with pytest.raises(CtnetError, match="has changed since it was opened"):
        next(file.raw_annotations([0]))
    with pytest.raises(CtnetError, match="has changed since it was opened"):
        pickle.loads(data)
