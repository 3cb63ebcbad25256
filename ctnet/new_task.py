"""Creating a plugin: a complete distribution with one working task."""

from __future__ import annotations

import keyword
import re
import shutil
import tempfile
from pathlib import Path

from ctnet.base.errors import CtnetError, os_error
from ctnet.base.version import __version__
from ctnet.core.task import list_tasks

_TEMPLATE = Path(__file__).parent / "templates" / "task"
_SUFFIX = ".template"


def write_new_task(name: str, folder: Path | None = None) -> Path:
    """Write a plugin with a task of the given name.

    Args:
        name: the task's name: lower-case letters, digits and underscores, starting with a letter.
        folder: where the distribution goes; ``ctnet-tasks-<name>`` in the current folder when None.

    Returns:
        The distribution's folder.

    Raises:
        CtnetError: for a name that is invalid or in use, and for a folder that exists or cannot be written.
    """
    _check_name(name)
    distribution = f"ctnet-tasks-{name.replace('_', '-')}"
    folder = folder or Path(distribution)
    if folder.exists():
        raise CtnetError(f"{folder} already exists and is not overwritten; choose another with --output")
    values = {
        "task": name,
        "Class": "".join(part.capitalize() for part in name.split("_")),
        "package": f"ctnet_tasks_{name}",
        "distribution": distribution,
        "version": __version__,
    }
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        # Written next to its destination first, so that a full disk does not leave a partial plugin.
        with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{folder.name}.") as temporary:
            whole = Path(temporary) / "whole"
            _write(_TEMPLATE, whole, values)
            shutil.move(whole, folder)
    except OSError as error:
        raise os_error(error, "write", folder) from error
    return folder


def _check_name(name: str) -> None:
    if not re.fullmatch(r"[a-z][a-z0-9_]*[a-z0-9]", name) or "__" in name or keyword.iskeyword(name):
        raise CtnetError(
            f"{name!r} is not a name for a task; use lower-case letters, digits and single underscores, "
            'a letter first ("rotated_boxes")'
        )
    if name in list_tasks():
        raise CtnetError(f"a task called {name!r} is already installed; choose another name")


def _write(source: Path, target: Path, values: dict[str, str]) -> None:
    """Copy a folder of templates, replacing names between @ signs by their values."""
    target.mkdir()
    for entry in source.iterdir():
        if entry.is_dir():
            _write(entry, target / _filled(entry.name, values), values)
        else:
            path = target / entry.name.removesuffix(_SUFFIX)
            path.write_text(_filled(entry.read_text("utf-8"), values), encoding="utf-8")


def _filled(text: str, values: dict[str, str]) -> str:
    for key, value in values.items():
        text = text.replace(f"@{key}@", value)
    return text
