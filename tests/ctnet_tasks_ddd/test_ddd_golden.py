"""The reference numbers: geometry, targets, losses, decoding, and lifting to 3D."""

from __future__ import annotations

import dataclasses
import functools

import numpy as np
import pytest
import torch

from ctnet.core.fields import move_record
from ctnet.core.geometry import Affine, View
from ctnet.core.records import Detections, ImageInfo, Instances
from ctnet.core.targets import CellTargets, Grid
from ctnet.heatmap import draw_gaussians
from ctnet_tasks_ddd.camera import (
    box_corners,
    heading,
    middle,
    observation_of,
    project,
    rotation_of,
    unproject,
    wrap,
)
from ctnet_tasks_ddd.fields import CATEGORIES
from ctnet_tasks_ddd.heads import Depth, Values, angle_of, released_rotation_losses
from ctnet_tasks_ddd.task import Boxes3d

pytestmark = pytest.mark.golden
GRID = Grid(96, 320)
_CLASS_OF = {1: 0, 2: 1, 3: 2}
#: KITTI's other categories -> classes that they are ignore regions of.
_IGNORED = {4: [1], 5: [1], 6: [0], 9: [0, 1, 2]}


def task_of(**options: object) -> Boxes3d:
    return Boxes3d([{"id": i, "name": name} for i, name in enumerate(CATEGORIES, start=1)], **options)


def same_angle(one, other, atol=1e-5) -> bool:
    return bool(np.abs(wrap(np.asarray(one, np.float64) - other)).max() <= atol)


def test_geometry_equals_the_reference(golden):
    for file in sorted(golden.glob("ddd_utils*.npz")):
        data = np.load(file)
        dimensions, location, turn, camera = (data[name] for name in ("dim", "loc", "rot_y", "calib"))
        camera = camera.astype(np.float64)
        corners = box_corners(dimensions, location, turn)
        np.testing.assert_allclose(corners, data["box3d"], atol=1e-4)
        far = data["box3d"][..., 2].min(axis=1) > 0.2
        np.testing.assert_allclose(project(corners, camera)[far], data["box2d"][far], rtol=1e-4, atol=1e-3)
        np.testing.assert_allclose(data["project_3d_bbox"], data["box2d"])
        np.testing.assert_allclose(heading(dimensions, location, turn), data["orient3d"], atol=1e-4)
        np.testing.assert_allclose(
            unproject(data["center"], data["depth"], camera), data["unproject"], atol=1e-4
        )
        x = data["center"][:, 0]
        assert same_angle(rotation_of(data["alpha"], x, camera), data["alpha2rot_y"])
        assert same_angle(observation_of(turn, x, camera), data["rot_y2alpha"])
        np.testing.assert_allclose(
            angle_of(torch.from_numpy(data["rot8"])), wrap(data["get_alpha"]), atol=1e-5
        )
        columns = {"centre": data["center"], "alpha": data["alpha"], "depth": data["depth"]}
        count = len(x)
        found = Detections(
            np.zeros((count, 4)), np.ones(count), np.zeros(count, int), {**columns, "dimensions": dimensions}
        )
        info = ImageInfo(1, "", 1000, 300, {"calib": camera.tolist()})
        lifted = task_of(focal=camera[0, 0] / 1000).lift(found, View(info, Affine.identity()))
        np.testing.assert_allclose(lifted.location, data["ddd2locrot_loc"], atol=1e-4)
        assert same_angle(lifted.rotation_y, data["ddd2locrot_rot_y"])
        np.testing.assert_allclose(middle(dimensions, location)[:, 1], location[:, 1] - dimensions[:, 0] / 2)


def on_grid(data, key: str) -> Instances:
    """The reference's annotations of one image, moved to its grid; those of several classes several times."""
    boxes = data[f"{key}ann_bbox_xywh"].astype(np.float32)
    boxes[:, 2:] += boxes[:, :2]
    rows, labels, crowd = [], [], []
    for row, category in enumerate(data[f"{key}ann_category_id"].tolist()):
        for label in [_CLASS_OF[category]] if category in _CLASS_OF else _IGNORED.get(category, []):
            rows.append(row)
            labels.append(label)
            crowd.append(category in _IGNORED)
    boxes, unknown = boxes[rows], np.array(crowd)
    instances = Instances.of(
        boxes,
        labels,
        crowd,
        alpha=data[f"{key}ann_alpha"][rows],
        depth_target=np.where(unknown, np.nan, data[f"{key}ann_depth"][rows]),
        dimensions=np.where(unknown[:, None], np.nan, data[f"{key}ann_dim"][rows]),
        centre=(boxes[:, :2] + boxes[:, 2:]) / 2,
    )
    affine = Affine.centred(
        tuple(data[f"{key}meta_c"]), float(data[f"{key}meta_s"][0]), (GRID.width, GRID.height)
    )
    return move_record(instances, affine, Boxes3d.fields)


def test_targets_equal_the_reference(golden):
    for file in sorted(golden.glob("targets_ddd*.npz")):
        data = np.load(file)
        for image in range(int(data["num_images"])):
            key = f"img{image}_"
            slots = data[f"{key}rot_mask"].astype(bool)
            instances = on_grid(data, key)
            for ignore, name in (("gaussian", "hm"), ("rectangle", "hm_rect_mask")):
                targets = task_of(ignore=ignore).encode(instances, GRID)
                drawn = draw_gaussians(targets["heatmap"], (1, 3, *GRID[:2]))[0].numpy()
                wanted = data[f"{key}{name}"]
                # A region that the reference draws later takes a peak away; here the object stays.
                taken = (drawn == 1) & (wanted < 1)
                assert taken.sum() <= instances.crowd.sum()
                np.testing.assert_allclose(drawn[~taken], wanted[~taken], atol=1e-6)
            for head, name in (("size", "wh"), ("offset", "reg"), ("depth", "dep"), ("dimensions", "dim")):
                samples = targets[head]
                np.testing.assert_array_equal(samples.y * GRID.width + samples.x, data[f"{key}ind"][slots])
                np.testing.assert_allclose(samples.value, data[f"{key}{name}"][slots], atol=1e-4)
                assert (samples.weight == 1).all()
            rotation = targets["rotation"].value.numpy().reshape(-1, 2, 4)
            bins, turn = data[f"{key}rotbin"][slots], data[f"{key}rotres"][slots]
            np.testing.assert_array_equal(rotation[..., 1], bins)
            np.testing.assert_array_equal(rotation[..., 0], 1 - bins)
            np.testing.assert_allclose(rotation[..., 2], np.sin(turn) * bins, atol=1e-5)
            np.testing.assert_allclose(rotation[..., 3], np.cos(turn) * bins, atol=1e-5)


def test_decoding_equals_the_reference(golden):
    for file in sorted(golden.glob("decode_ddd*.npz")):
        data = np.load(file)
        names = {
            "heatmap": "hm",
            "offset": "reg",
            "size": "wh",
            "depth": "dep",
            "dimensions": "dim",
            "rotation": "rot",
        }
        maps = {head: torch.from_numpy(data[name]) for head, name in names.items()}
        for variant, missing in (("dets", ""), ("dets_nowh", ""), ("dets_noreg", "offset")):
            found = task_of().decode({k: v for k, v in maps.items() if k != missing}, int(data["K"]))
            wanted = torch.from_numpy(data[variant])
            size = found.boxes[..., 2:] - found.boxes[..., :2]
            columns = [found.centre, found.scores[..., None]]
            np.testing.assert_allclose(torch.cat(columns, dim=2), wanted[..., :3], atol=1e-5)
            np.testing.assert_allclose(found.alpha, angle_of(wanted[..., 3:11]), atol=1e-5)
            np.testing.assert_allclose(found.depth, wanted[..., 11], atol=1e-4)
            np.testing.assert_allclose(found.dimensions, wanted[..., 12:15], atol=1e-5)
            if variant != "dets_nowh":
                np.testing.assert_allclose(size, wanted[..., 15:17], atol=1e-4)
                np.testing.assert_allclose(
                    (found.boxes[..., :2] + found.boxes[..., 2:]) / 2, found.centre, atol=1e-4
                )
            np.testing.assert_array_equal(found.labels, wanted[..., -1])


def test_the_way_into_space_equals_the_reference(golden):
    for file in sorted(golden.glob("affine*.npz")):
        data = np.load(file)
        width, height = (int(side) for side in data["ddd_pp_out_wh"])
        camera = data["ddd_pp_calib"].astype(np.float64)
        for image, rows in enumerate(torch.from_numpy(data["ddd_pp_dets"])):
            centre, size = rows[:, :2].numpy(), rows[:, 15:17].numpy()
            found = Detections(
                np.concatenate([centre - size / 2, centre + size / 2], axis=1),
                rows[:, 2].numpy(),
                rows[:, -1].numpy().astype(int),
                {
                    "centre": centre,
                    "alpha": angle_of(rows[:, 3:11]).numpy(),
                    "depth": rows[:, 11].numpy(),
                    "dimensions": rows[:, 12:15].numpy(),
                },
            )
            frame = float(data["ddd_pp_s"][image, 0])
            back = Affine.centred(tuple(data["ddd_pp_c"][image]), frame, (width, height)).inverse()
            info = ImageInfo(1, "", int(frame), 375, {"calib": camera.tolist()})
            task = task_of(focal=camera[0, 0] / frame)
            found = task.lift(move_record(found, back, task.fields), View(info, back))
            found = found[np.argsort(found.labels, kind="stable")]  # the reference lists class after class
            flat = data["ddd_pp_out2d"][data["ddd_pp_out2d"][:, 0] == image]
            solid = data["ddd_pp_out3d"][data["ddd_pp_out3d"][:, 0] == image]
            np.testing.assert_array_equal(found.labels + 1, flat[:, 1])
            np.testing.assert_allclose(found.scores, flat[:, 4], atol=1e-6)
            assert same_angle(found.alpha, flat[:, 5])
            # The reference maps width and height like a point; a size has no shift.
            shift = back.matrix[:, 2]
            size = found.boxes[:, 2:] - found.boxes[:, :2]
            np.testing.assert_allclose(size + shift, flat[:, 10:12], rtol=1e-5, atol=1e-4)
            np.testing.assert_allclose(
                (found.boxes[:, :2] + found.boxes[:, 2:]) / 2, flat[:, 2:4], rtol=1e-5, atol=1e-4
            )
            np.testing.assert_allclose(found.dimensions, solid[:, 7:10], atol=1e-4)
            np.testing.assert_allclose(found.location, solid[:, 10:13], rtol=1e-5, atol=1e-4)
            assert same_angle(found.rotation_y, solid[:, 13])
            np.testing.assert_allclose(found.scores, solid[:, 14], atol=1e-6)


def test_losses_equal_the_reference(golden):
    for file in sorted(golden.glob("losses*.npz")):
        data = np.load(file)
        slots = data["l1mean_mask"].shape[1]
        check_loss(data, Values(3, slots=slots), "l1mean", plain_samples(data, "l1mean"))
        depth = Depth(1, slots=data["dep_mask"].shape[1])
        check_loss(data, depth, "dep", plain_samples(data, "dep"), "dep_raw", "dep_grad_raw")
        np.testing.assert_allclose(
            depth.activate(torch.from_numpy(data["dep_raw"])), data["dep_depth"], rtol=1e-5
        )
        for prefix in ("binrot", "binrot_empty", "binrot_unmasked_bins"):
            slots, target = data[f"{prefix}_mask"].shape[1], rotation_samples(data, prefix)
            losses = functools.partial(released_rotation_losses, target=target, slots=slots)
            check_losses(data, losses, prefix, target)


def check_loss(data, head, prefix: str, target: CellTargets, output: str = "", gradient: str = "") -> None:
    check_losses(data, lambda values: {"": head.loss(values, target)}, prefix, target, output, gradient)


def check_losses(
    data, losses, prefix: str, target: CellTargets, output: str = "", gradient: str = ""
) -> None:
    raw = torch.from_numpy(data[output or f"{prefix}_output"]).requires_grad_()
    terms = [loss.total / loss.count.clamp(min=1) for loss in losses(target.gather(raw)).values()]
    loss = torch.stack(terms).sum()
    np.testing.assert_allclose(loss.item(), data[f"{prefix}_loss"], rtol=1e-5)
    loss.backward()
    np.testing.assert_allclose(raw.grad, data[gradient or f"{prefix}_grad"], rtol=1e-5, atol=1e-8)


def plain_samples(data, prefix: str) -> CellTargets:
    mask = data[f"{prefix}_mask"].astype(bool)
    value = data[f"{prefix}_target"][mask]
    return placed(data, prefix, mask, value, np.ones_like(value))


def rotation_samples(data, prefix: str) -> CellTargets:
    """Rows of every slot that the reference reads; of masked ones, sine and cosine of the set bins."""
    mask, bins = data[f"{prefix}_mask"].astype(bool), data[f"{prefix}_rotbin"]
    turn = data[f"{prefix}_rotres"]
    read = mask | bins.any(axis=2)
    inside = bins[..., None].astype(np.float32)
    value = np.concatenate([1 - inside, inside, np.sin(turn)[..., None], np.cos(turn)[..., None]], axis=3)
    counts = np.broadcast_to(mask[..., None, None], inside.shape)
    weight = np.concatenate([counts, counts, inside, inside], axis=3)
    return placed(data, prefix, read, value[read].reshape(-1, 8), weight[read].reshape(-1, 8))


def placed(data, prefix: str, rows: np.ndarray, value: np.ndarray, weight: np.ndarray) -> CellTargets:
    width = data["dep_raw" if prefix == "dep" else f"{prefix}_output"].shape[3]
    cells = data[f"{prefix}_ind"][rows]
    samples = CellTargets.of(np.stack([cells % width, cells // width], axis=1), value, weight)
    batch = np.broadcast_to(np.arange(len(rows))[:, None], rows.shape)[rows]
    return dataclasses.replace(samples, batch=torch.from_numpy(batch.copy()), images=len(rows))
