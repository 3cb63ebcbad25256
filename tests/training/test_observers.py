"""Observers look on: they cannot change a training, and their failures do not end it."""

from __future__ import annotations

import random
import re
import signal
import time
from collections.abc import Callable
from dataclasses import FrozenInstanceError
from pathlib import Path

import numpy as np
import pytest
import torch

from ctnet import checkpoint
from ctnet.base.errors import CtnetError
from ctnet.training import observers as module
from ctnet.training.observers import Observer, Observers, RunStart, StepEnd, load_observers
from ctnet.training.session import Session

STEP = StepEnd(1, 1, 4, {"loss": 2.0}, 0.1)


class Listing(Observer):
    """Keeps all that it is told."""

    def __init__(self) -> None:
        self.heard: list[tuple[str, object]] = []

    def start(self, report):
        self.heard.append(("start", report))

    def step(self, report):
        self.heard.append(("step", report))

    def epoch(self, report):
        self.heard.append(("epoch", report))

    def evaluation(self, report):
        self.heard.append(("evaluation", report))

    def checkpoint(self, report):
        self.heard.append(("checkpoint", report))

    def end(self, report):
        self.heard.append(("end", report))

    def of(self, event: str) -> list:
        return [report for name, report in self.heard if name == event]


class Meddling(Observer):
    """Changes whatever it can reach."""

    def meddle(self, report):
        for values in vars(report).values():
            if isinstance(values, (dict, list)):
                values.clear()
        with pytest.raises(FrozenInstanceError):
            report.step = 0
        torch.manual_seed(1)
        np.random.seed(1)
        random.seed(1)
        torch.rand(3)
        torch.set_grad_enabled(False)
        torch.set_default_dtype(torch.float64)
        torch.set_num_threads(2)

    start = step = epoch = evaluation = checkpoint = end = meddle


class Failing(Observer):
    """Raises at its second step."""

    def __init__(self) -> None:
        self.steps = 0

    def step(self, report):
        self.steps += 1
        if self.steps == 2:
            raise ValueError("no room\nleft")

    def end(self, report):
        raise AssertionError("it is called although it failed")


class Blocking(Observer):
    """Does not return from its first step for a while."""

    seconds = 10.0

    def step(self, report):
        if report.step == 1:
            time.sleep(self.seconds)


def same_state(one: Path, other: Path) -> bool:
    """Whether two last.pt hold the same bits: weights, moments, averages, random state, position."""
    first, second = checkpoint.load(one / "last.pt"), checkpoint.load(other / "last.pt")
    assert first.training["position"] == second.training["position"]
    assert torch.equal(first.training["random"], second.training["random"])
    moments = [saved.training["optimizer"]["state"] for saved in (first, second)]
    assert moments[0].keys() == moments[1].keys()
    pairs = [(moments[0][key][name], moments[1][key][name]) for key in moments[0] for name in moments[0][key]]
    for left, right in (
        (first.weights, second.weights),
        *(((first.training["weights"]), second.training["weights"]),),
    ):
        assert left.keys() == right.keys()
        pairs += [(left[name], right[name]) for name in left]
    return all(torch.equal(left, right) for left, right in pairs)


@pytest.fixture(scope="module")
def plain(session, scenes, tmp_path_factory) -> Path:
    """A run of three epochs that nobody observes."""
    run = tmp_path_factory.mktemp("plain") / "run"
    assert session(scenes, run).fit()
    return run


@pytest.fixture
def installed(tmp_path, monkeypatch) -> Callable[..., None]:
    """Installs observers of this module with their entry points: ``installed("dist", name="Class")``."""

    def install(distribution: str, **names: str) -> None:
        folder = tmp_path / distribution / f"{distribution}-1.0.dist-info"
        folder.mkdir(parents=True)
        (folder / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {distribution}\nVersion: 1.0\n")
        lines = [
            f"{name} = {value if ':' in value else f'{__name__}:{value}'}\n" for name, value in names.items()
        ]
        (folder / "entry_points.txt").write_text("[ctnet.observers]\n" + "".join(lines))
        monkeypatch.syspath_prepend(tmp_path / distribution)

    return install


def observed(session: Session, **observers: Observer) -> list[str]:
    """Train to the end; what was printed."""
    session.trainer.observers.add(observers)
    assert session.fit()
    return session.display.lines


def test_observers_hear_of_everything_in_order(session, scenes, tmp_path) -> None:
    listing = Listing()
    started = session(scenes, tmp_path / "run", fields={"epochs": 2, "evaluate_every": 2})
    observed(started, listing=listing)
    step, last, best = ["step"], ["checkpoint"], ["checkpoint"]
    assert [event for event, _ in listing.heard] == [
        "start", *3 * step, *last, *last, "epoch", *3 * step, *last, "evaluation", *best, "epoch", "end"
    ]  # fmt: skip
    run = (tmp_path / "run").absolute()
    (start,), (evaluation,), (end,) = listing.of("start"), listing.of("evaluation"), listing.of("end")
    assert (start.folder, start.epoch, start.step, start.rows, start.main_metric) == (run, 0, 0, [], "AP")
    assert start.config["recipe"]["batch_size"] == 4
    assert [(one.step, one.epoch, one.images) for one in listing.of("step")] == [
        (1, 1, 4), (2, 1, 4), (3, 1, 2), (4, 2, 4), (5, 2, 4), (6, 2, 2)
    ]  # fmt: skip
    rows = started.rows
    assert [one.figures for one in listing.of("epoch")] == rows
    losses = [one.losses["loss"] for one in listing.of("step")[:3]]
    assert rows[0]["loss"] == pytest.approx((4 * losses[0] + 4 * losses[1] + 2 * losses[2]) / 10)
    assert evaluation.epoch == 2
    assert evaluation.improved
    assert evaluation.metrics["AP"] == rows[1]["AP"]
    assert any("/" in name for name in evaluation.metrics)
    saved = [(one.path, one.epoch, one.step, one.best) for one in listing.of("checkpoint")]
    assert saved[-2:] == [(run / "last.pt", 2, 6, False), (run / "best.pt", 2, 6, True)]
    assert (end.reason, end.epoch, end.step, end.error) == ("finished", 2, 6, "")


def test_an_observed_run_is_the_same_to_the_bit_also_resumed(
    session, resumed, scenes, plain, tmp_path
) -> None:
    first = session(scenes, tmp_path / "run")
    first.trainer.observers.add({"meddling": Meddling(), "listing": (listing := Listing())})
    original = first.trainer._step

    def step() -> None:
        original()
        if first.trainer.position.step == 4:
            first.trainer._ask_to_stop()

    first.trainer._step = step
    assert not first.fit()
    assert listing.of("end")[0].reason == "stopped"
    assert listing.of("step")[-1].step == 4
    again = resumed(tmp_path / "run")
    lines = observed(again, meddling=Meddling(), listing=(listing := Listing()))
    assert not [line for line in lines if line.startswith("observer")]
    assert same_state(tmp_path / "run", plain)
    assert (tmp_path / "run/metrics.csv").read_text() == (plain / "metrics.csv").read_text()
    (start,) = listing.of("start")
    assert (start.epoch, start.step, len(start.rows)) == (1, 4, 1)  # the other observer emptied its own copy
    assert [one.step for one in listing.of("step")] == [5, 6, 7, 8, 9]


def test_an_observer_that_raises_is_named_and_switched_off(session, scenes, plain, tmp_path) -> None:
    lines = observed(session(scenes, tmp_path / "run"), failing=Failing())
    assert [line for line in lines if "failing" in line] == [
        "observer failing failed (ValueError: no room left) in step and is switched off; the training goes on"
    ]
    assert same_state(tmp_path / "run", plain)


def test_a_run_that_fails_says_so_to_observers(session, scenes, tmp_path, monkeypatch) -> None:
    started = session(scenes, tmp_path / "run")
    started.trainer.observers.add({"listing": (listing := Listing())})

    def broken() -> None:
        raise CtnetError("the disk is full\nand more")

    monkeypatch.setattr(started.trainer, "_finish_epoch", broken)
    with pytest.raises(CtnetError):
        started.fit()
    (end,) = listing.of("end")
    assert (end.reason, end.error, end.epoch, end.step) == ("failed", "the disk is full", 0, 3)


def test_an_observer_that_blocks_is_named_while_it_blocks(
    session, scenes, plain, tmp_path, monkeypatch
) -> None:
    monkeypatch.setattr(module, "_LONG", 0.2)
    blocking = Blocking()
    blocking.seconds = 1.2
    lines = observed(session(scenes, tmp_path / "run"), blocking=blocking)
    waiting = lines.index("observer blocking has kept the training waiting for 0.2 s, in step")
    assert re.fullmatch(r"observer blocking was done with step after \d+\.\d s", lines[waiting + 1])
    assert any(re.search(r"of the .*observers took: .*blocking \d+\.\d s", line) for line in lines)
    assert same_state(tmp_path / "run", plain)


@pytest.mark.thorough
def test_ten_seconds_of_blocking_lose_nothing(session, scenes, plain, tmp_path) -> None:
    started = time.monotonic()
    lines = observed(session(scenes, tmp_path / "run"), blocking=Blocking())
    assert time.monotonic() - started > 10
    assert "observer blocking has kept the training waiting for 5 s, in step" in lines
    assert any(line.startswith("observer blocking was done with step after 1") for line in lines)
    assert same_state(tmp_path / "run", plain)


@pytest.mark.parametrize("signals", [(0.3,), (0.0, 0.1)], ids=["one-after-a-while", "two-at-once"])
def test_ctrl_c_interrupts_an_observer_that_blocks_and_saves(
    session, resumed, scenes, plain, tmp_path, monkeypatch, signals
) -> None:
    """A single Ctrl-C before it is known to block would only be noted, as for any step."""
    monkeypatch.setattr(module, "_LONG", 0.2)

    class Hanging(Observer):
        def step(self, report):
            for pause in signals:
                time.sleep(pause)
                signal.raise_signal(signal.SIGINT)
            time.sleep(60)

    started = session(scenes, tmp_path / "run")
    started.trainer.observers.add({"hanging": Hanging()})
    assert not started.fit()
    line = "observer hanging was interrupted in step and is switched off; the training goes on"
    assert line in started.display.lines
    again = resumed(tmp_path / "run")
    assert again.trainer.position.step == 1
    assert again.fit()
    assert same_state(tmp_path / "run", plain)


def test_nothing_is_put_back_or_timed_for_those_who_do_not_listen(monkeypatch) -> None:
    def unexpected() -> None:
        raise AssertionError

    monkeypatch.setattr(module, "_put_back", unexpected)
    Observers({"deaf": Observer()}, print).tell("step", STEP)


@pytest.mark.parametrize(
    ("names", "said"),
    [
        (("listin",), "there is no observer called 'listin'; did you mean listing?"),
        (("listing", "listing"), "observer listing is named twice; name each one once"),
        (("absent",), "plugin 'absent' of team 1.0 does not load: .*nowhere_to_be_found"),
        (("wrong",), "observer 'wrong' of team 1.0 is a StepEnd, which is not a ctnet.plugin.Observer"),
        (("picky",), "observer 'picky' of team 1.0 cannot be made: TypeError: .*'folder'"),
    ],
)
def test_observers_that_cannot_be_had(installed, names, said) -> None:
    installed("team", listing="Listing", absent="nowhere_to_be_found:A", wrong="make_wrong", picky="Picky")
    with pytest.raises(CtnetError, match=said):
        load_observers(names)


def make_wrong() -> StepEnd:
    return STEP


class Picky(Observer):
    def __init__(self, folder: Path) -> None:
        self.folder = folder


def test_two_observers_of_one_name_are_refused_before_anything_is_made(
    installed, session, scenes, tmp_path
) -> None:
    installed("team", listing="Listing")
    installed("other", listing="Failing")
    with pytest.raises(CtnetError) as caught:
        session(scenes, tmp_path / "run", observers=("listing",))
    assert "two plugins are called 'listing'" in str(caught.value)
    assert "of other 1.0 and team 1.0" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "run").exists()


def test_an_observer_is_chosen_by_its_entry_point(
    installed, session, resumed, scenes, tmp_path, monkeypatch
) -> None:
    installed("team", listing="Listing")
    started = session(scenes, tmp_path / "run", observers=("listing",), fields={"epochs": 1})
    heard: list[RunStart] = []
    monkeypatch.setattr(Listing, "start", lambda self, report: heard.append(report))
    assert started.fit()
    again = resumed(tmp_path / "run", epochs=2, observers=("listing",))
    assert again.fit()
    assert [(start.epoch, start.step) for start in heard] == [(0, 0), (1, 3)]
