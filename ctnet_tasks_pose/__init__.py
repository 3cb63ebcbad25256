"""Human pose, and any other skeleton of joints: a ctnet task plugin that ships with ctnet."""

from ctnet_tasks_pose.skeleton import Skeleton
from ctnet_tasks_pose.task import Pose

__all__ = ["Pose", "Skeleton"]
