"""``ctnet.plugin`` is complete, costs nothing to import, and is all of ctnet that plugins import."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import ctnet
from ctnet import plugin

ROOT = Path(ctnet.__file__).parents[1]
TEMPLATE = ROOT / "ctnet" / "templates" / "task"
#: What a plugin may import of ours: in its package, and in its tests.
FACE = ("ctnet.plugin",)
FACE_AND_KIT = ("ctnet.plugin", "ctnet.testing")


def plugin_files() -> Iterator[Path]:
    """The modules of every task that ships with ctnet or lies in plugins/, and of the template."""
    yield from (ROOT / "ctnet" / "tasks").rglob("*.py")
    for folder in (*ROOT.glob("ctnet_tasks_*"), *ROOT.glob("plugins/*/ctnet_tasks_*")):
        yield from folder.rglob("*.py")
    yield from TEMPLATE.glob("@package@/*.py.template")


def forbidden(text: str, allowed: tuple[str, ...]) -> list[str]:
    """Modules of ctnet that a source imports beside the allowed ones, wherever in it, also by name."""
    found = []
    for node in ast.walk(ast.parse(text)):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            inside = node.module == "ctnet"
            names = [f"ctnet.{alias.name}" for alias in node.names] if inside else [node.module]
        elif isinstance(node, ast.Call) and ast.unparse(node.func).endswith(("import_module", "__import__")):
            names = [str(each.value) for each in node.args if isinstance(each, ast.Constant)]
        found += [name for name in names if name.partition(".")[0] == "ctnet" and name not in allowed]
    return found


def source(path: Path) -> str:
    """A module's source; that of a template with names for its placeholders."""
    return path.read_text("utf-8").replace("@package@", "package").replace("@Class@", "Class")


FILES = sorted(plugin_files())


def test_the_files_are_found() -> None:
    names = {str(path.relative_to(ROOT)) for path in FILES}
    assert len(names) > 40
    for name in (
        "ctnet/tasks/ctdet.py",
        "ctnet_tasks_pose/task.py",
        "ctnet_tasks_ddd/cli.py",
        "plugins/ctnet-tasks-exdet/ctnet_tasks_exdet/task.py",
        "plugins/ctnet-tasks-masks/ctnet_tasks_masks/task.py",
        "plugins/ctnet-tasks-obb/ctnet_tasks_obb/dota.py",
        "ctnet/templates/task/@package@/task.py.template",
    ):
        assert name in names


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_plugin_imports_nothing_else_of_ours(path: Path) -> None:
    assert forbidden(source(path), FACE) == []


def test_the_templates_tests_import_the_kit_too() -> None:
    text = source(TEMPLATE / "tests" / "test_task.py.template")
    assert forbidden(text, FACE_AND_KIT) == []
    assert forbidden(text, FACE) == ["ctnet.testing"]


@pytest.mark.parametrize(
    ("planted", "found"),
    [
        ("import ctnet", ["ctnet"]),
        ("import ctnet.plugin, ctnet.data.dataset as data", ["ctnet.data.dataset"]),
        ("from ctnet import plugin, heatmap", ["ctnet.heatmap"]),
        ("def late():\n    from ctnet.core.task import Task", ["ctnet.core.task"]),
        ("if TYPE_CHECKING:\n    from ctnet.data.dataset import Dataset", ["ctnet.data.dataset"]),
        ("importlib.import_module('ctnet.model')", ["ctnet.model"]),
        ("__import__('ctnet.model')", ["ctnet.model"]),
        ("from ctnet.plugin import Task\nimport ctnet_tasks_x\nfrom .task import X", []),
    ],
)
def test_a_planted_import_is_seen(planted: str, found: list[str]) -> None:
    assert forbidden(planted, FACE) == found


def test_type_checkers_see_the_same_names() -> None:
    tree = ast.parse(Path(plugin.__file__).read_text("utf-8"))
    [block] = [node for node in tree.body if isinstance(node, ast.If)]
    assert ast.unparse(block.test) == "TYPE_CHECKING"
    seen = {}
    for node in block.body:
        assert isinstance(node, ast.ImportFrom)
        for alias in node.names:
            assert alias.asname == alias.name, "re-exported names say so"
            seen[alias.name] = node.module
    listed = [
        (name, module)
        for part in plugin.CONTENTS.values()
        for module, names in part.items()
        for name in names
    ]
    assert len(listed) == len(dict(listed)), "a name is listed twice"
    assert seen == dict(listed)


def test_its_names_are_what_is_public() -> None:
    listed = [name for part in plugin.CONTENTS.values() for names in part.values() for name in names]
    assert dir(plugin) == sorted(plugin.__all__) == sorted([*listed, "CONTRACTS"])
    assert not [name for name in plugin.__all__ if name.startswith("_")]


@pytest.mark.parametrize("name", plugin.__all__)
def test_a_name_resolves(name: str) -> None:
    assert getattr(plugin, name) is not None


def test_an_unknown_name_is_refused() -> None:
    with pytest.raises(AttributeError, match=r"module 'ctnet.plugin' has no attribute 'Tusk'"):
        _ = plugin.Tusk
    with pytest.raises(ImportError, match="cannot import name 'Tusk'"):
        exec("from ctnet.plugin import Tusk")


def test_importing_it_and_what_commands_need_imports_nothing_heavy() -> None:
    code = (
        "import sys\n"
        "from ctnet.plugin import CONTRACTS, CtnetError, os_error, print_json, print_line, print_table\n"
        "from ctnet.plugin import atomic_write, read_json, write_json, ConvertReport, track\n"
        "print([name for name in ('torch', 'cv2', 'numpy', 'rich') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
