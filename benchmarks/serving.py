"""A service under load, on the loopback of this machine.

    python benchmarks/serving.py [RUN] [--requests 20000] [--broken 1000] [--measure 400] [--size 64]

Without RUN, a network of one convolution with random weights is served: then the times are those of the
service itself. The service and the clients are processes of their own; the clients have the lowest priority.

- "alone": one synchronous call of the detector after the other, without a service;
- 1, 8 and 64 clients, each of which sends its next image when the last one is answered: requests per second,
  median and 99th percentile of the times, as ratios to those of "alone"; the rounds of all are interleaved;
- then many requests with broken ones between them, in random order: whether each got the answer that it
  should get, and the memory of the service after every tenth of them.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import random
import signal
import statistics
import subprocess
import sys
import tempfile
import time
import zlib
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import Executor, ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from urllib.parse import urlsplit

import cv2
import numpy as np
import torch
from timing import machine
from torch import Tensor, nn

from ctnet import checkpoint
from ctnet.backbones import Backbone, register_backbone
from ctnet.checkpoint import Description
from ctnet.core.task import create_task
from ctnet.data.images import decode_image
from ctnet.data.shape_scenes import SHAPES
from ctnet.data.synthetic import write_dataset
from ctnet.inference import Detector
from ctnet.model import create_model

CLIENTS = (1, 8, 64)
ROUNDS = 3


class OneConvolution(Backbone):
    """As little as a network can be: its time hides nothing of the service's."""

    channels, divisor, hidden = 8, 4, 8

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Conv2d(3, self.channels, self.stride, stride=self.stride)

    def forward(self, images: Tensor) -> list[Tensor]:
        return [self.layer(images).relu()]


@register_backbone
def one_convolution(pretrained: bool = False) -> Backbone:
    return OneConvolution()


def random_run(folder: Path, size: int) -> Path:
    """A checkpoint whose detector finds many things everywhere."""
    torch.manual_seed(0)
    task = create_task("ctdet", SHAPES)
    model = create_model(task, one_convolution.__name__)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(std=0.15)
    description = Description.of(task, one_convolution.__name__, (size, size))
    checkpoint.save(folder / "best.pt", description, model.state_dict())
    return folder / "best.pt"


def scenes(folder: Path, size: int) -> list[bytes]:
    """Synthetic images as files."""
    write_dataset(create_task("ctdet", SHAPES), folder, {"val": 16}, (size, size))
    return [path.read_bytes() for path in sorted((folder / "val").iterdir())]


def broken(images: Sequence[bytes]) -> list[tuple[bytes, int]]:
    """Bodies that are not images, and the status that each must get."""
    return [(b"", 400), (b"hello", 400), (images[0][:-30], 400), (bomb(), 413), (b"x" * 300_000, 413)]


def bomb() -> bytes:
    """A PNG of a hundred bytes that would become 30,000x30,000 pixels."""
    png = cv2.imencode(".png", np.zeros((4, 4, 3), np.uint8))[1].tobytes()
    header = png[12:16] + (30_000).to_bytes(4, "big") * 2 + png[24:29]
    return png[:12] + header + zlib.crc32(header).to_bytes(4, "big") + png[33:]


# --- the service


def serve(run: Path, folder: Path) -> tuple[subprocess.Popen[str], str]:
    """Start a service; its process and its address."""
    command = [sys.executable, __file__, "--serve", str(run)]
    with (folder / "service.txt").open("w") as log:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True)
    assert process.stdout is not None
    for line in process.stdout:
        if line.startswith("listening on "):
            return process, line.split()[2]
    raise SystemExit(f"the service did not start:\n{(folder / 'service.txt').read_text()}")


def resident(process: subprocess.Popen[str]) -> float:
    """Memory of a process, megabytes."""
    pages = int(Path(f"/proc/{process.pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


# --- the clients


async def request(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, body: bytes
) -> tuple[int, bool]:
    """Send an image; the status of the answer, and whether the connection stays open."""
    writer.write(f"POST /detect HTTP/1.1\r\nHost: a\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body)
    await writer.drain()
    head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
    length = int(head.partition("content-length: ")[2].split()[0])
    await reader.readexactly(length)
    return int(head.split()[1]), "connection: close" not in head


async def client(
    address: str, bodies: Callable[[], tuple[bytes, int] | None], seconds: list[float], seen: Counter[str]
) -> None:
    """Send bodies until there are no more; an image that is refused for lack of room is sent again."""
    host, _, port = urlsplit(address).netloc.partition(":")
    connection = await asyncio.open_connection(host, int(port))
    while (wanted := bodies()) is not None:
        body, status = wanted
        answered = 429
        while answered == 429:
            started = time.perf_counter()
            answered, stays = await request(*connection, body)
            seconds.append(time.perf_counter() - started)
            seen["again"] += answered == 429
            if not stays:
                connection[1].close()
                connection = await asyncio.open_connection(host, int(port))
        seen["right" if answered == status else f"{answered} in place of {status}"] += 1
    connection[1].close()


def load(
    address: str, clients: int, work: Sequence[tuple[bytes, int]]
) -> tuple[float, list[float], Counter[str]]:
    """Send all of it from several clients; seconds in all, seconds of each request, and what was answered."""
    waiting = list(reversed(work))
    seconds: list[float] = []
    seen: Counter[str] = Counter()

    async def all_of_them() -> None:
        def next_one() -> tuple[bytes, int] | None:
            return waiting.pop() if waiting else None

        await asyncio.gather(*(client(address, next_one, seconds, seen) for _ in range(clients)))

    started = time.perf_counter()
    asyncio.run(all_of_them())
    return time.perf_counter() - started, seconds, seen


def alone(run: Path, images: Sequence[bytes], number: int) -> tuple[float, list[float]]:
    """One synchronous call after the other; seconds in all, and of each."""
    detector = Detector.load(run, "cpu")
    seconds = []
    for index in range(number + 5):
        started = time.perf_counter()
        [found] = detector(decode_image("image", images[index % len(images)]))
        found.to_dicts()
        if index >= 5:
            seconds.append(time.perf_counter() - started)
    return sum(seconds), seconds


# --- what is printed


def percentile(seconds: Sequence[float], part: float) -> float:
    return float(np.percentile(seconds, 100 * part))


def throughput(sender: Executor, address: str, run: Path, images: Sequence[bytes], number: int) -> None:
    """Requests per second and times, as ratios to calls one after the other in the same run."""
    work = [(images[index % len(images)], 200) for index in range(number)]
    rates: dict[int, list[float]] = {0: [], **{clients: [] for clients in CLIENTS}}
    times: dict[int, list[float]] = {clients: [] for clients in rates}
    sender.submit(load, address, 8, work[:64]).result()  # warms up
    for _ in range(ROUNDS):
        total, seconds = alone(run, images, number)
        rates[0].append(number / total)
        times[0] += seconds
        for clients in CLIENTS:
            total, seconds, seen = sender.submit(load, address, clients, work).result()
            assert seen["right"] == number, seen
            rates[clients].append(number / total)
            times[clients] += seconds
    base = statistics.median(rates[0])
    middle = percentile(times[0], 0.5)
    print(f"{'':>10}  requests/s  ratio   p50 ms  ratio   p99 ms  ratio (to the median alone)")
    for clients, seconds in times.items():
        rate = statistics.median(rates[clients])
        p50, p99 = percentile(seconds, 0.5), percentile(seconds, 0.99)
        name = f"{clients} clients" if clients else "alone"
        print(
            f"{name:>10}  {rate:10.1f}  {rate / base:5.2f}  {1e3 * p50:7.2f}  {p50 / middle:5.2f}"
            f"  {1e3 * p99:7.2f}  {p99 / middle:5.2f}"
        )


def mixed(images: Sequence[bytes], number: int, bad: int) -> list[tuple[bytes, int]]:
    """Bodies of which some are broken, in random order, and the status that each must get."""
    wrong = broken(images)
    work = [(images[index % len(images)], 200) for index in range(number - bad)]
    work += [wrong[index % len(wrong)] for index in range(bad)]
    random.Random(0).shuffle(work)
    return work


def endurance(
    sender: Executor,
    service: subprocess.Popen[str],
    address: str,
    work: Sequence[tuple[bytes, int]],
) -> bool:
    """Many requests; whether all were answered as they should be."""
    number, memory, seen = len(work), [resident(service)], Counter[str]()
    for part in range(10):
        some = work[part * number // 10 : (part + 1) * number // 10]
        seen += sender.submit(load, address, 16, some).result()[2]
        memory.append(resident(service))
    bad = sum(status != 200 for _, status in work)
    print(f"{number} requests, {bad} of them broken: {dict(seen)}")
    print(f"memory of the service, MB: {' '.join(f'{one:.0f}' for one in memory)}")
    return seen["right"] == number


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("run", nargs="?", type=Path, help="run, checkpoint or exported file")
    parser.add_argument("--requests", type=int, default=20_000)
    parser.add_argument("--broken", type=int, default=1_000)
    parser.add_argument("--measure", type=int, default=400, help="requests of each round of the first part")
    parser.add_argument("--size", type=int, default=64, help="side of the images, pixels")
    parser.add_argument("--serve", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve is not None:
        serve_here(options.serve)
        return
    with tempfile.TemporaryDirectory() as text:
        folder = Path(text)
        run = options.run or random_run(folder, options.size)
        images = scenes(folder / "scenes", options.size)
        process, address = serve(run, folder)
        try:
            print(machine())
            with ProcessPoolExecutor(1, get_context("spawn"), os.nice, (19,)) as sender:
                throughput(sender, address, run, images, options.measure)
                work = mixed(images, options.requests, options.broken)
                good = endurance(sender, process, address, work)
        finally:
            process.send_signal(signal.SIGTERM)
            code = process.wait(60)
    print(f"exit code of the service after SIGTERM: {code}")
    sys.exit(0 if good and code == 0 else 1)


def serve_here(run: Path) -> None:
    """``ctnet serve``, where the backbone of this file is known."""
    from ctnet.cli import main as command_line

    sys.argv = ["ctnet", "serve", str(run), "--port", "0", "--device", "cpu", "--max-mb", "0.2"]
    command_line()


if __name__ == "__main__":
    main()
