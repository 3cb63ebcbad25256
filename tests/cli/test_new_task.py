"""``ctnet tasks new``: what it writes is a whole plugin that works as it stands."""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from ctnet.testing import TASK_CHECKS


@pytest.fixture
def plugin(ctnet, tmp_path: Path) -> Path:
    """The written plugin, in the current folder."""
    assert ctnet("tasks", "new", "wall_clocks").code == 0
    return tmp_path / "ctnet-tasks-wall-clocks"


@pytest.fixture
def installed(plugin: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The plugin on the path with the metadata that pip would write."""
    info = plugin / "ctnet_tasks_wall_clocks-0.1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: ctnet-tasks-wall-clocks\nVersion: 0.1.0\n")
    points = "[ctnet.tasks]\nwall_clocks = ctnet_tasks_wall_clocks:WallClocks\n"
    (info / "entry_points.txt").write_text(points)
    monkeypatch.syspath_prepend(str(plugin))
    for name in [name for name in sys.modules if name.startswith("ctnet_tasks_wall_clocks")]:
        monkeypatch.delitem(sys.modules, name)
    importlib.invalidate_caches()
    return plugin


def test_it_is_complete(plugin: Path) -> None:
    files = {str(path.relative_to(plugin)): path for path in plugin.rglob("*") if path.is_file()}
    assert sorted(files) == [
        "README.md",
        "ctnet_tasks_wall_clocks/__init__.py",
        "ctnet_tasks_wall_clocks/task.py",
        "pyproject.toml",
        "tests/test_task.py",
    ]
    for name, path in files.items():
        text = path.read_text()
        assert "wall_clocks" in text
        for token in ("@task@", "@Class@", "@package@", "@distribution@", "@version@"):
            assert token not in text, name
        if name.endswith(".py"):
            compile(text, name, "exec")
    assert "class WallClocks(ct.Task)" in files["ctnet_tasks_wall_clocks/task.py"].read_text()
    assert list(plugin.parent.glob(".ctnet-tasks*")) == []
    assert len(files["ctnet_tasks_wall_clocks/task.py"].read_text().splitlines()) <= 95


def test_the_output_says_what_comes_next(ctnet, tmp_path: Path) -> None:
    done = ctnet("tasks", "new", "dials", "-o", "deep/er/plugin")
    assert (done.code, done.err) == (0, "")
    assert "pip install -e deep/er/plugin" in done.out
    assert (tmp_path / "deep" / "er" / "plugin" / "pyproject.toml").is_file()


def test_nothing_is_overwritten(ctnet, plugin: Path) -> None:
    task = plugin / "ctnet_tasks_wall_clocks" / "task.py"
    task.write_text("mine")
    message = ctnet("tasks", "new", "wall_clocks").message
    assert (
        message
        == "ctnet-tasks-wall-clocks already exists and is not overwritten; choose another with --output"
    )
    assert task.read_text() == "mine"


@pytest.mark.parametrize(
    "name", ["Dials", "2d", "my-task", "a b", "class", "x__y", "_x", "x_", "", "../x", "dé"]
)
def test_names_that_cannot_be_used(ctnet, tmp_path: Path, name: str) -> None:
    assert "is not a name for a task" in ctnet("tasks", "new", name).message
    assert list(tmp_path.iterdir()) == []


def test_names_that_are_taken(ctnet) -> None:
    assert "'ctdet' is already installed" in ctnet("tasks", "new", "ctdet").message


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_that_cannot_be_written(ctnet, tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    assert "cannot write ctnet-tasks-dials: Permission denied" in ctnet("tasks", "new", "dials").message


def test_a_file_in_the_way(ctnet, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    assert "cannot write file/plugin" in ctnet("tasks", "new", "dials", "-o", "file/plugin").message


@pytest.mark.usefixtures("installed")
def test_it_keeps_the_contract(ctnet) -> None:
    rows = {row["name"]: row for row in json.loads(ctnet("tasks", "list", "--json").out)}
    assert rows["wall_clocks"]["distribution"] == "ctnet-tasks-wall-clocks"
    assert rows["wall_clocks"]["version"] == "0.1.0"
    assert rows["wall_clocks"]["error"] is None
    done = ctnet("tasks", "check", "wall_clocks", "--json")
    outcomes = json.loads(done.out)
    assert done.code == 0, [outcome for outcome in outcomes if outcome["result"] == "failed"]
    assert [outcome["check"] for outcome in outcomes] == [check.name for check in TASK_CHECKS]


@pytest.mark.usefixtures("installed")
def test_it_trains_and_evaluates(ctnet, quick_demo) -> None:
    from ctnet.core.task import load_task_class

    quick_demo(load_task_class("wall_clocks"))
    done = ctnet("demo", "wall_clocks", "--epochs", 1, "--device", "cpu", "--json")
    assert done.code == 0, done.err
    made = json.loads(done.out)
    assert 0 <= made["metrics"]["AP"] <= 1
    assert Path(made["picture"]).is_file()


@pytest.mark.slow
@pytest.mark.skipif(
    find_spec("pip") is None or find_spec("hatchling") is None, reason="no pip or no hatchling"
)
def test_pip_installs_it(plugin: Path, tmp_path: Path) -> None:
    """As a wheel into a folder of its own; the plugin's own tests pass from there."""
    site = tmp_path / "site"
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation"]
    subprocess.run([*pip, "--target", str(site), str(plugin)], check=True, capture_output=True)
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-k", "not contract"],
        cwd=plugin,
        env={**os.environ, "PYTHONPATH": str(site), "CTNET_PLUGINS": "wall_clocks"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout
    assert "2 passed" in done.stdout
