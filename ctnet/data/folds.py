"""Folds: the parts of a split, each of which one training leaves out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import numpy as np
from annotated_types import Ge

from ctnet.base.errors import CtnetError
from ctnet.data.dataset import Dataset
from ctnet.data.splitting import Division, parts_of


@dataclass(frozen=True)
class Fold:
    """The part of a split that a training leaves out; the others are trained on.

    Attributes:
        number: which part, from 0.
        count: number of parts; each class is divided in proportion, as by ``ctnet data split``.
        group: a key of the images' entries; images with the same value are in the same part.
        seed: seed of the random division.
    """

    number: Annotated[int, Ge(0)]
    count: Annotated[int, Ge(2)]
    group: str | None = None
    seed: Annotated[int, Ge(0)] = 0

    def divide(self, dataset: Dataset) -> tuple[np.ndarray, np.ndarray]:
        """The images (int64 indices) to train on, and those left out.

        Args:
            dataset: all images of a split.

        Raises:
            CtnetError: when there are too few images or groups for so many parts, and when no image has the
                key of the groups.
        """
        part = parts_of(dataset, Division(folds=self.count, group=self.group, seed=self.seed), [])
        if len(np.unique(part)) < self.count:
            what = "images" if self.group is None else f"groups of images with the same {self.group}"
            raise CtnetError(
                f"{dataset.coco.path} has too few {what} for {self.count} folds; choose fewer with --folds"
            )
        return np.flatnonzero(part != self.number), np.flatnonzero(part == self.number)
