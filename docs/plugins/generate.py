"""Write contract.md and checks.md from docstrings and the kit: python docs/plugins/generate.py."""

from __future__ import annotations

import dataclasses
import inspect
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ctnet.backbones import Backbone
from ctnet.core.evaluator import Evaluator
from ctnet.core.heads import Head, Heatmap, Regression
from ctnet.core.losses import Loss
from ctnet.core.options import option
from ctnet.core.recipe import Augmentation, Recipe
from ctnet.core.records import Annotations, Detections, ImageInfo, Instances, Sample
from ctnet.core.targets import CellTargets, Grid, Peaks
from ctnet.core.task import Task
from ctnet.testing import BACKBONE_CHECKS, TASK_CHECKS

FOLDER = Path(__file__).parent
CONTRACTS = (Task, Head, Heatmap, Regression, Evaluator, Backbone)
RECORDS = (
    Annotations,
    Instances,
    Detections,
    ImageInfo,
    Sample,
    Grid,
    Peaks,
    CellTargets,
    Loss,
    Recipe,
    Augmentation,
    option,
)
NOTE = "<!-- Written by docs/plugins/generate.py; change the docstrings instead. -->"


def pages() -> dict[str, str]:
    """The generated pages by file name."""
    return {"contract.md": contract_page(), "checks.md": checks_page()}


def contract_page() -> str:
    """The docstrings of everything that a plugin implements or is handed."""
    lines = [NOTE, "", "# The contract", "", "What a plugin implements."]
    for cls in CONTRACTS:
        lines += ["", f"## {cls.__module__}.{cls.__name__}", "", *markdown(inspect.getdoc(cls) or "")]
        for name, member in own_members(cls):
            lines += ["", f"### {title(cls, name, member)}", "", *markdown(inspect.getdoc(member) or "")]
    lines += ["", "# What a plugin is handed and hands back"]
    for cls in RECORDS:
        lines += ["", f"## {cls.__module__}.{cls.__name__}", "", *markdown(inspect.getdoc(cls) or "")]
    return "\n".join(lines) + "\n"


def own_members(cls: type) -> Iterator[tuple[str, Any]]:
    """Methods and properties with a docstring that the class itself defines, in the order of the file."""
    for name, member in vars(cls).items():
        public = not name.startswith("_") or name == "__init__"
        if public and (inspect.isfunction(member) or isinstance(member, property)) and member.__doc__:
            if name == "__init__" and dataclasses.is_dataclass(cls):
                continue
            yield name, member


def title(cls: type, name: str, member: Any) -> str:
    """A method with the names of its parameters, or a property."""
    if isinstance(member, property):
        return f"{cls.__name__}.{name}"
    names = [parameter for parameter in inspect.signature(member).parameters if parameter != "self"]
    called = cls.__name__ if name == "__init__" else f"{cls.__name__}.{name}"
    marked = " (must be given)" if getattr(member, "__isabstractmethod__", False) else ""
    return f"{called}({', '.join(names)}){marked}"


def markdown(docstring: str) -> Iterator[str]:
    """A docstring's lines as Markdown: sections become bold words, their entries bullets."""
    for line in docstring.replace("``", "`").splitlines():
        section = re.fullmatch(r"(Args|Attributes|Returns|Raises):", line)
        entry = re.fullmatch(r"    (\w[\w, ]*): (.*)", line)
        source = re.fullmatch(r"Source: (.*)", line)
        if section:
            yield f"**{section[1]}**"
            yield ""
        elif entry:
            yield f"- `{entry[1]}`: {entry[2]}"
        elif source:
            yield f"*Source: {source[1]}*"
        else:
            yield re.sub(r"^ {6,}", "  ", line) if line.startswith("      ") else line.strip()


def checks_page() -> str:
    """Every check with what it wants."""
    lines = [NOTE, "", "# The checks of the conformance kit"]
    for what, command, checks in (
        ("task", "tasks", TASK_CHECKS),
        ("backbone", "backbones", BACKBONE_CHECKS),
    ):
        lines += ["", f"## Of a {what}: `ctnet {command} check NAME`", ""]
        lines += ["| check | part of the contract | what the contract wants |", "|---|---|---|"]
        lines += [f"| `{check.name}` | {check.member} | {check.wants} |" for check in checks]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    for name, text in pages().items():
        (FOLDER / name).write_text(text, encoding="utf-8")
