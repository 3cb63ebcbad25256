"""kill -9 at random moments: each time --resume reaches the weights of an undisturbed run, bit for bit."""

from __future__ import annotations

import multiprocessing
import os
import random
import signal
import time
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType

import pytest

from ctnet import checkpoint
from ctnet.core.task import create_task
from ctnet.data.shape_scenes import SHAPES
from ctnet.data.synthetic import write_dataset

EPOCHS = 3


def conftest() -> ModuleType:
    """The fixtures next to this file, if pytest has not loaded them."""
    spec = spec_from_file_location("training_conftest", Path(__file__).with_name("conftest.py"))
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def start_or_resume(scenes: Path, run: Path, backbone: str) -> None:
    """What a user's shell script would do; runs in a process of its own."""
    import torch

    from ctnet.backbones import list_backbones, register_backbone
    from ctnet.training.display import Quiet
    from ctnet.training.request import Machine, Network, RecipeChoice, TrainingData
    from ctnet.training.session import new_session, resumed_session

    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
    torch.set_num_threads(1)
    if "with_dropout" not in list_backbones():
        register_backbone(conftest().with_dropout)
    machine = Machine("cpu", 0, Quiet())
    if (run / "config.json").is_file():
        session = resumed_session(run, machine=machine)
    else:
        session = new_session(
            "ctdet",
            TrainingData(scenes),
            Network(backbone=backbone),
            RecipeChoice(
                fields={"epochs": EPOCHS, "batch_size": 4, "size": (64, 64), "save_every": 0.0, "amp": "off"}
            ),
            0,
            machine,
            run,
        )
    session.fit()


def run_and_kill(context, scenes: Path, run: Path, backbone: str, after: float | None) -> bool:
    """Start or resume; SIGKILL after this many seconds. True if it had already finished."""
    process = context.Process(target=start_or_resume, args=(scenes, run, backbone))
    process.start()
    process.join(after)
    if process.is_alive():
        os.kill(process.pid, signal.SIGKILL)
        process.join()
    assert process.exitcode in (0, -signal.SIGKILL)
    return process.exitcode == 0


def final_state(run: Path) -> dict:
    saved = checkpoint.load(run / "last.pt")
    state = dict(saved.weights)
    state |= {f"raw/{name}": tensor for name, tensor in saved.training.get("weights", {}).items()}
    for key, values in saved.training["optimizer"]["state"].items():
        state |= {f"optimizer/{key}/{name}": value for name, value in values.items()}
    return state


@pytest.mark.thorough
@pytest.mark.parametrize(
    ("backbone", "kills"),
    [
        ("resfpn18", 3),
        pytest.param("resfpn18", 20, marks=pytest.mark.slow),
        pytest.param("with_dropout", 100, marks=pytest.mark.slow),
    ],
)
def test_a_run_survives_kills_to_the_same_bits(tmp_path, backbone, kills):
    scenes = tmp_path / "scenes"
    write_dataset(create_task("ctdet", SHAPES), scenes, {"train": 20, "val": 4}, (64, 64))
    # A server process imports torch once; every training is forked from it, before any thread exists.
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["ctnet.training.session"])
    assert run_and_kill(context, scenes, tmp_path / "whole", backbone, None)
    started = time.monotonic()
    assert run_and_kill(context, scenes, tmp_path / "timed", backbone, None)
    duration = time.monotonic() - started

    moments = random.Random(kills)
    done = happened = 0
    run = tmp_path / "run0"
    while happened < kills:
        # Spread over start-up, steps, evaluation and saving; a run that finishes starts another.
        if run_and_kill(context, scenes, run, backbone, moments.uniform(0.0, 0.8 * duration)):
            done += 1
            run = tmp_path / f"run{done}"
        else:
            happened += 1
    assert run_and_kill(context, scenes, run, backbone, None)

    expected = final_state(tmp_path / "whole")
    for number in range(done + 1):
        result = final_state(tmp_path / f"run{number}")
        assert result.keys() == expected.keys()
        for name in expected:
            assert (result[name] == expected[name]).all(), name
        figures = (tmp_path / f"run{number}/metrics.csv").read_text()
        assert figures == (tmp_path / "whole/metrics.csv").read_text()
        assert not list((tmp_path / f"run{number}").glob(".*.part"))
