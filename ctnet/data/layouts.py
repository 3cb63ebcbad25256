"""Recognising the folders of annotation tools, so that an error can name the command to convert them."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from pathlib import Path

_HEAD = 1 << 16  # bytes of a file that are inspected
_FILES = 50  # files of a folder that are inspected
_VIA_COLUMNS = ("region_shape_attributes", "region_attributes")


def advice(path: Path) -> str | None:
    """Advice for a path that is not a data directory.

    Args:
        path: a folder or file that the user gave as data.

    Returns:
        What it is and the command that converts it, or how to export it; None where nothing is recognised.
    """
    if path.is_file():
        return _of_file(path)
    if not path.is_dir():
        return None
    inside = [folder for folder in _folders(path) if any((folder / "annotations").glob("*.json"))]
    if path.name == "annotations" and any(path.glob("*.json")):
        return f"it is the annotations folder of a data directory: give {path.parent}"
    if len(inside) == 1:
        return f"the data directory is {inside[0]}: give that"
    for recognise in _RECOGNISERS:
        if found := recognise(path):
            return found
    alone = _folders(path)
    return advice(alone[0]) if len(alone) == 1 and not any(p.is_file() for p in path.iterdir()) else None


def head(path: Path) -> str:
    """The first 64 kB of a file as text; empty where it cannot be read."""
    if not path.is_file():  # a pipe would block
        return ""
    try:
        with open(path, "rb") as stream:
            return stream.read(_HEAD).decode("utf-8", "replace").lstrip("\ufeff \t\r\n")
    except OSError:
        return ""


def json_kind(path: Path) -> str | None:
    """The format of a JSON file, judging by its beginning: "COCO", "LabelMe", "VIA", ...; None: unknown."""
    text = head(path)
    keys = set(re.findall(r'"(\w+)"\s*:', text))
    if text.startswith("["):
        return "Label Studio" if keys & {"from_name", "original_width"} else None
    if "shapes" in keys and keys & {"imagePath", "imageData", "flags", "version"}:
        return "LabelMe"
    if "_via_settings" in keys or {"filename", "regions"} <= keys:
        return "VIA"
    if {"project", "config", "attribute"} <= keys:
        return "VIA 3"
    if {"data_row", "projects"} <= keys:
        return "Labelbox"
    if keys & {"images", "annotations"} and keys & {"file_name", "categories", "category_id"}:
        return "COCO"
    return None


def is_via_csv(path: Path) -> bool:
    """Whether a file is VIA's table of regions."""
    first = head(path).partition("\n")[0]
    return all(column in first for column in _VIA_COLUMNS)


def _of_file(path: Path) -> str | None:
    suffix = path.suffix.lower()
    if suffix == ".zip":
        return "it is an archive: unpack it, and give the folder"
    if suffix in (".yaml", ".yml", ".data"):
        return _convert("a YOLO description", "yolo", path)
    if suffix == ".csv" and is_via_csv(path):
        return _convert("VIA's table of regions", "via", path)
    if suffix in (".json", ".ndjson"):
        return _of_kind(json_kind(path), path)
    return None


def _of_kind(kind: str | None, path: Path, folder: Path | None = None) -> str | None:
    """The advice for a kind of JSON file: ``path`` is that file, or the folder to convert."""
    if kind in ("COCO", "LabelMe", "VIA"):
        return _convert(f"{kind} JSON", kind.lower(), path, folder)
    if kind is not None:
        return f"it is {kind}'s own JSON, which is not read: export COCO from {kind}, then ctnet convert coco"
    return None


def _convert(what: str, command: str, source: Path, folder: Path | None = None) -> str:
    """The command; a file of a ``folder`` that was given is converted to a new one beside that."""
    given = folder or source
    target = given.with_name(f"{given.stem if given.is_file() else given.name}-coco")
    return (
        f"it is {what}; convert it: "
        f"ctnet convert {command} {shlex.quote(str(source))} -o {shlex.quote(str(target))}"
    )


def _folders(path: Path) -> list[Path]:
    return sorted(entry for entry in path.iterdir() if entry.is_dir() and not entry.name.startswith("."))


def _some(paths: Iterable[Path]) -> Iterator[Path]:
    return islice(paths, _FILES)


def _roboflow(path: Path) -> str | None:
    for pattern in ("_annotations.coco.json", "*/_annotations.coco.json"):
        if any(path.glob(pattern)):
            return _convert("a Roboflow COCO export (_annotations.coco.json)", "coco", path)
    return None


def _darknet(path: Path) -> str | None:
    return (
        _convert("Darknet's YOLO layout (obj.data)", "yolo", path) if (path / "obj.data").is_file() else None
    )


def _yolo(path: Path) -> str | None:
    for file in _some(sorted([*path.glob("*.yaml"), *path.glob("*.yml")])):
        if re.search(r"^\s*(names|train|val)\s*:", head(file), re.MULTILINE):
            return _convert(f"a YOLO data set ({file.name})", "yolo", path)
    folders = {folder.name for folder in [*path.glob("*"), *path.glob("*/*")] if folder.is_dir()}
    if {"images", "labels"} <= folders or (path / "classes.txt").is_file():
        return _convert("a YOLO data set (images and labels)", "yolo", path)
    return None


def _voc(path: Path) -> str | None:
    for pattern in ("Annotations/*.xml", "*/Annotations/*.xml", "VOCdevkit/*/Annotations/*.xml"):
        if any(path.glob(pattern)):
            return _convert("a Pascal VOC data set (Annotations)", "voc", path)
    for file in _some([*path.glob("*.xml"), *path.glob("*/*.xml")]):
        text = head(file)
        if "<annotations" in text:
            return f"{file.name} is CVAT's own XML, which is not read: export COCO 1.0 from CVAT"
        if "<annotation" in text:
            return _convert("Pascal VOC XML next to images", "voc", path)
    return None


def _supervisely(path: Path) -> str | None:
    if (path / "meta.json").is_file() and any(path.glob("*/ann")):
        return (
            "it is a Supervisely project, which is not read: export COCO from Supervisely, then "
            "ctnet convert coco"
        )
    return None


def _kitti(path: Path) -> str | None:
    if (path / "training" / "label_2").is_dir() or (path / "label_2").is_dir():
        return _convert("a KITTI data set (label_2)", "kitti", path)
    return None


def _json(path: Path) -> str | None:
    for pattern in ("*.json", "*.ndjson", "*/*.json"):
        for file in _some(sorted(path.glob(pattern))):
            kind = json_kind(file)
            # A VIA export is one file; the folder may hold several versions of it.
            if found := _of_kind(kind, file if kind == "VIA" else path, path):
                return found
    return None


def _csv(path: Path) -> str | None:
    found = next((file for file in _some(sorted(path.glob("*.csv"))) if is_via_csv(file)), None)
    return _convert("VIA's table of regions", "via", found, path) if found else None


_RECOGNISERS: tuple[Callable[[Path], str | None], ...] = (
    _roboflow,
    _darknet,
    _yolo,
    _voc,
    _supervisely,
    _kitti,
    _json,
    _csv,
)
