"""One image's entries of the annotation file, parsed on demand."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cached_property
from typing import Any

import numpy as np

from ctnet.data.coco import CocoFile


class Entries:
    """An image's entry of the file and its usable annotations, read on first access.

    The file is opened only once per image: opening takes longer than parsing an entry.
    """

    def __init__(self, coco: CocoFile, image: int, rows: np.ndarray) -> None:
        self.coco, self.rows = coco, rows
        self._image = image

    @cached_property
    def together(self) -> tuple[dict[str, Any], list[dict[str, Any]]]:
        """The image's entry, and the annotations."""
        return self.coco.raw_entries(self._image, self.rows)

    def image(self) -> dict[str, Any]:
        """The image's entry; annotations are not parsed until they are accessed."""
        parsed = self.__dict__.get("together")
        return parsed[0] if parsed is not None else self.coco.raw_image(self._image)


class ImageAnnotations(Sequence[Mapping[str, Any]]):
    """The usable annotations of one image: the file's own dictionaries, parsed on demand.

    Attributes:
        boxes: (N, 4) float32, xyxy, image pixels.
        category_ids: (N,) int64, as in the file.
        crowd: (N,) bool.
        areas: (N,) float64, square pixels, as in the file.
        ids: (N,) int64, as in the file; see ``CocoFile.annotation_ids``.
    """

    def __init__(self, entries: Entries) -> None:
        self._entries = entries
        coco, rows = entries.coco, entries.rows
        boxes = coco.boxes[rows]
        boxes[:, 2:] += boxes[:, :2]
        self.boxes = boxes.astype(np.float32)
        self.category_ids = coco.category_ids[rows]
        self.crowd = coco.crowd[rows]
        self.areas = coco.areas[rows]
        self.ids = coco.annotation_ids[rows]

    def __len__(self) -> int:
        return len(self._entries.rows)

    def __getitem__(self, index: Any) -> Any:
        return self._entries.together[1][index]

    def __iter__(self) -> Iterator[Mapping[str, Any]]:
        return iter(self._entries.together[1])


class ImageRecord(Mapping[str, Any]):
    """One image's entry of the file, parsed on first access; pickled as the entry itself."""

    def __init__(self, read: Callable[[], dict[str, Any]]) -> None:
        self._read = read

    @cached_property
    def _entry(self) -> dict[str, Any]:
        return self._read()

    def __getitem__(self, key: str) -> Any:
        return self._entry[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self._entry)

    def __len__(self) -> int:
        return len(self._entry)

    def __repr__(self) -> str:
        return repr(self._entry)

    def __reduce__(self) -> tuple[Any, ...]:
        return dict, (self._entry,)
