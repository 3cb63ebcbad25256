"""Every reader and every command that reads a file, each with a folder of small valid files."""

from __future__ import annotations

import json
import multiprocessing
import random
import sys
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout, suppress
from functools import partial
from io import StringIO
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from harness import Target, is_one_line
from mutate import (
    mutated_bytes,
    mutated_hdf5,
    mutated_json,
    mutated_markup,
    mutated_onnx,
    mutated_openvino,
    mutated_pack,
    mutated_program,
    mutated_text,
    mutated_torch,
)
from sources import TASKS, fuzztiny, make_exports, make_run, make_sources, make_task

from ctnet.backbones import register_backbone
from ctnet.base.files import read_json
from ctnet.checkpoint import load, load_model
from ctnet.convert.coco_import import import_coco
from ctnet.convert.labelme import import_labelme
from ctnet.convert.via import import_via
from ctnet.convert.voc import convert_voc
from ctnet.convert.voc_folders import import_voc
from ctnet.convert.yolo import import_yolo
from ctnet.core.targets import Grid
from ctnet.core.task import create_task, load_task_class
from ctnet.data.animations import open_animation
from ctnet.data.coco import CocoFile
from ctnet.data.dataset import Dataset
from ctnet.data.images import ImageError, read_image
from ctnet.inference.camera import read_projection
from ctnet.inference.maps import MapFile
from ctnet.measuring.results import read_results
from ctnet.measuring.stored import evaluate_maps
from ctnet.training.config import TrainingConfig
from ctnet.training.recipe_files import read_recipe
from ctnet.training.request import Machine
from ctnet.training.session import resumed_session

Files = dict[str, Callable[[random.Random, bytes], bytes]]
Check = Callable[[Path, str], str | None] | None


# --- readers


def read_task(name: str, folder: Path) -> None:
    """A data set as its task reads it: every instance, every target, every record of the evaluation."""
    dataset = Dataset.open(folder, "val", load_task_class(name))
    task = create_task(name, dataset.categories)
    dataset = dataset.with_task(task)
    assert len(dataset.problems) >= 0
    for index in range(len(dataset)):
        instances = dataset.instances(index)
        assert np.isfinite(instances.boxes).all()
        task.encode(instances, Grid(16, 24))
    dataset.as_coco(full=True)


def read_pack(folder: Path) -> None:
    dataset = Dataset.open(folder / "data.h5", "val")
    for index in range(len(dataset)):
        with suppress(ImageError):
            dataset[index]
    dataset.as_coco(full=True)


def read_plain_coco(folder: Path) -> None:
    file = CocoFile.open(folder / "annotations/instances_val.json", cache=False)
    for image in range(len(file)):
        file.file_name(image), file.rows(image)
    assert len(file.problems) + int(file.usable.sum()) >= len(file.usable)


def read_found(name: str, folder: Path) -> str | None:
    cls = load_task_class(name)
    dataset = Dataset.open(folder, "val", cls)
    task = create_task(name, dataset.categories)
    entries = read_json(folder / "results.json")
    found = read_results(entries, task, dataset.image_ids.tolist())
    if sum(map(len, found.values())) != len(entries):
        return "detections were lost"
    finite = all(np.isfinite(each.boxes).all() and np.isfinite(each.scores).all() for each in found.values())
    return None if finite else "a detection is not finite"


def read_config(folder: Path) -> None:
    TrainingConfig.from_json(read_json(folder / "run/config.json"), folder / "run/config.json")


def read_recipe_file(folder: Path) -> None:
    read_recipe(folder / "run/recipe.toml")


def read_checkpoint(folder: Path) -> None:
    load_model(load(folder / "run/best.pt"))


def read_training(data: Path, folder: Path) -> None:
    config = folder / "run/config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | {"data": str(data)}))
    resumed_session(folder / "run", machine=Machine("cpu", 0)).run.release()


def read_maps(data: Path, folder: Path) -> None:
    with MapFile.open(folder / "maps.h5") as maps:
        task = maps.description.create_task()
        evaluate_maps(maps, Dataset.open(data, "val", task), task)


def read_picture(suffix: str, folder: Path) -> None:
    read_image(folder / f"picture.{suffix}")


def read_moving(suffix: str, folder: Path) -> None:
    animation = open_animation(folder / f"moving.{suffix}")
    for _ in islice(animation or (), 100):
        pass


def read_camera(folder: Path) -> None:
    read_projection(folder / "camera.txt")


def read_voc(folder: Path) -> str | None:
    report = convert_voc(folder, folder / "out")
    return written(folder / "out", report.as_dict(), {"train": (2, 4)})


def read_yolo(folder: Path) -> str | None:
    return written(folder / "out", import_yolo(folder, folder / "out").as_dict(), None)


def read_coco_export(folder: Path) -> str | None:
    return written(folder / "out", import_coco([folder], folder / "out").as_dict(), None)


def read_labelme(folder: Path) -> str | None:
    return written(folder / "out", import_labelme(folder, folder / "out").as_dict(), {"train": (2, 4)})


def read_via(name: str, folder: Path) -> str | None:
    return written(folder / "out", import_via(folder / name, folder / "out").as_dict(), {"train": (2, 6)})


def read_loose_voc(folder: Path) -> str | None:
    return written(folder / "out", import_voc(folder, folder / "out").as_dict(), {"train": (2, 4)})


def read_kitti(folder: Path) -> str | None:
    from ctnet_tasks_ddd.kitti import convert_kitti

    return written(folder / "out", convert_kitti(folder, folder / "out").as_dict(), None)


def read_kitti_results(folder: Path) -> None:
    from ctnet_tasks_ddd.kitti_eval import evaluate as evaluate_kitti

    evaluate_kitti(folder / "training/label_2", folder / "results")


def written(target: Path, report: dict[str, Any], expected: dict[str, tuple[int, int]] | None) -> str | None:
    """Everything that a conversion counts is written, and everything that it leaves out is listed."""
    for split in report["splits"]:
        path = target / "annotations" / f"instances_{split['name']}.json"
        content = json.loads(path.read_text())
        objects = sum(not entry.get("iscrowd") for entry in content["annotations"])
        if (len(content["images"]), objects) != (split["images"], split["objects"]):
            return f"{split['name']} counts {split['images']} images and {split['objects']} objects"
        CocoFile.open(path, cache=False)
    for name, (images, objects) in (expected or {}).items():
        found = [split for split in report["splits"] if split["name"] == name]
        lost = not found or found[0]["images"] < images or found[0]["objects"] < objects
        if lost and not report["problems"] and not report["notes"]:
            return None  # a mutation may take a record out of the file itself
    return None


def readers(home: Path) -> list[Target]:
    """All of them; their files are made in ``home``."""
    make_sources(home)
    found = [
        Target("coco", home / "ctdet", {"annotations/instances_val.json": mutated_json}, read_plain_coco)
    ]
    for name in TASKS:
        prefix = load_task_class(name).layout.prefix
        file = {f"annotations/{prefix}_val.json": mutated_json}
        found.append(Target(f"annotations of {name}", home / name, file, partial(read_task, name)))
        results = {"results.json": mutated_json}
        found.append(Target(f"results of {name}", home / name, results, partial(read_found, name)))
    run = home / "run"
    found += [
        Target("config.json", run, {"run/config.json": mutated_json}, read_config),
        Target("recipe.toml", run, {"run/recipe.toml": mutated_text}, read_recipe_file),
        Target("checkpoint", run, {"run/best.pt": mutated_torch}, read_checkpoint),
        Target("training state", run, {"run/last.pt": mutated_torch}, partial(read_training, home / "ctdet")),
        Target("pack", home / "pack", {"data.h5": mutated_pack}, read_pack),
        Target("maps", run, {"maps.h5": mutated_hdf5}, partial(read_maps, home / "ctdet")),
        Target("camera", home / "loose", {"camera.txt": mutated_text}, read_camera),
    ]
    for suffix in ("png", "jpg", "bmp", "tiff", "webp", "ppm"):
        file = {f"picture.{suffix}": mutated_bytes}
        found.append(Target(f"picture {suffix}", home / "loose", file, partial(read_picture, suffix)))
    for suffix in ("gif", "png", "tiff", "webp"):
        file = {f"moving.{suffix}": mutated_bytes}
        found.append(Target(f"moving {suffix}", home / "loose", file, partial(read_moving, suffix)))
    lists = {"ImageSets/Main/train.txt": mutated_text, "Annotations/one.xml": mutated_markup}
    labels = {
        "labels/train/one.txt": mutated_text,
        "data.yaml": mutated_text,
        "labels/train/two.txt": mutated_text,
    }
    frames = {"training/label_2/000000.txt": mutated_text, "training/calib/000001.txt": mutated_text}
    scored = {"results/000000.txt": mutated_text, "training/label_2/000001.txt": mutated_text}
    return [
        *found,
        Target("voc", home / "voc", lists, read_voc),
        Target("yolo", home / "yolo", labels, read_yolo),
        Target(
            "coco export",
            home / "coco export",
            {f"{split}/_annotations.coco.json": mutated_json for split in ("train", "valid")},
            read_coco_export,
        ),
        Target("labelme", home / "labelme", {"one.json": mutated_json}, read_labelme),
        Target("via", home / "via", {"via.json": mutated_json}, partial(read_via, "via.json")),
        Target("via csv", home / "via", {"via.csv": mutated_text}, partial(read_via, "via.csv")),
        Target(
            "darknet",
            home / "darknet",
            {
                "obj.data": mutated_text,
                "obj.names": mutated_text,
                "train.txt": mutated_text,
                "obj_train_data/one.txt": mutated_text,
            },
            read_yolo,
        ),
        Target("loose voc", home / "loose voc", {"one.xml": mutated_markup}, read_loose_voc),
        Target("kitti", home / "kitti", frames, read_kitti),
        Target("kitti results", home / "kitti", scored, read_kitti_results),
    ]


# --- commands


def command(arguments: list[str], check: Check, folder: Path) -> str | None:
    """Run a command of ``ctnet`` in this process, in the folder of the input."""
    from ctnet.base.errors import CtnetError
    from ctnet.cli import main

    out, err, code = StringIO(), StringIO(), 0
    before, sys.argv = sys.argv, ["ctnet", *arguments]
    try:
        with redirect_stdout(out), redirect_stderr(err):
            main()
    except SystemExit as error:
        code = int(error.code or 0)
    finally:
        sys.argv = before
    errors = [line for line in err.getvalue().splitlines() if line.startswith("error: ")]
    if "Traceback" in err.getvalue():
        return "a traceback was printed"
    if code == 2:
        if len(errors) != 1 or not is_one_line(errors[0]):
            return f"exit code 2 with {len(errors)} error lines"
        raise CtnetError(errors[0])
    if code or errors:
        return f"exit code {code} with {len(errors)} error lines"
    return check(folder, out.getvalue()) if check else None


def check_prediction(folder: Path, out: str) -> str | None:
    """Every detection is of a listed image, and everything printed is also written."""
    images = json.loads((folder / "out/images.json").read_text())
    results = json.loads((folder / "out/results.json").read_text())
    known = {image["id"] for image in images}
    if {entry["image_id"] for entry in results} - known:
        return "a detection is of no image"
    printed = json.loads(out)
    return None if printed == {"images": images, "results": results} else "not all is written"


def check_conversion(folder: Path, out: str) -> str | None:
    return written(folder / "out", json.loads(out), None)


def check_counts(folder: Path, out: str) -> str | None:
    """All annotations of the file are counted."""
    listed = json.loads((folder / "annotations/instances_val.json").read_text())["annotations"]
    counted = json.loads(out)["splits"][0]["annotations"]
    return None if counted == len(listed) else f"{counted} of {len(listed)} annotations are counted"


#: Name, folder of its files, the command line, which files change, and what else must hold. FAST, DATA and
#: RUN stand for common arguments.
_JSON = {"annotations/instances_val.json": mutated_json}
_FOUND = {"results.json": mutated_json}
_BEST, _MAPS = {"run/best.pt": mutated_torch}, {"maps.h5": mutated_hdf5}
_LOOSE = {"best.pt": mutated_torch, "names.txt": mutated_text}
_LABELS = {"training/label_2/000000.txt": mutated_text}
COMMANDS: list[tuple[str, str, str, Files, Check]] = [
    ("data check", "ctdet", "data check . --json", _JSON, check_counts),
    ("data stats", "ctdet", "data stats . --json", _JSON, None),
    ("data show", "ctdet", "data show . --split val -o out", _JSON, None),
    ("collisions", "ctdet", "analyze collisions . --split val", _JSON, None),
    ("anchors", "ctdet", "analyze anchors . --split val", _JSON, None),
    ("yolo export", "ctdet", "convert yolo . --export -o out", _JSON, None),
    (
        "yolo export of poses",
        "pose",
        "convert yolo . --export -o out",
        {"annotations/person_keypoints_val.json": mutated_json},
        None,
    ),
    ("eval results", "ctdet", "eval --results results.json --data .", _FOUND, None),
    ("errors of results", "ctdet", "analyze errors --results results.json --data .", _FOUND, None),
    ("eval", "run", "eval run/best.pt --data DATA --save found.json FAST", _BEST, None),
    ("eval a run", "run", "eval run --split val FAST", {"run/config.json": mutated_json}, None),
    ("eval maps", "run", "eval --maps maps.h5 --data DATA", _MAPS, None),
    ("errors of maps", "run", "analyze errors --maps maps.h5 --data DATA", _MAPS, None),
    (
        "predict",
        "loose",
        "predict best.pt picture.png picture.jpg -o out --json --score 0 --device cpu",
        {"picture.png": mutated_bytes, "best.pt": mutated_torch},
        check_prediction,
    ),
    ("film", "loose", "predict RUN film.avi -o out --device cpu", {"film.avi": mutated_bytes}, None),
    (
        "camera",
        "loose",
        "predict RUN picture.png --calib camera.txt -o out --device cpu",
        {"camera.txt": mutated_text},
        None,
    ),
    (
        "train --init",
        "run",
        "train ctdet --data DATA --train-split val --val-split none --backbone fuzztiny --size 64 --epochs 1 "
        "--init run/best.pt -o new FAST",
        _BEST,
        None,
    ),
    (
        "train --recipe",
        "run",
        "train ctdet --data DATA --train-split val --val-split none --backbone fuzztiny -R epochs=1 "
        "-R batch_size=2 -R size=64 --recipe run/recipe.toml -o new FAST",
        {"run/recipe.toml": mutated_text},
        None,
    ),
    (
        "train --resume",
        "run",
        "train --resume run FAST",
        {"run/last.pt": mutated_torch, "run/config.json": mutated_json},
        None,
    ),
    (
        "voc",
        "voc",
        "convert voc . -o out --json",
        {"Annotations/one.xml": mutated_markup, "ImageSets/Main/train.txt": mutated_text},
        check_conversion,
    ),
    (
        "yolo",
        "yolo",
        "convert yolo . -o out --json",
        {"data.yaml": mutated_text, "labels/train/one.txt": mutated_text},
        check_conversion,
    ),
    (
        "kitti",
        "kitti",
        "convert kitti . -o out --json",
        {**_LABELS, "training/calib/000000.txt": mutated_text},
        check_conversion,
    ),
    (
        "coco export",
        "coco export",
        "convert coco . -o out --json",
        {"train/_annotations.coco.json": mutated_json},
        check_conversion,
    ),
    ("labelme", "labelme", "convert labelme . -o out --json", {"one.json": mutated_json}, check_conversion),
    ("via", "via", "convert via via.json -o out --json", {"via.json": mutated_json}, check_conversion),
    ("via csv", "via", "convert via via.csv -o out --json", {"via.csv": mutated_text}, check_conversion),
    (
        "darknet",
        "darknet",
        "convert yolo . -o out --json",
        {"obj.data": mutated_text, "train.txt": mutated_text},
        check_conversion,
    ),
    (
        "voc beside images",
        "loose voc",
        "convert voc . -o out --json",
        {"one.xml": mutated_markup},
        check_conversion,
    ),
    ("data split", "ctdet", "data split . --val 0.5 --force --json", _JSON, None),
    ("kitti export", "ddd", "convert kitti . --export -o out", _JSON, None),
    ("kitti results", "ddd", "convert kitti . --export --results results.json -o out", _FOUND, None),
    (
        "kitti-eval",
        "kitti",
        "kitti-eval --labels training/label_2 --results results",
        {**_LABELS, "results/000000.txt": mutated_text},
        None,
    ),
    ("checkpoint", "loose", "convert checkpoint best.pt -o out.pth --to-official", _LOOSE, None),
    ("released", "loose", "convert checkpoint best.pt -o out.pt --names names.txt", _LOOSE, None),
]


def exports(home: Path) -> list[Target]:
    """Exported files in place of a run, for the installed runtimes."""
    make_task(home / "ctdet", "ctdet")
    register_backbone(fuzztiny)
    make_run(home / "run", home / "ctdet")
    # Runtimes start threads, which do not outlive a fork: they are left to a process of their own.
    making = multiprocessing.get_context("fork").Process(
        target=make_exports, args=(home / "exports", home / "run/run")
    )
    making.start()
    making.join()
    assert making.exitcode == 0
    found = []
    for suffix, mutate in ((".pt2", mutated_program), (".onnx", mutated_onnx), (".xml", mutated_openvino)):
        name = f"model{suffix}"
        if (home / "exports" / name).exists():
            typed = f"predict {name} picture.png -o out --json --score 0 --device cpu".split()
            files: Files = {name: mutate}
            if suffix == ".xml":
                files["model.bin"] = mutated_bytes
            found.append(Target(name, home / "exports", files, partial(command, typed, check_prediction)))
    return found


def commands(home: Path) -> list[Target]:
    """All that read files; their files are made in ``home``."""
    make_sources(home)
    words = {
        "FAST": ["--device", "cpu", "--workers", "0"],
        "DATA": [str(home / "ctdet")],
        "RUN": [str(home / "run/run")],
    }
    found = []
    for name, source, typed, files, check in COMMANDS:
        arguments = [part for word in typed.split() for part in words.get(word, [word])]
        found.append(Target(name, home / source, files, partial(command, arguments, check)))
    return found
