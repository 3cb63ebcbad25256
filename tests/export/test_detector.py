"""Exported files against the runs that they were made from."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from ctnet.backbones import Backbone
from ctnet.base.errors import CtnetError
from ctnet.checkpoint import Description, load, load_model
from ctnet.core.records import ImageInfo
from ctnet.core.task import list_tasks
from ctnet.export.detector import Trials, digest_of, export_detector
from ctnet.export.graph import DetectionGraph, GraphSettings
from ctnet.export.verify import FEWEST, Bounds
from ctnet.inference import DetectionSettings, Detector
from ctnet.inference.exported import ExportedNetwork
from ctnet.model import create_model

SUFFIXES = (".onnx", ".xml", ".pt2")
TASKS = [name for name in list_tasks() if name != "ctdet"]


def images(*sizes: tuple[int, int]) -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    return [rng.integers(0, 256, (height, width, 3), dtype=np.uint8) for width, height in sizes]


def check_equal(found: list, expected: list) -> None:
    assert len(found) == len(expected)
    for one, other in zip(found, expected, strict=True):
        assert len(one) == len(other) > 0
        assert one.fields().keys() == other.fields().keys()
        np.testing.assert_allclose(one.scores, other.scores, atol=1e-5)
        best = other.scores > other.scores.min() + 1e-4
        gaps = abs(one.boxes[best][:, None] - other.boxes[best]).max(axis=2).min(axis=0)
        assert gaps.max() < 0.01


@pytest.mark.export
@pytest.mark.parametrize("suffix", SUFFIXES)
def test_one_file_takes_every_batch_and_size(run_of, exported, suffix: str) -> None:
    done = exported("ctdet", suffix)
    file, run = Detector.load(done.path), Detector.load(run_of("ctdet"))
    for count, size in ((1, (128, 96)), (3, (64, 160)), (8, (32, 32)), (2, (256, 128))):
        settings = DetectionSettings(score=0.0, size=size)
        pictures = images(*[(90 + n, 70) for n in range(count)])
        check_equal(file(pictures, settings), run(pictures, settings))


class Deep(Backbone):
    """Halves its input seven times, down to one cell of the smallest input, as hourglass104 does."""

    channels, divisor, hidden = 4, 128, 4

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 4, 3, stride=4, padding=1)
        self.down = nn.Sequential(*[nn.Conv2d(4, 4, 3, stride=2, padding=1) for _ in range(5)])

    def forward(self, images: Tensor) -> list[Tensor]:
        here = self.first(images)
        return [here + nn.functional.interpolate(self.down(here), scale_factor=32.0)]


def deep(pretrained: bool = False) -> Backbone:
    return Deep()


def test_sides_stay_dynamic_with_a_large_divisor(task_of, registered_backbones) -> None:
    """torch.export takes a length of 1 as fixed, which an example of a single cell would have."""
    task = task_of("ctdet")
    with registered_backbones(deep) as name:
        description = Description.of(task, name, (128, 128))
        program = DetectionGraph(task, create_model(task, name), description, GraphSettings()).captured()
    for height, width in ((256, 384), (512, 256)):
        boxes, *_ = program.module()(torch.zeros(1, height, width, 3, dtype=torch.uint8))
        assert boxes.shape == (1, 100, 4)


@pytest.mark.export
@pytest.mark.parametrize("suffix", SUFFIXES)
def test_what_was_compared_is_in_the_file(run_of, exported, suffix: str) -> None:
    done = exported("ctdet", suffix)
    network = ExportedNetwork(done.path)
    assert network.about.verified == done.verification.to_json()
    assert network.about.verified["matched"] >= FEWEST
    assert network.about.verified["proves"]
    assert network.about.verified["maps"].keys() == {"heatmap", "size", "offset"}
    assert network.about.description == load(run_of("ctdet")).description
    assert network.about.digest == digest_of(load(run_of("ctdet")))
    assert [column.name for column in network.about.columns] == ["boxes", "scores", "labels"]
    assert network.about.operating_points is None
    assert len(network.runtime.run(images((64, 64))[0][None])) == 3, "no maps"


@pytest.mark.export
@pytest.mark.thorough
@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("name", TASKS)
def test_every_task_by_its_contract(run_of, exported, name: str, suffix: str) -> None:
    done = exported(name, suffix)
    assert max(done.verification.maps.values()) < 1e-5
    assert done.verification.proves
    assert done.verification.unmatched == 0
    declared = {column.name for column in done.exported.columns if column.kind}
    task = done.exported.description.create_task()
    assert declared <= task.fields.keys()
    pictures = images((90, 70), (140, 90))
    check_equal(Detector.load(done.path)(pictures), Detector.load(run_of(name))(pictures))


@pytest.mark.export
@pytest.mark.thorough
@pytest.mark.parametrize("suffix", SUFFIXES)
def test_other_choices(run_of, exported, suffix: str) -> None:
    settings = GraphSettings(topk=7, layout="nchw", fixed=(96, 64), flip=True)
    done = exported("ctdet", suffix, settings)
    file, run = Detector.load(done.path), Detector.load(run_of("ctdet"))
    chosen = DetectionSettings(score=0.0, topk=7, flip=True, size=(96, 64))
    pictures = images((90, 70), (40, 140))
    check_equal(file(pictures, chosen), run(pictures, chosen))
    with pytest.raises(CtnetError, match="only takes inputs of 96x64; leave out --size"):
        file(pictures, DetectionSettings(score=0.0, topk=7, size=(64, 64)))
    with pytest.raises(CtnetError, match="gives 7 detections per image, not 100; export the run with --topk"):
        file(pictures)


@pytest.mark.export
@pytest.mark.thorough
@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("name", ["ctdet", "ddd"])
def test_a_file_that_resizes(run_of, exported, name: str, suffix: str) -> None:
    done = exported(name, suffix, GraphSettings(letterbox=True))
    assert done.verification.pixels < 12
    file, run = Detector.load(done.path), Detector.load(run_of(name))
    pictures = images((90, 70), (40, 140), (128, 96))
    smooth = [np.ascontiguousarray(picture // 8 + 100) for picture in pictures]
    everything = DetectionSettings(score=0, clip=False)
    for one, other in zip(file(smooth, everything), run(smooth, everything), strict=True):
        np.testing.assert_allclose(one.scores, other.scores, atol=5e-3)
        assert one.boxes.max() < 400
    with pytest.raises(CtnetError, match="resizes every image to 128x96; leave out --size"):
        file(smooth, DetectionSettings(score=0.0, size=(64, 64)))


def test_resizing_in_the_graph_is_that_of_the_detector(run_of) -> None:
    """Up to interpolation: OpenCV rounds coordinates to 1/32 of a pixel."""
    checkpoint = load(run_of("ctdet"))
    task, model = load_model(checkpoint)
    graph = DetectionGraph(task, model.eval(), checkpoint.description, GraphSettings(letterbox=True))
    preprocess = Detector.load(run_of("ctdet")).preprocessor()
    ramp = np.linspace(0, 255, 90)[None, :, None] * np.linspace(0.3, 1, 70)[:, None, None]
    image = np.repeat(ramp, 3, axis=2).astype(np.uint8)
    ours = preprocess(image, ImageInfo(1, "x", 90, 70)).input.astype(int)
    resized = graph.resized(torch.from_numpy(image[None]))[0].numpy()
    gap = abs(ours - resized)[2:-2, 4:-4]
    assert gap.max() <= 3
    assert gap.mean() < 0.5


@pytest.mark.export
def test_a_file_that_detects_otherwise_is_not_written(run_of, monkeypatch, tmp_path: Path) -> None:
    captured = DetectionGraph.captured

    def damaged(self: DetectionGraph, with_maps: bool = True) -> torch.export.ExportedProgram:
        with torch.no_grad():
            next(self.network.parameters())[0, 0, 0, 0] += 0.02
        return captured(self, with_maps)

    monkeypatch.setattr(DetectionGraph, "captured", damaged)
    with pytest.raises(
        CtnetError, match=r"does not detect the same as the run: map heatmap differs by .*no file"
    ):
        export_detector(run_of("ctdet"), tmp_path / "x.pt2", GraphSettings(fixed=(64, 64)))
    assert list(tmp_path.iterdir()) == []


def test_too_few_detections_prove_nothing(run_of, tmp_path: Path) -> None:
    settings = GraphSettings(fixed=(64, 64))
    done = export_detector(run_of("ctdet"), tmp_path / "x.pt2", settings, trials=Trials(score=0.99999))
    assert done.verification.matched == 0
    assert not done.verification.proves
    assert done.verification.bounds == Bounds()


@pytest.mark.export
@pytest.mark.thorough
def test_a_program_runs_where_there_is_no_ctnet(exported, tmp_path: Path) -> None:
    """In a process of its own, which can import only torch, torchvision and their dependencies."""
    done = exported("ctdet", ".pt2")
    (picture,) = images((128, 96))
    np.save(tmp_path / "image.npy", picture[None])
    script = (
        "import sys; sys.modules['ctnet'] = sys.modules['cv2'] = None\n"
        "import numpy, torch, torchvision\n"
        f"detect = torch.export.load({str(done.path)!r}).module()\n"
        f"found = detect(torch.from_numpy(numpy.load({str(tmp_path / 'image.npy')!r})))\n"
        f"numpy.savez({str(tmp_path / 'found.npz')!r}, *[one.numpy() for one in found])\n"
        "assert not [name for name in sys.modules if name.startswith('ctnet.')]\n"
    )
    subprocess.run([sys.executable, "-c", script], check=True, timeout=120, cwd=tmp_path)
    found = np.load(tmp_path / "found.npz")
    (expected,) = Detector.load(done.path)(picture, DetectionSettings(size=(128, 96), clip=False))
    np.testing.assert_allclose(found["arr_1"][0], expected.scores, atol=1e-6)
    boxes = found["arr_0"][0].reshape(-1, 2, 2)  # random sizes may be negative
    corners = np.concatenate([boxes.min(axis=1), boxes.max(axis=1)], axis=1)
    np.testing.assert_allclose(corners, expected.boxes, atol=1e-3)
