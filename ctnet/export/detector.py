"""From a trained detector to a file, compared with it before it appears."""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from ctnet.base.errors import CtnetError
from ctnet.base.progress import track
from ctnet.base.version import __version__
from ctnet.checkpoint import Checkpoint, load, load_model
from ctnet.checkpoint.exported import Exported
from ctnet.core.records import ImageInfo
from ctnet.core.task import Task, example_of
from ctnet.data.dataset import Dataset
from ctnet.export.graph import DetectionGraph, GraphSettings, check_topk
from ctnet.export.verify import HALF, Bounds, Verification
from ctnet.export.writers import format_of
from ctnet.inference.detector import Detector, checkpoint_of
from ctnet.inference.exported import ExportedNetwork
from ctnet.inference.preprocessing import Prepared
from ctnet.inference.settings import DetectionSettings
from ctnet.inference.timing import StageTimes

#: Images that a file is compared on, of a data set or of the task's own scenes.
IMAGES = 24


@dataclass(frozen=True)
class ExportReport:
    """What an export did.

    Attributes:
        path: of the file.
        exported: what the file says of itself.
        verification: what comparing it with the detector showed.
    """

    path: Path
    exported: Exported
    verification: Verification


def export_detector(
    run: str | Path,
    output: str | Path,
    settings: GraphSettings | None = None,
    opset: int | None = None,
    data: Dataset | None = None,
    score: float = 0.1,
) -> ExportReport:
    """Write a detector as one file for a runtime, if it detects there what it detects here.

    Args:
        run: a run folder or a checkpoint.
        output: the file; its suffix says for which runtime (.onnx, .xml, .pt2).
        settings: what the graph does.
        opset: version of ONNX's operators; the exporter's own when None.
        data: images to compare on; the task's own scenes when None.
        score: above which detections are compared.

    Raises:
        CtnetError: for a run that cannot be read, a runtime that is missing, a network that its exporter
            refuses, and when the file's detections lie beyond the bounds: no file is written then.
    """
    settings, path = settings or GraphSettings(), Path(output)
    check_topk(settings.topk)
    kind = format_of(path)
    checkpoint = load(checkpoint_of(run))
    task, model = load_model(checkpoint)
    graph = DetectionGraph(task, model.eval(), checkpoint.description, settings)
    write = kind.convert(graph, opset)
    exported = Exported(
        checkpoint.description,
        graph.columns,
        graph.topk,
        settings.layout,
        model.backbone.divisor,
        settings.fixed,
        settings.flip,
        settings.half,
        digest_of(checkpoint),
        versions={"ctnet": __version__, "torch": torch.__version__},
    )
    detector = Detector(task, model, checkpoint.description)
    with tempfile.TemporaryDirectory() as folder:
        trial = Path(folder) / path.name
        write(trial, exported, True)
        network = ExportedNetwork(trial)
        looked = _verified(detector, network, graph, settings, data, score)
    if failures := looked.failures():
        raise CtnetError(
            f"{network.runtime.name} does not detect what the run does: {'; '.join(failures)}; "
            "no file was written"
        )
    exported = replace(exported, verified=looked.to_json())
    write(path, exported, False)
    return ExportReport(path, exported, looked)


def digest_of(checkpoint: Checkpoint) -> str:
    """SHA-256 of the weights: of names, types and bytes, in order of names."""
    digest = hashlib.sha256()
    for name, tensor in sorted(checkpoint.weights.items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.contiguous().view(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def _verified(
    detector: Detector,
    network: ExportedNetwork,
    graph: DetectionGraph,
    settings: GraphSettings,
    data: Dataset | None,
    score: float,
) -> Verification:
    """Maps and detections of file and detector on the same inputs."""
    looked = Verification(network.runtime.name, score, settings.topk, HALF if settings.half else Bounds())
    chosen = DetectionSettings(flip=settings.flip, topk=settings.topk, size=settings.fixed)
    preprocess = detector.preprocessor("fix", settings.fixed)
    times = StageTimes()
    pictures = _Pictures(detector.task, data)
    for image, info in track(pictures, f"comparing with {network.runtime.name}", total=len(pictures)):
        views = preprocess.views(image, info, (1.0,))
        maps = detector.maps(views, settings.flip)
        given = network.runtime.run(_stacked(views, settings))
        for name, values in zip(graph.maps, given[len(graph.columns) :], strict=True):
            looked.take_maps(name, maps[name.removeprefix("map_")].numpy(), values)
        (expected,) = detector.detect([views], chosen)
        (got,) = network.look(views, chosen, times)
        looked.take(detector.task, expected, got)
    return looked


def _stacked(views: Sequence[Prepared], settings: GraphSettings) -> np.ndarray:
    images = np.stack([view.input for view in views])
    return np.ascontiguousarray(images.transpose(0, 3, 1, 2)) if settings.layout == "nchw" else images


class _Pictures:
    """Images with what is known of them: the first of a data set, or scenes of the task's own."""

    def __init__(self, task: Task, data: Dataset | None) -> None:
        self._task, self._data = task, data

    def __len__(self) -> int:
        return IMAGES if self._data is None else min(IMAGES, len(self._data))

    def __iter__(self) -> Iterator[tuple[np.ndarray, ImageInfo]]:
        rng = np.random.default_rng(0)
        for index in range(len(self)):
            sample = self._data[index] if self._data is not None else example_of(self._task, rng)
            yield sample.image, sample.info
