"""Training with several seeds: a run for each, and what they have in common."""

from __future__ import annotations

import json
import shutil
import statistics
from collections.abc import Callable
from pathlib import Path

import pytest

from ctnet.base.errors import CtnetError
from ctnet.training.seeds import Series, read_series, train_seeds
from ctnet.training.session import Session


@pytest.fixture
def start(session, scenes) -> Callable[[int, Path], Session]:
    return lambda seed, path: session(scenes, path, seed=seed, fields={"epochs": 1})


@pytest.fixture(scope="module")
def series(session, scenes, tmp_path_factory) -> tuple[Path, Series]:
    folder = tmp_path_factory.mktemp("series")
    trained = train_seeds(
        lambda seed, path: session(scenes, path, seed=seed, fields={"epochs": 1}), [3, 4], folder
    )
    assert trained is not None
    return folder, trained


def test_every_seed_has_a_run(series) -> None:
    folder, trained = series
    assert [(run.seed, run.path, run.epoch) for run in trained.runs] == [
        (3, folder / "seed-3", 1),
        (4, folder / "seed-4", 1),
    ]
    configs = [json.loads((run.path / "config.json").read_text()) for run in trained.runs]
    assert [config.pop("seed") for config in configs] == [3, 4]
    assert configs[0] == configs[1]
    assert trained.runs[0].metrics["loss"] != trained.runs[1].metrics["loss"]


def test_the_summary_is_of_all_runs(series) -> None:
    _, trained = series
    losses = [run.metrics["loss"] for run in trained.runs]
    assert trained.summary()["loss"] == (statistics.fmean(losses), statistics.stdev(losses))
    assert trained.main_metric == "AP"
    assert trained.to_json()["summary"]["loss"]["mean"] == statistics.fmean(losses)
    assert Series("AP", trained.runs[:1]).summary()["loss"] == (losses[0], None)


def test_a_seed_that_has_a_run_is_refused_before_anything_is_trained(series, start) -> None:
    folder, _ = series
    with pytest.raises(CtnetError, match=r"seed-4 already holds a run; continue it with --resume"):
        train_seeds(start, [5, 4], folder)
    assert not (folder / "seed-5").exists()


def test_runs_of_another_recipe_have_no_common_figures(series, tmp_path) -> None:
    folder, _ = series
    shutil.copytree(folder, tmp_path / "series")
    config = json.loads((tmp_path / "series/seed-3/config.json").read_text())
    config["learning_rate"] *= 2
    (tmp_path / "series/seed-3/config.json").write_text(json.dumps(config))
    with pytest.raises(CtnetError, match="differ in more than their seed"):
        read_series(tmp_path / "series", "AP")


def test_an_interrupted_series_says_how_to_go_on(start, tmp_path) -> None:
    made: list[Session] = []

    def stopping(seed: int, path: Path) -> Session:
        made.append(start(seed, path))
        if seed == 1:
            made[-1].trainer._ask_to_stop()
        return made[-1]

    assert train_seeds(stopping, [0, 1, 2], tmp_path) is None
    assert [one.run.path.name for one in made] == ["seed-0", "seed-1"]
    assert any(f"--seed 2 --seeds 1 --output {tmp_path}" in line for line in made[-1].display.lines)
    assert [run.seed for run in read_series(tmp_path, "AP").runs] == [0]
