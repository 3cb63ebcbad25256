"""Writing the COCO data directory of an import: one annotation file per split, and the images."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from ctnet.base.choices import ImageMode
from ctnet.base.errors import CtnetError
from ctnet.base.files import write_json
from ctnet.base.progress import track
from ctnet.base.schema import shorten
from ctnet.convert.files import place_image
from ctnet.convert.report import SplitReport

#: Folder of a split's images in the data directory, if splits do not share them.
IMAGE_FOLDER = "images/{split}"


@dataclass(frozen=True)
class ImageRecord:
    """One image to be written to COCO JSON.

    Attributes:
        file_name: for the COCO entry.
        width, height: pixels.
        objects: COCO annotations with ``category`` (a name) for ``category_id``, without ids.
        source: the image file; None when it does not exist (and is not needed).
        extra: further keys of the image's COCO entry (such as a camera).
    """

    file_name: str
    width: int
    height: int
    objects: Sequence[Mapping[str, Any]]
    source: Path | None = field(compare=False, default=None)
    extra: Mapping[str, Any] = field(default_factory=dict)

    def entry(self, image_id: int) -> dict[str, Any]:
        """The image's entry of the COCO file."""
        own = {"id": image_id, "file_name": self.file_name, "width": self.width, "height": self.height}
        return own | dict(self.extra)


def box_annotation(category: str, xywh: Sequence[float], **extra: Any) -> dict[str, Any]:
    """An annotation of one box, with the area and crowd flag that COCO readers expect."""
    area = plain(round(xywh[2] * xywh[3], 3))
    return {
        "category": category,
        "bbox": [plain(value) for value in xywh],
        "area": area,
        "iscrowd": 0,
        **extra,
    }


def plain(value: float) -> float:
    """``value``, as int where it is integral, so that JSON has 3 and not 3.0."""
    return int(value) if float(value).is_integer() else value


def numbered(splits: Mapping[str, Sequence[ImageRecord]]) -> dict[str, dict[int, ImageRecord]]:
    """Splits with image ids from 1, consecutive over all splits."""
    ids = itertools.count(1)
    return {
        split: {number: record for record, number in zip(records, ids, strict=False)}
        for split, records in splits.items()
    }


def category_names(splits: Mapping[str, Sequence[ImageRecord]]) -> list[str]:
    """The categories of all objects, sorted."""
    records = (record for each in splits.values() for record in each)
    return sorted({str(item["category"]) for record in records for item in record.objects})


def write_splits(
    target: Path,
    splits: Mapping[str, Mapping[int, ImageRecord]],
    categories: Sequence[str],
    description: str,
    images: ImageMode,
    keypoints: Sequence[Sequence[str]] | None = None,
    image_folder: str = "",
) -> tuple[SplitReport, ...]:
    """Write ``annotations/instances_<split>.json`` of every split, and place each image once.

    Args:
        target: the data directory.
        splits: their names -> image id -> record.
        categories: all names; their ids are 1, 2, ... in this order.
        description: goes into each file's ``info``.
        images: how the images get there, see ``place_image``.
        keypoints: names of each category's keypoints, if it has any.
        image_folder: the folder below ``target`` that file names are relative to; "{split}" in it is replaced
            by the split's name.
    """
    for records in splits.values():
        for record in records.values():
            if ".." in PurePosixPath(record.file_name).parts:
                raise CtnetError(
                    f"image {shorten(record.file_name)} would lie outside {target}; write its name without .."
                )
    places = {
        target / image_folder.format(split=split) / record.file_name: record.source
        for split, records in splits.items()
        for record in records.values()
    }
    for place, source in track(places.items(), "placing images"):
        if source is not None:
            place_image(source, place, images)
    return tuple(
        _write_split(target, split, records, categories, description, keypoints)
        for split, records in splits.items()
    )


def _write_split(
    directory: Path,
    split: str,
    records: Mapping[int, ImageRecord],
    categories: Sequence[str],
    description: str,
    keypoints: Sequence[Sequence[str]] | None,
) -> SplitReport:
    ids = {name: number for number, name in enumerate(categories, start=1)}
    objects = dict.fromkeys(categories, 0)
    annotations: list[dict[str, Any]] = []
    for image_id, record in records.items():
        for item in record.objects:
            rest = {key: value for key, value in item.items() if key != "category"}
            annotation = {
                "id": len(annotations) + 1,
                "image_id": image_id,
                "category_id": ids[item["category"]],
            }
            annotations.append(annotation | rest)
            objects[item["category"]] += not item.get("iscrowd")
    content = {
        "info": {"description": description},
        "images": [record.entry(image_id) for image_id, record in records.items()],
        "annotations": annotations,
        "categories": [
            {"id": number, "name": name, **({"keypoints": list(keypoints[number - 1])} if keypoints else {})}
            for name, number in ids.items()
        ],
    }
    write_json(directory / "annotations" / f"instances_{split}.json", content, indent=None)
    return SplitReport(split, len(records), objects)
