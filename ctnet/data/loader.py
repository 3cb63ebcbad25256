"""Batches for training: every sample has its own random stream, independent of the worker."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from multiprocessing.process import BaseProcess
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader

from ctnet.base.errors import CtnetError
from ctnet.base.joined import Joined
from ctnet.base.ranks import Ranks
from ctnet.core.recipe import Augmentation
from ctnet.core.targets import Grid, Target, collate_targets, join_targets
from ctnet.core.task import Task
from ctnet.data.augment import crop_instances, jitter, random_crop
from ctnet.data.dataset import Dataset
from ctnet.data.images import ImageError
from ctnet.data.mosaic import in_a_tile, mosaic_tiles
from ctnet.data.problems import Problem
from ctnet.data.videos import earlier_view, linked, stacked
from ctnet.data.workers import load, prepare_worker

Key = tuple[int, int]  #: (epoch, index of the image)


@dataclass(frozen=True)
class Batch:
    """One training batch.

    Attributes:
        images: (B, H, W, 3) uint8, RGB; more channels for tasks that see two frames.
        targets: head name -> ragged targets of the batch.
        indices: the images' indices in the data set.
        problems: images of the batch that could not be read and were left out.
        joined: the targets' columns in one tensor, for one copy to a GPU; None unless pinned.
    """

    images: Tensor
    targets: Mapping[str, Target]
    indices: tuple[int, ...]
    problems: tuple[Problem, ...] = ()
    joined: Joined | None = None

    def __len__(self) -> int:
        return len(self.images)

    def pin_memory(self) -> Batch:
        """With images and joined targets in page-locked memory, from which a GPU copies asynchronously."""
        joined = Joined.of([column for target in self.targets.values() for column in target.columns()])
        return replace(self, images=self.images.pin_memory(), joined=joined.pin_memory())

    def to(self, device: torch.device) -> Batch:
        """Copy to the training device: from pinned memory in two copies, for which the host does not wait."""
        images = self.images.to(device, non_blocking=True)
        if self.joined is None:
            targets = {name: target.to(device) for name, target in self.targets.items()}
        else:
            columns = iter(self.joined.to(device).tensors())
            targets = {name: target.with_columns(columns) for name, target in self.targets.items()}
        return replace(self, images=images, targets=targets, joined=None)


@dataclass(frozen=True)
class EncodedSample:
    """One augmented image with its targets, as a worker passes it to collation."""

    image: np.ndarray
    targets: Mapping[str, Target]
    index: int


@dataclass(frozen=True)
class Failure:
    """A user's mistake found in a worker, to be raised in the main process without a traceback."""

    text: str


class TrainingSet(torch.utils.data.Dataset[EncodedSample | Problem | Failure]):
    """Augmented, encoded samples by (epoch, index): the same key and seed give the same sample anywhere."""

    def __init__(
        self,
        dataset: Dataset,
        task: Task,
        input_size: tuple[int, int],
        augmentation: Augmentation,
        seed: int = 0,
        stride: int = 4,
        epochs: int = 1,
    ) -> None:
        """Args:
        dataset: images and annotations.
        task: encodes them.
        input_size: (width, height), pixels.
        augmentation: the augmentation of images.
        seed: seed of the whole run.
        stride: input pixels per output cell.
        epochs: of the whole run, of which the last ones do without ``Augmentation.mosaic``.
        """
        self.dataset = dataset
        self.task = task
        self.input_size = input_size
        self.augmentation = augmentation
        self.seed = seed
        self.stride = stride
        self.mosaic_epochs = round(epochs * (1 - augmentation.plain_share))

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, key: Key) -> EncodedSample | Problem | Failure:
        try:
            return self._sample(*key)
        except ImageError as error:
            return Problem("unreadable image", self.dataset.info(key[1]).file_name, str(error))
        except CtnetError as error:
            return Failure(str(error))

    def _sample(self, epoch: int, index: int) -> EncodedSample:
        rng = np.random.default_rng([self.seed, epoch, index])
        mosaic = self.augmentation.mosaic
        if epoch < self.mosaic_epochs and mosaic and rng.random() < mosaic:
            return self._mosaic(rng, index)
        return self._view(rng, index, self._grid, self.augmentation)

    @property
    def _grid(self) -> Grid:
        return Grid(self.input_size[1] // self.stride, self.input_size[0] // self.stride)

    def _mosaic(self, rng: np.random.Generator, index: int) -> EncodedSample:
        """A mosaic of an image and three others."""
        others = rng.integers(len(self), size=3).tolist()
        augmentation = in_a_tile(self.augmentation)
        image = np.empty((self.input_size[1], self.input_size[0], self.task.frames.inputs), np.uint8)
        parts: dict[str, list[Target]] = {}
        for tile, one in zip(
            mosaic_tiles(rng, self._grid.width, self._grid.height), [index, *others], strict=True
        ):
            view = self._view(rng, one, Grid(tile.height, tile.width), augmentation)
            left, top = tile.x * self.stride, tile.y * self.stride
            image[top : top + view.image.shape[0], left : left + view.image.shape[1]] = view.image
            for name, target in view.targets.items():
                parts.setdefault(name, []).append(target.moved(tile.x, tile.y))
        return EncodedSample(image, {name: join_targets(part) for name, part in parts.items()}, index)

    def _view(
        self, rng: np.random.Generator, index: int, grid: Grid, augmentation: Augmentation
    ) -> EncodedSample:
        """One augmented image, as large as a grid."""
        frames = self.task.frames
        sample = self.dataset[index] if frames.count == 1 else self.dataset.pair(index, rng, frames.reach)
        height, width = sample.image.shape[:2]
        size = (grid.width * self.stride, grid.height * self.stride)
        crop = random_crop(rng, (width, height), size, augmentation, self.task.layout.fit)
        image = crop.affine.warp(sample.image, size)
        on_grid = crop_instances(sample.instances, crop, self.task, self.stride)
        if frames.count == 1:
            image = jitter(rng, image, augmentation)
        else:
            earlier = earlier_view(rng, sample, crop, size, self.task)
            both = jitter(rng, np.concatenate([image, earlier.image], axis=1), augmentation)
            image = stacked(rng, np.split(both, 2, axis=1), earlier, self.task)
            on_grid = linked(self.task, on_grid, earlier, self.stride)
        return EncodedSample(image, self.task.encode(on_grid, grid), index)


def collate(samples: Sequence[EncodedSample | Problem | Failure]) -> Batch | Failure:
    """Stack images and join ragged targets; unreadable images are listed in ``problems``."""
    for sample in samples:
        if isinstance(sample, Failure):
            return sample
    good = [sample for sample in samples if isinstance(sample, EncodedSample)]
    problems = tuple(sample for sample in samples if isinstance(sample, Problem))
    if not good:
        return Batch(torch.zeros(0, 0, 0, 3, dtype=torch.uint8), {}, (), problems)
    targets = {name: collate_targets([sample.targets[name] for sample in good]) for name in good[0].targets}
    images = torch.from_numpy(np.stack([sample.image for sample in good]))
    return Batch(images, targets, tuple(sample.index for sample in good), problems)


@dataclass
class _Order:
    """Batches of keys for one epoch at a time, shuffled by (seed, epoch); can start mid-epoch."""

    length: int
    batch_size: int
    seed: int
    ranks: Ranks = field(default_factory=Ranks)
    epoch: int = 0
    start: int = 0

    def __len__(self) -> int:
        return -(-self.length // self.batch_size)

    def __iter__(self) -> Iterator[list[Key]]:
        order = np.random.default_rng([self.seed, self.epoch]).permutation(self.length)
        for number in range(self.start, len(self)):
            chosen = order[number * self.batch_size : (number + 1) * self.batch_size]
            yield [(self.epoch, int(index)) for index in self.ranks.share(chosen.tolist())]


@dataclass
class Loader:
    """Training batches epoch by epoch.

    Attributes:
        samples: the samples to load.
        batch_size: images per batch (the last batch of an epoch may be smaller).
        workers: worker processes; 0 loads in the calling process.
        seed: seed of the shuffling.
        pin_memory: for fast copies to a GPU.
        ranks: the processes that share every batch; this one gets its part, which may be empty.
    """

    samples: TrainingSet
    batch_size: int
    workers: int = 0
    seed: int = 0
    pin_memory: bool = False
    ranks: Ranks = field(default_factory=Ranks)
    _order: _Order = field(init=False)
    _loader: DataLoader[Any] = field(init=False)
    _processes: list[BaseProcess] = field(init=False, default_factory=list)

    def __post_init__(self) -> None:
        self._order = _Order(len(self.samples), self.batch_size, self.seed, self.ranks)
        self._loader = DataLoader(
            self.samples,
            batch_sampler=self._order,
            collate_fn=collate,
            num_workers=self.workers,
            persistent_workers=self.workers > 0,
            pin_memory=self.pin_memory,
            worker_init_fn=prepare_worker if self.workers else None,
            # A generator of its own: a loader that starts mid-epoch must not advance the global one.
            generator=torch.Generator(),
        )

    def __len__(self) -> int:
        """Batches per epoch."""
        return len(self._order)

    def epoch(self, number: int, start: int = 0) -> Iterator[Batch]:
        """The batches of an epoch, from batch ``start`` on.

        Raises:
            CtnetError: for a bad record found by a worker; when a worker died (``WorkerDied``).
        """
        self._order.epoch, self._order.start = number, start
        for batch in load(self._loader, self._processes):
            if isinstance(batch, Failure):
                raise CtnetError(batch.text)
            yield batch
