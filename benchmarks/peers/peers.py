"""Other detectors on the bench's data: trained from scratch, judged by the same evaluator.

    python benchmarks/peers/peers.py run STUDY --set raccoon=DIR --peer yolo11n --epochs 40
        [--python ENV/bin/python] [--seed 0] [--size 256]
    python benchmarks/peers/peers.py table STUDY
    python benchmarks/peers/peers.py speed STUDY --python ENV/bin/python --peers yolo11n,yolo11s

A peer runs in an environment of its own (Ultralytics replaces `cv2`, and its code is under the AGPL, so it is
never imported by ctnet): `python -m venv ENV && ENV/bin/pip install ultralytics`. torchvision's detectors
(``fasterrcnn``, ``retinanet``, ``ssdlite``, ``fcos``) need no other than ctnet's. ``peer_*.py`` are what runs
there: they know nothing of ctnet, read COCO JSON or YOLO labels, and write COCO results.

Sets, parts and what is held out are those of ``benchmarks/recipes``; one thread; nothing is chosen by what
is held out. Printed are AP, AP50 and AP75 on what is held out, processor seconds, and parameters.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent / "recipes"))
from sets import Part, parts_of, prepare  # noqa: E402

from ctnet.base.files import read_json, write_json  # noqa: E402
from ctnet.base.output import print_table  # noqa: E402

FIGURES = ("AP", "AP50", "AP75")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(dest="command", required=True)
    run = commands.add_parser("run")
    run.add_argument("study", type=Path)
    run.add_argument("--set", required=True)
    run.add_argument("--peer", required=True)
    run.add_argument("--epochs", type=int, required=True)
    run.add_argument("--python", type=Path, default=Path(sys.executable))
    run.add_argument("--seed", type=int, default=0)
    run.add_argument("--size", type=int, default=256)
    table = commands.add_parser("table")
    table.add_argument("study", type=Path)
    speed = commands.add_parser("speed")
    speed.add_argument("study", type=Path)
    speed.add_argument("--peers", required=True)
    speed.add_argument("--python", type=Path, default=Path(sys.executable))
    options = parser.parse_args()
    if options.command == "run":
        train(options)
    elif options.command == "speed":
        for peer in options.peers.split(","):
            print(json.dumps(_run(options.python, ["speed", peer], peer)), flush=True)
    else:
        show(options.study)


def train(options: argparse.Namespace) -> None:
    """Train and judge a peer on all parts of a set that are not there yet."""
    name, _, source = options.set.partition("=")
    data = prepare(name, Path(source) if source else None, options.study / "data")
    folder = options.study / f"{name}-{options.peer}-{options.epochs}" / str(options.seed)
    found = []
    for part in parts_of(name):
        record = folder / f"{part.name}.json"
        if not record.is_file():
            write_json(record, _train_part(options, data, part, folder / part.name))
        found += read_json(record)["results"]
        print(f"{name} {options.peer} seed {options.seed} {part.name} done", flush=True)
    write_json(folder / "results.json", found, indent=None)


def _train_part(options: argparse.Namespace, data: Path, part: Part, folder: Path) -> dict[str, Any]:
    """Train on a part; its results on what the part holds out, and the processor seconds of the training."""
    own = folder / "data"
    for split, name in ((part.train, "train"), (part.held, "val")):
        write_json(own / "annotations" / f"instances_{name}.json", _whole_names(data, split))
    yolo = folder / "yolo"
    if not (yolo / "data.yaml").is_file():
        _call([sys.executable, "-m", "ctnet", "convert", "yolo", str(own), "-o", str(yolo), "--export"])
    request = folder / "request.json"
    write_json(
        request,
        {
            "peer": options.peer,
            "epochs": options.epochs,
            "seed": options.seed,
            "size": options.size,
            "yolo": str((yolo / "data.yaml").absolute()),
            "coco": str((own / "annotations").absolute()),
            "folder": str(folder.absolute()),
        },
    )
    before = _seconds()
    _call([str(options.python), str(_script(options.peer)), "train", str(request)], folder / "train.log")
    seconds = _seconds() - before
    _call([str(options.python), str(_script(options.peer)), "predict", str(request)], folder / "predict.log")
    return {"seconds": seconds, **read_json(folder / "found.json")}


def _whole_names(data: Path, split: str) -> Any:
    """A split's annotations with absolute names of images."""
    document = read_json(data / "annotations" / f"instances_{split}.json")
    for image in document["images"]:
        at = [data / image["file_name"], data / split / image["file_name"]]
        image["file_name"] = str(next(path for path in at if path.is_file()).resolve())
    return document


def _script(peer: str) -> Path:
    return HERE / ("peer_ultralytics.py" if peer.startswith("yolo") else "peer_torchvision.py")


def _run(python: Path, arguments: list[str], peer: str) -> Any:
    done = subprocess.run(
        [str(python), str(_script(peer)), *arguments],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    return json.loads(done.stdout.strip().splitlines()[-1])


def _call(command: list[str], log: Path | None = None) -> None:
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH" or log is None}
    with open(log or os.devnull, "w") as stream:
        done = subprocess.run(
            command, stdout=stream, stderr=stream, env={**environment, "OMP_NUM_THREADS": "1"}
        )
    if done.returncode:
        raise SystemExit(f"{' '.join(command)} ended with {done.returncode}; see {log}")


def _seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def show(study: Path) -> None:
    """Print the table of all peers of a study."""
    rows = []
    for file in sorted(study.glob("*-*-*/*/results.json")):
        name, peer, epochs = file.parent.parent.name.rsplit("-", 2)
        arguments = ["eval", "--results", str(file), "--data", str(study / "data" / name), "--split", "held"]
        done = subprocess.run(
            [sys.executable, "-m", "ctnet", *arguments, "--json"], capture_output=True, text=True, check=True
        )
        found = json.loads(done.stdout)
        metrics = found.get("metrics", found)
        records = [read_json(file.parent / f"{part.name}.json") for part in parts_of(name)]
        rows.append(
            [name, peer, epochs, file.parent.name]
            + [f"{metrics[figure]:.3f}" for figure in FIGURES]
            + [f"{sum(record['seconds'] for record in records):.0f}", f"{records[0]['parameters'] / 1e6:.1f}"]
        )
    print_table(["set", "peer", "epochs", "seed", *FIGURES, "s", "M"], rows)


if __name__ == "__main__":
    main()
