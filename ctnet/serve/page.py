"""The page of a service: it sends images to ``/detect`` and shows what comes back."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ctnet.core.fields import Field, Points
from ctnet.core.masks import Mask
from ctnet.report.page import PAGE_FILES, page_environment, script_json
from ctnet.serve.engine import Engine

_FILES = Path(__file__).parent / "page_files"


def render_service_page(engine: Engine, guarded: bool) -> tuple[str, str]:
    """The page, and the content security policy that lets its own script and style run, and nothing else.

    Args:
        engine: what it is about.
        guarded: whether the service asks for a token: then the page asks for it, and says nothing of classes.
    """
    environment = page_environment(_FILES)
    style = (
        page_environment(PAGE_FILES).globals["files"]["report.css"]
        + environment.globals["files"]["serve.css"]
    )
    script = environment.globals["files"]["serve.js"]
    task = engine.detector.task
    thresholds = shown_thresholds(engine)
    data = {"thresholds": thresholds, "shapes": list(shapes(task.fields))}
    text = environment.get_template("serve.html").render(
        task=task.name,
        backbone=engine.detector.description.backbone,
        names=() if guarded else engine.detector.class_names,
        guarded=guarded,
        step=round(100 * min(thresholds)),
        same=len(set(thresholds)) == 1,
        style=style,
        script=script,
        data=script_json(data),
    )
    policy = (
        f"default-src 'none'; script-src {_hash(script)}; style-src {_hash(style)}; img-src blob: data:; "
        "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )
    return text, policy


def shown_thresholds(engine: Engine) -> list[float]:
    """The score, as the service gives scores, above which it keeps detections of each class."""
    scores = engine.thresholds.scores
    if engine.calibration is None:
        return [float(score) for score in scores]
    classes = zip(engine.detector.class_names, scores, strict=True)
    return [float(engine.calibration.classes[name](np.array([score]))[0]) for name, score in classes]


def shapes(fields: Mapping[str, Field]) -> Iterator[dict[str, Any]]:
    """What can be drawn besides boxes: keys of a detection, and how its numbers are read."""
    for field in fields.values():
        keys = field.json.split(".")
        if isinstance(field, Mask):
            yield {"keys": keys, "kind": "polygons", "width": 2}
        elif isinstance(field, Points) and field.json:
            outline = field.cyclic and (field.n or 0) > 2
            yield {
                "keys": keys,
                "kind": "polygon" if outline else "points",
                "width": 3 if field.visible else 2,
            }


def _hash(text: str) -> str:
    digest = hashlib.sha256(text.encode("utf-8")).digest()
    return f"'sha256-{base64.b64encode(digest).decode('ascii')}'"
