"""``ctnet demo``: a task's own scenes, trained, evaluated and drawn, in minutes on a CPU."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

from ctnet.device import choose_device
from ctnet.evaluation.run import Settings, evaluate
from ctnet.inference.detector import Detector
from ctnet.recipe import SMALL
from ctnet.records import Detections
from ctnet.report.draw import grid, side_by_side
from ctnet.report.writing import write_image
from ctnet.training.data import evaluation_data, example_data
from ctnet.training.session import Overrides, new_session

#: Chosen so that two CPU cores need about four minutes.
SCENES = {"train": 480, "val": 80}
SIZE = 192
EPOCHS = 12
PICTURES = 6


@dataclass(frozen=True)
class Demonstration:
    """What a demo made.

    Attributes:
        run: the run folder.
        data: the data directory of synthetic scenes.
        picture: ground truth beside detections.
        metrics: figures on the scenes that were not trained on.
        seconds: how long it took in all.
    """

    run: Path
    data: Path
    picture: Path
    metrics: dict[str, float]
    seconds: float


def demonstrate(
    task_name: str = "ctdet",
    output: Path | None = None,
    epochs: int = EPOCHS,
    device: str = "auto",
    seed: int = 0,
) -> Demonstration | None:
    """Draw scenes, train a small network on them, evaluate, draw what it finds.

    Args:
        task_name: a task that draws example scenes.
        output: the run folder; a fresh one when None.
        epochs: passes over the scenes.
        device: where to run.
        seed: of the training.

    Returns:
        What was made; None when Ctrl-C ended the training.
    """
    started = time.monotonic()
    choose_device(device)  # before the scenes are drawn
    data = example_data(task_name, SCENES, SIZE)
    session = new_session(
        task_name,
        data=data,
        recipe_name="small",
        overrides=Overrides(epochs=epochs, size=(SIZE, SIZE), batch_size=SMALL.batch_size),
        evaluate_every=max(1, epochs // 3),
        seed=seed,
        output=output,
        device=device,
    )
    if not session.fit():
        return None
    run = session.run.path
    detector = Detector.load(run, device)
    dataset = evaluation_data(detector, run, None, None)
    done = evaluate(detector, dataset, Settings())
    samples = [dataset[index] for index in range(min(PICTURES, len(dataset)))]
    found = detector([sample.image for sample in samples])
    pairs = [
        side_by_side(
            [
                detector.task.draw(sample.image, Detections.of_truth(sample.instances)),
                detector.task.draw(sample.image, detections.above(0.3)),
            ],
            ["annotated", "detected"],
        )
        for sample, detections in zip(samples, found, strict=True)
    ]
    picture = run / "detections.png"
    write_image(picture, grid(pairs, columns=2))
    return Demonstration(run, data, picture, done.metrics, time.monotonic() - started)
