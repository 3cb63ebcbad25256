"""Pascal VOC (XML annotations, text lists of splits) to a COCO data directory.

Source: Everingham et al., The PASCAL Visual Object Classes Challenge, development kit documentation: pixel
coordinates count from 1 and the maximum belongs to the box.
"""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ctnet.base.errors import CtnetError, os_error
from ctnet.base.progress import track
from ctnet.convert.coco import (
    ImageMode,
    ImageRecord,
    box_annotation,
    write_splits,
)
from ctnet.convert.report import BadRecord, ConvertReport
from ctnet.convert.sources import (
    check_folder,
    checked_number,
    image_files,
    listed_names,
    read_each,
    read_lines,
)
from ctnet.core.class_names import PASCAL_VOC_NAMES
from ctnet.data.images import ImageError, image_size
from ctnet.data.problems import Problem, refuse


def convert_voc(
    source: str | Path, target: str | Path, images: ImageMode = "link", strict: bool = False
) -> ConvertReport:
    """Convert a Pascal VOC data set to a COCO data directory.

    A box becomes ``[xmin - 1, ymin - 1, xmax - xmin + 1, ymax - ymin + 1]``: from the outer edge of its first
    pixel to that of its last, counted from 0.

    Args:
        source: a folder with ``Annotations``, ``ImageSets/Main`` and ``JPEGImages``, or a folder of such
            folders (``VOCdevkit``): lists of one name are then joined, which for VOC2007 and VOC2012 gives
            the ``trainval`` of 16,551 images that the paper trains on.
        target: the data directory to write.
        images: how the images get to ``target/images``, see `ctnet.convert.coco.place_image`.
        strict: refuse the data set for its first bad record instead of skipping bad records.

    Raises:
        CtnetError: when ``source`` has not this layout, or with ``strict`` when a record is bad.
    """
    source, target = Path(source), Path(target)
    years = [_Year.open(folder) for folder in _year_folders(source)]
    problems: list[Problem] = []
    splits = _merged_splits(years, problems)
    records = _read_records(years, splits, problems, need_images=images != "none")
    if strict:
        refuse(problems, source)
    categories = _category_order({item["category"] for record in records.values() for item in record.objects})
    ids = {name: number for number, name in enumerate(records, start=1)}
    written = {
        split: {ids[name]: records[name] for name in names if name in records}
        for split, names in splits.items()
    }
    description = f"converted from Pascal VOC, {source.name}"
    reports = write_splits(target, written, categories, description, images)
    return ConvertReport(target, reports, tuple(problems), tuple(_notes(years, splits, images)))


@dataclass(frozen=True)
class _Year:
    """One folder with Annotations, ImageSets/Main and JPEGImages."""

    folder: Path
    lists: Mapping[str, Path]
    class_lists: int
    images: Mapping[str, Path]  # by stem

    @classmethod
    def open(cls, folder: Path) -> _Year:
        found = sorted((folder / "ImageSets" / "Main").glob("*.txt"))
        lists = {path.stem: path for path in found if not _is_class_list(path)}
        if not lists:
            raise CtnetError(
                f"{folder}/ImageSets/Main lists no split; write one image name a line into its train.txt"
            )
        images = {path.stem: path for path in image_files(folder / "JPEGImages")}
        return cls(folder, lists, len(found) - len(lists), images)


def _year_folders(source: Path) -> list[Path]:
    check_folder(source)
    for candidates in ([source], sorted(source.iterdir()), sorted(source.glob("VOCdevkit/*"))):
        folders = [folder for folder in candidates if (folder / "Annotations").is_dir()]
        if folders:
            return folders
    raise CtnetError(
        f"{source} is no Pascal VOC data set: neither it nor a folder in it has Annotations and ImageSets"
    )


def _is_class_list(path: Path) -> bool:
    """Lists such as aeroplane_train.txt tell for every image whether it shows the class: -1, 0 or 1."""
    rows = [line.split() for line in read_lines(path) if line.strip()]
    return bool(rows) and all(len(row) == 2 and row[1] in ("-1", "0", "1") for row in rows)


def _merged_splits(years: Sequence[_Year], problems: list[Problem]) -> dict[str, list[str]]:
    """Split name to image names, in the order of the lists; of the years one after the other."""
    splits: dict[str, dict[str, None]] = {}
    for year in years:
        for split, path in year.lists.items():
            names = splits.setdefault(split, {})
            names.update(listed_names(path, problems, known=names))
    return {split: list(names) for split, names in splits.items()}


def _read_records(
    years: Sequence[_Year], splits: Mapping[str, Sequence[str]], problems: list[Problem], need_images: bool
) -> dict[str, ImageRecord]:
    """Image name to record for all that can be read; the rest goes to ``problems``."""
    listed_in: dict[str, list[str]] = {}
    for split, names in splits.items():
        for name in names:
            listed_in.setdefault(name, []).append(f"{split}.txt")
    records = {}
    for name in track(sorted(listed_in), "reading annotations"):
        owners = [year for year in years if (year.folder / "Annotations" / f"{name}.xml").is_file()]
        lists = " and ".join(listed_in[name])
        if not owners:
            problems.append(Problem("no file in Annotations", f"{name}.xml", f"named in {lists}"))
        elif len(owners) > 1:
            folders = " and ".join(year.folder.name for year in owners)
            problems.append(Problem("name in several folders", f"{name}.xml", folders))
        else:
            record = _read_record(owners[0], name, problems, need_images)
            if record is not None:
                records[name] = record
    return records


def _read_record(year: _Year, name: str, problems: list[Problem], need_image: bool) -> ImageRecord | None:
    path = year.folder / "Annotations" / f"{name}.xml"
    image = year.images.get(name)
    try:
        root = _parse(path)
        image = image or year.images.get(_stated_stem(root))
        if image is None and need_image:
            raise BadRecord("no file in JPEGImages", f"looked for {name}.jpg and the like")
        width, height = _image_size(root, image)
    except BadRecord as error:
        problems.append(error.at(path.name))
        return None
    elements = ((f"{path.name} object {index}", each) for index, each in enumerate(root.findall("object")))
    objects = list(read_each(elements, lambda element: _read_object(element, width, height), problems))
    return ImageRecord(f"images/{image.name if image else f'{name}.jpg'}", width, height, objects, image)


class _NoDoctype(ElementTree.TreeBuilder):
    """Refuses document types: they can define entities that expand without end, and VOC files have none."""

    def doctype(self, name: str, pubid: str | None, system: str | None) -> None:
        raise BadRecord("broken XML", f"it declares a document type {name}; take that line out")


def _parse(path: Path) -> ElementTree.Element:
    try:
        content = path.read_bytes()
    except OSError as error:
        raise os_error(error, "read", path) from error
    try:
        return ElementTree.fromstring(content, ElementTree.XMLParser(target=_NoDoctype()))
    except (ElementTree.ParseError, ValueError, LookupError) as error:  # LookupError: unknown encoding
        raise BadRecord("broken XML", str(error)) from error


def _stated_stem(root: ElementTree.Element) -> str:
    return Path((root.findtext("filename") or "").strip().replace("\\", "/")).stem


def _image_size(root: ElementTree.Element, image: Path | None) -> tuple[int, int]:
    """Width and height as the file states them, else as the image has them."""
    try:
        width, height = (int(float(root.findtext(f"size/{side}") or "")) for side in ("width", "height"))
        if width > 0 and height > 0:
            return width, height
    except (ValueError, OverflowError):
        pass
    if image is None:
        raise BadRecord("no image size", "the file states none and the image is not there")
    try:
        return image_size(image)
    except ImageError as error:
        raise BadRecord("no image size", f"the file states none, and {error}") from error


def _read_object(element: ElementTree.Element, width: int, height: int) -> dict[str, Any]:
    """One object as an annotation; raises BadRecord."""
    category = (element.findtext("name") or "").strip()
    if not category:
        raise BadRecord("object without name", "its <name> is missing or empty")
    corners = [_coordinate(element, name) for name in ("xmin", "ymin", "xmax", "ymax")]
    xmin, ymin, xmax, ymax = corners
    shown = "xmin {:g}, ymin {:g}, xmax {:g}, ymax {:g}".format(*corners)
    # A box of one pixel has xmin = xmax by the letter; in practice such boxes are slips of the mouse.
    if xmax <= xmin or ymax <= ymin:
        raise BadRecord("box without area", shown)
    if xmax < 1 or ymax < 1 or xmin > width or ymin > height:
        raise BadRecord("box outside the image", f"{shown}; the image has {width}x{height}")
    flags = {name: _flag(element, name) for name in ("difficult", "truncated", "occluded")}
    kept = {name: value for name, value in flags.items() if value is not None}
    box = (xmin - 1, ymin - 1, xmax - xmin + 1, ymax - ymin + 1)
    return box_annotation(category, box, ignore=kept.get("difficult", 0), **kept)


def _coordinate(element: ElementTree.Element, name: str) -> float:
    text = (element.findtext(f"bndbox/{name}") or "").strip()
    return checked_number(text, "box that is no four numbers", f"{name} is {text!r}")


def _flag(element: ElementTree.Element, name: str) -> int | None:
    text = element.findtext(name)
    return None if text is None else int(text.strip() not in ("", "0"))


def _category_order(names: set[str]) -> Sequence[str]:
    return PASCAL_VOC_NAMES if names and names <= set(PASCAL_VOC_NAMES) else sorted(names)


def _notes(years: Sequence[_Year], splits: Mapping[str, Sequence[str]], images: ImageMode) -> Iterator[str]:
    skipped = sum(year.class_lists for year in years)
    if skipped:
        yield f"{skipped} lists of single classes in ImageSets/Main are no splits and were not converted"
    listed = {name for names in splits.values() for name in names}
    unlisted = sum(len(year.images.keys() - listed) for year in years)
    if unlisted:
        yield f"{unlisted} images in JPEGImages are in no list and were left out"
    if images == "none":
        yield "the images were left where they are; put them into the folder images of the target yourself"
