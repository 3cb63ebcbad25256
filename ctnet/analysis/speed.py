"""How long a detector takes, stage by stage, on named hardware."""

from __future__ import annotations

import dataclasses
import platform
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ctnet.base.device import amp_name, choose_device
from ctnet.base.errors import CtnetError
from ctnet.base.progress import track
from ctnet.checkpoint import Description
from ctnet.core.records import ImageInfo
from ctnet.core.task import create_task, example_of, load_task_class, scenes_of
from ctnet.data.images import read_image
from ctnet.inference.detector import Detector
from ctnet.inference.settings import DetectionSettings
from ctnet.inference.timing import STAGES, Stage, StageTimes
from ctnet.model import create_model
from ctnet.report.writing import write_image
from ctnet.training.config import versions

#: (width, height) of the test images, and their number.
PICTURE = (640, 480)
_PICTURES = 8


@dataclass(frozen=True)
class Duration:
    """Time per image, milliseconds.

    Attributes:
        median: half of the repetitions were faster.
        p95: 95 % were.
    """

    median: float
    p95: float


@dataclass(frozen=True)
class Speed:
    """The measured times, and the set-up.

    Attributes:
        total: time of all stages together.
        stages: by name, see ``StageTimes``.
        images_per_second: at the median.
        repeats, warm_up: measured batches, and warm-up batches before them.
        batch_size: images per forward pass.
        size: (width, height) of the network's input, pixels.
        flip: whether the mirrored input was also processed.
        dtype: data type of the network's computation.
        task, backbone: the network.
        parameters: number of its parameters.
        hardware: the device and the processor.
        versions: the versions of the libraries, by name.
    """

    total: Duration
    stages: Mapping[Stage, Duration]
    images_per_second: float
    repeats: int
    warm_up: int
    batch_size: int
    size: tuple[int, int]
    flip: bool
    dtype: str
    task: str
    backbone: str
    parameters: int
    hardware: str
    versions: Mapping[str, str]

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for JSON; times in milliseconds per image."""
        return dataclasses.asdict(self)


def measure_speed(
    detector: Detector,
    settings: DetectionSettings | None = None,
    batch_size: int = 1,
    repeats: int = 30,
    warm_up: int = 5,
) -> Speed:
    """Time a detector, from image files to detections.

    The images are the task's synthetic scenes, 640x480 JPEG, so no data set is needed and figures of
    different detectors are comparable. Stages run one after the other in this process, and the device is
    synchronised at the end of each.

    Args:
        detector: what is measured.
        settings: flip, scales, resize, size, topk, nms, amp.
        batch_size: images per forward pass.
        repeats: measured batches.
        warm_up: batches before them.

    Raises:
        CtnetError: for a size that the network cannot take, and when there is not enough memory.
    """
    settings = settings or DetectionSettings()
    preprocess = detector.preprocessor(settings.resize, settings.size)
    measured: list[StageTimes] = []
    with tempfile.TemporaryDirectory(prefix="ctnet-speed-") as folder:
        pictures = _write_pictures(detector, Path(folder))
        size = (0, 0)
        for turn in track(range(warm_up + repeats), "timing", unit="batches"):
            times = _Synchronised(detector.device)
            batch = []
            for number in range(turn * batch_size, (turn + 1) * batch_size):
                path, info = pictures[number % len(pictures)]
                with times.stage("load"):
                    image = read_image(path)
                with times.stage("pre"):
                    batch.append(preprocess.views(image, info, settings.scales))
            detector.detect(batch, settings, times)
            size = (batch[0][0].input.shape[1], batch[0][0].input.shape[0])
            if turn >= warm_up:
                measured.append(times)
    return _summary(detector, settings, measured, batch_size, warm_up, size)


class _Synchronised(StageTimes):
    """Stage times that wait for the accelerator's queue, so that each stage includes only its own work."""

    def __init__(self, device: torch.device) -> None:
        super().__init__()
        self._device = device

    @contextmanager
    def stage(self, name: Stage) -> Iterator[None]:
        with super().stage(name):
            yield
            if self._device.type != "cpu":
                torch.accelerator.synchronize(self._device)


def _write_pictures(detector: Detector, folder: Path) -> list[tuple[Path, ImageInfo]]:
    cls = load_task_class(detector.task.name)
    rng = np.random.default_rng(0)
    pictures = []
    for number in range(_PICTURES):
        path = folder / f"{number}.jpg"
        try:
            sample = example_of(create_task(cls.name, scenes_of(cls).categories), rng, PICTURE)
            image, record = sample.image, sample.info.record
        except CtnetError:  # a task without scenes
            coarse = rng.integers(0, 256, (PICTURE[1] // 16, PICTURE[0] // 16, 3), dtype=np.uint8)
            image, record = coarse.repeat(16, axis=0).repeat(16, axis=1), {}
        write_image(path, image)
        pictures.append((path, ImageInfo(number, path.name, image.shape[1], image.shape[0], record)))
    return pictures


def _summary(
    detector: Detector,
    settings: DetectionSettings,
    measured: list[StageTimes],
    batch_size: int,
    warm_up: int,
    size: tuple[int, int],
) -> Speed:
    per_image = {
        name: 1000 / batch_size * np.array([times.seconds[name] for times in measured]) for name in STAGES
    }
    total = _duration(np.sum(list(per_image.values()), axis=0))
    description, exported = detector.description, detector.exported
    dtype: str = "float32" if settings.amp is None else amp_name(settings.amp)
    if exported is not None:
        dtype = "int8" if exported.about.int8 else "float16" if exported.about.half else "float32"
        parameters, flip = exported.about.parameters, exported.about.flip
    else:
        parameters = sum(parameter.numel() for parameter in detector.model.parameters())
        flip = settings.flip
    return Speed(
        total=total,
        stages={name: _duration(values) for name, values in per_image.items()},
        images_per_second=1000 / total.median,
        repeats=len(measured),
        warm_up=warm_up,
        batch_size=batch_size,
        size=size,
        flip=flip,
        dtype=dtype,
        task=description.task,
        backbone=description.backbone,
        parameters=parameters,
        hardware=hardware(detector.device),
        versions={**versions(), "torchvision": metadata.version("torchvision")},
    )


def _duration(values: np.ndarray) -> Duration:
    return Duration(float(np.median(values)), float(np.percentile(values, 95)))


def untrained_detector(task_name: str, backbone: str, device: str = "auto") -> Detector:
    """A task for 80 classes with this backbone and random weights: as fast as a trained one."""
    task = create_task(task_name, [{"id": n, "name": f"class {n}"} for n in range(1, 81)])
    model = create_model(task, backbone)
    about = Description.of(task, backbone, (512, 512), model.backbone)
    return Detector(task, model, about, choose_device(device))


def hardware(device: torch.device) -> str:
    """A description of the device: its model, and for a CPU the number of threads."""
    processor = f"{_processor()}, {torch.get_num_threads()} threads"
    if device.type == "cuda":
        return f"{torch.cuda.get_device_name(device)} ({processor})"
    return processor if device.type == "cpu" else f"{device.type} ({processor})"


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()
