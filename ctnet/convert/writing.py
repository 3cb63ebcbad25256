"""Writing all splits of a conversion: their images, and annotation files whose image ids do not repeat."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from ctnet.base.progress import track
from ctnet.convert.coco import ImageMode, ImageRecord, place_image, write_split
from ctnet.convert.report import SplitReport


def write_all(
    target: Path,
    splits: Mapping[str, Sequence[ImageRecord]],
    categories: Sequence[str],
    description: str,
    images: ImageMode,
) -> tuple[SplitReport, ...]:
    """Write the splits of a data directory; images go to ``images/<split>``.

    Args:
        target: the data directory.
        splits: name to images; their ids count from 1 on.
        categories: all names.
        description: goes into the files' ``info``.
        images: how the images get there, see ``place_image``.
    """
    reports, next_id = [], 1
    for name, records in splits.items():
        for record in track(records, f"placing images of {name}"):
            if record.source is not None:
                place_image(record.source, target / "images" / name / record.file_name, images)
        numbered = dict(enumerate(records, start=next_id))
        next_id += len(records)
        reports.append(write_split(target, name, numbered, categories, description))
    return tuple(reports)


def category_names(splits: Mapping[str, Sequence[ImageRecord]]) -> list[str]:
    """The categories of all objects, sorted."""
    records = (record for each in splits.values() for record in each)
    return sorted({str(item["category"]) for record in records for item in record.objects})
