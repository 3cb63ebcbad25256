"""What the modules of ctnet may know of each other, and of plugins."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import ctnet

PACKAGE = Path(ctnet.__file__).parent
MODULES = sorted(PACKAGE.rglob("*.py"))

#: From the one that everything may import to those that may import everything.
LAYERS = [
    ["heatmap"],
    ["heads", "targets", "backbones"],
    ["task", "tasks", "model", "data", "checkpoint", "recipe", "records"],
    ["training", "inference", "evaluation", "analysis", "report", "convert", "testing"],
    ["cli"],
]
LAYER = {name: level for level, names in enumerate(LAYERS) for name in names}


def imports(path: Path, top_level: bool = False) -> set[str]:
    """Modules that a file imports; with ``top_level`` only those at its import, not inside functions."""
    tree = ast.parse(path.read_text("utf-8"))
    nodes = ast.iter_child_nodes(tree) if top_level else ast.walk(tree)
    found = set()
    for node in nodes:
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def name_of(path: Path) -> str:
    return str(path.relative_to(PACKAGE))


def test_no_line_names_a_task_of_a_plugin() -> None:
    """Whoever adds a task adds nothing to ctnet: not one line of it names any but the built-in one."""
    others = re.compile(r"(?<![a-z])(pose|ddd|exdet|obb)(?![a-z])", re.IGNORECASE)
    assert others.search("import ctnet_tasks_pose")
    files = [path for path in sorted(PACKAGE.rglob("*")) if path.is_file() and path.suffix != ".pyc"]
    named = [
        f"{name_of(path)}:{number}: {line.strip()}"
        for path in files
        for number, line in enumerate(path.read_text("utf-8").splitlines(), start=1)
        if others.search(line)
    ]
    assert named == []


def test_imports_point_one_way() -> None:
    """Down from the command line; a task reaches up only inside functions, as any plugin would."""
    wrong = []
    for path in MODULES:
        room = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
        level = LAYER.get(room, len(LAYERS))
        for name in imports(path, top_level=True):
            parts = [*name.split("."), ""]
            if parts[0] == "ctnet" and LAYER.get(parts[1], 0) > level:
                wrong.append(f"{name_of(path)} imports {name}")
    assert wrong == []


def test_no_module_imports_a_plugin() -> None:
    found = {path: {name for name in imports(path) if name.startswith("ctnet_tasks_")} for path in MODULES}
    assert {name_of(path): names for path, names in found.items() if names} == {}


def test_the_mathematics_needs_nothing_of_ours() -> None:
    for path in (PACKAGE / "heatmap").glob("*.py"):
        assert all(name.startswith("ctnet.heatmap") for name in imports(path) if name.startswith("ctnet")), (
            name_of(path)
        )
