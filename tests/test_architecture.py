"""What the modules of ctnet may know about each other, and about plugins."""

from __future__ import annotations

import importlib.util
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

import ctnet

PACKAGE = Path(ctnet.__file__).parent
ROOT = Path(__file__).parents[1]
TOOL = ROOT / "docs" / "architecture.py"


def load_tool() -> ModuleType:
    spec = importlib.util.spec_from_file_location("architecture", TOOL)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["architecture"] = module  # dataclasses look up their module
    spec.loader.exec_module(module)
    return module


architecture = load_tool()


@pytest.fixture(scope="module")
def tree():
    return architecture.read_tree(ROOT)


def test_every_import_points_down(tree) -> None:
    broken = {rule: found for rule, found in architecture.broken_rules(tree).items() if found}
    assert broken == {}


def test_the_whole_of_ctnet_and_its_plugins_is_looked_at(tree) -> None:
    """An empty tree would not break a rule either."""
    plugins = {
        "ctnet_tasks_ddd",
        "ctnet_tasks_exdet",
        "ctnet_tasks_masks",
        "ctnet_tasks_obb",
        "ctnet_tasks_pose",
    }
    assert plugins | {"base", "cli", "core", "ctnet", "plugin", "tasks"} <= set(tree.components())
    assert len(tree.modules) >= len(list(PACKAGE.rglob("*.py")))
    arrows = tree.arrows()
    assert arrows["core", "base"]
    assert arrows["cli", "training"], "an import inside a function"
    assert arrows["plugin", "data"], "the table of a lazy module"
    assert {target for source, target in arrows if source in {*plugins, "tasks"}} == {"plugin"}


@pytest.mark.parametrize("name", ["docs/images/architecture.svg", "docs/architecture.md"])
def test_the_page_is_up_to_date(tree, name: str) -> None:
    text = (ROOT / name).read_text("utf-8")
    if name.endswith(".svg"):
        assert text == architecture.picture(tree), f"run python docs/architecture.py --svg {name}"
        assert len(text) < 200_000
    else:
        rows = re.findall(r"^\| *(\d+) \| `(\w+)` \| (.+) \|$", text, re.MULTILINE)
        layers = [
            (str(layer), component, said)
            for layer, (component, said) in enumerate(architecture.LAYERS.items())
        ]
        assert rows == layers


# --- planted violations

#: A tree that breaks no rule: module -> text.
CLEAN = {
    "ctnet/__init__.py": "from ctnet.base.lazy import lazy_attributes\n",
    "ctnet/base/__init__.py": "",
    "ctnet/base/lazy.py": "def lazy_attributes(module, homes): ...\n",
    "ctnet/core/__init__.py": "",
    "ctnet/core/task.py": "from ctnet.base import lazy\n",
    "ctnet/data/__init__.py": "from ctnet.data.coco import Coco\n",
    "ctnet/data/coco.py": "from ctnet.core.task import Task\n\n\nclass Coco: ...\n",
    "ctnet/plugin.py": "from ctnet.core.task import Task\n",
    "ctnet/tasks/__init__.py": "",
    "ctnet/tasks/ctdet.py": "from ctnet.plugin import Task\n",
    "ctnet/testing/__init__.py": "",
    "ctnet/cli/__init__.py": "def train():\n    from ctnet.data.coco import Coco\n",
    "plugins/ctnet-tasks-hands/ctnet_tasks_hands/__init__.py": "from ctnet_tasks_hands.task import Hands\n",
    "plugins/ctnet-tasks-hands/ctnet_tasks_hands/task.py": "from ctnet.plugin import Task\n",
    "ctnet/templates/task/@package@/task.py.template": "from ctnet.plugin import Task\nclass @Class@: ...\n",
    "ctnet/templates/task/tests/test_task.py.template": "import ctnet.testing\n",
}
HANDS = "plugins/ctnet-tasks-hands/ctnet_tasks_hands/task.py"


def broken(folder: Path, planted: dict[str, str]) -> dict[str, list[str]]:
    """Rules that a tree breaks with these modules in place of, or beside, the clean ones."""
    for name, text in {**CLEAN, **planted}.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    rules = architecture.broken_rules(architecture.read_tree(folder))
    return {rule: found for rule, found in rules.items() if found}


def test_the_clean_tree_breaks_nothing(tmp_path: Path) -> None:
    assert broken(tmp_path, {}) == {}


UPWARD = {
    "at the top": "from ctnet.data.coco import Coco",
    "of the module": "import ctnet.data.coco as coco",
    "of the package": "from ctnet.data import Coco",
    "in a function": "def f():\n    from ctnet.data import coco",
    "in a method": "class A:\n    def f(self):\n        if self:\n            import ctnet.data.coco",
    "for type checking": (
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from ctnet.data.coco import Coco"
    ),
    "relative": "from ..data.coco import Coco",
    "relative, the module": "from ..data import coco",
    "annotation in quotes": "def f(x: 'ctnet.data.coco.Coco'): ...",
    "part of an annotation in quotes": "def f(x: 'list[ctnet.data.coco.Coco | None]'): ...",
    "quotes in an annotation": "def f(x: list['ctnet.data.coco.Coco']): ...",
    "result in quotes": "def f() -> 'ctnet.data.coco.Coco': ...",
    "attribute in quotes": "class A:\n    x: 'ctnet.data.coco.Coco'",
    "annotation without quotes": "from __future__ import annotations\ndef f(x: ctnet.data.coco.Coco): ...",
    "cast": "from typing import cast\nx = cast('ctnet.data.coco.Coco', 1)",
    "import_module": "import importlib\nimportlib.import_module('ctnet.data.coco')",
    "import_module by keyword": "import importlib\nimportlib.import_module(name='ctnet.data.coco')",
    "import_module, relative": "from importlib import import_module as get\nget('..data.coco', __package__)",
    "import_module, from a package": "import importlib\nimportlib.import_module('.coco', 'ctnet.data')",
    "import_module by another name": "from importlib import import_module as get\nget('ctnet.data.coco')",
    "__import__": "__import__('ctnet.data.coco')",
    "lazy table": (
        "from ctnet.base.lazy import lazy_attributes\n"
        "__getattr__ = lazy_attributes(__name__, {'Coco': 'ctnet.data.coco'})"
    ),
    "lazy table, the package": (
        "from ctnet.base.lazy import lazy_attributes\n"
        "HOMES = {'ctnet.data': ('Coco',)}\n__getattr__ = lazy_attributes(__name__, HOMES)"
    ),
}


@pytest.mark.parametrize("text", UPWARD.values(), ids=UPWARD)
def test_an_arrow_up_is_caught(tmp_path: Path, text: str) -> None:
    found = broken(tmp_path, {"ctnet/core/planted.py": f"{text}\n"})
    assert any(re.match(r"ctnet\.core\.planted:\d+ imports ctnet\.data", each) for each in found["arrows up"])
    assert found["cycles of components"] == ["core data"]


def test_what_only_looks_like_an_import_is_none(tmp_path: Path) -> None:
    """Entry-point groups have names like modules; prose names them too."""
    text = '"""See ctnet.data.coco."""\nGROUP = "ctnet.data"\nprint("ctnet.data.coco")\n'
    assert broken(tmp_path, {"ctnet/core/planted.py": text}) == {}


def test_a_component_without_a_layer_is_caught(tmp_path: Path) -> None:
    assert broken(tmp_path, {"ctnet/attic/__init__.py": "", "ctnet/shed.py": ""}) == {
        "modules without a layer": ["ctnet.attic", "ctnet.shed"]
    }


def test_a_cycle_inside_a_component_is_caught(tmp_path: Path) -> None:
    planted = {
        "ctnet/core/one.py": "def f():\n    from ctnet.core import two\n",
        "ctnet/core/two.py": "from ctnet.core import three\n",
        "ctnet/core/three.py": "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from . import one\n",
    }
    found = broken(tmp_path, planted)
    assert found == {"cycles of modules": ["ctnet.core.one ctnet.core.three ctnet.core.two"]}


def test_a_module_that_imports_from_its_own_package_is_a_cycle(tmp_path: Path) -> None:
    planted = {"ctnet/data/coco.py": "from ctnet.data import other\nfrom ctnet.data import Coco\n"}
    assert broken(tmp_path, planted) == {"cycles of modules": ["ctnet.data ctnet.data.coco"]}


@pytest.mark.parametrize(
    ("name", "text"),
    [
        (HANDS, "from ctnet.core.task import Task\n"),
        (HANDS, "import ctnet\n"),
        (HANDS, "def f():\n    from ctnet.base import lazy\n"),
        ("ctnet/tasks/ctdet.py", "from ctnet.core.task import Task\n"),
        ("ctnet/templates/task/@package@/task.py.template", "from ctnet.core.task import Task\n"),
        ("ctnet/templates/task/tests/test_task.py.template", "from ctnet.core.task import Task\n"),
    ],
)
def test_a_plugin_that_reaches_past_the_plugin_module_is_caught(tmp_path: Path, name: str, text: str) -> None:
    found = broken(tmp_path, {name: text})
    assert len(found["imports of a plugin past ctnet.plugin"]) == 1
    assert set(found) <= {"imports of a plugin past ctnet.plugin", "arrows up"}


@pytest.mark.parametrize("text", ["import ctnet_tasks_hands\n", "from ctnet.tasks.ctdet import Ctdet\n"])
def test_an_import_of_a_plugin_is_caught_even_from_above(tmp_path: Path, text: str) -> None:
    found = broken(tmp_path, {"ctnet/cli/planted.py": text})
    assert list(found) == ["imports of a task's package by others"]


def test_a_plugin_that_imports_another_is_caught(tmp_path: Path) -> None:
    found = broken(tmp_path, {"ctnet_tasks_feet/__init__.py": "import ctnet_tasks_hands\n"})
    assert {"arrows up", "imports of a plugin past ctnet.plugin"} < set(found)


@pytest.mark.parametrize(
    ("name", "task"),
    [("ctnet/data/coco.py", "ctdet"), ("ctnet/data/coco.py", "hands"), ("ctnet/cli/a.py", "hands")],
)
def test_the_name_of_a_task_is_caught(tmp_path: Path, name: str, task: str) -> None:
    found = broken(tmp_path, {name: f'def f(task="{task}"): ...\n'})
    module = name.removesuffix(".py").replace("/", ".")
    assert found == {"names of tasks": [f"{module}:1 names the task {task}"]}


@pytest.mark.parametrize("component", ["base", "heatmap"])
def test_the_lowest_components_import_nothing_of_ours(tmp_path: Path, component: str) -> None:
    other = {"base": "heatmap", "heatmap": "base"}[component]
    planted = {"ctnet/heatmap/__init__.py": "", f"ctnet/{component}/planted.py": f"import ctnet.{other}\n"}
    found = broken(tmp_path, planted)
    assert found["imports of the four lowest components that they may not have"] == [
        f"ctnet.{component}.planted:1 imports ctnet.{other}"
    ]


def test_the_command_prints_draws_and_fails(tmp_path: Path) -> None:
    broken(tmp_path, {"ctnet/core/planted.py": "from ctnet.data import coco\n"})
    command = [sys.executable, TOOL, "--root", tmp_path, "--svg", tmp_path / "components.svg"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (1, "")
    assert "arrows up:\n  ctnet.core.planted:1 imports ctnet.data.coco\n" in done.stdout
    assert 'class="up"' in (tmp_path / "components.svg").read_text()
    (tmp_path / "ctnet" / "core" / "planted.py").unlink()
    assert subprocess.run(command, capture_output=True).returncode == 0


# --- words


def test_no_line_names_a_task_of_a_plugin() -> None:
    """Whoever adds a task adds nothing to ctnet: not one line of it names any but the built-in one."""
    others = re.compile(r"(?<![a-z])(pose|ddd|exdet|obb)(?![a-z])", re.IGNORECASE)
    assert others.search("import ctnet_tasks_pose")
    files = [path for path in sorted(PACKAGE.rglob("*")) if path.is_file() and path.suffix != ".pyc"]
    named = [
        f"{path.relative_to(PACKAGE)}:{number}: {line.strip()}"
        for path in files
        for number, line in enumerate(path.read_text("utf-8").splitlines(), start=1)
        if others.search(line)
    ]
    assert named == []
