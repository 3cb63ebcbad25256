"""Detections for other libraries, which are imported when they are asked for."""

from __future__ import annotations

import importlib
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ctnet.base.errors import CtnetError
from ctnet.core.fields import Field, Points
from ctnet.core.masks import Mask
from ctnet.core.records import Detections

if TYPE_CHECKING:
    import pandas
    import supervision

_SIDES = ("x1", "y1", "x2", "y2")


def data_frame(rows: Sequence[Mapping[str, Any]], keys: Iterable[str]) -> pandas.DataFrame:
    """A table of ``ImageDetections.to_dicts``, the box in four columns.

    Args:
        rows: the dictionaries.
        keys: that rows may have besides; each is a column, also where no row has it.

    Raises:
        CtnetError: when pandas is not installed.
    """
    pd = _imported("pandas", "to_pandas")
    boxes = np.array([row["box"] for row in rows], np.float64).reshape(-1, 4)
    columns: dict[str, Any] = dict(zip(_SIDES, boxes.T, strict=True))
    columns["score"] = np.array([row["score"] for row in rows], np.float64)
    columns["label"] = np.array([row["label"] for row in rows], np.int64)
    columns["name"] = [row["name"] for row in rows]
    return pd.DataFrame({**columns, **{key: [row.get(key) for row in rows] for key in keys}})


def supervision_detections(
    found: Detections, names: Sequence[str], fields: Mapping[str, Field], size: tuple[int, int]
) -> supervision.Detections:
    """The same detections as supervision has them.

    Args:
        found: detections of one image, in its pixels.
        names: the class name of each row.
        fields: what the task declares of its columns.
        size: (width, height) of the image, for masks.

    Raises:
        CtnetError: when supervision is not installed.
    """
    sv = _imported("supervision", "to_supervision")
    data: dict[str, Any] = {"class_name": np.array(names, str)}
    masks = None
    for name, column in found.extra.items():
        field = fields.get(name)
        if isinstance(field, Mask):
            masks = _rasterised(column, size)
            continue
        data[name] = np.asarray(column)
        if isinstance(field, Points) and field.cyclic and field.n == 4:
            data["xyxyxyxy"] = np.asarray(column, np.float32)  # what its annotators of rotated boxes read
    return sv.Detections(
        xyxy=np.asarray(found.boxes, np.float32),
        mask=masks,
        confidence=np.asarray(found.scores, np.float32),
        class_id=np.asarray(found.labels, int),
        data=data,
    )


def _rasterised(outlines: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """(N, H, W) bool; empty where an outline is missing."""
    masks = np.zeros((len(outlines), size[1], size[0]), bool)
    for mask, outline in zip(masks, outlines, strict=True):
        if outline is not None:
            mask[:] = outline.rasterise(*size)
    return masks


def _imported(name: str, method: str) -> Any:
    """A library that ctnet does not need itself."""
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise CtnetError(f"{method} needs {name} ({error}): pip install {name}") from error
