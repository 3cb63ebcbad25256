"""The blocks of docs/serving.md against a service: its Python, its lines of curl, its table of options."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest
import typer

from ctnet.cli import app
from ctnet.inference import Detector

pytestmark = pytest.mark.serve

PAGE = (Path(__file__).parents[2] / "docs" / "serving.md").read_text("utf-8")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, png) -> Path:
    """What the page names."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "scene.png").write_bytes(png(90, 60))
    (tmp_path / "scene.jpg").write_bytes(png(90, 60, suffix=".jpg"))
    (tmp_path / "notes.txt").write_text("hello")
    return tmp_path


@pytest.mark.usefixtures("folder")
def test_its_python(running, detector: Detector, image, capsys: pytest.CaptureFixture[str]) -> None:
    (code,) = re.findall(r"^```python\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE)
    exec(code.replace("http://localhost:8000", running()), {})
    (found,) = detector(image(90, 60), score=0.5)
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == len(found) > 0
    assert lines[0] == f"{found.names[0]} {round(float(found.scores[0]), 2)} {found.boxes[0].tolist()}"


def test_its_lines_of_curl(running, folder: Path) -> None:
    if shutil.which("curl") is None:
        pytest.skip("needs curl")
    address = running()
    lines = re.findall(r"^\$ (curl .*)$", PAGE, re.MULTILINE)
    assert len(lines) == 3
    answers = []
    for line in lines:
        words = shlex.split(line.replace("localhost:8000", address))
        done = subprocess.run([*words, "--silent"], capture_output=True, check=True, timeout=60)
        answers.append(done.stdout)
    assert set(json.loads(answers[0])) == {"width", "height", "detections"}
    good, bad = json.loads(answers[1])["images"]
    assert "detections" in good
    assert bad["name"] == "notes.txt"
    assert bad["error"].startswith("notes.txt is not an image; send ")
    assert (folder / "drawn.png").read_bytes().startswith(b"\x89PNG")


def test_every_option_is_on_the_page_with_its_default() -> None:
    command = typer.main.get_command(app).commands["serve"]  # type: ignore[attr-defined]
    table = dict(re.findall(r"^\| `--([\w-]+)`[^|]*\| ([^|]+) \|", PAGE, re.MULTILINE))
    own = {"batch-size", "wait", "queue", "max-mb", "max-megapixels", "timeout"}
    assert own <= set(table)
    for parameter in command.params:
        names = [text.removeprefix("--") for text in parameter.opts if text.startswith("--")]
        for name in names:
            assert f"--{name}" in PAGE or name in ("multiscale", "clip", "option"), name
            if name in own:
                assert float(table[name]) == parameter.default
