"""``ctnet eval``."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ctnet.base.errors import CtnetError
from ctnet.base.output import print_json, print_line
from ctnet.cli.parsing import (
    DEVICE_HELP,
    FLIP_HELP,
    MULTISCALE_HELP,
    NMS_HELP,
    OPTION_HELP,
    RESIZE_HELP,
    SCALES_HELP,
    SIZE_HELP,
    parse_assignments,
    parse_size,
    refuse_other_settings,
)

if TYPE_CHECKING:
    from ctnet.base.ranks import Ranks
    from ctnet.core.task import Task
    from ctnet.data.dataset import Dataset
    from ctnet.data.problems import Problem
    from ctnet.measuring.run import Evaluation, Settings
    from ctnet.ops.nms import Nms

#: What makes sense with --results and with --maps: no network looks at images then.
_WITH_RESULTS = ("data", "split", "task", "metric", "max_dets", "strict", "curves", "json")
_WITH_MAPS = ("data", "split", "metric", "max_dets", "strict", "curves", "json", "topk", "nms", "save")


def evaluate(
    context: typer.Context,
    run: Annotated[
        Path | None, typer.Argument(help="Run folder or checkpoint; the latest run when left out.")
    ] = None,
    data: Annotated[Path | None, typer.Option(help="Data directory; the run's own when left out.")] = None,
    split: Annotated[
        str | None, typer.Option(help="Split; the run's validation split when left out.")
    ] = None,
    metric: Annotated[
        str | None, typer.Option(help="One of the task's metrics, see `ctnet tasks show`.")
    ] = None,
    flip: Annotated[bool, typer.Option("--flip", help=FLIP_HELP)] = False,
    multiscale: Annotated[bool, typer.Option("--multiscale", help=MULTISCALE_HELP)] = False,
    scales: Annotated[str | None, typer.Option(help=SCALES_HELP)] = None,
    nms: Annotated[str | None, typer.Option(help=NMS_HELP)] = None,
    resize: Annotated[str, typer.Option(help=RESIZE_HELP)] = "fix",
    size: Annotated[str | None, typer.Option(help=SIZE_HELP + " For --resize fix.")] = None,
    topk: Annotated[int, typer.Option(min=1, help="Detections per image.")] = 100,
    max_dets: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Detections of a class that count in an image; the metric's own (COCO's 100, or 20 for "
            "poses) when left out.",
        ),
    ] = None,
    option: Annotated[list[str] | None, typer.Option("-O", "--option", help=OPTION_HELP)] = None,
    batch_size: Annotated[int, typer.Option(min=1, help="Images a forward pass.")] = 8,
    device: Annotated[str, typer.Option(help=DEVICE_HELP)] = "auto",
    workers: Annotated[int | None, typer.Option(min=0, help="Loading processes.")] = None,
    amp: Annotated[str, typer.Option(help="Mixed precision: off, auto, bf16, fp16.")] = "off",
    save: Annotated[Path | None, typer.Option(help="Write all detections to this COCO results file.")] = None,
    save_maps: Annotated[
        Path | None, typer.Option(help="Write the network's maps to this HDF5 file, for --maps.")
    ] = None,
    curves: Annotated[
        Path | None, typer.Option(help="Write precision at 101 recalls per class and IoU to this JSON file.")
    ] = None,
    results: Annotated[
        Path | None, typer.Option(help="Measure this COCO results file, anybody's, instead of a detector.")
    ] = None,
    maps: Annotated[
        Path | None, typer.Option(help="Decode and measure the maps of this file instead of a detector.")
    ] = None,
    task: Annotated[str | None, typer.Option(help="Whose results --results are; ctdet.")] = None,
    strict: Annotated[
        bool, typer.Option("--strict", help="Refuse bad records instead of skipping them.")
    ] = False,
    json: Annotated[bool, typer.Option("--json", help="Figures as JSON on stdout.")] = False,
) -> None:
    """Measure a trained detector on a data set, or a file of results or maps.

    Started by torchrun, the processes share the images; the figures are the same.

    Examples:

    * `ctnet eval`

    * `ctnet eval runs/ctdet-resfpn18-1 --split test --metric voc07`

    * `ctnet eval best.pt --data DIR --resize keep --flip --multiscale --json`

    * `ctnet eval RUN -O NAME=VALUE`

    * `ctnet eval --save results.json --save-maps maps.h5 --curves curves.json`

    * `ctnet eval --results results.json --data DIR --split val`

    * `ctnet eval --maps maps.h5 --data DIR --nms hard`

    * `torchrun --nproc-per-node 4 --no-python ctnet eval runs/ctdet-dla34-1`
    """
    from ctnet.base.ranks import device_of_rank, launched_ranks, number_of_processes
    from ctnet.ops.nms import nms_method

    topk = max(topk, max_dets or 0)
    method = None if nms is None else nms_method(nms)
    for name, path in (("results", results), ("maps", maps), ("save-maps", save_maps)):
        if path is not None and number_of_processes() > 1:
            raise CtnetError(f"--{name} is for one process; leave out torchrun")
    if results is not None:
        refuse_other_settings(context, "results", _WITH_RESULTS)
        report = _measured_results(results, data, split, task or "ctdet", metric, max_dets, strict)
        report.give(save=None, curves=curves, json=json)
        return
    if task is not None:
        raise CtnetError("--task is for --results; a detector and its maps know their task")
    if maps is not None:
        refuse_other_settings(context, "maps", _WITH_MAPS)
        report = _measured_maps(maps, data, split, topk, method, metric, max_dets, strict)
        report.give(save=save, curves=curves, json=json)
        return

    from ctnet.inference.preprocessing import resize_mode
    from ctnet.inference.settings import choose_scales
    from ctnet.measuring.run import Settings

    settings = Settings(
        flip=flip,
        scales=choose_scales(multiscale, scales),
        nms=method,
        resize=resize_mode(resize),
        size=parse_size(size),
        topk=topk,
        batch_size=batch_size,
        metric=metric,
        max_dets=max_dets,
    )
    with launched_ranks() as ranks:
        detector_device = device_of_rank(device)
        options = parse_assignments(option or [])
        measured = _measured_run(
            run, options, data, split, settings, detector_device, workers, amp, save_maps, strict, ranks
        )
        if ranks.is_first:
            measured.give(save=save, curves=curves, json=json)


@dataclass
class _Report:
    """What was measured, and how to say so."""

    kind: str
    source: Path
    dataset: Dataset
    task: Task
    done: Evaluation
    problems: list[Problem]

    def give(self, save: Path | None, curves: Path | None, json: bool) -> None:
        """Figures first; the files after them, so that a full disk costs no figure."""
        from ctnet.base.files import write_json

        evaluator = self.done.evaluator
        assert evaluator is not None
        self._warn()
        if json:
            print_json(self._document())
        else:
            self._print()
        if save is not None:
            write_json(save, self.done.results(self.task), indent=None)
            print_line(f"detections: {save}")
        if curves is not None:
            write_json(curves, evaluator.curves(), indent=None)
            print_line(f"curves: {curves}")

    def _warn(self) -> None:
        from ctnet.data.problems import summarize
        from ctnet.measuring.results import images_without_results

        for line in [*summarize(self.problems), *self.dataset.warnings]:
            print_line(f"warning: {line}")
        assert self.done.evaluator is not None
        if nowhere := self.done.evaluator.classes_without_objects():
            names = ", ".join(nowhere[:5]) + (", ..." if len(nowhere) > 5 else "")
            print_line(f"classes without an object, hence without a figure: {len(nowhere)} ({names})")
        if line := self.done.evaluator.beyond_limit():
            print_line(f"warning: {line}")
        empty = images_without_results(self.done.evaluator, self.dataset)
        if self.kind != "checkpoint" and empty:
            print_line(
                f"{empty} of {len(self.dataset)} images have no detection in {self.source}; "
                "what they show is missed"
            )

    def _document(self) -> dict[str, Any]:
        document = {
            self.kind: str(self.source),
            "data": str(self.dataset.coco.path),
            "images": len(self.dataset),
            "skipped": len(self.problems),
            "metrics": self.done.metrics,
        }
        return document if self.kind == "results" else {**document, "timing": self.done.times.to_json()}

    def _print(self) -> None:
        from ctnet.report.tables import print_metrics

        print_line(f"{self.source} on {len(self.dataset)} images of {self.dataset.coco.path}")
        print_metrics(self.done.metrics)
        if self.kind != "results":
            print_line(str(self.done.times))


def _measured_run(
    run: Path | None,
    options: Mapping[str, str],
    data: Path | None,
    split: str | None,
    settings: Settings,
    device: str,
    workers: int | None,
    amp: str,
    save_maps: Path | None,
    strict: bool,
    ranks: Ranks,
) -> _Report:
    from ctnet.base.device import choose_amp
    from ctnet.data.problems import refuse
    from ctnet.data.workers import default_workers
    from ctnet.inference import Detector
    from ctnet.inference.detector import checkpoint_of
    from ctnet.inference.maps import write_maps
    from ctnet.measuring.run import evaluate
    from ctnet.training import latest_run
    from ctnet.training.data import evaluation_data

    path = run or latest_run()
    detector = Detector.load(path, device, options)
    dataset = evaluation_data(detector, path, data, split)
    problems = list(dataset.problems)
    if strict:
        refuse(problems, dataset.coco.path)
    settings = replace(
        settings,
        workers=default_workers(detector.device) if workers is None else workers,
        amp=choose_amp(amp, detector.device),
    )
    keeping = nullcontext() if save_maps is None else write_maps(save_maps, detector.description, settings)
    with keeping as keep_maps:
        done = evaluate(detector, dataset, settings, ranks=ranks, keep_maps=keep_maps)
    if strict:
        refuse(done.problems, dataset.coco.path)
    if save_maps is not None:
        print_line(f"maps: {save_maps}")
    problems += done.problems
    return _Report("checkpoint", checkpoint_of(path), dataset, detector.task, done, problems)


def _measured_results(
    results: Path,
    data: Path | None,
    split: str | None,
    task_name: str,
    metric: str | None,
    max_dets: int | None,
    strict: bool,
) -> _Report:
    from ctnet.core.task import create_task, load_task_class
    from ctnet.data.dataset import Dataset
    from ctnet.data.problems import refuse
    from ctnet.measuring.results import evaluate_results

    if data is None:
        raise CtnetError(f"say which data the results of {results} are of: --data DIR [--split SPLIT]")
    dataset = Dataset.open(data, split or "val", load_task_class(task_name))
    task = create_task(task_name, dataset.categories)
    dataset = dataset.with_task(task)
    if strict:
        refuse(dataset.problems, dataset.coco.path)
    done = evaluate_results(dataset, task, results, metric, max_dets)
    return _Report("results", results, dataset, task, done, list(dataset.problems))


def _measured_maps(
    path: Path,
    data: Path | None,
    split: str | None,
    topk: int,
    nms: Nms | None,
    metric: str | None,
    max_dets: int | None,
    strict: bool,
) -> _Report:
    from ctnet.data.dataset import Dataset
    from ctnet.inference.maps import MapFile
    from ctnet.measuring.stored import evaluate_maps
    from ctnet.training.data import check_categories

    if data is None:
        raise CtnetError(f"say which data the maps of {path} are of: --data DIR [--split SPLIT]")
    with MapFile.open(path) as maps:
        task = maps.description.create_task()
        dataset = Dataset.open(data, split or "val", task, strict=strict)
        check_categories(dataset, task, data)
        done = evaluate_maps(maps, dataset, task, topk, nms, metric, max_dets)
    return _Report("maps", path, dataset, task, done, list(dataset.problems))
