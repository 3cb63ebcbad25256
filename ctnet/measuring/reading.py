"""Reading a data set's images as a network takes them, by worker processes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from multiprocessing.process import BaseProcess

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, get_worker_info

from ctnet.base.errors import CtnetError
from ctnet.base.ranks import Ranks
from ctnet.core.task import Task
from ctnet.data.dataset import Dataset
from ctnet.data.images import ImageError
from ctnet.data.loader import Failure
from ctnet.data.problems import Problem
from ctnet.data.workers import load, prepare_worker
from ctnet.inference.preprocessing import PIXELS_AT_ONCE, Preprocessor, Views
from ctnet.inference.settings import DetectionSettings
from ctnet.inference.timing import StageTimes


@dataclass(frozen=True)
class Settings(DetectionSettings):
    """Test-time settings, and how to read the data set.

    Attributes:
        batch_size: images per forward pass, where their sizes are equal.
        workers: processes that read and resize; 0 reads in the calling process.
        metric, max_dets: see ``evaluator_of``.
    """

    batch_size: int = 8
    workers: int = 0
    metric: str | None = None
    max_dets: int | None = None


@dataclass(frozen=True)
class Read:
    """An image at every scale, and the time to read it."""

    views: Views
    times: StageTimes


class Reader:
    """A data set's images in batches, prepared for a detector; every iteration reads all of them.

    Args:
        dataset: the images.
        preprocess: prepares them.
        settings: used are scales, resize, batch_size and workers.
        ranks: the processes that share the batches; None: this one reads them all.
        stay: keep the worker processes for the next iteration.
    """

    def __init__(
        self,
        dataset: Dataset,
        preprocess: Preprocessor,
        settings: Settings,
        ranks: Ranks | None = None,
        stay: bool = False,
    ) -> None:
        self._workers: list[BaseProcess] = []
        self._loader = DataLoader(
            _Images(dataset, preprocess, settings.scales),
            batch_sampler=_batches(dataset, settings, ranks or Ranks()),
            collate_fn=_packed,
            num_workers=settings.workers,
            persistent_workers=stay and settings.workers > 0,
            worker_init_fn=prepare_worker if settings.workers else None,
            # A generator of its own: an evaluation must not advance the global one.
            generator=torch.Generator(),
        )

    def __iter__(self) -> Iterator[list[Read | Problem]]:
        """The batches, with the problems of images that could not be read.

        Raises:
            CtnetError: for a bad record found by a worker; when a worker died (``WorkerDied``).
        """
        for batch in load(self._loader, self._workers):
            yield batch.items()


class _Images(torch.utils.data.Dataset[Read | Problem | Failure]):
    def __init__(self, dataset: Dataset, preprocess: Preprocessor, scales: Sequence[float]) -> None:
        self.dataset, self.preprocess, self.scales = dataset, preprocess, scales

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> Read | Problem | Failure:
        times = StageTimes()
        try:
            with times.stage("load"):
                sample = self.dataset[index]
            with times.stage("pre"):
                views = self.preprocess.views(sample.image, sample.info, self.scales)
        except ImageError as error:
            return Problem("unreadable image", self.dataset.info(index).file_name, str(error))
        except CtnetError as error:
            return Failure(str(error))
        return Read(views, times)


@dataclass(frozen=True)
class _Packed:
    """A batch on its way from a worker process.

    Attributes:
        parts: what was read; without the inputs, if ``pixels`` has them.
        shapes: the shapes of the inputs.
        pixels: (bytes,) uint8: all inputs, one after the other, in shared memory; through a pipe they would
            be copied twice.
    """

    parts: Sequence[Read | Problem | Failure]
    shapes: Sequence[tuple[int, ...]] = ()
    pixels: Tensor | None = None

    def items(self) -> list[Read | Problem]:
        """What was read, complete."""
        items: list[Read | Problem] = []
        inputs = self._inputs()
        for part in self.parts:
            if isinstance(part, Failure):
                raise CtnetError(part.text)
            if isinstance(part, Read) and self.pixels is not None:
                part = replace(part, views=tuple(replace(view, input=next(inputs)) for view in part.views))
            items.append(part)
        return items

    def _inputs(self) -> Iterator[np.ndarray]:
        start = 0
        for shape in self.shapes:
            assert self.pixels is not None
            size = int(np.prod(shape))
            yield self.pixels[start : start + size].numpy().reshape(shape)
            start += size


def _packed(parts: list[Read | Problem | Failure]) -> _Packed:
    inputs = [view.input for part in parts if isinstance(part, Read) for view in part.views]
    if get_worker_info() is None or not inputs:
        return _Packed(parts)
    bare = [
        replace(part, views=tuple(replace(view, input=view.input[:0]) for view in part.views))
        if isinstance(part, Read)
        else part
        for part in parts
    ]
    pixels = torch.from_numpy(np.concatenate([input.reshape(-1) for input in inputs]))
    return _Packed(bare, [input.shape for input in inputs], pixels)


def follows(task: Task | None) -> bool:
    """Whether a task's detections depend on those in earlier frames, which must be read in order then."""
    return task is not None and task.frames.tracker is not None


def _batches(dataset: Dataset, settings: Settings, ranks: Ranks) -> list[list[int]]:
    """The batches that this process reads."""
    if not follows(dataset.task):
        return list(ranks.share(_batches_of_one_size(dataset, settings)))
    return [batch for group in ranks.share(_groups_of_videos(dataset, settings)) for batch in _abreast(group)]


def _groups_of_videos(dataset: Dataset, settings: Settings) -> list[list[Sequence[int]]]:
    """Videos that are read side by side, a frame of each in a batch; a still image is a video alone."""
    videos = dataset.videos
    by_size: dict[tuple[int, int], list[Sequence[int]]] = {}
    for frames in [*videos.frames.values(), *([index] for index in videos.stills)]:
        sizes = {(info.width, info.height) for info in map(dataset.info, frames)}
        key = sizes.pop() if len(sizes) == 1 and settings.resized == "keep" else (0, 0)
        by_size.setdefault(key, []).append(frames)
    step = settings.batch_size
    # Of several sizes in one video, only frames alone fit a batch of "keep".
    steps = {key: 1 if settings.resized == "keep" and key == (0, 0) else step for key in by_size}
    return [
        sorted(group, key=len)[i : i + steps[key]]
        for key, group in by_size.items()
        for i in range(0, len(group), steps[key])
    ]


def _abreast(videos: Sequence[Sequence[int]]) -> list[list[int]]:
    """The first frame of every video, then the second of every video that has one, and so on."""
    longest = max(map(len, videos), default=0)
    return [[frames[i] for frames in videos if i < len(frames)] for i in range(longest)]


def _batches_of_one_size(dataset: Dataset, settings: Settings) -> list[list[int]]:
    """Indices in batches; with "keep" of images of equal size, fewer if these are large."""
    groups: dict[tuple[int, int], list[int]] = {}
    for index in range(len(dataset)):
        info = dataset.info(index)
        key = (info.width, info.height) if settings.resized == "keep" else (0, 0)
        groups.setdefault(key, []).append(index)
    batches = []
    enlarged = sum(scale**2 for scale in settings.scales)
    for (width, height), group in groups.items():
        step = settings.batch_size
        if width:
            step = max(1, min(step, int(PIXELS_AT_ONCE / (width * height * enlarged))))
        batches += [group[i : i + step] for i in range(0, len(group), step)]
    return batches
