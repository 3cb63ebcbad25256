"""``ctnet demo``: a task's own scenes, trained, evaluated and drawn, in minutes on a CPU."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from ctnet.base.device import choose_device
from ctnet.base.numbers import check_seed
from ctnet.core.documents import truth_of
from ctnet.core.fields import move_record
from ctnet.core.geometry import Affine
from ctnet.core.records import Sample
from ctnet.core.task import load_task_class, scenes_of
from ctnet.data.dataset import Dataset
from ctnet.inference.detector import Detector
from ctnet.measuring.reading import Settings
from ctnet.measuring.run import evaluate
from ctnet.report.draw import grid, side_by_side
from ctnet.report.trails import Trails
from ctnet.report.videos import VideoFile
from ctnet.report.writing import write_image
from ctnet.training.data import evaluation_data, example_data
from ctnet.training.observers import AUTO
from ctnet.training.request import Machine, RecipeChoice, TrainingData
from ctnet.training.session import Session, new_session

PICTURES = 6


@dataclass(frozen=True)
class Demonstration:
    """The result of a demo.

    Attributes:
        run: the run folder.
        data: the data directory of synthetic scenes.
        picture: ground truth beside detections.
        metrics: figures on the scenes that were not trained on.
        units: units of some of the figures, see ``Evaluator.units``.
        seconds: how long it took in all.
        session: the training.
        video: the followed objects of the validation videos; None for tasks that see single images.
    """

    run: Path
    data: Path
    picture: Path
    metrics: dict[str, float]
    units: Mapping[str, str]
    seconds: float
    session: Session = field(repr=False)
    video: Path | None = None


def compare(
    detector: Detector, samples: Sequence[Sample], enlarge: int = 2, score: float = 0.4
) -> np.ndarray:
    """Ground truth next to detections, one pair per sample.

    Args:
        detector: the detector.
        samples: images with annotations.
        enlarge: factor by which small scenes are enlarged, to leave room for captions.
        score: detections that score more are drawn.

    Returns:
        (H, W, 3) uint8, RGB.
    """
    task, larger = detector.task, Affine.scaling(enlarge)
    pairs = []
    images = [sample.image for sample in samples]
    found_in = detector(images, records=[sample.info.record for sample in samples], score=score)
    for sample, found in zip(samples, found_in, strict=True):
        height, width = sample.image.shape[:2]
        image = larger.warp(sample.image, (width * enlarge, height * enlarge))
        records = (truth_of(task, sample.instances), found)
        drawn = [
            task.draw(image, move_record(record, larger, task.fields), sample.info) for record in records
        ]
        pairs.append(side_by_side(drawn, ["annotated", "detected"]))
    return grid(pairs, columns=2)


def demonstrate(
    task_name: str,
    output: Path | None = None,
    epochs: int | None = None,
    device: str = "auto",
    seed: int = 0,
) -> Demonstration | None:
    """Draw scenes, train a small network on them, evaluate it and draw its detections.

    Args:
        task_name: a task with example scenes.
        output: the run folder; a new one when None.
        epochs: passes over the scenes; those of the demo's recipe when None.
        device: the device to use.
        seed: seed of the training.

    Returns:
        The result; None when Ctrl-C ended the training.
    """
    started = time.monotonic()
    choose_device(device)  # before the scenes are drawn
    check_seed(seed)
    cls = load_task_class(task_name)
    scenes = scenes_of(cls)
    epochs = epochs or scenes.recipe.epochs
    data = example_data(task_name, scenes.counts, scenes.recipe.size)
    session = new_session(
        task_name,
        TrainingData(data),
        recipe=RecipeChoice("demo", {"epochs": epochs, "evaluate_every": max(1, epochs // 3)}),
        seed=seed,
        machine=Machine(device, observers=(AUTO,)),
        output=output,
    )
    if not session.fit():
        return None
    run = session.run.path
    detector = Detector.load(run, device)
    dataset = evaluation_data(detector, run, None, None)
    done = evaluate(detector, dataset, Settings())
    picture = run / "detections.jpg"
    write_image(picture, compare(detector, [dataset[i] for i in range(min(PICTURES, len(dataset)))]))
    video = followed(detector, dataset, run / "tracks.mp4") if dataset.videos.frames else None
    assert done.evaluator is not None
    seconds = time.monotonic() - started
    return Demonstration(run, data, picture, done.metrics, done.evaluator.units, seconds, session, video)


def followed(detector: Detector, dataset: Dataset, path: Path, enlarge: int = 3, rate: float = 8.0) -> Path:
    """Write the videos of a data set, one after the other, with the objects that are followed in them.

    Args:
        detector: the detector.
        dataset: its videos.
        path: the MP4.
        enlarge: factor by which small frames are enlarged, to leave room for captions.
        rate: frames per second.
    """
    task, larger, file = detector.task, Affine.scaling(enlarge), VideoFile(path, rate)
    try:
        for frames in dataset.videos.frames.values():
            trails = Trails()
            for one in detector.stream(dataset[index].image for index in frames):
                height, width = one.image.shape[:2]
                image = larger.warp(one.image, (width * enlarge, height * enlarge))
                shown = move_record(one.detections, larger, task.fields)
                drawn = task.draw(image, shown, one.detections.info)
                file.write(one.name, trails.draw(drawn, shown))
    finally:
        file.close()
    return path
