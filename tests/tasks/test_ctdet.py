from __future__ import annotations

import re

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ctnet.base.errors import CtnetError
from ctnet.core.documents import annotations_of
from ctnet.core.fields import move_record
from ctnet.core.geometry import Affine
from ctnet.core.records import Instances
from ctnet.core.targets import CellTargets, Grid, Peaks
from ctnet.core.task import create_task
from ctnet.heatmap import draw_gaussians
from ctnet.testing.mirroring import mirror_image

COCO_IDS = [i for i in range(1, 91) if i not in (12, 26, 29, 30, 45, 66, 68, 69, 71, 83)]
THREE = [{"id": i, "name": name} for i, name in enumerate("abc", start=1)]


def on_grid(data, image: int, task) -> Instances:
    """The reference's annotations of one image, moved to its 128x128 grid."""
    box = data[f"img{image}_ann_bbox_xywh"].astype(np.float32)
    box[:, 2:] += box[:, :2]
    instances = Instances.of(
        box, task.categories.labels(data[f"img{image}_ann_category_id"]), data[f"img{image}_ann_iscrowd"]
    )
    affine = Affine.centred(tuple(data[f"img{image}_meta_c"]), float(data[f"img{image}_meta_s"]), (128, 128))
    return move_record(instances, affine, task.fields)


@pytest.mark.golden
def test_targets_equal_the_reference(golden):
    for file in sorted(golden.glob("targets_ctdet*.npz")):
        data = np.load(file)
        task = create_task("ctdet", [{"id": i, "name": str(i)} for i in COCO_IDS])
        for image in range(int(data["num_images"])):
            # The reference cuts at 128 annotations; ours has no cap.
            targets = task.encode(on_grid(data, image, task)[:128], Grid(128, 128))
            key = f"img{image}_"
            drawn = draw_gaussians(targets["heatmap"], (1, 80, 128, 128))[0]
            np.testing.assert_allclose(drawn, data[f"{key}hm"], atol=1e-6)
            slots = data[f"{key}reg_mask"].astype(bool)
            size, offset = targets["size"], targets["offset"]
            np.testing.assert_array_equal(size.y * 128 + size.x, data[f"{key}ind"][slots])
            np.testing.assert_allclose(size.value, data[f"{key}wh"][slots], atol=1e-5)
            np.testing.assert_allclose(offset.value, data[f"{key}reg"][slots], atol=1e-5)


@pytest.mark.golden
def test_class_specific_sizes_equal_the_reference(golden):
    for file in sorted(golden.glob("targets_ctdet*.npz")):
        data = np.load(file)
        task = create_task("ctdet", [{"id": i, "name": str(i)} for i in COCO_IDS], class_specific_size=True)
        size = task.encode(on_grid(data, 0, task), Grid(128, 128))["size"]
        slots = data["img0_reg_mask"].astype(bool)
        np.testing.assert_allclose(size.value, data["img0_cat_spec_wh"][slots], atol=1e-5)
        np.testing.assert_array_equal(size.weight, data["img0_cat_spec_mask"][slots])
        task = create_task("ctdet", [{"id": i, "name": str(i)} for i in COCO_IDS], dense_size=True)
        size = task.encode(on_grid(data, 0, task), Grid(128, 128))["size"]
        value, weight = np.zeros((2, 2, 128, 128))
        value[:, size.y, size.x], weight[:, size.y, size.x] = size.value.T, size.weight.T
        # Zero where the reference skips a cell for a rounding error, see docs/fidelity.md.
        rendered = data["img0_dense_wh"] != 0
        assert rendered.sum() > 0.4 * (weight > 0).sum()
        np.testing.assert_allclose(value[rendered], data["img0_dense_wh"][rendered], atol=1e-4)
        np.testing.assert_allclose(weight, data["img0_dense_wh_mask"], atol=1e-5)


@pytest.mark.golden
def test_decoding_equals_the_reference(golden):
    for file in sorted(golden.glob("decode_ctdet*.npz")):
        data = dict(np.load(file).items())
        k, classes = int(data["K"]), data["hm"].shape[1]
        categories = [{"id": i + 1, "name": str(i)} for i in range(classes)]
        maps = {"heatmap": data["hm"], "size": data["wh"], "offset": data["reg"]}
        variants = {
            "dets": ({}, maps),
            "dets_noreg": ({}, {name: maps[name] for name in ("heatmap", "size")}),
            "dets_catspec": ({"class_specific_size": True}, {**maps, "size": data["wh_catspec"]}),
        }
        for name, (options, inputs) in variants.items():
            task = create_task("ctdet", categories, **options)
            found = task.decode({key: torch.from_numpy(value) for key, value in inputs.items()}, k)
            ours = torch.cat([found.boxes, found.scores[..., None], found.labels[..., None].float()], dim=2)
            np.testing.assert_allclose(ours, data[name], atol=1e-4, err_msg=name)


boxes_strategy = st.lists(
    st.tuples(
        st.floats(0, 50, width=32),
        st.floats(0, 40, width=32),
        st.floats(0.5, 12),
        st.floats(0.5, 6),
        st.integers(0, 2),
    ),
    max_size=15,
)


@given(boxes_strategy, st.sampled_from([{}, {"class_specific_size": True}, {"box": "giou"}]))
@settings(max_examples=90, deadline=None)
def test_decode_of_rendered_targets_gives_the_objects_back(rows, options):
    """The round trip, on boxes whose centres do not share or touch a cell."""
    grid = Grid(48, 64)
    task = create_task("ctdet", THREE, **options)
    kept, taken = [], set()
    for x, y, w, h, label in rows:
        box = np.clip([x, y, x + w, y + h], 0, [63, 47, 63, 47]).astype(np.float32)
        cell = (int((box[0] + box[2]) / 2), int((box[1] + box[3]) / 2))
        near = {(cell[0] + i, cell[1] + j) for i in (-1, 0, 1) for j in (-1, 0, 1)}
        if near & taken or (box[2:] - box[:2]).min() <= 0:
            continue
        taken.add(cell)
        kept.append((*box, label))
    table = np.array(kept, np.float32).reshape(-1, 5)
    targets = task.encode(Instances.of(table[:, :4], table[:, 4]), grid)
    maps = {name: head.render(targets[name], grid) for name, head in task.heads.items()}
    found = task.decode(maps, 50).per_image()[0].above(0.999)
    assert len(found) == len(table)
    back = np.concatenate([found.boxes, found.labels[:, None]], 1)
    order, wanted = np.lexsort(back.round(2).T), np.lexsort(table.round(2).T)
    if len(table):
        distance = np.abs(back[:, None] - table[None]).max(-1)
        assert distance.min(0).max() < 1e-4
        assert distance.min(1).max() < 1e-4
    assert len(order) == len(wanted)


def test_crowd_can_be_ignored_but_still_reduces_the_penalty():
    instances = Instances.of([[2, 2, 8, 8], [20, 20, 30, 30]], [0, 1], [True, False])
    ignoring = create_task("ctdet", THREE, crowd="ignore").encode(instances, Grid(32, 32))
    assert isinstance(ignoring["heatmap"], Peaks)
    assert ignoring["heatmap"].positive.tolist() == [False, True]
    assert isinstance(ignoring["size"], CellTargets)
    assert len(ignoring["size"]) == len(ignoring["offset"]) == 1
    assert create_task("ctdet", THREE).encode(instances, Grid(32, 32))["heatmap"].positive.all()


def test_what_a_crop_cuts_can_be_ignored_but_still_reduces_the_penalty():
    whole, half, tiny = [4, 4, 14, 14], [-5, 20, 5, 30], [30, 30, 32, 32]
    instances = Instances.of([whole, half, tiny], [0, 1, 2])
    everything = create_task("ctdet", THREE).encode(instances, Grid(32, 32))
    assert everything["heatmap"].positive.all()
    choosy = create_task("ctdet", THREE, min_visible=0.6).encode(instances, Grid(32, 32))
    # The last box lies wholly on the grid, though the released code's rule cuts it to half its width.
    assert choosy["heatmap"].positive.tolist() == [True, False, True]
    assert torch.equal(choosy["heatmap"].x, everything["heatmap"].x)
    assert len(choosy["size"]) == len(choosy["offset"]) == 2
    at_the_limit = create_task("ctdet", THREE, min_visible=0.5).encode(instances, Grid(32, 32))
    assert at_the_limit["heatmap"].positive.all()
    with pytest.raises(CtnetError, match=r"min_visible of task ctdet is 1.5; it must lie between 0 and 1"):
        create_task("ctdet", THREE, min_visible=1.5)


def test_many_objects_are_all_kept():
    boxes = np.random.default_rng(0).uniform(0, 120, (400, 2))
    instances = Instances.of(np.concatenate([boxes, boxes + 5], 1), np.zeros(400))
    assert len(create_task("ctdet", THREE).encode(instances, Grid(128, 128))["size"]) == 400


def test_mirror_of_mirror_is_the_identity():
    task = create_task("ctdet", THREE)
    instances = Instances.of([[2, 3, 9, 8]], [1])
    once = mirror_image(task, instances, 32)
    np.testing.assert_allclose(once.boxes, [[22, 3, 29, 8]])
    np.testing.assert_allclose(mirror_image(task, once, 32).boxes, instances.boxes)


def test_annotations_as_coco_has_them():
    task = create_task("ctdet", [{"id": 7, "name": "x"}, {"id": 3, "name": "y"}])
    assert task.categories.names == ("y", "x")
    annotation = annotations_of(task, Instances.of([[2, 3, 9.5, 8]], [1], [True]))[0]
    assert annotation == {"category_id": 7, "bbox": [2.0, 3.0, 7.5, 5.0], "area": 37.5, "iscrowd": 1}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"size_los": "l1"}, "no option of task ctdet called 'size_los'; did you mean size_loss"),
        ({"size_loss": "l3"}, "size_loss of task ctdet is 'l3'; it must be l1|smooth_l1|normalized_l1|giou"),
        ({"size_weight": "heavy"}, "size_weight of task ctdet is 'heavy'; it must be a number"),
        ({"class_specific_size": "maybe"}, "is 'maybe'; it must be true|false"),
    ],
)
def test_wrong_options_say_what_is_allowed(options, message):
    with pytest.raises(CtnetError, match=re.escape(message)):
        create_task("ctdet", THREE, **options)


def test_options_arrive_as_typed_values():
    task = create_task("ctdet", THREE, size_weight="0.5", class_specific_size="on")
    assert task.options.size_weight == 0.5
    assert task.options.class_specific_size is True
    assert task.heads["size"].channels == 6


@pytest.mark.parametrize(
    ("categories", "message"),
    [
        ([], "there are no categories"),
        ([{"id": 1}], "needs a whole-number id and a name"),
        ([{"id": 1, "name": "a"}, {"id": 1, "name": "b"}], "category id 1 occurs twice"),
    ],
)
def test_categories_are_checked(categories, message):
    with pytest.raises(CtnetError, match=message):
        create_task("ctdet", categories)


def test_unknown_task_offers_the_nearest():
    with pytest.raises(CtnetError, match="no task called 'ctdett'; did you mean ctdet"):
        create_task("ctdett", THREE)
