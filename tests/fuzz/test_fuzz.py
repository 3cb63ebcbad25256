"""A short run of the mutated inputs, and proof that the harness catches what it looks for."""

from __future__ import annotations

import os
import random
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import harness
import pytest
import torch
from harness import Report, Target, run
from mutate import mutated_json
from targets import commands, exports, readers

from ctnet.backbones import _registry
from ctnet.base.errors import CtnetError

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="inputs are tried in forked processes")


@pytest.fixture(scope="module", autouse=True)
def _one_thread_and_no_backbone_left() -> Iterator[None]:
    before, threads = dict(_registry._factories), torch.get_num_threads()
    torch.set_num_threads(1)  # threads do not outlive a fork
    yield
    torch.set_num_threads(threads)
    _registry._factories.clear()
    _registry._factories.update(before)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("fuzz")


def _assert_clean(report: Report, cases: int) -> None:
    assert report.cases == cases
    assert not report.lines(), "\n".join(report.lines())
    assert report.refused > cases / 10  # mutations do change something that matters


def test_readers(home: Path) -> None:
    _assert_clean(run(readers(home / "readers"), 300, seed=300), 300)


@pytest.mark.thorough
def test_readers_at_length(home: Path) -> None:
    _assert_clean(run(readers(home / "many"), 1900, seed=17), 1900)


@pytest.mark.thorough
def test_commands(home: Path) -> None:
    _assert_clean(run(commands(home / "commands"), 100, seed=18), 100)


@pytest.mark.thorough
@pytest.mark.export
def test_exports(home: Path) -> None:
    _assert_clean(run(exports(home / "exports"), 60, seed=19), 60)


def test_inputs_follow_from_seed_and_number(tmp_path: Path) -> None:
    target = _target(tmp_path, lambda folder: None)
    for name, seed, number in (("a", 1, 2), ("b", 1, 2), ("c", 2, 2), ("d", 1, 3)):
        harness.write_input(target, number, seed, tmp_path / name)
    texts = [(tmp_path / name / "x.json").read_bytes() for name in "abcd"]
    assert texts[0] == texts[1]
    assert texts[0] not in texts[2:]


# --- what the harness must catch


def _target(folder: Path, read: Callable[[Path], str | None]) -> Target:
    source = folder / "source"
    source.mkdir(exist_ok=True)
    (source / "x.json").write_text('{"a": [1, 2, 3], "b": {"c": "text", "d": 0.5}}')
    return Target("reader", source, {"x.json": mutated_json}, read)


def _raises(folder: Path) -> None:
    raise KeyError("a")


def _never_ends(folder: Path) -> None:
    while True:
        time.sleep(0.01)


def _dies(folder: Path) -> None:
    os._exit(7)


def _eats_memory(folder: Path) -> None:
    bytearray(2 * harness.MEMORY)


_kept: list[object] = []


def _leaves_threads(folder: Path) -> None:
    for number in (1, 2):
        threading.Thread(target=time.sleep, args=(60,), name=f"writer-{number}", daemon=True).start()


def _leaves_a_file_open(folder: Path) -> None:
    _kept.append((folder / "x.json").open())


def _loses(folder: Path) -> str:
    return "3 of 4 records are counted"


@pytest.mark.parametrize(
    ("read", "finding"),
    [
        (_raises, "KeyError: test_fuzz.py"),
        (_never_ends, "no end after 1 s"),
        (_dies, "the process died with 7"),
        (_eats_memory, "MemoryError"),
        (_leaves_threads, "left behind: writer-N"),
        (_leaves_a_file_open, "left behind: x.json"),
        (_loses, "3 of 4 records are counted"),
    ],
)
def test_the_harness_catches(
    read: Callable[[Path], str | None], finding: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if read is _never_ends:
        monkeypatch.setattr(harness, "SECONDS", 1.0)  # the others may be slow on a busy machine
    report = run([_target(tmp_path, read)], 2, jobs=1)
    assert report.cases == 2
    assert report.refused == 0
    (line,) = report.lines()
    assert line.startswith("reader 0: ")
    assert finding in line
    assert line.endswith("(2 times)")


def test_an_error_of_one_line_is_right(tmp_path: Path) -> None:
    def refuses(folder: Path) -> None:
        raise CtnetError("x.json: at a: 1, expected 2; write it again")

    report = run([_target(tmp_path, refuses)], 3, jobs=2)
    assert (report.cases, report.refused, report.lines()) == (3, 3, [])


def test_a_reader_that_fails_on_some_inputs_is_found(tmp_path: Path) -> None:
    """The files differ: a reader without checks meets something unexpected."""
    import json

    def careless(folder: Path) -> None:
        try:
            value = json.loads((folder / "x.json").read_bytes())
        except (ValueError, RecursionError) as error:
            raise CtnetError("x.json is not valid JSON; write it again") from error
        assert sum(value["a"]) + value["b"]["d"] > -random.random() * 1e400

    report = run([_target(tmp_path, careless)], 60, seed=3, jobs=2)
    kinds = {what.partition(":")[0] for _, what in report.findings}
    assert {"KeyError", "TypeError"} <= kinds
    assert report.refused
