"""Commands that plugins add to ``ctnet``, ``ctnet convert`` and ``ctnet analyze``."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

MODULE = """
import typer

def measure(folder: str, twice: bool = typer.Option(False, "--twice", help="Measure twice.")) -> None:
    '''Measure a folder.

    Example: `ctnet measure results`
    '''
    print(folder, twice)

def refuse() -> None:
    '''Refuse.'''
    from ctnet.base.errors import CtnetError

    raise CtnetError("a.txt has no name; give it one")

app = typer.Typer(no_args_is_help=True, help="Tools of acme.")

@app.command()
def first() -> None:
    '''The first.'''
    print("first")

@app.command()
def second() -> None:
    '''The second.'''
    print("second")

def unfit(what: int | str) -> None:
    pass

number = 3
"""


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Path]:
    """Put a distribution with entry points on the path, as pip would; the lines go into entry_points.txt."""
    site = tmp_path / "site"

    def make(*lines: str, name: str = "acme_tools", module: str = MODULE) -> Path:
        info = site / f"{name}-0.7.dist-info"
        info.mkdir(parents=True)
        (info / "METADATA").write_text(
            f"Metadata-Version: 2.1\nName: {name.replace('_', '-')}\nVersion: 0.7\n"
        )
        (info / "entry_points.txt").write_text("\n".join(lines) + "\n")
        (site / f"{name}.py").write_text(module)
        sys.modules.pop(name, None)
        return site

    monkeypatch.syspath_prepend(str(site))
    monkeypatch.delenv("CTNET_PLUGINS", raising=False)
    return make


ALL = (
    "[ctnet.commands]",
    "measure = acme_tools:measure",
    "[ctnet.converters]",
    "acme = acme_tools:refuse",
    "[ctnet.analyses]",
    "acme-tools = acme_tools:app",
)


@pytest.mark.parametrize(
    ("group", "name"), [([], "measure"), (["convert"], "acme"), (["analyze"], "acme-tools")]
)
def test_help_lists_them_without_importing_them(ctnet, install, group: list[str], name: str) -> None:
    install(*ALL)
    done = ctnet(*group, "--help")
    assert done.code == 0
    row = next(line for line in done.out.splitlines() if f"│ {name} " in line)
    assert "of acme-tools 0.7" in row
    assert "acme_tools" not in sys.modules


def test_a_function_is_a_command(ctnet, install) -> None:
    install(*ALL)
    assert ctnet("measure", "results", "--twice").out == "results True\n"
    helped = ctnet("measure", "-h").out
    assert "Measure twice." in helped
    assert "ctnet measure" in helped
    wrong = ctnet("measure", "results", "--thrice")
    assert wrong.code == 2
    assert "--thrice" in wrong.err


def test_a_typer_app_is_a_group_of_commands(ctnet, install) -> None:
    install(*ALL)
    assert ctnet("analyze", "acme-tools", "second").out == "second\n"
    assert "Tools of acme." in ctnet("analyze", "acme-tools").out


def test_their_mistakes_are_shown_like_ours(ctnet, install) -> None:
    install(*ALL)
    assert ctnet("convert", "acme").message == "a.txt has no name; give it one"


def test_one_that_does_not_load_is_named_when_it_is_called(ctnet, install) -> None:
    install("[ctnet.commands]", "measure = acme_tools:measure", module="import no_such_module_of_mine")
    assert "measure" in ctnet("--help").out
    assert ctnet("tasks", "list").code == 0
    message = ctnet("measure", "results").message
    assert "'measure' of acme-tools 0.7" in message
    assert "no_such_module_of_mine" in message


TASK = "from ctnet.tasks.ctdet import CenterDetection\nclass Mine(CenterDetection):\n    name = {!r}\n"


def test_tasks_that_do_not_load_are_named_in_one_line_each_and_harm_no_other(ctnet, install) -> None:
    modules = {
        "acme_older": ("older", TASK.format("older") + "    contract = 1", "update acme-older"),
        "acme_newer": ("newer", TASK.format("newer") + "    contract = (998, 999)", "update ctnet-toolkit"),
        "acme_needy": ("needy", "import no_such_dependency", "install what acme-needy depends on, or uninst"),
        "acme_broken": ("broken", "raise ValueError('no\\nway')", "update or uninstall acme-broken"),
        "acme_first": ("twin", TASK.format("twin"), "uninstall one of them"),
        "acme_second": ("twin", TASK.format("twin"), "uninstall one of them"),
        "acme_well": ("well", TASK.format("well") + "    contract = 2", ""),
    }
    for module, (name, text, _) in modules.items():
        install("[ctnet.tasks]", f"{name} = {module}:Mine", name=module, module=text)
    rows = {row["name"]: row for row in json.loads(ctnet("tasks", "list", "--json").out)}
    assert {"ctdet", "well"} <= {name for name, row in rows.items() if not row["error"]}
    for name, _, fix in modules.values():
        if fix:
            message = ctnet("tasks", "show", name).message
            assert f"'{name}'" in message
            assert fix in message
            assert rows[name]["error"] == message
    assert ctnet("tasks", "show", "well").code == 0


@pytest.mark.parametrize(
    ("what", "message"),
    [
        ("number", "is 3, neither a function nor a typer.Typer"),
        ("unfit", "cannot be turned into a command"),
        ("missing", "has no attribute 'missing'"),
    ],
)
def test_what_is_no_command_is_refused(ctnet, install, what: str, message: str) -> None:
    install("[ctnet.commands]", f"measure = acme_tools:{what}")
    assert message in ctnet("measure").message


def test_ours_wins_and_says_so(ctnet, install) -> None:
    install("[ctnet.commands]", "doctor = acme_tools:measure")
    warning = "warning: command 'doctor' of acme-tools 0.7 is hidden by ctnet's own command of that name\n"
    listed = ctnet("--help")
    assert listed.err == warning
    assert listed.out.count("│ doctor ") == 1
    called = ctnet("doctor", "--help")
    assert called.err == warning
    assert "ctnet doctor" in called.out
    assert "--twice" not in called.out
    assert ctnet("tasks", "--help").err == ""


@pytest.mark.parametrize(("setting", "shown"), [("none", False), ("measure", True), ("other", False)])
def test_ctnet_plugins_selects(ctnet, install, monkeypatch, setting: str, shown: bool) -> None:
    install(*ALL)
    monkeypatch.setenv("CTNET_PLUGINS", setting)
    assert ("│ measure " in ctnet("--help").out) == shown
    assert "│ acme-tools " not in ctnet("analyze", "--help").out
    done = ctnet("measure", "results")
    assert (done.code == 0) == shown
    if not shown:
        assert "No such command 'measure'" in done.err


def test_help_stays_instant(install) -> None:
    """Fifty plugins whose modules take long to import; the bound is generous for a busy machine."""
    lines = [f"acme{i} = acme_tools:measure" for i in range(50)]
    site = install("[ctnet.commands]", *lines, module="import time, torch; time.sleep(30)")
    code = (
        f"import sys; sys.path.insert(0, {str(site)!r}); sys.argv = ['ctnet', '--help']\n"
        "from ctnet.cli import main\n"
        "try: main()\n"
        "except SystemExit: pass\n"
        "print('torch' in sys.modules)"
    )
    started = time.perf_counter()
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert time.perf_counter() - started < 5
    assert "│ acme49 " in done.stdout
    assert done.stdout.splitlines()[-1] == "False"
