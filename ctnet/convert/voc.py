"""Pascal VOC (XML annotations, text lists of splits) to a COCO data directory.

Source: Everingham et al., The PASCAL Visual Object Classes Challenge, development kit documentation: pixel
coordinates start at 1 and the maximum is inclusive.
"""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any

from ctnet.base.choices import ImageMode
from ctnet.base.errors import CtnetError
from ctnet.base.files import is_file, read_bytes
from ctnet.base.numbers import LARGEST_COORDINATE
from ctnet.base.progress import track
from ctnet.convert.coco import (
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
from ctnet.data.images import IMAGE_SUFFIXES, ImageError, image_size
from ctnet.data.problems import Problem, refuse


def convert_voc(
    source: str | Path, target: str | Path, images: ImageMode = "link", strict: bool = False
) -> ConvertReport:
    """Convert a Pascal VOC data set to a COCO data directory.

    A box becomes ``[xmin - 1, ymin - 1, xmax - xmin + 1, ymax - ymin + 1]``: from the outer edge of its first
    pixel to that of its last, counted from 0.

    Args:
        source: a folder with ``Annotations``, ``ImageSets/Main`` and ``JPEGImages``, or a folder of such
            folders (``VOCdevkit``): lists with the same name are then joined, which for VOC2007 and VOC2012
            gives
            the ``trainval`` of 16,551 images that the paper trains on.
        target: the data directory to write.
        images: how the images get to ``target/images``, see `ctnet.convert.coco.place_image`.
        strict: refuse the data set for its first bad record instead of skipping bad records.

    Raises:
        CtnetError: when ``source`` does not have this layout, or with ``strict`` when a record is bad.
    """
    source, target = Path(source), Path(target)
    years = [_Year.open(folder) for folder in _year_folders(source)]
    problems: list[Problem] = []
    splits = _merged_splits(years, problems)
    records = _read_records(years, splits, problems, need_images=images != "none")
    if strict:
        refuse(problems, source)
    categories = category_order({item["category"] for record in records.values() for item in record.objects})
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
    images: Mapping[str, Sequence[Path]]  # by path below JPEGImages without suffix

    @classmethod
    def open(cls, folder: Path) -> _Year:
        found = sorted((folder / "ImageSets" / "Main").glob("*.txt"))
        lists = {path.stem: path for path in found if not _is_class_list(path, folder / "Annotations")}
        if not lists:
            raise CtnetError(
                f"{folder}/ImageSets/Main lists no split; write one image name per line into its train.txt"
            )
        images: dict[str, list[Path]] = {}
        for path in image_files(folder / "JPEGImages"):
            images.setdefault(_below(path.with_suffix(""), folder), []).append(path)
        return cls(folder, lists, len(found) - len(lists), images)

    def annotation(self, name: str) -> Path:
        return self.folder / "Annotations" / f"{name}.xml"

    def image(self, name: str, stated: str) -> Path | None:
        """The image of an annotation file; None where there is none.

        Args:
            name: the name of the annotation file, without suffix.
            stated: its ``<filename>``.

        Raises:
            BadRecord: when several images have the name and ``stated`` is not one of them.
        """
        other = PurePosixPath(stated)
        stems = [name]
        if other.name:
            stems += [str(PurePosixPath(name).parent / other.stem), str(other.with_suffix(""))]
        for stem in stems:
            found = self.images.get(stem, ())
            exact = [path for path in found if path.name == other.name]
            if len(found) == 1 or len(exact) == 1:
                return (exact or found)[0]
            if found:
                names = " and ".join(path.name for path in found)
                raise BadRecord("several pictures of one name", f"{names}; <filename> is {stated!r}")
        return None


def _year_folders(source: Path) -> list[Path]:
    check_folder(source)
    for candidates in ([source], sorted(source.iterdir()), sorted(source.glob("VOCdevkit/*"))):
        folders = [folder for folder in candidates if (folder / "Annotations").is_dir()]
        if folders:
            return folders
    raise CtnetError(
        f"{source} is not a Pascal VOC data set: neither it nor a folder in it has Annotations and ImageSets"
    )


def _below(path: Path, year: Path) -> str:
    return path.relative_to(year / "JPEGImages").as_posix()


def _is_class_list(path: Path, annotations: Path) -> bool:
    """Lists such as aeroplane_train.txt say for every image whether it contains the class: -1, 0 or 1."""
    lines = [line.strip() for line in read_lines(path) if line.strip()]
    rows = [line.split() for line in lines]
    alike = bool(rows) and all(len(row) == 2 and row[1] in ("-1", "0", "1") for row in rows)
    return alike and not any(is_file(annotations / f"{line}.xml") for line in lines)  # "photo 1" is a name


def _listed_name(line: str, annotations: Path) -> str:
    """The name in a line of a list, which may have the image's suffix or Windows' separators."""
    name = str(PurePosixPath(line.strip())) if line.strip() else ""
    path = PurePosixPath(name.replace("\\", "/"))
    shorter = path.with_suffix("") if path.suffix.lower() in (*IMAGE_SUFFIXES, ".xml") else path
    spellings = (name, str(path), str(shorter))
    return next((text for text in spellings if is_file(annotations / f"{text}.xml")), name)


def _merged_splits(years: Sequence[_Year], problems: list[Problem]) -> dict[str, list[str]]:
    """Split name -> image names, in the order of the lists, years concatenated."""
    splits: dict[str, dict[str, None]] = {}
    for year in years:
        for split, path in year.lists.items():
            names = splits.setdefault(split, {})
            spelling = partial(_listed_name, annotations=year.folder / "Annotations")
            names.update(listed_names(path, problems, known=names, spelling=spelling))
    return {split: list(names) for split, names in splits.items()}


def _read_records(
    years: Sequence[_Year], splits: Mapping[str, Sequence[str]], problems: list[Problem], need_images: bool
) -> dict[str, ImageRecord]:
    """Image name -> record for images that can be read; the others are added to ``problems``."""
    listed_in: dict[str, list[str]] = {}
    for split, names in splits.items():
        for name in names:
            listed_in.setdefault(name, []).append(f"{split}.txt")
    records = {}
    for name in track(sorted(listed_in), "reading annotations"):
        owners = [year for year in years if is_file(year.annotation(name))]
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
    path = year.annotation(name)
    where = f"{name}.xml"
    try:
        root = _parse(path)
        image = year.image(name, _stated_name(root))
        if image is None and need_image:
            raise BadRecord("no file in JPEGImages", f"looked for {name}.jpg and the like")
        width, height = stated_size(root, image)
    except BadRecord as error:
        problems.append(error.at(where))
        return None
    elements = ((f"{where} object {index}", each) for index, each in enumerate(root.iter("object")))
    objects = list(read_each(elements, lambda element: read_object(element, width, height), problems))
    file_name = f"images/{_below(image, year.folder) if image else f'{name}.jpg'}"
    return ImageRecord(file_name, width, height, objects, image)


class _NoDoctype(ElementTree.TreeBuilder):
    """Refuses document types: they can define endlessly expanding entities, and VOC files have none."""

    def doctype(self, name: str, pubid: str | None, system: str | None) -> None:
        raise BadRecord("broken XML", f"it declares a document type {name}; remove that line")


def annotation_of_file(path: Path) -> ElementTree.Element:
    """The element <annotation> of a file; raises BadRecord."""
    return _annotation(_parse(path))


def _parse(path: Path) -> ElementTree.Element:
    content = read_bytes(path)
    try:
        root = ElementTree.fromstring(content, ElementTree.XMLParser(target=_NoDoctype()))
    except (ElementTree.ParseError, ValueError, LookupError) as error:  # LookupError: unknown encoding
        raise BadRecord("broken XML", str(error)) from error
    return _annotation(root)


def _annotation(root: ElementTree.Element) -> ElementTree.Element:
    """The element <annotation>, with VOC's names: without namespaces, in lower case."""
    for element in root.iter():
        if isinstance(element.tag, str):
            element.tag = element.tag.rpartition("}")[2].lower()
    found = list(root.iter("annotation"))
    if len(found) > 1:
        raise BadRecord("several annotations in one file", f"{len(found)} elements <annotation>")
    if not found and root.find("object") is None and root.find("size") is None:
        raise BadRecord("no VOC annotation", f"its root is <{root.tag}>, and there is no <annotation> in it")
    return found[0] if found else root


def _stated_name(root: ElementTree.Element) -> str:
    return (root.findtext("filename") or "").strip().replace("\\", "/")


def stated_size(root: ElementTree.Element, image: Path | None) -> tuple[int, int]:
    """Width and height stated in the file, else those of the image."""
    try:
        width, height = (int(float(root.findtext(f"size/{side}") or "")) for side in ("width", "height"))
        if 0 < width <= LARGEST_COORDINATE and 0 < height <= LARGEST_COORDINATE:
            return width, height
    except (ValueError, OverflowError):
        pass
    if image is None:
        raise BadRecord("no image size", "the file states none and the image is missing")
    try:
        return image_size(image)
    except ImageError as error:
        raise BadRecord("no image size", f"the file states none, and {error}") from error


def read_object(element: ElementTree.Element, width: int, height: int) -> dict[str, Any]:
    """One object as an annotation; raises BadRecord."""
    category = (element.findtext("name") or "").strip()
    if not category:
        raise BadRecord("object without name", "its <name> is missing or empty")
    corners = [_coordinate(element, name) for name in ("xmin", "ymin", "xmax", "ymax")]
    xmin, ymin, xmax, ymax = corners
    shown = "xmin {:g}, ymin {:g}, xmax {:g}, ymax {:g}".format(*corners)
    # A box of one pixel has xmin = xmax strictly speaking; in practice such boxes are accidental clicks.
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
    return checked_number(text, "box that is not four numbers", f"{name} is {text!r}")


def _flag(element: ElementTree.Element, name: str) -> int | None:
    text = element.findtext(name)
    return None if text is None else int(text.strip() not in ("", "0"))


def category_order(names: set[str]) -> Sequence[str]:
    return PASCAL_VOC_NAMES if names and names <= set(PASCAL_VOC_NAMES) else sorted(names)


def _notes(years: Sequence[_Year], splits: Mapping[str, Sequence[str]], images: ImageMode) -> Iterator[str]:
    skipped = sum(year.class_lists for year in years)
    if skipped:
        yield f"{skipped} lists of single classes in ImageSets/Main are not splits and were ignored"
    listed = {name for names in splits.values() for name in names}
    if len(listed) < sum(map(len, splits.values())):
        yield f"some lists share images; they name {len(listed)} different ones"
    unlisted = sum(len(year.images.keys() - listed) for year in years)
    if unlisted:
        yield f"{unlisted} images in JPEGImages are in no list and were left out"
    if images == "none":
        yield "the images were not copied; put them into the folder images of the target yourself"
