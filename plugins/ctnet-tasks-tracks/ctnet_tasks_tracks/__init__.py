"""Tracking objects as points for ctnet: any task's objects, followed through a video."""

from ctnet_tasks_tracks.task import Tracks

__all__ = ["Tracks"]
