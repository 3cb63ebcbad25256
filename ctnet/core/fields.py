"""Declared fields: the columns of instances and detections beyond box, label, crowd and score.

A declaration says how a column is stored in annotations and results files, which values are errors, what an
affine map and a mirror do to it, and how far apart two values are. The engine reads, writes, checks,
transforms and compares columns by their declarations alone; see the functions at the end.

Missing values: NaN in numeric columns, -1 in choices; a point that is not labelled is NaN, or has visibility
0 where the field has visibilities.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeVar

import numpy as np

from ctnet.base.numbers import LARGEST_COORDINATE
from ctnet.base.schema import shorten
from ctnet.core.geometry import Affine
from ctnet.core.records import Detections, Instances

Record = TypeVar("Record", Instances, Detections)
Columns = Mapping[str, np.ndarray]

#: Score from which on a detected point is an annotated one.
_CERTAIN = 0.3

#: Which annotations must have a value.
Needed = Literal["always", "objects", "never"]


@dataclass(frozen=True, kw_only=True)
class Field(ABC):
    """One declared column, called by its name in ``Task.fields``.

    Attributes:
        json: key in annotations and results; "attributes.ripeness" is a key of a nested dictionary; "" for a
            column that is in no file (``Task.complete`` derives it).
        needed: "always"; "objects": crowd regions need none, and it is not read from them; "never": it may be
            missing.
        annotated: False for a column that only results have.
        measured: False for a column that none of the task's metrics depends on.
        tolerance: how far apart two values may be and still count as equal in the round trip.
        digits: decimals written to annotation files.
        unit: the unit of the values, for tables ("m", "px").
    """

    json: str
    needed: Needed = "always"
    annotated: bool = True
    measured: bool = True
    tolerance: float = 0.01
    digits: int = 2
    unit: str = ""

    @abstractmethod
    def error(self, value: Any, found: bool = False, image: Mapping[str, Any] | None = None) -> str | None:
        """What is wrong with a JSON value ("are 50 numbers, not 51"), to follow the key; None if nothing.

        Args:
            value: value of the key; not None.
            found: it is of a result, not of an annotation.
            image: its image's entry of the COCO file, where that is known.
        """

    @abstractmethod
    def read(self, name: str, values: Sequence[Any], found: bool = False) -> dict[str, np.ndarray]:
        """Valid JSON values, None where missing -> columns.

        Args:
            name: the name of the field.
            values: one per row.
            found: True for values of a results file, False for annotations.
        """

    @abstractmethod
    def write(self, name: str, columns: Columns, found: bool = False) -> list[Any]:
        """Columns -> JSON values, None where missing: the inverse of ``read``."""

    def as_found(self, name: str, columns: Columns) -> dict[str, np.ndarray]:
        """Columns of instances -> the columns of detections of the same objects."""
        return {name: columns[name]}

    def as_annotated(self, name: str, columns: Columns) -> dict[str, np.ndarray]:
        """Columns of detections -> those of instances: of objects as they were detected."""
        return {name: columns[name]}

    def move(self, name: str, columns: Columns, affine: Affine) -> dict[str, np.ndarray]:
        """Columns in the frame that ``affine`` maps to; columns that it does not change are left out."""
        return {}

    def mirror(self, name: str, columns: Columns) -> dict[str, np.ndarray]:
        """What a mirror changes besides positions, after ``move``: left and right, signs, angles."""
        return {}

    def distance(self, name: str, truth: Columns, found: Columns) -> np.ndarray:
        """(N,): how far apart two records are, row by row; 0 where the truth is missing."""
        gap = np.nan_to_num(np.abs(np.asarray(found[name], np.float64) - truth[name]))
        distance: np.ndarray = gap.max(axis=tuple(range(1, gap.ndim)), initial=0)
        return distance

    def statistics(self, name: str, columns: Columns) -> dict[str, np.ndarray]:
        """Values whose distribution ``ctnet data stats`` prints, by title."""
        return {}

    def title(self, name: str) -> str:
        """Name and unit, for the header of a table."""
        words = name.replace("_", " ")
        return f"{words} ({self.unit})" if self.unit else words


@dataclass(frozen=True, kw_only=True)
class Points(Field):
    """(x, y) pairs, moved by the affine map: a column (N, n, 2) float32, or (N, 2) when ``n`` is None.

    Attributes:
        n: points per row.
        visible: column (N, n) int64 with 0 for a point that is not labelled, 1 hidden, 2 seen; annotations
            then hold x, y, visibility, and results x, y, score.
        scores: column (N, n) of detections, in place of ``visible``.
        swap: for each point, the index of its mirror image.
        cyclic: the points may start at any of them.
        names: the names of the points, for messages.
    """

    n: int | None = None
    visible: str = ""
    scores: str = ""
    swap: tuple[int, ...] = ()
    cyclic: bool = False
    names: tuple[str, ...] = ()
    unit: str = "px"

    @property
    def _shape(self) -> tuple[int, ...]:
        """Shape of a row in the file: points, numbers per point."""
        return (self.n or 1, 3 if self.visible else 2)

    def error(self, value: Any, found: bool = False, image: Mapping[str, Any] | None = None) -> str | None:
        numbers = _flat(value) if isinstance(value, Sequence) else None
        count, width = self._shape
        if numbers is None or len(numbers) != count * width:
            third = f", {'score' if found else 'visibility'}" if self.visible else ""
            are = shorten(value) if numbers is None else f"{len(numbers)} numbers"
            return f"are {are}, not {count * width} (x, y{third} of {_counted(count)})"
        errors = []
        for number in range(count):
            name = self.names[number] if self.names else f"point {number + 1}"
            x, y, *third_value = numbers[number * width : (number + 1) * width]
            if third_value and not found and third_value[0] not in (0, 1, 2):
                errors.append(f"have visibility {shorten(third_value[0])} for {name}, not 0, 1 or 2")
            elif not all(is_finite(number, LARGEST_COORDINATE) for number in (x, y, *third_value)):
                errors.append(f"have {name} at ({shorten(x)}, {shorten(y)}), which are not finite numbers")
        return "; ".join(errors) or None

    def read(self, name: str, values: Sequence[Any], found: bool = False) -> dict[str, np.ndarray]:
        count, width = self._shape
        blank = [0.0 if self.visible else math.nan] * (count * width)
        rows = [blank if value is None else _flat(value) for value in values]
        table = np.array(rows, np.float64).reshape(len(rows), count, width)
        points = table[..., :2].astype(np.float64 if found else np.float32)
        columns = {name: points[:, 0] if self.n is None else points}
        if self.visible:
            third = table[..., 2]
            columns |= {self.scores: third} if found else {self.visible: third.astype(np.int64)}
        return columns

    def write(self, name: str, columns: Columns, found: bool = False) -> list[Any]:
        points = np.asarray(columns[name], np.float64)
        points = points if found else points.round(self.digits)
        if not self.visible:
            return [None if np.isnan(row).any() else row.ravel().tolist() for row in points]
        third = np.asarray(columns[self.scores if found else self.visible])
        if found:
            triples = np.concatenate([points, third[..., None]], axis=-1)
            return [row.ravel().tolist() for row in triples]
        return [
            [v for (x, y), s in zip(row, seen, strict=True) for v in ((x, y, s) if s else (0, 0, 0))]
            for row, seen in zip(points.tolist(), third.tolist(), strict=True)
        ]

    def as_found(self, name: str, columns: Columns) -> dict[str, np.ndarray]:
        if not self.visible:
            return {name: columns[name]}
        return {name: columns[name], self.scores: (columns[self.visible] > 0).astype(np.float32)}

    def as_annotated(self, name: str, columns: Columns) -> dict[str, np.ndarray]:
        if not self.visible:
            return {name: columns[name]}
        certain = np.asarray(columns[self.scores]) >= _CERTAIN
        return {name: columns[name], self.visible: np.where(certain, 2, 0)}

    def move(self, name: str, columns: Columns, affine: Affine) -> dict[str, np.ndarray]:
        return {name: affine.points(columns[name])}

    def mirror(self, name: str, columns: Columns) -> dict[str, np.ndarray]:
        present = [name, *(other for other in (self.visible, self.scores) if other in columns)]
        return {key: columns[key][:, list(self.swap)] for key in present} if self.swap else {}

    def distance(self, name: str, truth: Columns, found: Columns) -> np.ndarray:
        shape = (len(truth[name]), self._shape[0], 2)
        one = np.asarray(truth[name], np.float64).reshape(shape)
        other = np.asarray(found[name], np.float64).reshape(shape)
        if self.cyclic:
            return _cyclic_distance(one, other)
        gap = np.abs(other - one)
        marks = next((truth[key] for key in (self.visible, self.scores) if key in truth), None)
        if marks is not None:
            gap = np.where((np.asarray(marks) > 0)[..., None], gap, 0)
        distance: np.ndarray = np.nan_to_num(gap).max(axis=(1, 2), initial=0)
        return distance

    def statistics(self, name: str, columns: Columns) -> dict[str, np.ndarray]:
        return {f"labelled {name}": (columns[self.visible] > 0).sum(axis=1)} if self.visible else {}


@dataclass(frozen=True, kw_only=True)
class Value(Field):
    """A number, or ``width`` of them: a column (N,) or (N, width) float64.

    Attributes:
        width: None for a single number.
        limits: smallest and largest allowed value of annotations.
        mirror_sign: factor of each number under mirroring, 1 or -1.
        under_zoom: "keep", or "unknown" where shifting, zooming or rotating the image invalidates it.
        parts: names of the numbers, for tables and messages.
    """

    width: int | None = None
    limits: tuple[float, float] = (-math.inf, math.inf)
    mirror_sign: tuple[float, ...] = ()
    under_zoom: Literal["keep", "unknown"] = "keep"
    parts: tuple[str, ...] = ()

    def error(self, value: Any, found: bool = False, image: Mapping[str, Any] | None = None) -> str | None:
        numbers = _flat(value)
        count = self.width or 1
        if numbers is None or len(numbers) != count or not all(map(is_finite, numbers)):
            named = f" ({', '.join(self.parts)})" if self.parts else ""
            wanted = "a finite number" if count == 1 else f"{count} finite numbers"
            return f"is {shorten(value)}, not {wanted}{named}"
        low, high = self.limits
        # A network may predict anything, early in training.
        if not found and not all(low <= number <= high for number in numbers):
            return f"is {shorten(value)}, outside {low:g} to {high:g}"
        return None

    def read(self, name: str, values: Sequence[Any], found: bool = False) -> dict[str, np.ndarray]:
        blank = [math.nan] * (self.width or 1)
        rows = [blank if value is None else _flat(value) for value in values]
        shape = (len(rows),) if self.width is None else (len(rows), self.width)
        return {name: np.array(rows, np.float64).reshape(shape)}

    def write(self, name: str, columns: Columns, found: bool = False) -> list[Any]:
        column = np.asarray(columns[name], np.float64)
        column = column if found else column.round(self.digits)
        return [None if np.isnan(row).any() else row.tolist() for row in column]

    def mirror(self, name: str, columns: Columns) -> dict[str, np.ndarray]:
        if not self.mirror_sign:
            return {}
        return {name: columns[name] * np.array(self.mirror_sign, columns[name].dtype)}

    def statistics(self, name: str, columns: Columns) -> dict[str, np.ndarray]:
        column = np.asarray(columns[name], np.float64)
        known = column[~np.isnan(column).any(axis=tuple(range(1, column.ndim)))]
        if self.width is None:
            return {self.title(name): known}
        parts = self.parts or tuple(f"{name} {number + 1}" for number in range(self.width))
        return {self.title(part): known[:, number] for number, part in enumerate(parts)}


@dataclass(frozen=True, kw_only=True)
class Length(Value):
    """A length in the image, (N,) or (N, width) float64: scaled by the affine map."""

    limits: tuple[float, float] = (0.0, math.inf)
    unit: str = "px"

    def move(self, name: str, columns: Columns, affine: Affine) -> dict[str, np.ndarray]:
        zoom = math.sqrt(abs(np.linalg.det(affine.matrix[:, :2])))
        column = columns[name]
        return {name: (column.astype(np.float64) * zoom).astype(column.dtype)}


@dataclass(frozen=True, kw_only=True)
class Angle(Value):
    """An angle in radians, (N,) float64, compared the short way round.

    Attributes:
        period: the period of the angle, radians.
        mirrored_about: the mirror takes an angle a to this minus a.
        rotates: whether the affine map's rotation changes it (an angle in the image; not one in space).
    """

    period: float = 2 * math.pi
    mirrored_about: float = math.pi
    rotates: bool = False
    unit: str = "rad"
    digits: int = 4

    def move(self, name: str, columns: Columns, affine: Affine) -> dict[str, np.ndarray]:
        if not self.rotates:
            return {}
        linear = affine.matrix[:, :2]
        reflected = np.linalg.det(linear) < 0  # the mirror itself is left to ``mirror``
        turn = math.atan2(linear[1, 0], -linear[0, 0] if reflected else linear[0, 0])
        return {name: self._wrapped(columns[name] + turn).astype(columns[name].dtype)}

    def mirror(self, name: str, columns: Columns) -> dict[str, np.ndarray]:
        column = columns[name]
        return {name: self._wrapped(self.mirrored_about - column).astype(column.dtype)}

    def distance(self, name: str, truth: Columns, found: Columns) -> np.ndarray:
        gap = self._wrapped(np.asarray(found[name], np.float64) - truth[name])
        distance: np.ndarray = np.nan_to_num(np.abs(gap))
        return distance

    def statistics(self, name: str, columns: Columns) -> dict[str, np.ndarray]:
        column = np.asarray(columns[name], np.float64)
        return {f"{name.replace('_', ' ')} (degrees)": np.degrees(column[~np.isnan(column)])}

    def _wrapped(self, angle: np.ndarray) -> np.ndarray:
        wrapped: np.ndarray = angle - self.period * np.floor(angle / self.period + 0.5)
        return wrapped


@dataclass(frozen=True, kw_only=True)
class Choice(Field):
    """One of several names: a column (N,) int64, -1 where missing; two may be written as true and false.

    Attributes:
        choices: the names; the column holds their indices.
        scores: column (N, len(choices)) of detections: the probability of each.
    """

    choices: tuple[str, ...]
    scores: str = ""

    @property
    def _is_flag(self) -> bool:
        return self.choices == ("false", "true")

    def error(self, value: Any, found: bool = False, image: Mapping[str, Any] | None = None) -> str | None:
        if self._number(value) is None:
            allowed = "true or false" if self._is_flag else " | ".join(self.choices)
            return f"is {shorten(value)}, not {allowed}"
        return None

    def _number(self, value: Any) -> int | None:
        if self._is_flag and (isinstance(value, bool) or value in (0, 1)):
            return int(value)
        text = value.strip().lower() if self._is_flag and isinstance(value, str) else value
        return self.choices.index(text) if text in self.choices else None

    def read(self, name: str, values: Sequence[Any], found: bool = False) -> dict[str, np.ndarray]:
        numbers = [-1 if value is None else self._number(value) for value in values]
        return {name: np.array(numbers, np.int64)}

    def write(self, name: str, columns: Columns, found: bool = False) -> list[Any]:
        values: list[Any] = [False, True] if self._is_flag else list(self.choices)
        return [None if number < 0 else values[number] for number in np.asarray(columns[name]).tolist()]

    def as_found(self, name: str, columns: Columns) -> dict[str, np.ndarray]:
        certain = np.eye(len(self.choices), dtype=np.float32)[columns[name]]
        certain[columns[name] < 0] = np.nan
        return {name: columns[name], self.scores: certain} if self.scores else {name: columns[name]}

    def distance(self, name: str, truth: Columns, found: Columns) -> np.ndarray:
        wrong = (np.asarray(found[name]) != truth[name]) & (np.asarray(truth[name]) >= 0)
        distance: np.ndarray = wrong.astype(np.float64)
        return distance

    def statistics(self, name: str, columns: Columns) -> dict[str, np.ndarray]:
        column = np.asarray(columns[name])
        known = column[column >= 0]
        return {f"{name} = {text}": (known == i).astype(float) for i, text in enumerate(self.choices)}


Fields = Mapping[str, Field]


# --- what follows from declarations


def read_fields(
    fields: Fields, entries: Sequence[Mapping[str, Any]], found: bool = False
) -> dict[str, np.ndarray]:
    """Columns from annotations, or from entries of a results file.

    Args:
        fields: by name.
        entries: entries of one image.
        found: they are results.
    """
    columns: dict[str, np.ndarray] = {}
    for name, field in fields.items():
        if field.json and (found or field.annotated):
            values = [None if _is_exempt(field, entry) else _look(entry, field.json) for entry in entries]
            columns |= field.read(name, values, found)
    return columns


def stated_fields(fields: Fields, entries: Sequence[Mapping[str, Any]]) -> dict[str, Field]:
    """Fields that are always needed or have a value in some entry; all fields if there are no entries.

    Args:
        fields: by name.
        entries: entries of a results file.
    """
    return {
        name: field
        for name, field in fields.items()
        if not entries
        or field.needed == "always"
        or any(_look(entry, field.json) is not None for entry in entries)
    }


def write_fields(
    fields: Fields, entries: Sequence[dict[str, Any]], columns: Columns, found: bool = False
) -> None:
    """Add the fields' JSON values to entries; a missing value adds no key."""
    for name, field in fields.items():
        if not field.json or name not in columns or not (found or field.annotated):
            continue
        *path, key = field.json.split(".")
        for entry, value in zip(entries, field.write(name, columns, found), strict=True):
            if value is not None:
                for part in path:
                    entry = entry.setdefault(part, {})
                entry[key] = value
                if isinstance(field, Points) and field.visible and not found:
                    entry[f"num_{key}"] = sum(visibility > 0 for visibility in value[2::3])  # as in COCO


def field_errors(
    fields: Fields,
    entry: Mapping[str, Any],
    found: bool = False,
    image: Mapping[str, Any] | None = None,
) -> list[str]:
    """What is wrong with an entry, one phrase per field.

    Args:
        fields: by name.
        entry: an annotation, or an entry of a results file.
        found: it is a result.
        image: its image's entry of the COCO file, where that is known.
    """
    errors = []
    for field in fields.values():
        if not field.json or not (found or field.annotated) or _is_exempt(field, entry):
            continue
        value = _look(entry, field.json)
        if (error := _holder_error(entry, field.json)) is not None:
            errors.append(error)
        elif value is None:
            if field.needed != "never":
                errors.append(f"{field.json} is missing")
        elif (error := field.error(value, found, image)) is not None:
            errors.append(f"{field.json} {error}")
    return errors


def found_columns(fields: Fields, columns: Columns) -> dict[str, np.ndarray]:
    """Columns of instances -> the columns of detections of the same objects."""
    found: dict[str, np.ndarray] = {}
    for name, field in fields.items():
        if name in columns:
            found |= field.as_found(name, columns)
    return found


def annotated_columns(fields: Fields, columns: Columns) -> dict[str, np.ndarray]:
    """Columns of detections -> the columns of instances of the same objects."""
    annotated: dict[str, np.ndarray] = {}
    for name, field in fields.items():
        if name in columns:
            annotated |= field.as_annotated(name, columns)
    return annotated


def move_record(record: Record, affine: Affine, fields: Fields) -> Record:
    """A record of one image (numpy) in the frame that ``affine`` maps to; boxes stay axis-aligned."""
    columns = record.fields()
    moved = {"boxes": affine.boxes(columns["boxes"])}
    for name, field in fields.items():
        if name in columns:
            moved |= field.move(name, columns, affine)
    return record.replace(**moved)


def forget_under_zoom(record: Record, fields: Fields) -> Record:
    """A record of an image that is shifted, zoomed or rotated, without the values that this invalidates."""
    columns = record.fields()
    unknown = {
        name: np.full_like(columns[name], np.nan)
        for name, field in fields.items()
        if isinstance(field, Value) and field.under_zoom == "unknown" and name in columns
    }
    return record.replace(**unknown)


def mirror_record(record: Record, fields: Fields) -> Record:
    """What a mirror changes besides positions; the record was moved by a map that mirrors."""
    columns = record.fields()
    changed: dict[str, np.ndarray] = {}
    for name, field in fields.items():
        if name in columns:
            changed |= field.mirror(name, columns)
    return record.replace(**changed)


def differences(fields: Fields, truth: Record, found: Record) -> dict[str, np.ndarray]:
    """(M,) by name: row-wise distances of two records, in boxes and in declared fields that both have."""
    one, other = truth.fields(), found.fields()
    boxes = np.abs(np.asarray(other["boxes"], np.float64) - one["boxes"])
    result = {"boxes": boxes.max(axis=1, initial=0)}
    for name, field in fields.items():
        if name in one and name in other:
            result[name] = field.distance(name, one, other)
    return result


def _is_exempt(field: Field, entry: Mapping[str, Any]) -> bool:
    return field.needed == "objects" and bool(entry.get("iscrowd"))


def _look(entry: Mapping[str, Any], path: str) -> Any:
    """The value at "a.b" of nested dictionaries; None where it is missing, null or an empty list."""
    value: Any = entry
    for part in path.split("."):
        value = value.get(part) if isinstance(value, Mapping) else None
    return None if value == [] else value


def _holder_error(entry: Mapping[str, Any], path: str) -> str | None:
    """The error that "a.b" cannot be looked up in an entry, because its a is not a dictionary."""
    holder = entry.get(path.partition(".")[0]) if "." in path else None
    if holder is None or isinstance(holder, Mapping):
        return None
    return f"{path.partition('.')[0]} is {shorten(holder)}, not a dictionary"


def _flat(value: Any) -> list[Any] | None:
    """A number, a list or nested lists as a flat list of numbers; None for anything else."""
    if isinstance(value, (bool, str)) or value is None:
        return None
    if isinstance(value, (int, float)):
        return [value]
    if not isinstance(value, Sequence):
        return None
    flat: list[Any] = []
    for item in value:
        flat += item if isinstance(item, list) else [item]
    return flat


def _cyclic_distance(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """(N,): distance of points (N, n, 2) that may start at any of them, in either direction; 0 for NaN."""
    ways = (other, other[:, ::-1])
    orders = [np.roll(way, turn, axis=1) for way in ways for turn in range(one.shape[1])]
    gaps = np.stack([np.abs(order - one).max(axis=(1, 2), initial=0) for order in orders])
    closest: np.ndarray = np.nan_to_num(gaps.min(axis=0))
    return closest


def _counted(points: int) -> str:
    return "1 point" if points == 1 else f"{points} points"


def is_finite(value: Any, largest: float = 1e15) -> bool:
    """Whether a JSON value is a finite number; true and false are not.

    Args:
        value: from a file.
        largest: anything larger counts as a mistake: its products would not be finite.
    """
    return isinstance(value, (int, float)) and not isinstance(value, bool) and -largest <= value <= largest
