"""Splitting an annotation file by image: classes divided in proportion, groups kept together."""

from __future__ import annotations

import json
import shlex
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from os.path import isfile  # unlike Path's, False for a name that is too long
from pathlib import Path
from typing import Any

import numpy as np

from ctnet.base.errors import CtnetError, os_error
from ctnet.base.files import atomic_write, to_json
from ctnet.base.packs import is_pack
from ctnet.data.coco import CocoFile
from ctnet.data.dataset import Dataset
from ctnet.data.directory import AnnotationFile, files_of_split, image_folders
from ctnet.data.directory import splits as splits_of
from ctnet.data.images import ImageError
from ctnet.data.json_reader import CHUNK, JsonReader
from ctnet.data.problems import Problem
from ctnet.data.stratify import stratify

WHOLE = "all"
"""The new name of the split that was divided, where its name is needed for one of its parts."""

NOT_OF_AN_IMAGE = ("unknown image", "duplicate image id")
"""Kinds of problems whose records belong to no image and hence to no part."""


@dataclass(frozen=True)
class SplitPart:
    """One split that was written.

    Attributes:
        name: the split.
        path: its annotation file.
        images: number of images.
        objects: number of objects (without crowd regions) by category name.
    """

    name: str
    path: Path
    images: int
    objects: dict[str, int]


@dataclass(frozen=True)
class Splitting:
    """The result of ``split_dataset``.

    Attributes:
        source: the split that was divided.
        parts: the splits that were written.
        problems: records that are in no part.
        notes: anything else that the user should know.
    """

    source: str
    parts: tuple[SplitPart, ...]
    problems: tuple[Problem, ...]
    notes: tuple[str, ...]

    def as_dict(self) -> dict[str, Any]:
        """As JSON values."""
        return {
            "source": self.source,
            "splits": [
                {
                    "name": part.name,
                    "file": str(part.path),
                    "images": part.images,
                    "objects": sum(part.objects.values()),
                    "objects_by_category": part.objects,
                }
                for part in self.parts
            ],
            "problems": [{"kind": p.kind, "where": p.where, "what": p.what} for p in self.problems],
            "notes": list(self.notes),
        }


@dataclass(frozen=True)
class Division:
    """How to divide a split.

    Attributes:
        val, test: fractions of the images, 0 for none; the rest is for training.
        folds: number of folds into which everything but test is divided, instead of train and val: ``train0``
            and ``val0``, ``train1`` and ``val1``, ...; 0 for none.
        group: a key of the images' entries; images with the same value stay together.
        seed: seed of the random division.
    """

    val: float = 0.0
    test: float = 0.0
    folds: int = 0
    group: str | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        for name, share in (("val", self.val), ("test", self.test)):
            if not 0 <= share < 1:
                raise CtnetError(f"--{name} is {share:g}; it must be a fraction of the images, such as 0.2")
        if self.folds and self.val:
            raise CtnetError("--folds creates its own validation splits; leave out --val")
        if not self.folds and not self.val and not self.test:
            raise CtnetError("choose how to divide: --val 0.2, --val 0.2 --test 0.1, or --folds 5")
        if self.folds == 1 or self.folds < 0:
            raise CtnetError(f"--folds is {self.folds}; at least 2 are needed")
        if self.val + self.test >= 1:
            raise CtnetError(f"--val {self.val:g} and --test {self.test:g} leave nothing to train on")

    @property
    def shares(self) -> list[float]:
        """The fractions of the images for each part: folds or train and val, then test."""
        rest = 1 - self.test
        own = [rest / self.folds] * self.folds if self.folds else [rest - self.val, self.val]
        return [*own, self.test]

    def splits(self, part: np.ndarray) -> dict[str, np.ndarray]:
        """Split name -> its images.

        Args:
            part: (N,) the index in ``shares`` of each image's part.
        """
        test = part == len(self.shares) - 1
        if self.folds:
            named = {}
            for fold in range(self.folds):
                named[f"train{fold}"] = ~test & (part != fold)
                named[f"val{fold}"] = part == fold
        else:
            named = {"train": part == 0, "val": part == 1}
        wanted = {name: mask for name, mask in named.items() if name != "val" or self.val}
        if self.test:
            wanted["test"] = test
        return {name: np.flatnonzero(mask) for name, mask in wanted.items()}


def split_dataset(
    directory: str | Path, division: Division, split: str | None = None, force: bool = False
) -> Splitting:
    """Write annotation files of new splits next to the original one; images are not moved.

    Each class's images are divided in proportion (iterative stratification), and so are images without
    objects. Every key of the file is kept.

    Args:
        directory: the data directory.
        division: how to divide.
        split: the split to divide; by default the only one.
        force: replace existing annotation files. That of the divided split itself is never lost: where its
            name is needed for a part, it is kept as ``all``.

    Raises:
        CtnetError: when there are several splits and none is named, too few images or groups, files that
            would be replaced, or images without the ``group`` key.
    """
    directory = Path(directory)
    if is_pack(directory):
        raise CtnetError(f"{directory} is a pack, which is only read; divide the data before packing it")
    first, *others = files_of_split(directory, split)
    dataset = Dataset.from_file(first.path, image_folders(directory, first.split), split=first.split)
    notes: list[str] = []
    splits = division.splits(parts_of(dataset, division, notes))
    if empty := next((name for name, rows in splits.items() if not len(rows)), None):
        raise CtnetError(f"{first.path} has too few images or groups: {empty} would be empty")
    names = _paths_from(dataset, directory, notes)
    lost = [problem for problem in dataset.coco.problems if problem.kind in NOT_OF_AN_IMAGE]
    documents = _documents(dataset.coco, first, splits, names)
    for other in others:
        coco, rows = _same_images(dataset.coco, CocoFile.open(other.path), splits)
        documents |= _documents(coco, other, rows, names)
    _refuse_to_replace(documents, [first, *others], force)
    contents = {path: _content(document, first.path) for path, document in documents.items()}
    for file in (first, *others):
        if file.path in documents:
            whole = _path_of(file, WHOLE)
            notes.append(f"{file.path.name} is now {whole.name}: it lists all images, as before")
            _rename(file.path, whole)
    for path, content in contents.items():
        with atomic_write(path, "w") as stream:
            stream.write(content)
    parts = tuple(
        SplitPart(name, path, len(document["images"]), _counts(document))
        for (name, path), document in zip(_names_and_paths(first, splits), documents.values(), strict=False)
    )
    return Splitting(first.split, parts, tuple(lost), tuple(notes))


def split_command(directory: Path) -> str:
    """The command line that splits off a validation set of a data directory."""
    have = splits_of(directory)
    source = "train" if "train" in have else have[0]
    words = ["ctnet", "data", "split", str(directory), "--val", "0.2"]
    words += ["--split", source] if len(have) > 1 else []
    return shlex.join(words)


# --- assigning images


def parts_of(dataset: Dataset, division: Division, notes: list[str]) -> np.ndarray:
    """(N,) int64: the index in ``Division.shares`` of each image's part, for all images of the file.

    Args:
        dataset: all images of an annotation file.
        division: how to divide them.
        notes: receives what the user should know about groups.

    Raises:
        CtnetError: when no image has the key of the groups.
    """
    coco = dataset.coco
    ids = [int(category["id"]) for category in dataset.categories]
    labels = np.zeros((len(coco), len(ids) + 2))
    shown = coco.usable & ~coco.crowd
    for column, number in enumerate(ids):
        labels[coco.image_index[shown & (coco.category_ids == number)], column] = 1
    labels[:, -2] = ~labels.any(axis=1)  # images without objects are divided in proportion too
    labels[:, -1] = 1
    groups = np.arange(len(coco)) if division.group is None else _groups(coco, division.group, notes)
    together = np.zeros((groups.max() + 1, labels.shape[1]))
    np.add.at(together, groups, labels)
    rng = np.random.default_rng(division.seed)
    parts: np.ndarray = stratify(together, division.shares, rng)[groups]
    return parts


def _groups(coco: CocoFile, field: str, notes: list[str]) -> np.ndarray:
    """(N,) the number of each image's group; an image without the key is a group of its own."""
    numbers: dict[str, int] = {}
    groups, alone = [], 0
    fields: set[str] = set()
    for row, entry in enumerate(coco.raw_images(range(len(coco)))):
        fields |= entry.keys()
        stated = entry.get(field) is not None
        alone += not stated
        key = f"value {json.dumps(entry[field], sort_keys=True)}" if stated else f"image {row}"
        groups.append(numbers.setdefault(key, len(numbers)))
    if alone == len(coco):
        raise CtnetError(
            f"no image of {coco.path} has a field {field!r}; they have {', '.join(sorted(fields))}"
        )
    if alone:
        notes.append(f"{alone} images have no {field!r}; each was treated as a group of its own")
    notes.append(f"{len(numbers)} groups of images with the same {field!r}")
    return np.array(groups)


# --- writing


def _documents(
    coco: CocoFile, file: AnnotationFile, splits: Mapping[str, np.ndarray], names: Mapping[str, str]
) -> dict[Path, dict[str, Any]]:
    """Path -> content of the new annotation files of one file."""
    rest = _other_entries(file.path)
    documents = {}
    for name, path in _names_and_paths(file, splits):
        rows = splits[name]
        images = [entry | {"file_name": names[entry["file_name"]]} for entry in coco.raw_images(rows)]
        own = np.concatenate([np.arange(coco.first[row], coco.first[row + 1]) for row in rows])
        documents[path] = {**rest, "images": images, "annotations": list(coco.raw_annotations(own))}
    return documents


def _names_and_paths(file: AnnotationFile, names: Iterable[str]) -> list[tuple[str, Path]]:
    return [(name, _path_of(file, name)) for name in names]


def _path_of(file: AnnotationFile, split: str) -> Path:
    """The annotation file of another split, next to this one."""
    return file.path.with_name(f"{file.prefix}_{split}.json" if file.prefix else f"{split}.json")


def _other_entries(path: Path) -> dict[str, Any]:
    """Everything in a file but its images and annotations."""
    rest: dict[str, Any] = {}
    with open(path, "rb") as stream:
        reader = JsonReader(iter(lambda: stream.read(CHUNK), b""), path)
        for key in reader.entries():
            if key in ("images", "annotations"):
                for _ in reader.items(key, skim=True):
                    pass
            else:
                rest[key] = reader.value()[0]
    return rest


def _paths_from(dataset: Dataset, directory: Path, notes: list[str]) -> dict[str, str]:
    """The file name of each image -> a path that does not depend on the split's name."""
    names, missing = {}, 0
    everywhere = (directory, directory / "images")
    for index in range(len(dataset)):
        name = dataset.coco.file_name(index)
        names[name] = name
        if any(isfile(folder / name) for folder in everywhere):
            continue
        try:
            path = dataset.image_path(index)
        except ImageError:
            missing += 1
            continue
        names[name] = path.relative_to(directory).as_posix() if path.is_relative_to(directory) else name
    if missing:
        notes.append(f"{missing} images are missing; their names were left unchanged")
    return names


def _same_images(
    coco: CocoFile, other: CocoFile, splits: Mapping[str, np.ndarray]
) -> tuple[CocoFile, dict[str, np.ndarray]]:
    """Another annotation file of the same images, divided like the first."""
    index = {other.file_name(row): row for row in range(len(other))}
    names = {name: [coco.file_name(row) for row in rows] for name, rows in splits.items()}
    if set(index) != {name for each in names.values() for name in each}:
        raise CtnetError(
            f"{other.path} and {coco.path} are of the same split but list different images; move one of "
            "them away"
        )
    return other, {name: np.array([index[each] for each in own]) for name, own in names.items()}


def _refuse_to_replace(documents: Mapping[Path, Any], sources: Sequence[AnnotationFile], force: bool) -> None:
    own = {file.path: _path_of(file, WHOLE) for file in sources}
    for path in documents:
        if path in own and own[path].exists():
            raise CtnetError(f"{path} would be kept as {own[path].name}, which exists; move that away")
        if path.exists() and path not in own and not force:
            raise CtnetError(f"{path} exists; --force replaces it")


def _rename(path: Path, target: Path) -> None:
    try:
        path.rename(target)
    except OSError as error:
        raise os_error(error, "rename", path) from error


def _content(document: Mapping[str, Any], source: Path) -> str:
    try:
        return to_json(document) + "\n"
    except ValueError as error:
        raise CtnetError(
            f"{source} has a number that is not finite (NaN, Infinity or beyond floats), which JSON does "
            "not have; `ctnet data check` lists its record: correct it"
        ) from error


def _counts(document: Mapping[str, Any]) -> dict[str, int]:
    names = {category["id"]: str(category["name"]) for category in document["categories"]}
    counts = Counter(
        names[annotation["category_id"]]
        for annotation in document["annotations"]
        if isinstance(annotation.get("category_id"), (int, float))  # bad records are kept as they are
        and annotation["category_id"] in names
        and not annotation.get("iscrowd")
    )
    return {name: counts[name] for name in names.values()}
