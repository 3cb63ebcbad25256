"""Checks: how they are defined, how they fail, and running many of them."""

from __future__ import annotations

import inspect
import time
import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType, TracebackType
from typing import Any, Literal
from unittest import SkipTest

from ctnet.base.errors import CtnetError, unknown_name

#: No expected failures.
NONE: Mapping[str, str] = MappingProxyType({})


class ContractViolation(AssertionError):
    """A contract is broken; the message says what the contract requires, and where it is broken."""


@dataclass(frozen=True)
class Check:
    """One promise of a contract, and the function that tests it. Call it with the subject.

    Attributes:
        name: name of the check in tables and test names.
        member: the part of the contract that is tested ("Task.encode").
        wants: the promise in a sentence.
        function: raises an error that says where the promise is broken; raises ``unittest.SkipTest`` where it
            cannot be tested.
    """

    name: str
    member: str
    wants: str
    function: Callable[[Any], None]

    def __call__(self, subject: Any) -> None:
        """Run the check on a subject.

        Raises:
            ContractViolation: when it fails.
            unittest.SkipTest: when it cannot be tested; pytest shows that as a skipped test.
        """
        try:
            self.function(subject)
        except SkipTest:
            raise
        except ContractViolation as error:
            raise ContractViolation(self._message(f"{error}{_defined(subject, self.member)}")) from None
        except Exception as error:
            place = _own_place(error.__traceback__, subject)
            raise ContractViolation(self._message(f"{type(error).__name__} at {place}: {error}")) from error

    def _message(self, where: str) -> str:
        return f"{self.name}: {self.wants} ({self.member}); but {where}"


def _own_place(trace: TracebackType | None, subject: Any) -> str:
    """File and line that raised: the innermost frame of the subject's own package, or else of all."""
    frames = [(frame.f_globals.get("__name__", ""), frame, line) for frame, line in traceback.walk_tb(trace)]
    own = [entry for entry in frames if _is_own(entry[0], subject)]
    _, frame, line = (own or frames)[-1]
    return f"{frame.f_code.co_filename}:{line}"


def _is_own(module: str, subject: Any) -> bool:
    """Whether a module belongs to the package of the task (or backbone factory) under test."""
    kinds = type(subject).__mro__ if hasattr(type(subject), "encode") else (subject,)
    homes = {getattr(kind, "__module__", "") for kind in kinds}
    packages = {home.partition(".")[0] for home in homes} - {"ctnet", "abc", "builtins"}
    return module.partition(".")[0] in packages or module.startswith("ctnet.tasks.")


def _defined(subject: Any, member: str) -> str:
    """Where a task defines the tested members: " (encode: FILE:LINE)", or else its class."""
    kinds = [kind for kind in type(subject).__mro__ if _is_own(kind.__module__, subject)]
    if not kinds or not hasattr(kinds[0], "encode"):
        return ""
    places = []
    for name in [part.removeprefix("Task.") for part in member.split(", ") if part.startswith("Task.")]:
        code = next((getattr(vars(k)[name], "__code__", None) for k in kinds if name in vars(k)), None)
        places += [f"{name}: {code.co_filename}:{code.co_firstlineno}"] if code else []
    try:
        line = inspect.getsourcelines(kinds[0])[1]
        whole = f"{kinds[0].__name__}: {inspect.getsourcefile(kinds[0])}:{line}"
    except (OSError, TypeError):  # the source is not available
        whole = kinds[0].__name__
    return f" ({', '.join(places) or whole})"


def promise(function: Callable[..., Any]) -> str:
    """The promise in a check's docstring: its first paragraph, without the full stop."""
    return (inspect.getdoc(function) or "").partition("\n\n")[0].replace("\n", " ").rstrip(".")


def require(condition: object, where: str) -> None:
    """Raise a ``ContractViolation`` unless the condition holds.

    Args:
        condition: what should be true.
        where: the error, to follow "but".
    """
    if not condition:
        raise ContractViolation(where)


@dataclass(frozen=True)
class Outcome:
    """The outcome of one check.

    Attributes:
        check: its name.
        result: "passed", "failed", "skipped", or "expected": it failed, as declared by the author.
        reason: why it failed, was skipped or is expected to fail; empty otherwise.
        seconds: how long it took.
    """

    check: str
    result: Literal["passed", "failed", "skipped", "expected"]
    reason: str
    seconds: float


def require_known(expected_failures: Mapping[str, str], checks: Iterable[Check]) -> None:
    """Refuse expected failures of checks that do not exist, and those without a reason.

    Raises:
        CtnetError: naming the first.
    """
    names = [check.name for check in checks]
    for name, reason in expected_failures.items():
        if name not in names:
            raise unknown_name("check", name, names)
        if not reason.strip():
            raise CtnetError(f"the failure of check {name} is expected without a reason; state one")


def outcomes(
    checks: Iterable[Check], subject: Any, expected_failures: Mapping[str, str] = NONE
) -> Iterator[Outcome]:
    """Run checks one by one and return their outcomes; see ``run``."""
    for check in checks:
        started = time.perf_counter()
        result: Literal["passed", "failed", "skipped", "expected"] = "passed"
        reason, why = "", expected_failures.get(check.name)
        try:
            check(subject)
        except SkipTest as error:
            result, reason = "skipped", str(error)
        except ContractViolation as error:
            result, reason = ("failed", str(error)) if why is None else ("expected", why)
        else:
            if why is not None:
                result = "failed"
                reason = f"{check.name}: it passes, but is expected to fail ({why}); it no longer should be"
        yield Outcome(check.name, result, reason, time.perf_counter() - started)


def run(
    checks: Iterable[Check], subject: Any, what: str, expected_failures: Mapping[str, str] = NONE
) -> list[Outcome]:
    """Run all checks.

    Args:
        checks: see ``Check``.
        subject: the argument of the checks.
        what: its description, for messages.
        expected_failures: name of a check -> reason for its failure.

    Returns:
        What came of each.

    Raises:
        ContractViolation: naming every check that fails, and those expected to fail that pass.
    """
    done = list(outcomes(checks, subject, expected_failures))
    failed = [outcome.reason for outcome in done if outcome.result == "failed"]
    if failed:
        raise ContractViolation(
            "\n".join(
                [f"{what} fails {len(failed)} of {len(done)} checks", *(f"- {text}" for text in failed)]
            )
        )
    return done
