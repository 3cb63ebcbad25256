"""The Python page is run block by block, and prints what the page shows."""

from __future__ import annotations

import ast
import importlib.util
import re
import sys
from collections.abc import Mapping
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from ctnet.checkpoint import Description
from ctnet.core.fields import move_record
from ctnet.core.geometry import Affine
from ctnet.core.records import Sample
from ctnet.core.targets import Grid
from ctnet.core.task import Task, create_task, example_of
from ctnet.data.images import read_image
from ctnet.data.shape_scenes import SHAPES
from ctnet.inference import Detector
from ctnet.report.writing import write_image

PAGE = Path(__file__).parents[2] / "docs" / "python.md"
BLOCKS = re.findall(
    r"^```python\n(.*?)^```\n(?:\n```text\n(.*?)^```\n)?", PAGE.read_text("utf-8"), re.DOTALL | re.MULTILINE
)


class WithoutError(nn.Module):
    """Returns the maps of one scene, whatever its input."""

    backbone = SimpleNamespace(divisor=32, stride=4)

    def __init__(self, task: Task, sample: Sample) -> None:
        super().__init__()
        self.task, self.instances = task, sample.instances

    def activated(self, inputs: Tensor) -> Mapping[str, Tensor]:
        grid = Grid(inputs.shape[2] // 4, inputs.shape[3] // 4)
        moved = move_record(self.instances, Affine.scaling(1 / 4), self.task.fields)
        targets = self.task.encode(moved, grid)
        maps = {name: head.render(targets[name], grid) for name, head in self.task.heads.items()}
        maps["heatmap"] = maps["heatmap"] * torch.linspace(0.95, 0.6, grid.width)  # so that scores differ
        return {name: values.repeat(len(inputs), 1, 1, 1) for name, values in maps.items()}


def output(code: str, names: dict[str, Any]) -> str:
    """What a notebook shows under a cell: the printed output, and the value of the last line, if any."""
    tree = ast.parse(code)
    last = tree.body.pop() if isinstance(tree.body[-1], ast.Expr) else None
    printed = StringIO()
    with redirect_stdout(printed):
        exec(compile(tree, str(PAGE), "exec"), names)
        value = None if last is None else eval(ast.unparse(last), names)
        if value is not None:
            print(repr(value))
    return re.sub(r" +$", "", printed.getvalue(), flags=re.MULTILINE)


@pytest.fixture
def in_a_folder_with_a_scene(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    task = create_task("ctdet", SHAPES)
    sample = example_of(task, np.random.default_rng(8), (128, 128))
    write_image(tmp_path / "scene.png", sample.image)
    model: Any = WithoutError(task, sample)
    detector = Detector(task, model, Description.of(task, "resfpn18", (128, 128)))
    monkeypatch.setattr(Detector, "load", lambda path: detector)
    if importlib.util.find_spec("supervision") is None:
        monkeypatch.setitem(sys.modules, "supervision", SimpleNamespace(Detections=SimpleNamespace))


@pytest.mark.usefixtures("in_a_folder_with_a_scene")
def test_every_block_prints_what_the_page_says(tmp_path: Path) -> None:
    names: dict[str, Any] = {}
    for number, (code, expected) in enumerate(BLOCKS):
        assert output(code, names) == expected, f"block {number}:\n{code}"
    drawn = read_image(tmp_path / "drawn.png")
    np.testing.assert_array_equal(drawn, names["picture"])
    assert not np.array_equal(drawn, read_image(tmp_path / "scene.png"))
    found = names["found"]
    for other in [*names["several"], names["of_opencv"], names["found_again"]]:
        np.testing.assert_allclose(other.boxes, found.boxes, atol=1e-3)
    assert set(names["squares"].names) == {"square"}
    assert len(names["theirs"].xyxy) == len(names["confident"]) == len(found) > 2


def test_all_blocks_are_found() -> None:
    assert len(BLOCKS) == PAGE.read_text("utf-8").count("```python\n") > 8
    assert sum(bool(expected) for _, expected in BLOCKS) > 5
    assert output("a = 1\nprint(a)\na + 1\n", {}) == "1\n2\n"
    assert output("a = 1\n", {}) == ""
