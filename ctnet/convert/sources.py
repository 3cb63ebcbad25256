"""Shared parts of the readers of other formats: finding and reading files and lines."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator
from pathlib import Path
from typing import TypeVar

from ctnet.base.errors import CtnetError
from ctnet.base.files import read_text
from ctnet.base.numbers import LARGEST_COORDINATE
from ctnet.convert.report import BadRecord
from ctnet.data.images import IMAGE_SUFFIXES, ImageError, image_size
from ctnet.data.problems import Problem

Item = TypeVar("Item")
Record = TypeVar("Record")


def check_folder(source: Path) -> None:
    """Raise CtnetError unless ``source`` is a folder."""
    if not source.is_dir():
        reason = "it is a file" if source.exists() else "it does not exist"
        raise CtnetError(f"cannot convert {source}: a folder is needed and {reason}")


def image_files(folder: Path) -> list[Path]:
    """Files with image suffixes in a folder and its subfolders, by path; empty without the folder."""
    found = (path for path in folder.rglob("*") if path.suffix.lower() in IMAGE_SUFFIXES)
    return sorted(path for path in found if not path.is_dir())


def readable_size(image: Path) -> tuple[int, int]:
    """Width and height of an image file, pixels.

    Raises:
        BadRecord: when it cannot be read.
    """
    try:
        return image_size(image)
    except ImageError as error:
        raise BadRecord("image that cannot be read", str(error)) from error


def read_lines(path: Path) -> list[str]:
    """The lines of a text file.

    Raises:
        CtnetError: when it cannot be read or is not UTF-8.
    """
    return read_text(path).split("\n")  # a name may hold characters that splitlines treats as line ends


def numbered_lines(lines: Iterable[str], where: object) -> Iterator[tuple[str, str]]:
    """Location ("file:line") and text of every line that is not blank.

    Args:
        lines: the lines of the file, from its first on.
        where: the file's name, for messages.
    """
    for number, line in enumerate(lines, start=1):
        if line.strip():
            yield f"{where}:{number}", line


def listed_names(
    path: Path,
    problems: list[Problem],
    what: str = "name",
    known: Collection[str] = (),
    spelling: Callable[[str], str] = str.strip,
) -> dict[str, None]:
    """The names of a list, one per line, in order; repeated ones are added to ``problems``.

    Args:
        path: a text file.
        problems: is added to.
        what: kind of name, for messages.
        known: names of lists read before, which must not be repeated either.
        spelling: line -> name.
    """
    names: dict[str, None] = {}
    for where, line in numbered_lines(read_lines(path), path):
        name = spelling(line)
        if name in names or name in known:
            problems.append(Problem(f"{what} listed twice", where, name))
        else:
            names[name] = None
    return names


def read_each(
    items: Iterable[tuple[str, Item]], read: Callable[[Item], Record], problems: list[Problem]
) -> Iterator[Record]:
    """The results of ``read``; items for which it raises BadRecord are added to ``problems``.

    Args:
        items: pairs of a location, for messages, and an item.
        read: the reader of one item.
        problems: is added to.
    """
    for where, item in items:
        try:
            yield read(item)
        except BadRecord as error:
            problems.append(error.at(where))


def finite_number(text: str) -> float | None:
    """A string as a number; None where it is not a number, not finite, or larger than any image.

    Numbers this large are mistakes, and their products may not be finite.
    """
    try:
        value = float(text)
    except ValueError:
        return None
    return value if abs(value) <= LARGEST_COORDINATE else None


def checked_number(text: str, kind: str, what: str | None = None) -> float:
    """A string as a finite number.

    Args:
        text: a word of a record.
        kind, what: fields of the BadRecord when it is not one; ``what`` is the text by default.

    Raises:
        BadRecord: see ``kind``.
    """
    value = finite_number(text)
    if value is None:
        raise BadRecord(kind, repr(text) if what is None else what)
    return value
