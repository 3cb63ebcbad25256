"""The reference numbers: targets, decoding and its variants, and the mapping back to image pixels."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from ctnet.core.fields import move_record
from ctnet.core.geometry import Affine
from ctnet.core.records import Detections, Instances
from ctnet.core.targets import Grid
from ctnet.core.task import create_task
from ctnet.heatmap import draw_gaussians

GRID = Grid(128, 128)


def pose_task(joints: int, **options: object):
    names = [f"joint{number}" for number in range(joints)]
    return create_task("pose", [{"id": 1, "name": "person", "keypoints": names}], **options)


def on_grid(data, key: str, task) -> Instances:
    """The reference's annotations of one image, moved to its grid."""
    box = data[f"{key}ann_bbox_xywh"].astype(np.float32)
    box[:, 2:] += box[:, :2]
    keypoints = data[f"{key}ann_keypoints"]
    instances = Instances.of(
        box,
        np.zeros(len(box)),
        keypoints=keypoints[..., :2].astype(np.float32),
        visibility=keypoints[..., 2].astype(np.int64),
    )
    affine = Affine.centred(tuple(data[f"{key}meta_c"]), float(data[f"{key}meta_s"]), (128, 128))
    return move_record(instances, affine, task.fields)


def cells(samples) -> np.ndarray:
    return (samples.y * GRID.width + samples.x).numpy()


@pytest.mark.golden
def test_targets_equal_the_reference(golden):
    for file in sorted(golden.glob("targets_multi_pose*.npz")):
        data = np.load(file)
        for image in range(int(data["num_images"])):
            key = f"img{image}_"
            joints = data[f"{key}ann_keypoints"].shape[1]
            task = pose_task(joints)
            slots = data[f"{key}reg_mask"].astype(bool)
            # The reference cuts at its number of slots; ours has no cap.
            targets = task.encode(on_grid(data, key, task)[: len(slots)], GRID)
            for head, name in (("heatmap", "hm"), ("joint_heatmap", "hm_hp")):
                drawn = draw_gaussians(targets[head], (1, task.heads[head].channels, *GRID[:2]))[0]
                np.testing.assert_allclose(drawn, data[f"{key}{name}"], atol=1e-6)
            for head, name in (("size", "wh"), ("offset", "reg"), ("joints", "hps")):
                samples = targets[head]
                trained = samples.weight.numpy() > 0
                # Persons without labelled joints have rows of zero weight, and none in the reference.
                rows = targets["size"].weight[:, 0].numpy() > 0
                assert not trained[~rows].any()
                np.testing.assert_array_equal(cells(samples)[rows], data[f"{key}ind"][slots])
                np.testing.assert_allclose(samples.value[rows], data[f"{key}{name}"][slots], atol=1e-4)
            np.testing.assert_array_equal(trained[rows], data[f"{key}hps_mask"][slots])
            labelled = data[f"{key}hp_mask"].astype(bool)
            np.testing.assert_array_equal(cells(targets["joint_offset"]), data[f"{key}hp_ind"][labelled])
            np.testing.assert_allclose(
                targets["joint_offset"].value, data[f"{key}hp_offset"][labelled], atol=1e-4
            )


@pytest.mark.golden
def test_decoding_equals_the_reference_with_and_without_each_optional_head(golden):
    for file in sorted(golden.glob("decode_multi_pose*.npz")):
        data = np.load(file)
        names = {
            "heatmap": "hm",
            "size": "wh",
            "offset": "reg",
            "joints": "hps",
            "joint_heatmap": "hm_hp",
            "joint_offset": "hp_offset",
        }
        maps = {head: torch.from_numpy(data[name]) for head, name in names.items()}
        without = {
            "dets": (),
            "dets_nohpoffset": ("joint_offset",),
            "dets_nohmhp": ("joint_heatmap", "joint_offset"),
            "dets_noreg": ("offset",),
        }
        task = pose_task(maps["joint_heatmap"].shape[1])
        for variant, missing in without.items():
            inputs = {head: values for head, values in maps.items() if head not in missing}
            np.testing.assert_allclose(
                row_of(task.decode(inputs, int(data["K"]))), data[variant], atol=1e-4, err_msg=variant
            )
        # Without snapping the joint heatmap moves nothing.
        regressed = pose_task(maps["joint_heatmap"].shape[1], snap=False).decode(maps, int(data["K"]))
        np.testing.assert_allclose(row_of(regressed), data["dets_nohmhp"], atol=1e-4)
        assert not np.allclose(data["dets_nohmhp"], data["dets"], atol=1e-2)


def row_of(found: Detections) -> np.ndarray:
    """Detections of a batch as the reference writes them: box, score, joints, class."""
    columns = [found.boxes, found.scores[..., None], found.keypoints.flatten(2), found.labels[..., None]]
    return torch.cat([column.float() for column in columns], dim=2).numpy()


@pytest.mark.golden
def test_the_way_back_to_the_image_equals_the_reference(golden):
    for file in sorted(golden.glob("affine*.npz")):
        data = np.load(file)
        height, width = (int(side) for side in data["ctdet_pp_hw"])
        rows = data["mp_pp_dets"]
        task = pose_task((rows.shape[2] - 6) // 2)
        for image, wanted in enumerate(data["mp_pp_out"]):
            found = Detections(
                rows[image, :, :4],
                rows[image, :, 4],
                np.zeros(rows.shape[1], np.int64),
                {"keypoints": rows[image, :, 5:-1].reshape(rows.shape[1], -1, 2)},
            )
            to_grid = Affine.centred(
                tuple(data["ctdet_pp_c"][image]), float(data["ctdet_pp_s"][image]), (width, height)
            )
            moved = move_record(found, to_grid.inverse(), task.fields)
            np.testing.assert_allclose(moved.boxes, wanted[:, :4], atol=1e-3)
            np.testing.assert_allclose(moved.keypoints.reshape(len(moved), -1), wanted[:, 5:], atol=1e-3)
