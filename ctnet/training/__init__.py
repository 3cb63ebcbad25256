"""The training loop, its schedules, and the run folder."""

from ctnet.training.config import TrainingConfig
from ctnet.training.run import Run, latest_run
from ctnet.training.trainer import Trainer

__all__ = ["Run", "Trainer", "TrainingConfig", "latest_run"]
