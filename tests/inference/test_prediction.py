from __future__ import annotations

import json
import os
import sys
import threading
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from ctnet.base.errors import CtnetError
from ctnet.core.documents import results_of
from ctnet.data.images import read_image
from ctnet.inference import prediction
from ctnet.inference.prediction import predict
from ctnet.inference.settings import DetectionSettings
from ctnet.inference.sources import Frame, Source, open_sources


@pytest.fixture
def photos(tmp_path: Path, random_image) -> Path:
    folder = tmp_path / "photos"
    for number, name in enumerate(("a.png", "b.jpg", "deep/a.png", "c.bmp")):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(folder / name), random_image(60 + number, 40, number))
    return folder


def write_video(path: Path, frames: int = 5) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 10, (64, 48))
    for number in range(frames):
        writer.write(np.full((48, 64, 3), 40 * number, np.uint8))
    writer.release()
    return path


def run(detector, folder: Path, *sources: object, **choices):
    rest = {name: choices.pop(name) for name in ("batch_size", "draw", "camera") if name in choices}
    settings = DetectionSettings(**choices)
    return predict(detector, open_sources([str(source) for source in sources]), folder, settings, **rest)


def files(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def test_pictures_and_results_are_written(detector, photos: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    done = run(detector, out, photos, score=0.0, topk=4, clip=False, batch_size=3)
    assert files(out) == ["a.png", "b.jpg", "c.png", "deep/a.png", "images.json", "results.json"]
    images, results = (json.loads((out / name).read_text()) for name in ("images.json", "results.json"))
    assert images == done.images
    assert results == done.results
    assert [image["file_name"] for image in images] == ["a.png", "b.jpg", "c.bmp", "deep/a.png"]
    assert [image["width"] for image in images] == [60, 61, 63, 62]
    assert [entry["image_id"] for entry in results] == [i for i in (1, 2, 3, 4) for _ in range(4)]
    assert {(entry["category_id"], entry["category_name"]) for entry in results} <= {(3, "ball"), (8, "box")}
    assert [image["picture"] for image in images] == ["a.png", "b.jpg", "c.png", "deep/a.png"]
    for image in images:
        expected = detector(photos / image["file_name"], DetectionSettings(score=0.0, topk=4, clip=False))[0]
        boxes = np.array([entry["bbox"] for entry in results if entry["image_id"] == image["id"]])
        boxes[:, 2:] += boxes[:, :2]
        np.testing.assert_allclose(boxes, expected.boxes, atol=2e-3)
    assert read_image(out / "c.png").shape == (40, 63, 3)


def test_the_score_decides_what_is_kept(detector, photos: Path, tmp_path: Path) -> None:
    everything = run(detector, tmp_path / "all", photos, score=0.0).results
    middle = sorted(entry["score"] for entry in everything)[len(everything) // 2]
    kept = run(detector, tmp_path / "some", photos, score=middle + 1e-6, draw=False).results
    assert kept == [entry for entry in everything if entry["score"] > middle + 1e-6]
    assert not run(detector, tmp_path / "none", photos, score=1.0).results
    assert files(tmp_path / "some") == ["images.json", "results.json"]
    assert {image["picture"] for image in json.loads((tmp_path / "some/images.json").read_text())} == {None}


def test_only_what_is_kept_is_drawn(detector, photos: Path, tmp_path: Path) -> None:
    run(detector, tmp_path / "none", photos / "a.png", score=1.0)
    run(detector, tmp_path / "all", photos / "a.png", score=0.0)
    original = read_image(photos / "a.png")
    np.testing.assert_array_equal(read_image(tmp_path / "none" / "a.png"), original)
    assert not np.array_equal(read_image(tmp_path / "all" / "a.png"), original)


def test_unreadable_images_are_listed_and_the_rest_is_done(detector, photos: Path, tmp_path: Path) -> None:
    (photos / "aa.png").write_bytes(b"nonsense")
    data = (photos / "b.jpg").read_bytes()
    (photos / "b.jpg").write_bytes(data[: len(data) // 2])
    done = run(detector, tmp_path / "out", photos, batch_size=2)
    assert [image["file_name"] for image in done.images] == ["a.png", "c.bmp", "deep/a.png"]
    assert [image["id"] for image in done.images] == [1, 2, 3]
    assert len(done.problems) == 2
    assert "aa.png is not an image" in done.problems[0]
    assert "b.jpg is cut short" in done.problems[1]


def test_pictures_of_one_name_do_not_replace_each_other(detector, photos: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    done = run(detector, out, photos / "a.png", photos / "deep", photos / "deep" / "a.png")
    assert [path.name for path in done.pictures] == ["a.png", "a_2.png", "a_3.png"]
    assert [read_image(path).shape[1] for path in done.pictures] == [60, 62, 62]
    assert [image["source"] for image in done.images] == [
        str(photos / name) for name in ("a.png", "deep", "deep/a.png")
    ]


def test_names_that_differ_in_case_alone_are_kept_apart(detector, photos: Path, tmp_path: Path) -> None:
    (photos / "a.png").rename(photos / "B.JPG")
    done = run(detector, tmp_path / "out", photos)
    assert len({str(path).lower() for path in done.pictures}) == len(done.pictures) == 4


def test_images_that_are_read_are_never_replaced(detector, photos: Path) -> None:
    before = (photos / "a.png").read_bytes()
    with pytest.raises(CtnetError, match=r"a\.png is an input image, .*another --output"):
        run(detector, photos, photos)
    with pytest.raises(CtnetError, match="is an input image"):
        run(detector, photos / "deep" / "..", photos / "a.png")
    assert (photos / "a.png").read_bytes() == before
    assert run(detector, photos / "deep", photos / "b.jpg").pictures == [photos / "deep" / "b.jpg"]


def test_a_video_becomes_a_video(detector, tmp_path: Path) -> None:
    video = write_video(tmp_path / "clip.avi")
    done = run(detector, tmp_path / "out", video, score=0.0, topk=2, clip=False, batch_size=2)
    assert done.pictures == [tmp_path / "out" / "clip.mp4"]
    assert [image["picture"] for image in done.images] == ["clip.mp4"] * 5
    assert [image["file_name"] for image in done.images] == [f"clip_{i:06d}" for i in range(5)]
    assert len(done.results) == 10
    drawn = cv2.VideoCapture(str(done.pictures[0]))
    assert drawn.get(cv2.CAP_PROP_FPS) == 10
    assert (drawn.get(cv2.CAP_PROP_FRAME_WIDTH), drawn.get(cv2.CAP_PROP_FRAME_HEIGHT)) == (64, 48)
    assert sum(drawn.read()[0] for _ in range(9)) == 5


def test_videos_of_one_name_do_not_replace_each_other(detector, tmp_path: Path) -> None:
    videos = [write_video(tmp_path / place / "clip.avi") for place in ("a", "b")]
    done = run(detector, tmp_path / "out", *videos)
    assert [path.name for path in done.pictures] == ["clip.mp4", "clip_2.mp4"]
    assert all(path.stat().st_size for path in done.pictures)


def test_a_video_that_is_read_is_never_replaced(detector, tmp_path: Path) -> None:
    video = write_video(tmp_path / "clip.avi").rename(tmp_path / "clip.mp4")
    before = video.read_bytes()
    with pytest.raises(CtnetError, match="is an input image"):
        run(detector, tmp_path, video)
    assert video.read_bytes() == before


def test_ctrl_c_keeps_what_was_done(detector, photos: Path, tmp_path: Path, monkeypatch) -> None:
    video, written = write_video(tmp_path / "clip.avi"), []

    class Interrupting(prediction.VideoFile):
        def write(self, name: str, image: np.ndarray) -> Path:
            if len(written) == 3:
                raise KeyboardInterrupt
            written.append(name)
            return super().write(name, image)

    monkeypatch.setattr(prediction, "VideoFile", Interrupting)
    done = run(detector, tmp_path / "out", photos / "a.png", video, photos)
    assert done.interrupted
    assert [path.name for path in done.pictures] == ["a.png", "clip.mp4"]
    assert files(tmp_path / "out") == ["a.png", "clip.mp4", "images.json", "results.json"]
    assert len(json.loads((tmp_path / "out" / "images.json").read_text())) == 5


@pytest.mark.parametrize(("count", "rest"), [(2, ""), (8, r" \(and 5 more\)")])
def test_all_that_could_not_be_read_is_named(detector, tmp_path: Path, count: int, rest: str) -> None:
    for number in range(count):
        (tmp_path / f"{number}.png").write_bytes(b"no image")
    each = "; ".join(rf"\S+{number}\.png is not an image[^;]+; replace it" for number in range(min(count, 3)))
    with pytest.raises(CtnetError, match=f"^no image could be read: {each}{rest}$"):
        run(detector, tmp_path / "out", tmp_path)


def test_a_stream_that_gives_nothing_says_why(detector, tmp_path: Path) -> None:
    ended = Frame(None, "http://camera", note="http://camera ends after 0 of 20 frames")
    source = Source("http://camera", True, None, lambda: iter([ended]), "camera")
    with pytest.raises(CtnetError, match=r"^no image could be read: http:.*ends after 0 of 20 frames$"):
        predict(detector, [source], tmp_path)


@pytest.mark.parametrize("kind", ["image", "video"])
def test_an_impossible_folder_is_named(detector, photos: Path, tmp_path: Path, kind: str) -> None:
    source = photos if kind == "image" else write_video(tmp_path / "clip.avi")
    with pytest.raises(CtnetError, match=r"cannot write .*b\.jpg"):
        run(detector, photos / "b.jpg" / "out", source)


def test_drawing_knows_the_image(detector, photos: Path, tmp_path: Path, monkeypatch) -> None:
    seen = []

    def draw(image, detections, info):
        seen.append((info.image_id, info.file_name, info.width, info.height))
        return image

    monkeypatch.setattr(detector.task, "draw", draw)
    done = run(detector, tmp_path / "out", photos, batch_size=3)
    assert seen == [
        (image["id"], image["file_name"], image["width"], image["height"]) for image in done.images
    ]


def test_test_time_settings_are_the_detectors(detector, photos: Path, tmp_path: Path) -> None:
    choices = {"flip": True, "scales": (0.5, 1.0), "nms": "hard", "topk": 5}
    done = run(detector, tmp_path / "out", photos / "a.png", score=0.0, draw=False, **choices)
    [found] = detector(photos / "a.png", DetectionSettings(score=0.0, **choices))
    entries = zip(results_of(detector.task, 1, found), found.names, strict=True)
    assert done.results == [{**entry, "category_name": name} for entry, name in entries]


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="names are bytes on Linux")
def test_names_of_another_encoding_cost_no_result(detector, photos: Path, tmp_path: Path) -> None:
    name = os.fsdecode(b"caf\xe9.png")
    (photos / "b.jpg").rename(photos / name)
    done = run(detector, tmp_path / "out", photos, score=0.0)
    images = json.loads((tmp_path / "out/images.json").read_text(encoding="utf-8"))
    assert [image["file_name"] for image in images] == ["a.png", "c.bmp", name, "deep/a.png"]
    assert len(json.loads((tmp_path / "out/results.json").read_text())) == len(done.results)
    assert (tmp_path / "out" / name).is_file()


def test_what_is_called_like_a_picture_and_is_none_is_named(detector, photos: Path, tmp_path: Path) -> None:
    os.mkfifo(photos / "pipe.jpg")
    (photos / "folder.png").mkdir()
    done = run(detector, tmp_path / "out", photos)
    assert len(done.images) == 4
    assert [problem.split(": ", 1)[1] for problem in done.problems] == [
        "it is a folder; give a regular file",
        "it is a named pipe; give a regular file",
    ]


def test_large_images_are_held_one_at_a_time(detector, photos: Path, tmp_path: Path, monkeypatch) -> None:
    original, held = detector.detect, []

    def detect(batch, settings):
        held.append(len(batch))
        return original(batch, settings)

    monkeypatch.setattr(detector, "detect", detect)
    run(detector, tmp_path / "small", photos)
    monkeypatch.setattr(prediction, "PIXELS_AT_ONCE", 2 * 60 * 40)
    run(detector, tmp_path / "large", photos)
    assert held == [4, 2, 2]


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="names are bytes on Linux")
def test_a_video_that_cannot_be_named_is_refused(detector, tmp_path: Path) -> None:
    path = tmp_path / os.fsdecode(b"caf\xe9.avi")
    write_video(tmp_path / "clip.avi").rename(path)
    with pytest.raises(CtnetError, match=r"cannot open .*: the name of a video must be UTF-8"):
        run(detector, tmp_path / "out", path)
    out = tmp_path / os.fsdecode(b"out\xe9")
    with pytest.raises(CtnetError, match=r"cannot open .*: the name of a video must be UTF-8"):
        run(detector, out, write_video(tmp_path / "clip.avi"))


def test_pages_and_animations_are_drawn(detector, tmp_path: Path, monkeypatch) -> None:
    """Pages become pictures, animations a video; formats that browsers do not show are reported."""
    monkeypatch.setitem(sys.modules, "av", None)
    pictures = [Image.new("RGB", (64, 48), (70 * number, 0, 99)) for number in range(3)]
    pictures[0].save(tmp_path / "scan.v2.tif", save_all=True, append_images=pictures[1:])
    pictures[0].save(tmp_path / "moving.gif", save_all=True, append_images=pictures[1:], duration=100)
    out = tmp_path / "out"
    done = run(detector, out, tmp_path / "scan.v2.tif", tmp_path / "moving.gif")
    assert [path.name for path in done.pictures] == [
        *(f"scan.v2_{number:06d}.png" for number in range(3)),
        "moving.mp4",
    ]
    assert len(done.images) == 6
    assert done.notes == [] or "moving.mp4 is MPEG-4 Part 2, which browsers do not show" in done.notes[0]


def test_notes_of_images_are_kept(detector, tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "dark.png"), np.full((40, 60), 900, np.uint16))
    done = run(detector, tmp_path / "out", tmp_path / "dark.png", draw=False)
    assert len(done.images) == 1
    assert "dark.png is almost black" in done.notes[0]


def test_reading_ahead_changes_nothing(detector, photos: Path, tmp_path: Path, monkeypatch) -> None:
    """As on a GPU: a thread reads and resizes while the network computes."""
    (photos / "bad.jpg").write_bytes(b"no image")
    done = {}
    for wanted in (False, True):
        monkeypatch.setattr(type(detector), "reads_ahead", property(lambda self, wanted=wanted: wanted))
        before = threading.active_count()
        done[wanted] = run(detector, tmp_path / str(wanted), photos, score=0.0, topk=4, batch_size=2)
        assert threading.active_count() == before
    assert done[True].results == done[False].results
    assert done[True].images == done[False].images
    assert done[True].problems == done[False].problems
    images = [read_image(path) for path in sorted(photos.rglob("*.png"))]
    ahead = detector(images, score=0.0)
    monkeypatch.setattr(type(detector), "reads_ahead", property(lambda self: False))
    for one, other in zip(ahead, detector(images, score=0.0), strict=True):
        np.testing.assert_array_equal(one.boxes, other.boxes)
