"""A detector over a whole data set, image by image, into an evaluator."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import torch
from torch.utils.data import DataLoader

from ctnet.data.dataset import Dataset
from ctnet.data.images import ImageError
from ctnet.data.loader import Failure, prepare_worker
from ctnet.data.problems import Problem
from ctnet.errors import CtnetError
from ctnet.inference.detector import Detector, Prepared, Preprocessor, Resize
from ctnet.progress import track
from ctnet.records import Detections


@dataclass(frozen=True)
class Settings:
    """Choices at test time.

    Attributes:
        resize: "fix" or "keep", see ``Preprocessor``.
        size: (width, height) for "fix"; the training size when None.
        topk: detections per image.
        batch_size: images a forward pass, where their sizes agree.
        workers: processes that read and resize; 0 reads in the calling process.
        metric, engine: see ``Task.evaluator``.
        amp: type for autocast.
    """

    resize: Resize = "fix"
    size: tuple[int, int] | None = None
    topk: int = 100
    batch_size: int = 8
    workers: int = 0
    metric: str | None = None
    engine: str | None = None
    amp: torch.dtype | None = None


@dataclass
class Evaluation:
    """What came out.

    Attributes:
        metrics: figures by name.
        main_metric: the name of the one that counts.
        problems: images that could not be read; nothing was found in them, as the figures say.
    """

    metrics: dict[str, float]
    main_metric: str
    problems: list[Problem] = field(default_factory=list)


def evaluate(
    detector: Detector, dataset: Dataset, settings: Settings | None = None, describe: str = "evaluating"
) -> Evaluation:
    """Detect in every image of a data set and measure.

    Args:
        detector: what is measured.
        dataset: images and ground truth; its categories must be the detector's.
        settings: choices at test time.
        describe: words for the progress display.
    """
    settings = settings or Settings()
    evaluator = detector.task.evaluator(dataset, metric=settings.metric, engine=settings.engine)
    problems: list[Problem] = []
    found = detect_all(detector, dataset, settings, problems)
    for image_id, detections in track(found, describe, total=len(dataset)):
        evaluator.update(image_id, detections)
    return Evaluation(evaluator.compute(), evaluator.main_metric, problems)


def detect_all(
    detector: Detector, dataset: Dataset, settings: Settings, problems: list[Problem]
) -> Iterator[tuple[int, Detections]]:
    """Yield (image id, detections) of all images; those that cannot be read go to ``problems``."""
    reading = _Reading(dataset, detector.preprocessor(settings.resize, settings.size))
    loader = DataLoader(
        reading,
        batch_sampler=_batches_of_one_size(dataset, settings),
        collate_fn=_as_list,
        num_workers=settings.workers,
        worker_init_fn=prepare_worker if settings.workers else None,
    )
    for items in loader:
        for item in items:
            if isinstance(item, Failure):
                raise CtnetError(item.text)
        problems += [item for item in items if isinstance(item, Problem)]
        batch = [item for item in items if isinstance(item, Prepared)]
        if batch:
            results = detector.detect(batch, settings.topk, settings.amp)
            yield from zip((prepared.info.image_id for prepared in batch), results, strict=True)


class _Reading(torch.utils.data.Dataset[Prepared | Problem | Failure]):
    def __init__(self, dataset: Dataset, preprocess: Preprocessor) -> None:
        self.dataset, self.preprocess = dataset, preprocess

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> Prepared | Problem | Failure:
        try:
            sample = self.dataset[index]
        except ImageError as error:
            return Problem("unreadable image", self.dataset.info(index).file_name, str(error))
        except CtnetError as error:
            return Failure(str(error))
        return self.preprocess(sample.image, sample.info)


def _batches_of_one_size(dataset: Dataset, settings: Settings) -> list[list[int]]:
    """Indices in batches; with "keep" only images of equal size share one."""
    groups: dict[tuple[int, int], list[int]] = {}
    for index in range(len(dataset)):
        info = dataset.info(index)
        key = (info.width, info.height) if settings.resize == "keep" else (0, 0)
        groups.setdefault(key, []).append(index)
    step = settings.batch_size
    return [group[i : i + step] for group in groups.values() for i in range(0, len(group), step)]


def _as_list(items: list[Prepared | Problem | Failure]) -> list[Prepared | Problem | Failure]:
    return items
