"""A task with its example scenes, shared by all checks."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from unittest import SkipTest

import numpy as np
import torch
from torch import Tensor

from ctnet.base.errors import CtnetError
from ctnet.core.fields import Record, move_record
from ctnet.core.geometry import Affine
from ctnet.core.records import Instances, Sample
from ctnet.core.targets import Grid, Target, collate_targets
from ctnet.core.task import Task, example_of
from ctnet.testing.check import Check, promise

#: The checks of a task, in the order in which they run.
TASK_CHECKS: list[Check] = []

#: Number of random scenes for the round trip; other checks use the first few of them.
SCENES = 40
#: Input pixels per cell of the output grid.
STRIDE = 4
#: Margin around a scene, cells, so that no object is cut at the grid's border.
_ROOM = 2


class Probe:
    """A task and its example scenes, each drawn once.

    Attributes:
        task: what is tested.
    """

    def __init__(self, task: Task) -> None:
        self.task = task
        self._scenes: list[Sample] = []

    @property
    def size(self) -> tuple[int, int]:
        """(width, height) of the scenes; never square, so that swapped axes are noticed.

        Raises:
            unittest.SkipTest: for a task that draws none.
        """
        if self.task.scenes is None:
            raise SkipTest(f"task {self.task.name} draws no example scenes")
        width, height = self.task.scenes.size
        return (width, height) if width != height else (width, max(32, 3 * height // 4))

    def scenes(self, count: int = SCENES) -> list[Sample]:
        """The first example scenes; scene i is drawn from seed i.

        Raises:
            unittest.SkipTest: for a task that draws none.
        """
        try:
            for seed in range(len(self._scenes), count):
                self._scenes.append(example_of(self.task, np.random.default_rng(seed), self.size))
        except CtnetError as error:
            raise SkipTest(f"no example scenes: {error}") from error
        return self._scenes[:count]

    @property
    def grid(self) -> Grid:
        """An output grid large enough for a whole scene."""
        width, height = self.size
        return Grid(-(-height // STRIDE) + _ROOM, -(-width // STRIDE) + _ROOM)

    def on_grid(self, instances: Instances) -> Instances:
        """Instances in image pixels -> on the output grid."""
        return move_record(instances, Affine.scaling(1 / STRIDE), self.task.fields)

    def moved(self, record: Record, zoom: float, shift: Sequence[float] | np.ndarray) -> Record:
        """A record zoomed about the origin, then shifted by (x, y)."""
        x, y = shift
        return move_record(record, Affine(np.array([[zoom, 0, x], [0, zoom, y]])), self.task.fields)

    def targets(self, scene: int) -> dict[str, Target]:
        """The targets of a scene."""
        return self.task.encode(self.on_grid(self.scenes(scene + 1)[scene].instances), self.grid)

    def batch_targets(self, scenes: range) -> dict[str, Target]:
        """The targets of several scenes, as a batch."""
        parts = [self.targets(scene) for scene in scenes]
        return {name: collate_targets([part[name] for part in parts]) for name in self.task.heads}

    def render(self, targets: Mapping[str, Target], grid: Grid) -> dict[str, Tensor]:
        """The activated maps of a perfect network."""
        return {name: head.render(targets[name], grid) for name, head in self.task.heads.items()}

    def random_maps(self, batch: int, seed: int = 0, grid: Grid | None = None) -> dict[str, Tensor]:
        """Activated maps of an untrained network: no two cells are equal."""
        generator = torch.Generator().manual_seed(seed)
        height, width, _ = grid or self.grid
        return {
            name: head.activate(torch.randn(batch, head.channels, height, width, generator=generator))
            for name, head in self.task.heads.items()
        }


@lru_cache(maxsize=8)
def probe_of(task: Task) -> Probe:
    """The probe of a task: shared by all its checks, so that scenes are drawn once."""
    return Probe(task)


def task_check(member: str) -> Callable[[Callable[[Probe], None]], Callable[[Probe], None]]:
    """Register a function as the check of its name; its docstring is the promise of the contract.

    Args:
        member: see ``Check``.
    """

    def add(function: Callable[[Probe], None]) -> Callable[[Probe], None]:
        def check(task: Task) -> None:
            function(probe_of(task))

        TASK_CHECKS.append(Check(function.__name__, member, promise(function), check))
        return function

    return add
