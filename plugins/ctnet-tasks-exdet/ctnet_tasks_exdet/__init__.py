"""ExtremeNet for ctnet: an object is four extreme points around a centre."""

from ctnet_tasks_exdet.task import ExtremeDetection

__all__ = ["ExtremeDetection"]
