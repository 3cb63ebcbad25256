"""``torch.compile`` for functions whose inputs vary in size: few compilations, and errors of one line."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import wraps
from typing import Any, ParamSpec, TypeVar

import torch
from torch import Tensor

from ctnet.base.errors import CtnetError

P = ParamSpec("P")
R = TypeVar("R")

#: What makes machine code of a captured graph. "eager" and "aot_eager" make none: for tests.
BACKEND = "inductor"


def compiled(function: Callable[P, R]) -> Callable[P, R]:
    """A function that is captured and compiled when it is called, once for each kind of input.

    A size that changes from one call to the next is a variable of the second compilation; sizes of
    ``varying`` tensors are variables of the first.

    Args:
        function: takes and returns tensors, and containers of them.

    Raises:
        CtnetError: from the compiled function, when it cannot be compiled here.
    """
    run = torch.compile(function, backend=BACKEND)

    @wraps(function)
    def call(*arguments: P.args, **named: P.kwargs) -> R:
        from torch._dynamo.exc import TorchDynamoException

        try:
            with _sizes_apart():
                result: R = run(*arguments, **named)
                return result
        except TorchDynamoException as error:
            raise CtnetError(
                f"this cannot be compiled here ({_reason(error)}); it needs a C++ compiler, and Triton on a "
                "GPU: install them, or go on without compile"
            ) from error

    return call


def varying(tensors: Iterable[Tensor]) -> None:
    """Say that the first dimension of tensors varies, so that no compilation takes its size for a constant.

    Args:
        tensors: whose first dimension is at least 2; sizes of 0 and 1 always become constants.
    """
    for tensor in tensors:
        torch._dynamo.maybe_mark_dynamic(tensor, 0)


@contextmanager
def _sizes_apart() -> Iterator[None]:
    """Sizes that are equal by chance, such as height and width, are not taken for one and the same."""
    from torch.fx.experimental import _config as config

    before = getattr(config, "use_duck_shape", None)
    if before is None:
        yield
        return
    config.use_duck_shape = False
    try:
        yield
    finally:
        config.use_duck_shape = before


def _reason(error: Exception) -> str:
    """The cause of an error in one line."""
    cause: Any = getattr(error, "inner_exception", None) or error
    first = next((line.strip() for line in str(cause).splitlines() if line.strip()), "")
    return f"{type(cause).__name__}: {first[:200]}"
