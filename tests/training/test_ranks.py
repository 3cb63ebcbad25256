"""Several processes train like one."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import filelock
import pytest
import torch

from ctnet.core.task import create_task, list_tasks, load_task_class, scenes_of
from ctnet.data.synthetic import write_dataset

PROGRAM = Path(__file__).with_name("one_job.py")
#: The largest relative difference of a loss within 30 steps of AdamW in float32.
BOUND = 1e-5
TORCHRUN = ["-m", "torch.distributed.run", "--rdzv-backend", "c10d", "--rdzv-endpoint", "localhost:0"]


def run(*arguments: object, **options) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=180, env=environment, **options)


#: As in ``one_job.py``.
TASKS = [
    name
    for name in list_tasks()
    if create_task(name, scenes_of(load_task_class(name)).categories).frames.count == 1
]
#: A job of processes takes most of a minute; all of them are CI's.
pytestmark = pytest.mark.thorough


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Nine scenes of every task: one is unreadable, four have no objects."""
    folder = tmp_path_factory.mktemp("data")
    for name in TASKS:
        task = create_task(name, scenes_of(load_task_class(name)).categories)
        write_dataset(task, folder / name, {"train": 9}, (64, 64))
        sorted((folder / name / "train").rglob("*.jpg"))[3].write_bytes(b"nothing")
        (path,) = (folder / name / "annotations").iterdir()
        content = json.loads(path.read_text())
        empty = {image["id"] for image in content["images"][4:8]}
        kept = [entry for entry in content["annotations"] if entry["image_id"] not in empty]
        path.write_text(json.dumps({**content, "annotations": kept}))
    return folder


@pytest.fixture(scope="module")
def learnt(data: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[int, dict]:
    """What one process learns, and what three processes learn; found once for all of pytest's processes."""
    own = tmp_path_factory.getbasetemp()
    out = (own.parent if "PYTEST_XDIST_WORKER" in os.environ else own) / "learnt"
    with filelock.FileLock(f"{out}.lock"):
        if not Path(f"{out}.3.pt").is_file():
            for launcher in ([], [*TORCHRUN, "--nproc-per-node", 3]):
                done = run(*launcher, PROGRAM, data, out)
                assert done.returncode == 0, done.stderr[-3000:]
    return {count: torch.load(f"{out}.{count}.pt") for count in (1, 3)}


def test_the_cases_hold_what_is_difficult(learnt) -> None:
    cases = [case for case in learnt[3].values() if isinstance(case, dict)]
    shares = [share for case in cases for share in case["shares"]]
    assert any(min(images for (images, _), *_ in share) == 0 for share in shares), (
        "a process without an image"
    )
    assert any(any(images and not taught for (images, taught), *_ in share) for share in shares), (
        "a process without objects"
    )


@pytest.mark.parametrize("number", range(3))
@pytest.mark.parametrize("name", TASKS)
def test_three_processes_have_the_gradients_of_one(learnt, name: str, number: int) -> None:
    assert_learnt_the_same(learnt[1][f"{name} {number}"], learnt[3][f"{name} {number}"])


def assert_learnt_the_same(one: dict, other: dict) -> None:
    first, second = one["gradients"][0], other["gradients"][0]
    largest = max(gradient.abs().max() for gradient in first.values())
    assert largest > 0.01
    for key, gradient in first.items():
        assert (gradient - second[key]).abs().max() < 1e-9 * largest, key
    for key, weights in one["weights"].items():
        assert (weights - other["weights"][key]).abs().max() < 1e-8, key
    assert [*other["losses"][-1].values()] == pytest.approx([*one["losses"][-1].values()], rel=1e-5)


@pytest.mark.parametrize("name", TASKS)
def test_the_losses_of_thirty_steps_in_float32_stay_close(learnt, name: str) -> None:
    """AdamW divides by small second moments, so rounding grows with every step."""
    one, three = (learnt[count][f"{name} AdamW"] for count in (1, 3))
    assert len(one) > 20  # a batch of the unreadable image alone has none
    assert one[-1] < 0.9 * one[0]
    # A mask's loss is a sum over thousands of cells, so rounding grows there.
    assert three == pytest.approx(one, rel=1e-3 if name == "masks" else BOUND)


def test_two_machines_of_two_processes_have_the_gradients_of_one(data: Path, learnt, tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    meeting = [*TORCHRUN[:4], "--rdzv-endpoint", f"localhost:{port}", "--rdzv-id", "job", "--nnodes", 2]
    command = [*meeting, "--nproc-per-node", 2, PROGRAM, data, tmp_path / "learnt"]
    with ThreadPoolExecutor() as pool:
        for done in pool.map(lambda _: run(*command), range(2)):
            assert done.returncode == 0, done.stderr[-3000:]
    four = torch.load(tmp_path / "learnt.4.pt")
    for name, one in learnt[1].items():
        if name.endswith("AdamW"):
            assert four[name] == pytest.approx(one, rel=BOUND)
        else:
            assert_learnt_the_same(one, four[name])
