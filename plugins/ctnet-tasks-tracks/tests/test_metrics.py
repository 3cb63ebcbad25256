"""HOTA, MOTA and IDF1 against TrackEval, and on cases counted by hand."""

import warnings

import numpy as np
import pytest
from ctnet_tasks_tracks.metrics import Counts, Frame, counts_of


def random_video(seed: int, length: int = 8) -> list[Frame]:
    """Objects that come and go, and tracks that follow some of them, swap, lose and invent others."""
    rng = np.random.default_rng(seed)
    objects, tracks = int(rng.integers(1, 7)), int(rng.integers(1, 8))
    follows = rng.integers(0, objects, tracks)
    frames = []
    for _ in range(length):
        if rng.random() < 0.2:
            follows = rng.permutation(follows)
        truth = np.flatnonzero(rng.random(objects) < 0.8)
        found = np.flatnonzero(rng.random(tracks) < 0.8)
        overlap = rng.random((len(truth), len(found))) * 0.4
        for column, track in enumerate(found):
            overlap[truth == follows[track], column] = rng.uniform(0.4, 1)
        frames.append(Frame(truth * 3 + 7, found * 5 + 1, overlap))
    return frames


def as_trackeval(frames: list[Frame]) -> dict:
    truth, found = (
        sorted({int(value) for frame in frames for value in getattr(frame, name)})
        for name in ("truth", "found")
    )
    return {
        "num_timesteps": len(frames),
        "num_gt_ids": len(truth),
        "num_tracker_ids": len(found),
        "num_gt_dets": sum(len(frame.truth) for frame in frames),
        "num_tracker_dets": sum(len(frame.found) for frame in frames),
        "gt_ids": [np.searchsorted(truth, frame.truth).astype(int) for frame in frames],
        "tracker_ids": [np.searchsorted(found, frame.found).astype(int) for frame in frames],
        "similarity_scores": [frame.overlap for frame in frames],
    }


@pytest.fixture(scope="module")
def oracle():
    """TrackEval's three metrics."""
    metrics = pytest.importorskip("trackeval.metrics")
    quiet = {"PRINT_CONFIG": False}
    return metrics.HOTA(), metrics.CLEAR(quiet), metrics.Identity(quiet)


def compared(figures: dict[str, float], results: tuple) -> None:
    hota, clear, identity = results
    for name in ("HOTA", "DetA", "AssA"):
        assert figures[name] == pytest.approx(float(np.mean(hota[name])), abs=1e-9), name
    assert figures["MOTA"] == pytest.approx(float(clear["MOTA"]), abs=1e-9)
    assert figures["switches"] == clear["IDSW"]
    assert figures["IDF1"] == pytest.approx(float(identity["IDF1"]), abs=1e-9)


def test_fifty_random_videos_equal_trackeval(oracle) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for seed in range(50):
            frames = random_video(seed)
            data = as_trackeval(frames)
            compared(counts_of(frames).figures(), tuple(metric.eval_sequence(data) for metric in oracle))


def test_videos_add_up_as_in_trackeval(oracle) -> None:
    videos = [random_video(seed) for seed in range(100, 106)]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        combined = []
        for metric in oracle:
            each = {str(i): metric.eval_sequence(as_trackeval(video)) for i, video in enumerate(videos)}
            combined.append(metric.combine_sequences(each))
    counts = Counts.none()
    for video in videos:
        counts = counts + counts_of(video)
    compared(counts.figures(), tuple(combined))


@pytest.mark.parametrize("change", ["no objects", "no detections", "neither"])
def test_videos_without_objects_or_detections(change, oracle) -> None:
    frames = []
    for frame in random_video(3):
        truth = frame.truth if change == "no detections" else frame.truth[:0]
        found = frame.found if change == "no objects" else frame.found[:0]
        frames.append(Frame(truth, found, np.zeros((len(truth), len(found)))))
    figures = counts_of(frames).figures()
    assert figures["HOTA"] == figures["IDF1"] == 0
    if change == "no detections":
        assert figures["MOTA"] == 0


def followed(*pairs: tuple[int, int]) -> list[Frame]:
    """One object and one detection a frame, on each other."""
    one = np.ones((1, 1))
    return [Frame(np.array([truth]), np.array([found]), one) for truth, found in pairs]


def test_a_perfect_track_scores_one() -> None:
    figures = counts_of(followed(*[(4, 9)] * 6)).figures()
    assert figures == {"HOTA": 1, "DetA": 1, "AssA": 1, "MOTA": 1, "IDF1": 1, "switches": 0}


def test_a_switch_halfway_is_counted_by_hand() -> None:
    figures = counts_of(followed((0, 1), (0, 1), (0, 2), (0, 2))).figures()
    assert figures["switches"] == 1
    assert figures["MOTA"] == pytest.approx(1 - 1 / 4)
    assert figures["IDF1"] == pytest.approx(0.5)
    # Each hit is of a pair that agrees in 2 of 4 frames.
    assert figures["AssA"] == pytest.approx(0.5)
    assert figures["HOTA"] == pytest.approx(np.sqrt(0.5))
