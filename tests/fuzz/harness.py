"""Runs mutated inputs in forked processes, with limits on time and memory, and reports what went wrong.

The right outcome is to return, or to raise a one-line ``CtnetError``. Anything else is a finding: another
exception, no end within the limit, a process that dies, a thread or an open file that stays.
"""

from __future__ import annotations

import gc
import multiprocessing
import os
import random
import re
import resource
import shutil
import signal
import tempfile
import threading
import time
import traceback
import unicodedata
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

from ctnet.base.errors import CtnetError
from ctnet.base.output import printable

SECONDS = 30.0  # of one input
MEMORY = 6 << 30  # bytes of address space that a process may use beyond what it has


@dataclass(frozen=True)
class Target:
    """A reader of files, or a command.

    Attributes:
        name: the name of the reader or command.
        source: a folder of valid files; each input is a copy of it.
        mutate: file of the folder -> (generator, bytes) -> bytes; each input changes one of them.
        read: takes the copy; returns None, or what it did wrong.
    """

    name: str
    source: Path
    mutate: dict[str, Callable[[random.Random, bytes], bytes]]
    read: Callable[[Path], str | None]


@dataclass
class Report:
    """The outcomes of a run.

    Attributes:
        cases: inputs tried.
        refused: inputs that ended in a CtnetError (or exit code 2).
        findings: one per place: target, what and where, with the first input's number and the count.
        say: called with each when it is first seen.
    """

    cases: int = 0
    refused: int = 0
    findings: dict[tuple[str, str], tuple[int, int]] = field(default_factory=dict)
    say: Callable[[str], None] | None = None

    def add(self, target: str, number: int, outcome: str) -> None:
        self.cases += 1
        if outcome == "refused":
            self.refused += 1
        elif outcome:
            if self.say is not None and (target, outcome) not in self.findings:
                self.say(f"{target} {number}: {outcome}")
            first, count = self.findings.get((target, outcome), (number, 0))
            self.findings[target, outcome] = (first, count + 1)

    def lines(self) -> list[str]:
        return [
            f"{target} {first}: {what} ({count} times)"
            for (target, what), (first, count) in sorted(self.findings.items())
        ]


class Hang(BaseException):
    """The time of one input is up."""


def write_input(target: Target, number: int, seed: int, folder: Path) -> None:
    """Make an input: the files of a target, one of them changed."""
    rng = random.Random(f"{seed} {target.name} {number}")
    shutil.copytree(target.source, folder)
    name = rng.choice(sorted(target.mutate))
    path = folder / name
    path.write_bytes(target.mutate[name](rng, path.read_bytes()))


def outcome(target: Target, folder: Path) -> str:
    """ "" where all is well, "refused", or what went wrong and where."""
    try:
        return target.read(folder) or ""
    except CtnetError as error:
        message = printable(str(error))  # as the command line shows it
        return "refused" if is_one_line(message) else f"an error of several lines: {message!r}"[:300]
    except Hang:
        return f"no end after {SECONDS:.0f} s"
    except BaseException as error:
        return f"{type(error).__name__}: {place(error)}"


def is_one_line(text: str) -> bool:
    """Whether a terminal shows it as one line, without control characters."""
    return len(text.splitlines()) == 1 and not any(unicodedata.category(c) in ("Cc", "Cs") for c in text)


def place(error: BaseException) -> str:
    """Where in ctnet an exception comes from, and its text."""
    frames = traceback.extract_tb(error.__traceback__)
    ours = [frame for frame in frames if "ctnet" in frame.filename and "fuzz" not in frame.filename]
    last = (ours or frames)[-1]
    return f"{Path(last.filename).name}:{last.lineno} {last.name}: {str(error)[:120]!r}"


def run(
    targets: Sequence[Target],
    cases: int,
    seed: int = 0,
    jobs: int = 2,
    say: Callable[[str], None] | None = None,
) -> Report:
    """Try this many inputs, spread evenly over the targets."""
    work = [(t, n) for n in range(-(-cases // len(targets))) for t in range(len(targets))][:cases]
    report, context = Report(say=say), multiprocessing.get_context("fork")
    parts = [_Part(context, targets, work[job::jobs], seed, report) for job in range(jobs)]
    while alive := [part for part in parts if part.step()]:
        wait([part.inbox for part in alive], timeout=1)
    return report


class _Part:
    """One process's share of the work; a process that dies is replaced, and its input is a finding."""

    def __init__(
        self, context: Any, targets: Sequence[Target], work: list[tuple[int, int]], seed: int, report: Report
    ) -> None:
        self.context, self.targets, self.work, self.seed, self.report = context, targets, work, seed, report
        self.done = 0
        self._start()

    def _start(self) -> None:
        self.inbox, outbox = self.context.Pipe(duplex=False)
        left = self.work[self.done :]
        arguments = (self.targets, left, self.seed, outbox)
        self.process = self.context.Process(target=_work, args=arguments, daemon=True)
        self.process.start()
        outbox.close()
        self.heard = time.monotonic()

    def step(self) -> bool:
        """Handle the messages that arrived; False when all is done."""
        ended = False
        try:
            while self.inbox.poll():
                self._take(self.inbox.recv())
                self.heard = time.monotonic()
        except EOFError:
            ended = True
        if self.done == len(self.work):
            self.process.join()
            return False
        if time.monotonic() - self.heard > 2 * SECONDS:  # in C code, which no signal ends
            self.process.kill()
            ended = True
        if ended:
            self.process.join()
            self._take(f"the process died with {self.process.exitcode}")
            self._start()
        return True

    def _take(self, outcome: str) -> None:
        target, number = self.work[self.done]
        self.report.add(self.targets[target].name, number, outcome)
        self.done += 1


def _work(targets: Sequence[Target], work: list[tuple[int, int]], seed: int, outbox: Connection) -> None:
    signal.signal(signal.SIGALRM, _hang)
    # Memory that is already mapped counts as well.
    taken = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (taken + MEMORY, resource.RLIM_INFINITY))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    _quiet()
    home = Path(tempfile.mkdtemp(prefix="ctnet-fuzz-"))
    try:
        for target, number in work:
            folder = home / "input"
            write_input(targets[target], number, seed, folder)
            os.chdir(folder)
            before = _held()
            signal.setitimer(signal.ITIMER_REAL, SECONDS)
            result = outcome(targets[target], folder)
            signal.setitimer(signal.ITIMER_REAL, 0)
            if result in ("", "refused"):
                result = _left(before) or result
            os.chdir(home)
            shutil.rmtree(folder, ignore_errors=True)
            outbox.send(result)
    finally:
        shutil.rmtree(home, ignore_errors=True)
        outbox.close()


def _held() -> tuple[Counter[str], set[str]]:
    """The threads of this process by name, without numbers, and its open files."""
    files = set()
    for handle in os.listdir("/proc/self/fd"):
        with suppress(OSError):
            files.add(f"{handle} {os.readlink(f'/proc/self/fd/{handle}')}")
    return Counter(re.sub(r"\d+", "N", thread.name) for thread in threading.enumerate()), files


def _left(before: tuple[Counter[str], set[str]]) -> str:
    """What an input left behind in the process; a library may start one thread of a kind and keep it."""
    threads, files = _held()
    if files - before[1]:
        gc.collect()  # closes files without references
        threads, files = _held()
    names = sorted(name for name, count in threads.items() if count > max(1, before[0][name]))
    names += sorted(Path(file.partition(" ")[2]).name for file in files - before[1] if "/input" in file)
    return f"left behind: {', '.join(names)}" if names else ""


def _quiet() -> None:
    """Discard the messages of C libraries about broken files."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    os.dup2(nowhere, 2)


def _hang(number: int, frame: Any) -> None:
    raise Hang


def summary(title: str, report: Report, seconds: float) -> str:
    """A run's outcome as text."""
    kinds = Counter(what.partition(":")[0] for (_, what) in report.findings)
    found = ", ".join(f"{kind} at {count} places" for kind, count in sorted(kinds.items())) or "nothing"
    tried = f"{title}: {report.cases} inputs in {seconds / 60:.1f} minutes"
    head = f"{tried}, {report.refused} refused; found {found}"
    return "\n".join([head, *report.lines()])
