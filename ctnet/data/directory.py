"""A data directory: which annotation files it has, and where their images are."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ctnet.base.errors import CtnetError
from ctnet.base.files import is_file
from ctnet.base.packs import is_pack, open_pack
from ctnet.data.layouts import advice


class MissingSplit(CtnetError):
    """A data directory has no split of the wanted name."""


@dataclass(frozen=True)
class AnnotationFile:
    """``annotations/<prefix>_<split>.json`` of a data directory."""

    prefix: str
    split: str
    path: Path


def annotation_files(directory: Path, prefixes: Sequence[str]) -> list[AnnotationFile]:
    """All annotation files of a directory or pack; a split's name has "_" only after one of ``prefixes``."""
    if is_pack(directory):
        names = [name for name in open_pack(directory) if name.startswith("annotations/")]
        paths = sorted(directory / name for name in names if name.count("/") == 1)
        paths = [path for path in paths if path.suffix == ".json"]
    else:
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


def files_of_split(directory: Path, split: str | None = None) -> list[AnnotationFile]:
    """All annotation files of a split, ``instances`` first.

    Args:
        directory: the data directory.
        split: its name; the only one when None.

    Raises:
        CtnetError: when there is no such split, or several and none is named.
    """
    have = splits(directory)
    if split is None and len(have) > 1:
        raise CtnetError(f"{directory} has the splits {', '.join(have)}; choose one with --split")
    wanted = split or have[0]
    found = [file for file in annotation_files(directory, []) if file.split == wanted]
    if not found:
        raise MissingSplit(f"{directory} has no split {wanted!r}; it has {', '.join(have)}")
    return sorted(found, key=lambda file: (file.prefix != "instances", file.prefix))


def splits(directory: str | Path) -> list[str]:
    """The splits that a data directory has, sorted.

    Raises:
        CtnetError: when it has no ``annotations`` folder with a JSON file.
    """
    return sorted({file.split for file in annotation_files(Path(directory), [])})


def find_annotations(
    directory: Path, split: str, prefixes: Sequence[str], only_these: bool
) -> AnnotationFile:
    """The annotation file of a split.

    Args:
        directory: the data directory.
        split: its name; where it does not exist, its only name with a year is used.
        prefixes: the first of these that has the split is used.
        only_these: whether to refuse other prefixes.

    Raises:
        CtnetError: when there is no such file, or several.
    """
    files = annotation_files(directory, prefixes)
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
    """The files of exactly this split, otherwise those of its only name with a year."""
    exact = [file for file in files if file.split == split]
    if exact:
        return exact
    dated = [file for file in files if re.fullmatch(re.escape(split) + r"\d+", file.split)]
    names = sorted({file.split for file in dated})
    if len(names) > 1:
        raise CtnetError(f"split {split!r} of {directory} could be {' or '.join(names)}; name one of them")
    return dated


def image_folders(directory: Path, split: str) -> list[Path]:
    """Folders where the images of a split may be."""
    return [directory, directory / split, directory / "images" / split, directory / "images"]


def found_first(folders: Sequence[Path], name: str) -> tuple[Path, ...]:
    """The folders, the first image's first: one lookup per image instead of several."""
    return tuple(sorted(folders, key=lambda folder: not any(is_file(folder / s) for s in spellings(name))))


def spellings(name: str) -> tuple[str, ...]:
    """A file name unchanged and, if it has Windows' separators, with those of other systems."""
    return (name, name.replace("\\", "/")) if "\\" in name else (name,)
