"""The KITTI evaluation: equal to the reference numbers, and to the rules spelled out."""

from __future__ import annotations

import gzip
import json
import zipfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ctnet.base.errors import CtnetError
from ctnet_tasks_ddd.kitti_eval import evaluate, evaluate_objects, read_files, recall_thresholds
from ctnet_tasks_ddd.objects import KittiObjects, parse_lines

CAR = "Car 0.00 0 -1.57 600.00 170.00 700.00 250.00 1.50 1.60 3.90 1.00 1.70 20.00 -1.52"


def found(label: str, score: float = 0.9) -> str:
    fields = label.split()
    return " ".join([fields[0], "-1", "-1", *fields[3:], str(score)])


def write(folder: Path, frames: dict[str, list[str]]) -> Path:
    folder.mkdir(exist_ok=True)
    for name, lines in frames.items():
        (folder / f"{name}.txt").write_text("".join(f"{line}\n" for line in lines))
    return folder


def objects(frames: dict[str, str], columns: int) -> KittiObjects:
    parsed = [parse_lines(text, columns, name) for name, text in frames.items()]
    return KittiObjects.of_frames(list(frames), [p[0] for p in parsed], [p[1] for p in parsed])


# --- the reference numbers


@pytest.mark.golden
@pytest.mark.real
def test_every_golden_figure(golden: Path, shared_data: Path) -> None:
    labels = shared_data / "kitti-labels" / "label_2.zip"
    folders = sorted(path.parent for path in golden.glob("kitti_eval*/expected.json"))
    assert folders
    for folder in folders:
        sets = json.loads((folder / "expected.json").read_text())["sets"]
        counts = json.loads(gzip.decompress((folder / "counts.json.gz").read_bytes()))
        for name, expected in sets.items():
            files = read_files(labels, folder / expected["zip"])
            for iou, classes in expected["results"].items():
                figures = evaluate_objects(*files, iou).figures
                evaluated = pairs_of(classes)
                assert pairs_of(figures) == evaluated
                for kind, metric in sorted(evaluated):
                    for level, numbers in classes[kind][metric].items():
                        figure = figures[kind][metric][level]
                        where = (name, iou, kind, metric, level)
                        compare(figure, numbers, where)
                        compare_counts(figure, counts[name][iou][kind], metric, level, where)


def pairs_of(figures) -> set[tuple[str, str]]:
    return {(kind, metric) for kind, metrics in figures.items() for metric in metrics}


def compare(figure, numbers, where) -> None:
    assert pytest.approx(numbers["R11"], abs=1e-6) == figure.R11, where
    assert pytest.approx(numbers["R40"], abs=1e-6) == figure.R40, where
    assert figure.objects == numbers["n_gt"], where
    assert len(figure.thresholds) == numbers["n_thresholds"], where
    assert np.abs(figure.curve - numbers["curve"]).max() < 1e-6, where


def compare_counts(figure, counts, metric, level, where) -> None:
    if metric == "orientation":
        return
    expected = counts[metric][level]
    assert figure.thresholds.tolist() == expected["thresholds"], where
    ours = [column.tolist() for column in (figure.right, figure.wrong, figure.missed)]
    assert ours == [expected["tp"], expected["fp"], expected["fn"]], where


@pytest.mark.real
def test_ground_truth_is_perfect(shared_data: Path) -> None:
    """The labels themselves as results, with distinct scores, give 100 throughout, with every threshold."""
    with zipfile.ZipFile(shared_data / "kitti-labels" / "label_2.zip") as archive:
        names = [name for name in sorted(archive.namelist()) if name.endswith(".txt")]
        texts = {Path(name).stem: archive.read(name).decode() for name in names}
    labels = objects(texts, 15)
    kept = np.array([kind != "DontCare" for kind in labels.types])
    values = np.column_stack(
        [labels.truncation, labels.occlusion, labels.alpha, labels.boxes, labels.dimensions, labels.location]
    )
    scores = 1 - np.arange(len(labels)) / 1e6
    values = np.column_stack([values, labels.rotation_y, scores])
    rows = [np.flatnonzero((labels.frame == frame) & kept) for frame in range(len(texts))]
    types = [[labels.types[row] for row in frame] for frame in rows]
    results = KittiObjects.of_frames(labels.frame_names, types, [values[frame] for frame in rows])
    for metrics in evaluate_objects(labels, results).figures.values():
        for levels in metrics.values():
            for figure in levels.values():
                assert (round(figure.R11, 4), round(figure.R40, 4)) == (100, 100)
                assert len(figure.thresholds) == 41


# --- the rules, spelled out


KINDS = ("Car", "Car", "Van", "Pedestrian", "Person_sitting", "Cyclist", "DontCare", "Tram", "car")


def random_scene(seed: int) -> list[tuple[str, str]]:
    """Frames in which objects stand close together, and detections of all kinds."""
    rng = np.random.default_rng(seed)
    frames = []
    for _ in range(8):
        labels, results = [], []
        for _ in range(rng.integers(0, 7)):
            kind = KINDS[rng.integers(len(KINDS))]
            label = random_line(rng, kind)
            labels.append(label)
            for _ in range(rng.integers(0, 3)):
                results.append(moved(rng, label))
        results += [found(random_line(rng, KINDS[rng.integers(6)]), rng.random()) for _ in range(3)]
        rng.shuffle(results)
        frames.append(("\n".join(labels), "\n".join(results)))
    return frames


def random_line(rng: np.random.Generator, kind: str) -> str:
    left, top = rng.uniform(0, 200, 2).round(2)
    height = rng.choice([20, 24.9, 25, 30, 40, 60])
    if kind == "DontCare":
        size = "-1 -1 -1 -1000 -1000 -1000 -10"
        return f"{kind} -1 -1 -10 {left} {top} {left + 90} {top + height} {size}"
    x, z, rotation, alpha = rng.uniform(-4, 4), rng.uniform(8, 14), rng.uniform(-3, 3), rng.uniform(-3, 3)
    return (
        f"{kind} {rng.choice([0, 0.1, 0.2, 0.6])} {rng.integers(4)} {alpha:.2f} {left} {top} {left + 50} "
        f"{top + height} 1.5 1.6 3.9 {x:.2f} 1.7 {z:.2f} {rotation:.2f}"
    )


def moved(rng: np.random.Generator, label: str) -> str:
    """A detection of a label: near it, sometimes of another class, with parts missing, or exactly on it."""
    fields = label.split()
    numbers = np.array(fields[1:], float)
    if fields[0] == "DontCare" or rng.random() < 0.1:
        fields[0] = KINDS[rng.integers(6)]
    if rng.random() < 0.7:
        numbers[3:7] += rng.normal(0, 3, 4)
        numbers[10:14] += rng.normal(0, 0.15, 4)
    if rng.random() < 0.1:
        numbers[7:] = [-1, -1, -1, -1000, -1000, -1000, -10]
    if numbers[2] == -10:
        numbers[2] = 0.5
    return f"{fields[0]} {' '.join(map(str, numbers))} {rng.choice([0.1, 0.3, 0.5, rng.random()])}"


@settings(max_examples=12, deadline=None)
@given(st.integers(0, 10**6), st.sampled_from(["strict", "shipped", "half"]))
def test_equals_the_rules_frame_by_frame(slow, seed: int, iou: str) -> None:
    frames = random_scene(seed)
    names = [f"{number:06d}" for number in range(len(frames))]
    labels = objects({name: frame[0] for name, frame in zip(names, frames, strict=True)}, 15)
    results = objects({name: frame[1] for name, frame in zip(names, frames, strict=True)}, 16)
    ours, expected = evaluate_objects(labels, results, iou).figures, slow.evaluate(frames, iou)
    assert {pair for pair in pairs_of(ours) if pair[1] != "orientation"} == pairs_of(expected)
    for name, metrics in expected.items():
        for metric, levels in metrics.items():
            for level, numbers in levels.items():
                figure = ours[name][metric][level]
                for key in ("objects", "right", "wrong", "missed"):
                    assert np.array_equal(getattr(figure, key), numbers[key]), (name, metric, level, key)
                assert np.allclose(figure.curve, numbers["curve"], atol=1e-12)
                if metric == "detection":
                    curve = ours[name]["orientation"][level].curve
                    assert np.allclose(curve, numbers["similarity"], atol=1e-12)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(0, 20), max_size=120), st.integers(0, 30))
def test_thresholds_as_the_rule_walks(slow, scores: list[int], more: int) -> None:
    count = max(len(scores) + more, 1)
    expected = slow.score_thresholds([float(score) for score in scores], count)
    assert recall_thresholds(np.array(scores, float), count).tolist() == expected
    assert len(expected) <= 41


def test_no_frame_order_and_no_split_into_parts_matters(monkeypatch) -> None:
    frames = [frame for seed in range(3) for frame in random_scene(seed)]
    names = [f"{number:06d}" for number in range(len(frames))]
    sides = [
        objects({name: frame[side] for name, frame in zip(names, frames, strict=True)}, columns)
        for side, columns in ((0, 15), (1, 16))
    ]
    expected = evaluate_objects(*sides).as_dict(curves=True)
    monkeypatch.setattr("ctnet_tasks_ddd.overlaps._PAIRS_AT_ONCE", 7)
    assert evaluate_objects(*sides).as_dict(curves=True) == expected


# --- files


def test_a_perfect_frame_and_its_json(tmp_path: Path) -> None:
    labels = write(tmp_path / "labels", {"000001": [CAR] * 1, "000002": [CAR]})
    results = write(tmp_path / "results", {"000001": [found(CAR)], "000002": [found(CAR, 0.8)]})
    result = evaluate(labels, results)
    assert result.frames == 2
    content = result.as_dict()
    assert list(content) == ["car"]
    assert list(content["car"]) == ["detection", "orientation", "ground", "3d"]
    # Two objects give two thresholds: of the recall positions only 0 and 1/40 are reached.
    assert content["car"]["3d"]["easy"] == {"R11": pytest.approx(100 / 11), "R40": pytest.approx(100 / 40)}
    assert len(result.as_dict(curves=True)["car"]["3d"]["easy"]["curve"]) == 41


def test_frames_with_results_count_unless_a_list_says_otherwise(tmp_path: Path) -> None:
    labels = write(tmp_path / "labels", {"000001": [CAR], "000002": [CAR], "000003": [CAR]})
    results = write(tmp_path / "results", {"000001": [found(CAR)], "000002": []})
    assert evaluate(labels, results).figures["car"]["3d"]["easy"].objects == 2
    listed = evaluate(labels, results, ["000001", "000002", "000003"])
    assert listed.figures["car"]["3d"]["easy"].objects == 3
    assert listed.figures["car"]["3d"]["easy"].missed.tolist() == [2]
    assert evaluate(labels, results, ["000002"]).figures == {}


def test_results_in_data_and_labels_in_a_zip(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "labels.zip", "w") as archive:
        archive.writestr("training/label_2/000001.txt", CAR)
        archive.writestr("training/calib/000001.txt", "P2: 1")
    (tmp_path / "results").mkdir()
    write(tmp_path / "results" / "data", {"000001": [found(CAR)]})
    assert evaluate(tmp_path / "labels.zip", tmp_path / "results").frames == 1


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ([found(CAR), CAR], r"000001\.txt:2: line of 15 columns \(a result has 16: add the score"),
        ([found(CAR) + " 7"], r"000001\.txt:1: line of 17 columns \(a result has 16: class truncation"),
        (["", found(CAR, float("nan"))], r"000001\.txt:2: score that is not a finite number \(it is 'nan'\)"),
        (
            [found(CAR).replace("20.00", "far")],
            r"000001\.txt:1: z that is not a finite number \(it is 'far'\)",
        ),
        ([found(CAR).replace("600.00", "-inf")], r"000001\.txt:1: left that is not a finite number"),
    ],
)
def test_bad_results_are_named(tmp_path: Path, lines: list[str], message: str) -> None:
    labels = write(tmp_path / "labels", {"000001": [CAR]})
    with pytest.raises(CtnetError, match=message) as caught:
        evaluate(labels, write(tmp_path / "results", {"000001": lines}))
    assert "\n" not in str(caught.value)


def test_bad_labels_are_named(tmp_path: Path) -> None:
    results = write(tmp_path / "results", {"000001": [found(CAR)]})
    labels = write(tmp_path / "labels", {"000001": [CAR.rsplit(" ", 1)[0]]})
    with pytest.raises(CtnetError, match=r"000001\.txt:1: line of 14 columns \(a label has 15: class trunc"):
        evaluate(labels, results)
    with pytest.raises(CtnetError, match=r"16 columns \(a label has 15: remove the score at its end"):
        evaluate(results, results)


def test_frames_that_do_not_fit_are_named(tmp_path: Path) -> None:
    labels = write(tmp_path / "labels", {"000001": [CAR]})
    results = write(tmp_path / "results", {"000007": [found(CAR)]})
    with pytest.raises(CtnetError, match=r"frame 000007 has no label file in .*labels"):
        evaluate(labels, results)
    with pytest.raises(CtnetError, match="names one twice"):
        evaluate(labels, results, ["000001", "000001"])
    with pytest.raises(CtnetError, match="no set of IoU thresholds called 'loose'"):
        evaluate(labels, results, iou="loose")


def test_different_frames_in_memory_are_refused() -> None:
    with pytest.raises(ValueError, match="same frames"):
        evaluate_objects(objects({"1": CAR}, 15), objects({"2": found(CAR)}, 16))
