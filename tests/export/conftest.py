"""Checkpoints of a tiny network for every task, and their exported files."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch

from ctnet import checkpoint
from ctnet.checkpoint import Description
from ctnet.core.task import Task, create_task, load_task_class, scenes_of
from ctnet.export.detector import ExportReport, Trials, export_detector
from ctnet.export.graph import GraphSettings
from ctnet.model import create_model

#: Packages that each kind of file needs besides torch.
EXTRAS = {".onnx": ("onnx", "onnxscript", "onnxruntime"), ".xml": ("openvino",), ".pt2": ()}

#: Options with which random maps contain objects, and decoding is quick.
OPTIONS = {"exdet": {"points": 16, "agnostic": True, "centre_threshold": 0.0, "point_threshold": 0.0}}


def require(*modules: str) -> None:
    """Skip without these modules; fail if all extras are declared to be installed."""
    missing = [name for name in modules if find_spec(name) is None]
    if missing and "CTNET_ALL_EXTRAS" in os.environ:
        pytest.fail(f"{', '.join(missing)} not installed, and CTNET_ALL_EXTRAS is set")
    if missing:
        pytest.skip(f"needs {', '.join(missing)}")


def make_task(name: str) -> Task:
    return create_task(name, scenes_of(load_task_class(name)).categories, **OPTIONS.get(name, {}))


@pytest.fixture(scope="package")
def task_of() -> Callable[[str], Task]:
    """Makes a task, bound to the categories of its scenes."""
    return make_task


@pytest.fixture(scope="package")
def need_runtime() -> Callable[[str], None]:
    """Skips without the runtime of a suffix."""
    return lambda suffix: require(*EXTRAS[suffix])


@pytest.fixture(scope="package")
def tiny(tiny_backbone) -> Iterator[str]:
    """The name of a backbone of two convolutions."""
    with tiny_backbone() as name:
        yield name


@pytest.fixture(scope="package")
def run_of(tiny: str, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Makes a task's checkpoint with random weights, whose outputs differ everywhere."""
    folder = tmp_path_factory.mktemp("runs")

    def make(name: str) -> Path:
        path = folder / f"{name}.pt"
        if not path.exists():
            torch.manual_seed(0)
            task = make_task(name)
            model = create_model(task, tiny)
            with torch.no_grad():
                for parameter in model.parameters():
                    parameter.normal_(std=0.15)
            checkpoint.save(path, Description.of(task, tiny, (128, 96)), model.state_dict())
        return path

    return make


@pytest.fixture(scope="package")
def exported(
    run_of: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory
) -> Callable[..., ExportReport]:
    """Exports a task's checkpoint, once per combination of settings."""
    folder = tmp_path_factory.mktemp("exported")
    done: dict[tuple[object, ...], ExportReport] = {}

    def make(name: str, suffix: str, settings: GraphSettings | None = None) -> ExportReport:
        require(*EXTRAS[suffix])
        key = (name, suffix, settings)
        if key not in done:
            path = folder / f"{name}-{len(done)}{suffix}"
            done[key] = export_detector(run_of(name), path, settings, trials=Trials(images=6))
        return done[key]

    return make
