from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from ctnet.base import compiling
from ctnet.base.errors import CtnetError


@pytest.fixture
def graphs(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Every graph that is captured; it then runs as it is."""
    seen: list[Any] = []

    def backend(graph: Any, inputs: Any) -> Callable[..., Any]:
        seen.append(graph)
        return graph.forward  # type: ignore[no-any-return]

    torch._dynamo.reset()
    monkeypatch.setattr(compiling, "BACKEND", backend)
    return seen


def twice(x: Tensor) -> Tensor:
    return 2 * x


def test_a_size_that_changes_is_a_variable_even_if_it_equalled_another(graphs: list[Any]) -> None:
    run = compiling.compiled(twice)
    for shape in ((4, 4), (6, 6), (6, 8), (8, 6), (10, 4)):
        assert torch.equal(run(torch.ones(shape)), torch.full(shape, 2.0))
    assert len(graphs) == 2


def test_what_varies_is_compiled_once(graphs: list[Any]) -> None:
    run = compiling.compiled(twice)
    for rows in (4, 6, 2, 40):
        x = torch.ones(rows, 4)
        compiling.varying([x])
        assert run(x).shape == (rows, 4)
    assert len(graphs) == 1


def test_what_cannot_be_compiled_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(graph: Any, inputs: Any) -> Callable[..., Any]:
        raise RuntimeError("g++ was not found\nand much more")

    torch._dynamo.reset()
    monkeypatch.setattr(compiling, "BACKEND", broken)
    with pytest.raises(
        CtnetError, match=r"^this cannot be compiled here \(RuntimeError: g\+\+ was not found\)"
    ):
        compiling.compiled(twice)(torch.ones(2))


def test_errors_of_the_function_pass_through(graphs: list[Any]) -> None:
    with pytest.raises(RuntimeError, match="out of memory"):
        compiling.compiled(_short_of_memory)(torch.ones(2))


@torch._dynamo.disable
def _short_of_memory(x: Tensor) -> Tensor:
    raise RuntimeError("out of memory")
