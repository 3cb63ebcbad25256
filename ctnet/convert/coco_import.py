"""Importing COCO JSON in other layouts than a data directory's: next to images, one or several files."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath
from tempfile import TemporaryDirectory
from typing import Any

from ctnet.base.choices import ImageMode
from ctnet.base.errors import CtnetError, os_error
from ctnet.base.files import read_json, write_json
from ctnet.base.progress import track
from ctnet.convert.files import place_image
from ctnet.convert.image_finder import ImageFinder
from ctnet.convert.report import BadRecord, ConvertReport, SplitReport
from ctnet.convert.shapes import check_finite
from ctnet.convert.split_names import check_split_name, one_file_per_split
from ctnet.data.coco import CocoFile
from ctnet.data.images import ImageError, image_size
from ctnet.data.json_reader import CHUNK, JsonReader
from ctnet.data.layouts import json_kind
from ctnet.data.problems import Problem, refuse

Entry = dict[str, Any]


def import_coco(
    sources: Sequence[str | Path],
    target: str | Path,
    images: ImageMode = "link",
    strict: bool = False,
    split: str | None = None,
    image_folder: str | Path | None = None,
) -> ConvertReport:
    """Make a data directory from COCO JSON files in any layout.

    Every key of images, annotations and categories is kept; missing sizes are read from the images. A file's
    split is taken from its name or its folder (``instances_val2017.json``, ``valid/_annotations.coco.json``),
    else it is ``train``. Images are searched next to the file, in the usual folders, and finally by their
    name anywhere in the source.

    Args:
        sources: COCO JSON files, or folders that hold some.
        target: the data directory to write; images go to ``images/<split>``.
        images: how the images get there, see `ctnet.convert.coco.place_image`; with "none", images in
            ``target`` are found where they are.
        strict: refuse the data set for its first bad record instead of skipping bad records.
        split: join all files into this split, with new ids.
        image_folder: where the images are, if not near the files.

    Raises:
        CtnetError: when there is no such file, when two files could be the same split, when a file cannot be
            read, or with ``strict`` when a record is bad.
    """
    target = Path(target)
    problems: list[Problem] = []
    notes: list[str] = []
    files = _find_files([Path(source) for source in sources], split, notes)
    splits = [
        _read_split(name, found, image_folder, (target, images), problems) for name, found in files.items()
    ]
    if strict:
        refuse(problems, ", ".join(map(str, sources)))
    splits = _with_common_categories(splits, notes)
    for each in splits:
        for entry, source in track(each.images, f"placing images of {each.name}"):
            if source is not None:
                place_image(source, target / "images" / each.name / entry["file_name"], images)
    reports = tuple(_write(each, target) for each in splits)
    return ConvertReport(target, reports, tuple(problems), tuple(notes))


@dataclass
class _Split:
    """The content of one annotation file. Annotations have ``category``, a name, for ``category_id``."""

    name: str
    images: list[tuple[Entry, Path | None]] = field(default_factory=list)
    annotations: list[Entry] = field(default_factory=list)
    categories: list[Entry] = field(default_factory=list)


# --- the files


@dataclass(frozen=True)
class _File:
    path: Path
    root: Path  # the given folder, or the file's own


def _find_files(sources: Sequence[Path], split: str | None, notes: list[str]) -> dict[str, list[_File]]:
    """Split name -> its files."""
    files: list[_File] = []
    for source in sources:
        if source.is_dir():
            files += [_File(path, source) for path in _coco_files(source, notes)]
        elif source.is_file():
            files.append(_File(source, source.parent))
        else:
            raise CtnetError(f"cannot convert {source}: it does not exist")
    if not files:
        raise CtnetError(f"no COCO JSON file (images, annotations, categories) in {_listed(sources)}")
    if split is not None:
        check_split_name(split, "--split")
        return {split: files}
    splits = one_file_per_split([(file.path, file.root) for file in files])
    return {name: [_File(*found)] for name, found in splits.items()}


def _coco_files(folder: Path, notes: list[str]) -> list[Path]:
    found = [path for path in sorted(folder.rglob("*.json")) if path.is_file()]
    fitting = [path for path in found if json_kind(path) == "COCO"]
    if others := [path for path in found if path not in fitting]:
        first = others[0].relative_to(folder)
        notes.append(f"{len(others)} JSON files are not COCO annotations and were not read (first: {first})")
    return fitting


def _listed(sources: Sequence[Path]) -> str:
    return ", ".join(map(str, sources))


# --- reading


def _read_split(
    name: str,
    files: Sequence[_File],
    image_folder: str | Path | None,
    place: tuple[Path, ImageMode],
    problems: list[Problem],
) -> _Split:
    split = _Split(name)
    for file in files:
        finder = _finder(file, name, image_folder)
        with TemporaryDirectory() as folder:
            coco = CocoFile.open(_with_sizes(file.path, finder, Path(folder), problems), cache=False)
            if not len(coco):
                raise CtnetError(f"{file.path} lists no images that exist")
            problems += [replace(problem, where=f"{file.path}: {problem.where}") for problem in coco.problems]
            _append(split, coco, finder, place, (problems, file.path), renumber=len(files) > 1)
    return split


def _with_sizes(path: Path, finder: ImageFinder, folder: Path, problems: list[Problem]) -> Path:
    """The file itself; where some of its images have no size, a copy with sizes read from the images."""
    if not any("width" not in entry or "height" not in entry for entry in _image_entries(path)):
        return path
    document = read_json(path, finite=True)
    sized = []
    for entry in document["images"]:
        where = f"{path}: image {entry.get('id')}"
        try:
            width, height = image_size(finder.find(str(entry.get("file_name"))))
            sized.append({**entry, "width": width, "height": height})
        except BadRecord as error:
            problems.append(error.at(where))
        except ImageError as error:
            problems.append(Problem("unreadable file", where, str(error)))
    copy = folder / path.name
    write_json(copy, {**document, "images": sized}, indent=None)
    return copy


def _image_entries(path: Path) -> Iterator[Entry]:
    """The images of a file; empty where the list is invalid (CocoFile reports that)."""
    try:
        stream = path.open("rb")
    except OSError as error:
        raise os_error(error, "read", path) from error
    with stream:
        reader = JsonReader(iter(lambda: stream.read(CHUNK), b""), path)
        if reader.peek() != "{":
            return
        for key in reader.entries():
            if key in ("images", "annotations") and reader.peek() == "[":
                for value, _, _ in reader.items(key, skim=True):
                    if key == "images" and isinstance(value, dict):
                        yield value
            else:
                reader.value()


def _finder(file: _File, split: str, image_folder: str | Path | None) -> ImageFinder:
    if image_folder is not None:
        root = Path(image_folder)
        if not root.is_dir():
            raise CtnetError(f"{root} is not a folder of images")
        return ImageFinder(root, [root / split, root / "images"])
    usual = file.root.name == "annotations"  # a file of a data directory, or of a similar layout
    root = file.root.parent if usual else file.root
    parent = file.path.parent
    near = [root] if parent == root else [parent, parent.parent]
    inner = ("", split, f"images/{split}", "images", "data", file.path.stem)
    return ImageFinder(root, [folder / name for folder in near for name in inner])


def _append(
    split: _Split,
    coco: CocoFile,
    finder: ImageFinder,
    place: tuple[Path, ImageMode],
    found: tuple[list[Problem], Path],
    renumber: bool,
) -> None:
    """Add a file's images with usable annotations, and its categories; ``found`` gets the problems."""
    problems, path = found
    names = {int(category["id"]): str(category["name"]) for category in coco.categories}
    known = {str(category["name"]) for category in split.categories}
    split.categories += [category for category in coco.categories if str(category["name"]) not in known]
    taken = {entry["file_name"]: source for entry, source in split.images}
    for image, raw in enumerate(coco.raw_images(range(len(coco)))):
        where = f"{path}: image {coco.image_ids[image]}"
        try:
            check_finite(raw)
            file_name, source = _place_of(coco.file_name(image), finder, place, taken, split.name)
        except BadRecord as error:
            problems.append(error.at(where))
            continue
        taken[file_name] = source
        image_id = len(split.images) + 1 if renumber else int(coco.image_ids[image])
        split.images.append((raw | {"id": image_id, "file_name": file_name}, source))
        rows = coco.rows(image)
        for row, annotation in zip(rows.tolist(), coco.raw_annotations(rows), strict=True):
            try:
                check_finite(annotation)
            except BadRecord as error:
                problems.append(error.at(f"{path}: annotation {coco.annotation_ids[row]}"))
                continue
            number = len(split.annotations) + 1 if renumber else int(coco.annotation_ids[row])
            own = {"id": number, "image_id": image_id, "category": names[int(coco.category_ids[row])]}
            split.annotations.append(annotation | own)


def _place_of(
    name: str,
    finder: ImageFinder,
    place: tuple[Path, ImageMode],
    taken: Mapping[str, Path | None],
    split: str,
) -> tuple[str, Path | None]:
    """An image's name below ``images/<split>`` of the target, and its current path.

    Raises:
        BadRecord: when it does not exist, or another image has its name.
    """
    target, mode = place
    parts = PurePosixPath(name.replace("\\", "/")).parts
    inside = [part for part in parts if part not in ("/", "..") and ":" not in part]
    plain = str(PurePosixPath(*inside)) if len(inside) == len(parts) else (inside or [name])[-1]
    if mode == "none":
        try:
            source = finder.find(name)
        except BadRecord:
            return plain, None
        # Images that are already in the target are found there.
        return (source.relative_to(target).as_posix() if source.is_relative_to(target) else plain), None
    source = finder.find(name)
    if taken.get(plain) not in (None, source):
        plain = source.relative_to(finder.root).as_posix() if source.is_relative_to(finder.root) else plain
    if taken.get(plain) not in (None, source):
        raise BadRecord("file name of another image", f"{name}; {split} has one from {taken[plain]}")
    return plain, source


# --- categories, and writing


def _with_common_categories(splits: Sequence[_Split], notes: list[str]) -> list[_Split]:
    """The splits with a common list of categories: their own ids where these agree, else ids from 1."""
    by_name: dict[str, Entry] = {}
    ids: dict[int, str] = {}
    agree = True
    for category in (category for split in splits for category in split.categories):
        name, number = str(category["name"]), int(category["id"])
        agree &= int(by_name.setdefault(name, category)["id"]) == number
        agree &= ids.setdefault(number, name) == name
    for group in _groups(splits, list(by_name.values())):
        notes.append(f"category {group!r} only groups others and has no objects; it was left out")
        del by_name[group]
    categories = list(by_name.values())
    if not agree:
        notes.append("the files number their categories differently; they were renumbered from 1")
        categories = [{**category, "id": number} for number, category in enumerate(categories, start=1)]
    for split in splits:
        split.categories = categories
    return list(splits)


def _groups(splits: Sequence[_Split], categories: Sequence[Entry]) -> list[str]:
    """Categories that are the supercategory of another one and that no annotation has."""
    used = {annotation["category"] for split in splits for annotation in split.annotations}
    above = {str(c.get("supercategory")) for c in categories if c.get("supercategory") != c["name"]}
    return [name for name in (str(c["name"]) for c in categories) if name in above and name not in used]


def _write(split: _Split, target: Path) -> SplitReport:
    ids = {str(category["name"]): int(category["id"]) for category in split.categories}
    counts: Counter[str] = Counter()
    for annotation in split.annotations:
        name = annotation.pop("category")
        annotation["category_id"] = ids[name]
        counts[name] += not annotation.get("iscrowd")
    content = {
        "info": {"description": "converted from COCO JSON"},
        "images": [entry for entry, _ in split.images],
        "annotations": split.annotations,
        "categories": split.categories,
    }
    write_json(target / "annotations" / f"instances_{split.name}.json", content, indent=None)
    return SplitReport(split.name, len(split.images), {name: counts[name] for name in ids})
