"""A training that no longer improves ends early."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from ctnet.base.errors import CtnetError
from ctnet.measuring.run import Evaluation
from ctnet.training.observers import Observer
from ctnet.training.session import Session


class Ending(Observer):
    def __init__(self) -> None:
        self.reasons: list[str] = []

    def end(self, report):
        self.reasons.append(report.reason)


@pytest.fixture
def scripted(monkeypatch):
    """``scripted(session, figures)``: the evaluations give these as AP, one after the other."""

    def script(session: Session, figures: Sequence[float]) -> Iterator[float]:
        left = iter(figures)

        def evaluate(val) -> Evaluation:
            done = original(val)
            return dataclasses.replace(done, metrics={**done.metrics, "AP": next(left)})

        original = session.trainer._evaluate
        session.trainer._evaluate = evaluate
        return left

    return script


def test_a_training_ends_after_evaluations_without_a_better_one(session, scenes, tmp_path, scripted) -> None:
    fields = {"epochs": 9, "patience": 2, "smooth": 1}
    started = session(scenes, tmp_path / "run", fields=fields)
    started.trainer.observers.add({"ending": (ending := Ending())})
    scripted(started, [0.1, 0.3, 0.2, 0.4, 0.4, 0.1, 0.9])
    assert started.fit()
    assert started.trainer.position.epoch == 6
    assert started.summary == (
        f"trained 6 epochs (ended early: 2 evaluations without a better AP), best AP 0.400 at epoch 4: "
        f"{tmp_path / 'run'}"
    )
    assert ending.reasons == ["patience"]


def test_only_evaluations_count_by_the_mean_that_chooses_the_best(
    session, scenes, tmp_path, scripted
) -> None:
    """Means of two: 0.1, 0.25, 0.35, 0.325, 0.3."""
    fields = {"epochs": 20, "patience": 2, "smooth": 2, "evaluate_every": 2}
    started = session(scenes, tmp_path / "run", fields=fields)
    scripted(started, [0.1, 0.4, 0.3, 0.35, 0.25, 0.9])
    assert started.fit()
    assert started.trainer.position.epoch == 10


def test_it_counts_on_after_a_resume_and_again_when_trained_further(
    session, resumed, scenes, tmp_path, scripted
) -> None:
    run, fields = tmp_path / "run", {"epochs": 9, "patience": 3, "smooth": 1}
    started = session(scenes, run, fields=fields)
    scripted(started, [0.5, 0.1, 0.1])
    finish = started.trainer._finish_epoch

    def stop_after_three() -> None:
        finish()
        if started.trainer.position.epoch == 3:
            started.trainer._ask_to_stop()

    started.trainer._finish_epoch = stop_after_three
    assert not started.fit()
    again = resumed(run)
    scripted(again, [0.1, 0.9])
    assert again.fit()
    assert again.trainer.position.epoch == 4
    ended = resumed(run)
    assert ended.display.lines == [
        f"{run} ended early: 3 evaluations without a better AP; train it further with --resume {run} "
        f"--epochs 9, or start a new run from its weights with --init {run}"
    ]
    assert ended.fit()
    assert ended.trainer.position.epoch == 4
    further = resumed(run, epochs=9)
    scripted(further, [0.1, 0.1, 0.1, 0.9])
    assert further.fit()
    assert further.trainer.position.epoch == 7


@pytest.mark.parametrize(
    ("fields", "changes", "said"),
    [
        ({"patience": -1}, {}, "field patience of the recipe is -1; it must be at least 0"),
        ({"patience": "soon"}, {}, "patience.*soon.*whole number"),
        (
            {"patience": 3},
            {"val_split": None},
            "patience counts evaluations, and there is no validation split; set -R patience=0",
        ),
    ],
)
def test_bad_patience(session, scenes: Path, tmp_path: Path, fields, changes, said) -> None:
    with pytest.raises(CtnetError, match=said):
        session(scenes, tmp_path / "run", fields=fields, **changes)
    assert not (tmp_path / "run").exists()
