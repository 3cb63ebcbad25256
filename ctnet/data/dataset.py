"""A data set: one split of a data directory, image by image."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from ctnet.base.errors import CtnetError
from ctnet.base.files import is_file, read_bytes
from ctnet.base.progress import track
from ctnet.core.documents import annotation_errors, instances_of, is_choosy
from ctnet.core.records import ImageInfo, Instances, Sample
from ctnet.core.task import Task, create_task, load_task_class
from ctnet.data.coco import CocoFile
from ctnet.data.images import IMAGE_LIMIT, ImageError, read_image
from ctnet.data.layouts import advice
from ctnet.data.problems import Problem, refuse

#: Kind of problem: the record is sound, but the task cannot use it.
UNFIT = "annotation unfit for the task"


@dataclass(frozen=True, eq=False)
class Dataset:
    """Images with their annotations, in the order of the annotation file.

    Attributes:
        coco: the annotation file.
        folders: where images are looked for, in this order.
        rows: (N,) int64, the images of ``coco`` that belong to the data set.
        task: makes instances of annotations; None: boxes and labels alone.
        split: its name, as found ("val2017").
        unfit: (K,) int64, annotations of ``coco`` (rows) that the task cannot use (``annotation_errors``).
        unfit_problems: what is wrong with them.
    """

    coco: CocoFile
    folders: tuple[Path, ...]
    rows: np.ndarray
    task: Task | None = None
    split: str = ""
    unfit: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int64))
    unfit_problems: tuple[Problem, ...] = ()

    @classmethod
    def open(
        cls,
        directory: str | Path,
        split: str,
        task: Task | type[Task] | None = None,
        prefix: str | None = None,
        strict: bool = False,
    ) -> Dataset:
        """Open ``annotations/<prefix>_<split>.json`` of a data directory.

        Args:
            directory: holds ``annotations/`` and the images: beside it, in ``<split>/``, in
                ``images/<split>/`` or in ``images/``.
            split: "train", "val", ...; where it does not exist, its name with a year is taken ("val2017").
            task: what the data is for; a class only says which annotations (its instance needs the
                categories, which are not known yet).
            prefix: which annotations; by default the task's own, else ``instances``, else the only ones.
            strict: refuse a file with bad records instead of leaving them out (see ``problems``).

        Raises:
            CtnetError: when the split does not exist (naming those that do), is ambiguous or has no image,
                when the file is broken, and with ``strict`` when it has bad records.
        """
        directory = Path(directory)
        wanted = (
            [prefix] if prefix is not None else [task.layout.prefix if task is not None else "", "instances"]
        )
        file = _find(directory, split, wanted, only_these=prefix is not None)
        bound = None if isinstance(task, type) else task
        dataset = cls.from_file(file.path, image_folders(directory, file.split), bound, file.split)
        if strict:
            refuse(dataset.problems, file.path)
        return dataset

    @classmethod
    def from_file(
        cls, path: str | Path, folders: Sequence[str | Path], task: Task | None = None, split: str = ""
    ) -> Dataset:
        """A data set from one COCO JSON file, wherever it lies.

        Args:
            path: the COCO JSON file.
            folders: where its images are looked for.
            task: what the data is for.
            split: a name for it.

        Raises:
            CtnetError: when the file is broken or lists no image.
        """
        coco = CocoFile.open(path)
        if not len(coco):
            raise CtnetError(f"{path} lists no images; the split is empty")
        found = _found_first([Path(folder) for folder in folders], coco.file_name(0))
        return cls(coco, found, np.arange(len(coco)), split=split).with_task(task)

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> Sample:
        """Read image ``index`` and its instances.

        Raises:
            ImageError: when the image is missing, broken or not of the size that its entry says.
        """
        entries = self._entries(index)
        info = self._info(index, entries)
        image = read_image(self.image_path(index), (info.width, info.height))
        return Sample(image, self._instances(entries), info)

    @property
    def categories(self) -> list[dict[str, Any]]:
        """As in the annotation file."""
        return self.coco.categories

    @property
    def image_ids(self) -> np.ndarray:
        """(N,) int64."""
        ids: np.ndarray = self.coco.image_ids[self.rows]
        return ids

    @property
    def problems(self) -> list[Problem]:
        """The records of the annotation file that are left out."""
        return [*self.coco.problems, *self.unfit_problems]

    @property
    def warnings(self) -> list[str]:
        """What a user should know of records that are used, a line each."""
        coco = self.coco
        odd = np.flatnonzero(coco.odd_areas & self.usable)
        if not len(odd):
            return []
        first = (
            f"annotation {coco.annotation_ids[odd[0]]} of image {coco.image_ids[coco.image_index[odd[0]]]}"
        )
        return [
            f"{len(odd)} annotations state an area that does not fit their box (first: {first}); "
            "the area of the box is taken"
        ]

    @property
    def usable(self) -> np.ndarray:
        """(A,) bool: which annotations of ``coco`` are those of this data set's images and not left out."""
        usable = self.coco.usable & np.isin(self.coco.image_index, self.rows)
        usable[self.unfit] = False
        return usable

    def info(self, index: int) -> ImageInfo:
        """What is known of an image; its ``record`` is parsed when first looked into."""
        return self._info(index, self._entries(index))

    def _info(self, index: int, entries: _Entries) -> ImageInfo:
        image = self.rows[index]
        return ImageInfo(
            image_id=int(self.coco.image_ids[image]),
            file_name=self.coco.file_name(image),
            width=int(self.coco.widths[image]),
            height=int(self.coco.heights[image]),
            record=ImageRecord(entries.image),
        )

    def annotations(self, index: int) -> ImageAnnotations:
        """The usable annotations of an image."""
        return ImageAnnotations(self._entries(index))

    def _entries(self, index: int) -> _Entries:
        image = int(self.rows[index])
        return _Entries(self.coco, image, self._annotation_rows(image))

    def _annotation_rows(self, image: int) -> np.ndarray:
        rows = self.coco.rows(image)
        return rows[~np.isin(rows, self.unfit)] if len(self.unfit) else rows

    def instances(self, index: int) -> Instances:
        """The objects of an image, in image pixels, as the task sees them."""
        return self._instances(self._entries(index))

    def _instances(self, entries: _Entries) -> Instances:
        annotations = ImageAnnotations(entries)
        if self.task is not None:
            return instances_of(self.task, annotations, ImageRecord(lambda: entries.together[0]))
        labels = np.searchsorted(self._category_ids, annotations.category_ids)
        return Instances(annotations.boxes, labels, annotations.crowd)

    def image_path(self, index: int) -> Path:
        """Where the image lies.

        Raises:
            ImageError: when it is in none of the folders.
        """
        name = self.coco.file_name(self.rows[index])
        for spelling in _spellings(name):
            for folder in self.folders:
                if is_file(path := folder / spelling):
                    return path
        folders = ", ".join(str(folder) for folder in self.folders)
        raise ImageError(f"image {self.image_ids[index]} ({name}) is missing; looked in {folders}")

    def fingerprint(self) -> str:
        """Tells whether image files were exchanged: sizes of up to 10,000 files, content of up to 64."""
        digest = hashlib.sha256()
        count = len(self)
        with_content = set(np.linspace(0, count - 1, min(count, 64)).astype(int).tolist())
        for index in sorted({*np.linspace(0, count - 1, min(count, 10_000)).astype(int).tolist()}):
            try:
                path = self.image_path(index)
                digest.update(f"{index} {path.stat().st_size} ".encode())
                if index in with_content:
                    digest.update(read_bytes(path, IMAGE_LIMIT))
            except (CtnetError, OSError):  # it is listed where it is read
                digest.update(f"{index} unreadable ".encode())
        return digest.hexdigest()[:32]

    def subset(self, indices: Sequence[int] | np.ndarray) -> Dataset:
        """The data set of some images alone, in the given order."""
        return replace(self, rows=self.rows[np.asarray(indices, np.int64)])

    def with_task(self, task: Task | None) -> Dataset:
        """The same images, seen by another task; annotations that it cannot use are left out and listed."""
        unfit, problems = _examine(self.coco, task)
        return replace(self, task=task, unfit=unfit, unfit_problems=problems)

    def as_coco(self, full: bool = False) -> dict[str, Any]:
        """The data set as the COCO dictionary that evaluators take: its images, their usable annotations.

        Annotations are numbered anew from 1, since evaluators take an id of 0 for "no match".

        Args:
            full: keep every field of the entries (keypoints, polygons), which are then parsed from the file.
        """
        coco = self.coco
        per_image = [self._annotation_rows(image) for image in self.rows]
        rows = np.concatenate(per_image) if per_image else np.zeros(0, int)
        columns = zip(
            coco.image_ids[coco.image_index[rows]].tolist(),
            coco.category_ids[rows].tolist(),
            coco.boxes[rows].tolist(),
            coco.areas[rows].tolist(),
            coco.crowd[rows].tolist(),
            strict=True,
        )
        annotations: list[dict[str, Any]] = [
            {
                "id": number,
                "image_id": image_id,
                "category_id": category_id,
                "bbox": box,
                "area": area,
                "iscrowd": int(crowd),
            }
            for number, (image_id, category_id, box, area, crowd) in enumerate(columns, start=1)
        ]
        images = [_image_entry(self, index) for index in range(len(self))]
        if full:
            entries = coco.raw_images(self.rows)
            images = [{**entry, **image} for entry, image in zip(entries, images, strict=True)]
            raws = coco.raw_annotations(rows)
            annotations = [{**raw, **annotation} for raw, annotation in zip(raws, annotations, strict=True)]
        return {"info": {}, "images": images, "annotations": annotations, "categories": self.categories}

    @cached_property
    def _category_ids(self) -> np.ndarray:
        return np.sort([int(category["id"]) for category in self.categories])


class _Entries:
    """An image's entry of the file and its usable annotations, read when first looked into.

    The file is opened once for all that a task reads of an image: opening costs more than parsing an entry.
    """

    def __init__(self, coco: CocoFile, image: int, rows: np.ndarray) -> None:
        self.coco, self.rows = coco, rows
        self._image = image

    @cached_property
    def together(self) -> tuple[dict[str, Any], list[dict[str, Any]]]:
        """The image's entry, and the annotations."""
        return self.coco.raw_entries(self._image, self.rows)

    def image(self) -> dict[str, Any]:
        """The image's entry; where nobody looks at the annotations, these are not parsed."""
        parsed = self.__dict__.get("together")
        return parsed[0] if parsed is not None else self.coco.raw_image(self._image)


class ImageAnnotations(Sequence[Mapping[str, Any]]):
    """The usable annotations of one image: the file's own dictionaries, parsed only when asked for.

    Attributes:
        boxes: (N, 4) float32, xyxy, image pixels.
        category_ids: (N,) int64, as in the file.
        crowd: (N,) bool.
        areas: (N,) float64, square pixels, as in the file.
    """

    def __init__(self, entries: _Entries) -> None:
        self._entries = entries
        coco, rows = entries.coco, entries.rows
        boxes = coco.boxes[rows]
        boxes[:, 2:] += boxes[:, :2]
        self.boxes = boxes.astype(np.float32)
        self.category_ids = coco.category_ids[rows]
        self.crowd = coco.crowd[rows]
        self.areas = coco.areas[rows]

    def __len__(self) -> int:
        return len(self._entries.rows)

    def __getitem__(self, index: Any) -> Any:
        return self._entries.together[1][index]

    def __iter__(self) -> Iterator[Mapping[str, Any]]:
        return iter(self._entries.together[1])


class ImageRecord(Mapping[str, Any]):
    """One image's entry of the file, parsed when first looked into; pickled as the entry itself."""

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


def _image_entry(dataset: Dataset, index: int) -> dict[str, Any]:
    info = dataset.info(index)
    return {"id": info.image_id, "file_name": info.file_name, "width": info.width, "height": info.height}


def _examine(coco: CocoFile, task: Task | None) -> tuple[np.ndarray, tuple[Problem, ...]]:
    """Ask a task that is choosy about every annotation: rows that it refuses, and why."""
    if task is None or not is_choosy(task):
        return np.zeros(0, np.int64), ()
    rows, problems = [], []
    images = track(range(len(coco)), "examining annotations")
    for image, record in zip(images, coco.raw_images(range(len(coco))), strict=True):
        of_image = coco.rows(image)
        for row, annotation in zip(of_image, coco.raw_annotations(of_image), strict=True):
            if errors := annotation_errors(task, annotation, record):
                where = f"annotation {coco.annotation_ids[row]} of image {coco.image_ids[image]}"
                rows.append(int(row))
                problems.append(Problem(UNFIT, where, "; ".join(errors)))
    return np.array(rows, np.int64), tuple(problems)


def splits(directory: str | Path) -> list[str]:
    """The splits that a data directory has, sorted.

    Raises:
        CtnetError: when it has no ``annotations`` folder with a JSON file.
    """
    return sorted({file.split for file in _annotation_files(Path(directory), [])})


def open_splits(
    directory: str | Path, split: str | None = None, task_name: str | None = None
) -> list[Dataset]:
    """Open one split of a data directory, or all of them.

    Args:
        directory: the data directory.
        split: its name; all splits when None.
        task_name: the task whose annotations are wanted, and that the data sets are bound to.

    Raises:
        CtnetError: as ``Dataset.open``, and for an unknown task or one that cannot take the categories.
    """
    cls = load_task_class(task_name) if task_name else None
    if split:
        names = [split]
    elif cls is not None:
        of_task = _annotation_files(Path(directory), [cls.layout.prefix])
        own = {f.split for f in of_task if f.prefix == cls.layout.prefix}
        names = sorted(own or {f.split for f in of_task})
    else:
        names = splits(directory)
    opened = [Dataset.open(directory, name, cls) for name in names]
    if task_name is None:
        return opened
    return [dataset.with_task(create_task(task_name, dataset.categories)) for dataset in opened]


# --- finding files


class MissingSplit(CtnetError):
    """A data directory has no split of the wanted name."""


@dataclass(frozen=True)
class AnnotationFile:
    """``annotations/<prefix>_<split>.json`` of a data directory."""

    prefix: str
    split: str
    path: Path


def annotation_files(directory: Path, split: str | None = None) -> list[AnnotationFile]:
    """All annotation files of a split, ``instances`` first.

    Args:
        directory: the data directory.
        split: its name; by default the only one.

    Raises:
        CtnetError: when there is no such split, or several and none is named.
    """
    have = splits(directory)
    if split is None and len(have) > 1:
        raise CtnetError(f"{directory} has the splits {', '.join(have)}; say which one with --split")
    wanted = split or have[0]
    first = [file for file in _annotation_files(directory, []) if file.split == wanted]
    if not first:
        raise MissingSplit(f"{directory} has no split {wanted!r}; it has {', '.join(have)}")
    return sorted(first, key=lambda file: (file.prefix != "instances", file.prefix))


def _annotation_files(directory: Path, prefixes: Sequence[str]) -> list[AnnotationFile]:
    """All of them; a split's name has an underscore only behind one of ``prefixes``."""
    paths = sorted((directory / "annotations").glob("*.json"))
    if not paths:
        if found := advice(directory):
            raise CtnetError(f"{directory} is not a data directory; {found}")
        reason = "has no JSON file in annotations/" if directory.is_dir() else "is not a folder"
        raise CtnetError(
            f"{directory} {reason}; a data directory holds annotations/<prefix>_<split>.json and images "
            "(ctnet convert makes one)"
        )
    files = []
    for path in paths:
        known = [name for name in (*prefixes, "instances") if name and path.stem.startswith(f"{name}_")]
        prefix = known[0] if known else path.stem.rpartition("_")[0]
        files.append(AnnotationFile(prefix, path.stem[len(prefix) :].removeprefix("_"), path))
    return files


def _find(directory: Path, split: str, prefixes: Sequence[str], only_these: bool) -> AnnotationFile:
    files = _annotation_files(directory, prefixes)
    for prefix in prefixes:
        if found := _of_split([file for file in files if file.prefix == prefix], split, directory):
            return found[0]
    found = [] if only_these else _of_split(files, split, directory)
    if len(found) > 1:
        names = ", ".join(file.path.name for file in found)
        raise CtnetError(
            f"split {split!r} of {directory} has several annotation files: {names}; name a prefix"
        )
    if found:
        return found[0]
    have = ", ".join(sorted({file.split for file in files if not only_these or file.prefix in prefixes}))
    of_prefix = f" with prefix {prefixes[0]!r}" if only_these else ""
    raise MissingSplit(f"{directory} has no split {split!r}{of_prefix}; it has {have or 'none'}")


def _of_split(files: Sequence[AnnotationFile], split: str, directory: Path) -> list[AnnotationFile]:
    """Those of exactly this split, otherwise those of its one name with a year."""
    exact = [file for file in files if file.split == split]
    if exact:
        return exact
    dated = [file for file in files if re.fullmatch(re.escape(split) + r"\d+", file.split)]
    names = sorted({file.split for file in dated})
    if len(names) > 1:
        raise CtnetError(f"split {split!r} of {directory} could be {' or '.join(names)}; name one of them")
    return dated


def image_folders(directory: Path, split: str) -> list[Path]:
    """Where the images of a split are looked for."""
    return [directory, directory / split, directory / "images" / split, directory / "images"]


def _found_first(folders: Sequence[Path], name: str) -> tuple[Path, ...]:
    """Look first where the first image lies: one look-up an image instead of several."""
    return tuple(sorted(folders, key=lambda folder: not any(is_file(folder / s) for s in _spellings(name))))


def _spellings(name: str) -> tuple[str, ...]:
    """A file name as it is and, where Windows wrote the file, as other systems write it."""
    return (name, name.replace("\\", "/")) if "\\" in name else (name,)
