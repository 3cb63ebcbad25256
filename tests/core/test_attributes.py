"""Attributes: declared, read, trained, decoded, evaluated, drawn; and errors of declarations and records."""

from __future__ import annotations

import json
import pickle
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch

from ctnet.base.errors import CtnetError
from ctnet.base.files import write_json
from ctnet.core.attributes import ChoiceHead, ValueHead
from ctnet.core.documents import (
    annotation_errors,
    annotations_of,
    detections_of,
    instances_of,
    results_of,
    truth_of,
)
from ctnet.core.fields import Field, Value, move_record
from ctnet.core.geometry import Affine, View
from ctnet.core.options import option
from ctnet.core.records import Detections, ImageInfo, Instances
from ctnet.core.targets import CellTargets, Grid
from ctnet.core.task import Task, create_task, load_task_class
from ctnet.data.dataset import Dataset
from ctnet.evaluation.evaluators import evaluator_of
from ctnet.inference.decoding import decode, merge
from ctnet.inference.settings import DetectionSettings
from ctnet.tasks.ctdet import CenterDetection
from ctnet.testing import check_task

TEXT = "ripeness:float,age:float[10..90],occluded:bool,kind:small|medium|large"
CATEGORIES = [{"id": 3, "name": "apple"}, {"id": 5, "name": "pear"}]
IMAGE = {"id": 1, "file_name": "1.jpg", "width": 100, "height": 80}


def task_of(text: str = TEXT, categories: list[dict[str, Any]] = CATEGORIES, name: str = "ctdet") -> Task:
    return create_task(name, categories, attributes=text)


def annotated(
    values: Any, box: tuple[float, ...] = (10, 10, 40, 30), category: int = 3, crowd: int = 0
) -> dict[str, Any]:
    return {
        "image_id": 1, "category_id": category, "bbox": list(box), "area": box[2] * box[3], "iscrowd": crowd,
        "attributes": values,
    }  # fmt: skip


@dataclass
class Annotations:
    """Annotations as a data set returns them."""

    entries: list[dict[str, Any]]

    def __post_init__(self) -> None:
        self.boxes = np.array([entry["bbox"] for entry in self.entries], np.float32)
        self.boxes[:, 2:] += self.boxes[:, :2]
        self.category_ids = np.array([entry["category_id"] for entry in self.entries])
        self.crowd = np.array([bool(entry["iscrowd"]) for entry in self.entries])

    def __len__(self) -> int:
        return len(self.entries)

    def __iter__(self):
        return iter(self.entries)


SEEN = [
    annotated({"ripeness": 0.4, "age": 50, "occluded": "false", "kind": "large"}),
    annotated({"ripeness": 0.9, "occluded": True}, (60, 20, 30, 30), 5),
    annotated({"kind": "small", "ripeness": None}, (0, 50, 20, 20)),
    annotated({"ripeness": 1.0, "kind": "small"}, (0, 0, 100, 80), 5, crowd=1),
]


def seen(task: Task, entries: list[dict[str, Any]] = SEEN) -> Instances:
    return instances_of(task, Annotations(entries), IMAGE)


# --- the kit


@pytest.mark.thorough
@pytest.mark.parametrize("name", ["ctdet", "pose", "ddd"])
def test_the_contract_holds_with_attributes(name: str) -> None:
    done = check_task(load_task_class(name), attributes=TEXT)
    skipped = {"decode_exports"} | ({"evaluator_reads_labels"} if name == "pose" else set())  # one class
    assert {outcome.check for outcome in done if outcome.result != "passed"} <= skipped


# --- declarations


def test_each_kind_of_declaration() -> None:
    task = task_of()
    assert list(task.fields) == ["ripeness", "age", "occluded", "occluded_scores", "kind", "kind_scores"]
    added = {name: head for name, head in task.heads.items() if name.startswith("attribute_")}
    assert added == {
        "attribute_ripeness": ValueHead(1, weight=0.1),
        "attribute_age": ValueHead(1, weight=0.1, low=10, span=80),
        "attribute_occluded": ChoiceHead(1, weight=0.1),
        "attribute_kind": ChoiceHead(3, weight=0.1),
    }
    heavy = create_task("ctdet", CATEGORIES, attributes=TEXT, attribute_weight=2.0)
    assert {head.weight for name, head in heavy.heads.items() if name in added} == {2.0}
    assert isinstance(task, CenterDetection)
    assert task.name == "ctdet"
    assert list(CenterDetection(CATEGORIES).heads) == ["heatmap", "size", "offset"]


CVAT = [
    {"name": "ripeness", "input_type": "number", "values": ["0", "1", "0.1"]},
    {"name": "occluded", "input_type": "checkbox", "values": ["false"]},
    {"name": "kind", "type": "select", "values": "small\nlarge"},
    {"name": "tone", "type": "radio", "values": ["light", "dark"]},
    {"name": "hue", "type": "float"},
]


@pytest.mark.parametrize(
    "entries",
    [CVAT, ["ripeness:float[0..1]", "occluded:bool", "kind : small | large", "tone:light|dark", "hue:float"]],
)
def test_categories_declare_attributes(entries: list[Any]) -> None:
    task = create_task("ctdet", [{**CATEGORIES[0], "attributes": entries}, CATEGORIES[1]])
    text = "ripeness:float[0..1],occluded:bool,kind:small|large,tone:light|dark,hue:float"
    assert task.fields == task_of(text).fields
    assert task.options.attributes == ""


def test_equal_declarations_agree() -> None:
    categories = [{**category, "attributes": ["occluded:bool"]} for category in CATEGORIES]
    assert list(task_of("occluded:bool", categories).fields) == ["occluded", "occluded_scores"]


def test_a_name_need_not_be_an_identifier() -> None:
    task = task_of("is ripe:bool,type:a|b,size:float")  # type, size: a module's method, and a head
    assert task.fields["is_ripe"].json == "attributes.is ripe"
    found = seen(task, [annotated({"is ripe": "true", "type": "b", "size": 3})])
    assert (found.is_ripe.tolist(), found.fields()["type"].tolist(), found.size.tolist()) == ([1], [1], [3])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a:float,a:bool", "task ctdet: option attributes declares attribute a twice; remove one"),
        ("a", "task ctdet: option attributes declares 'a', which is not NAME:float, NAME:float[LOW..HIGH], "
         "NAME:bool or "
         "NAME:ONE|TWO|...; write ripeness:float, for example"),
        ("a:int", "option attributes declares 'a:int', which is not"),
        ("a:one", "option attributes declares 'a:one', which is not"),
        ("a:one|one", "which is not"),
        ("a:one|", "which is not"),
        ("a:float[1..0]", "which is not"),
        ("a:float[x..1]", "which is not"),
        ("a:float[0..inf]", "which is not"),
        ("a.b:float", "which is not"),
        (":float", "which is not"),
        ("1st:float", "which is not"),
        ("boxes:float", "task ctdet already has a column 'boxes', so no attribute can be called boxes; "
         "give it "
         "another name in "
         "declaration and annotations"),
        ("cells:bool", "already has a column 'cells'"),
        ("a:bool,a_scores:float", "a column 'a_scores', so no attribute can be called a_scores"),
        ("a_scores:float,a:bool", "a column 'a_scores', so no attribute can be called a"),
    ],
)  # fmt: skip
def test_a_bad_option_is_one_line(text: str, message: str) -> None:
    with pytest.raises(CtnetError) as caught:
        task_of(text)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_names_of_the_task_are_taken() -> None:
    with pytest.raises(
        CtnetError, match="task ddd already has a column 'depth', so no attribute can be called depth"
    ):
        task_of("depth:float", name="ddd")


def test_json_keys_that_collide() -> None:
    class Own(CenterDetection):
        fields: ClassVar[dict[str, Field]] = {"tone": Value(json="attributes.hue", needed="never")}

    with pytest.raises(
        CtnetError,
        match=r"^task ctdet: attribute hue and field tone share the JSON key attributes.hue; give",
    ):
        Own(CATEGORIES, attributes="hue:float")


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        ([["a:float"], ["a:bool"]], "task ctdet: attribute a is a:float in category 'apple', but a:bool in "
         "category 'pear'; "
         "make the two equal or remove one"),
        ([["a:x|y"], ["a:y|x"]], "attribute a is a:x|y in category 'apple', but a:y|x in category 'pear'"),
        ([["a:bool", "a:bool"], []], "task ctdet: category 'apple' declares attribute a twice"),
        ([["o:float[0..2]"], []], "attribute o is o:float[0..2] in category 'apple', but o:bool in option"),
        (["a:bool", []], "task ctdet: category 'apple' has attributes 'a:bool', not a list of "),
        ([[7], []], "task ctdet: category 'apple' declares 7, which is not"),
        ([[{"name": "a", "input_type": "text"}], []], "which is not"),
        ([[{"input_type": "checkbox"}], []], "which is not"),
    ],
)  # fmt: skip
def test_bad_categories_are_one_line(entries: list[Any], message: str) -> None:
    categories = [{**c, "attributes": e} for c, e in zip(CATEGORIES, entries, strict=True)]
    with pytest.raises(CtnetError) as caught:
        task_of("o:bool", categories)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_default_that_does_not_fit_its_type() -> None:
    @dataclass(frozen=True)
    class Options:
        count: int = option("many", "how many")

    class Counted(CenterDetection):
        name = "counted"

    Counted.Options = Options
    with pytest.raises(
        CtnetError,
        match=r"^option count of task counted has the default 'many', which is not a whole",
    ):
        Counted(CATEGORIES)


def test_a_task_that_names_no_cells() -> None:
    class Silent(CenterDetection):
        def decode(self, maps, k):
            return super().decode(maps, k).without("cells")

    task = Silent(CATEGORIES, attributes="ripe:bool")
    maps = {name: head.activate(torch.zeros(1, head.channels, 8, 8)) for name, head in task.heads.items()}
    with pytest.raises(
        CtnetError, match=r"^task ctdet cannot have attributes: its decode does not return the cell"
    ):
        task.decode(maps, 3)


def test_it_is_the_same_after_pickling_and_from_its_options() -> None:
    task = task_of(categories=[{**CATEGORIES[0], "attributes": ["tone:light|dark"]}])
    for again in (
        pickle.loads(pickle.dumps(task)),
        create_task("ctdet", task.categories, **asdict(task.options)),
    ):
        assert (again.name, again.fields, again.heads, again.options) == (
            task.name,
            task.fields,
            task.heads,
            task.options,
        )
    plain = create_task("ctdet", CATEGORIES, size_weight=0.5)
    assert pickle.loads(pickle.dumps(plain)).options == plain.options


# --- records


def test_annotations_are_read_as_cvat_writes_them() -> None:
    found = seen(task_of())
    np.testing.assert_array_equal(found.ripeness, [0.4, 0.9, np.nan, 1.0])
    np.testing.assert_array_equal(found.age, np.array([50, np.nan, np.nan, np.nan], np.float32))
    assert found.occluded.tolist() == [0, 1, -1, -1]
    assert found.kind.tolist() == [2, -1, 0, 0]


def test_annotations_come_back() -> None:
    task = task_of()
    entries = annotations_of(task, seen(task))
    assert entries[0]["attributes"] == {"ripeness": 0.4, "age": 50, "occluded": False, "kind": "large"}
    assert entries[2]["attributes"] == {"kind": "small"}
    again = seen(task, entries)
    for name, column in seen(task).fields().items():
        np.testing.assert_array_equal(again.fields()[name], column)


@pytest.mark.parametrize(
    ("values", "error"),
    [
        ({"ripeness": "ripe"}, "attributes.ripeness is 'ripe', not a finite number"),
        ({"ripeness": [0.1, 0.2]}, "attributes.ripeness is [0.1, 0.2], not a finite number"),
        ({"age": 5}, "attributes.age is 5, outside 10 to 90"),
        ({"occluded": "maybe"}, "attributes.occluded is 'maybe', not true or false"),
        ({"kind": "huge"}, "attributes.kind is 'huge', not small | medium | large"),
        ({"kind": 1}, "attributes.kind is 1, not small | medium | large"),
        ({"kind": ["small"]}, "attributes.kind is ['small'], not small | medium | large"),
    ],
)
def test_bad_values_are_named(values: dict[str, Any], error: str) -> None:
    assert annotation_errors(task_of(), annotated(values), IMAGE) == [error]
    assert annotation_errors(task_of(), annotated({}), IMAGE) == []


def test_attributes_that_are_no_dictionary() -> None:
    assert annotation_errors(task_of("a:bool"), annotated(["a"]), IMAGE) == [
        "attributes is ['a'], not a dictionary"
    ]


def test_a_data_set_lists_bad_records_and_a_width_that_the_file_contradicts(tmp_path: Path) -> None:
    good, bad = annotated({"kind": "small"}), annotated({"kind": "huge", "ripeness": [1, 2]})
    content = {
        "images": [IMAGE],
        "annotations": [{**good, "id": 1}, {**bad, "id": 2}],
        "categories": CATEGORIES,
    }
    write_json(tmp_path / "annotations" / "instances_val.json", content)
    task = task_of()
    dataset = Dataset.open(tmp_path, "val", task)
    (problem,) = dataset.problems
    assert problem.where == "annotation 2 of image 1"
    assert problem.what == (
        "attributes.ripeness is [1, 2], not a finite number; "
        "attributes.kind is 'huge', not small | medium | large"
    )
    assert len(dataset.instances(0)) == 1
    with pytest.raises(CtnetError, match=r"annotation 2 of image 1"):
        Dataset.open(tmp_path, "val", task, strict=True)


# --- from targets to results


def test_missing_values_and_crowds_are_not_taught() -> None:
    task, grid = task_of(), Grid(20, 25)
    targets = task.encode(move_record(seen(task), Affine.scaling(1 / 4), task.fields), grid)
    rows = {name: target for name, target in targets.items() if name.startswith("attribute_")}
    assert [len(rows[f"attribute_{name}"]) for name in ("ripeness", "age", "occluded", "kind")] == [
        2,
        1,
        2,
        2,
    ]
    ripeness, kind = rows["attribute_ripeness"], rows["attribute_kind"]
    assert isinstance(ripeness, CellTargets)
    assert ripeness.value[:, 0].tolist() == pytest.approx([0.4, 0.9])
    assert list(zip(ripeness.x.tolist(), ripeness.y.tolist(), strict=True)) == [(7, 6), (18, 8)]
    assert kind.value.argmax(1).tolist() == [2, 0]
    assert kind.value.sum(1).tolist() == pytest.approx([1, 1])
    assert rows["attribute_occluded"].value[:, 0].tolist() == pytest.approx([0.02, 0.98])


def test_of_objects_in_one_cell_the_first_is_taught() -> None:
    task = task_of("kind:small|large")
    boxes = [[4, 4, 8, 8], [5, 5, 7.5, 7.5], [10, 10, 12, 12]]
    target = task.encode(Instances.of(boxes, [0, 1, 0], kind=np.array([1, 0, 0])), Grid(16, 16))[
        "attribute_kind"
    ]
    assert target.value.argmax(1).tolist() == [1, 0]
    assert target.x.tolist() == [6, 11]


@pytest.mark.parametrize("head", [ValueHead(1, low=10, span=80), ChoiceHead(1), ChoiceHead(3)])
def test_a_head_learns_what_it_is_taught(head) -> None:
    value = np.array([[20.0], [90.0]]) if isinstance(head, ValueHead) else np.eye(3)[:2] * 0.97 + 0.01
    value = value[:, : head.channels]
    target = CellTargets.of(np.array([[1, 2], [3, 1]]), value)
    raw = torch.zeros(1, head.channels, 4, 5, requires_grad=True)
    optimizer = torch.optim.Adam([raw], lr=0.03)
    for _ in range(400):
        optimizer.zero_grad()
        loss = head.loss(target.gather(raw), target)
        loss.total.backward()
        optimizer.step()
    assert loss.count == 2
    span = getattr(head, "span", 1)
    torch.testing.assert_close(
        target.gather(head.activate(raw)).double() / span, target.value.double() / span, atol=0.02, rtol=0
    )
    none = CellTargets.of(np.zeros((0, 2)), np.zeros((0, head.channels)))
    empty = head.loss(torch.zeros(0, head.channels), none)
    assert (empty.total, empty.count) == (0, 0)


def test_values_are_read_at_the_peak_and_kept_in_their_range() -> None:
    task = task_of("age:float[10..90],kind:small|large")
    maps = {name: torch.zeros(1, head.channels, 8, 8) for name, head in task.heads.items()}
    maps["heatmap"][0, 1, 5, 2], maps["heatmap"][0, 0, 3, 6] = 0.9, 0.8
    maps["offset"] += 1.5  # then the centre lies in another cell
    maps["attribute_age"][0, 0, 5, 2], maps["attribute_age"][0, 0, 3, 6] = 40, 200
    maps["attribute_kind"][0, :, 5, 2] = torch.tensor([0.2, 0.8])
    maps["attribute_kind"][0, :, 3, 6] = torch.tensor([0.6, 0.4])
    found = task.decode(maps, 2)
    assert found.cells.tolist() == [[[2, 5], [6, 3]]]
    assert found.age.tolist() == [[40, 90]]
    assert found.kind.tolist() == [[1, 0]]
    torch.testing.assert_close(found.kind_scores, torch.tensor([[[0.2, 0.8], [0.6, 0.4]]]))
    view = View(ImageInfo(1, "", 32, 32), Affine.scaling(4))
    (lifted,) = decode(task, maps, [view], DetectionSettings(topk=2))
    assert "cells" not in lifted.fields()
    assert len(merge(task, [lifted, lifted], DetectionSettings(nms="hard"))) == 2


def test_results_hold_values_and_probabilities() -> None:
    task = task_of("ripeness:float,occluded:bool,kind:small|large")
    found = Detections(
        np.array([[1.0, 2, 5, 8]]), np.array([0.5]), np.array([1]),
        {"ripeness": np.array([0.25]), "occluded": np.array([1]), "occluded_scores": np.array([[0.25, 0.75]]),
         "kind": np.array([0]), "kind_scores": np.array([[0.5, 0.5]])},
    )  # fmt: skip
    (entry,) = json.loads(json.dumps(results_of(task, 7, found)))
    assert entry["attributes"] == {"ripeness": 0.25, "occluded": True, "kind": "small"}
    assert entry["attribute_scores"] == {
        "occluded": {"false": 0.25, "true": 0.75}, "kind": {"small": 0.5, "large": 0.5}
    }  # fmt: skip
    again = detections_of(task, [entry])
    for name, column in found.fields().items():
        np.testing.assert_array_equal(again.fields()[name], column)
    bare = detections_of(task, [{key: value for key, value in entry.items() if "attribute" not in key}])
    assert bare.extra == {}
    assert task.draw(np.zeros((20, 20, 3), np.uint8), bare).any()
    with pytest.raises(
        ValueError, match=r"attribute_scores.kind is .* not the probability of each of small, large"
    ):
        detections_of(task, [{**entry, "attribute_scores": {"kind": {"small": 1}}}])


# --- figures


def measured(
    entries: list[dict[str, Any]], change: Any = None, name: str = "ctdet", text: str = TEXT
) -> dict[str, float]:
    """Metrics of the ground truth, changed, as detections."""
    task = task_of(text, name=name)
    coco = {
        "images": [IMAGE],
        "categories": CATEGORIES,
        "annotations": [{**e, "id": n} for n, e in enumerate(entries, 1)],
    }

    class Truth:
        def as_coco(self, full: bool = False) -> dict[str, Any]:
            return coco

    evaluator = evaluator_of(task, Truth())
    found = truth_of(task, seen(task, entries))
    evaluator.update(1, change(found) if change else found)
    return evaluator.compute()


FOUR = [
    annotated({"ripeness": value, "kind": kind}, (30 * (n % 3), 40 * (n // 3), 25, 30))
    for n, (value, kind) in enumerate([(0.1, "small"), (0.2, "small"), (0.3, "large"), (0.4, "large")])
]


def test_truth_is_without_error() -> None:
    figures = measured(SEEN)
    assert figures["AP"] == pytest.approx(1)
    assert {name: value for name, value in figures.items() if name.split("/")[0] in task_of().fields} == {
        "ripeness/error": 0, "age/error": 0,
        "occluded/accuracy": 1, "occluded/AP/false": 1, "occluded/AP/true": 1,
        "occluded/confusion/false/false": 1, "occluded/confusion/false/true": 0,
        "occluded/confusion/true/false": 0, "occluded/confusion/true/true": 1,
        "kind/accuracy": 1, "kind/AP/small": 1, "kind/AP/large": 1,
        "kind/confusion/small/small": 1, "kind/confusion/small/medium": 0, "kind/confusion/small/large": 0,
        "kind/confusion/large/small": 0, "kind/confusion/large/medium": 0, "kind/confusion/large/large": 1,
    }  # fmt: skip


def test_errors_are_means_over_objects_that_were_found() -> None:
    def worse(found: Detections) -> Detections:
        moved = found.boxes.copy()
        moved[3] += 40
        return found.replace(ripeness=found.ripeness + np.array([0.1, -0.3, 0, 5], np.float32), boxes=moved)

    assert measured(FOUR, worse)["ripeness/error"] == pytest.approx(0.4 / 3, abs=1e-6)


def test_confusion_and_precision_of_values() -> None:
    def confused(found: Detections) -> Detections:
        scores = np.array([[0.9, 0, 0.1], [0.3, 0, 0.7], [0.2, 0, 0.8], [0.6, 0, 0.4]])
        return found.replace(kind=scores.argmax(1), kind_scores=scores)

    figures = measured(FOUR, confused)
    assert figures["kind/accuracy"] == 0.5
    assert figures["kind/confusion/small/small"] == figures["kind/confusion/small/large"] == 0.5
    # small: right at 0.9, wrong at 0.6, right at 0.3, wrong at 0.2
    assert figures["kind/AP/small"] == pytest.approx((1 + 2 / 3) / 2)
    # large: right at 0.8, wrong at 0.7, right at 0.4
    assert figures["kind/AP/large"] == pytest.approx((1 + 2 / 3) / 2)
    assert "kind/AP/medium" not in figures
    assert figures["AP"] == pytest.approx(1)


def test_duplicates_and_wrong_labels_cost_precision() -> None:
    def twice(found: Detections) -> Detections:
        return found[np.array([0, 0, 1, 2, 3])]

    def others(found: Detections) -> Detections:
        return found.replace(labels=1 - found.labels)

    assert measured(FOUR, twice)["kind/AP/small"] < 0.9
    figures = measured(FOUR, others)
    assert figures["kind/AP/small"] == 0
    assert "ripeness/error" not in figures
    assert "kind/accuracy" not in figures


def test_unknown_values_and_crowds_are_neither_right_nor_wrong() -> None:
    crowd = annotated({"kind": "small"}, (50, 40, 50, 40), crowd=1)
    unknown = annotated({}, (0, 40, 40, 30))

    def more(found: Detections) -> Detections:
        inside = found[np.array([0])].replace(boxes=np.array([[60, 45, 80, 60]], np.float32))
        columns = {name: np.concatenate([c, inside.fields()[name]]) for name, c in found.fields().items()}
        joined = found.replace(**columns)
        known = np.nan_to_num(joined.kind_scores, nan=1.0)
        return joined.replace(kind=np.maximum(joined.kind, 0), kind_scores=known)

    figures = measured([*FOUR[:3], unknown, crowd], more)
    assert figures["kind/AP/small"] == figures["kind/AP/large"] == 1


def test_results_that_say_nothing_of_attributes() -> None:
    names = ("ripeness", "age", "occluded", "occluded_scores", "kind", "kind_scores")
    figures = measured(FOUR, lambda found: found.without(*names))
    assert figures["AP"] == pytest.approx(1)
    assert figures["kind/accuracy"] == 0
    assert figures["kind/AP/small"] == 0
    assert "ripeness/error" not in figures


def test_without_detections() -> None:
    figures = measured(FOUR, lambda found: found[:0])
    assert figures["AP"] == figures["kind/AP/small"] == 0
    assert "ripeness/error" not in figures


# --- pictures


def test_a_picture_says_what_is_known() -> None:
    task = task_of()
    image = np.full((160, 200, 3), 128, np.uint8)
    found = truth_of(task, seen(task))
    plain = CenterDetection(CATEGORIES).draw(image, found)
    drawn = task.draw(image, found)
    assert (image == 128).all()
    below = (slice(40, 55), slice(10, 60))
    assert not np.array_equal(drawn[below], plain[below])
    unknown = found.replace(
        **{
            name: seen(task, [annotated({})] * 3).fields()[name]
            for name in ("ripeness", "age", "occluded", "kind")
        }
    )
    np.testing.assert_array_equal(task.draw(image, unknown), plain)
