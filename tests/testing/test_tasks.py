"""The tasks that ship with ctnet keep the contract: a new one is tested from the moment it is registered."""

from __future__ import annotations

import pytest

from ctnet.base.errors import CtnetError
from ctnet.base.plugins import discover
from ctnet.core.task import GROUP
from ctnet.data.shape_scenes import SHAPES
from ctnet.tasks.ctdet import CenterDetection
from ctnet.testing import TASK_CHECKS, ContractViolation, check_task, task_checks

SHIPPED = [name for name, plugin in discover(GROUP).items() if plugin.distribution == "ctnet-toolkit"]
OPTIONS = [{"class_specific_size": True}, {"box": "ciou"}]
#: Left to the thorough tests.
MORE_OPTIONS = [{"size_loss": "giou"}, {"radius": "corrected", "crowd": "ignore"}]


def test_ctdet_ships() -> None:
    assert "ctdet" in SHIPPED


@task_checks(*SHIPPED)
def test_contract(task, check) -> None:
    check(task)


@task_checks(*(CenterDetection(SHAPES, **options) for options in OPTIONS))
def test_contract_under_options(task, check) -> None:
    if check.name == "decode_exports" and not (
        task.options.class_specific_size or task.options.box == "ciou"
    ):
        pytest.skip("decodes like the default")
    check(task)


@pytest.mark.thorough
@task_checks(*(CenterDetection(SHAPES, **options) for options in MORE_OPTIONS))
def test_contract_under_more_options(task, check) -> None:
    check(task)


def test_check_task_says_what_came_of_each_check(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ctnet.testing.tasks.TASK_CHECKS", TASK_CHECKS[:3])
    done = check_task("ctdet", class_specific_size="true")
    assert [outcome.check for outcome in done] == [check.name for check in TASK_CHECKS[:3]]
    assert {outcome.result for outcome in done} == {"passed"}


def test_the_export_is_skipped_where_its_packages_are_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    import builtins

    real = builtins.__import__

    def without(name: str, *rest: object) -> object:
        if name.startswith("onnx"):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
        return real(name, *rest)

    exports = [check for check in TASK_CHECKS if check.name == "decode_exports"]
    monkeypatch.setattr("ctnet.testing.tasks.TASK_CHECKS", exports)
    monkeypatch.setattr(builtins, "__import__", without)
    outcome = check_task("ctdet")[0]
    assert outcome.result == "skipped"
    assert "onnxruntime is not installed; install the extra 'export'" in outcome.reason


def test_unknown_tasks_and_options_are_mistakes_of_the_user() -> None:
    with pytest.raises(CtnetError, match="there is no task called 'ctdat'"):
        check_task("ctdat")
    with pytest.raises(CtnetError, match="no option of task ctdet called 'sise_loss'"):
        check_task("ctdet", sise_loss="l1")
    assert not issubclass(ContractViolation, CtnetError)


def test_checks_are_named_and_worded() -> None:
    names = [check.name for check in TASK_CHECKS]
    assert len(set(names)) == len(names)
    for check in TASK_CHECKS:
        assert 20 < len(check.wants) < 120, check.name
        assert check.member.startswith(("Task", "Head", "Evaluator")), check.name
