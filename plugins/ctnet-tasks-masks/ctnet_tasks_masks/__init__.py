"""masks: instance segmentation by points, as a plugin of ctnet."""

from ctnet_tasks_masks.task import InstanceMasks

__all__ = ["InstanceMasks"]
