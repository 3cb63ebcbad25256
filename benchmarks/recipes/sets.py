"""The data sets of the bench: what is trained on, and what is held out.

A set has parts; each part is a training split and the split that it is judged on. The detections of all parts
are joined and judged together, on a split that holds all of them:

    bccd      one part: train; val and test joined are held out
    raccoon   five folds over all 200 images: each image is held out once
    raccoon-screen   the first two of these folds, for screening: 80 images are held out
    dense     one part: synthetic scenes whose boxes overlap
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from dense import write_dense

from ctnet.base.files import read_json, write_json

FOLDS = 5
#: Sets whose parts are folds, and how many of them are trained.
_FOLDS = {"raccoon": FOLDS, "raccoon-screen": 2}


@dataclass(frozen=True)
class Part:
    """One training of a set.

    Attributes:
        name: "all", or "fold-1", ...
        train, held: splits.
    """

    name: str
    train: str
    held: str


def parts_of(name: str) -> list[Part]:
    """The trainings of a set."""
    if name in _FOLDS:
        return [Part(f"fold-{n + 1}", f"train{n}", f"held{n}") for n in range(_FOLDS[name])]
    return [Part("all", "train", "held")]


def prepare(name: str, source: Path | None, folder: Path) -> Path:
    """The data directory of a set, written once: links to the source's images, and annotations of its splits.

    Args:
        name: the set's name.
        source: a data directory with train and val (and test); None for the synthetic scenes.
        folder: where it is kept.
    """
    target = folder / name
    if (target / "annotations" / "instances_held.json").is_file():
        return target
    if source is None:
        write_dense(target)
        return target
    (target / "annotations").mkdir(parents=True, exist_ok=True)
    for entry in source.iterdir():
        if entry.name != "annotations" and not (target / entry.name).exists():
            (target / entry.name).symlink_to(entry.absolute())
    parts = {
        split: read_json(source / "annotations" / f"instances_{split}.json")
        for split in ("train", "val", "test")
        if (source / "annotations" / f"instances_{split}.json").is_file()
    }
    for split, document in parts.items():
        _find_images(document, source, split)
    if name in _FOLDS:
        whole = _joined([*parts.values()])
        order = np.random.default_rng(0).permutation(len(whole["images"])).tolist()
        for number in range(_FOLDS[name]):
            held = set(order[number::FOLDS])
            _write(target, f"train{number}", _rows(whole, set(order) - held))
            _write(target, f"held{number}", _rows(whole, held))
        judged = {row for number in range(_FOLDS[name]) for row in order[number::FOLDS]}
        _write(target, "held", _rows(whole, judged))
    else:
        _write(target, "train", parts["train"])
        _write(target, "held", _joined([parts[split] for split in parts if split != "train"]))
    return target


def _find_images(document: Any, source: Path, split: str) -> None:
    """Name images from the directory's root, since their split's folder is not searched for another split."""
    for image in document["images"]:
        for place in ("", f"{split}/", f"images/{split}/", "images/"):
            if (source / place / image["file_name"]).is_file():
                image["file_name"] = place + image["file_name"]
                break


def _joined(documents: list[Any]) -> Any:
    """One document with the images and annotations of several, under new ids."""
    whole: Any = {**documents[0], "images": [], "annotations": []}
    for document in documents:
        new = {}
        for image in document["images"]:
            new[image["id"]] = len(whole["images"]) + 1
            whole["images"].append({**image, "id": new[image["id"]]})
        for annotation in document["annotations"]:
            at = len(whole["annotations"]) + 1
            whole["annotations"].append({**annotation, "id": at, "image_id": new[annotation["image_id"]]})
    return whole


def _rows(document: Any, rows: set[int]) -> Any:
    images = [image for row, image in enumerate(document["images"]) if row in rows]
    ids = {image["id"] for image in images}
    kept = [annotation for annotation in document["annotations"] if annotation["image_id"] in ids]
    return {**document, "images": images, "annotations": kept}


def _write(target: Path, split: str, document: Any) -> None:
    write_json(target / "annotations" / f"instances_{split}.json", document)
