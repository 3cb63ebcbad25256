"""The records passed between data, tasks and results: Annotations, Instances, Detections, Sample."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from typing_extensions import Self

if TYPE_CHECKING:
    from torch import Tensor


class Annotations(Protocol):
    """The annotations of one image, as a data set passes them to ``instances_of``.

    A sequence of the file's own dictionaries (parsed on demand), with the columns that every task needs as
    arrays.

    Attributes:
        boxes: (N, 4) float32, xyxy, image pixels.
        category_ids: (N,) int64, as in the file.
        crowd: (N,) bool.
    """

    boxes: np.ndarray
    category_ids: np.ndarray
    crowd: np.ndarray

    def __len__(self) -> int: ...
    def __getitem__(self, index: int) -> Mapping[str, Any]: ...
    def __iter__(self) -> Iterator[Mapping[str, Any]]: ...


def object_column(rows: Iterable[Any]) -> np.ndarray:
    """(N,) object array of any N values: a column whose rows differ in shape (such as polygons)."""
    values = list(rows)
    column = np.empty(len(values), object)
    for index, value in enumerate(values):
        column[index] = value
    return column


class _Columns:
    """Named columns of equal length; ``extra`` holds the task's own, which are also attributes.

    A sequence: an index (negative ones count from the end) gives a record of one row, and iterating gives
    such records. A list given as a column (its rows may differ in shape) becomes an array of objects.
    """

    extra: Mapping[str, Any]
    _own: tuple[str, ...]

    def __getattr__(self, name: str) -> Any:
        extra = self.__dict__.get("extra", {})
        if name in extra:
            return extra[name]
        raise AttributeError(
            f"{type(self).__name__} has no field {name!r}; it has {', '.join((*self._own, *extra))}"
        )

    def fields(self) -> dict[str, Any]:
        """All columns by name."""
        return {**{name: getattr(self, name) for name in self._own}, **self.extra}

    def replace(self, **columns: Any) -> Self:
        """A copy with some columns replaced or added."""
        return self._with({**self.fields(), **columns})

    def __getitem__(self, rows: Any) -> Self:
        """The rows (for a batch, the images) that an index, index array, mask or slice selects."""
        if isinstance(rows, (int, np.integer)):
            if not -len(self) <= rows < len(self):
                raise IndexError(f"{type(self).__name__} with {len(self)} rows has no row {rows}")
            rows = slice(rows, rows + 1 or None)
        return self._with({name: column[rows] for name, column in self.fields().items()})

    def __len__(self) -> int:
        return len(getattr(self, self._own[0]))

    def __iter__(self) -> Iterator[Self]:
        return (self[row] for row in range(len(self)))

    def __repr__(self) -> str:
        columns = (f"{name} {'x'.join(map(str, column.shape))}" for name, column in self.fields().items())
        return f"{type(self).__name__}({', '.join(columns)})"

    def _with(self, columns: Mapping[str, Any]) -> Self:
        own = {name: columns[name] for name in self._own}
        extra = {name: value for name, value in columns.items() if name not in own}
        return replace(self, **own, extra=extra)  # type: ignore[type-var]  # the dataclasses below

    def _check_columns(self) -> None:
        extra = {
            name: object_column(column) if isinstance(column, (list, tuple)) else column
            for name, column in self.extra.items()
        }
        object.__setattr__(self, "extra", extra)
        # Sizes are only compared, never hashed or converted to int: in an exported graph they are symbols.
        lengths = {name: column.shape[0] for name, column in self.fields().items()}
        first = lengths[self._own[0]]
        if any(length != first for length in lengths.values()):
            raise ValueError(f"{type(self).__name__} needs columns of equal length, got {lengths}")


@dataclass(frozen=True, eq=False, repr=False)
class Instances(_Columns):
    """The annotated objects of one image, in image, input or grid coordinates, depending on the context.

    Attributes:
        boxes: (N, 4) float32, xyxy.
        labels: (N,) int64, contiguous from 0.
        crowd: (N,) bool, True for a crowd region of many objects.
        extra: the task's own columns, numpy arrays with N rows; also readable as attributes.
    """

    boxes: np.ndarray
    labels: np.ndarray
    crowd: np.ndarray
    extra: Mapping[str, np.ndarray] = field(default_factory=dict)

    _own = ("boxes", "labels", "crowd")

    def __post_init__(self) -> None:
        self._check_columns()
        if self.boxes.ndim != 2 or self.boxes.shape[1] != 4:
            raise ValueError(f"Instances.boxes must be (N, 4), got {self.boxes.shape}")

    @classmethod
    def of(cls, boxes: Any, labels: Any, crowd: Any = None, **extra: Any) -> Instances:
        """Instances from array-likes, converted to the right dtypes."""
        labels = np.asarray(labels, np.int64).reshape(-1)
        crowd = np.zeros(len(labels), bool) if crowd is None else np.asarray(crowd, bool)
        return cls(np.asarray(boxes, np.float32).reshape(-1, 4), labels, crowd, extra)


@dataclass(frozen=True, eq=False, repr=False)
class Detections(_Columns):
    """Detections, highest score first.

    ``Task.decode`` makes them for a batch: torch tensors with a leading axis B and exactly k rows per image,
    on the output grid, with the column ``cells`` (B, k, 2) int64 of their peaks. Everywhere else they belong
    to one image: numpy arrays, in image pixels.

    Attributes:
        boxes: ([B,] N, 4) float32, xyxy.
        scores: ([B,] N) float32 in [0, 1].
        labels: ([B,] N) int64, contiguous from 0.
        extra: the task's own columns, of any shape after the first axis ((N,), (N, K), masks (N, H, W)), or a
            list of N rows that differ in shape, kept as an array of objects; also readable as attributes.
    """

    boxes: Any
    scores: Any
    labels: Any
    extra: Mapping[str, Any] = field(default_factory=dict)

    _own = ("boxes", "scores", "labels")

    def __post_init__(self) -> None:
        self._check_columns()

    @staticmethod
    def empty() -> Detections:
        """Zero detections, without task columns."""
        return Detections(np.zeros((0, 4), np.float32), np.zeros(0, np.float32), np.zeros(0, np.int64))

    def per_image(self) -> list[Detections]:
        """Split a batch of tensors into one numpy record per image."""
        return self.with_check(None)[0]

    def with_check(self, check: Tensor | None) -> tuple[list[Detections], bool]:
        """The records of ``per_image``, and a value that is read from the device together with them.

        Args:
            check: () bool; True when None.
        """
        from ctnet.base.device import to_host  # numpy records do without torch

        columns = self.fields()
        extra = [] if check is None else [check]
        arrays = to_host([*columns.values(), *extra])
        split = dict(zip(columns, arrays, strict=False))
        records = [
            self._with({name: column[image] for name, column in split.items()}) for image in range(len(self))
        ]
        return records, check is None or bool(arrays[-1])

    def to_coco(self, image_id: int, category_ids: Sequence[int] | np.ndarray) -> list[dict[str, Any]]:
        """Entries of a COCO results file, with boxes as xywh; for one image, in image pixels.

        Args:
            image_id: as in the COCO file.
            category_ids: category id of each label.
        """
        boxes = np.asarray(self.boxes, np.float64).reshape(-1, 4)
        # A predicted size may be negative early in training; such a box has no area.
        sizes = np.maximum(boxes[:, 2:] - boxes[:, :2], 0)
        columns = zip(
            np.concatenate([boxes[:, :2], sizes], axis=1).tolist(),
            np.asarray(self.scores, np.float64).tolist(),
            np.asarray(self.labels).tolist(),
            strict=True,
        )
        return [
            {"image_id": image_id, "category_id": int(category_ids[label]), "bbox": bbox, "score": score}
            for bbox, score, label in columns
        ]

    @staticmethod
    def from_coco(
        entries: Sequence[Mapping[str, Any]], category_ids: Sequence[int] | np.ndarray
    ) -> Detections:
        """Detections from one image's entries of a COCO results file, in float64 to keep the exact values.

        Args:
            entries: each with category_id, bbox (xywh) and score.
            category_ids: category id of each label.

        Raises:
            KeyError, TypeError, ValueError: for an entry that lacks a key or has an unknown category.
        """
        known = [int(category_id) for category_id in category_ids]
        boxes = np.array([entry["bbox"] for entry in entries], np.float64).reshape(len(entries), 4)
        boxes[:, 2:] += boxes[:, :2]
        scores = np.array([float(entry["score"]) for entry in entries], np.float64)
        labels = np.array([known.index(int(entry["category_id"])) for entry in entries], np.int64)
        return Detections(boxes, scores, labels)

    def without(self, *names: str) -> Self:
        """A copy without these columns; names it does not have are ignored."""
        return self._with({name: column for name, column in self.fields().items() if name not in names})

    def above(self, score: float) -> Self:
        """The detections with at least this score."""
        return self[self.scores >= score]


@dataclass(frozen=True)
class ImageInfo:
    """Metadata of an image.

    Attributes:
        image_id: as in the COCO file (or the index of a file in ``predict``).
        file_name: as in the COCO file.
        width, height: pixels.
        record: the image's whole entry of the COCO file (such as a camera's ``calib``).
    """

    image_id: int
    file_name: str
    width: int
    height: int
    record: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Sample:
    """One image with its instances.

    Attributes:
        image: (H, W, 3) uint8, RGB.
        instances: in image pixels.
        info: identity and size of the image.
        previous: the frame before, for tasks that see two (``Task.frames``); None: there is none.
    """

    image: np.ndarray
    instances: Instances
    info: ImageInfo
    previous: Sample | None = None


Categories = Sequence[Mapping[str, Any]]
