"""The decisions file of an audit, and applying it to the annotations that were audited.

The file is JSON, to be edited by hand or by the page: what is accepted is done, the rest is left.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Final, Literal

import numpy as np
from annotated_types import Ge, MinLen

from ctnet.audit.suggestions import Kind
from ctnet.base.errors import CtnetError
from ctnet.base.files import read_bytes, read_json, to_json, write_json
from ctnet.base.numbers import LARGEST_COORDINATE
from ctnet.base.schema import check_json
from ctnet.core.documents import annotation_errors
from ctnet.core.fields import is_finite
from ctnet.core.task import Task, create_task
from ctnet.data.coco import CocoFile

FORMAT: Final = "ctnet decisions 1"
Decision = Literal["open", "accept", "reject"]
Action = Literal["add", "change", "remove"]

_FIX = "correct it, or make the file again with `ctnet data audit`"


@dataclass(frozen=True)
class Proposal:
    """A suggestion as it is written to the file.

    Attributes:
        number: its place in the ranking, from 1.
        decision: "open" until someone decides.
        kind, rank: see ``ctnet.audit.suggestions``.
        reason: a sentence.
        image_id, file_name: the image.
        annotation_id: the annotation that is changed or removed; None for a new one.
        action: what accepting does.
        values: the keys of the annotation that are set; category ids and boxes as in COCO files.
    """

    number: Annotated[int, Ge(1)]
    decision: Decision
    kind: Kind
    rank: float
    reason: str
    image_id: int
    file_name: str
    annotation_id: int | None
    action: Action
    values: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Decisions:
    """The content of a decisions file.

    Attributes:
        format: ``FORMAT``.
        annotations: path of the annotation file.
        digest: SHA-256 of its content, hexadecimal.
        task, options: the task that reads it.
        split: its split.
        judged_by: what the suggestions come from, in words.
        suggestions: the surest first.
    """

    format: Literal["ctnet decisions 1"]
    annotations: str
    digest: Annotated[str, MinLen(64)]
    task: str
    options: dict[str, Any]
    split: str
    judged_by: str
    suggestions: tuple[Proposal, ...]

    def to_json(self) -> dict[str, Any]:
        """As JSON values."""
        return dataclasses.asdict(self)


def digest_of(path: str | Path) -> str:
    """SHA-256 of an annotation file's content, hexadecimal."""
    return hashlib.sha256(read_bytes(path, _LARGEST)).hexdigest()


#: Largest annotation file, bytes.
_LARGEST = 1 << 36


def read_decisions(path: str | Path) -> Decisions:
    """Read a decisions file.

    Raises:
        CtnetError: naming the first value that does not fit.
    """
    document = read_json(path, finite=True)
    found = document.get("format") if isinstance(document, Mapping) else None
    if found != FORMAT:
        raise CtnetError(f"{path} is not a decisions file of `ctnet data audit` (its format is {found!r})")
    read: Decisions = check_json(Decisions, document, path, _FIX)
    return read


@dataclass(frozen=True)
class Applied:
    """What was done.

    Attributes:
        path: the corrected file.
        added, changed, removed: annotations.
        rejected, open: suggestions that were not followed.
        notes: what the user should know.
    """

    path: Path
    added: int
    changed: int
    removed: int
    rejected: int
    open: int
    notes: tuple[str, ...]


def apply_decisions(path: str | Path, output: str | Path, annotations: str | Path | None = None) -> Applied:
    """Write a corrected copy of the annotation file that was audited.

    New annotations get the ids after the largest, in the order of the file. All other entries are written as
    they were read.

    Args:
        path: the decisions file.
        output: the corrected file.
        annotations: the annotation file, where it is no longer in the place that the decisions name.

    Raises:
        CtnetError: when the decisions are of other annotations, an accepted one cannot be carried out, or
            ``output`` exists.
    """
    decisions, output = read_decisions(path), Path(output)
    source = Path(annotations or decisions.annotations)
    if output.exists():
        raise CtnetError(f"{output} exists, and is not replaced; choose another --output")
    if digest_of(source) != decisions.digest:
        raise CtnetError(
            f"{path} is about another annotation file than {source}, or that has changed since; "
            "audit it again"
        )
    editor = _Editor(read_json(source), CocoFile.open(source), decisions, str(path))
    accepted = [each for each in decisions.suggestions if each.decision == "accept"]
    for proposal in accepted:
        editor.apply(proposal)
    document = editor.finished()
    try:
        to_json(document)
    except ValueError as error:
        raise CtnetError(
            f"{source} has a number that is not finite, which JSON does not have; correct it"
        ) from error
    write_json(output, document, indent=None)
    counts = {
        action: sum(each.action == action for each in accepted) for action in ("add", "change", "remove")
    }
    rejected = sum(each.decision == "reject" for each in decisions.suggestions)
    return Applied(
        output,
        counts["add"],
        counts["change"],
        counts["remove"],
        rejected,
        len(decisions.suggestions) - len(accepted) - rejected,
        tuple(editor.notes),
    )


class _Editor:
    """An annotation file's document while decisions are applied to it."""

    def __init__(self, document: dict[str, Any], coco: CocoFile, decisions: Decisions, source: str) -> None:
        self._document, self._source = document, source
        self._task = _task_of(decisions, coco, source)
        # Entries without an id are known by the number that ctnet gave them.
        order = np.argsort(coco.columns.annotation_ranges[:, 0], kind="stable")
        self._places = {int(coco.annotation_ids[row]): place for place, row in enumerate(order.tolist())}
        self._images = {int(number): row for row, number in enumerate(coco.image_ids.tolist())}
        self._coco = coco
        self._next = max([*coco.annotation_ids.tolist(), 0]) + 1
        self._touched: dict[int, int] = {}
        self._removed: set[int] = set()
        self.notes: list[str] = []

    def apply(self, proposal: Proposal) -> None:
        """Carry out an accepted proposal."""
        if proposal.image_id not in self._images:
            raise self._error(proposal, f"is in image {proposal.image_id}, which the annotations do not list")
        if proposal.action == "add":
            self._add(proposal)
            return
        place = self._place(proposal)
        entry = self._document["annotations"][place]
        if entry.get("image_id") != proposal.image_id:
            raise self._error(
                proposal, f"says image {proposal.image_id}, but its annotation is in {entry.get('image_id')}"
            )
        if proposal.action == "remove":
            self._removed.add(place)
        else:
            self._document["annotations"][place] = self._changed(proposal, entry)

    def finished(self) -> dict[str, Any]:
        """The document with everything applied."""
        rest = [
            entry for place, entry in enumerate(self._document["annotations"]) if place not in self._removed
        ]
        return {**self._document, "annotations": rest}

    def _add(self, proposal: Proposal) -> None:
        if proposal.annotation_id is not None:
            raise self._error(proposal, "adds an annotation, but names one; set its annotation_id to null")
        entry = {"id": self._next, "image_id": proposal.image_id, "iscrowd": 0, **proposal.values}
        self._document["annotations"].append(self._checked(proposal, _with_area(entry, True)))
        self._next += 1

    def _changed(self, proposal: Proposal, entry: Mapping[str, Any]) -> dict[str, Any]:
        if not proposal.values:
            raise self._error(proposal, "changes nothing: its values are empty")
        changed = merged(entry, proposal.values)
        if "bbox" in proposal.values:
            changed = _with_area(changed, "area" in entry)
            if entry.get("segmentation") and "segmentation" not in proposal.values:
                self.notes.append(
                    f"annotation {proposal.annotation_id} has a new box, and its old segmentation"
                )
        return self._checked(proposal, changed)

    def _place(self, proposal: Proposal) -> int:
        number = proposal.annotation_id
        if number is None or number not in self._places:
            raise self._error(proposal, f"is about annotation {number}, which does not exist")
        if number in self._touched:
            raise self._error(
                proposal,
                f"and suggestion {self._touched[number]} both change annotation {number}; accept one of them",
            )
        self._touched[number] = proposal.number
        return self._places[number]

    def _checked(self, proposal: Proposal, entry: dict[str, Any]) -> dict[str, Any]:
        """The entry, if the task can read it."""
        image = self._coco.raw_image(self._images[proposal.image_id])
        if error := error_of(self._task, proposal, entry, image):
            raise self._error(proposal, error)
        return entry

    def _error(self, proposal: Proposal, what: str) -> CtnetError:
        return CtnetError(f"suggestion {proposal.number} of {self._source} {what}")


def error_of(
    task: Task, proposal: Proposal, entry: Mapping[str, Any], image: Mapping[str, Any]
) -> str | None:
    """What keeps an annotation from being used once a proposal is carried out; None if nothing does.

    Args:
        task: reads it.
        proposal: adds or changes it.
        entry: the annotation afterwards.
        image: its image's entry of the COCO file.
    """
    touched = {"category_id", "bbox"} if proposal.action == "add" else proposal.values.keys()
    category, box = entry.get("category_id"), entry.get("bbox")
    if "category_id" in touched and (type(category) is not int or category not in task.categories.ids):
        return f"has category_id {category!r}, which is not one of the categories"
    if "bbox" in touched:
        numbers = box if isinstance(box, list) else []
        if len(numbers) != 4 or not all(is_finite(number, LARGEST_COORDINATE) for number in numbers):
            return f"has bbox {box!r}, not four finite numbers: x, y, width, height"
        x, y, across, down = numbers
        width, height = image["width"], image["height"]
        if across <= 0 or down <= 0 or x >= width or y >= height or x + across <= 0 or y + down <= 0:
            return f"has bbox {box!r}, which shows nothing of the {width}x{height} image"
    errors = annotation_errors(task, entry, image)
    return f"makes an annotation that {task.name} cannot use: {errors[0]}" if errors else None


def _task_of(decisions: Decisions, coco: CocoFile, source: str) -> Task:
    try:
        return create_task(decisions.task, coco.categories, **decisions.options)
    except CtnetError as error:
        raise CtnetError(f"{source} names a task that cannot be made: {error}") from error


def merged(entry: Mapping[str, Any], values: Mapping[str, Any]) -> dict[str, Any]:
    """The entry with values set; those of a dictionary inside it (``attributes``) one by one."""
    merged = dict(entry)
    for key, value in values.items():
        inner = merged.get(key)
        merged[key] = {**inner, **value} if isinstance(inner, dict) and isinstance(value, dict) else value
    return merged


def _with_area(entry: dict[str, Any], wanted: bool) -> dict[str, Any]:
    box = entry.get("bbox")
    if not wanted or not isinstance(box, list) or len(box) != 4 or not all(map(is_finite, box)):
        return entry
    return {**entry, "area": round(box[2] * box[3], 2)}


def count(proposals: Sequence[Proposal]) -> dict[str, int]:
    """Number of suggestions by kind, most first."""
    kinds = [each.kind for each in proposals]
    return {kind: kinds.count(kind) for kind in sorted({*kinds}, key=lambda kind: (-kinds.count(kind), kind))}
