"""The page of an audit: pictures of all suggestions in one HTML file, to accept or reject by keys."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from ctnet.audit.decisions import Decisions
from ctnet.audit.pictures import SIDE, pictures
from ctnet.audit.suggestions import Suggestion
from ctnet.base.files import atomic_write
from ctnet.base.output import printable
from ctnet.base.progress import track
from ctnet.core.task import Task
from ctnet.data.dataset import Dataset
from ctnet.data.images import ImageError

#: Suggestions that the page shows at once.
AT_ONCE = 50
_QUALITY = 80


def write_page(
    path: str | Path,
    decisions: Decisions,
    suggestions: Sequence[Suggestion],
    dataset: Dataset,
    task: Task,
) -> None:
    """Write the page: everything is in the file, nothing is loaded from elsewhere.

    Args:
        path: the file.
        decisions: what is decided on.
        suggestions: the same suggestions, in the same order.
        dataset: the images.
        task: draws.

    Raises:
        CtnetError: when the file cannot be written.
    """
    import jinja2

    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.policies["json.dumps_kwargs"] = {}  # in the file's order of keys
    template = environment.from_string(files("ctnet.audit").joinpath("page.html.template").read_text("utf-8"))
    cards = [
        _card(decisions.suggestions[number], each, dataset, task)
        for number, each in enumerate(track(suggestions, "drawing", unit="suggestions"))
    ]
    text = template.render(
        title=printable(f"Label audit of {Path(decisions.annotations).name}"),
        judged_by=printable(decisions.judged_by),
        cards=cards,
        side=SIDE,
        at_once=AT_ONCE,
        document=decisions.to_json(),
    )
    with atomic_write(path, "w") as stream:
        stream.write(text)


def _card(proposal: Any, suggestion: Suggestion, dataset: Dataset, task: Task) -> dict[str, Any]:
    """What the page shows of a suggestion."""
    try:
        drawn = [
            _as_uri(picture) for picture in pictures(suggestion, dataset[suggestion.evidence.index], task)
        ]
    except ImageError:  # it was read a moment ago
        drawn = []
    return {
        "number": proposal.number,
        "kind": proposal.kind,
        "rank": f"{proposal.rank:.2f}",
        "reason": printable(proposal.reason),
        "file_name": printable(proposal.file_name),
        "action": _ACTIONS[proposal.action],
        "pictures": drawn,
    }


_ACTIONS = {
    "add": "adds an annotation",
    "change": "changes the annotation",
    "remove": "removes the annotation",
}


def _as_uri(picture: np.ndarray) -> str:
    flags = [cv2.IMWRITE_JPEG_QUALITY, _QUALITY]
    _, content = cv2.imencode(".jpg", cv2.cvtColor(picture, cv2.COLOR_RGB2BGR), flags)
    return "data:image/jpeg;base64," + base64.b64encode(content.tobytes()).decode("ascii")
