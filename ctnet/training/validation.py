"""The evaluation of the validation split after an epoch."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from ctnet.base.ranks import Ranks
from ctnet.checkpoint import Description
from ctnet.core.operating import OperatingPoints
from ctnet.core.tally import Tally
from ctnet.core.task import Task
from ctnet.data.dataset import Dataset
from ctnet.evaluation.evaluators import evaluator_of
from ctnet.inference.detector import Detector
from ctnet.measuring.reading import Reader, Settings
from ctnet.measuring.run import Evaluation, evaluate, reader_of
from ctnet.model import CenterNet
from ctnet.training.best import Rival, tally_of
from ctnet.training.operating import points_of


class Validation:
    """Evaluates a network in training, and remembers what the last and the best evaluation found.

    Attributes:
        main_metric: the metric that decides which epoch was the best.
        dataset: the validation split.
        warning: one line where the evaluation is limited, else empty.
        is_running: whether an evaluation is going on; it changes nothing that is saved.
    """

    def __init__(
        self,
        task: Task,
        description: Description,
        dataset: Dataset,
        device: torch.device,
        settings: Settings,
        ranks: Ranks,
    ) -> None:
        """Ground truth that cannot be measured is refused now, not after an epoch.

        Args:
            task, description: of the network.
            dataset: see above.
            device: to evaluate on.
            settings: how to evaluate.
            ranks: the processes that share the images.

        Raises:
            CtnetError: where the evaluator refuses the annotations.
        """
        evaluator = evaluator_of(task, dataset)
        self.main_metric = evaluator.main_metric
        self.warning = evaluator.beyond_limit() or ""
        self.is_running = False
        self._task, self._description, self.dataset = task, description, dataset
        self._device, self._settings, self._ranks = device, settings, ranks
        self._rival = Rival()
        #: What the images contributed to the last evaluation; in the first process.
        self._tally: Tally | None = None
        #: Reads the images, from the first evaluation on.
        self._reader: Reader | None = None

    def evaluate(
        self, model: CenterNet, weights: Mapping[str, Tensor], interrupted: Callable[[], bool]
    ) -> Evaluation:
        """Evaluate a copy of the network.

        Args:
            model: the network; those of several processes may differ in their buffers.
            weights: the weights to use.
            interrupted: asked by several processes whether to stop; one alone is stopped by an exception.
        """
        model = copy.deepcopy(model)
        model.load_state_dict(weights)
        for buffer in model.buffers():  # statistics are each process's own; those of the first are kept
            self._ranks.spread(buffer)
        detector = Detector(self._task, model, self._description, self._device)
        self.is_running = True
        self._reader = self._reader or reader_of(
            detector, self.dataset, self._settings, self._ranks, stay=True
        )
        done = evaluate(
            detector,
            self.dataset,
            self._settings,
            describe="",
            ranks=self._ranks,
            interrupted=interrupted if self._ranks.count > 1 else None,
            reader=self._reader,
        )
        self.is_running = False
        self._tally = tally_of(done.evaluator) if self._ranks.is_first else None
        return done

    def comment(self, epoch: int, improved: bool) -> str:
        """What is said of the last evaluation besides its metrics, see ``Rival.comment``."""
        return self._rival.comment(epoch, self._tally, self.main_metric, improved)

    def operating_points(self) -> OperatingPoints | None:
        """The thresholds chosen from the last evaluation, see ``points_of``."""
        return points_of(self._tally, self.dataset)
