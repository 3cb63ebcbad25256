"""What a check is, how it fails, and what comes of running many."""

from __future__ import annotations

import inspect
import time
import traceback
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Literal
from unittest import SkipTest


class ContractViolation(AssertionError):
    """A contract is broken; the message says what the contract wants, and where it is broken."""


@dataclass(frozen=True)
class Check:
    """One promise of a contract, and the function that puts it to the test. Call it with the subject.

    Attributes:
        name: of the check, as tables and test names show it.
        member: the part of the contract that makes the promise ("Task.encode").
        wants: the promise in a sentence.
        function: raises an error that says where the promise is broken; raises ``unittest.SkipTest`` where it
            cannot be tested.
    """

    name: str
    member: str
    wants: str
    function: Callable[[Any], None]

    def __call__(self, subject: Any) -> None:
        """Put a subject to the test.

        Raises:
            ContractViolation: when it fails.
            unittest.SkipTest: when it cannot be tested; pytest shows that as a skipped test.
        """
        try:
            self.function(subject)
        except SkipTest:
            raise
        except ContractViolation as error:
            raise ContractViolation(self._message(str(error))) from None
        except Exception as error:
            place = traceback.extract_tb(error.__traceback__)[-1]
            where = f"{type(error).__name__} at {place.filename}:{place.lineno}: {error}"
            raise ContractViolation(self._message(where)) from error

    def _message(self, where: str) -> str:
        return f"{self.name}: {self.wants} ({self.member}); but {where}"


def promise(function: Callable[..., Any]) -> str:
    """What a check's docstring promises: its first paragraph, without the full stop."""
    return (inspect.getdoc(function) or "").partition("\n\n")[0].replace("\n", " ").rstrip(".")


def require(condition: object, where: str) -> None:
    """Raise a ``ContractViolation`` unless the condition holds.

    Args:
        condition: what should be true.
        where: what is wrong, following "but".
    """
    if not condition:
        raise ContractViolation(where)


@dataclass(frozen=True)
class Outcome:
    """What came of one check.

    Attributes:
        check: its name.
        result: "passed", "failed" or "skipped".
        reason: why it failed or was skipped; empty otherwise.
        seconds: how long it took.
    """

    check: str
    result: Literal["passed", "failed", "skipped"]
    reason: str
    seconds: float


def outcomes(checks: Iterable[Check], subject: Any) -> Iterator[Outcome]:
    """Run checks one after the other and say what came of each."""
    for check in checks:
        started = time.perf_counter()
        result: Literal["passed", "failed", "skipped"] = "passed"
        reason = ""
        try:
            check(subject)
        except SkipTest as error:
            result, reason = "skipped", str(error)
        except ContractViolation as error:
            result, reason = "failed", str(error)
        yield Outcome(check.name, result, reason, time.perf_counter() - started)


def run(checks: Iterable[Check], subject: Any, what: str) -> list[Outcome]:
    """Run all checks.

    Args:
        checks: see ``Check``.
        subject: what they are called with.
        what: words for it.

    Returns:
        What came of each.

    Raises:
        ContractViolation: naming every check that fails.
    """
    done = list(outcomes(checks, subject))
    failed = [outcome.reason for outcome in done if outcome.result == "failed"]
    if failed:
        raise ContractViolation(
            "\n".join(
                [f"{what} fails {len(failed)} of {len(done)} checks", *(f"- {text}" for text in failed)]
            )
        )
    return done
