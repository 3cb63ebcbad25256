"""Every function fits on a screen and takes few parameters."""

from __future__ import annotations

import ast
import inspect
from collections.abc import Iterator
from pathlib import Path

import pytest
import typer

from ctnet.cli import app
from ctnet.training.recipe_files import tomllib

ROOT = Path(__file__).parents[1]
PACKAGES = sorted(
    path
    for pattern in ("ctnet", "ctnet_tasks_*", "plugins/*/ctnet_tasks_*")
    for path in ROOT.glob(pattern)
    if path.is_dir()
)

MOST_LINES = 60
MOST_PARAMETERS = 8

#: Groups of entry points whose functions are commands.
COMMANDS = ("ctnet.commands", "ctnet.converters", "ctnet.analyses")

Function = ast.FunctionDef | ast.AsyncFunctionDef


def functions(tree: ast.AST) -> Iterator[Function]:
    """All functions and methods, nested ones too."""
    return (node for node in ast.walk(tree) if isinstance(node, Function))


def parameters(function: Function) -> int:
    """How many there are, ``self`` and ``*args`` included."""
    given = function.args
    stars = [star for star in (given.vararg, given.kwarg) if star is not None]
    return len([*given.posonlyargs, *given.args, *given.kwonlyargs, *stars])


def excesses(text: str, commands: frozenset[str] = frozenset()) -> list[str]:
    """Functions of a module that are too long or take too many parameters.

    Args:
        text: the module's.
        commands: names of its Typer commands, whose signatures are the options that users see: they count
            neither by number nor by line.
    """
    found = []
    for function in functions(ast.parse(text)):
        is_command = function.name in commands
        assert function.end_lineno is not None
        first = function.body[0].lineno if is_command else function.lineno
        lines, number = function.end_lineno - first + 1, parameters(function)
        if lines > MOST_LINES:
            found.append(f"{function.name} has {lines} lines")
        if number > MOST_PARAMETERS and not is_command:
            found.append(f"{function.name} has {number} parameters")
    return found


def callbacks(group: typer.Typer) -> Iterator[object]:
    yield from (command.callback for command in group.registered_commands)
    for inner in group.registered_groups:
        assert inner.typer_instance is not None
        yield from callbacks(inner.typer_instance)


def commands() -> dict[Path, set[str]]:
    """Module -> names of the functions that are commands of ``ctnet``, plugins' included."""
    found: dict[Path, set[str]] = {}
    for callback in callbacks(app):
        function = inspect.unwrap(callback)  # type: ignore[arg-type]
        found.setdefault(Path(inspect.getfile(function)), set()).add(function.__name__)
    for file in (ROOT / "pyproject.toml", *ROOT.glob("plugins/*/pyproject.toml")):
        entry_points = tomllib.loads(file.read_text("utf-8"))["project"].get("entry-points", {})
        for target in (value for group in COMMANDS for value in entry_points.get(group, {}).values()):
            module, _, name = target.partition(":")
            path = file.parent.joinpath(*module.split(".")).with_suffix(".py")
            found.setdefault(path, set()).add(name)
    return found


def test_no_function_is_too_long_or_takes_too_much() -> None:
    of_commands = commands()
    files = [file for package in PACKAGES for file in sorted(package.rglob("*.py"))]
    found = {
        str(file.relative_to(ROOT)): excess
        for file in files
        if (excess := excesses(file.read_text("utf-8"), frozenset(of_commands.get(file, ()))))
    }
    assert found == {}
    assert {
        "ctnet",
        "ctnet_tasks_ddd",
        "ctnet_tasks_exdet",
        "ctnet_tasks_masks",
        "ctnet_tasks_obb",
        "ctnet_tasks_pose",
    } <= {package.name for package in PACKAGES}
    assert len(files) > 150
    assert "train" in of_commands[ROOT / "ctnet" / "cli" / "train.py"]
    assert "convert_kitti" in of_commands[ROOT / "ctnet_tasks_ddd" / "cli.py"]


BODY = "\n".join(["    x = 0"] * 59)
MANY = ", ".join(f"a{number}" for number in range(8))


@pytest.mark.parametrize(
    ("text", "found"),
    [
        (f"def f():\n{BODY}", []),
        (f"def f():\n{BODY}\n    return 1", ["f has 61 lines"]),
        (f"async def f():\n{BODY}\n    return 1", ["f has 61 lines"]),
        ("def f(\n" + "    a=0,\n" + "):\n" + BODY, ["f has 62 lines"]),
        (f"class A:\n    def f(self):\n        def g({MANY}, b): ...", ["g has 9 parameters"]),
        (f"class A:\n    def f(self, {MANY}): ...", ["f has 9 parameters"]),
        (f"def f({MANY}): ...", []),
        (f"def f({MANY}, *b): ...", ["f has 9 parameters"]),
        (f"def f({MANY}, *, b): ...", ["f has 9 parameters"]),
        (f"def command({MANY}, b,\n    c, d):\n{BODY}\n    return 1", []),
        (f"def command():\n{BODY}\n    x = 1\n    return 1", ["command has 61 lines"]),
    ],
)
def test_what_is_too_long_or_takes_too_much_is_found(text: str, found: list[str]) -> None:
    assert excesses(text, frozenset({"command"})) == found


def test_modules_of_commands_exist() -> None:
    """Otherwise the exemption would cover nothing."""
    for file, names in commands().items():
        text = file.read_text("utf-8")
        assert names <= {function.name for function in functions(ast.parse(text))}
