"""ctnet: Objects as Points (CenterNet) as a toolkit. An object is one peak of a keypoint heatmap.

The public names below are loaded on first use, so that ``import ctnet`` and ``ctnet --help`` are instant.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ctnet.base.lazy import lazy_attributes
from ctnet.base.version import __version__

if TYPE_CHECKING:
    from ctnet import analysis, backbones, checkpoint, heatmap, ops, plugin, testing
    from ctnet.backbones import list_backbones
    from ctnet.base.errors import CtnetError
    from ctnet.core.records import Detections
    from ctnet.core.task import create_task, list_tasks
    from ctnet.inference import DetectionSettings, Detector, ImageDetections
    from ctnet.model import create_model

__all__ = [
    "CtnetError",
    "DetectionSettings",
    "Detections",
    "Detector",
    "ImageDetections",
    "__version__",
    "analysis",
    "backbones",
    "checkpoint",
    "create_model",
    "create_task",
    "heatmap",
    "list_backbones",
    "list_tasks",
    "ops",
    "plugin",
    "testing",
]

_MODULES = ("analysis", "backbones", "checkpoint", "heatmap", "ops", "plugin", "testing")

__getattr__ = lazy_attributes(
    __name__,
    {
        "CtnetError": "ctnet.base.errors",
        "DetectionSettings": "ctnet.inference",
        "Detections": "ctnet.core.records",
        "Detector": "ctnet.inference",
        "ImageDetections": "ctnet.inference",
        "create_model": "ctnet.model",
        "create_task": "ctnet.core.task",
        "list_backbones": "ctnet.backbones",
        "list_tasks": "ctnet.core.task",
        **{name: f"ctnet.{name}" for name in _MODULES},
    },
)


def __dir__() -> list[str]:
    return list(__all__)
