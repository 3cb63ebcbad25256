"""Running a detector over a whole data set and evaluating it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader

from ctnet.base.errors import CtnetError
from ctnet.base.progress import track
from ctnet.base.ranks import Ranks
from ctnet.core.documents import results_of
from ctnet.core.evaluator import Evaluator
from ctnet.core.records import Detections
from ctnet.core.task import Task
from ctnet.data.dataset import Dataset
from ctnet.data.images import ImageError
from ctnet.data.loader import Failure
from ctnet.data.problems import Problem
from ctnet.data.workers import load, prepare_worker
from ctnet.evaluation.evaluators import evaluator_of
from ctnet.inference.detector import Detector
from ctnet.inference.preprocessing import PIXELS_AT_ONCE, Prepared, Preprocessor
from ctnet.inference.settings import DetectionSettings
from ctnet.inference.timing import StageTimes

#: Called with the activated maps of a batch at one scale, their images, and the scale.
KeepMaps = Callable[[Mapping[str, Tensor], Sequence[Prepared], float], None]


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


@dataclass
class Evaluation:
    """The result of an evaluation.

    Attributes:
        metrics: by name.
        main_metric: the name of the one that models are compared by.
        problems: images that could not be read; they count as images without detections.
        times: time per stage.
        evaluator: holds all detections (in the first process).
    """

    metrics: dict[str, float]
    main_metric: str
    problems: list[Problem] = field(default_factory=list)
    times: StageTimes = field(default_factory=StageTimes, compare=False)
    evaluator: Evaluator | None = field(default=None, compare=False, repr=False)

    def results(self, task: Task) -> list[dict[str, Any]]:
        """All detections as entries of a COCO results file, ordered by image."""
        assert self.evaluator is not None
        state = self.evaluator.state()
        return [entry for image_id in sorted(state) for entry in results_of(task, image_id, state[image_id])]


def evaluate(
    detector: Detector,
    dataset: Dataset,
    settings: Settings | None = None,
    describe: str = "evaluating",
    ranks: Ranks | None = None,
    keep_maps: KeepMaps | None = None,
    interrupted: Callable[[], bool] | None = None,
) -> Evaluation:
    """Run a detector on every image of a data set and compute the metrics.

    Args:
        detector: the detector.
        dataset: images and ground truth; its categories must be the detector's.
        settings: test-time settings.
        describe: text for the progress display.
        ranks: the processes that share the work and all call this; None: this one does all of it. Metrics are
            the same in every process; detections, problems and times are only complete in the first one.
        keep_maps: see ``Detector.detect``.
        interrupted: see ``measure``.
    """
    settings, ranks = settings or Settings(), ranks or Ranks()
    evaluator = evaluator_of(detector.task, dataset, settings.metric, settings.max_dets)
    problems: list[Problem] = []
    times = StageTimes()
    found = detect_all(detector, dataset, settings, problems, times, ranks, keep_maps)
    return measure(found, evaluator, len(dataset), describe, problems, times, ranks, interrupted)


def measure(
    found: Iterable[tuple[int, Detections]],
    evaluator: Evaluator,
    total: int,
    describe: str,
    problems: list[Problem],
    times: StageTimes,
    ranks: Ranks | None = None,
    interrupted: Callable[[], bool] | None = None,
) -> Evaluation:
    """Pass detections to an evaluator as they arrive, and compute when all processes are done.

    Args:
        found: (image id, detections), this process's share; ``problems`` and ``times`` may be filled while it
            is consumed.
        evaluator: receives them.
        total: number of images, for the progress display.
        describe: text for it.
        problems, times: become part of the result.
        ranks: see ``evaluate``.
        interrupted: asked after every image, for processes that can only stop together.

    Raises:
        KeyboardInterrupt: in all processes, when ``interrupted`` is true in one.
    """
    ranks = ranks or Ranks()
    begun = time.perf_counter()
    share = -(-total // ranks.count)
    for image_id, detections in track(found, describe, total=share) if ranks.is_first else found:
        evaluator.update(image_id, detections)
        if interrupted is not None and interrupted():
            break
    if interrupted is not None and any(ranks.exchange(interrupted())):
        raise KeyboardInterrupt
    times.passed = time.perf_counter() - begun
    parts = ranks.gather((evaluator.state() if ranks.count > 1 else {}, problems, times))
    metrics: dict[str, float] = {}
    if ranks.is_first:
        evaluator.merge(state for state, _, _ in parts)
        problems = [problem for _, more, _ in parts for problem in more]
        if total and len(problems) == total and not evaluator.state():
            raise CtnetError(f"not one of {total} images could be read; the first: {problems[0]}")
        for _, _, other in parts[1:]:
            times.add(other)
        metrics = evaluator.compute()
    return Evaluation(ranks.broadcast(metrics), evaluator.main_metric, problems, times, evaluator)


def detect_all(
    detector: Detector,
    dataset: Dataset,
    settings: Settings,
    problems: list[Problem],
    times: StageTimes | None = None,
    ranks: Ranks | None = None,
    keep_maps: KeepMaps | None = None,
) -> Iterator[tuple[int, Detections]]:
    """Yield (image id, detections) of all images; unreadable images are added to ``problems``.

    Args:
        detector, dataset, settings, ranks, keep_maps: see ``evaluate``.
        problems, times: are added to.
    """
    times = StageTimes() if times is None else times
    preprocess = detector.preprocessor(settings.resize, settings.size)
    loader = DataLoader(
        _Reading(dataset, preprocess, settings.scales),
        batch_sampler=(ranks or Ranks()).share(_batches_of_one_size(dataset, settings)),
        collate_fn=_as_list,
        num_workers=settings.workers,
        worker_init_fn=prepare_worker if settings.workers else None,
    )
    for items in load(loader):
        batch = []
        for item in items:
            if isinstance(item, Failure):
                raise CtnetError(item.text)
            if isinstance(item, Problem):
                problems.append(item)
            else:
                times.add(item.times)
                batch.append(item.views)
        if batch:
            results = detector.detect(batch, settings, times, keep_maps)
            yield from zip((views[0].info.image_id for views in batch), results, strict=True)


@dataclass(frozen=True)
class _Read:
    """An image at every scale, and the time to read it."""

    views: tuple[Prepared, ...]
    times: StageTimes


class _Reading(torch.utils.data.Dataset[_Read | Problem | Failure]):
    def __init__(self, dataset: Dataset, preprocess: Preprocessor, scales: Sequence[float]) -> None:
        self.dataset, self.preprocess, self.scales = dataset, preprocess, scales

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> _Read | Problem | Failure:
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
        return _Read(views, times)


def _batches_of_one_size(dataset: Dataset, settings: Settings) -> list[list[int]]:
    """Indices in batches; with "keep" of images of equal size, fewer if these are large."""
    groups: dict[tuple[int, int], list[int]] = {}
    for index in range(len(dataset)):
        info = dataset.info(index)
        key = (info.width, info.height) if settings.resize == "keep" else (0, 0)
        groups.setdefault(key, []).append(index)
    batches = []
    enlarged = sum(scale**2 for scale in settings.scales)
    for (width, height), group in groups.items():
        step = settings.batch_size
        if width:
            step = max(1, min(step, int(PIXELS_AT_ONCE / (width * height * enlarged))))
        batches += [group[i : i + step] for i in range(0, len(group), step)]
    return batches


def _as_list(items: list[_Read | Problem | Failure]) -> list[_Read | Problem | Failure]:
    return items
