"""The command line in this process, a tiny network, a tiny data set and a finished run."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass, replace
from io import StringIO
from pathlib import Path

import pytest
import torch

from ctnet import checkpoint
from ctnet.budget import choice
from ctnet.checkpoint import Description
from ctnet.cli import main
from ctnet.core.recipe import Recipe
from ctnet.core.task import Task, create_task
from ctnet.data.dataset import Dataset
from ctnet.data.shape_scenes import SHAPES
from ctnet.data.synthetic import write_dataset
from ctnet.inference import Detector
from ctnet.model import create_model


@dataclass(frozen=True)
class Result:
    """The outcome of a call of ``ctnet``."""

    code: int
    out: str
    err: str

    @property
    def message(self) -> str:
        """The one line of a user's mistake."""
        assert self.code == 2, self.err
        assert self.out == ""
        lines = [line for line in self.err.splitlines() if line.startswith("error: ")]
        assert len(lines) == 1, self.err
        assert self.err.endswith(f"{lines[0]}\n")
        assert "Traceback" not in self.err
        return lines[0].removeprefix("error: ")


def call(*arguments: object) -> Result:
    out, err, code = StringIO(), StringIO(), 0
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(out), redirect_stderr(err):
        patch.setattr(sys, "argv", ["ctnet", *map(str, arguments)])
        try:
            main()
        except SystemExit as error:
            code = int(error.code or 0)
    return Result(code, out.getvalue(), err.getvalue())


@pytest.fixture(scope="package")
def call_ctnet() -> Callable[..., Result]:
    """``call_ctnet(*arguments)`` in the current folder, for fixtures that several tests share."""
    return call


@pytest.fixture(scope="package")
def tiny(tiny_backbone) -> Iterator[str]:
    """The name of a backbone of two convolutions."""
    with tiny_backbone() as name:
        yield name


@pytest.fixture
def quick_demo(tiny: str, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """``quick_demo(task class, recipe)``: its demo takes the tiny backbone, and ten scenes."""
    monkeypatch.setattr("ctnet.training.session.DEFAULT_BACKBONE", tiny)

    def shrink(cls: type[Task], recipe: Recipe | None = None) -> None:
        scenes = cls.scenes
        assert scenes is not None
        without_report = replace(recipe or scenes.recipe, report=False)
        few = replace(scenes, counts={"train": 6, "val": 4}, recipe=without_report)
        monkeypatch.setattr(cls, "scenes", few)

    return shrink


@pytest.fixture
def ctnet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Result]]:
    """``ctnet(*arguments)`` in an empty folder, on one thread."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CTNET_CACHE", str(tmp_path / ".cache"))
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield call
    torch.set_num_threads(threads)


@pytest.fixture(scope="package")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data directory of 6 scenes to train and 4 to evaluate on."""
    folder = tmp_path_factory.mktemp("scenes")
    write_dataset(create_task("ctdet", SHAPES), folder, {"train": 6, "val": 4}, (64, 64))
    return folder


@pytest.fixture
def training(scenes: Path, tiny: str) -> list[object]:
    """Arguments of a training that takes a second, without a report."""
    size = ["--size", 64, "--batch-size", 3, "--epochs", 1, "-R", "report=false"]
    return ["train", "ctdet", "--data", scenes, "--backbone", tiny, *size, "--workers", 0, "--device", "cpu"]


@pytest.fixture
def known_times(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a network as a whole 1 ms for 100,000 pixels; of its blocks 1 ms for ten million multiply-adds."""
    monkeypatch.setattr(
        choice, "time_blocks", lambda blocks, clock: {each: each.multiply_adds / 1e7 for each in blocks}
    )
    monkeypatch.setattr(choice, "time_network", lambda model, size, clock: size[0] * size[1] / 1e5)


@pytest.fixture(scope="package")
def run_folder(tmp_path_factory: pytest.TempPathFactory, scenes: Path, tiny: str) -> Path:
    """A finished run; not to be changed."""
    folder = tmp_path_factory.mktemp("trained") / "run"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CTNET_CACHE", str(folder.parent / "cache"))
        size = ["--size", 64, "--batch-size", 3, "--epochs", 1, "--workers", 0, "--device", "cpu"]
        size += [
            "-R",
            "report=false",
            "--lr",
            1e-5,
        ]  # so small that its maps stay as flat as those of an untrained network
        done = call("train", "ctdet", "--data", scenes, "--backbone", tiny, *size, "-o", folder)
    assert done.code == 0, done.err
    return folder


@pytest.fixture(scope="package")
def finding(tmp_path_factory: pytest.TempPathFactory, scenes: Path, tiny: str) -> Path:
    """A network with random weights, and data in which every other thing that it finds is an object."""
    folder = tmp_path_factory.mktemp("finding")
    task = create_task("ctdet", SHAPES)
    torch.manual_seed(0)
    model = create_model(task, tiny)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(std=0.15)
        model.branches[0]["size"][-1].bias.fill_(3.0)  # boxes with an area
    checkpoint.save(folder / "best.pt", Description.of(task, tiny, (64, 64)), model.state_dict())
    detector = Detector.load(folder / "best.pt", "cpu")
    shutil.copytree(scenes, folder / "data")
    for split in ("train", "val"):
        path = folder / f"data/annotations/instances_{split}.json"
        content = json.loads(path.read_text())
        dataset, entries = Dataset.open(folder / "data", split, task), []
        for sample in (dataset[row] for row in range(len(dataset))):
            (found,) = detector(sample.image, score=0)
            entries += [
                {
                    "id": len(entries) + row + 1,
                    "image_id": sample.info.image_id,
                    "category_id": int(task.categories.ids[found.labels[place]]),
                    "bbox": [*box[:2].tolist(), *(box[2:] - box[:2]).tolist()],
                }
                for row, place in enumerate(range(0, 40, 2))
                for box in [found.boxes[place].astype(float)]
            ]
        path.write_text(json.dumps({**content, "annotations": entries}))
    return folder
