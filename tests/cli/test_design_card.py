"""The commands of the design card, as they stand there, one after the other on a tiny data set."""

from __future__ import annotations

import importlib
import json
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from ctnet.core.task import load_task_class

ON_CPU = ["--device", "cpu", "--workers", 0]


def pack_wheel(plugin: Path, package: str, entry_point: str) -> Path:
    """The wheel that a build of the folder makes; a build would need a registry."""
    wheel = plugin / f"{package}-0.1.0-py3-none-any.whl"
    info = f"{package}-0.1.0.dist-info"
    name = package.replace("_", "-")
    with zipfile.ZipFile(wheel, "w") as archive:
        for path in sorted((plugin / package).glob("*.py")):
            archive.write(path, f"{package}/{path.name}")
        archive.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: 0.1.0\n")
        archive.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr(f"{info}/entry_points.txt", f"[ctnet.tasks]\n{entry_point}\n")
        archive.writestr(f"{info}/RECORD", "")
    return wheel


def install(wheel: Path, site: Path, patch: pytest.MonkeyPatch) -> None:
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-index", "--no-deps", "--target"]
    done = subprocess.run([*pip, str(site), str(wheel)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    patch.syspath_prepend(str(site))
    importlib.invalidate_caches()


@pytest.fixture
def package() -> Iterator[str]:
    """The name of the plugin's package; what is imported of it is forgotten afterwards."""
    name = "ctnet_tasks_wall_clocks"
    yield name
    for module in [module for module in sys.modules if module.partition(".")[0] == name]:
        del sys.modules[module]


@pytest.mark.thorough
def test_the_literal_commands(
    ctnet, scenes: Path, quick_demo, package: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def run(*arguments: object) -> dict:
        done = ctnet(*arguments, "--json")
        assert done.code == 0, done.err
        return json.loads(done.out)

    small = ["--size", 64, "--batch-size", 3, "--epochs", 1, *ON_CPU]
    run("train", "ctdet", "--backbone", "dla34", "--data", scenes, *small)
    assert (tmp_path / "runs" / "ctdet-dla34-1" / "best.pt").is_file()

    metrics = run("eval", "--flip", "--multiscale", *ON_CPU)["metrics"]
    assert metrics
    assert all(-1 <= value <= 1 for value in metrics.values())

    assert run("analyze", "collisions", scenes)
    assert run("analyze", "anchors", scenes)
    assert run("analyze", "errors", *ON_CPU)

    ctnet("tasks", "new", "wall_clocks")
    wheel = pack_wheel(tmp_path / "ctnet-tasks-wall-clocks", package, f"wall_clocks = {package}:WallClocks")
    install(wheel, tmp_path / "site", monkeypatch)
    assert "wall_clocks" in {row["name"] for row in run("tasks", "list") if row["error"] is None}
    quick_demo(load_task_class("wall_clocks"))
    made = run("demo", "wall_clocks", "--epochs", 1, "--device", "cpu")
    assert Path(made["picture"]).is_file()
