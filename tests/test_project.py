"""What the project says about itself in several files agrees."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

import ctnet

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def project() -> dict[str, Any]:
    return tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))


def test_the_version_has_one_source(project: dict[str, Any]) -> None:
    assert "version" in project["project"]["dynamic"]
    assert project["tool"]["hatch"]["version"]["path"] == "ctnet/base/version.py"
    source = (ROOT / "ctnet/base/version.py").read_text("utf-8")
    assert f'__version__ = "{ctnet.__version__}"' in source
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text("utf-8"))
    assert citation["version"] == ctnet.__version__
    assert citation["license"] == project["project"]["license"]


def test_the_changelog_has_the_usual_headings() -> None:
    lines = (ROOT / "CHANGELOG.md").read_text("utf-8").splitlines()
    versions = [line.removeprefix("## ") for line in lines if line.startswith("## ")]
    assert versions[0] == "Unreleased"
    assert all(re.fullmatch(r"\d+\.\d+\.\d+", version) for version in versions[1:])
    kinds = {line.removeprefix("### ") for line in lines if line.startswith("### ")}
    assert kinds <= {"Added", "Changed", "Deprecated", "Removed", "Fixed", "Security"}


def test_the_lowest_versions_are_stated_alike(project: dict[str, Any]) -> None:
    python = project["project"]["requires-python"].removeprefix(">=")
    [torch] = [text for text in project["project"]["dependencies"] if text.startswith("torch>=")]
    readme = (ROOT / "README.md").read_text("utf-8")
    assert f"Python {python}+, torch {torch.removeprefix('torch>=')}+" in readme
    assert project["tool"]["ruff"]["target-version"] == "py" + python.replace(".", "")
    assert project["tool"]["mypy"]["python_version"] == python


def test_what_an_open_project_has_at_its_door() -> None:
    security = (ROOT / "SECURITY.md").read_text("utf-8")
    assert "report a vulnerability privately to the maintainers of the repository you got" in security
    contributing = (ROOT / "CONTRIBUTING.md").read_text("utf-8")
    for heading in ("Set up", "Add a task", "Add a backbone", "Add a converter", "Release"):
        assert f"## {heading}\n" in contributing
    for link in re.findall(r"\]\(([\w./-]+)", contributing + (ROOT / "docs/decisions.md").read_text("utf-8")):
        assert (ROOT / link).exists() or (ROOT / "docs" / link).exists(), link
    hooks = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text("utf-8"))["repos"]
    assert {hook["id"] for repo in hooks for hook in repo["hooks"]} >= {"ruff", "ruff-format"}
    assert all(re.fullmatch(r"v\d+\.\d+\.\d+", repo["rev"]) for repo in hooks)
    assert sorted(path.name for path in (ROOT / ".github/ISSUE_TEMPLATE").iterdir()) == [
        "bug.md",
        "feature.md",
    ]
