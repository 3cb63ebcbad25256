"""The split of a file or folder of an annotation tool, from its name."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from ctnet.base.errors import CtnetError
from ctnet.base.schema import shorten

_SPLIT = re.compile(r"(train|trainval|minival|valid|validation|val|dev|test|testdev)(\d*)")
_WORD = re.compile(r"\w[\w.-]{0,99}")
_OTHERWISE_CALLED = {"valid": "val", "validation": "val"}


def split_in(name: str) -> str | None:
    """The split that a name states: "instances_val2017" -> "val2017", "valid" -> "val", "labels" -> None."""
    for word in reversed(re.split(r"[^a-z0-9]+", name.lower())):
        if found := _SPLIT.fullmatch(word):
            return _OTHERWISE_CALLED.get(found[1], found[1]) + found[2]
    return None


def check_split_name(name: str, source: object) -> None:
    """Refuse a name of a split that is not one word: it becomes the name of a file and of a folder.

    Args:
        name: the name of the split.
        source: what names it.

    Raises:
        CtnetError: naming both.
    """
    if not _WORD.fullmatch(name):
        raise CtnetError(f"{source} names a split {shorten(name)}; a split's name is one word, such as train")


def split_of(path: Path, root: Path) -> str | None:
    """The split named by a file or a folder above it, the nearest first; None where there is none.

    Args:
        path: the file.
        root: the source; folders above it are ignored.
    """
    within = path.relative_to(root).parts if path.is_relative_to(root) and path != root else (path.name,)
    for part in reversed([*within[:-1], Path(within[-1]).stem]):
        if found := split_in(part):
            return found
    return None


def one_file_per_split(files: Sequence[tuple[Path, Path]]) -> dict[str, tuple[Path, Path]]:
    """Split name -> its only annotation file; a single file without a split in its name is "train".

    Args:
        files: annotation files, each with its source folder.

    Raises:
        CtnetError: when two files would be the same split.
    """
    splits: dict[str, tuple[Path, Path]] = {}
    for path, root in files:
        own = "train" if len(files) == 1 else path.stem.replace("_", "-")
        name = split_of(path, root) or own
        if name in splits:
            raise CtnetError(
                f"{splits[name][0]} and {path} would both be the split {name!r}; name the files to convert, "
                f"or join them with --split {name}"
            )
        splits[name] = (path, root)
    return splits


def by_split(files: Sequence[Path], root: Path, split: str | None) -> dict[str, list[Path]]:
    """Files of single images by split; "train" where none is named.

    Args:
        files: files below ``root``.
        root: the source.
        split: the user's name for all of them.
    """
    if split is not None:
        check_split_name(split, "--split")
    splits: dict[str, list[Path]] = {}
    for path in files:
        folder = path.parent / "_"  # names of single images do not count: test_0001.json is not a split
        splits.setdefault(split or split_of(folder, root) or "train", []).append(path)
    return splits
