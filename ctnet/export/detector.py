"""Exporting a trained detector to a file, and comparing the two before the file is kept."""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from ctnet.base.errors import CtnetError
from ctnet.base.progress import track
from ctnet.base.version import __version__
from ctnet.checkpoint import Checkpoint, load, load_model
from ctnet.checkpoint.exported import Exported
from ctnet.core.frames import Frames, prior_planes
from ctnet.core.records import ImageInfo
from ctnet.core.task import Task, example_of
from ctnet.data.dataset import Dataset
from ctnet.export.graph import DetectionGraph, GraphSettings
from ctnet.export.verify import Verification, bounds_of
from ctnet.export.writers import format_of
from ctnet.inference.decoding import decode
from ctnet.inference.detector import Detector, checkpoint_of
from ctnet.inference.exported import ExportedNetwork, in_layout
from ctnet.inference.preprocessing import Prepared, first_frame
from ctnet.inference.settings import DetectionSettings

#: Number of images to calibrate 8-bit convolutions on.
CALIBRATION = 64


@dataclass(frozen=True)
class Trials:
    """What to compare the file with the detector on.

    Attributes:
        data: the images; the task's own scenes when None.
        images: how many are compared, at most.
        score: detections above this score are matched one to one.
        calibration: images from which 8-bit convolutions learn their value ranges; None: full precision.
        measure: gives a detector's metrics on data with ground truth, called for detector and file; None
            measures nothing.
    """

    data: Dataset | None = None
    images: int = 64
    score: float = 0.1
    calibration: Dataset | None = None
    measure: Callable[[Detector], dict[str, float]] | None = None


@dataclass(frozen=True)
class ExportReport:
    """What an export did.

    Attributes:
        path: the file.
        exported: the file's own description.
        verification: the result of comparing it with the detector.
    """

    path: Path
    exported: Exported
    verification: Verification


def export_detector(
    run: str | Path,
    output: str | Path,
    settings: GraphSettings | None = None,
    opset: int | None = None,
    trials: Trials | None = None,
) -> ExportReport:
    """Export a detector to one file, provided that the file detects the same as the detector.

    Args:
        run: a run folder or a checkpoint.
        output: the file; its suffix chooses the runtime (.onnx, .xml, .pt2).
        settings: what the graph does.
        opset: ONNX operator set version; the exporter's default when None.
        trials: what to compare the file on.

    Raises:
        CtnetError: for a run that cannot be read, a runtime that is missing, a network that the exporter
            refuses, and when the file's maps or detections exceed the bounds: then no file is written.
    """
    settings, trials, path = settings or GraphSettings(), trials or Trials(), Path(output)
    kind = format_of(path)
    checkpoint = load(checkpoint_of(run))
    task, model = load_model(checkpoint)
    graph = DetectionGraph(task, model.eval(), checkpoint.description, settings)
    detector = Detector(task, model, checkpoint.description)
    calibration = trials.calibration
    inputs = None if calibration is None else list(_inputs(detector, graph, calibration))
    write = kind.convert(graph, opset, inputs)
    exported = replace(_described(checkpoint, graph), int8=trials.calibration is not None)
    with tempfile.TemporaryDirectory() as folder:
        trial = Path(folder) / path.name
        write(trial, exported, True)
        network = ExportedNetwork(trial)
        seen = _compared(detector, network, graph, trials)
        if failures := seen.failures():
            raise CtnetError(
                f"{network.runtime.name} does not detect the same as the run: {'; '.join(failures)}; "
                "no file was written"
            )
        if trials.measure is not None:
            before, after = (trials.measure(one) for one in (detector, Detector.of_export(network)))
            seen.figures = {name: (before[name], after[name]) for name in before if name in after}
    exported = replace(exported, verified=seen.to_json())
    write(path, exported, False)
    return ExportReport(path, exported, seen)


def _described(checkpoint: Checkpoint, graph: DetectionGraph) -> Exported:
    settings = graph.settings
    return Exported(
        checkpoint.description,
        graph.columns,
        graph.topk,
        settings.layout,
        graph.network.backbone.divisor,
        fixed=None if settings.letterbox else settings.fixed,
        letterbox=graph.letterbox,
        flip=settings.flip,
        half=settings.half,
        parameters=sum(parameter.numel() for parameter in graph.network.parameters()),
        digest=digest_of(checkpoint),
        operating_points=checkpoint.operating_points,
        versions={"ctnet": __version__, "torch": torch.__version__},
    )


def digest_of(checkpoint: Checkpoint) -> str:
    """SHA-256 of the weights: names, types and bytes, sorted by name."""
    digest = hashlib.sha256()
    for name, tensor in sorted(checkpoint.weights.items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.contiguous().view(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def _compared(
    detector: Detector, network: ExportedNetwork, graph: DetectionGraph, trials: Trials
) -> Verification:
    """Compare the maps and detections of file and detector on the same inputs."""
    settings = graph.settings
    seen = Verification(network.runtime.name, trials.score, settings.topk, bounds_of(network.about))
    chosen = DetectionSettings(flip=settings.flip, topk=settings.topk, size=settings.fixed)
    preprocess = detector.preprocessor("fix", settings.fixed)
    pictures = _Pictures(detector.task, trials.data, trials.images)
    for image, info in track(pictures, f"comparing with {network.runtime.name}", total=len(pictures)):
        views = given = (_with_past(preprocess(image, info), detector.task.frames),)
        if graph.letterbox is not None:
            given = (_with_past(network.preprocessor(preprocess)(image, info), detector.task.frames),)
            shown = torch.from_numpy(given[0].input[None])
            resized = graph.resized(shown)[0].numpy().astype(np.uint8)
            seen.take_resized(views[0].input[:, :, :3], resized[:, :, :3])
            views = (replace(views[0], input=resized),)
        maps = detector.maps(views, settings.flip)
        outputs = network.outputs(given)
        for name, values in zip(graph.maps, outputs[len(graph.columns) :], strict=True):
            seen.take_maps(name.removeprefix("map_"), maps[name.removeprefix("map_")].numpy(), values)
        (expected,) = decode(detector.task, maps, [views[0].view(detector.description.stride)], chosen)
        (got,) = network.read(outputs, given, chosen)
        seen.take(detector.task, expected, got)
    return seen


def _with_past(view: Prepared, frames: Frames) -> Prepared:
    """A view with something to see in the earlier frame and in its planes, for tasks that are shown them."""
    if frames.count == 1:
        return view
    image = view.input[:, :, :3]
    height, width = image.shape[:2]
    corners = np.array([[0.1, 0.2], [0.5, 0.4], [0.3, 0.7]]) * [width, height]
    boxes = np.concatenate([corners, corners + 0.2 * min(width, height)], axis=1)
    planes = prior_planes(boxes, np.arange(3) % max(frames.planes, 1), frames.planes, (width, height))
    return replace(view, input=np.concatenate([image, np.roll(image, 5, axis=1), planes], axis=2))


def _inputs(detector: Detector, graph: DetectionGraph, data: Dataset) -> Iterator[np.ndarray]:
    """Batches of one image in the form that the file takes."""
    preprocess = detector.preprocessor("fix", graph.settings.fixed)
    for image, info in _Pictures(detector.task, data, CALIBRATION):
        frames = detector.task.frames
        shown = first_frame(image, frames) if graph.letterbox is not None else preprocess(image, info).input
        yield in_layout([shown], graph.settings.layout)


class _Pictures:
    """Images with their information: the first of a data set, or scenes that the task draws."""

    def __init__(self, task: Task, data: Dataset | None, most: int) -> None:
        self._task, self._data, self._most = task, data, most

    def __len__(self) -> int:
        return self._most if self._data is None else min(self._most, len(self._data))

    def __iter__(self) -> Iterator[tuple[np.ndarray, ImageInfo]]:
        rng = np.random.default_rng(0)
        for index in range(len(self)):
            sample = self._data[index] if self._data is not None else example_of(self._task, rng)
            yield sample.image, sample.info
