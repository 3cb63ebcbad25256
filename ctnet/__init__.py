"""ctnet: Objects as Points (CenterNet) as a toolkit. An object is one peak of a keypoint heatmap.

The public names below are loaded on first use, so that ``import ctnet`` and ``ctnet --help`` stay instant.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ctnet import checkpoint, data, heatmap
    from ctnet.backbones import list_backbones
    from ctnet.errors import CtnetError
    from ctnet.inference import Detector
    from ctnet.model import create_model
    from ctnet.task import create_task, list_tasks

__version__ = "0.1.0"

_HOMES = {
    "CtnetError": "ctnet.errors",
    "Detector": "ctnet.inference",
    "create_model": "ctnet.model",
    "create_task": "ctnet.task",
    "list_backbones": "ctnet.backbones",
    "list_tasks": "ctnet.task",
}
_MODULES = ("checkpoint", "data", "heatmap")

__all__ = [
    "CtnetError",
    "Detector",
    "__version__",
    "checkpoint",
    "create_model",
    "create_task",
    "data",
    "heatmap",
    "list_backbones",
    "list_tasks",
]


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(importlib.import_module(_HOMES[name]), name)
    if name in _MODULES:
        return importlib.import_module(f"ctnet.{name}")
    raise AttributeError(f"module 'ctnet' has no attribute {name!r}")
