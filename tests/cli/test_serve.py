"""``ctnet serve``: mistakes are found before anything is served."""

from __future__ import annotations

import os
import socket
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

pytestmark = pytest.mark.serve


@pytest.fixture(autouse=True)
def started(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """Remembers what would be served."""
    if any(find_spec(module) is None for module in ("starlette", "uvicorn", "python_multipart")):
        assert "CTNET_ALL_EXTRAS" not in os.environ, "needs the extra serve"
        pytest.skip("needs the extra serve")
    calls: list[object] = []
    monkeypatch.setattr("ctnet.serve.server.run", lambda *arguments: calls.append(arguments))
    monkeypatch.delenv("CTNET_TOKEN", raising=False)
    return calls


def test_it_says_what_it_serves_and_where(ctnet, run_folder: Path, started: list[object]) -> None:
    done = ctnet("serve", run_folder, "--port", 0, "--device", "cpu", "--size", 64, "--score", 0.4)
    assert done.code == 0, done.err
    lines = done.out.splitlines()
    assert lines[0].startswith("Detector(ctdet with tiny on cpu")
    assert lines[1] == "threshold: 0.4 for all classes"
    assert lines[2].startswith("listening on http://127.0.0.1:")
    assert done.err == ""
    assert len(started) == 1


def test_a_port_in_use(ctnet, run_folder: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        message = ctnet("serve", run_folder, "--port", port).message
    assert message == f"cannot listen on 127.0.0.1 port {port}: another program does; choose another --port"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--host", "no such host"], "--host is 'no such host', which is not known here; use 127.0.0.1 or"),
        (["--token", ""], "the token is empty; make one with"),
        (["--token", "two words"], "the token has spaces or other characters"),
        (["--calibrated"], "this detector has no calibration"),
        (["--calib", "."], "--calib . is a folder; give a file"),
        (["--calib", "missing.txt"], "missing.txt"),
        (["--size", "many"], "--size is 'many'; write one number"),
    ],
)
def test_mistakes_are_one_line(ctnet, run_folder: Path, arguments: list[str], said: str) -> None:
    assert said in ctnet("serve", run_folder, "--port", 0, "--device", "cpu", *arguments).message


def test_a_time_that_is_no_number(ctnet, run_folder: Path) -> None:
    """Refused by Typer or, where its version lets NaN pass a range, by us."""
    done = ctnet("serve", run_folder, "--port", 0, "--timeout", "nan")
    assert done.code == 2
    assert "--timeout" in done.err


def test_an_empty_token_in_the_environment_is_not_ignored(ctnet, run_folder: Path, monkeypatch) -> None:
    """Else a variable that was not set would open the service to everyone."""
    monkeypatch.setenv("CTNET_TOKEN", "")
    assert "the token is empty" in ctnet("serve", run_folder, "--port", 0).message


def test_without_a_token_on_all_addresses_is_a_warning(ctnet, run_folder: Path) -> None:
    done = ctnet("serve", run_folder, "--port", 0, "--host", "0.0.0.0")
    assert done.err == "warning: everyone who reaches 0.0.0.0 can use this service; give it a --token\n"
    assert ctnet("serve", run_folder, "--port", 0, "--host", "0.0.0.0", "--token", "a").err == ""


@pytest.mark.parametrize("module", ["starlette", "uvicorn", "python_multipart"])
def test_without_the_extra(ctnet, run_folder: Path, monkeypatch: pytest.MonkeyPatch, module: str) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    message = ctnet("serve", run_folder).message
    assert message.startswith(f"{module} cannot be imported")
    assert message.endswith("pip install --upgrade 'ctnet-toolkit[serve]'")
