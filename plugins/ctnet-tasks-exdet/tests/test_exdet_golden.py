"""The numbers of the authors' release: targets and both groupings with their variants."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from ctnet_tasks_exdet import ExtremeDetection
from ctnet_tasks_exdet.edges import EDGES, box_of

from ctnet.core.fields import move_record
from ctnet.core.geometry import Affine
from ctnet.core.records import Detections, Instances
from ctnet.core.targets import Grid
from ctnet.heatmap import draw_gaussians

# COCO's ids: 1 to 90 without these.
UNUSED = {12, 26, 29, 30, 45, 66, 68, 69, 71, 83}
COCO = [{"id": number, "name": f"class {number}"} for number in range(1, 91) if number not in UNUSED]


def release_maps(data) -> dict[str, torch.Tensor]:
    maps = {"centre": torch.from_numpy(data["hm_c"])}
    for edge in EDGES:
        maps[edge] = torch.from_numpy(data[f"hm_{edge[0]}"])
        maps[f"{edge}_offset"] = torch.from_numpy(data[f"reg_{edge[0]}"])
    return maps


def rows_of(found: Detections) -> np.ndarray:
    """Detections of a batch as the reference writes them: box, score, points, class."""
    columns = [
        found.boxes,
        found.scores[..., None],
        found.extreme_points.flatten(2),
        found.labels[..., None].float(),
    ]
    return torch.cat(columns, dim=2).numpy()


@pytest.mark.golden
@pytest.mark.parametrize("variant", ["", "_noreg", "_aggr"])
@pytest.mark.parametrize("kind", ["exct", "agnex"])
def test_grouping_equals_the_reference(golden: Path, kind: str, variant: str):
    for file in sorted(golden.glob("decode_exdet*.npz")):
        data = np.load(file)
        maps = release_maps(data)
        if kind == "agnex":
            maps.update({edge: maps[edge].amax(dim=1, keepdim=True) for edge in EDGES})
        if variant == "_noreg":
            maps = {name: values for name, values in maps.items() if not name.endswith("_offset")}
        task = ExtremeDetection(
            [{"id": number, "name": f"class {number}"} for number in range(1, data["hm_c"].shape[1] + 1)],
            agnostic=kind == "agnex",
            points=int(data["K"]),
            point_threshold=float(data["scores_thresh"]),
            centre_threshold=float(data["center_thresh"]),
            middle="cells",
            aggregation=0.1 if variant == "_aggr" else 0.0,
        )
        rows = rows_of(task.decode(maps, int(data["num_dets"])))
        wanted = data[f"{kind}_dets{variant}"]
        assert rows.shape == wanted.shape
        for image, count in enumerate(data[f"{kind}_num_valid{variant}"]):
            np.testing.assert_allclose(rows[image, :count], wanted[image, :count], atol=1e-5)
            assert (rows[image, count:, 4] == 0).all()


def on_grid(data, key: str, task: ExtremeDetection) -> Instances:
    """The reference's annotations of one image, moved to its grid."""
    points = data[f"{key}ann_extreme_points_tlbr"].astype(np.float32)
    labels = task.categories.labels(data[f"{key}ann_category_id"])
    instances = Instances.of(box_of(points), labels, extreme_points=points)
    height, width = (int(side) for side in data[f"{key}size_hw"])
    rows, columns = data[f"{key}hm_c"].shape[1:]
    affine = Affine.centred((width / 2, height / 2), max(width, height), (columns, rows))
    return move_record(instances, affine, task.fields)


@pytest.mark.golden
def test_targets_equal_the_reference(golden: Path):
    for file in sorted(golden.glob("targets_exdet*.npz")):
        data = np.load(file)
        task, agnostic = ExtremeDetection(COCO), ExtremeDetection(COCO, agnostic=True)
        for image in range(int(data["num_images"])):
            key = f"img{image}_"
            grid = Grid(*data[f"{key}hm_c"].shape[1:])
            slots = data[f"{key}reg_mask"].astype(bool)
            instances = on_grid(data, key, task)[: len(slots)]
            targets = task.encode(instances, grid)
            for name in ("centre", *EDGES):
                drawn = draw_gaussians(targets[name], (1, len(COCO), *grid[:2]))[0]
                np.testing.assert_allclose(drawn, data[f"{key}hm_{name[0]}"], atol=1e-6, err_msg=name)
            for edge in EDGES:
                samples = targets[f"{edge}_offset"]
                cells = (samples.y * grid.width + samples.x).numpy()
                np.testing.assert_array_equal(cells, data[f"{key}ind_{edge[0]}"][slots])
                np.testing.assert_allclose(samples.value, data[f"{key}reg_{edge[0]}"][slots], atol=1e-4)
                drawn = draw_gaussians(agnostic.encode(instances, grid)[edge], (1, 1, *grid[:2]))[0]
                np.testing.assert_allclose(drawn, data[f"{key}agnostic_hm_{edge[0]}"], atol=1e-6)
