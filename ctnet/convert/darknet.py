"""Darknet's description of a YOLO data set: ``obj.data``, as written for Darknet and exported by CVAT."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from os.path import (
    isfile,  # unlike Path's, False for a name that is too long
    normpath,
)
from pathlib import Path, PurePosixPath

from ctnet.base.errors import CtnetError
from ctnet.base.schema import shorten
from ctnet.convert.sources import read_lines
from ctnet.convert.split_names import check_split_name, split_in
from ctnet.data.problems import Problem

#: Keys of obj.data that are not lists of images.
_NOT_SPLITS = ("classes", "names", "backup", "eval", "results", "top", "labels", "map")


@dataclass(frozen=True)
class Darknet:
    """The content of an ``obj.data``.

    Attributes:
        path: the file.
        lists: split name -> the list of its images.
        names: the file of class names; None where there is none.
    """

    path: Path
    lists: Mapping[str, Path]
    names: Path | None

    @classmethod
    def find(cls, source: Path, problems: list[Problem]) -> Darknet | None:
        """Read the source itself if it is called ``*.data``, else the ``obj.data`` in it.

        Args:
            source: a file or folder.
            problems: missing lists are added.

        Raises:
            CtnetError: when the file cannot be read or none of its lists exists.
        """
        path = source if source.suffix == ".data" else source / "obj.data"
        if not isfile(path):
            return None
        lists: dict[str, Path] = {}
        entries = dict(_entries(path))
        for key, text in entries.items():
            if key in _NOT_SPLITS:
                continue
            found = _resolved(text, path.parent)
            if isfile(found):
                split = split_in(key) or key.lower()
                check_split_name(split, path)
                if split in lists:
                    raise CtnetError(f"{path} names two lists for the split {split}; remove one of them")
                lists[split] = found
            else:
                problems.append(Problem("split that is not there", f"{path} {key}", text))
        if not lists:
            raise CtnetError(
                f"{path} names no list of images that exists; add a line 'train = train.txt' (relative to "
                "its own folder)"
            )
        names = _resolved(entries["names"], path.parent) if "names" in entries else None
        return cls(path, lists, names if names and isfile(names) else None)

    def images(self, split: str) -> list[tuple[Path, str]]:
        """The images of a split, in the order of its list, with their names in the split.

        The paths in a list are relative to the folder that Darknet runs in; the part up to our folder is
        dropped.
        """
        home = self.path.parent
        found = []
        for line in read_lines(self.lists[split]):
            if text := line.strip():
                path = _resolved(text, home)
                plain = Path(normpath(path))
                inside = plain.relative_to(home).parts if plain.is_relative_to(home) else (path.name,)
                inside = (path.name,) if ".." in inside else inside  # "." is above everything
                # CVAT's obj_<split>_data is the split and not part of the name.
                named = inside[1:] if len(inside) > 1 and _is_data_folder(inside[0]) else inside
                found.append((path, PurePosixPath(*named).as_posix()))
        return found

    def labels_without_image(self, used: set[Path]) -> Iterator[Problem]:
        """The label files in CVAT's folders without a listed image."""
        for folder in sorted(self.path.parent.glob("obj_*_data")):
            for path in sorted(folder.rglob("*.txt")):
                if path not in used:
                    yield Problem("label file without image", str(path), "no list names its image")


def _entries(path: Path) -> Iterator[tuple[str, str]]:
    seen = set()
    for number, line in enumerate(read_lines(path), start=1):
        text = line.partition("#")[0].strip()
        if not text:
            continue
        key, equals, value = (part.strip() for part in text.partition("="))
        if not equals or not key:
            raise CtnetError(f"{path}:{number} is not 'key = value'; is this Darknet's obj.data?")
        if key in seen:
            raise CtnetError(f"{path}:{number} has the key {shorten(key)} a second time; remove one of them")
        seen.add(key)
        yield key, value


def _resolved(text: str, home: Path) -> Path:
    """The path below ``home``, without Darknet's leading folders: ``data/train.txt`` -> train.txt."""
    parts: Sequence[str] = [part for part in PurePosixPath(text.replace("\\", "/")).parts if part != "/"]
    candidates = [home.joinpath(*parts[start:]) for start in range(len(parts))]
    missing = home.joinpath(*(parts[1:] if len(parts) > 1 and parts[0] == "data" else parts))
    return next((path for path in [Path(text), *candidates] if isfile(path)), missing) if parts else home


def _is_data_folder(name: str) -> bool:
    return name.startswith("obj_") and name.endswith("_data")
