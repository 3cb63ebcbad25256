from __future__ import annotations

import json
import os
import re
import shutil
import signal
from importlib import import_module
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from ctnet.base import compiling
from ctnet.inference import prediction


def test_pictures_and_json(ctnet, run_folder: Path, scenes: Path) -> None:
    done = ctnet(
        "predict", run_folder, scenes / "val", "-o", "out", "--score", 0, "--topk", 3, "--device", "cpu"
    )
    assert done.code == 0, done.err
    assert done.err == ""
    assert "12 detections in 4 images: out/results.json and 4 pictures" in done.out
    assert len(list(Path("out").glob("*.jpg"))) == 4
    assert len(json.loads(Path("out/results.json").read_text())) == 12


def test_json_on_stdout_is_what_the_files_hold(ctnet, run_folder: Path, scenes: Path) -> None:
    done = ctnet("predict", run_folder, scenes / "val", "--score", 0, "--no-draw", "--json")
    printed = json.loads(done.out)
    assert printed["images"] == json.loads(Path("predictions/images.json").read_text())
    assert printed["results"] == json.loads(Path("predictions/results.json").read_text())
    assert not list(Path("predictions").glob("*.jpg"))


def test_test_time_settings(ctnet, run_folder: Path, scenes: Path) -> None:
    written = []
    for number, more in enumerate(([], ["--flip"], ["--scales", "1,1.5", "--nms", "hard"])):
        folder = Path(f"out{number}")
        done = ctnet("predict", run_folder, scenes / "val", "-o", folder, "--score", 0, "--no-draw", *more)
        assert done.code == 0, done.err
        written.append((folder / "results.json").read_text())
    assert len(set(written)) == 3


def test_tiles_of_a_large_image(ctnet, run_folder: Path) -> None:
    rng = np.random.default_rng(0)
    cv2.imwrite("large.png", rng.integers(0, 256, (330, 500, 3), np.uint8))
    found = []
    for choice in (["--resize", "keep"], ["--tiles", 128, "--overlap", "exact"]):
        done = ctnet(
            "predict", run_folder, "large.png", "--score", 0, "--no-clip", "--no-draw", "--json", *choice
        )
        found.append(sorted(entry["score"] for entry in json.loads(done.out)["results"]))
    assert len(found[0]) > 50
    assert found[0] == pytest.approx(found[1], abs=1e-5)


def test_boxes_are_clipped_to_the_image_by_default(ctnet, run_folder: Path) -> None:
    cv2.imwrite("flat.png", np.zeros((20, 64, 3), np.uint8))
    corners = {}
    for option in ("--clip", "--no-clip"):
        done = ctnet("predict", run_folder, "flat.png", "--score", 0, "--no-draw", "--json", option)
        boxes = np.array([entry["bbox"] for entry in json.loads(done.out)["results"]])
        corners[option] = np.concatenate([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]], axis=1)
    assert (corners["--no-clip"] < -1).any()
    low, high = np.split(corners["--no-clip"], 2, axis=1)
    inside = ((low < [64, 20]) & (high > 0)).all(axis=1)
    assert 0 < inside.sum() < len(inside)
    cut = np.clip(corners["--no-clip"][inside], 0, [64, 20, 64, 20])
    np.testing.assert_allclose(corners["--clip"], cut, atol=1e-4)


def test_an_unreadable_image_among_good_ones(ctnet, run_folder: Path, scenes: Path) -> None:
    Path("bad.jpg").write_bytes(b"no image")
    done = ctnet("predict", run_folder, "bad.jpg", scenes / "val", "-o", "out")
    assert done.code == 0
    assert "warning: skipped: bad.jpg is not an image that can be read" in done.err
    assert "in 4 images" in done.out


def test_nothing_but_unreadable_images(ctnet, run_folder: Path) -> None:
    Path("bad.jpg").write_bytes(b"no image")
    done = ctnet("predict", run_folder, "bad.jpg", "-o", "out")
    assert done.message == (
        "no image could be read: bad.jpg is not an image that can be read (unknown format); replace it"
    )
    assert not Path("out").exists()


def test_several_unreadable_images_are_named(ctnet, run_folder: Path) -> None:
    """Each may be unreadable for another reason."""
    for number in range(5):
        Path(f"{number}.jpg").write_bytes(b"no image")
    reason = "is not an image that can be read (unknown format); replace it"
    given = [f"{number}.jpg" for number in range(2)]
    expected = f"no image could be read: 0.jpg {reason}; 1.jpg {reason}"
    assert ctnet("predict", run_folder, *given, "-o", "out").message == expected
    given = [f"{number}.jpg" for number in range(5)]
    assert (
        ctnet("predict", run_folder, *given, "-o", "out").message
        == f"{expected}; 2.jpg {reason} (and 2 more)"
    )


def test_ctrl_c_is_exit_code_130(ctnet, run_folder: Path, scenes: Path, monkeypatch) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(prediction, "write_image", interrupted)
    done = ctnet("predict", run_folder, scenes / "val", "-o", "out")
    assert done.code == 130
    assert "interrupted; the results so far are kept" in done.err
    assert len(json.loads(Path("out/images.json").read_text())) == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["gone.jpg"], "gone.jpg does not exist; give an image, a folder, a video or a camera number"),
        (["empty"], "empty contains no images (.jpg, "),
        (["clip.mp4"], "cannot play clip.mp4; is it a whole video file"),
        (["977"], "cannot play camera 977"),
        (["VAL", "--scales", "x"], "--scales is 'x'"),
        (["VAL", "--tiles", "256", "--overlap", "some"], "--overlap is 'some'; write pixels, such as 128"),
        (["VAL", "-O", "snap"], "-O 'snap' is not NAME=VALUE"),
        (["VAL", "--size", "big"], "--size is 'big'"),
        (["VAL", "--size", "70"], "size 70x70 does not fit tiny"),
        (["VAL", "--device", "tpu"], "device 'tpu' cannot be used here"),
        (["VAL", "-o", "clip.mp4/out"], "cannot write clip.mp4/out/000001.jpg"),
        (
            ["VAL", "-o", "VAL"],
            "is an input image, which its picture would overwrite; choose another --output",
        ),
    ],
)
def test_mistakes(ctnet, run_folder: Path, scenes: Path, arguments: list[str], message: str) -> None:
    Path("empty").mkdir()
    Path("clip.mp4").write_bytes(b"\0no video")
    named = [str(scenes / "val") if argument == "VAL" else argument for argument in arguments]
    assert message in ctnet("predict", run_folder, *named).message


def test_a_run_that_is_none(ctnet, scenes: Path) -> None:
    Path("run").mkdir()
    Path("run/config.json").write_text("{}")
    assert "contains neither best.pt nor last.pt" in ctnet("predict", "run", scenes / "val").message


def test_sigterm_keeps_what_was_done(ctnet, run_folder: Path, scenes: Path, monkeypatch) -> None:
    original = prediction._record

    def record(done, *rest) -> None:
        original(done, *rest)
        if len(done.images) == 2:
            os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(prediction, "_record", record)
    before = signal.getsignal(signal.SIGTERM)
    done = ctnet("predict", run_folder, scenes / "val", "-o", "out", "--no-draw", "--device", "cpu")
    assert done.code == 130
    assert "interrupted; the results so far are kept" in done.err
    assert len(json.loads(Path("out/images.json").read_text())) == 2
    assert signal.getsignal(signal.SIGTERM) == before


def test_control_characters_in_names_are_shown_as_escapes(ctnet, run_folder: Path) -> None:
    Path("a\x1b[2J\nb.jpg").write_bytes(b"no image")
    done = ctnet("predict", run_folder, "a\x1b[2J\nb.jpg", "-o", "out")
    assert done.code == 2
    assert r"error: no image could be read: a\x1b[2J\nb.jpg is not an image" in done.err
    assert "\x1b" not in done.err


def test_without_a_run_the_latest_one_looks(ctnet, run_folder: Path, scenes: Path) -> None:
    shutil.copytree(run_folder, "runs/mine")
    named = ctnet("predict", run_folder, scenes / "val", "-o", "a", "--score", 0, "--no-draw", "--json")
    latest = ctnet("predict", scenes / "val", "-o", "b", "--score", 0, "--no-draw", "--json")
    assert latest.code == 0, latest.err
    assert latest.out == named.out


@pytest.mark.parametrize("given", [[], ["RUN"]])
def test_nothing_to_look_at(ctnet, run_folder: Path, given: list[str]) -> None:
    message = ctnet("predict", *(run_folder for _ in given)).message
    assert message == "no images were given; name some: `ctnet predict RUN photo.jpg`"


def test_a_quoted_pattern_is_expanded(ctnet, run_folder: Path, scenes: Path) -> None:
    done = ctnet("predict", run_folder, f"{scenes}/va*/*[12].jpg", "-o", "out", "--score", 0)
    assert "in 2 images: out/results.json and 2 pictures" in done.out
    assert ctnet("predict", run_folder, "*.jpg").message == "no file matches *.jpg"


def test_a_text_file_is_one_line(ctnet, run_folder: Path, scenes: Path) -> None:
    Path("notes.txt").write_text("hello")
    line = "notes.txt is a text file, not an image or a video"
    assert ctnet("predict", run_folder, "notes.txt").message == f"no image could be read: {line}"
    done = ctnet("predict", run_folder, "notes.txt", scenes / "val", "--score", 0)
    assert (done.code, done.err) == (0, f"warning: skipped: {line}\n")
    assert "in 4 images: " in done.out


def test_nothing_found_says_which_score_would_find_something(ctnet, run_folder: Path, scenes: Path) -> None:
    done = ctnet("predict", run_folder, scenes / "val", "-o", "out", "--score", 0.9)
    thresholds, first, second = done.out.splitlines()
    assert thresholds == "threshold: 0.9 for all classes"
    said = re.fullmatch(r"0 detections in 4 images; the best score was (0\.\d+), try --score (0\.\d+)", first)
    assert said
    assert 0 < float(said[2]) < float(said[1]) < 0.9
    assert second == "written: out/results.json and 4 pictures"
    again = ctnet("predict", run_folder, scenes / "val", "-o", "out", "--score", said[2])
    assert re.match(r"[1-9]\d* detections? in 4 images: ", again.out.splitlines()[1])


@pytest.mark.parametrize(("best", "shown"), [(0.21, "0.2"), (0.2, "0.1"), (0.04, "0.03"), (1.0, "0.9")])
def test_the_score_to_try(best: float, shown: str) -> None:
    assert import_module("ctnet.cli.predict")._below(best) == shown


def test_videos_are_counted_as_videos(ctnet, run_folder: Path, scenes: Path) -> None:
    writer = cv2.VideoWriter("clip.avi", cv2.VideoWriter.fourcc(*"MJPG"), 10, (64, 48))
    for grey in range(3):
        writer.write(np.full((48, 64, 3), 60 * grey, np.uint8))
    writer.release()
    one_each = ("--score", 0, "--topk", 1, "--no-clip")
    done = ctnet("predict", run_folder, "clip.avi", scenes / "val", "-o", "out", *one_each)
    assert "7 detections in 4 images and 1 video (3 frames): " in done.out
    assert done.out.endswith("out/results.json, 4 pictures and 1 video\n")


def test_notes_are_printed(ctnet, run_folder: Path, tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "dark.png"), np.full((40, 60), 900, np.uint16))
    done = ctnet("predict", run_folder, tmp_path / "dark.png", "-o", "out", "--no-draw")
    assert done.code == 0
    assert "warning: " in done.err
    assert "dark.png is almost black" in done.err


def test_compiled_results_are_the_same(ctnet, run_folder: Path, scenes: Path, monkeypatch) -> None:
    monkeypatch.setattr(compiling, "BACKEND", "eager")
    torch._dynamo.reset()
    scores = []
    for options in ([], ["--compile"]):
        done = ctnet("predict", run_folder, scenes / "val", "--score", 0, "--no-draw", "--json", *options)
        assert done.code == 0, done.err
        scores.append([entry["score"] for entry in json.loads(done.out)["results"]])
    np.testing.assert_allclose(scores[0], scores[1], rtol=1e-4)


def test_a_dtype_that_a_cpu_does_not_compute_in(ctnet, run_folder: Path, scenes: Path) -> None:
    done = ctnet("predict", run_folder, scenes / "val", "--dtype", "fp16", "--device", "cpu")
    assert "float16 is for GPUs" in done.message
