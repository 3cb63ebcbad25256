"""Several processes give the metrics of one."""

from __future__ import annotations

import json
import os
import runpy
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from ctnet.backbones import _registry
from ctnet.base.errors import CtnetError
from ctnet.base.ranks import Ranks, device_of_rank, launched_ranks, number_of_processes
from ctnet.checkpoint import Description, save
from ctnet.core.task import create_task
from ctnet.data.dataset import Dataset
from ctnet.data.shape_scenes import SHAPES
from ctnet.data.synthetic import write_dataset
from ctnet.inference import Detector
from ctnet.measuring.reading import Settings
from ctnet.measuring.run import evaluate
from ctnet.model import create_model

#: A process as torchrun starts it, with a backbone of one convolution.
PROGRAM = """
import sys
from torch import nn
from ctnet.backbones import Backbone, register_backbone

class Tiny(Backbone):
    channels, divisor, hidden = 8, 32, 8
    def __init__(self):
        super().__init__()
        self.layer = nn.Conv2d(3, 8, 5, stride=4, padding=2)
    def forward(self, images):
        return [self.layer(images)]

def tiny_ranks(pretrained=False):
    return Tiny()

register_backbone(tiny_ranks)
if __name__ == "__main__":
    from ctnet.cli import main
    main()
"""


@pytest.mark.parametrize("count", [1, 2, 3, 7])
def test_shares_are_whole_and_even(count: int) -> None:
    items = list(range(5))
    shares = [list(Ranks(rank, count).share(items)) for rank in range(count)]
    assert sorted(item for share in shares for item in share) == items
    assert max(map(len, shares)) - min(map(len, shares)) <= 1


def test_one_alone_gathers_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    with launched_ranks() as ranks:
        assert ranks == Ranks(0, 1)
        assert ranks.is_first
        assert ranks.gather("mine") == ["mine"]
        assert ranks.broadcast("mine") == "mine"


def test_processes_that_cannot_be_joined(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    for name in ("RANK", "MASTER_ADDR", "MASTER_PORT"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(CtnetError, match=r"WORLD_SIZE is 2.*start them with torchrun"):
        launched_ranks().__enter__()


def test_a_port_that_torchrun_does_not_reveal(monkeypatch: pytest.MonkeyPatch) -> None:
    """``torchrun --master-port 0`` would leave its processes without an address for their rendezvous."""
    for name, value in {
        "WORLD_SIZE": "2",
        "RANK": "0",
        "MASTER_ADDR": "localhost",
        "MASTER_PORT": "0",
    }.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(CtnetError, match=r"--master-port 0, .* use --standalone"):
        launched_ranks().__enter__()


@pytest.mark.parametrize("text", ["", "two", "²", "-1", "1.5", "9" * 5000])
def test_a_number_of_processes_that_is_none_is_named(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setenv("WORLD_SIZE", text)
    with pytest.raises(
        CtnetError, match=r"WORLD_SIZE is '.*, not a number; unset it, or start with torchrun"
    ):
        number_of_processes()
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setenv("LOCAL_RANK", text)
    with pytest.raises(CtnetError, match=r"LOCAL_RANK is '.*, not a number"):
        device_of_rank("cuda")


def test_gpus_are_taken_in_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOCAL_RANK", "3")
    assert device_of_rank("cpu") == "cpu"
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert device_of_rank("auto") == device_of_rank("cuda") == "cuda:1"
    assert device_of_rank("cuda:0") == "cuda:0"


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Five scenes, one of them unreadable, and a checkpoint with random weights."""
    monkeypatch.setenv("CTNET_CACHE", str(tmp_path / "cache"))
    (tmp_path / "program.py").write_text(PROGRAM)
    task = create_task("ctdet", SHAPES)
    write_dataset(task, tmp_path / "data", {"val": 5}, (64, 64))
    next((tmp_path / "data" / "val").glob("*2.*")).write_bytes(b"nothing")
    return tmp_path


@pytest.fixture
def detector(place: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Detector]:
    """That of the checkpoint; on one thread, as the processes are."""
    monkeypatch.setattr(_registry, "_factories", {**_registry._factories})
    runpy.run_path(str(place / "program.py"))
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    task = create_task("ctdet", SHAPES)
    model = create_model(task, "tiny_ranks")
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(std=0.2)
    description = Description.of(task, "tiny_ranks", (64, 64))
    save(place / "model.pt", description, model.state_dict())
    yield Detector(task, model, description)
    torch.set_num_threads(threads)


def start(place: Path, environment: dict[str, str]) -> subprocess.Popen[str]:
    arguments = ["eval", "model.pt", "--data", "data", "--batch-size", "2", "--workers", "0"]
    return subprocess.Popen(
        [sys.executable, "program.py", *arguments, "--device", "cpu", "--json", "--save", "results.json"],
        cwd=place,
        env={**os.environ, "OMP_NUM_THREADS": "1", **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


@pytest.mark.thorough
def test_two_processes_give_the_figures_of_one(place: Path, detector: Detector) -> None:
    meeting = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port())}
    pair = [start(place, {**meeting, "RANK": str(rank), "LOCAL_RANK": str(rank)}) for rank in range(2)]
    dataset = Dataset.open(place / "data", "val", detector.task)
    alone = evaluate(detector, dataset, Settings(batch_size=2))
    first, second = [process.communicate(timeout=300) for process in pair]
    assert [process.returncode for process in pair] == [0, 0], (first, second)
    assert second[0] == ""  # only the first prints
    printed = json.loads(first[0])
    assert printed["metrics"] == alone.metrics
    assert (printed["images"], printed["skipped"], printed["timing"]["images"]) == (5, 1, 4)
    assert "warning: skipped 1 with unreadable image" in first[1]
    results = json.loads((place / "results.json").read_text())
    assert alone.evaluator is not None
    assert len(results) == sum(map(len, alone.evaluator.state().values())) > 300
    assert results == alone.results(detector.task)
