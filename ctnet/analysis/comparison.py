"""Comparing models, or recipes, on the same images: opening them, and what is said of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ctnet.analysis.subject import DetectorSubject, Ground, ResultsSubject, Subject
from ctnet.base.errors import CtnetError
from ctnet.core.evaluator import Evaluator
from ctnet.core.tally import Tally
from ctnet.core.task import Task
from ctnet.evaluation.bootstrap import LEVEL, Draws, draw_metrics, warnings
from ctnet.evaluation.comparison import (
    Difference,
    Disagreement,
    compare_models,
    compare_recipes,
    most_different,
)
from ctnet.measuring.reading import Settings

#: Images that are listed.
_LISTED = 10


@dataclass(frozen=True)
class Measured:
    """One model, evaluated and drawn."""

    evaluator: Evaluator
    tally: Tally
    drawn: Draws


@dataclass(frozen=True)
class Choices:
    """How models are compared.

    Attributes:
        settings: test-time settings, the same for all.
        workers, amp: see ``Subject.on_device``.
        draws, seed: of images.
    """

    settings: Settings
    workers: int | None = None
    amp: str = "off"
    draws: int = 1000
    seed: int = 0


@dataclass(frozen=True)
class Comparison:
    """B compared with A.

    Attributes:
        a, b: the files of each: one, or the trainings of a recipe.
        data: the annotations.
        images, draws, seed: what was drawn.
        main_metric: the one that decides.
        by_metric: all metrics that both have.
        most_different: the images with the most influence, by file name; none for recipes.
        warnings: what makes intervals too narrow.
    """

    a: list[str]
    b: list[str]
    data: str
    images: int
    draws: int
    seed: int
    main_metric: str
    by_metric: dict[str, Difference]
    most_different: dict[str, Disagreement]
    warnings: list[str]

    @property
    def main(self) -> Difference:
        """The difference in the main metric."""
        return self.by_metric[self.main_metric]

    @property
    def said(self) -> str:
        """The answer in a sentence."""
        main, name = self.main, self.main_metric
        low, high = main.percentile
        between = f"{main.difference:+.4f}, {LEVEL:.0%} from {low:+.4f} to {high:+.4f}"
        what = "recipes" if len(self.a) > 1 else "models"
        if not main.distinguishable:
            return f"not distinguishable by {name}: B - A is {between}, on {self.images} images like these"
        better = "B" if main.probability > 0.5 else "A"
        return (
            f"{better} is the better of these two {what} by {name}, on images like these: B - A is {between}"
        )

    def to_json(self) -> dict[str, Any]:
        return {
            "a": self.a if len(self.a) > 1 else self.a[0],
            "b": self.b if len(self.b) > 1 else self.b[0],
            "data": self.data,
            "images": self.images,
            "draws": self.draws,
            "seed": self.seed,
            "level": LEVEL,
            "main_metric": self.main_metric,
            "distinguishable": self.main.distinguishable,
            "probability_b_better": self.main.probability,
            "answer": self.said,
            "metrics": {name: one.to_json() for name, one in self.by_metric.items()},
            "most_different": [
                {"image_id": one.image_id, "file_name": name, "effect": one.effect}
                for name, one in self.most_different.items()
            ],
            "warnings": self.warnings,
        }


def compare(
    paths: Sequence[Path], recipes: bool, subjects: Sequence[Subject], choices: Choices
) -> Comparison:
    """Compare two models, or the trainings of two recipes.

    Args:
        paths: A and B, or those of A followed by as many of B.
        recipes: whether they are trainings of two recipes.
        subjects: the same opened, see ``open_all``.
        choices: how.

    Raises:
        CtnetError: where a model finds nothing, or the data has one image; see ``compare_recipes``.
    """
    measured = [_measure(path, subject, choices) for path, subject in zip(paths, subjects, strict=True)]
    return compare_measured(paths, recipes, measured, subjects[0], choices)


def compare_measured(
    paths: Sequence[Path],
    recipes: bool,
    measured: Sequence[Measured],
    subject: Subject,
    choices: Choices,
) -> Comparison:
    """Compare models that are evaluated already, see ``compare``.

    Args:
        paths, recipes, choices: see ``compare``.
        measured: what was measured of each path, drawn as ``choices`` say.
        subject: the first of them, whose data is that of all.

    Raises:
        CtnetError: see ``compare_recipes``.
    """
    half = len(paths) // 2
    first, drawn = measured[0].evaluator, [one.drawn for one in measured]
    named: dict[str, Disagreement] = {}
    if recipes:
        found = compare_recipes(drawn[:half], drawn[half:], first.lower_is_better, choices.seed)
    else:
        found = compare_models(drawn[0], drawn[1], first.lower_is_better)
        tallies, pair = [one.tally for one in measured], (drawn[0], drawn[1])
        images = most_different(tallies[0], tallies[1], first.main_metric, pair, choices.seed)
        named = _named(images[:_LISTED], subject)
    return Comparison(
        a=[str(path) for path in paths[:half]],
        b=[str(path) for path in paths[half:]],
        data=str(subject.dataset.coco.path),
        images=len(measured[0].tally.image_ids),
        draws=choices.draws,
        seed=choices.seed,
        main_metric=first.main_metric,
        by_metric=found,
        most_different=named,
        warnings=warnings(measured[0].tally),
    )


def _measure(path: Path, subject: Subject, choices: Choices) -> Measured:
    done = subject.evaluate(subject.on_device(choices.settings, choices.workers, choices.amp))
    assert done.evaluator is not None
    tally = done.evaluator.tally()
    try:
        drawn = draw_metrics(tally, choices.draws, choices.seed, f"drawing images for {path}")
    except CtnetError as error:
        raise CtnetError(f"{path}: {error}") from None
    return Measured(done.evaluator, tally, drawn)


def open_all(paths: Sequence[Path], ground: Ground, task_name: str, device: str = "auto") -> list[Subject]:
    """Open runs, checkpoints, exported files and results files (``*.json``) that are to be compared.

    Results files take task and data from a detector among them, else from ``task_name`` and ``ground``.

    Args:
        paths: the files.
        ground: the ground truth; a run's own data by default.
        task_name: the task of results files.
        device: the device of the detectors.

    Raises:
        CtnetError: for what cannot be opened, and models of different tasks, classes or data.
    """
    opened: dict[int, Subject] = {}
    for number, path in enumerate(paths):
        if path.suffix != ".json":
            opened[number] = DetectorSubject.open(path, ground, device)
    model = next(iter(opened.values()), None)
    for number, path in enumerate(paths):
        if path.suffix != ".json":
            continue
        if model is None:
            opened[number] = ResultsSubject.open(path, task_name, ground)
        else:
            opened[number] = ResultsSubject(path, model.task, model.dataset, ground.strict)
    subjects = [opened[number] for number in range(len(paths))]
    for path, subject in zip(paths[1:], subjects[1:], strict=True):
        check_same(paths[0], subjects[0], path, subject)
    return subjects


def check_same(path: Path, subject: Subject, other_path: Path, other: Subject) -> None:
    """Refuse to compare models of different tasks, classes or data.

    Raises:
        CtnetError: saying what differs.
    """
    ours, theirs = subject.task, other.task
    if ours.name != theirs.name:
        raise CtnetError(
            f"{path} is of task {ours.name} and {other_path} of task {theirs.name}; compare models of "
            "one task"
        )
    names = [_classes(task) for task in (ours, theirs)]
    if names[0] != names[1]:
        number = sorted({*names[0].items()} ^ {*names[1].items()})[0][0]
        found = " and ".join(repr(each.get(number, "missing")) for each in names)
        raise CtnetError(
            f"{path} and {other_path} have different classes (category id {number} is {found}); "
            "compare models of the same classes"
        )
    one, two = subject.dataset, other.dataset
    same_file = one.coco.path == two.coco.path and one.image_ids.tolist() == two.image_ids.tolist()
    if same_file:
        return
    if one.as_coco() != two.as_coco():
        raise CtnetError(
            f"{path} is evaluated on {one.coco.path} and {other_path} on {two.coco.path}, which differ; "
            "give one data set for both with --data DIR"
        )


def _classes(task: Task) -> dict[int, str]:
    return dict(zip(task.categories.ids.tolist(), task.categories.names, strict=True))


def _named(images: Sequence[Disagreement], subject: Subject) -> dict[str, Disagreement]:
    ids = subject.dataset.image_ids.tolist()
    rows = {image_id: row for row, image_id in enumerate(ids)}
    return {subject.dataset.info(rows[one.image_id]).file_name: one for one in images}
