"""Jobs of several processes: what they print, how they end, and how they resume."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from ctnet.core.task import create_task
from ctnet.data.shape_scenes import SHAPES
from ctnet.data.synthetic import write_dataset

pytestmark = pytest.mark.thorough

JOB = Path(__file__).with_name("job.py")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    write_dataset(create_task("ctdet", SHAPES), folder, {"train": 10, "val": 5}, (64, 64))
    return folder


@pytest.fixture
def environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    monkeypatch.chdir(tmp_path)
    return {
        **os.environ,
        "OMP_NUM_THREADS": "1",
        "CTNET_CACHE": str(tmp_path / "cache"),
        "CTNET_TIMEOUT": "60",
    }


def torchrun(processes: int, *options: object) -> list[str]:
    place = ["--rdzv-backend", "c10d", "--rdzv-endpoint", "localhost:0"]
    given = [*place, "--nproc-per-node", processes, "--monitor-interval", 0.2, *options]
    return [sys.executable, "-m", "torch.distributed.run", *map(str, given), str(JOB)]


def training(folder: Path, output: object, **options: object) -> list[str]:
    chosen = {"backbone": "small_network", "epochs": 2, "batch-size": 4, "size": 64, "workers": 0, **options}
    command = ["train", "ctdet", "--data", folder, "-o", output, "--device", "cpu", "--amp", "off"]
    for name, value in chosen.items():
        command += [f"--{name}"] if value is True else [f"-{name}" if len(name) == 1 else f"--{name}", value]
    return [str(word) for word in command]


def run(command: list[str], environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, capture_output=True, text=True, timeout=240, env=environment)


def errors(done: subprocess.CompletedProcess[str]) -> list[str]:
    """Our own lines; torchrun adds a report of its own."""
    assert "/ctnet/" not in done.stderr, done.stderr[-3000:]  # no traceback through our code
    return [line for line in done.stderr.splitlines() if line.startswith("error: ")]


def weights(run: Path, name: str = "last.pt") -> dict[str, torch.Tensor]:
    return torch.load(run / name, weights_only=False)["weights"]


def check_equal(one: Path, other: Path) -> None:
    first, second = weights(one), weights(other)
    assert first.keys() == second.keys()
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert (one / "metrics.csv").read_text() == (other / "metrics.csv").read_text()


def test_three_processes_print_as_one_and_continue_as_two(data: Path, environment) -> None:
    done = run([*torchrun(3), *training(data, "three", R="batch_norm=sync")], environment)
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.count("trained 2 epochs") == 1
    assert done.stderr.count("epoch 2/2") == done.stderr.count("run folder three") == 1
    config = json.loads(Path("three/config.json").read_text())
    assert config["recipe"]["batch_norm"] == "sync"
    alone = run([sys.executable, str(JOB), *training(data, "alone", R="batch_norm=sync")], environment)
    assert alone.returncode == 0, alone.stderr
    rows = [
        [float(value) for value in line.split(",")]
        for name in ("three", "alone")
        for line in Path(name, "metrics.csv").read_text().splitlines()[1:]
    ]
    assert rows[:2] == [pytest.approx(row, rel=2e-3, abs=1e-4) for row in rows[2:]]
    more = ["train", "--resume", "three", "--epochs", "3", "--workers", "0", "--device", "cpu"]
    done = run([*torchrun(2), *more], environment)
    assert done.returncode == 0, done.stderr[-3000:]
    assert "trained 3 epochs" in done.stdout


@pytest.mark.parametrize(
    ("failure", "options", "words"),
    [
        ("", {"batch-size": 2}, "3 processes cannot share batches of 2; start at most 2, or give a larger"),
        ("", {"data": "nowhere"}, "nowhere"),
        ("nan 1 2", {}, "the loss is not finite in epoch 1, batch 2 (total inf"),
    ],
)
def test_a_mistake_is_one_line_and_is_not_tried_again(
    data: Path, environment, failure: str, options, words: str
) -> None:
    command = [*torchrun(3, "--max-restarts", 2), *training(data, "run", **options)]
    done = run(command, {**environment, "FAILURE": failure})
    assert done.returncode != 0
    lines = errors(done)
    # Each time that torchrun restarts the processes, the first one says why it does not continue.
    assert len(lines) == 3
    assert len(set(lines)) == 1
    assert words in lines[0]
    assert done.stderr.count("epoch 1/2") <= 1, "nothing was trained twice"


def test_an_image_that_one_process_cannot_read_ends_all_when_strict(data: Path, environment) -> None:
    shutil.copytree(data, "broken")
    sorted(Path("broken/train").iterdir())[7].write_bytes(b"nothing")
    done = run([*torchrun(3), *training(Path("broken"), "run")], environment)
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stderr.count("skipped ") == 2, "once an epoch"
    done = run([*torchrun(3), *training(Path("broken"), "strict", strict=True)], environment)
    (line,) = errors(done)
    assert "000008.jpg" in line


def test_a_full_disk_at_the_first_process_ends_all(data: Path, environment) -> None:
    done = run(
        [*torchrun(3, "--max-restarts", 1), *training(data, "run")],
        {**environment, "FAILURE": "full 0 16000", "TORCH_DISABLE_TENSORBOARD": "1"},
    )
    assert done.returncode != 0
    lines = errors(done)
    assert len(lines) == 2, "repeated by the process that torchrun restarted"
    assert len(set(lines)) == 1
    assert "cannot write run/last.pt: File too large" in lines[0]
    assert not list(Path("run").glob("*.pt*"))


@pytest.mark.parametrize("signals", [1, 2])
def test_ending_the_job_saves_after_the_step(data: Path, environment, signals: int) -> None:
    """``torchrun`` passes a signal on; a second one (a terminal's Ctrl-C comes twice) changes nothing."""
    command = [*torchrun(2), *training(data, "run", epochs=500)]
    process = subprocess.Popen(
        command, env=environment, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    wait_for(lambda: Path("run/last.pt").is_file())
    for _ in range(signals):
        os.killpg(process.pid, signal.SIGINT) if signals == 2 else process.send_signal(signal.SIGTERM)
    _, stderr = process.communicate(timeout=60)
    assert "continue with `ctnet train --resume run`" in stderr, stderr[-3000:]
    done = run(
        [*torchrun(2), "train", "--resume", "run", "--epochs", "501", "--workers", "0"],
        {**environment, "FAILURE": "nan 0 2"},
    )
    assert "resuming run at epoch" in done.stderr


def wait_for(happened, seconds: float = 90) -> None:
    end = time.monotonic() + seconds
    while not happened():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.02)


def kill_one(data: Path, environment: dict[str, str], output: str, rng: random.Random, epochs: int) -> None:
    """Train with three processes, kill one at a random moment, and let torchrun continue."""
    command = [*torchrun(3, "--max-restarts", 1), *training(data, output, epochs=epochs, R="save_every=0")]
    process = subprocess.Popen(
        command, env=environment, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    wait_for(lambda: Path(output, "config.json").is_file())
    time.sleep(rng.uniform(0, 3))
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    workers = [int(child) for child in children if str(JOB) in Path(f"/proc/{child}/cmdline").read_text()]
    if workers:
        os.kill(rng.choice(workers), signal.SIGKILL)
    stdout, stderr = process.communicate(timeout=240)
    assert process.returncode == 0, stderr[-3000:]
    assert f"trained {epochs} epochs" in stdout


def test_a_killed_process_changes_no_bit(data: Path, environment) -> None:
    done = run([*torchrun(3), *training(data, "whole", epochs=6, R="save_every=0")], environment)
    assert done.returncode == 0, done.stderr[-3000:]
    kill_one(data, environment, "killed", random.Random(0), 6)
    check_equal(Path("whole"), Path("killed"))


@pytest.mark.slow
def test_twenty_killed_processes_change_no_bit(data: Path, environment) -> None:
    done = run([*torchrun(3), *training(data, "whole", epochs=6, R="save_every=0")], environment)
    assert done.returncode == 0, done.stderr[-3000:]
    rng = random.Random(1)
    for number in range(20):
        kill_one(data, environment, f"killed-{number}", rng, 6)
        check_equal(Path("whole"), Path(f"killed-{number}"))


def test_two_machines_of_two_processes(data: Path, environment) -> None:
    """Two of torchrun's agents, which meet at one port of this machine."""
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    meeting = ["--nnodes", 2, "--rdzv-id", "job", "--rdzv-endpoint", f"localhost:{port}"]
    command = [*torchrun(2, *meeting), *training(data, "run", R="batch_norm=sync")]
    first, second = (
        subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        for _ in range(2)
    )
    told = [process.communicate(timeout=200) for process in (first, second)]
    assert [first.returncode, second.returncode] == [0, 0], told[0][1][-2000:] + told[1][1][-2000:]
    assert sum(out.count("trained 2 epochs") for out, _ in told) == 1


def test_a_process_that_never_comes(data: Path, environment) -> None:
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    by_hand = {"WORLD_SIZE": "2", "RANK": "0", "MASTER_ADDR": "localhost", "MASTER_PORT": str(port)}
    command = [sys.executable, str(JOB), *training(data, "run")]
    done = run(command, {**environment, **by_hand, "CTNET_TIMEOUT": "3"})
    assert done.returncode == 2
    (line,) = errors(done)
    assert "the processes cannot connect" in line


def test_a_port_that_is_taken(data: Path, environment) -> None:
    with socket.socket() as taken:
        taken.bind(("localhost", 0))
        taken.listen()
        by_hand = {"WORLD_SIZE": "2", "RANK": "0", "MASTER_ADDR": "localhost"}
        by_hand["MASTER_PORT"] = str(taken.getsockname()[1])
        command = [sys.executable, str(JOB), *training(data, "run")]
        done = run(command, {**environment, **by_hand, "CTNET_TIMEOUT": "3"})
    assert done.returncode == 2
    (line,) = errors(done)
    assert "the processes cannot connect" in line


def test_machines_with_other_data_are_named(data: Path, environment, tmp_path: Path) -> None:
    """Each process has its own folder under the same name, as machines have."""
    other = tmp_path / "other"
    shutil.copytree(data, other)
    write_dataset(create_task("ctdet", SHAPES), other, {"train": 10}, (64, 64), seed=1)
    command = [*torchrun(2), *training(Path("data"), tmp_path / "run")]
    for rank, source in enumerate((data, other)):
        (tmp_path / f"machine-{rank}").mkdir()
        (tmp_path / f"machine-{rank}" / "data").symlink_to(source)
    program = tmp_path / "machine.py"
    program.write_text(
        "import os, runpy, sys\n"
        f"os.chdir({str(tmp_path)!r} + '/machine-' + os.environ['RANK'])\n"
        f"sys.path.insert(0, {str(JOB.parent)!r})\n"
        f"runpy.run_path({str(JOB)!r}, run_name='__main__')\n"
    )
    done = run([str(program) if word == str(JOB) else word for word in command], environment)
    (line,) = errors(done)
    assert "process 1 has another annotations than process 0; install the same ctnet" in line
