"""Running a detector over a whole data set and evaluating it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from ctnet.base.errors import CtnetError
from ctnet.base.progress import track
from ctnet.base.ranks import Ranks
from ctnet.core.documents import results_of
from ctnet.core.evaluator import Evaluator
from ctnet.core.records import Detections, ImageInfo
from ctnet.core.task import Task
from ctnet.data.dataset import Dataset
from ctnet.data.problems import Problem
from ctnet.data.videos import FRAME, VIDEO
from ctnet.evaluation.evaluators import evaluator_of
from ctnet.inference.detector import Detector
from ctnet.inference.following import Following
from ctnet.inference.preprocessing import Prepared, Views
from ctnet.inference.timing import StageTimes
from ctnet.measuring.reading import Read, Reader, Settings, follows

#: Called with the activated maps of a batch at one scale, their images, and the scale.
KeepMaps = Callable[[Mapping[str, Tensor], Sequence[Prepared], float], None]


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
    reader: Reader | None = None,
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
        reader: reads the data set, from ``reader_of`` with the same settings; one for this pass alone when
            None.
    """
    settings, ranks = settings or Settings(), ranks or Ranks()
    evaluator = evaluator_of(detector.task, dataset, settings.metric, settings.max_dets)
    problems: list[Problem] = []
    times = StageTimes()
    found = detect_all(detector, dataset, settings, problems, times, ranks, keep_maps, reader)
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
    reader: Reader | None = None,
) -> Iterator[tuple[int, Detections]]:
    """Yield (image id, detections) of all images; unreadable images are added to ``problems``.

    Args:
        detector, dataset, settings, ranks, keep_maps, reader: see ``evaluate``.
        problems, times: are added to.
    """
    times = StageTimes() if times is None else times
    reader = reader or reader_of(detector, dataset, settings, ranks)
    streams = _Streams(detector.task) if follows(detector.task) else None
    for items in reader:
        problems += [item for item in items if isinstance(item, Problem)]
        batch = []
        for item in items:
            if isinstance(item, Read):
                times.add(item.times)
                batch.append(item.views if streams is None else streams.views(item.views))
        if batch:
            results = detector.detect(batch, settings, times, keep_maps)
            for views, found in zip(batch, results, strict=True):
                info = views[0].info
                yield info.image_id, found if streams is None else streams.update(info, found)


class _Streams:
    """The videos of a data set, each followed on its own; they may be read side by side.

    Args:
        task: whose detections they are.
    """

    def __init__(self, task: Task) -> None:
        self._task = task
        self._followed: dict[Any, tuple[Following, int]] = {}

    def views(self, views: Views) -> Views:
        """The views of a frame with what is known of its video; frames that are missing are bridged."""
        record, image_id = views[0].info.record, views[0].info.image_id
        video, number = record.get(VIDEO, ("still", image_id)), record.get(FRAME, 0)
        following, last = self._followed.get(video) or (Following(self._task), number - 1)
        if number - last > 1:
            following.skip(number - last - 1)
        self._followed[video] = (following, number)
        return following.views(views)

    def update(self, info: ImageInfo, found: Detections) -> Detections:
        """The detections of a frame whose views were asked for, with identities."""
        return self._followed[info.record.get(VIDEO, ("still", info.image_id))][0].update(found)


def reader_of(
    detector: Detector,
    dataset: Dataset,
    settings: Settings,
    ranks: Ranks | None = None,
    stay: bool = False,
) -> Reader:
    """What reads a data set as the detector takes it, see ``Reader``."""
    preprocess = detector.prepares(settings)
    return Reader(dataset, preprocess, settings, ranks, stay)
