"""Bad records: listed one by one, summarised by kind, or refused."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from ctnet.base.errors import CtnetError


@dataclass(frozen=True)
class Problem:
    """One record that cannot be used.

    Attributes:
        kind: the kind of error, shared by many records ("box without area").
        where: the record ("annotation 17 of image 12").
        what: the offending value ("bbox [3, 4, 0, 10]").
    """

    kind: str
    where: str
    what: str

    def __str__(self) -> str:
        return f"{self.where}: {self.kind} ({self.what})"


def summarize(problems: Iterable[Problem]) -> list[str]:
    """One line per kind: the count and the first record."""
    first: dict[str, Problem] = {}
    counts: dict[str, int] = {}
    for problem in problems:
        first.setdefault(problem.kind, problem)
        counts[problem.kind] = counts.get(problem.kind, 0) + 1
    return [
        f"skipped {counts[kind]} with {kind} (first: {problem.where}, {problem.what})"
        for kind, problem in first.items()
    ]


def refuse(problems: Iterable[Problem], source: object) -> None:
    """Raise one error for all problems; nothing happens when there is none.

    Args:
        problems: the bad records.
        source: the file or folder, for the message.

    Raises:
        CtnetError: one line with the count and the first record of every kind.
    """
    problems = list(problems)
    if problems:
        lines = [line.removeprefix("skipped ") for line in summarize(problems)]
        raise CtnetError(
            f"{source} has {len(problems)} bad records: {'; '.join(lines)}; fix them or go without --strict"
        )
