"""A run that is reported on: its files, one evaluation, and the matches of its detections."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from ctnet.analysis.comparison import Measured
from ctnet.analysis.oracles import Oracle, oracle
from ctnet.analysis.scored import Scored, thinned
from ctnet.analysis.subject import DetectorSubject
from ctnet.base.errors import CtnetError
from ctnet.core.evaluator import Evaluator, State
from ctnet.evaluation.bootstrap import draw_metrics
from ctnet.inference.detector import Detector, checkpoint_of
from ctnet.measuring.reading import Settings
from ctnet.measuring.run import Evaluation
from ctnet.training.config import TrainingConfig
from ctnet.training.data import evaluation_data
from ctnet.training.run import Run


@dataclass(frozen=True)
class ReportChoices:
    """How runs are reported on; each number bounds time and size.

    Attributes:
        data, split: the ground truth; a run's own when None.
        device: the device of the detectors.
        images: most images to evaluate; of more, some are chosen evenly.
        oracle_images: most images on which heads are replaced by ground truth; 0 for none.
        pictures: images to show of each kind of error.
        draws: number of draws of the images, for intervals.
        plots: also write PNG plots into the folders of the runs.
        settings, workers, amp: see ``Choices``.
    """

    data: Path | None = None
    split: str | None = None
    device: str = "auto"
    images: int = 5000
    oracle_images: int = 200
    pictures: int = 5
    draws: int = 1000
    plots: bool = False
    settings: Settings = field(default_factory=Settings)
    workers: int | None = None
    amp: str = "off"


#: At the end of a training: seconds, whatever the data set.
AFTER_TRAINING = ReportChoices(images=300, oracle_images=60, draws=300, plots=True)


@dataclass(frozen=True)
class ReportedRun:
    """A run with its evaluation, as sections of plugins get it.

    Attributes:
        path: the run folder, checkpoint or exported file.
        detector: the detector.
        subject: the detector with the images that were evaluated; None without data.
        done: the evaluation; None without one.
        found: detections by image id, in image pixels.
        images: number of images of the split, of which ``subject`` may have some.
    """

    path: Path
    detector: Detector
    subject: DetectorSubject | None = None
    done: Evaluation | None = None
    found: State = field(default_factory=dict)
    images: int = 0


@dataclass(frozen=True)
class Examined:
    """What the page is made of besides the run itself.

    Attributes:
        run: the run.
        config: its settings; None for a checkpoint alone.
        rows: the rows of metrics.csv.
        scored: matches of the detections; None without an evaluation.
        measured: with draws of the images; None where there are no intervals.
        oracle: heads replaced by ground truth, and on how many images.
        left_out: what is missing, and why.
    """

    run: ReportedRun
    config: TrainingConfig | None
    rows: Sequence[dict[str, float]]
    scored: Scored | None
    measured: Measured | None
    oracle: tuple[Oracle, int] | None
    left_out: list[str]


def examine_run(path: Path, choices: ReportChoices) -> Examined:
    """Open a run and evaluate it; what is missing or cannot be computed is listed, not an error.

    Args:
        path: run folder, checkpoint or exported file.
        choices: how.

    Raises:
        CtnetError: where there is no network to open.
    """
    left_out: list[str] = []
    detector = Detector.load(path, choices.device)
    folder = Run(path if path.is_dir() else path.parent)
    config, rows = _files(folder, left_out)
    run = ReportedRun(path, detector)
    scored = measured = table = None
    try:
        run = _evaluated(run, choices)
    except CtnetError as error:
        left_out.append(f"everything about single images and objects, since there is no evaluation: {error}")
    if run.subject is not None and run.done is not None:
        scored = Scored.of(run.subject.dataset, run.found)
        if len(run.subject.dataset) < run.images:
            left_out.append(
                f"{run.images - len(run.subject.dataset)} of {run.images} images: figures are of "
                f"{len(run.subject.dataset)} that are chosen evenly; --images {run.images} evaluates all"
            )
        left_out += [f"the content of {problem.where}: {problem.what}" for problem in run.done.problems[:10]]
        measured = _measured(run.done.evaluator, choices, left_out)
        table = _oracle(run.subject, choices, left_out)
    return Examined(run, config, rows, scored, measured, table, left_out)


def _files(folder: Run, left_out: list[str]) -> tuple[TrainingConfig | None, list[dict[str, float]]]:
    """The settings and epochs of a run, as far as they can be read."""
    config, rows = None, []
    try:
        config = TrainingConfig.from_json(folder.read_config(), folder.config)
    except CtnetError as error:
        left_out.append(f"the settings of the training: {error}")
    try:
        rows = folder.read_metrics()
    except CtnetError as error:
        left_out.append(f"curves over epochs: {error}")
    return config, rows


def _evaluated(run: ReportedRun, choices: ReportChoices) -> ReportedRun:
    dataset = evaluation_data(run.detector, run.path, choices.data, choices.split)
    images = len(dataset)
    if images > choices.images:
        dataset = dataset.subset(thinned(images, choices.images))
    subject = DetectorSubject(checkpoint_of(run.path), run.detector.task, dataset, False, run.detector)
    done = subject.evaluate(subject.on_device(choices.settings, choices.workers, choices.amp))
    assert done.evaluator is not None
    return replace(run, subject=subject, done=done, found=done.evaluator.state(), images=images)


def _measured(evaluator: Evaluator | None, choices: ReportChoices, left_out: list[str]) -> Measured | None:
    assert evaluator is not None
    try:
        tally = evaluator.tally()
        return Measured(evaluator, tally, draw_metrics(tally, choices.draws))
    except CtnetError as error:
        left_out.append(f"intervals: {error}")
        return None


def _oracle(
    subject: DetectorSubject, choices: ReportChoices, left_out: list[str]
) -> tuple[Oracle, int] | None:
    """Each head alone replaced by ground truth."""
    if not choices.oracle_images:
        return None
    dataset = subject.dataset
    some = dataset.subset(thinned(len(dataset), choices.oracle_images))
    settings = subject.on_device(choices.settings, choices.workers, choices.amp)
    heads = [[name] for name in subject.task.heads]
    try:
        return oracle(subject.detector, some, heads, settings), len(some)
    except CtnetError as error:
        left_out.append(f"what a perfect head would gain: {error}")
        return None
