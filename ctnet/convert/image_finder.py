"""Finding the images named by annotation files, wherever the tool has put them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path, PurePosixPath
from urllib.parse import unquote, urlsplit

from ctnet.convert.report import BadRecord
from ctnet.data.images import IMAGE_SUFFIXES

NOT_THERE = "image that is not there"
"""Kind of problem: there is no file of an image's name."""


class ImageFinder:
    """Searches for images in likely folders first, then by name everywhere below a root.

    Args:
        root: the folder that contains the images.
        folders: where to look for a name first, in this order.
    """

    def __init__(self, root: Path, folders: Sequence[Path] = ()) -> None:
        self.root = root
        self._folders = [*folders, root]

    def find(self, name: str) -> Path:
        """The file of an image.

        Args:
            name: as in the annotation file: a relative path, a path of another machine or a URL.

        Raises:
            BadRecord: when there is none, or several candidates.
        """
        names = list(_readings(name))
        for reading in names:
            for folder in self._folders:
                if (path := folder / reading).is_file():
                    return path
        found = self._by_name.get(PurePosixPath(names[-1]).name, [])
        while len(found) > 1 and len(names[-1].split("/")) > 1:
            found = [path for path in found if path.as_posix().endswith(f"/{names[-1]}")] or found
            names[-1] = names[-1].partition("/")[2]
        if len(found) > 1:
            shown = " and ".join(str(path.relative_to(self.root)) for path in found[:2])
            raise BadRecord("image that could be several files", f"{name} could be {shown}")
        if not found:
            raise BadRecord(NOT_THERE, f"looked for {name} in {self.root}")
        return found[0]

    @cached_property
    def _by_name(self) -> dict[str, list[Path]]:
        found: dict[str, list[Path]] = {}
        for path in sorted(self.root.rglob("*")):
            if path.suffix.lower() in IMAGE_SUFFIXES and path.is_file():
                found.setdefault(path.name, []).append(path)
        return found


def name_in_split(source: Path, root: Path, taken: Mapping[str, Path]) -> str:
    """An image's name in ``images/<split>``: its file name, else its path below the root.

    Args:
        source: the image.
        root: the source folder.
        taken: names in use, with their images.

    Raises:
        BadRecord: when both are in use.
    """
    inside = source.relative_to(root).as_posix() if source.is_relative_to(root) else source.name
    for name in (source.name, inside):
        if name not in taken:
            return name
    raise BadRecord("image that is named twice", f"{source} and {taken[source.name]}")


def _readings(name: str) -> Iterator[str]:
    """The name unchanged, then as a Windows path, then as a URL's path."""
    yield name
    plain = name.replace("\\", "/")
    if "://" in plain:
        plain = unquote(urlsplit(plain).path)
    yield plain.lstrip("/")
