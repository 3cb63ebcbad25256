"""ddd from annotations to 3D objects: the round trip, cameras, mirroring, errors."""

from __future__ import annotations

import builtins
import dataclasses
import logging
import math
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from ctnet.base.errors import CtnetError
from ctnet.base.files import write_json
from ctnet.core.documents import annotation_errors, annotations_of, instances_of, truth_of
from ctnet.core.fields import differences, move_record
from ctnet.core.geometry import Affine, View
from ctnet.core.recipe import Augmentation
from ctnet.core.records import Detections, ImageInfo, Instances
from ctnet.core.targets import Grid
from ctnet.core.task import example_of, scenes_of
from ctnet.data.augment import crop_instances, random_crop
from ctnet.data.dataset import Dataset
from ctnet.evaluation.evaluators import evaluator_of
from ctnet.inference.decoding import decode
from ctnet.inference.preprocessing import Preprocessor
from ctnet.inference.settings import DetectionSettings
from ctnet.measuring.rendered import render
from ctnet.testing.mirroring import mirror_image
from ctnet_tasks_ddd.camera import box_corners, middle, project, wrap
from ctnet_tasks_ddd.kitti import convert_kitti
from ctnet_tasks_ddd.task import Boxes3d

CATEGORIES = scenes_of(Boxes3d).categories
CAMERA = [[721.5, 0.0, 609.6, 44.9], [0.0, 721.5, 172.9, 0.22], [0.0, 0.0, 1.0, 0.0027]]
IMAGE = {"id": 1, "file_name": "1.png", "width": 1242, "height": 375, "calib": CAMERA}


def annotation(location=(3.0, 1.7, 20.0), rotation_y=0.4, category=2, **changes) -> dict:
    """A car with all its fields in agreement."""
    dimensions = [1.5, 1.6, 4.0]
    corners = box_corners(np.array([dimensions]), np.array([location]), np.array([rotation_y]))
    points = project(corners, np.array(CAMERA))[0]
    low, high = points.min(axis=0), points.max(axis=0)
    found = {
        "category_id": category,
        "image_id": 1,
        "bbox": [*low.tolist(), *(high - low).tolist()],
        "iscrowd": 0,
        "dim": dimensions,
        "location": list(location),
        "depth": location[2],
        "alpha": rotation_y - math.atan2(location[0], location[2]),
        "rotation_y": rotation_y,
    }
    found["area"] = found["bbox"][2] * found["bbox"][3]
    return found | changes


def dataset_of(tmp_path, annotations: list[dict], task: Boxes3d, image: dict = IMAGE) -> Dataset:
    numbered = [{**entry, "id": number} for number, entry in enumerate(annotations, start=1)]
    path = tmp_path / "annotations" / "instances_val.json"
    write_json(path, {"images": [image], "annotations": numbered, "categories": list(CATEGORIES)})
    return Dataset.from_file(path, [tmp_path], task, "val")


def rendered_scene(task: Boxes3d, seed: int, size=(384, 128)):
    """A scene, and the 3D objects that its rendered maps decode to."""
    scene = example_of(task, np.random.default_rng(seed), size)
    instances = scene.instances
    grid = Grid(size[1] // 4 + 2, size[0] // 4 + 2)
    on_grid = move_record(instances, Affine.scaling(0.25), task.fields)
    kept = ~task.collides(on_grid, grid)
    targets = task.encode(on_grid[kept], grid)
    maps = {name: head.render(targets[name], grid) for name, head in task.heads.items()}
    found = task.decode(maps, int(kept.sum())).per_image()[0]
    found = task.lift(move_record(found, Affine.scaling(4), task.fields), View(scene.info, Affine.scaling(4)))
    return truth_of(task, instances[kept]), found


# --- the law


@pytest.mark.parametrize("loss", ["paper", "released"])
def test_with_projected_centres_everything_comes_back_exactly(loss: str) -> None:
    task = Boxes3d(CATEGORIES, center="projected", loss=loss)
    for seed in range(10):
        truth, found = rendered_scene(task, seed)
        order = [int(np.abs(found.location - location).sum(axis=1).argmin()) for location in truth.location]
        found = found[order]
        np.testing.assert_array_equal(found.labels, truth.labels)
        np.testing.assert_allclose(found.boxes, truth.boxes, atol=1e-2)
        np.testing.assert_allclose(found.location, truth.location, atol=2e-3)
        np.testing.assert_allclose(found.depth, truth.location[:, 2], atol=2e-3)
        np.testing.assert_allclose(found.dimensions, truth.dimensions, atol=1e-4)
        assert np.abs(wrap(found.alpha - truth.alpha)).max() < 1e-4
        # KITTI's alpha is against the ray from the frame's origin, 6 cm beside the camera.
        assert np.abs(wrap(found.rotation_y - truth.rotation_y)).max() < 0.02


@pytest.mark.real
@pytest.mark.parametrize("center", ["box", "projected"])
def test_real_labels_come_back(center: str, shared_data, tmp_path) -> None:
    convert_kitti(shared_data / "kitti-mini", tmp_path, images="none")
    task = Boxes3d(CATEGORIES, center=center)
    preprocess = Preprocessor("fix", (1280, 384), 32, task.layout.fit)
    for split in ("train", "val"):
        dataset = Dataset.open(tmp_path, split).with_task(task)
        evaluator = evaluator_of(task, dataset)
        assert not dataset.problems
        for index in range(len(dataset)):
            rendered = render(task, dataset, index, preprocess, 100)
            truth = truth_of(task, rendered.instances)
            evaluator.update(dataset.info(index).image_id, rendered.detections)
            for row in range(len(truth)):
                error = np.abs(rendered.detections.location - truth.location[row]).max(axis=1, initial=0)
                if center == "projected":
                    assert error.min() < 0.01
        figures = evaluator.compute()
        assert figures["AP2D"] == pytest.approx(1, abs=1e-6)
        if center == "projected":
            assert figures["AP"] == pytest.approx(1, abs=1e-3)


def test_an_object_cut_by_the_border_keeps_its_place_with_projected_centres() -> None:
    task = Boxes3d(CATEGORIES, center="projected")
    entry = annotation(location=(-7.5, 1.7, 8.0), rotation_y=1.5)
    left, top, width, height = entry["bbox"]
    entry["bbox"] = [0.0, top, left + width, height]  # the visible part
    instances = instances_of(task, _Annotations([entry]), IMAGE)
    assert instances.centre[0, 0] < 0
    to_grid = Affine.scaling(0.25)
    targets = task.encode(move_record(instances, to_grid, task.fields), Grid(96, 320))
    assert targets["offset"].x.tolist() == [0]
    maps = {name: head.render(targets[name], Grid(96, 320)) for name, head in task.heads.items()}
    found = task.decode(maps, 1).per_image()[0]
    found = task.lift(move_record(found, to_grid.inverse(), task.fields), View(info(), to_grid.inverse()))
    np.testing.assert_allclose(found.location, [entry["location"]], atol=1e-3)
    np.testing.assert_allclose(found.boxes, instances.boxes, atol=1e-2)


class _Annotations(list):
    """Annotations of one image, as a data set returns them."""

    def __init__(self, entries: list[dict]) -> None:
        super().__init__(entries)
        boxes = np.array([entry["bbox"] for entry in entries], np.float32).reshape(-1, 4)
        boxes[:, 2:] += boxes[:, :2]
        self.boxes = boxes
        self.category_ids = np.array([entry["category_id"] for entry in entries])
        self.crowd = np.array([bool(entry.get("iscrowd")) for entry in entries])


def info(**record) -> ImageInfo:
    return ImageInfo(1, "1.png", 1242, 375, {"calib": CAMERA, **record})


# --- instances


def test_annotations_become_instances_and_come_back() -> None:
    task = Boxes3d(CATEGORIES)
    region = {"category_id": 1, "bbox": [10.0, 20, 30, 40], "iscrowd": 1, "ignore": 1}
    entries = [annotation(), region]
    instances = instances_of(task, _Annotations(entries), IMAGE)
    body = np.array([entries[0]["dim"]]), np.array([entries[0]["location"]])
    np.testing.assert_allclose(instances.centre[0], project(middle(*body), np.array(CAMERA))[0], rtol=1e-5)
    np.testing.assert_allclose(instances.corners[0].min(axis=0), entries[0]["bbox"][:2], rtol=1e-5)
    for column in (instances.dimensions[:, 0], instances.depth_target, instances.rotation_y):
        assert np.isnan(column).tolist() == [False, True]
    np.testing.assert_allclose(instances.centre[1], [25, 40])  # the box's
    written = annotations_of(task, instances)
    for field in ("dim", "location", "depth", "alpha", "rotation_y"):
        np.testing.assert_allclose(written[0][field], entries[0][field], atol=1e-4)
        assert field not in written[1]


def test_the_mirror_is_the_world_before_the_mirrored_camera() -> None:
    task = Boxes3d(CATEGORIES)
    instances = instances_of(
        task, _Annotations([annotation(), annotation((-4.0, 1.6, 12.0), -2.9, 3)]), IMAGE
    )
    mirrored = mirror_image(task, instances, 1242)
    camera = np.array(CAMERA)
    camera[0] = 1241 * camera[2] - camera[0]  # x becomes 1241 - x ...
    camera[0, 0] *= -1  # ... of points whose x changes its sign
    bodies = mirrored.dimensions, mirrored.location, mirrored.rotation_y
    np.testing.assert_allclose(mirrored.corners, project(box_corners(*bodies), camera), rtol=1e-4)
    np.testing.assert_allclose(mirrored.centre, project(middle(*bodies[:2]), camera), rtol=1e-4)
    expected = wrap(mirrored.rotation_y - np.arctan2(mirrored.location[:, 0], mirrored.location[:, 2]))
    np.testing.assert_allclose(wrap(mirrored.alpha - expected), 0, atol=1e-9)


def test_zoomed_and_shifted_images_train_neither_depth_nor_dimensions() -> None:
    task = Boxes3d(CATEGORIES)
    instances = instances_of(task, _Annotations([annotation()]), IMAGE)
    for scale, trained in ((None, True), ((1.4, 1.4), False)):
        augmentation = Augmentation(flip=1.0, scale=scale, shift=0.0)
        crop = random_crop(np.random.default_rng(0), (1242, 375), (1280, 384), augmentation, task.layout.fit)
        seen = crop_instances(instances, crop, task, 4)
        targets = task.encode(seen, Grid(96, 320))
        for head in ("depth", "dimensions"):
            assert bool((targets[head].weight > 0).all()) is trained
            assert bool((targets[head].weight > 0).any()) is trained
        for head in ("size", "offset"):
            assert (targets[head].weight == 1).all()
        assert (targets["rotation"].weight[:, :2] == 1).all()


def test_ignore_regions_make_no_positive_and_train_nothing() -> None:
    region = {"category_id": 2, "bbox": [400.0, 100, 80, 40], "iscrowd": 1, "ignore": 1}
    for ignore, cells in (("gaussian", 1), ("rectangle", 21 * 11)):
        task = Boxes3d(CATEGORIES, ignore=ignore)
        instances = instances_of(task, _Annotations([annotation(), region]), IMAGE)
        targets = task.encode(move_record(instances, Affine.scaling(0.25), task.fields), Grid(96, 320))
        drawn = task.heads["heatmap"].render(targets["heatmap"], Grid(96, 320))[0]
        assert (drawn == 1).sum() == 1
        assert ((drawn > 0.9998) & (drawn < 1)).sum() == cells
        assert len(targets["size"]) == len(targets["depth"]) == 1


def test_statistics_are_of_what_is_known() -> None:
    task = Boxes3d(CATEGORIES)
    region = {"category_id": 1, "bbox": [10.0, 20, 30, 40], "iscrowd": 1}
    columns = instances_of(task, _Annotations([annotation(), region]), IMAGE).fields()
    figures = {k: v for n, field in task.fields.items() for k, v in field.statistics(n, columns).items()}
    assert figures["depth (m)"] == pytest.approx([20])
    assert figures["length (m)"] == pytest.approx([4])
    assert figures["rotation y (degrees)"] == pytest.approx([math.degrees(0.4)])


# --- cameras


def test_a_camera_of_another_focal_length_sees_the_same_object_farther_away() -> None:
    task = Boxes3d(CATEGORIES)
    found = Detections(
        np.zeros((1, 4), np.float32),
        np.ones(1, np.float32),
        np.zeros(1, np.int64),
        {
            "centre": np.array([[700.0, 180.0]], np.float32),
            "alpha": np.zeros(1, np.float32),
            "depth": np.full(1, 10.0, np.float32),
            "dimensions": np.ones((1, 3), np.float32),
        },
    )
    plain = np.array([[0.581 * 1000, 0, 500, 0], [0, 0.581 * 1000, 200, 0], [0, 0, 1, 0.0]])
    tele = plain * [[2.0, 1, 1, 1], [1, 2, 1, 1], [1, 1, 1, 1]]
    infos = [ImageInfo(1, "", 1000, 400, {"calib": camera.tolist()}) for camera in (plain, tele)]
    depths = [float(task.lift(found, View(about, Affine.identity())).depth[0]) for about in infos]
    assert depths == pytest.approx([10, 20])
    # An image of half the size from the same camera shows the same.
    half = plain * [[0.5], [0.5], [1]]
    lifted = task.lift(found, View(ImageInfo(1, "", 500, 200, {"calib": half.tolist()}), Affine.identity()))
    assert float(lifted.depth[0]) == pytest.approx(10)


def test_a_batch_of_mixed_cameras_is_lifted_as_each_alone() -> None:
    task = Boxes3d(CATEGORIES)
    generator = torch.Generator().manual_seed(0)
    maps = {
        name: head.activate(torch.randn(3, head.channels, 12, 40, generator=generator))
        for name, head in task.heads.items()
    }
    views = []
    for number, width in enumerate((160, 155, 150)):
        camera = np.array(CAMERA) * width / 1242
        camera[2], camera[0, 3] = [0, 0, 1, 0.001 * number], number
        affine = Affine.centred((width / 2, 24), width, (160, 48))
        views.append(View.through(ImageInfo(number, "", width, 48, {"calib": camera.tolist()}), affine, 4))
    together = decode(task, maps, views, DetectionSettings(topk=15))
    for number, view in enumerate(views):
        own = {name: values[number : number + 1] for name, values in maps.items()}
        (alone,) = decode(task, own, [view], DetectionSettings(topk=15))
        for name, column in alone.fields().items():
            np.testing.assert_allclose(together[number].fields()[name], column, rtol=1e-5, atol=1e-5)
    assert not np.allclose(together[0].location, together[1].location, atol=1e-2)


def test_without_a_camera_objects_have_no_place_and_one_line_says_so(caplog, monkeypatch) -> None:
    task = Boxes3d(CATEGORIES)
    monkeypatch.setattr("ctnet.base.output._WARNED", set())
    _, found = rendered_scene(task, 0)
    bare = Detections(
        found.boxes, found.scores, found.labels, {"centre": found.boxes[:, :2], "alpha": found.alpha}
    )
    with caplog.at_level(logging.WARNING, "ctnet"):
        for _ in range(2):
            lifted = task.lift(bare, View(ImageInfo(1, "1.png", 384, 128), Affine.identity()))
    assert "location" not in lifted.fields()
    assert [record.message.count("calib") for record in caplog.records] == [1]
    drawn = task.draw(np.zeros((128, 384, 3), np.uint8), lifted)
    assert drawn.any()


def test_a_broken_camera_is_named() -> None:
    task = Boxes3d(CATEGORIES)
    with pytest.raises(CtnetError, match=r"image 1 \(1.png\): calib is not a 3x4 matrix"):
        task.lift(Detections.empty(), View(info(calib=[[1.0]]), Affine.identity()))


@pytest.mark.parametrize("objects", [1, 30])
def test_a_sample_opens_the_annotation_file_once(objects: int, tmp_path, monkeypatch) -> None:
    dataset = dataset_of(tmp_path, [annotation() for _ in range(objects)], Boxes3d(CATEGORIES))
    cv2.imwrite(str(dataset.folders[0] / "1.png"), np.zeros((375, 1242, 3), np.uint8))
    opened = []
    plain = builtins.open

    def counting(file, *args, **kwargs):
        opened.append(Path(file))
        return plain(file, *args, **kwargs)

    monkeypatch.setattr(builtins, "open", counting)
    sample = dataset[0]
    assert np.isfinite(sample.instances.depth_target).sum() == objects
    assert sample.info.record["calib"] == CAMERA
    assert opened.count(dataset.coco.path) == 1


# --- errors


@pytest.mark.parametrize(
    ("changes", "phrase"),
    [
        ({"dim": [1.5, -1.6, 4.0]}, "dim is [1.5, -1.6, 4.0], outside 1e-06 to inf"),
        ({"dim": None}, "dim is missing"),
        ({"location": [1.0, 2.0]}, "location is [1.0, 2.0], not 3 finite numbers (x, y, z)"),
        ({"location": [3.0, 1.7, math.nan]}, "not 3 finite numbers"),
        ({"location": [3.0, 1.7, -20.0], "depth": -20.0}, "behind the camera"),
        ({"alpha": "left"}, "alpha is 'left', not a finite number"),
        ({"alpha": -10}, "alpha is -10, not an angle in radians"),
        ({"rotation_y": math.inf}, "rotation_y is inf, not a finite number"),
        ({"depth": math.nan}, "depth is nan, not a finite number"),
        ({"depth": 21.0}, "depth is 21, but the location's z is 20"),
        ({"alpha": 2.0}, "alpha is 2, but rotation_y and location make it 0.25"),
        ({"bbox": [5.0, 5, 20, 20]}, "outside its box"),
    ],
)
def test_errors_are_named(changes: dict, phrase: str) -> None:
    (error,) = annotation_errors(Boxes3d(CATEGORIES), {**annotation(), **changes}, IMAGE)
    assert phrase in error


def test_what_is_not_an_error() -> None:
    task = Boxes3d(CATEGORIES)
    assert annotation_errors(task, annotation(), IMAGE) == []
    # KITTI's own labels are off by 0.11.
    assert annotation_errors(task, annotation(alpha=0.25 + 0.15), IMAGE) == []
    assert annotation_errors(task, annotation(bbox=[5.0, 5, 20, 20], truncated=0.95), IMAGE) == []
    without = annotation()
    del without["depth"]
    assert annotation_errors(task, without, IMAGE) == []
    region = {"category_id": 1, "bbox": [10.0, 20, 30, 40], "iscrowd": 1}
    assert annotation_errors(task, region, {"width": 1242, "height": 375}) == []


def test_an_image_without_a_camera_is_an_error_of_its_objects(tmp_path) -> None:
    task = Boxes3d(CATEGORIES)
    for calib, phrase in (
        (None, "its image has no calib"),
        ([[1.0]], "its image's calib is not a 3x4 matrix"),
    ):
        dataset = dataset_of(tmp_path, [annotation()], task, {**IMAGE, "calib": calib})
        (problem,) = dataset.problems
        assert phrase in str(problem)
        assert len(dataset.instances(0)) == 0


def test_bad_annotations_are_left_out_and_listed(tmp_path) -> None:
    task = Boxes3d(CATEGORIES)
    dataset = dataset_of(tmp_path, [annotation(), annotation(alpha=3.0)], task)
    assert len(dataset.instances(0)) == 1
    assert "alpha is 3" in str(dataset.problems[0])


# --- options, recipes, records


def test_options_are_checked() -> None:
    with pytest.raises(CtnetError, match="option focal of task ddd is -1; it must be above 0"):
        Boxes3d(CATEGORIES, focal=-1)
    assert Boxes3d(CATEGORIES, center="projected").heads["size"].channels == 4
    assert Boxes3d(CATEGORIES, loss="released").heads["offset"].slots == 50
    weighed = Boxes3d(CATEGORIES, size_weight=0.3, depth_weight=0.2).heads
    assert (weighed["size"].weight, weighed["depth"].weight) == (0.3, 0.2)


def test_the_paper_s_recipe_leaves_images_as_they_are() -> None:
    recipes = Boxes3d(CATEGORIES).recipes("dla34")
    paper = recipes["paper"]
    assert next(iter(recipes)) == "paper"
    assert (paper.epochs, paper.milestones, paper.size, paper.batch_size) == (70, (45, 60), (1280, 384), 16)
    plain = random_crop(np.random.default_rng(0), (1242, 375), (1280, 384), paper.augmentation, "width")
    assert plain.change is None
    assert not plain.mirrored
    changed = [
        random_crop(
            np.random.default_rng(seed), (1242, 375), (1280, 384), recipes["augmented"].augmentation, "width"
        ).change
        for seed in range(40)
    ]
    assert 0 < sum(change is None for change in changed) < 40


def test_angles_differ_the_shorter_way_round() -> None:
    task = Boxes3d(CATEGORIES)
    truth, found = rendered_scene(task, 1)
    turned = truth.replace(alpha=truth.alpha + 2 * math.pi, rotation_y=truth.rotation_y - 2 * math.pi)
    gaps = differences(task.fields, truth, turned)
    assert max(gaps["alpha"].max(), gaps["rotation_y"].max()) < 1e-6
    assert set(gaps) - {"centre"} <= set(found.fields())  # lifting to 3D consumes the centre


def test_scenes_are_of_kitti_s_categories_alone() -> None:
    task = Boxes3d([{"id": 1, "name": "tram"}])
    with pytest.raises(CtnetError, match="task ddd has scenes of Pedestrian, Car, Cyclist, not tram"):
        example_of(task, np.random.default_rng(0), (384, 128))


def test_collisions_are_decided_by_peaks() -> None:
    one, other = annotation(), annotation((3.0, 1.7, 20.5), 0.4, 1)
    grid = Grid(96, 320)
    instances = instances_of(Boxes3d(CATEGORIES), _Annotations([one, other]), IMAGE)
    instances = move_record(instances, Affine.scaling(0.25), Boxes3d.fields)
    apart = dataclasses.replace(instances, extra={**instances.extra, "centre": np.array([[9.0, 9], [90, 9]])})
    same = Instances(instances.boxes[[0, 0]], instances.labels, instances.crowd, apart.extra)
    assert Boxes3d(CATEGORIES).collides(same, grid).tolist() == [False, True]
    wide = same.boxes.copy()
    wide[:] = [0, 0, 300, 90]
    spread = same.replace(boxes=wide)
    assert Boxes3d(CATEGORIES, center="projected").collides(spread, grid).tolist() == [False, False]
