"""Decisions files: what is read, refused and carried out."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ctnet.audit.decisions import apply_decisions, digest_of, read_decisions
from ctnet.base.errors import CtnetError

DOCUMENT = {
    "info": {"year": 2020, "note": "é ☃", "big": 12345678901234567890, "small": 1e-300},
    "images": [
        {"id": 5, "file_name": "a.jpg", "width": 100, "height": 80, "kept": [1, {"x": None}]},
        {"id": 7, "file_name": "b.jpg", "width": 60, "height": 60},
    ],
    "categories": [{"id": 3, "name": "cat"}, {"id": 9, "name": "dog"}],
    "annotations": [
        {"id": 40, "image_id": 7, "category_id": 9, "bbox": [1, 2, 30, 40], "area": 1200, "iscrowd": 0},
        {
            "id": 12,
            "image_id": 5,
            "category_id": 3,
            "bbox": [0.1, 5, 20, 20],
            "area": 350.5,
            "extra": {"by": "x"},
        },
        {"image_id": 5, "category_id": 3, "bbox": [50, 5, 20, 20]},
        {
            "id": 13,
            "image_id": 5,
            "category_id": 9,
            "bbox": [0, 5, 20, 20],
            "segmentation": [[0, 5, 20, 5, 9, 25]],
        },
    ],
}


def proposal(number: int, action: str, annotation: int | None, **values: Any) -> dict[str, Any]:
    image = values.pop("image_id", 7 if annotation == 40 else 5)
    return {
        "number": number,
        "decision": values.pop("decision", "accept"),
        "kind": "unmarked" if action == "add" else "class",
        "rank": 0.5,
        "reason": "",
        "image_id": image,
        "file_name": "a.jpg",
        "annotation_id": annotation,
        "action": action,
        "values": values,
    }


@pytest.fixture
def write(tmp_path: Path) -> Callable[..., Path]:
    """Writes annotations and decisions about them; returns the decisions file."""

    def make(*proposals: dict[str, Any], **changes: Any) -> Path:
        annotations = tmp_path / "annotations.json"
        annotations.write_text(json.dumps(DOCUMENT))
        content = {
            "format": "ctnet decisions 1",
            "annotations": str(annotations),
            "digest": digest_of(annotations),
            "task": "ctdet",
            "options": {},
            "split": "train",
            "judged_by": "a run",
            "suggestions": list(proposals),
        }
        file = tmp_path / "decisions.json"
        file.write_text(json.dumps({**content, **changes}))
        return file

    return make


def corrected(file: Path) -> Any:
    done = apply_decisions(file, file.with_name("new.json"))
    return done, json.loads(done.path.read_text())


def test_what_is_accepted_is_done_and_all_else_stays(write):
    file = write(
        proposal(1, "add", None, category_id=9, bbox=[10.5, 10, 20, 30]),
        proposal(2, "change", 12, category_id=9),
        proposal(3, "change", 40, bbox=[2, 2, 10, 20]),
        proposal(4, "remove", 41),  # the number of the one without an id
        proposal(5, "remove", 13, decision="reject"),
        proposal(6, "remove", 13, decision="open"),
    )
    done, document = corrected(file)
    expected = copy.deepcopy(DOCUMENT)
    expected["annotations"][0] |= {"bbox": [2, 2, 10, 20], "area": 200}
    expected["annotations"][1]["category_id"] = 9
    del expected["annotations"][2]
    new = {"id": 42, "image_id": 5, "iscrowd": 0, "category_id": 9, "bbox": [10.5, 10, 20, 30], "area": 600}
    expected["annotations"].append(new)
    assert document == expected
    assert list(document) == list(DOCUMENT)
    assert (done.added, done.changed, done.removed, done.rejected, done.open) == (1, 2, 1, 1, 1)
    assert json.loads((file.parent / "annotations.json").read_text()) == DOCUMENT


def test_nothing_accepted_gives_the_same_document(write):
    _, document = corrected(write(proposal(1, "remove", 12, decision="open")))
    assert document == DOCUMENT


def test_a_new_box_beside_an_old_outline_is_said(write):
    done, document = corrected(write(proposal(1, "change", 13, bbox=[1, 6, 20, 20])))
    assert document["annotations"][3]["segmentation"] == DOCUMENT["annotations"][3]["segmentation"]
    assert "annotation 13 has a new box, and its old segmentation" in done.notes[0]


def test_values_inside_a_dictionary_leave_the_others(write):
    _, document = corrected(write(proposal(1, "change", 12, extra={"kind": 1})))
    assert document["annotations"][1]["extra"] == {"by": "x", "kind": 1}


@pytest.mark.parametrize(
    ("proposals", "message"),
    [
        ([proposal(1, "remove", 99)], "suggestion 1 .* is about annotation 99, which does not exist"),
        ([proposal(1, "remove", None)], "is about annotation None"),
        (
            [proposal(1, "remove", 12), proposal(2, "change", 12, category_id=9)],
            "and suggestion 1 both change",
        ),
        ([proposal(1, "remove", 12, image_id=7)], "says image 7, but its annotation is in 5"),
        ([proposal(1, "remove", 12, image_id=8)], "is in image 8, which the annotations do not list"),
        ([proposal(1, "add", 12, category_id=9, bbox=[1, 1, 2, 2])], "set its annotation_id to null"),
        ([proposal(1, "add", None, category_id=4, bbox=[1, 1, 2, 2])], "has category_id 4"),
        ([proposal(1, "add", None, category_id=9)], "has bbox None"),
        ([proposal(1, "add", None, category_id=9, bbox=[1, 1, 2, "x"])], "not four finite numbers"),
        ([proposal(1, "add", None, category_id=9, bbox=[1, 1, 0, 2])], "shows nothing of the 100x80 image"),
        ([proposal(1, "change", 12, bbox=[200, 1, 10, 2])], "shows nothing of the 100x80 image"),
        ([proposal(1, "change", 12, category_id="cat")], "has category_id 'cat'"),
        ([proposal(1, "change", 12)], "changes nothing"),
    ],
)
def test_what_cannot_be_done_is_one_line(write, proposals, message):
    file = write(*proposals)
    with pytest.raises(CtnetError, match=message):
        apply_decisions(file, file.with_name("new.json"))
    assert not file.with_name("new.json").exists()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format": "ctnet decisions 9"}, "not a decisions file of `ctnet data audit`"),
        (
            {"suggestions": [{**proposal(1, "remove", 12), "decision": "yes"}]},
            r"suggestions.0.decision: 'yes'",
        ),
        ({"suggestions": [{**proposal(1, "remove", 12), "rank": "high"}]}, "suggestions.0.rank"),
        ({"suggestions": [{**proposal(1, "remove", 12), "colour": 1}]}, "colour"),
        ({"suggestions": {}}, "expected a list"),
        ({"task": "nothing"}, "names a task that cannot be made"),
        ({"digest": "0" * 64}, "about another annotation file"),
    ],
)
def test_a_file_edited_by_hand_into_something_else_is_one_line(write, change, message):
    file = write(**{"suggestions": [], **change})
    with pytest.raises(CtnetError, match=message):
        apply_decisions(file, file.with_name("new.json"))


def test_cut_short_or_another_document(tmp_path):
    for text, message in (
        ('{"format": "ctnet', "not valid JSON"),
        ("[]", "not a decisions file"),
        ("3", "not a"),
    ):
        (tmp_path / "decisions.json").write_text(text)
        with pytest.raises(CtnetError, match=message):
            read_decisions(tmp_path / "decisions.json")


def test_annotations_that_were_moved_are_named_and_those_that_changed_refused(write, tmp_path):
    file = write(proposal(1, "remove", 12))
    moved = (tmp_path / "annotations.json").rename(tmp_path / "moved.json")
    with pytest.raises(CtnetError, match=r"annotations\.json"):
        apply_decisions(file, tmp_path / "new.json")
    assert apply_decisions(file, tmp_path / "new.json", moved).removed == 1
    moved.write_text(json.dumps({**DOCUMENT, "info": {}}))
    with pytest.raises(CtnetError, match=r"another annotation file than .*moved\.json, or that has changed"):
        apply_decisions(file, tmp_path / "newer.json", moved)


def test_no_file_is_replaced(write, tmp_path):
    file = write(proposal(1, "remove", 12))
    for output in (tmp_path / "annotations.json", file):
        before = output.read_bytes()
        with pytest.raises(CtnetError, match="exists, and is not replaced"):
            apply_decisions(file, output)
        assert output.read_bytes() == before
