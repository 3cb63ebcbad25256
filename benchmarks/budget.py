"""The budget's predictions against measurement, and the light trunks beside resfpn18.

    python benchmarks/budget.py [--budgets 15 30 60] [--threads 1] [--cpu-time] [--beside "NAME=COMMAND"]

For each budget: what ``ctnet backbones --budget`` chooses, the predicted time, the time of the whole network,
a median, and their ratio. Then one image of 256x256 with detection heads of three classes, prepared as for
inference: medians of all alternatives, interleaved within one run.

A detector of another library can take part, from another environment: COMMAND is started once, runs its
network once for each line that it reads, and answers with the milliseconds that this took, one line each. It
gets OMP_NUM_THREADS for the number of threads.
"""

from __future__ import annotations

import argparse
import os
import shlex
import statistics
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

import torch
from timing import machine

from ctnet.budget.choice import propose, trainable_backbones
from ctnet.budget.clock import Clock, threads
from ctnet.budget.proposal import Budget
from ctnet.core.heads import Heatmap, Regression
from ctnet.inference.prepare import prepare_for_inference
from ctnet.model import create_model

HEADS = {"heatmap": Heatmap(3), "size": Regression(2), "offset": Regression(2)}
NAMES = ("resfpn18", "light48", "light32", "light16")
SIZE = 256


def predictions(budgets: list[float], number: int, clock: Clock) -> None:
    """The table of budgets."""
    print(f"{'budget':>8}  {'chosen':<22}{'predicted':>10}{'measured':>10}  predicted/measured  seconds")
    names = trainable_backbones()
    for milliseconds in budgets:
        begun = time.perf_counter()
        proposal = propose(names, HEADS, Budget(milliseconds, number), clock=clock)
        passed = time.perf_counter() - begun
        for one in (*proposal.refused, proposal.chosen):
            assert one.measured is not None
            print(
                f"{milliseconds:>5g} ms  {one!s:<22}{one.predicted:>10.1f}{one.measured:>10.1f}  "
                f"{one.predicted / one.measured:>18.2f}  {passed:>7.1f}"
                + ("" if one is proposal.chosen else "  (too slow, a smaller one instead)"),
                flush=True,
            )


@contextmanager
def other(command: str, number: int) -> Iterator[Callable[[], float]]:
    """A detector in another process: each call runs it once and gives its milliseconds."""
    environment = {**os.environ, "OMP_NUM_THREADS": str(number)}
    with subprocess.Popen(
        shlex.split(command), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        asked, answers = process.stdin, process.stdout

        def run() -> float:
            asked.write("\n")
            asked.flush()
            return float(answers.readline())

        yield run
        asked.close()


def ours(name: str, clock: Clock) -> Callable[[], float]:
    """A backbone of ours, prepared: each call runs it once and gives its milliseconds."""
    torch.manual_seed(0)
    prepared = prepare_for_inference(create_model(HEADS, name).eval())
    images = torch.rand(1, 3, SIZE, SIZE)

    def run() -> float:
        begun = clock()
        with torch.inference_mode():
            prepared.activated(images)
        return 1e3 * (clock() - begun)

    return run


def side_by_side(beside: str, number: int, repeats: int, clock: Clock) -> None:
    """The table of networks."""
    print(f"\none image of {SIZE}x{SIZE}, {number} threads, median of {repeats}, interleaved")
    with ExitStack() as stack, threads(number):
        runs = {name: ours(name, clock) for name in NAMES}
        name, _, command = beside.partition("=")
        if command:
            runs[name] = stack.enter_context(other(command, number))
        times: dict[str, list[float]] = {name: [] for name in runs}
        for turn in range(repeats + 2):
            for name, run in runs.items():
                milliseconds = run()
                if turn > 1:
                    times[name].append(milliseconds)
    medians = {name: statistics.median(values) for name, values in times.items()}
    for name, median in medians.items():
        low, high = statistics.quantiles(times[name], n=4)[::2]
        ratio = medians["resfpn18"] / median
        print(
            f"{name:<12}{median:>8.1f} ms  (half of them {low:.1f} to {high:.1f}){ratio:>8.2f} times as fast"
        )
    if not command:
        print("another library's detector: not installed (--beside)")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--budgets", type=float, nargs="*", default=[15, 30, 60], help="milliseconds")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=31)
    parser.add_argument("--beside", default="", metavar="NAME=COMMAND")
    parser.add_argument(
        "--cpu-time", action="store_true", help="of the process, for a busy machine; one thread"
    )
    options = parser.parse_args()
    if options.cpu_time and options.threads > 1:
        parser.error("--cpu-time adds up the time of all threads; it is for --threads 1")
    clock = time.process_time if options.cpu_time else time.perf_counter
    torch.set_num_threads(options.threads)
    print(machine())
    if options.budgets:
        predictions(options.budgets, options.threads, clock)
    side_by_side(options.beside, options.threads, options.repeats, clock)


if __name__ == "__main__":
    main()
