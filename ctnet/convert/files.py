"""Files that conversions read and write: images, lists, folders."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

from ctnet.base.choices import ImageMode
from ctnet.base.errors import CtnetError, os_error
from ctnet.base.files import atomic_write, read_json, read_text
from ctnet.base.packs import place_of


def place_image(source: Path, target: Path, mode: ImageMode) -> None:
    """Link or copy ``source`` to ``target``.

    Args:
        source: an image file.
        target: the destination; an existing file there is replaced.
        mode: "link" makes a hard link, which takes no space, and copies where the file system does not
            support them; "copy" always copies; "none" does nothing.

    Raises:
        CtnetError: when the file cannot be read or written.
    """
    if mode == "none":
        return
    if place := place_of(source):
        with atomic_write(target) as stream:
            stream.write(place.read())
        return
    try:
        source = source.resolve(strict=True)
        if target.exists() and target.samefile(source):
            return
        target.parent.mkdir(parents=True, exist_ok=True)
        if target.is_symlink():  # the target of the link is someone else's image
            target.unlink()
    except OSError as error:
        raise os_error(error, "place an image at", target) from error
    except ValueError as error:
        raise CtnetError(f"cannot place an image at {target}: not a valid file name ({error})") from error
    if mode == "link" and _hard_link(source, target):
        return
    try:
        content = source.open("rb")
    except OSError as error:
        raise os_error(error, "read", source) from error
    with content, atomic_write(target) as stream:
        shutil.copyfileobj(content, stream)


def _hard_link(source: Path, target: Path) -> bool:
    temporary = target.with_name(f".{target.name}.{os.getpid()}.part")
    try:
        os.link(source, temporary)
        os.replace(temporary, target)
    except OSError:  # another file system, or one without hard links
        temporary.unlink(missing_ok=True)
        return False
    return True


def read_categories(path: Path) -> list[dict[str, Any]]:
    """Categories of a COCO annotation file (``*.json``), or of a text file with one name per line.

    Raises:
        CtnetError: when the file cannot be read or names no categories.
    """
    if path.suffix == ".json":
        content = read_json(path)
        found = content.get("categories") if isinstance(content, dict) else None
        if not isinstance(found, list) or not found:
            raise CtnetError(f"{path} has no categories; give a COCO annotation file")
        return found
    names = [line.strip() for line in read_text(path).split("\n") if line.strip()]
    if not names:
        raise CtnetError(f"{path} names no categories; write one name per line")
    return [{"id": place, "name": name} for place, name in enumerate(names, start=1)]
