"""A data set: one split of a data directory, image by image."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from ctnet.base.errors import CtnetError
from ctnet.base.files import is_file, read_bytes, require_regular
from ctnet.base.progress import track
from ctnet.core.documents import annotation_errors, checks_records, instances_of
from ctnet.core.frames import identity_of
from ctnet.core.records import ImageInfo, Instances, Sample
from ctnet.core.task import Task, create_task, load_task_class
from ctnet.data.cache import ImageCache, check_room
from ctnet.data.coco import CocoFile
from ctnet.data.directory import (
    annotation_files,
    find_annotations,
    found_first,
    image_folders,
    spellings,
    splits,
)
from ctnet.data.entries import Entries, ImageAnnotations, ImageRecord
from ctnet.data.images import IMAGE_LIMIT, ImageError, read_image
from ctnet.data.problems import Problem, refuse
from ctnet.data.videos import Videos, repeated_identities

#: Kind of problem: the record is valid, but the task cannot use it.
UNFIT = "annotation unfit for the task"


@dataclass(frozen=True, eq=False)
class Dataset:
    """Images with their annotations, in the order of the annotation file.

    Attributes:
        coco: the annotation file.
        folders: where images are searched, in this order.
        rows: (N,) int64, the images of ``coco`` that belong to the data set.
        task: converts annotations to instances; None: only boxes and labels.
        split: its name, as found ("val2017").
        unfit: (K,) int64, annotations of ``coco`` (rows) that the task cannot use (``annotation_errors``).
        unfit_problems: the errors in them.
        cache: images that are in memory, see ``cached``.
    """

    coco: CocoFile
    folders: tuple[Path, ...]
    rows: np.ndarray
    task: Task | None = None
    split: str = ""
    unfit: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int64))
    unfit_problems: tuple[Problem, ...] = ()
    cache: ImageCache | None = None

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
            directory: holds ``annotations/`` and the images: next to it, in ``<split>/``, in
                ``images/<split>/`` or in ``images/``.
            split: "train", "val", ...; where it does not exist, its name with a year is used ("val2017").
            task: the task to read the data for; a class only selects the annotation file (an instance needs
                the categories, which are not known yet).
            prefix: the prefix of the annotation file; by default the task's own, else ``instances``, else the
                only one.
            strict: refuse a file with bad records instead of leaving them out (see ``problems``).

        Raises:
            CtnetError: when the split does not exist (naming those that do), is ambiguous or has no image,
                when the file is broken, and with ``strict`` when it has bad records.
        """
        directory = Path(directory)
        wanted = (
            [prefix] if prefix is not None else [task.layout.prefix if task is not None else "", "instances"]
        )
        file = find_annotations(directory, split, wanted, only_these=prefix is not None)
        bound = None if isinstance(task, type) else task
        dataset = cls.from_file(file.path, image_folders(directory, file.split), bound, file.split)
        if strict:
            refuse(dataset.problems, file.path)
        return dataset

    @classmethod
    def from_file(
        cls, path: str | Path, folders: Sequence[str | Path], task: Task | None = None, split: str = ""
    ) -> Dataset:
        """A data set from one COCO JSON file in any place.

        Args:
            path: the COCO JSON file.
            folders: where its images are searched.
            task: the task to read the data for.
            split: a name for it.

        Raises:
            CtnetError: when the file is broken or lists no image.
        """
        coco = CocoFile.open(path)
        if not len(coco):
            raise CtnetError(f"{path} lists no images; the split is empty")
        found = found_first([Path(folder) for folder in folders], coco.file_name(0))
        return cls(coco, found, np.arange(len(coco)), split=split).with_task(task)

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> Sample:
        """Read image ``index`` and its instances.

        Raises:
            ImageError: when the image is missing, broken or not of the size in its entry.
        """
        entries = self._entries(index)
        info = self._info(index, entries)
        image = None if self.cache is None else self.cache.get(int(self.rows[index]))
        if image is None:
            image = read_image(self.image_path(index), (info.width, info.height))
        return Sample(image, self._instances(entries), info)

    @cached_property
    def videos(self) -> Videos:
        """Which images are frames of videos: those with ``video_id`` and ``frame_id`` in their entries.

        Raises:
            CtnetError: for frames without a video, and numbers that do not order them.
        """
        return Videos.of(self.coco.raw_images(self.rows), self.coco.path)

    def pair(self, index: int, rng: np.random.Generator, reach: int) -> Sample:
        """Image ``index`` with an earlier frame of its video, where there is one of the same size.

        Args:
            index: the image.
            rng: chooses one of the frames within reach.
            reach: how many frames before it may be.

        Raises:
            ImageError: when the image cannot be read; an earlier one that cannot is left out.
        """
        sample, choices = self[index], self.videos.earlier(index, reach)
        if not choices:
            return sample
        try:
            before = self[choices[int(rng.integers(len(choices)))]]
        except ImageError:
            return sample
        return replace(sample, previous=before) if before.image.shape == sample.image.shape else sample

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
        """Warnings about records that are used, one line each."""
        coco = self.coco
        odd = np.flatnonzero(coco.odd_areas & self.usable)
        of_videos = self.videos.warnings() if self.task is not None and self.task.frames.count > 1 else []
        if not len(odd):
            return of_videos
        first = (
            f"annotation {coco.annotation_ids[odd[0]]} of image {coco.image_ids[coco.image_index[odd[0]]]}"
        )
        return [
            *of_videos,
            f"{len(odd)} annotations state an area that does not match their box (first: {first}); the area "
            "of the box is used",
        ]

    @property
    def usable(self) -> np.ndarray:
        """(A,) bool: annotations of ``coco`` that belong to this data set's images and are not left out."""
        usable = self.coco.usable & np.isin(self.coco.image_index, self.rows)
        usable[self.unfit] = False
        return usable

    def info(self, index: int) -> ImageInfo:
        """Metadata of an image; its ``record`` is parsed on first access."""
        return self._info(index, self._entries(index))

    def _info(self, index: int, entries: Entries) -> ImageInfo:
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

    def _entries(self, index: int) -> Entries:
        image = int(self.rows[index])
        return Entries(self.coco, image, self._annotation_rows(image))

    def _annotation_rows(self, image: int) -> np.ndarray:
        rows = self.coco.rows(image)
        return rows[~np.isin(rows, self.unfit)] if len(self.unfit) else rows

    def instances(self, index: int) -> Instances:
        """The objects of an image, in image pixels, with the task's columns."""
        return self._instances(self._entries(index))

    def _instances(self, entries: Entries) -> Instances:
        annotations = ImageAnnotations(entries)
        if self.task is not None:
            return instances_of(self.task, annotations, ImageRecord(lambda: entries.together[0]))
        labels = np.searchsorted(self._category_ids, annotations.category_ids)
        return Instances(annotations.boxes, labels, annotations.crowd)

    def image_path(self, index: int) -> Path:
        """The path of the image.

        Raises:
            ImageError: when it is in none of the folders.
        """
        name = self.coco.file_name(self.rows[index])
        for spelling in spellings(name):
            for folder in self.folders:
                if is_file(path := folder / spelling):
                    return path
        folders = ", ".join(str(folder) for folder in self.folders)
        raise ImageError(f"image {self.image_ids[index]} ({name}) is missing; searched {folders}")

    def fingerprint(self) -> str:
        """A hash that changes with the image files: sizes of up to 10,000 files, content of up to 64."""
        digest = hashlib.sha256()
        count = len(self)
        with_content = set(np.linspace(0, count - 1, min(count, 64)).astype(int).tolist())
        for index in sorted({*np.linspace(0, count - 1, min(count, 10_000)).astype(int).tolist()}):
            try:
                path = self.image_path(index)
                digest.update(f"{index} {require_regular(path)} ".encode())
                if index in with_content:
                    digest.update(read_bytes(path, IMAGE_LIMIT))
            except (CtnetError, OSError):  # it is reported where it is read
                digest.update(f"{index} unreadable ".encode())
        return digest.hexdigest()[:32]

    def subset(self, indices: Sequence[int] | np.ndarray) -> Dataset:
        """The data set with only these images, in the given order."""
        return replace(self, rows=self.rows[np.asarray(indices, np.int64)])

    def cached(self, copies: int = 1) -> Dataset:
        """The data set with all its images decoded and kept in memory, 3 bytes a pixel.

        An image that cannot be read is not kept; the error comes where it is used, as without a cache.

        Args:
            copies: how many processes of this machine keep the images.

        Raises:
            CtnetError: when the images do not fit into the free memory.
        """
        needed = self.decoded_bytes()
        check_room(needed, copies)
        pixels, places, start = np.empty(needed, np.uint8), {}, 0
        for index in track(range(len(self)), "reading images"):
            try:
                image = self[index].image
            except ImageError:
                continue
            pixels[start : start + image.size] = image.reshape(-1)
            places[int(self.rows[index])] = (start, *image.shape[:2])
            start += image.size
        pixels.flags.writeable = False
        return replace(self, cache=ImageCache(pixels, places))

    def decoded_bytes(self) -> int:
        """Bytes of all images, decoded."""
        sides = ((int(self.coco.heights[row]), int(self.coco.widths[row])) for row in self.rows)
        return sum(3 * height * width for height, width in sides)

    def with_task(self, task: Task | None) -> Dataset:
        """The same images for another task; annotations that it cannot use are left out and listed.

        Raises:
            CtnetError: for a task that sees two frames, when ``videos`` does.
        """
        unfit, problems = _examine(self.coco, task)
        made = replace(self, task=task, unfit=unfit, unfit_problems=problems)
        if task is not None and task.frames.count > 1:
            _ = made.videos  # bad numbers are found here, not in the middle of a training
        return made

    def as_coco(self, full: bool = False) -> dict[str, Any]:
        """The data set as a COCO dictionary for evaluators: its images and their usable annotations.

        Annotations are renumbered from 1, since evaluators take an id of 0 for "no match".

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


def _image_entry(dataset: Dataset, index: int) -> dict[str, Any]:
    info = dataset.info(index)
    return {"id": info.image_id, "file_name": info.file_name, "width": info.width, "height": info.height}


def _examine(coco: CocoFile, task: Task | None) -> tuple[np.ndarray, tuple[Problem, ...]]:
    """The annotations (rows) that a task's own checks refuse, and why."""
    if task is None or not checks_records(task):
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
        twice = _repeated(coco, task, [row for row in of_image if int(row) not in rows])
        rows += twice
        for row in twice:
            where = f"annotation {coco.annotation_ids[row]} of image {coco.image_ids[image]}"
            problems.append(Problem(UNFIT, where, "its track_id is that of an earlier object of the frame"))
    return np.array(rows, np.int64), tuple(problems)


def _repeated(coco: CocoFile, task: Task, rows: Sequence[int]) -> list[int]:
    """The annotations of an image (rows) with the identity of an earlier one; the first keeps it."""
    name = identity_of(task.fields)
    if name is None:
        return []
    field = task.fields[name]
    values = field.read(name, [raw.get(field.json) for raw in coco.raw_annotations(rows)])[name]
    repeated = repeated_identities(values)
    return [int(row) for value in repeated for row in np.asarray(rows)[values == value][1:]]


def open_splits(
    directory: str | Path, split: str | None = None, task_name: str | None = None
) -> list[Dataset]:
    """Open one split of a data directory, or all of them.

    Args:
        directory: the data directory.
        split: its name; all splits when None.
        task_name: the task whose annotations are read, and that the data sets are bound to.

    Raises:
        CtnetError: as ``Dataset.open``, and for an unknown task or one that does not accept the categories.
    """
    cls = load_task_class(task_name) if task_name else None
    if split:
        names = [split]
    elif cls is not None:
        of_task = annotation_files(Path(directory), [cls.layout.prefix])
        own = {f.split for f in of_task if f.prefix == cls.layout.prefix}
        names = sorted(own or {f.split for f in of_task})
    else:
        names = splits(directory)
    opened = [Dataset.open(directory, name, cls) for name in names]
    if task_name is None:
        return opened
    return [dataset.with_task(create_task(task_name, dataset.categories)) for dataset in opened]
