"""The one switch for all fast paths: code with the results of plain torch or torchvision, only faster."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

import torch

from ctnet.base.errors import CtnetError

#: Environment variable that turns all fast paths off when it is 0.
VARIABLE = "CTNET_FAST"

_forced: ContextVar[bool | None] = ContextVar("fast paths", default=None)


def fast_paths_enabled() -> bool:
    """Whether operators may use their fast paths; each operator checks on every call.

    They may not while a graph is captured (``torch.compile``, ``torch.export``, ``torch.jit.trace`` and thus
    both ONNX exporters): the plain network is exported.

    Raises:
        CtnetError: when ``CTNET_FAST`` is neither 0 nor 1.
    """
    if torch.compiler.is_compiling() or _is_traced():
        return False
    forced = _forced.get()
    return _wanted() if forced is None else forced


@contextmanager
def fast_paths(enabled: bool) -> Iterator[None]:
    """Turn all fast paths on or off within a block, overriding ``CTNET_FAST``, to compare the two."""
    token = _forced.set(enabled)
    try:
        yield
    finally:
        _forced.reset(token)


def _is_traced() -> bool:
    return bool(torch.jit.is_tracing())  # type: ignore[attr-defined,no-untyped-call]


def _wanted() -> bool:
    value = os.environ.get(VARIABLE) or "1"
    if value not in ("0", "1"):
        raise CtnetError(f"{VARIABLE} is {value!r}; set it to 0 to turn all fast paths off, or to 1")
    return value == "1"
