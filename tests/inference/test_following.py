"""Streams: what the network is shown of the past, when following starts over, and what is written."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import cv2
import numpy as np
import pytest
import torch

from ctnet.base.errors import CtnetError
from ctnet.checkpoint import Description
from ctnet.core.frames import Frames, Identity
from ctnet.core.records import Detections, ImageInfo
from ctnet.core.tracking import OverlapTracker
from ctnet.data.shape_scenes import SHAPES
from ctnet.inference.detector import Detector
from ctnet.inference.following import CUT, Following
from ctnet.inference.prediction import predict
from ctnet.inference.preprocessing import Preprocessor
from ctnet.inference.settings import DetectionSettings
from ctnet.inference.sources import Frame, Source, open_sources
from ctnet.model import create_model
from ctnet.tasks.ctdet import CenterDetection


class Two(CenterDetection):
    """ctdet that sees two frames."""

    frames: ClassVar[Any] = Frames(count=2, planes=1, tracker=OverlapTracker)
    fields: ClassVar[Any] = {"track_id": Identity(json="track_id")}


@dataclass
class Seen:
    """A detector of one square per bright spot, which keeps what the network was shown."""

    inputs: list[np.ndarray]


def detector_of(kind: type[CenterDetection], monkeypatch: pytest.MonkeyPatch) -> tuple[Detector, Seen]:
    """A detector whose detections are the bright pixels of the frame."""
    torch.manual_seed(0)
    task = kind(SHAPES)
    detector = Detector(task, create_model(task, "light16"), Description.of(task, "light16", (64, 64)))
    seen = Seen([])

    def detect(batch: Any, *_: Any) -> list[Detections]:
        found = []
        for views in batch:
            seen.inputs.append(views[0].input)
            spots = np.argwhere(views[0].input[:, :, 0] > 250)[:, ::-1].astype(np.float32)
            boxes = np.concatenate([spots - 6, spots + 6], axis=1)
            scores, labels = np.full(len(spots), 0.9, np.float32), np.zeros(len(spots), np.int64)
            found.append(Detections(views[0].affine.inverse().boxes(boxes), scores, labels))
        return found

    monkeypatch.setattr(detector, "detect", detect)
    return detector, seen


def frame(x: int, y: int = 20, grey: int = 60, size: tuple[int, int] = (64, 64)) -> np.ndarray:
    image = np.full((size[1], size[0], 3), grey, np.uint8)
    image[y, x] = 255
    return image


def test_the_network_is_shown_the_last_frame_and_its_objects(monkeypatch) -> None:
    detector, seen = detector_of(Two, monkeypatch)
    list(detector.stream([frame(10), frame(14)]))
    first, second = seen.inputs
    assert first.shape == second.shape == (64, 64, 7)
    assert np.array_equal(first[..., :3], first[..., 3:6])  # the first frame is its own past
    assert not first[..., 6].any()
    assert np.array_equal(second[..., 3:6], first[..., :3])
    assert np.unravel_index(second[..., 6].argmax(), (64, 64)) == (20, 10)


def test_single_images_are_first_frames(monkeypatch) -> None:
    detector, seen = detector_of(Two, monkeypatch)
    detector([frame(10), frame(30)])
    for shown in seen.inputs:
        assert np.array_equal(shown[..., :3], shown[..., 3:6])
        assert not shown[..., 6].any()


def identities(stream: Any) -> list[list[int]]:
    return [one.detections.track_id.tolist() for one in stream]


@pytest.mark.parametrize("kind", [CenterDetection, Two])
def test_a_cut_and_another_size_start_over(kind, monkeypatch) -> None:
    detector, _ = detector_of(kind, monkeypatch)
    same = [frame(10), frame(13)]
    assert identities(detector.stream(same)) == [[1], [1]]
    dark = [frame(10), frame(13, grey=round(60 + 0.9 * CUT)), frame(13, grey=round(60 + 2 * CUT))]
    assert identities(detector.stream(dark)) == [[1], [1], [2]]
    larger = [frame(10), frame(13, size=(64, 48)), frame(13, size=(64, 48))]
    assert identities(detector.stream(larger)) == [[1], [2], [2]]


def source(*frames: Frame) -> Source:
    return Source("camera", True, len(frames), lambda: iter(frames), "camera")


LOST = Frame(None, "camera", problem="camera: frame 3 cannot be read")
BROKEN = Frame(None, "camera", note="camera: the connection broke for 10 seconds; it was opened again")


@pytest.mark.parametrize(
    ("between", "expected"),
    [([LOST] * 2, [1, 1, 1]), ([BROKEN], [1, 1, 2]), ([LOST] * 40, [1, 1, 2])],
    ids=["lost frames are bridged", "a dropped stream starts over", "too many lost frames"],
)
@pytest.mark.parametrize("kind", [CenterDetection, Two])
def test_frames_that_are_missing(kind, between, expected, monkeypatch, tmp_path) -> None:
    detector, _ = detector_of(kind, monkeypatch)
    shown = [Frame(frame(x), f"camera_{x:06d}") for x in (10, 14, 18)]
    given = source(*shown[:2], *between, shown[2])
    monkeypatch.setattr("ctnet.inference.sources.open_sources", lambda _: [given])
    assert [ids[0] for ids in identities(detector.stream("camera"))] == expected
    done = predict(detector, [given], tmp_path, batch_size=2, draw=False, track_objects=True)
    assert [entry["track_id"] for entry in done.results] == expected  # nothing is lost
    lines = (tmp_path / "camera.txt").read_text().splitlines()
    lost = len(between) if between[0] is LOST else 0
    assert [line.split(",")[0] for line in lines] == ["1", "2", str(3 + lost)]


def test_batches_do_not_change_tracks(monkeypatch, tmp_path) -> None:
    rng = np.random.default_rng(0)
    films = {}
    for name in ("one", "two"):
        folder = tmp_path / "films" / name
        folder.mkdir(parents=True)
        for number in range(7):
            image = frame(8 + 5 * number, int(rng.integers(18, 24)))
            image[44, 60 - 6 * number] = 255
            cv2.imwrite(str(folder / f"{number:03d}.png"), image)
        films[name] = folder
    for kind in (CenterDetection, Two):
        detector, _ = detector_of(kind, monkeypatch)
        written = []
        for batch_size in (1, 3, 8):
            out = tmp_path / f"{kind.__name__}{batch_size}"
            predict(
                detector, open_sources([str(tmp_path / "films")]), out, None, batch_size, True, None, True
            )
            written.append([(out / f"{name}.txt").read_text() for name in films])
            assert sorted(path.name for path in (out / "one").iterdir())[0] == "000.png"
        assert written[0] == written[1] == written[2]
        assert {line.split(",")[1] for line in written[0][0].splitlines()} == {"1", "2"}
        assert written[0][0] != written[0][1]  # another folder is another video, with identities from 1


def test_a_video_is_drawn_with_trails_and_results_have_identities(monkeypatch, tmp_path) -> None:
    path = tmp_path / "film.avi"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 10, (64, 64))
    for number in range(6):
        image = np.full((64, 64, 3), 60, np.uint8)
        cv2.circle(image, (10 + 6 * number, 20), 3, (255, 255, 255), -1)
        writer.write(image)
    writer.release()
    detector, _ = detector_of(CenterDetection, monkeypatch)
    plain = predict(detector, open_sources([str(path)]), tmp_path / "plain")
    done = predict(detector, open_sources([str(path)]), tmp_path / "out", track_objects=True)
    assert "track_id" not in plain.results[0]
    assert plain.tracks == []
    assert [path.name for path in done.tracks] == ["film.txt"]
    assert (tmp_path / "out" / "film.mp4").stat().st_size > 0
    stored = json.loads((tmp_path / "out" / "results.json").read_text())
    assert stored == done.results
    assert all(isinstance(entry["track_id"], int) for entry in stored)
    line = (tmp_path / "out" / "film.txt").read_text().splitlines()[0].split(",")
    x, y, width, height = stored[0]["bbox"]
    assert [float(word) for word in line[2:6]] == pytest.approx([x, y, width, height], abs=0.01)
    assert line[7:] == ["1", "-1", "-1"]


def test_a_stream_is_one_video(tmp_path, monkeypatch) -> None:
    detector, _ = detector_of(CenterDetection, monkeypatch)
    for name in ("a.avi", "b.avi"):
        writer = cv2.VideoWriter(str(tmp_path / name), cv2.VideoWriter.fourcc(*"MJPG"), 10, (64, 64))
        writer.write(frame(10))
        writer.release()
    with pytest.raises(CtnetError, match=r"holds several videos .* a stream is one of them: name it"):
        next(detector.stream(tmp_path))
    with pytest.raises(CtnetError, match="nowhere does not exist"):
        next(detector.stream(tmp_path / "nowhere"))


def test_tiles_are_refused_for_two_frames(monkeypatch) -> None:
    detector, _ = detector_of(Two, monkeypatch)
    with pytest.raises(CtnetError, match="sees two frames at once, which are not cut into tiles"):
        detector(frame(10), DetectionSettings(tiles=64))


def test_what_is_kept_of_a_stream_does_not_grow(monkeypatch) -> None:
    following = Following(Two(SHAPES))
    preprocess = Preprocessor("fix", (64, 64), 32, frames=Two.frames)
    sizes = set()
    for number in range(200):
        image = frame(5 + number % 50)
        views = following.views((preprocess(image, ImageInfo(0, "", 64, 64)),))
        boxes = np.array([[number % 50, 10, number % 50 + 12, 22]], np.float32)
        following.update(Detections(boxes, np.array([0.9], np.float32), np.zeros(1, np.int64)))
        assert views[0].input.shape == (64, 64, 7)
        sizes.add(len(following.tracker.objects))
    assert max(sizes) <= 4


def test_a_network_of_two_frames_starts_as_that_of_one() -> None:
    torch.manual_seed(0)
    one, two = create_model(CenterDetection(SHAPES), "light32"), create_model(Two(SHAPES), "light32")
    report = two.load_state_dict(one.state_dict(), strict=False)
    assert not report.unexpected_keys
    assert all(key.startswith("earlier.") for key in report.missing_keys)
    images = torch.rand(2, 7, 64, 96)
    one.eval(), two.eval()
    with torch.no_grad():
        before, after = one.activated(images[:, :3]), two.activated(images)
    for name, values in before.items():
        assert torch.equal(values, after[name])
    two.train()
    sum(raw.square().sum() for raw in two(images)[-1].values()).backward()
    assert two.earlier.join.weight.grad.abs().max() > 0  # and it learns


def test_a_description_has_a_mean_for_every_channel(tmp_path) -> None:
    from ctnet.checkpoint import load, load_model, save

    class Named(Two):
        name = "ctdet"

    task = Named(SHAPES)
    described = Description.of(task, "light16", (64, 64))
    assert (len(described.mean), len(described.std)) == (7, 7)
    model = create_model(CenterDetection(SHAPES), "light16")
    save(tmp_path / "damaged.pt", described, model.state_dict())
    with pytest.raises(CtnetError, match="has 7 means and 7 deviations for an input of 3 channels"):
        load_model(load(tmp_path / "damaged.pt"))
    assert replace(described, mean=described.mean[:3]).mean == described.mean[:3]
