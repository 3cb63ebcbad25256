from __future__ import annotations

import csv
import json
import os
import re
import shutil
import signal
import time
from pathlib import Path

import pytest
import torch

from ctnet.data.shape_scenes import SHAPES
from ctnet.inference.detector import Detector

QUICK = ["--workers", 0, "--device", "cpu"]


def test_the_latest_run_is_the_default(ctnet, run_folder: Path) -> None:
    for number, name in enumerate(("new", "old")):
        shutil.copytree(run_folder, Path("runs") / name)
        for file in Path("runs", name).iterdir():
            os.utime(file, (2_000_000 - number, 2_000_000 - number))
    Path("runs/no_run").mkdir()
    shutil.copy(run_folder / "best.pt", "runs/no_run/best.pt")  # newer, but not a run
    done = ctnet("eval", *QUICK, "--json")
    assert done.code == 0, done.err
    assert json.loads(done.out)["checkpoint"] == "runs/new/best.pt"


def test_figures_as_json(ctnet, run_folder: Path, scenes: Path) -> None:
    printed = json.loads(ctnet("eval", run_folder, *QUICK, "--json").out)
    assert printed["data"] == str(scenes / "annotations" / "instances_val.json")
    assert (printed["images"], printed["skipped"]) == (4, 0)
    assert {"AP", "AP50", "AP75", "AR100", f"AP/{SHAPES[0]['name']}"} <= set(printed["metrics"])


def test_figures_as_a_table(ctnet, run_folder: Path) -> None:
    done = ctnet("eval", run_folder, *QUICK)
    assert done.err == ""
    assert f"{run_folder / 'best.pt'} on 4 images of " in done.out
    assert "AP50" in done.out
    assert all(shape["name"] in done.out for shape in SHAPES)


def test_training_and_evaluation_agree(ctnet, run_folder: Path) -> None:
    row = next(csv.DictReader((run_folder / "metrics.csv").read_text().splitlines()))
    metrics = json.loads(ctnet("eval", run_folder, *QUICK, "--amp", "auto", "--json").out)["metrics"]
    assert metrics["AP"] == pytest.approx(float(row["AP"]))
    assert metrics["AR100"] == pytest.approx(float(row["AR100"]))


def test_the_reference_implementation_agrees(ctnet, run_folder: Path) -> None:
    ours, theirs = (
        json.loads(ctnet("eval", run_folder, *QUICK, "--metric", metric, "--json").out)["metrics"]
        for metric in ("coco", "coco-reference")
    )
    assert ours == pytest.approx(theirs)


@pytest.mark.parametrize("metric", ["voc07", "voc10"])
def test_other_metrics(ctnet, run_folder: Path, metric: str) -> None:
    assert "mAP" in json.loads(ctnet("eval", run_folder, *QUICK, "--metric", metric, "--json").out)["metrics"]


def test_another_split_and_a_checkpoint(ctnet, run_folder: Path, scenes: Path) -> None:
    done = ctnet("eval", run_folder / "last.pt", "--split", "train", "--resize", "keep", *QUICK, "--json")
    assert json.loads(done.out)["images"] == 6
    shutil.copy(run_folder / "best.pt", "alone.pt")
    assert (
        "alone.pt is not in a run folder that names its data; give --data DIR"
        in ctnet("eval", "alone.pt").message
    )
    assert json.loads(ctnet("eval", "alone.pt", "--data", scenes, *QUICK, "--json").out)["images"] == 4


def test_unreadable_images_are_counted_or_refused(ctnet, run_folder: Path, scenes: Path) -> None:
    shutil.copytree(scenes, "data")
    Path("data/val/000002.jpg").write_bytes(b"nothing")
    done = ctnet("eval", run_folder, "--data", "data", *QUICK, "--json")
    assert json.loads(done.out)["skipped"] == 1
    assert "warning: skipped 1 with unreadable image (first: 000002.jpg" in done.err
    assert (
        "1 with unreadable image" in ctnet("eval", run_folder, "--data", "data", *QUICK, "--strict").message
    )


def test_data_with_other_categories(ctnet, run_folder: Path, scenes: Path) -> None:
    shutil.copytree(scenes, "data")
    path = Path("data/annotations/instances_val.json")
    path.write_text(path.read_text().replace('"ring"', '"donut"'))
    message = ctnet("eval", run_folder, "--data", "data", *QUICK).message
    assert (
        "data has different categories than the detector (category id 4 is 'donut' there and 'ring' here)"
        in message
    )


def figures(done) -> dict[str, float]:
    assert done.code == 0, done.err
    return json.loads(done.out)["metrics"]


def test_test_time_settings(ctnet, run_folder: Path) -> None:
    def found(*choices: object) -> list[dict[str, object]]:
        assert ctnet("eval", run_folder, *QUICK, "--save", "r.json", *choices).code == 0
        return json.loads(Path("r.json").read_text())

    plain = found()
    assert found("--scales", 1, "--nms", "none") == plain
    others = [found(*c) for c in (["--flip"], ["--multiscale"], ["--scales", "1,2"])]
    assert all(
        one != other for number, one in enumerate([plain, *others]) for other in [plain, *others][:number]
    )


def test_tiles_measure_what_whole_images_measure(ctnet, run_folder: Path) -> None:
    keep = figures(ctnet("eval", run_folder, *QUICK, "--json", "--resize", "keep"))
    tiles = ["--tiles", 96, "--overlap", "exact"]
    assert figures(ctnet("eval", run_folder, *QUICK, "--json", *tiles)) == pytest.approx(keep, abs=1e-6)


def test_time_is_reported_by_stage(ctnet, run_folder: Path) -> None:
    timing = json.loads(ctnet("eval", run_folder, *QUICK, "--json").out)["timing"]
    assert timing["images"] == 4
    assert list(timing["ms_per_image"]) == ["load", "pre", "network", "decode", "post"]
    assert min(timing["ms_per_image"].values()) > 0
    told = ctnet("eval", run_folder, *QUICK).out
    assert re.search(r"[\d.]+ images/s; ms per image: load .*, pre .*, network .*, decode .*, post ", told)


def test_saved_results_measure_the_same(ctnet, run_folder: Path, scenes: Path) -> None:
    done = ctnet("eval", run_folder, *QUICK, "--save", "out/results.json", "--curves", "c.json", "--json")
    assert "detections: out/results.json" in done.err
    arguments = ["--results", "out/results.json", "--data", scenes, "--json"]
    again = ctnet("eval", *arguments, "--metric", "coco-reference", "--curves", "again.json")
    assert figures(again) == pytest.approx(figures(done), abs=1e-6)
    printed = json.loads(again.out)
    assert (printed["results"], printed["images"]) == ("out/results.json", 4)
    assert json.loads(Path("again.json").read_text())["recall"][50] == 0.5
    assert Path("c.json").is_file()
    assert "mAP" in figures(ctnet("eval", *arguments, "--task", "ctdet", "--metric", "voc07"))


def test_images_without_results_and_classes_without_objects_are_reported(ctnet, scenes: Path) -> None:
    shutil.copytree(scenes, "data")
    path = Path("data/annotations/instances_val.json")
    content = json.loads(path.read_text())
    absent = content["categories"][0]
    content["annotations"] = [a for a in content["annotations"] if a["category_id"] != absent["id"]]
    path.write_text(json.dumps(content))
    one = {**content["annotations"][0], "score": 0.5}
    Path("r.json").write_text(json.dumps([one]))
    done = ctnet("eval", "--results", "r.json", "--data", "data")
    assert done.code == 0
    assert "3 of 4 images have no detections in r.json; their objects count as missed" in done.err
    assert f"classes without objects, hence without metrics: 1 ({absent['name']})" in done.err
    assert "AP50" in done.out


def test_saved_maps_measure_nearly_the_same(ctnet, run_folder: Path, scenes: Path) -> None:
    augmented = ["--flip", "--scales", "0.5,1"]
    written = ["--save-maps", "maps.h5", "--save", "n.json"]
    done = ctnet("eval", run_folder, *QUICK, *augmented, *written, "--json")
    assert "maps: maps.h5" in done.err
    again = ctnet("eval", "--maps", "maps.h5", "--data", scenes, "--json", "--save", "r.json")
    assert figures(again) == pytest.approx(figures(done), abs=0.02)
    assert json.loads(again.out)["timing"]["ms_per_image"]["network"] == 0
    network, maps = (json.loads(Path(name).read_text()) for name in ("n.json", "r.json"))
    assert [entry["image_id"] for entry in maps] == [entry["image_id"] for entry in network]
    assert [e["score"] for e in maps] == pytest.approx([e["score"] for e in network], rel=0.01)
    few = figures(
        ctnet("eval", "--maps", "maps.h5", "--data", scenes, "--topk", 1, "--nms", "hard", "--json")
    )
    assert few["AR100"] <= figures(again)["AR100"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--results", "r.json"], "name the data set of the results of r.json: --data DIR"),
        (["--results", "gone.json", "--data", "SCENES"], "cannot read gone.json: No such file"),
        (["--results", "r.json", "--data", "SCENES", "--flip"], "--flip cannot be combined with --results"),
        (["--results", "r.json", "--maps", "m.h5", "--data", "SCENES"], "--maps cannot be combined"),
        (["run", "--results", "r.json", "--data", "SCENES"], "a run cannot be combined with --results"),
        (["--results", "r.json", "--data", "SCENES", "--task", "ctdetect"], "did you mean ctdet"),
        (["--results", "r.json", "--data", "SCENES"], "entry 0 of r.json has no category_id"),
        (["--maps", "m.h5"], "name the data set of the maps of m.h5: --data DIR"),
        (["--maps", "m.h5", "--data", "SCENES"], "m.h5 is not an HDF5 file"),
        (["--maps", "m.h5", "--data", "SCENES", "--save-maps", "n.h5"], "--save-maps cannot be combined"),
        (["--task", "ctdet"], "--task is for --results; a detector and its maps know their task"),
    ],
)
def test_files_that_do_not_do(ctnet, scenes: Path, arguments: list[str], message: str) -> None:
    Path("r.json").write_text('[{"image_id": 1}]')
    Path("m.h5").write_text("no maps")
    given = [str(scenes) if argument == "SCENES" else argument for argument in arguments]
    assert message in ctnet("eval", *given).message


@pytest.mark.parametrize("option", ["--results", "--maps", "--save-maps"])
def test_files_are_for_one_process(ctnet, monkeypatch, option: str) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert ctnet("eval", option, "file").message == f"{option} is for one process; leave out torchrun"


def test_figures_come_before_a_file_that_cannot_be_written(ctnet, run_folder: Path) -> None:
    Path("file").write_text("")
    done = ctnet("eval", run_folder, *QUICK, "--json", "--save", "file/results.json")
    assert done.code == 2
    assert json.loads(done.out)["metrics"]
    assert "cannot write file/results.json" in done.err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--scales", "1,big"], "--scales is '1,big'; write numbers separated by commas"),
        (["--scales", "0"], "--scales is '0'; every scale must be a positive number"),
        (["--metric", "cocoa"], "there is no metric of task ctdet called 'cocoa'; did you mean coco"),
        (["--split", "dev"], "has no split 'dev'; it has train, val; name one with --split$"),
        (["--size", "70"], "size 70x70 does not fit tiny: .* the next size that fits is 96x96"),
        (["--resize", "keep", "--size", "64"], "size 64x64 is for resize fix"),
        (["--tiles", "100"], "--tiles 100 does not fit tiny: sides are multiples of 32; the next is 128"),
        (["--tiles", "64", "--overlap", "exact"], "tiny looks 11 pixels beyond .* sides of 96 or more"),
        (["--tiles", "64"], "tiles of 64 pixels that overlap by 128 have no part of their own"),
        (["--overlap", "64"], "--overlap is of tiles; give --tiles too"),
        (["--tiles", "256", "--size", "64"], "leave out --size or --tiles"),
        (["--tiles", "256", "--save-maps", "m.h5"], "use --resize keep instead of --tiles"),
        (["-O", "snap=off"], "no option of task ctdet called 'snap'"),
        (["-O", "class_specific_size=on"], "these weights do not match the network"),
        (["--device", "tpu"], "device 'tpu' cannot be used here"),
        (["--data", "nowhere"], "nowhere is not a folder"),
    ],
)  # fmt: skip
def test_mistakes(ctnet, run_folder: Path, arguments: list[str], message: str) -> None:
    assert re.search(message, ctnet("eval", run_folder, "--workers", 0, *arguments).message)


def test_no_run_at_all(ctnet, tmp_path: Path) -> None:
    assert ctnet("eval").message == (
        f"there is no run with a checkpoint in {tmp_path / 'runs'}; name a run folder or a checkpoint"
    )


def test_what_is_no_run(ctnet, scenes: Path) -> None:
    assert "contains neither best.pt nor last.pt; is it a run folder" in ctnet("eval", scenes).message
    assert ctnet("eval", "gone.pt").message == "cannot read gone.pt: No such file or directory"
    Path("notes.pt").write_text("hello")
    assert "notes.pt is " in ctnet("eval", "notes.pt").message


def test_weights_of_another_network(ctnet, run_folder: Path, scenes: Path) -> None:
    content = torch.load(run_folder / "best.pt", weights_only=True)
    content["weights"] = {"conv.weight": torch.zeros(3)}
    torch.save(content, "mixed.pt")
    message = ctnet("eval", "mixed.pt", "--data", scenes, *QUICK).message
    assert "these weights do not match the network: 0 loaded" in message


def test_a_checkpoint_of_a_task_that_is_not_installed(ctnet, run_folder: Path, scenes: Path) -> None:
    content = torch.load(run_folder / "best.pt", weights_only=True)
    content["description"] = content["description"].replace('"ctdet"', '"cubes"')
    torch.save(content, "cubes.pt")
    assert "there is no task called 'cubes'" in ctnet("eval", "cubes.pt", "--data", scenes, *QUICK).message


# --- limits, signals, pipes


def crowded(folder: Path, count: int) -> Path:
    """A data directory of one image with this many objects, and results that find them all."""
    boxes = [[10 * (number % 30), 10 * (number // 30), 8, 8] for number in range(count)]
    document = {
        "images": [{"id": 1, "file_name": "a.jpg", "width": 400, "height": 400}],
        "annotations": [
            {"id": number, "image_id": 1, "category_id": 1, "bbox": box} for number, box in enumerate(boxes)
        ],
        "categories": [{"id": 1, "name": "cell"}],
    }
    (folder / "annotations").mkdir(parents=True)
    (folder / "annotations/instances_val.json").write_text(json.dumps(document))
    found = [{"image_id": 1, "category_id": 1, "bbox": box, "score": 0.9} for box in boxes]
    (folder / "results.json").write_text(json.dumps(found))
    return folder


def test_more_objects_than_detections_count_are_reported(ctnet) -> None:
    folder = crowded(Path("data"), 150)
    measure = ["eval", "--results", folder / "results.json", "--data", folder, "--json"]
    done = ctnet(*measure)
    assert "warning: 1 images have more than 100 objects of a class" in done.err
    assert "--max-dets 150 removes the limit" in done.err
    assert json.loads(done.out)["metrics"]["AP"] < 0.7
    done = ctnet(*measure, "--max-dets", 150)
    assert done.err == ""
    figures = json.loads(done.out)["metrics"]
    assert figures["AP"] == pytest.approx(1)
    assert {name for name in figures if name.startswith("AR1")} == {"AR1", "AR10", "AR150"}


def test_a_metric_without_a_limit_takes_none(ctnet) -> None:
    folder = crowded(Path("data"), 3)
    measure = ["eval", "--results", folder / "results.json", "--data", folder, "--metric", "voc07"]
    assert "metric voc07 counts all detections" in ctnet(*measure, "--max-dets", 5).message


def test_areas_that_cannot_be_are_reported(ctnet) -> None:
    folder = crowded(Path("data"), 3)
    file = folder / "annotations/instances_val.json"
    document = json.loads(file.read_text())
    for annotation in document["annotations"]:
        annotation["area"] = 0
    file.write_text(json.dumps(document))
    done = ctnet("eval", "--results", folder / "results.json", "--data", folder, "--json")
    assert "3 annotations state an area that does not match their box" in done.err
    assert json.loads(done.out)["metrics"]["AP"] == pytest.approx(1)


def test_not_one_readable_image_is_an_error(ctnet, run_folder: Path, scenes: Path) -> None:
    shutil.copytree(scenes, "data")
    for file in Path("data/val").iterdir():
        file.unlink()
    done = ctnet("eval", run_folder, "--data", "data", *QUICK)
    assert "not one of 4 images could be read" in done.message


def test_sigterm_ends_like_ctrl_c(ctnet, run_folder: Path, monkeypatch) -> None:
    codes = []
    for number in (signal.SIGINT, signal.SIGTERM):
        monkeypatch.setattr(
            Detector, "detect", lambda *rest, number=number: os.kill(os.getpid(), number) or time.sleep(5)
        )
        done = ctnet("eval", run_folder, *QUICK)
        assert "Traceback" not in done.err
        codes.append(done.code)
    assert codes[0] == codes[1] == 130


def test_detections_go_into_a_pipe(ctnet, run_folder: Path) -> None:
    os.mkfifo("pipe")
    reader = os.open("pipe", os.O_RDONLY | os.O_NONBLOCK)
    done = ctnet("eval", run_folder, *QUICK, "--save", "pipe")
    assert done.code == 0, done.err
    assert isinstance(json.loads(os.read(reader, 1 << 20)), list)
    os.close(reader)
    assert Path("pipe").is_fifo()
    assert (
        "it is a named pipe; name a file" in ctnet("eval", run_folder, *QUICK, "--save-maps", "pipe").message
    )


@pytest.mark.parametrize("option", ["--results", "--maps"])
def test_what_could_be_read_without_end_is_refused(ctnet, scenes: Path, option: str) -> None:
    os.mkfifo("pipe")
    for path in ("pipe", "/dev/zero"):
        assert f"cannot read {path}: it is a" in ctnet("eval", option, path, "--data", scenes).message


def test_one_way_to_a_lower_dtype(ctnet, run_folder: Path) -> None:
    done = ctnet("eval", run_folder, *QUICK, "--amp", "bf16", "--dtype", "bf16")
    assert "leave out --amp or --dtype" in done.message
