"""Pascal VOC XML without lists of images: next to the images (labelImg, Roboflow) or in a separate folder."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

from ctnet.base.choices import ImageMode
from ctnet.base.errors import CtnetError
from ctnet.base.files import is_file
from ctnet.base.progress import track
from ctnet.convert.coco import IMAGE_FOLDER, ImageRecord, category_names, numbered, write_splits
from ctnet.convert.image_finder import NOT_THERE, ImageFinder, name_in_split
from ctnet.convert.report import BadRecord, ConvertReport
from ctnet.convert.sources import check_folder
from ctnet.convert.split_names import by_split
from ctnet.convert.voc import annotation_of_file, category_order, convert_voc, read_object, stated_size
from ctnet.data.images import IMAGE_SUFFIXES
from ctnet.data.layouts import head
from ctnet.data.problems import Problem, refuse

#: Also with a namespace, or in capitals.
_ANNOTATION = re.compile(r"<([\w.-]+:)?annotation\b", re.IGNORECASE)


def import_voc(
    source: str | Path, target: str | Path, images: ImageMode = "link", strict: bool = False
) -> ConvertReport:
    """Convert Pascal VOC annotations to a COCO data directory, in the benchmark's layout or any other.

    Where the source lists its images (``ImageSets/Main``), see ``convert_voc``. Otherwise every XML file
    below it belongs to an image: folders called ``train``, ``val`` and similar become splits, everything else
    is ``train``. The image is next to the file, or found by its ``<filename>``.

    Args:
        source: a folder.
        target: the data directory to write.
        images: how the images get there, see ``place_image``.
        strict: refuse the data set for its first bad record instead of skipping bad records.

    Raises:
        CtnetError: when there is no such file, or with ``strict`` when a record is bad.
    """
    source, target = Path(source), Path(target)
    check_folder(source)
    if any(source.glob("**/ImageSets/Main/*.txt")):
        return convert_voc(source, target, images, strict)
    files = [path for path in sorted(source.rglob("*.xml")) if _ANNOTATION.search(head(path))]
    if not files:
        raise CtnetError(f"{source} has no Pascal VOC annotation (XML with <annotation>) in any folder")
    problems: list[Problem] = []
    splits = {
        name: _read_split(paths, source, images != "none", problems)
        for name, paths in by_split(files, source, None).items()
    }
    if strict:
        refuse(problems, source)
    categories = category_order(set(category_names(splits)))
    described = f"converted from Pascal VOC, {source.name}"
    reports = write_splits(target, numbered(splits), categories, described, images, image_folder=IMAGE_FOLDER)
    return ConvertReport(target, reports, tuple(problems))


def _read_split(
    paths: Sequence[Path], root: Path, need_images: bool, problems: list[Problem]
) -> list[ImageRecord]:
    finder = ImageFinder(root)
    taken: dict[str, Path] = {}
    records = []
    for path in track(paths, "reading annotations"):
        where = path.relative_to(root).as_posix()
        try:
            record = _read(path, where, finder, taken, need_images, problems)
        except BadRecord as error:
            problems.append(error.at(where))
            continue
        taken[record.file_name] = record.source or path
        records.append(record)
    return records


def _read(
    path: Path,
    where: str,
    finder: ImageFinder,
    taken: dict[str, Path],
    need_image: bool,
    problems: list[Problem],
) -> ImageRecord:
    """One file.

    Raises:
        BadRecord: when the whole file is unusable.
    """
    root = annotation_of_file(path)
    stated = (root.findtext("filename") or "").strip()
    image = _image(path, stated, finder)
    if image is None and need_image:
        raise BadRecord(NOT_THERE, f"looked for {stated or path.stem} in {finder.root}")
    name = name_in_split(image or path.with_suffix(Path(stated).suffix or ".jpg"), finder.root, taken)
    width, height = stated_size(root, image)
    objects = []
    for index, element in enumerate(root.iter("object")):
        try:
            objects.append(read_object(element, width, height))
        except BadRecord as error:
            problems.append(error.at(f"{where} object {index}"))
    return ImageRecord(name, width, height, objects, image)


def _image(path: Path, stated: str, finder: ImageFinder) -> Path | None:
    """The image of a file: next to it, else of the stated name, else of its own name anywhere."""
    beside = [found for suffix in IMAGE_SUFFIXES if is_file(found := path.with_suffix(suffix))]
    exact = [found for found in beside if found.name == PurePosixPath(stated.replace("\\", "/")).name]
    if len(beside) > 1 and not exact:
        both = " and ".join(found.name for found in beside)
        raise BadRecord("several pictures of one name", f"{both}; <filename> is {stated!r}")
    if beside:
        return (exact or beside)[0]
    candidates = [stated] if stated else []
    candidates += [f"{stem}{suffix}" for stem in (stated, path.stem) if stem for suffix in IMAGE_SUFFIXES]
    for name in candidates:
        try:
            return finder.find(name)
        except BadRecord as error:
            if error.kind != NOT_THERE:
                raise
    return None
