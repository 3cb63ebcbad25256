"""The conformance kit: plugin authors run it to check that ctnet's contracts are kept.

    from ctnet.testing import task_checks

    @task_checks("mytask")
    def test_contract(task, check):
        check(task)

creates one test per check; ``check_task`` and ``check_backbone`` run all of them at once.
"""

from ctnet.testing.backbones import BACKBONE_CHECKS, check_backbone
from ctnet.testing.check import Check, ContractViolation, Outcome
from ctnet.testing.parametrize import backbone_checks, task_checks
from ctnet.testing.tasks import TASK_CHECKS, check_task

__all__ = [
    "BACKBONE_CHECKS",
    "TASK_CHECKS",
    "Check",
    "ContractViolation",
    "Outcome",
    "backbone_checks",
    "check_backbone",
    "check_task",
    "task_checks",
]
