"""Rotated boxes (oriented bounding boxes) for ctnet: centre, size along the box's own axes, angle."""

from ctnet_tasks_obb.task import Obb

__all__ = ["Obb"]
