"""The options that every task has: attributes, with fields, heads and captions; doubtful background."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any, Literal

import numpy as np
from torch import Tensor

from ctnet.base.errors import CtnetError
from ctnet.core.attributes import (
    FLAG,
    HEAD_PREFIX,
    KEY,
    attribute_columns,
    attribute_fields,
    attribute_head,
    attribute_targets,
    declared_attributes,
)
from ctnet.core.doubtful import without_doubtful
from ctnet.core.fields import Choice, Field, Value
from ctnet.core.heads import Head
from ctnet.core.options import option
from ctnet.core.records import Detections, ImageInfo, Instances
from ctnet.core.targets import Grid, Target

Doubtful = Literal["background", "ignore"]
#: The option of that name.
DOUBTFUL = "doubtful"

_DOUBTFUL_HELP = (
    "background where the moving average insists on an object: ignore, once a part of the epochs is over"
)
_WEIGHT_HELP = "weight of the attributes' losses; a weight of 1 costs some box accuracy"
_HELP = "attributes of objects to learn: ripeness:float,occluded:bool,kind:small|medium|large"


def wants_attributes(categories: Any, options: Mapping[str, Any]) -> bool:
    """Whether categories declare attributes, or one of the options that every task has is given."""
    entries = categories if isinstance(categories, Sequence) else ()
    return not {KEY, DOUBTFUL}.isdisjoint(options) or any(
        isinstance(entry, Mapping) and entry.get(KEY) for entry in entries
    )


def _extended(options: type) -> type:
    """The options of a task, and those that every task has."""
    added = [
        (KEY, str, option("", _HELP)),
        ("attribute_weight", float, option(0.1, _WEIGHT_HELP)),
        (DOUBTFUL, Doubtful, option("background", _DOUBTFUL_HELP)),
    ]
    return dataclasses.make_dataclass("Options", added, bases=(options,), frozen=True)


@cache
def with_attributes(cls: Any) -> Any:
    """A subclass of a task's class, with the options of every task: declared attributes, doubtful background.

    Args:
        cls: a task's class.
    """
    name = getattr(cls, "name", cls.__name__)

    class Attributed(cls):  # type: ignore[misc]  # any task
        plain = cls  # of which this is the subclass
        fields: Mapping[str, Field]
        heads: Mapping[str, Head]
        Options = _extended(cls.Options)
        needs_average: bool

        def __init__(self, categories: Any, **options: Any) -> None:
            super().__init__(categories, **options)
            owner = f"task {name}"
            self.attributes = declared_attributes(self.categories, self.options.attributes, owner)
            self.fields = attribute_fields(self.attributes, self.fields, owner)
            weight = self.options.attribute_weight
            added = {
                HEAD_PREFIX + key: attribute_head(field, weight) for key, field in self.attributes.items()
            }
            self.heads = {**self.heads, **added}
            self.needs_average = cls.needs_average or self.options.doubtful == "ignore"
            columns = ", ".join([*added, *self.fields])
            self.__doc__ = f"{cls.__doc__ or ''}\n\nWith attributes, heads and fields are: {columns}."

        def __reduce__(self) -> tuple[Any, ...]:
            return _remade, (cls, [*self.categories], dataclasses.asdict(self.options))

        def encode(self, instances: Instances, grid: Grid) -> dict[str, Target]:
            targets = super().encode(instances, grid)
            return {**targets, **attribute_targets(self.attributes, instances, self.cells(instances, grid))}

        def taught(self, targets: Mapping[str, Target], seen: Mapping[str, Tensor]) -> Mapping[str, Target]:
            targets = super().taught(targets, seen)
            ignored = self.options.doubtful == "ignore"
            return without_doubtful(self.heads, targets, seen) if ignored else targets

        def decode(self, maps: Mapping[str, Tensor], k: int) -> Detections:
            found: Detections = super().decode(maps, k)
            if self.attributes and "cells" not in found.extra:
                raise CtnetError(
                    f"task {name} cannot have attributes: its decode does not return the cell of each peak; "
                    "its author must add the column cells (see Task.decode)"
                )
            return found.replace(**attribute_columns(self.attributes, maps, found))

        def draw(
            self, image: np.ndarray, detections: Detections, info: ImageInfo | None = None
        ) -> np.ndarray:
            return draw_attributes(super().draw(image, detections, info), self.attributes, detections)

    Attributed.__name__, Attributed.__qualname__ = cls.__name__, cls.__qualname__
    Attributed.__module__, Attributed.__doc__ = cls.__module__, cls.__doc__
    return Attributed


def attributes_of(task: Any) -> Mapping[str, Value | Choice]:
    """The attributes that a task was created with, by column; most have none."""
    found: Mapping[str, Value | Choice] = task.attributes if hasattr(type(task), "plain") else {}
    return found


def _remade(cls: Any, categories: Any, options: Mapping[str, Any]) -> Any:
    return cls(categories, **options)


def draw_attributes(
    image: np.ndarray, attributes: Mapping[str, Value | Choice], detections: Detections
) -> np.ndarray:
    """An image with each object's attributes written below its box, higher scores drawn over lower ones.

    Args:
        image: (H, W, 3) uint8 RGB.
        attributes: by column.
        detections: the detections of one image, in its pixels.

    Returns:
        A new image.
    """
    import cv2

    canvas = np.array(image, order="C")
    columns = detections.fields()
    scale = float(np.clip(min(image.shape[:2]) / 1400, 0.25, 1.0))
    for row in np.argsort(detections.scores, kind="stable"):
        known = ((name, field) for name, field in attributes.items() if name in columns)
        words = (_word(name, field, columns[name][row]) for name, field in known)
        text = ", ".join(word for word in words if word).encode("ascii", "replace").decode()
        left, bottom = (round(float(detections.boxes[row, side])) for side in (0, 3))
        (width, height), below = cv2.getTextSize(text, cv2.FONT_HERSHEY_SIMPLEX, scale, 1)
        left = min(max(left, 0), max(canvas.shape[1] - width, 0))
        top = min(max(bottom, 0), canvas.shape[0] - height - below)
        if text:
            cv2.rectangle(canvas, (left, top), (left + width, top + height + below), (30, 30, 30), cv2.FILLED)
            at = (left, top + height + below // 2)
            cv2.putText(canvas, text, at, cv2.FONT_HERSHEY_SIMPLEX, scale, (250, 250, 250), 1, cv2.LINE_AA)
    return canvas


def _word(name: str, attribute: Value | Choice, value: Any) -> str:
    """The caption of a value; empty for a flag that is not set."""
    if isinstance(attribute, Value):
        return "" if np.isnan(value) else f"{name} {float(value):.3g}"
    if value < 0 or (attribute.choices == FLAG and not value):
        return ""
    return name if attribute.choices == FLAG else attribute.choices[int(value)]
