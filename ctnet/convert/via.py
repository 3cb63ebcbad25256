"""VIA (VGG Image Annotator, 2.x): projects, annotations as JSON and as CSV, to a COCO data directory."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ctnet.base.choices import ImageMode
from ctnet.base.errors import CtnetError
from ctnet.base.files import read_json, unique_keys
from ctnet.base.progress import track
from ctnet.convert.coco import IMAGE_FOLDER, ImageRecord, category_names, numbered, write_splits
from ctnet.convert.image_finder import ImageFinder, name_in_split
from ctnet.convert.report import BadRecord, ConvertReport
from ctnet.convert.shapes import Point, annotation_of, around, ellipse, number, rectangle
from ctnet.convert.sources import read_lines
from ctnet.convert.split_names import check_split_name, one_file_per_split
from ctnet.data.images import ImageError, image_size
from ctnet.data.layouts import is_via_csv, json_kind
from ctnet.data.problems import Problem, refuse

#: Usual names of the attribute with the class, where regions have several.
_USUAL = ("class", "label", "category", "name", "type", "object")
_UNNAMED = "object"


def import_via(
    source: str | Path,
    target: str | Path,
    images: ImageMode = "link",
    strict: bool = False,
    split: str | None = None,
    attribute: str | None = None,
    image_folder: str | Path | None = None,
) -> ConvertReport:
    """Convert VIA's annotations to a COCO data directory.

    Polygons keep their outline; rectangles, circles and ellipses become boxes. The other attributes of a
    region are kept as ``attributes``. Points and polylines have no area and are bad records.

    Args:
        source: a project (``_via_img_metadata``), the annotations as JSON or as CSV; or a folder with one, or
            with one for each split in folders such as ``train`` and ``val``.
        target: the data directory to write; images go to ``images/<split>``.
        images: how the images get there, see `ctnet.convert.coco.place_image`.
        strict: refuse the data set for its first bad record instead of skipping bad records.
        split: the name of the only split, instead of the name of the file or its folder.
        attribute: the attribute with the class; needed where it is ambiguous.
        image_folder: where the images are, if not near the file.

    Raises:
        CtnetError: when there is no such file, when the attribute with the class is ambiguous, or with
            ``strict`` when a record is bad.
    """
    source, target = Path(source), Path(target)
    files = one_file_per_split(
        [(path, source if source.is_dir() else path.parent) for path in _files(source)]
    )
    if split is not None:
        check_split_name(split, "--split")
    if split is not None and len(files) > 1:
        raise CtnetError(f"{source} has the splits {', '.join(files)}; --split applies to a single one")
    pictures = {split or name: _read(path) for name, (path, _) in files.items()}
    name = attribute or _class_attribute([p for each in pictures.values() for p in each], source)
    problems: list[Problem] = []
    splits = {}
    for (path, root), (each, found) in zip(files.values(), pictures.items(), strict=True):
        folder = Path(image_folder) if image_folder is not None else root
        finder = ImageFinder(folder, [folder if image_folder is not None else path.parent])
        splits[each] = list(_records(found, finder, name, path, problems))
    if strict:
        refuse(problems, source)
    described = f"converted from VIA, {source.name}"
    reports = write_splits(
        target, numbered(splits), category_names(splits), described, images, image_folder=IMAGE_FOLDER
    )
    notes = [] if name else [f"no region has an attribute: all are called {_UNNAMED!r}"]
    return ConvertReport(target, reports, tuple(problems), tuple(notes))


@dataclass(frozen=True)
class _Picture:
    """One image: its regions as (shape, attributes)."""

    name: str
    regions: Sequence[tuple[Any, Any]]
    attributes: Mapping[str, Any]


# --- reading


def _files(source: Path) -> list[Path]:
    if source.is_file():
        return [source]
    if not source.is_dir():
        raise CtnetError(f"cannot convert {source}: it does not exist")
    found = [path for path in sorted(source.rglob("*.json")) if json_kind(path) == "VIA"]
    found = found or [path for path in sorted(source.rglob("*.csv")) if is_via_csv(path)]
    if not found:
        raise CtnetError(f"no file of VIA 2 (a project, or annotations as JSON or CSV) in {source}")
    return found


def _read(path: Path) -> list[_Picture]:
    """All images of a file.

    Raises:
        CtnetError: when the file is not VIA's.
    """
    if path.suffix.lower() == ".csv":
        return _read_csv(path)
    document = read_json(path, finite=True)
    metadata = document.get("_via_img_metadata", document) if isinstance(document, dict) else None
    entries = list(metadata.values()) if isinstance(metadata, dict) else []
    if not entries or not all(isinstance(entry, dict) and "regions" in entry for entry in entries):
        of_3 = isinstance(document, dict) and {"project", "config", "metadata"} <= document.keys()
        hint = "; it is of VIA 3, which is not supported" if of_3 else ""
        raise CtnetError(f"{path} is not VIA 2's JSON: it does not list images with 'regions'{hint}")
    return [_picture(entry) for entry in entries]


def _picture(entry: Mapping[str, Any]) -> _Picture:
    regions = entry["regions"]
    listed = regions.values() if isinstance(regions, dict) else regions if isinstance(regions, list) else ()
    pairs = [
        (region.get("shape_attributes"), region.get("region_attributes"))
        if isinstance(region, dict)
        else (region, None)
        for region in listed
    ]
    attributes = entry.get("file_attributes")
    return _Picture(
        str(entry.get("filename") or ""), pairs, attributes if isinstance(attributes, dict) else {}
    )


def _read_csv(path: Path) -> list[_Picture]:
    rows = csv.DictReader(io.StringIO("\n".join(read_lines(path))))
    rows.fieldnames = [name.lstrip("#").strip() for name in rows.fieldnames or ()]
    missing = {"filename", "region_shape_attributes", "region_attributes"} - set(rows.fieldnames)
    if missing:
        raise CtnetError(f"{path} is not VIA's CSV: it has no column {sorted(missing)[0]}")
    pictures: dict[tuple[str, str], _Picture] = {}
    for row in rows:
        key = (row["filename"] or "", row.get("file_size") or "")
        attributes = _json_cell(row.get("file_attributes"))
        shown = _Picture(key[0], [], attributes if isinstance(attributes, dict) else {})
        picture = pictures.setdefault(key, shown)
        shape = _json_cell(row["region_shape_attributes"])
        if shape != {}:  # an image without regions has one row with an empty shape
            regions = [*picture.regions, (shape, _json_cell(row["region_attributes"]))]
            pictures[key] = _Picture(picture.name, regions, picture.attributes)
    return list(pictures.values())


def _json_cell(text: str | None) -> Any:
    """A cell of the table; its text where that is not JSON, which makes it a bad record."""
    try:
        return json.loads(text or "{}", object_pairs_hook=unique_keys)
    except (ValueError, RecursionError):
        return text


# --- from regions to objects


def _class_attribute(pictures: Iterable[_Picture], source: Path) -> str | None:
    """The attribute with the class; None where no region has attributes."""
    names: dict[str, None] = {}
    for picture in pictures:
        for _, attributes in picture.regions:
            names |= dict.fromkeys(attributes if isinstance(attributes, dict) else ())
    usual = [name for name in names if name.lower() in _USUAL]
    if len(names) <= 1 or len(usual) == 1:
        return next(iter(usual or names), None)
    raise CtnetError(
        f"the regions of {source} have the attributes {', '.join(names)}; choose the one with the class "
        "with --attribute"
    )


def _records(
    pictures: Sequence[_Picture],
    finder: ImageFinder,
    attribute: str | None,
    path: Path,
    problems: list[Problem],
) -> Iterator[ImageRecord]:
    taken: dict[str, Path] = {}
    for picture in track(pictures, "reading images"):
        where = f"{path.name} {picture.name}"
        try:
            image = finder.find(picture.name)
            if image in taken.values():
                raise BadRecord("image that is listed twice", picture.name)
            name = name_in_split(image, finder.root, taken)
            width, height = image_size(image)
        except BadRecord as error:
            problems.append(error.at(where))
            continue
        except ImageError as error:
            problems.append(Problem("unreadable file", where, str(error)))
            continue
        taken[name] = image
        objects = []
        for index, (shape, attributes) in enumerate(picture.regions):
            try:
                objects.append(_object(shape, attributes, attribute, (width, height)))
            except BadRecord as error:
                problems.append(error.at(f"{where} region {index}"))
        extra = {"attributes": dict(picture.attributes)} if picture.attributes else {}
        yield ImageRecord(name, width, height, objects, image, extra)


def _object(shape: Any, attributes: Any, attribute: str | None, size: tuple[int, int]) -> dict[str, Any]:
    """One region as an annotation; raises BadRecord."""
    if not isinstance(shape, dict):
        raise BadRecord("region that is not an object", repr(shape)[:60])
    attributes = attributes if isinstance(attributes, dict) else {}
    category = _UNNAMED if attribute is None else _chosen(attributes.get(attribute), attribute)
    outline, outlined = _outline(shape, category)
    rest = {name: value for name, value in attributes.items() if name != attribute}
    return annotation_of(category, [outline], size, outlined, **({"attributes": rest} if rest else {}))


def _chosen(value: object, attribute: str) -> str:
    """The class: a string, or the only ticked option of a checkbox."""
    if isinstance(value, dict):
        ticked = [str(name) for name, chosen in value.items() if chosen is True]
        if len(ticked) != 1:
            raise BadRecord("region of several classes or none", f"{attribute} is {json.dumps(value)[:60]}")
        return ticked[0]
    if not isinstance(value, str) or not value.strip():
        raise BadRecord("region without class", f"{attribute} is {json.dumps(value)[:60]}")
    return value.strip()


def _outline(shape: Mapping[str, Any], category: str) -> tuple[list[Point], bool]:
    """The outline of a region, and whether it is a real outline rather than a box's corners."""

    def values(*names: str) -> Iterator[float]:
        return (number(shape.get(name), name) for name in names)

    kind = shape.get("name")
    if kind == "rect":
        x, y, width, height = values("x", "y", "width", "height")
        return rectangle([(x, y), (x + width, y + height)]), False
    if kind == "circle":
        x, y, radius = values("cx", "cy", "r")
        return around(x, y, radius, radius), False
    if kind == "ellipse":
        x, y, rx, ry = values("cx", "cy", "rx", "ry")
        return ellipse(x, y, rx, ry, number(shape.get("theta", 0), "theta")), False
    if kind == "polygon":
        xs, ys = shape.get("all_points_x"), shape.get("all_points_y")
        if not isinstance(xs, list) or not isinstance(ys, list) or len(xs) != len(ys):
            raise BadRecord("polygon without its points", category)
        return [(number(x, "x"), number(y, "y")) for x, y in zip(xs, ys, strict=True)], True
    raise BadRecord("shape without area", f"{category}, a {kind}")
