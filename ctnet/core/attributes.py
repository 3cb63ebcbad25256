"""Attributes of objects (a ripeness, a flag, a size class): declared by users, learnt by their own heads.

A declaration is given by the option ``attributes`` of any task, or by the categories of the COCO file. It
adds a field, which reads the annotation's dictionary ``attributes`` as CVAT writes it, and a head, which is
trained and read at the cell of the object's peak.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ctnet import heatmap
from ctnet.base.errors import CtnetError
from ctnet.base.schema import shorten
from ctnet.core.fields import Choice, Columns, Field, Value
from ctnet.core.heads import Head, Regression, fill_nearest
from ctnet.core.losses import Loss
from ctnet.core.records import Detections, Instances
from ctnet.core.targets import CellTargets, Grid, Target

#: The keys of values in annotations and results, and of the probabilities of choices in results.
KEY, SCORES_KEY = "attributes", "attribute_scores"
#: Prefix of the name of an attribute's head.
HEAD_PREFIX = "attribute_"

#: Target probability of the true value: 1 would need infinite logits.
CERTAIN = 0.98

_COMMON_COLUMNS = ("boxes", "labels", "crowd", "scores", "cells")
FLAG = ("false", "true")
_NUMBER = re.compile(r"float(?:\[([^\]]*)\.\.([^\]]*)\])?")
_FORMS = "NAME:float, NAME:float[LOW..HIGH], NAME:bool or NAME:ONE|TWO|..."


# --- declarations


def declared_attributes(
    categories: Sequence[Mapping[str, Any]], text: str, owner: str
) -> dict[str, Value | Choice]:
    """The attributes that the categories of a COCO file and an option declare, by name of their column.

    Args:
        categories: ``attributes`` of each: a list of texts, or of dictionaries as CVAT has them (``name``,
            ``input_type`` or ``type``, ``values``).
        text: the option: declarations separated by commas.
        owner: the task, for messages ("task ctdet").

    Raises:
        CtnetError: for a declaration that cannot be read, one made twice, and two that contradict each other.
    """
    found: dict[str, tuple[Value | Choice, str]] = {}
    for source, entries in _sources(categories, text, owner):
        seen = set()
        for entry in entries:
            name, attribute = _attribute(entry, f"{owner}: {source}")
            if name in seen:
                raise CtnetError(f"{owner}: {source} declares attribute {name} twice; remove one")
            seen.add(name)
            known, elsewhere = found.setdefault(name, (attribute, source))
            if known != attribute:
                raise CtnetError(
                    f"{owner}: attribute {name} is {_in_words(known)} in {elsewhere}, but "
                    f"{_in_words(attribute)} in {source}; make the two equal or remove one"
                )
    return {name: attribute for name, (attribute, _) in found.items()}


def _sources(
    categories: Sequence[Mapping[str, Any]], text: str, owner: str
) -> Iterator[tuple[str, list[Any]]]:
    """Each source of declarations, and its declarations."""
    for category in categories:
        entries, source = category.get(KEY) or [], f"category {category['name']!r}"
        if not isinstance(entries, list):
            raise CtnetError(
                f"{owner}: {source} has attributes {entries!r}, not a list of declarations; write each as "
                f"{_FORMS}"
            )
        yield source, entries
    yield "option attributes", [part for part in text.split(",") if part.strip()]


def _attribute(entry: Any, where: str) -> tuple[str, Value | Choice]:
    """A declaration -> the name of its column, and its field."""
    name, kind = _name_and_kind(entry)
    column, number = re.sub(r"\W", "_", name), _NUMBER.fullmatch(kind)
    values = tuple(value.strip() for value in kind.split("|"))
    key = f"{KEY}.{name}"
    if column.isidentifier() and "." not in name:
        if number:
            limits = _limits(number)
            if limits is not None:
                return column, Value(json=key, needed="never", limits=limits, digits=6)
        elif kind == "bool" or (len(values) > 1 and all(values) and len({*values}) == len(values)):
            choices = FLAG if kind == "bool" else values
            return column, Choice(json=key, needed="never", choices=choices, scores=f"{column}_scores")
    raise CtnetError(f"{where} declares {entry!r}, which is not {_FORMS}; write ripeness:float, for example")


def _name_and_kind(entry: Any) -> tuple[str, str]:
    """Name and kind of a declaration; the kind is empty where it is invalid."""
    if isinstance(entry, str):
        name, _, kind = entry.partition(":")
        return name.strip(), kind.strip()
    if not isinstance(entry, Mapping):
        return "", ""
    values = entry.get("values") or []
    values = values.split("\n") if isinstance(values, str) else values
    texts = [str(value) for value in values] if isinstance(values, list) else []
    kind = str(entry.get("input_type", entry.get("type", "")))
    kinds = {
        "checkbox": "bool",
        "select": "|".join(texts),
        "radio": "|".join(texts),
        "number": "float[{}..{}]".format(*texts) if len(texts) > 1 else "float",
    }
    return str(entry.get("name", "")).strip(), kinds.get(kind, kind)


def _limits(number: re.Match[str]) -> tuple[float, float] | None:
    """The declared range of a number; None where it is invalid."""
    if number[1] is None:
        return -math.inf, math.inf
    try:
        low, high = float(number[1]), float(number[2])
    except ValueError:
        return None
    return (low, high) if low < high and math.isfinite(high - low) else None


def _in_words(attribute: Value | Choice) -> str:
    if isinstance(attribute, Choice):
        kind = "bool" if attribute.choices == FLAG else "|".join(attribute.choices)
    else:
        low, high = attribute.limits
        kind = f"float[{low:g}..{high:g}]" if math.isfinite(low) else "float"
    return f"{attribute.json.partition('.')[2]}:{kind}"


def attribute_fields(
    attributes: Mapping[str, Value | Choice], fields: Mapping[str, Field], owner: str
) -> dict[str, Field]:
    """A task's own fields, followed by those of its attributes.

    Raises:
        CtnetError: for an attribute whose name, or key in files, is already in use.
    """
    joined = dict(fields)
    taken = {*_COMMON_COLUMNS, *fields}
    taken |= {getattr(field, column, "") for field in fields.values() for column in ("visible", "scores")}
    for name, attribute in attributes.items():
        added: dict[str, Field] = {name: attribute}
        if isinstance(attribute, Choice):
            added[attribute.scores] = _probabilities(attribute)
        if clash := taken.intersection(added):
            raise CtnetError(
                f"{owner} already has a column {min(clash)!r}, so no attribute can be called {name}; give it "
                "another name in declaration and annotations"
            )
        taken.update(added)
        keys = {KEY, SCORES_KEY, *(field.json for field in added.values())}
        for other, field in fields.items():
            if field.json in keys:
                raise CtnetError(
                    f"{owner}: attribute {name} and field {other} share the JSON key {field.json}; give the "
                    "attribute another name in declaration and annotations"
                )
        joined |= added
    return joined


def _probabilities(choice: Choice) -> Probabilities:
    key, parts = choice.json.partition(".")[2], choice.choices
    return Probabilities(json=f"{SCORES_KEY}.{key}", width=len(parts), parts=parts, limits=(0, 1))


@dataclass(frozen=True, kw_only=True)
class Probabilities(Value):
    """The probability of each value of a choice, by name: (N, choices) of detections, only in results."""

    needed: Any = "never"
    annotated: bool = False
    tolerance: float = 2 * (1 - CERTAIN)

    def error(self, value: Any, found: bool = False, image: Mapping[str, Any] | None = None) -> str | None:
        if not isinstance(value, Mapping) or {*value} != {*self.parts}:
            return f"is {shorten(value)}, not the probability of each of {', '.join(self.parts)}"
        return super().error([value[part] for part in self.parts], found, image)

    def read(self, name: str, values: Sequence[Any], found: bool = False) -> dict[str, np.ndarray]:
        rows = [None if value is None else [value[part] for part in self.parts] for value in values]
        return super().read(name, rows, found)

    def write(self, name: str, columns: Columns, found: bool = False) -> list[Any]:
        rows = super().write(name, columns, found)
        return [None if row is None else dict(zip(self.parts, row, strict=True)) for row in rows]

    def as_found(self, name: str, columns: Columns) -> dict[str, np.ndarray]:
        return {}  # the choice gives them

    def statistics(self, name: str, columns: Columns) -> dict[str, np.ndarray]:
        return {}


# --- heads


@dataclass(frozen=True)
class ValueHead(Regression):
    """A number per object, learnt as a fraction of its declared range.

    Attributes:
        low, span: start and length of the range.
    """

    symmetric: bool = True
    low: float = 0.0
    span: float = 1.0

    def activate(self, raw: Tensor) -> Tensor:
        return raw * self.span + self.low

    def loss(self, predicted: Tensor, target: Target) -> Loss:
        assert isinstance(target, CellTargets)
        return super().loss(predicted, replace(target, value=(target.value - self.low) / self.span))


@dataclass(frozen=True)
class ChoiceHead(Head):
    """Probability of each of several values, or of a flag (one channel): cross-entropy at objects' cells."""

    def activate(self, raw: Tensor) -> Tensor:
        return raw.sigmoid() if self.channels == 1 else raw.softmax(dim=1)

    def loss(self, predicted: Tensor, target: Target) -> Loss:
        assert isinstance(target, CellTargets)
        output = heatmap.full_precision(predicted)
        value, weight = target.value.to(output.dtype), target.weight[:, :1].to(output.dtype)
        if self.channels == 1:
            cost = torch.nn.functional.binary_cross_entropy_with_logits(output, value, reduction="none")
        else:
            cost = -(value * output.log_softmax(dim=1)).sum(dim=1, keepdim=True)
        return Loss((cost * weight).sum(), weight.sum())

    def mirror(self, activated: Tensor) -> Tensor | None:
        return activated.flip(-1)

    def render(self, target: Target, grid: Grid) -> Tensor:
        assert isinstance(target, CellTargets)
        return fill_nearest(target, grid)


def attribute_head(attribute: Value | Choice, weight: float = 1.0) -> Head:
    """The head of an attribute, its loss multiplied by ``weight``."""
    if isinstance(attribute, Choice):
        return ChoiceHead(1 if attribute.choices == FLAG else len(attribute.choices), weight=weight)
    low, high = attribute.limits
    span = high - low if math.isfinite(low) else 1.0
    return ValueHead(1, weight=weight, low=low if math.isfinite(low) else 0.0, span=span)


# --- from instances to targets, and from maps to columns


def attribute_targets(
    attributes: Mapping[str, Value | Choice], instances: Instances, cells: np.ndarray
) -> dict[str, Target]:
    """The targets of each attribute's head: none where a value is missing, and none of crowd regions.

    Args:
        attributes: by column.
        instances: objects of one image.
        cells: (N, 2) int64, cell of each object's peak; -1 where there is none.
    """
    shown = (cells >= 0).all(axis=1) & ~instances.crowd
    # A cell has one value: of objects that share it, decoding returns the first.
    first = np.zeros(len(cells), bool)
    first[np.unique(np.where(shown[:, None], cells, -1), axis=0, return_index=True)[1]] = True
    shown &= first
    targets: dict[str, Target] = {}
    for name, attribute in attributes.items():
        column = instances.fields()[name]
        known = shown & (column >= 0 if isinstance(attribute, Choice) else ~np.isnan(column))
        value = column[known, None]
        if isinstance(attribute, Choice):
            count = len(attribute.choices)
            value = np.where(value == np.arange(count), CERTAIN, (1 - CERTAIN) / (count - 1))
            value = value[:, 1:] if attribute.choices == FLAG else value
        targets[HEAD_PREFIX + name] = CellTargets.of(cells[known], value)
    return targets


def attribute_columns(
    attributes: Mapping[str, Value | Choice], maps: Mapping[str, Tensor], found: Detections
) -> dict[str, Tensor]:
    """The values of the attributes' heads at the cells of detections.

    Args:
        attributes: by column.
        maps: activated, (B, C, H, W) by head.
        found: detections of a batch, with their ``cells``.
    """
    peaks = heatmap.FoundPeaks(found.scores, found.labels, found.cells[..., 0], found.cells[..., 1])
    columns: dict[str, Tensor] = {}
    for name, attribute in attributes.items():
        values = heatmap.gather(maps[HEAD_PREFIX + name], peaks)
        if isinstance(attribute, Choice):
            values = torch.cat([1 - values, values], dim=2) if values.shape[2] == 1 else values
            columns |= {name: values.argmax(dim=2), attribute.scores: values}
        else:
            low, high = attribute.limits
            number = values.squeeze(2)
            columns[name] = number.clamp(low, high) if math.isfinite(low) else number
    return columns


def with_examples(instances: Instances, fields: Mapping[str, Field], rng: np.random.Generator) -> Instances:
    """Instances of a synthetic scene, with random values of the attributes."""
    columns = instances.fields()
    drawn: dict[str, np.ndarray] = {}
    for name, field in fields.items():
        if name in columns or not field.json.startswith(f"{KEY}."):
            continue
        if isinstance(field, Choice):
            drawn[name] = rng.integers(len(field.choices), size=len(instances))
        elif isinstance(field, Value):
            low, high = field.limits if math.isfinite(field.limits[0]) else (0.0, 1.0)
            drawn[name] = rng.uniform(low, high, len(instances)).astype(np.float32)
    return instances.replace(**drawn)
