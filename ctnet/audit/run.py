"""An audit from a run to its decisions file and page."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from ctnet.audit.decisions import FORMAT, Decisions, Proposal, digest_of
from ctnet.audit.evidence import Evidence, collect
from ctnet.audit.folds import FoldSettings, begin, train_folds
from ctnet.audit.page import write_page
from ctnet.audit.proposals import proposals_of
from ctnet.audit.suggestions import Suggestion, suggestions
from ctnet.base.device import choose_device
from ctnet.base.errors import CtnetError
from ctnet.base.files import write_json
from ctnet.base.output import counted
from ctnet.core.task import Task
from ctnet.data.dataset import Dataset
from ctnet.data.folds import Fold
from ctnet.data.problems import Problem
from ctnet.data.workers import default_workers
from ctnet.inference.detector import Detector
from ctnet.measuring.reading import Settings
from ctnet.training.config import TrainingConfig
from ctnet.training.data import check_categories
from ctnet.training.request import Machine
from ctnet.training.run import Run


@dataclass(frozen=True)
class AuditChoice:
    """What to audit, and how.

    Attributes:
        run: a run folder: its data, task, network and recipe.
        data: the data directory, where it is not that of the run.
        split: the split; with folds the run's training split when None, else its validation split.
        folds: trainings that each leave out a part; 0: the run's own network judges.
        group: a key of the images' entries; images with the same value are in one fold.
        seed: seed of the division.
        fields: fields of the recipe to set for the trainings.
        most: number of suggestions.
        output: the folder; one in the run's when None.
    """

    run: Path
    data: Path | None = None
    split: str | None = None
    folds: int = 0
    group: str | None = None
    seed: int = 0
    fields: Mapping[str, Any] = field(default_factory=dict)
    most: int = 100
    output: Path | None = None


@dataclass(frozen=True)
class Audit:
    """What came of an audit.

    Attributes:
        folder: where the decisions file and the page are.
        dataset: the audited images, bound to the task.
        task: reads and draws them.
        suggestions: all of them, the surest first.
        decisions: those that were written.
        problems: images that could not be read.
        notes: what the user should know.
    """

    folder: Path
    dataset: Dataset
    task: Task
    suggestions: list[Suggestion]
    decisions: Decisions
    problems: list[Problem]
    notes: tuple[str, ...] = ()

    @property
    def file(self) -> Path:
        """The decisions file."""
        return self.folder / "decisions.json"

    @property
    def page(self) -> Path:
        """The page."""
        return self.folder / "audit.html"


def audit(choice: AuditChoice, machine: Machine | None = None) -> Audit:
    """Find likely label errors, and write the decisions file and the page.

    Args:
        choice: what to audit.
        machine: what to train and to detect on.

    Raises:
        CtnetError: for a run without its data, unusable settings, data without annotations, and when nothing
            was found.
    """
    machine = machine or Machine()
    run = Run.existing(choice.run)
    config = TrainingConfig.from_json(run.read_config(), run.config)
    data = _data_of(choice, config)
    split = choice.split or (config.train_split if choice.folds else config.val_split) or config.train_split
    folder = choice.output or run.path / (
        f"audit-{split}" + (f"-{choice.folds}-folds" if choice.folds else "")
    )
    _refuse_decided(folder)
    problems: list[Problem] = []
    if choice.folds:
        dataset, task, evidence = _of_folds(choice, config, data, split, folder, machine, problems)
        sources = [f"fold {number + 1} of {choice.folds}" for number in range(choice.folds)]
    else:
        dataset, task, evidence = _of_run(run, data, split, machine, problems)
        sources = ["the run"]
    if not any(len(one.annotated) for one in evidence):
        raise CtnetError(f"{dataset.coco.path} has no annotated object to audit; annotate some images first")
    found = suggestions(evidence, task.fields)
    chosen, proposals, passed = proposals_of(found, choice.most, dataset, task, sources)
    judged = f"{choice.folds} folds of {run.path}" if choice.folds else f"{run.path}"
    done = Audit(
        folder,
        dataset,
        task,
        found,
        _decisions(dataset, task, split, judged, proposals),
        problems,
        tuple(_notes(passed, learnt=not choice.folds and split == config.train_split)),
    )
    write_json(done.file, done.decisions.to_json())
    write_page(done.page, done.decisions, chosen, dataset, task)
    return done


_LEARNT = (
    "the run has learnt from these annotations, their errors included, and repeats them; with --folds 5 no "
    "network judges what it learnt"
)


def _notes(passed: int, learnt: bool) -> Iterator[str]:
    if learnt:
        yield _LEARNT
    if passed:
        what = "what is seen there is not a valid annotation of the task"
        yield f"{counted(passed, 'suggestion')} passed over: {what}"


def _data_of(choice: AuditChoice, config: TrainingConfig) -> Path:
    data = choice.data or Path(config.data)
    if not data.exists():
        raise CtnetError(
            f"the data of {choice.run}, {data}, does not exist; if it was moved, give its new "
            "location: --data DIR"
        )
    return data


def _refuse_decided(folder: Path) -> None:
    """Do not replace decisions that were made."""
    from ctnet.audit.decisions import read_decisions

    file = folder / "decisions.json"
    if file.is_file() and any(each.decision != "open" for each in read_decisions(file).suggestions):
        raise CtnetError(
            f"{file} has decisions in it, which a new audit would replace; apply them, and move the file "
            "away or choose another --output"
        )


def _decisions(
    dataset: Dataset, task: Task, split: str, judged_by: str, proposals: Sequence[Proposal]
) -> Decisions:
    path = dataset.coco.path
    return Decisions(
        FORMAT,
        str(path.absolute()),
        digest_of(path),
        task.name,
        asdict(task.options),
        split,
        judged_by,
        tuple(proposals),
    )


def _of_folds(
    choice: AuditChoice,
    config: TrainingConfig,
    data: Path,
    split: str,
    folder: Path,
    machine: Machine,
    problems: list[Problem],
) -> tuple[Dataset, Task, list[Evidence]]:
    """The evidence of networks that have each learnt from the other folds."""
    first = Fold(0, choice.folds, choice.group, choice.seed)
    annotations = Dataset.open(data, split).coco.digest
    settings = FoldSettings.of(choice.run, split, annotations, first, choice.fields)
    begin(folder, settings, config)
    runs = train_folds(folder, settings, config, data, machine)
    evidence: list[Evidence] = []
    for number, path in enumerate(runs):
        detector, dataset = _opened(path, data, split, machine)
        rows = settings.fold(number).divide(dataset)[1]
        evidence += collect(detector, dataset, rows, _settings(detector, machine), problems, number)
    return dataset, detector.task, evidence


def _of_run(
    run: Run, data: Path, split: str, machine: Machine, problems: list[Problem]
) -> tuple[Dataset, Task, list[Evidence]]:
    """The evidence of a run's own network."""
    detector, dataset = _opened(run.path, data, split, machine)
    rows = np.arange(len(dataset))
    evidence = collect(detector, dataset, rows, _settings(detector, machine), problems)
    return dataset, detector.task, evidence


def _opened(path: Path, data: Path, split: str, machine: Machine) -> tuple[Detector, Dataset]:
    detector = Detector.load(path, machine.device)
    dataset = Dataset.open(data, split, detector.task)
    check_categories(dataset, detector.task, data)
    return detector, dataset


def _settings(detector: Detector, machine: Machine) -> Settings:
    workers = default_workers(choose_device(machine.device)) if machine.workers is None else machine.workers
    return Settings(flip=detector.exported is None, workers=workers)
