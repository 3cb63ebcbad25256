"""A bench for recipes: variants of a training, each on the same data, with verdicts.

    python benchmarks/recipes/bench.py run STUDY --set raccoon=DIR --set bccd=DIR --set dense
        --variants small,distances [--backbone light32] [--epochs 20] [--seeds 0,1,2]
    python benchmarks/recipes/bench.py table STUDY [--base small] [--json]

``run`` trains what STUDY does not have yet, one training at a time on one thread, and goes on where it was
stopped (a training that was cut off continues from its last checkpoint). One line is printed a training.
Variants are in variants.toml: arguments of ``ctnet train`` on top of the set's. The weights of the last epoch
count, so that nothing is chosen by what is held out.

``table`` prints, per set and variant, the mean AP, AP50 and AP75 over seeds, processor seconds per training,
and the change of AP to the base with its 95 % interval (`ctnet compare`: images are drawn again, and also
trainings where there are several seeds).
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tomllib
from sets import Part, parts_of, prepare

from ctnet.base.files import read_json, write_json
from ctnet.base.output import print_json, print_table

HERE = Path(__file__).parent
FIGURES = ("AP", "AP50", "AP75")


@dataclass(frozen=True)
class Study:
    """What the trainings of one line of the table share.

    Attributes:
        folder: the folder of all trainings.
        data: the set's name.
        backbone, epochs: of the trainings.
        variant: its name in variants.toml.
    """

    folder: Path
    data: str
    backbone: str
    epochs: int
    variant: str

    @property
    def path(self) -> Path:
        return self.folder / f"{self.data}-{self.backbone}-{self.epochs}" / self.variant

    def seeds(self) -> list[int]:
        """The seeds whose trainings are finished."""
        return sorted(int(file.parent.name) for file in self.path.glob("*/results.json"))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(dest="command", required=True)
    run = commands.add_parser("run")
    run.add_argument("study", type=Path)
    run.add_argument("--set", action="append", required=True, help="bccd=DIR, raccoon=DIR or dense")
    run.add_argument("--variants", required=True)
    run.add_argument("--backbone", default="light32")
    run.add_argument("--epochs", type=int, default=20)
    run.add_argument("--seeds", default="0")
    table = commands.add_parser("table")
    table.add_argument("study", type=Path)
    table.add_argument("--base", default="small")
    table.add_argument("--json", action="store_true")
    options = parser.parse_args()
    if options.command == "run":
        # So that a training that is stopped writes down the time that it took.
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
        for line in train_all(options):
            print(line, flush=True)
    else:
        show(options.study, options.base, options.json)


def variants() -> dict[str, list[str]]:
    """The arguments of ``ctnet train`` by variant."""
    return {
        name: list(entry["arguments"])
        for name, entry in tomllib.loads((HERE / "variants.toml").read_text()).items()
    }


def train_all(options: argparse.Namespace) -> Iterator[str]:
    """Train everything that is asked for and not there yet; a line for each training."""
    known = variants()
    chosen = options.variants.split(",")
    if unknown := sorted(set(chosen) - set(known)):
        raise SystemExit(f"no variant {unknown[0]} in variants.toml; there are {', '.join(known)}")
    for seed in [int(text) for text in options.seeds.split(",")]:
        for entry in options.set:
            name, _, source = entry.partition("=")
            data = prepare(name, Path(source) if source else None, options.study / "data")
            for variant in chosen:
                study = Study(options.study, name, options.backbone, options.epochs, variant)
                yield from _train(study, data, known[variant], seed)


def _train(study: Study, data: Path, arguments: Sequence[str], seed: int) -> Iterator[str]:
    """All parts of one training, and their joined results."""
    folder = study.path / str(seed)
    if (folder / "results.json").is_file():
        return
    parts = parts_of(study.data)
    for part in parts:
        record = folder / f"{part.name}.json"
        if not record.is_file():
            write_json(record, _train_part(study, data, arguments, seed, part))
        yield f"{study.data} {study.variant} seed {seed} {part.name}: {_summary(read_json(record))}"
    # Images have the same ids in all splits of a set, so the results of its parts can be joined.
    found = [entry for part in parts for entry in read_json(folder / f"{part.name}.json")["results"]]
    write_json(folder / "results.json", found, indent=None)


def _summary(record: dict[str, Any]) -> str:
    figures = " ".join(f"{name} {record['metrics'][name]:.3f}" for name in FIGURES)
    return f"{figures}, {record['seconds']:.0f} processor seconds"


def _train_part(study: Study, data: Path, arguments: Sequence[str], seed: int, part: Part) -> dict[str, Any]:
    """Train and evaluate: metrics, results, processor seconds (of all attempts)."""
    run = study.path / str(seed) / part.name
    spent = run.with_suffix(".seconds")
    run.parent.mkdir(parents=True, exist_ok=True)
    # `epochs` of a variant (such as those that need more) stands after the study's.
    fresh = [
        "train",
        "ctdet",
        "--data",
        str(data),
        "--backbone",
        study.backbone,
        "--epochs",
        str(study.epochs),
    ]
    fresh += ["--size", "192" if study.data == "dense" else "256", "--batch-size", "16"]
    fresh += ["--train-split", part.train, "--val-split", "none", "--seed", str(seed), "--workers", "0"]
    fresh += ["--amp", "off", "--cache", "ram", "-R", "report=false", "-o", str(run), *arguments]
    begun = (run / "last.pt").is_file()
    command = ["train", "--resume", str(run), "--workers", "0"] if begun else fresh
    before = float(spent.read_text()) if spent.is_file() and begun else 0.0
    started = _seconds_of_children()
    try:
        _ctnet(command, run.with_suffix(".log"))
    finally:
        seconds = before + _seconds_of_children() - started
        spent.write_text(str(seconds))
    results = run.with_suffix(".found.json")
    judged = ["eval", str(run), "--data", str(data), "--split", part.held, "--workers", "0"]
    printed = run.with_suffix(".metrics.json")
    _ctnet([*judged, "--save", str(results), "--json"], printed)
    document = json.loads(printed.read_text())
    metrics = document.get("metrics", document)
    return {"seconds": seconds, "metrics": metrics, "results": read_json(results)}


def _ctnet(arguments: Sequence[str], output: Path) -> None:
    """Run a command of ctnet on one thread."""
    errors = output.with_suffix(".err")
    with output.open("w") as stream, errors.open("w") as said:
        process = subprocess.Popen(
            [sys.executable, "-m", "ctnet", *arguments],
            stdout=stream,
            stderr=said,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )
        try:
            code = process.wait()
        except BaseException:
            process.terminate()  # it saves, and is resumed
            process.wait()
            raise
    if code:
        last = " ".join(errors.read_text().strip().splitlines()[-3:])
        raise SystemExit(f"{' '.join(arguments)} ended with {code}: {last}")


def _seconds_of_children() -> float:
    """Processor seconds of all processes that were started and have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def show(folder: Path, base: str, as_json: bool) -> None:
    """Print the table of a study."""
    rows = []
    for group in sorted(entry for entry in folder.iterdir() if entry.is_dir() and entry.name != "data"):
        data, backbone, epochs = group.name.rsplit("-", 2)
        of = [
            Study(folder, data, backbone, int(epochs), entry.name)
            for entry in sorted(group.iterdir())
            if entry.is_dir()
        ]
        found = {study.variant: study for study in of if study.seeds()}
        for variant in sorted(found, key=lambda name: (name != base, name)):
            rows.append(_row(found[variant], found.get(base)))
    if as_json:
        print_json(rows)
        return
    titles = ["set", "variant", "seeds", *FIGURES, "s", f"AP - {base}", "95 %"]
    print_table(titles, [[str(row[title]) for title in titles] for row in rows])


def _row(study: Study, base: Study | None) -> dict[str, Any]:
    """One line of the table."""
    seeds = study.seeds()
    data = study.folder / "data" / study.data
    metrics = [_judge(study.path / str(seed) / "results.json", data) for seed in seeds]
    records = [
        read_json(study.path / str(seed) / f"{part.name}.json")
        for seed in seeds
        for part in parts_of(study.data)
    ]
    row: dict[str, Any] = {
        "set": f"{study.data} {study.backbone} {study.epochs}",
        "variant": study.variant,
        "seeds": len(seeds),
        **{name: f"{np.mean([entry[name] for entry in metrics]):.3f}" for name in FIGURES},
        "s": f"{np.sum([record['seconds'] for record in records]) / len(seeds):.0f}",
        f"AP - {base.variant if base else ''}": "",
        "95 %": "",
    }
    shared = sorted(set(seeds) & set(base.seeds())) if base is not None else []
    if base is not None and shared and base.variant != study.variant:
        files = [str(one.path / str(seed) / "results.json") for one in (base, study) for seed in shared]
        several = ["--runs"] if len(shared) > 1 else []
        verdict = _json(["compare", *several, *files, "--data", str(data), "--split", "held", "--json"])
        change = verdict["metrics"]["AP"]
        low, high = change["bca"] or change["percentile"]
        row |= {f"AP - {base.variant}": f"{change['difference']:+.3f}", "95 %": f"{low:+.3f} to {high:+.3f}"}
    return row


def _judge(results: Path, data: Path) -> dict[str, float]:
    """The metrics of a results file, kept beside it."""
    kept = results.with_name("judged.json")
    if not kept.is_file():
        found = _json(["eval", "--results", str(results), "--data", str(data), "--split", "held", "--json"])
        write_json(kept, found.get("metrics", found))
    metrics: dict[str, float] = read_json(kept)
    return metrics


def _json(arguments: Sequence[str]) -> Any:
    done = subprocess.run(
        [sys.executable, "-m", "ctnet", *arguments], capture_output=True, text=True, check=True
    )
    return json.loads(done.stdout)


if __name__ == "__main__":
    main()
