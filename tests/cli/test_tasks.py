from __future__ import annotations

import json
from importlib import metadata
from types import SimpleNamespace
from typing import Any

import pytest

from ctnet.base import plugins


@pytest.fixture
def with_plugins(monkeypatch: pytest.MonkeyPatch):
    """Install entry points of third parties beside the real ones."""
    real = metadata.entry_points

    def install(*points: tuple[str, str, str]) -> None:
        def entry_points(group: str):
            theirs = []
            for name, value, distribution in points if group == "ctnet.tasks" else ():
                point = metadata.EntryPoint(name, value, group)
                dist = SimpleNamespace(name=distribution, version="0.7")
                theirs.append(
                    SimpleNamespace(name=name, value=value, group=group, dist=dist, load=point.load)
                )
            return [*real(group=group), *theirs]

        monkeypatch.setattr(plugins.metadata, "entry_points", entry_points)

    monkeypatch.delenv("CTNET_PLUGINS", raising=False)
    return install


BROKEN = ("broken", "no_such_module_of_mine:Task", "acme-broken")


def test_list(ctnet) -> None:
    done = ctnet("tasks", "list")
    assert done.err == ""
    row = next(line for line in done.out.splitlines() if line.startswith("ctdet"))
    assert "ctnet-toolkit" in row
    assert "2D boxes" in row


def test_a_broken_plugin_is_shown_and_harms_nothing(ctnet, with_plugins) -> None:
    with_plugins(BROKEN)
    done = ctnet("tasks", "list")
    assert done.code == 0
    row = next(line for line in done.out.splitlines() if line.startswith("broken"))
    assert "acme-broken" in row
    assert "does not load: ModuleNotFoundError: No module named 'no_such_module_of_mine'" in row
    rows = {row["name"]: row for row in json.loads(ctnet("tasks", "list", "--json").out)}
    assert rows["ctdet"]["error"] is None
    assert "ModuleNotFoundError" in rows["broken"]["error"]
    assert ctnet("tasks", "show", "ctdet").code == 0
    assert "of acme-broken 0.7 does not load" in ctnet("tasks", "show", "broken").message


def test_what_is_no_task_is_shown(ctnet, with_plugins) -> None:
    with_plugins(("function", "json:loads", "acme"))
    rows = {row["name"]: row for row in json.loads(ctnet("tasks", "list", "--json").out)}
    assert "not a subclass of ctnet.core.task.Task" in rows["function"]["error"]


def test_two_plugins_of_one_name_are_shown(ctnet, with_plugins) -> None:
    with_plugins(("ctdet", "json:loads", "acme"))
    rows = {row["name"]: row for row in json.loads(ctnet("tasks", "list", "--json").out)}
    assert "two plugins are called 'ctdet'" in rows["ctdet"]["error"]
    assert "acme" in rows["ctdet"]["distribution"]


@pytest.mark.parametrize(("setting", "shown"), [("none", False), ("broken", True), ("other", False)])
def test_ctnet_plugins_selects(ctnet, with_plugins, monkeypatch, setting: str, shown: bool) -> None:
    with_plugins(BROKEN)
    monkeypatch.setenv("CTNET_PLUGINS", setting)
    names = [row["name"] for row in json.loads(ctnet("tasks", "list", "--json").out)]
    assert "ctdet" in names
    assert ("broken" in names) == shown


def test_show_names_heads_options_recipes_metrics(ctnet) -> None:
    done = ctnet("tasks", "show", "ctdet")
    for text in ("heatmap", "size_loss", "l1|smooth_l1", "lambda_size", "paper-2x", "90, 120", "voc07"):
        assert text in done.out
    shown = json.loads(ctnet("tasks", "show", "ctdet", "--json").out)
    assert [head["name"] for head in shown["heads"]] == ["heatmap", "size", "offset"]
    assert {row["name"]: row["default"] for row in shown["options"]}["size_weight"] == 0.1
    assert shown["recipes"]["paper"]["epochs"] == 140
    assert shown["metrics"][0] == "coco"


def test_show_of_an_unknown_task(ctnet) -> None:
    assert ctnet("tasks", "show", "ctdat").message == "there is no task called 'ctdat'; did you mean ctdet?"


# --- check


@pytest.fixture
def few_checks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Three checks: one that passes, one that fails for one of ctdet's options, one that is skipped."""
    from unittest import SkipTest

    from ctnet.testing import Check, tasks
    from ctnet.testing.check import require

    def skip(task: object) -> None:
        raise SkipTest("something is not installed")

    def fail(task: Any) -> None:
        require(task.options.radius == "official", "it is corrected")

    checks = [
        Check("always", "Task", "Nothing is asked", lambda task: None),
        Check("sometimes", "Task.Options", "The radius is official", fail),
        Check("elsewhere", "Task", "Something is installed", skip),
    ]
    monkeypatch.setattr(tasks, "TASK_CHECKS", checks)


@pytest.mark.usefixtures("few_checks")
def test_check_prints_a_table(ctnet) -> None:
    done = ctnet("tasks", "check", "ctdet")
    assert (done.code, done.err) == (0, "")
    rows = [line.split()[:2] for line in done.out.splitlines()[2:5]]
    assert rows == [["always", "passed"], ["sometimes", "passed"], ["elsewhere", "skipped"]]
    assert "skipped: elsewhere: something is not installed" in done.out
    assert "task ctdet: 3 checks, none failed" in done.out


@pytest.mark.usefixtures("few_checks")
def test_check_exits_with_1_when_a_check_fails(ctnet) -> None:
    done = ctnet("tasks", "check", "ctdet", "-O", "radius=corrected")
    assert done.code == 1
    assert "sometimes  FAILED" in done.out
    assert "FAILED: sometimes: The radius is official (Task.Options); but it is corrected" in done.out
    shown = ctnet("tasks", "check", "ctdet", "-O", "radius=corrected", "--json")
    assert shown.code == 1
    assert [row["result"] for row in json.loads(shown.out)] == ["passed", "failed", "skipped"]
    assert "'wrong'; it must be" in ctnet("tasks", "check", "ctdet", "-O", "radius=wrong").message


def test_check_of_what_is_not_there(ctnet, with_plugins) -> None:
    with_plugins(BROKEN)
    assert "there is no task called 'ctdat'" in ctnet("tasks", "check", "ctdat").message
    assert "of acme-broken 0.7 does not load" in ctnet("tasks", "check", "broken").message
    assert "there is no backbone called 'resnet19'" in ctnet("backbones", "check", "resnet19").message


def test_check_of_a_backbone(ctnet, tiny: str, monkeypatch) -> None:
    done = ctnet("backbones", "check", tiny)
    assert done.code == 1  # it does not refuse wrong sizes
    assert "wrong_sizes_are_refused           FAILED" in done.out
    assert f"backbone {tiny}: 8 checks, 1 failed" in done.out
