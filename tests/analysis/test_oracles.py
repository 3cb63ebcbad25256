"""Heads replaced by ground truth, against a plain loop; the table on real annotations; mistakes."""

from __future__ import annotations

import numpy as np
import pytest

from ctnet.analysis import oracle
from ctnet.analysis.oracles import Oracle, OracleRow, combinations, oracle_of_maps, render_heads
from ctnet.base.errors import CtnetError
from ctnet.core.fields import move_record
from ctnet.core.geometry import Affine, View
from ctnet.core.heads import Heatmap, Regression
from ctnet.core.records import Instances
from ctnet.core.targets import Grid
from ctnet.core.task import create_task, list_tasks, load_task_class, scenes_of
from ctnet.data.dataset import Dataset
from ctnet.data.images import read_image
from ctnet.data.synthetic import write_dataset
from ctnet.evaluation.evaluators import evaluator_of
from ctnet.inference.maps import MapFile, write_maps
from ctnet.measuring.reading import Settings
from ctnet.measuring.run import evaluate

CTDET = [
    ("heatmap",), ("size",), ("offset",),
    ("heatmap", "size"), ("heatmap", "offset"), ("size", "offset"), ("heatmap", "size", "offset"),
]  # fmt: skip


def one_by_one(detector, dataset, names, resize):
    """The metrics with these heads replaced, image by image, step by step."""
    task, preprocess = detector.task, detector.preprocessor(resize)
    evaluator = evaluator_of(task, dataset)
    for index in range(len(dataset)):
        info = dataset.info(index)
        prepared = preprocess(read_image(dataset.image_path(index)), info)
        maps = detector.maps([prepared])
        grid = Grid(prepared.input.shape[0] // 4, prepared.input.shape[1] // 4)
        to_grid = Affine.scaling(1 / 4).after(prepared.affine)
        targets = task.encode(move_record(dataset.instances(index), to_grid, task.fields), grid)
        for name in names:
            maps[name] = task.heads[name].render(targets[name], grid)
        found = task.decode(maps, 100).per_image()[0].above(1e-9)  # 0: nothing is rendered
        evaluator.update(info.image_id, move_record(found, to_grid.inverse(), task.fields))
    return evaluator.compute()


@pytest.mark.parametrize("resize", ["fix", "keep"])
def test_equals_a_plain_loop(detector, scenes, resize):
    table = oracle(detector, scenes, settings=Settings(resize=resize, batch_size=3))
    assert [row.heads for row in table.rows] == [(), *CTDET]
    for row in table.rows:
        expected = one_by_one(detector, scenes, row.heads, resize)
        assert row.metrics == pytest.approx(expected, abs=1e-6), row.heads
        assert row.gain == pytest.approx(expected["AP"] - table.rows[0].metrics["AP"], abs=1e-6)
    assert table.rows[-1].metrics["AP"] > 0.9 > 0.2 > table.rows[0].metrics["AP"]


def test_the_first_row_is_the_detector_as_it_is(detector, scenes):
    for settings in (Settings(), Settings(flip=True, nms="soft", topk=7)):
        plain = evaluate(detector, scenes, settings)
        table = oracle(detector, scenes, ["size"], settings)
        assert table.rows[0] == OracleRow((), plain.metrics, 0.0)
        state = plain.evaluator.state()
        assert table.detections.keys() == state.keys()
        for image_id, found in state.items():
            np.testing.assert_array_equal(table.detections[image_id].boxes, found.boxes)


def test_the_network_runs_once_per_image(detector, scenes, monkeypatch):
    seen = []
    network = detector.model.activated
    monkeypatch.setattr(detector.model, "activated", lambda x: seen.append(len(x)) or network(x))
    oracle(detector, scenes)
    assert sum(seen) == len(scenes)


def test_chosen_combinations(detector, scenes):
    def rows(heads):
        return [row.heads for row in oracle(detector, scenes, heads).rows[1:]]

    assert rows(["size"]) == [("size",)]
    assert rows(["offset", "heatmap"]) == [("heatmap", "offset")]
    twice = [["offset", "heatmap"], ("size",), ["heatmap", "offset"]]
    assert rows(twice) == [("heatmap", "offset"), ("size",)]


def test_combinations_of_few_and_of_many_heads():
    few = {"size": Regression(2), "heatmap": Heatmap(3)}
    assert combinations(few) == [("size",), ("heatmap",), ("heatmap", "size")]
    assert combinations({"heatmap": Heatmap(1)}) == [("heatmap",)]
    assert combinations({"map": Regression(1), "other": Regression(1)}) == [
        ("map",),
        ("other",),
        ("map", "other"),
    ]
    many = {
        "centre": Heatmap(1), "a": Regression(2), "b": Regression(2), "joints": Heatmap(4), "c": Regression(1)
    }  # fmt: skip
    assert combinations(many) == [
        ("centre",), ("a",), ("b",), ("joints",), ("c",),
        ("centre", "a"), ("centre", "a", "b"), ("centre", "a", "b", "joints"),
        ("a", "b", "c"),
        ("centre", "a", "b", "joints", "c"),
    ]  # fmt: skip


def test_setbacks_are_named():
    rows = [
        ((), 0.5),
        (("size",), 0.6),
        (("offset",), 0.4),
        (("size", "offset"), 0.6),
        (("heatmap", "size"), 0.1),
    ]
    table = Oracle("AP", tuple(OracleRow(heads, {"AP": ap}, ap - 0.5) for heads, ap in rows))
    assert [(s.added, s.heads, s.before, s.after) for s in table.setbacks] == [
        ("offset", (), 0.5, 0.4),
        ("offset", ("size",), 0.6, 0.6),
        ("heatmap", ("size",), 0.6, 0.1),
    ]
    assert table.as_dict()["setbacks"][0] == {"added": "offset", "heads": (), "before": 0.5, "after": 0.4}


def test_regression_maps_carry_the_nearest_objects_values():
    task = create_task("ctdet", [{"id": 1, "name": "a"}])
    instances = Instances.of([[8, 8, 24, 40], [80, 40, 120, 56]], [0, 0])
    view = View(None, Affine.scaling(4))  # type: ignore[arg-type]
    rendered = render_heads(task, ["size"], [instances], [view], Grid(16, 32, 1))["size"]
    assert rendered.shape == (1, 2, 16, 32)
    assert rendered[0, :, 0, 0].tolist() == [4, 8]
    assert rendered[0, :, 15, 31].tolist() == [10, 4]


def test_stored_maps_give_the_same_table(detector, scenes, tmp_path):
    path = tmp_path / "maps.h5"
    with write_maps(path, detector.description, Settings()) as keep:
        evaluate(detector, scenes, Settings(), keep_maps=keep)
    table = oracle(detector, scenes)
    with MapFile.open(path) as maps:
        stored = oracle_of_maps(maps, scenes)
    for row, other in zip(table.rows, stored.rows, strict=True):
        assert other.heads == row.heads
        assert other.metrics["AP"] == pytest.approx(row.metrics["AP"], abs=0.05)  # stored in half precision
    assert stored.rows[-1].metrics == pytest.approx(table.rows[-1].metrics)

    several = Settings(scales=(0.5, 1.0))
    with write_maps(path, detector.description, several) as keep:
        evaluate(detector, scenes, several, keep_maps=keep)
    with MapFile.open(path) as maps, pytest.raises(CtnetError, match="maps of several scales"):
        oracle_of_maps(maps, scenes)


def test_mistakes(detector, scenes):
    with pytest.raises(CtnetError, match=r"no head of task ctdet called 'sise'; did you mean size\?"):
        oracle(detector, scenes, [["heatmap", "sise"]])
    with pytest.raises(CtnetError, match="heads are replaced at one scale"):
        oracle(detector, scenes, None, Settings(scales=(1.0, 2.0)))
    with pytest.raises(CtnetError, match="no objects of the model's classes"):
        oracle(detector, scenes.subset([2]))


def test_unreadable_images_are_listed(detector, scenes, tmp_path):
    gone = Dataset(scenes.coco, (tmp_path, *scenes.folders[1:2]), scenes.rows, scenes.task)
    table = oracle(detector, gone, ["size"])
    assert len(table.problems) > 0
    assert {problem.kind for problem in table.problems} == {"unreadable image"}


@pytest.mark.parametrize("name", list_tasks())
def test_all_heads_of_every_task(name, untrained, tmp_path):
    """With every head rendered, drawn scenes are found nearly perfectly, whatever the task."""
    cls = load_task_class(name)
    task = create_task(name, scenes_of(cls).categories)
    width, height = scenes_of(cls).size
    write_dataset(task, tmp_path, {"val": 3}, (width, height))
    dataset = Dataset.open(tmp_path, "val", task)
    size = (-(-width // 32) * 32, -(-height // 32) * 32)
    table = oracle(untrained(task, size), dataset)
    assert {row.heads for row in table.rows} == {(), *combinations(task.heads, task.oracles)}
    assert table.rows[-1].heads == tuple(task.heads)
    assert table.rows[-1].metrics[table.main_metric] > 0.9


@pytest.mark.real
def test_all_heads_on_coco(shared_data, untrained):
    dataset = Dataset.open(shared_data / "coco-mini", "val").subset(range(0, 79, 3))
    task = create_task("ctdet", dataset.categories)
    table = oracle(untrained(task, (512, 512)), dataset, list(task.heads), Settings(batch_size=1))
    assert table.rows[0].metrics["AP"] < 0.01
    assert table.rows[1].metrics["AP"] >= 0.99
