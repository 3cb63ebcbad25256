"""The observer of the page is installed with its entry point, and writes what the page shows."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from ctnet.core.task import create_task
from ctnet.data.shape_scenes import SHAPES
from ctnet.data.synthetic import write_dataset
from ctnet.training.display import Quiet
from ctnet.training.request import Loop, Machine, Network, RecipeChoice, TrainingData
from ctnet.training.session import new_session

PAGE = (Path(__file__).parents[2] / "docs" / "observers.md").read_text("utf-8")


def block(language: str) -> str:
    (found,) = re.findall(rf"^```{language}\n(.*?)^```\n", PAGE, re.DOTALL | re.MULTILINE)
    return found


def test_the_observer_of_the_page_keeps_its_journal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tiny_backbone
) -> None:
    site = tmp_path / "site"
    (site / "team-1.0.dist-info").mkdir(parents=True)
    (site / "team_journal.py").write_text(block("python"))
    (site / "team-1.0.dist-info/METADATA").write_text("Metadata-Version: 2.1\nName: team\nVersion: 1.0\n")
    declared = re.sub(r'\[project\.entry-points\."(.*)"\]', r"[\1]", block("toml")).replace('"', "")
    (site / "team-1.0.dist-info/entry_points.txt").write_text(declared)
    monkeypatch.syspath_prepend(site)
    write_dataset(create_task("ctdet", SHAPES), tmp_path / "data", {"train": 8, "val": 2}, (64, 64))
    fields = {"epochs": 2, "batch_size": 4, "size": (64, 64), "smooth": 1}
    with tiny_backbone() as name:
        session = new_session(
            "ctdet",
            TrainingData(tmp_path / "data"),
            Network(backbone=name),
            RecipeChoice("small", fields),
            Loop("off"),
            Machine("cpu", 0, Quiet(), observers=("journal",)),
            tmp_path / "run",
        )
        assert session.fit()
    written = (tmp_path / "run/journal.jsonl").read_text()
    assert written == block("text")  # two steps teach nothing: AP is 0
