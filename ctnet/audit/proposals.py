"""From suggestions to what a decisions file says of them: a sentence, and what accepting changes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ctnet.audit.decisions import Action, Proposal, error_of, merged
from ctnet.audit.suggestions import Suggestion
from ctnet.core.documents import annotations_of_found
from ctnet.core.fields import write_fields
from ctnet.core.records import Detections
from ctnet.core.task import Task
from ctnet.data.dataset import Dataset


def proposal_of(
    number: int, suggestion: Suggestion, dataset: Dataset, task: Task, sources: Sequence[str]
) -> Proposal:
    """What the decisions file says of a suggestion.

    Args:
        number: its place in the ranking, from 1.
        suggestion: the suggestion.
        dataset: the audited data set.
        task: whose detections and annotations they are.
        sources: name of each detector, to be followed by "sees".
    """
    one = suggestion.evidence
    info = dataset.info(one.index)
    action, values = _change(suggestion, task, (info.width, info.height))
    row = suggestion.annotation
    return Proposal(
        number=number,
        decision="open",
        kind=suggestion.kind,
        rank=round(suggestion.rank, 4),
        reason=_reason(suggestion, task.categories.names, sources[one.source]),
        image_id=info.image_id,
        file_name=info.file_name,
        annotation_id=None if row is None else int(one.ids[row]),
        action=action,
        values=values,
    )


def proposals_of(
    found: Sequence[Suggestion], most: int, dataset: Dataset, task: Task, sources: Sequence[str]
) -> tuple[list[Suggestion], list[Proposal], int]:
    """The surest suggestions that can be carried out.

    Args:
        found: the surest first.
        most: how many.
        dataset, task, sources: see ``proposal_of``.

    Returns:
        The suggestions, what the decisions file says of them, and the number of those that were passed over:
        what was seen there is not a valid annotation of the task (a box without an area).
    """
    chosen: list[Suggestion] = []
    proposals: list[Proposal] = []
    passed = 0
    for each in found:
        if len(chosen) == most:
            break
        proposal = proposal_of(len(chosen) + 1, each, dataset, task, sources)
        if _is_valid(proposal, each, dataset, task):
            chosen.append(each)
            proposals.append(proposal)
        else:
            passed += 1
    return chosen, proposals, passed


def _is_valid(proposal: Proposal, suggestion: Suggestion, dataset: Dataset, task: Task) -> bool:
    if proposal.action == "remove":
        return True
    annotations = dataset.annotations(suggestion.evidence.index)
    entry: Mapping[str, Any] = {}
    if proposal.annotation_id is not None:
        entry = annotations[int(np.flatnonzero(annotations.ids == proposal.annotation_id)[0])]
    record = dataset.info(suggestion.evidence.index).record
    return error_of(task, proposal, merged(entry, proposal.values), record) is None


def _change(suggestion: Suggestion, task: Task, size: tuple[int, int]) -> tuple[Action, dict[str, Any]]:
    """What accepting a suggestion does, and the values that it sets."""
    if suggestion.kind in ("duplicate", "unseen"):
        return "remove", {}
    assert suggestion.detection is not None
    found = suggestion.evidence.found[suggestion.detection]
    entry = annotations_of_found(task, _cut(found, size))[0]
    box, category = entry.pop("bbox"), entry.pop("category_id")
    values = {name: value for name, value in entry.items() if name not in ("area", "iscrowd")}
    if suggestion.kind == "unmarked":
        return "add", {"category_id": category, "bbox": box, **values}
    if suggestion.kind == "class":
        return "change", {"category_id": category}
    if suggestion.kind == "value":
        return "change", _declared(task, found, suggestion.fields)
    # Where boxes alone do not describe an object, its other values go with the place.
    alone = type(task).overlap is Task.overlap
    return "change", {"bbox": box} if alone else {"bbox": box, **values}


def _declared(task: Task, found: Detections, names: Sequence[str]) -> dict[str, Any]:
    fields = {name: task.fields[name] for name in names}
    entries: list[dict[str, Any]] = [{}]
    columns = found.fields()
    columns |= {
        key: value
        for name, field in fields.items()
        for key, value in field.as_annotated(name, columns).items()
    }
    write_fields(fields, entries, columns)
    return entries[0]


def _cut(found: Detections, size: tuple[int, int]) -> Detections:
    """The detection with its box cut to the image."""
    boxes = np.clip(np.asarray(found.boxes, np.float64), 0, [*size, *size])
    return found.replace(boxes=boxes)


def _reason(suggestion: Suggestion, names: Sequence[str], source: str) -> str:
    one, figures = suggestion.evidence, suggestion.figures
    found = None if suggestion.detection is None else names[int(one.found.labels[suggestion.detection])]
    own = None if suggestion.annotation is None else names[int(one.annotated.labels[suggestion.annotation])]
    sees = f"{source} sees {found} (score {figures.get('score', 0):.2f})"
    if suggestion.kind == "unmarked":
        overlap = figures["overlap"]
        return f"{sees}, where {_nothing(overlap)}"
    if suggestion.kind == "class":
        return f"annotated as {own}; {sees}, and {own} with at most {figures['own']:.2f}"
    if suggestion.kind == "box":
        return f"{sees} in another place: the overlap with the annotation is {figures['overlap']:.2f}"
    if suggestion.kind == "duplicate":
        assert suggestion.other is not None
        return f"overlaps annotation {one.ids[suggestion.other]}, also {own}, by {figures['overlap']:.2f}"
    if suggestion.kind == "value":
        differing = ", ".join(name.replace("_", " ") for name in suggestion.fields)
        return f"{sees} with other values than annotated: {differing}"
    return (
        f"annotated as {own}; {source} sees nothing here (at most {figures['highest']:.2f}), as at "
        f"{figures['missed']:.1%} of the annotations of {own}"
    )


def _nothing(overlap: float) -> str:
    if overlap < 0.005:
        return "nothing is annotated"
    return f"nothing is annotated but neighbours (overlap {overlap:.2f})"
