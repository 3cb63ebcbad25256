"""The observers that come with ctnet: what they wrote is read back from disk."""

from __future__ import annotations

import json
import os
import sqlite3
import struct
import subprocess
import sys
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from ctnet.base.errors import CtnetError
from ctnet.training import trackers
from ctnet.training.observers import EpochEnd, Observer, RunEnd, RunStart, StepEnd, load_observers
from ctnet.training.recipe_files import tomllib
from ctnet.training.session import Session

ROOT = Path(__file__).parents[2]


def require(*modules: str) -> None:
    """Skip without these modules; fail if all extras are declared to be installed."""
    missing = [name for name in modules if find_spec(name) is None]
    if missing and "CTNET_ALL_EXTRAS" in os.environ:
        pytest.fail(f"{', '.join(missing)} not installed, and CTNET_ALL_EXTRAS is set")
    if missing:
        pytest.skip(f"needs {', '.join(missing)}")


@pytest.fixture
def train_twice(session, resumed, scenes, tmp_path, monkeypatch) -> Callable[..., Session]:
    """Trains an epoch with one observer, and resumes for a second with another; every step counts."""
    monkeypatch.setattr(trackers, "_EVERY", 1)

    def train(first: Observer, second: Observer) -> Session:
        started = session(scenes, tmp_path / "run", fields={"epochs": 1})
        started.trainer.observers.add({"tracker": first})
        assert started.fit()
        again = resumed(tmp_path / "run", epochs=2)
        again.trainer.observers.add({"tracker": second})
        assert again.fit()
        said = [*started.display.lines, *again.display.lines]
        assert not [line for line in said if line.startswith("observer tracker failed")]
        return again

    return train


def test_the_entry_points_name_them() -> None:
    declared = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["entry-points"]
    assert declared["ctnet.observers"] == {
        name: f"{trackers.__name__}:{kind.__name__}"
        for name, kind in (
            ("tensorboard", trackers.TensorBoard),
            ("wandb", trackers.WeightsAndBiases),
            ("mlflow", trackers.MLflow),
        )
    }


@pytest.mark.parametrize("kind", [trackers.TensorBoard, trackers.WeightsAndBiases, trackers.MLflow])
def test_what_is_not_installed_is_said_with_its_extra(kind: type[Observer], monkeypatch) -> None:
    monkeypatch.setattr(trackers, "find_spec", lambda name: None)
    with pytest.raises(
        CtnetError, match=r"needs (\w+), which is not installed: pip install 'ctnet-toolkit\[\1\]'"
    ):
        kind()


def test_without_tensorboard_the_usual_choice_is_nobody(monkeypatch, capsys) -> None:
    monkeypatch.setattr("ctnet.training.observers.find_spec", lambda name: None)
    assert load_observers(("auto",)) == {}
    assert capsys.readouterr().err == "TensorBoard is not installed; only metrics.csv is written\n"
    assert load_observers(()) == {}


def test_a_metrics_file_that_cannot_be_written_does_not_end_the_training(session, scenes, tmp_path) -> None:
    (tmp_path / "run/metrics.csv").mkdir(parents=True)
    started = session(scenes, tmp_path / "run", fields={"epochs": 2})
    assert started.fit()
    (line,) = [line for line in started.display.lines if line.startswith("observer")]
    assert line.startswith("observer metrics.csv failed (")
    assert line.endswith(") in epoch and is switched off; the training goes on")


# --- TensorBoard


def test_tensorboards_events_are_read_back(train_twice, tmp_path) -> None:
    require("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    first, second = trackers.TensorBoard(), trackers.TensorBoard()
    done = train_twice(first, second)
    events = EventAccumulator(str(tmp_path / "run")).Reload()
    for name in ("AP", "loss", "learning_rate"):
        kept = [(event.step, event.value) for event in events.Scalars(name)]
        assert kept == [(row["epoch"], pytest.approx(row[name], rel=1e-6)) for row in done.rows]
    assert [event.step for event in events.Scalars("step/loss")] == [1, 2, 3, 4, 5, 6]
    assert any(name.startswith("class/AP/") for name in events.Tags()["scalars"])


def test_steps_that_are_repeated_after_a_kill_count_once(tmp_path, monkeypatch) -> None:
    require("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    monkeypatch.setattr(trackers, "_EVERY", 1)
    for step, loss in ((0, 1.0), (2, 2.0)):  # the first part reached step 4, but its checkpoint is of step 2
        observer = trackers.TensorBoard()
        observer.start(RunStart(tmp_path, {}, 0, step, [], ""))
        for number in range(step + 1, 5):
            observer.step(StepEnd(number, 1, 4, {"loss": loss}, 0.1))
        observer.end(RunEnd("stopped", 0, 4))
    kept = [
        (event.step, event.value) for event in EventAccumulator(str(tmp_path)).Reload().Scalars("step/loss")
    ]
    assert kept == [(1, 1.0), (2, 1.0), (3, 2.0), (4, 2.0)]


@pytest.mark.skipif(sys.platform != "linux", reason="other systems have no such names")
def test_tensorboard_refuses_a_folder_that_is_not_in_utf8(tmp_path) -> None:
    require("tensorboard")
    folder = tmp_path / os.fsdecode(b"\xff")
    with pytest.raises(CtnetError, match="TensorBoard cannot write to a folder whose name is not UTF-8"):
        trackers.TensorBoard().start(RunStart(folder, {}, 0, 0, [], ""))


# --- Weights & Biases


def records(file: Path) -> Iterator[Any]:
    """The records of a run of Weights & Biases: a log of LevelDB, in blocks of 32 KiB."""
    from wandb.proto.wandb_internal_pb2 import Record

    data = file.read_bytes()
    assert data[:4] == b":W&B"
    at, parts = 7, b""
    while at + 7 <= len(data):
        left = 32768 - at % 32768
        if left < 7:
            at += left
            continue
        length, kind = struct.unpack("<HB", data[at + 4 : at + 7])
        parts += data[at + 7 : at + 7 + length]
        at += 7 + length
        if kind in (1, 4):  # whole, or the last part
            record = Record()
            record.ParseFromString(parts)
            yield record
            parts = b""


@pytest.mark.thorough
def test_a_run_of_weights_and_biases_is_read_back(train_twice, tmp_path, monkeypatch) -> None:
    require("wandb")
    import wandb

    for name, value in {"MODE": "offline", "SILENT": "true", "PROJECT": "of-tests"}.items():
        monkeypatch.setenv(f"WANDB_{name}", value)
    done = train_twice(trackers.WeightsAndBiases(), trackers.WeightsAndBiases())
    wandb.teardown()  # its process writes the end of the files
    files = sorted(
        (tmp_path / "run/wandb").glob("offline-run-*/run-*.wandb"), key=lambda file: file.stat().st_mtime
    )
    assert len(files) == 2
    name = (tmp_path / "run/wandb.id").read_text().strip()
    rows: list[dict[str, Any]] = []
    for file in files:
        found = list(records(file))
        (run,) = {
            (one.run.run_id, one.run.project, one.run.display_name) for one in found if one.HasField("run")
        }
        assert run == (name, "of-tests", "run")
        config = {
            key: json.loads(item.value_json)
            for one in found
            for item in one.run.config.update
            for key in [item.key]
        }
        assert config["recipe"]["batch_size"] == 4
        rows += [
            {"/".join(item.nested_key) or item.key: json.loads(item.value_json) for item in one.history.item}
            for one in found
            if one.HasField("history")
        ]
        assert [one.exit.exit_code for one in found if one.HasField("exit")] == [0]
    assert [(row["epoch"], row["AP"]) for row in rows if "AP" in row] == [
        (row["epoch"], pytest.approx(row["AP"])) for row in done.rows
    ]
    assert [row["step"] for row in rows if "step/loss" in row and "epoch" not in row] == [1, 2, 3, 4, 5, 6]


# --- MLflow


@pytest.fixture
def mlflow(tmp_path, monkeypatch) -> Any:
    """A client of MLflow whose runs are files."""
    require("mlflow")
    for name, value in {
        "MLFLOW_TRACKING_URI": (tmp_path / "mlruns").as_uri(),
        "MLFLOW_ALLOW_FILE_STORE": "true",  # newer versions ask for it
        "MLFLOW_EXPERIMENT_NAME": "of tests",
        "GIT_PYTHON_REFRESH": "quiet",
    }.items():
        monkeypatch.setenv(name, value)
    from mlflow.tracking import MlflowClient

    return MlflowClient()


def history(client: Any, run: str, name: str) -> list[tuple[int, float]]:
    return [(metric.step, metric.value) for metric in client.get_metric_history(run, name)]


@pytest.mark.thorough
def test_a_run_of_mlflow_is_read_back(mlflow, train_twice, tmp_path) -> None:
    done = train_twice(trackers.MLflow(), trackers.MLflow())
    experiment = mlflow.get_experiment_by_name("of tests")
    (run,) = mlflow.search_runs([experiment.experiment_id])
    name = run.info.run_id
    assert (tmp_path / "run/mlflow.id").read_text() == f"{name}\n"
    assert (run.info.status, run.info.run_name) == ("FINISHED", "run")
    assert run.data.params["recipe.batch_size"] == "4"
    assert run.data.tags["ctnet.folder"] == str(tmp_path / "run")
    assert history(mlflow, name, "AP") == [(row["epoch"], row["AP"]) for row in done.rows]
    assert [step for step, _ in history(mlflow, name, "step/loss")] == [1, 2, 3, 4, 5, 6]


@pytest.mark.thorough
def test_mlflow_gets_allowed_names_and_no_step_twice(mlflow, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(trackers, "_EVERY", 1)
    for step, reason in ((0, "failed"), (2, "stopped")):
        observer = trackers.MLflow()
        observer.start(RunStart(tmp_path, {}, 0, step, [], ""))
        for number in range(step + 1, 6 if step else 5):
            observer.step(StepEnd(number, 1, 4, {"loss": 1.0}, 0.1))
        observer.epoch(EpochEnd(1, 5, {"epoch": 1, "AP/é@[1]": 0.5, "AP/è@[1]": float("nan")}))
        observer.end(RunEnd(reason, 1, 5))
    name = (tmp_path / "mlflow.id").read_text().strip()
    assert [step for step, _ in history(mlflow, name, "step/loss")] == [1, 2, 3, 4, 5]
    assert mlflow.get_run(name).info.status == "KILLED"
    assert mlflow.get_run(name).data.metrics["AP/_e9__40__5b_1_5d_"] == 0.5
    (tmp_path / "mlflow.id").write_text("another server's\n")
    observer = trackers.MLflow()
    observer.start(RunStart(tmp_path, {}, 0, 2, [], ""))
    observer.end(RunEnd("finished", 1, 5))
    assert (tmp_path / "mlflow.id").read_text().strip() != name


@pytest.mark.thorough
def test_mlflows_own_default_is_a_database(mlflow, tmp_path, monkeypatch) -> None:
    """Read with SQLite alone; in a process of its own, since MLflow keeps its stores."""
    require("sqlalchemy", "alembic")
    monkeypatch.delenv("MLFLOW_TRACKING_URI")
    program = (
        "from pathlib import Path\n"
        "from ctnet.training.trackers import *\n"
        "observer = MLflow()\n"
        "observer.start(RunStart(Path('run'), {'seed': 3}, 0, 0, [], 'AP'))\n"
        "observer.epoch(EpochEnd(1, 5, {'epoch': 1, 'AP': 0.25}))\n"
        "observer.end(RunEnd('finished', 1, 5))\n"
    )
    folder = tmp_path / "elsewhere"  # beside old runs in files, MLflow would go on with files
    (folder / "run").mkdir(parents=True)
    subprocess.run([sys.executable, "-c", program], cwd=folder, check=True, capture_output=True, timeout=300)
    with sqlite3.connect(folder / "mlflow.db") as database:
        assert database.execute("SELECT key, value, step FROM metrics").fetchall() == [("AP", 0.25, 1)]
        assert database.execute("SELECT key, value FROM params").fetchall() == [("seed", "3")]
        assert database.execute("SELECT status FROM runs").fetchall() == [("FINISHED",)]
