from __future__ import annotations

import numpy as np
import pytest
import torch
from torchvision.ops import complete_box_iou_loss, generalized_box_iou_loss

from ctnet.core.targets import CellTargets
from ctnet.heatmap import (
    box_iou_loss,
    concentric_giou_loss,
    l1_loss,
    normalized_l1_loss,
    smooth_l1_loss,
)

CASES = {
    "regl1": l1_loss,
    "regl1_empty": l1_loss,
    "smoothl1": smooth_l1_loss,
    "normregl1": normalized_l1_loss,
    "regweightedl1": l1_loss,
}


def mean(loss, *arguments) -> torch.Tensor:
    total, count = loss(*arguments)
    return total / count.clamp(min=1)


def samples_of(data, prefix: str, width: int) -> CellTargets:
    """The reference's padded slots as ragged rows: only those that its mask counts."""
    mask, ind, target = (data[f"{prefix}_{name}"] for name in ("mask", "ind", "target"))
    mask = np.broadcast_to(mask[..., None], target.shape) if mask.ndim == 2 else mask
    batch, slot = np.nonzero(mask.any(axis=2))
    cell = ind[batch, slot]
    one = CellTargets.of(np.stack([cell % width, cell // width], 1), target[batch, slot], mask[batch, slot])
    return CellTargets(torch.from_numpy(batch), one.x, one.y, one.value, one.weight, len(ind))


@pytest.mark.golden
@pytest.mark.parametrize("prefix", list(CASES))
def test_loss_and_gradient_equal_the_reference(golden, prefix):
    for file in sorted(golden.glob("losses*.npz")):
        data = np.load(file)
        output = torch.from_numpy(data[f"{prefix}_output"]).requires_grad_()
        samples = samples_of(data, prefix, output.shape[3])
        loss = mean(CASES[prefix], samples.gather(output), samples.value, samples.weight)
        loss.backward()
        assert loss.item() == pytest.approx(float(data[f"{prefix}_loss"]), rel=1e-5)
        np.testing.assert_allclose(output.grad, data[f"{prefix}_grad"], rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize(
    "loss", [l1_loss, smooth_l1_loss, normalized_l1_loss, concentric_giou_loss, box_iou_loss]
)
def test_no_object_gives_zero_with_a_gradient(loss):
    output = torch.rand(1, 4, 5, 6, requires_grad=True)
    samples = CellTargets.of(np.zeros((0, 2)), np.zeros((0, 4)))
    total, count = loss(samples.gather(output), samples.value, samples.weight)
    total.backward()
    assert total.item() == count.item() == 0
    assert not output.grad.any()


def test_masked_entries_get_no_gradient():
    output = torch.rand(1, 2, 4, 4, requires_grad=True)
    samples = CellTargets.of(np.array([[1, 2]]), np.ones((1, 2)), np.array([[1.0, 0.0]]))
    mean(l1_loss, samples.gather(output), samples.value, samples.weight).backward()
    assert output.grad[0, 0, 2, 1] != 0
    assert output.grad[0, 1].abs().sum() == 0


def test_giou_equals_torchvision_on_boxes_with_one_centre():
    generator = torch.Generator().manual_seed(0)
    size, true = (
        1 + 20 * torch.rand(50, 2, generator=generator),
        1 + 20 * torch.rand(50, 2, generator=generator),
    )
    wanted = generalized_box_iou_loss(
        torch.cat([-size / 2, size / 2], 1), torch.cat([-true / 2, true / 2], 1), reduction="mean"
    )
    ours = mean(concentric_giou_loss, size, true, torch.ones(50, 2))
    assert ours.item() == pytest.approx(wanted.item(), rel=1e-3)


def test_giou_leads_a_negative_size_back():
    size = torch.tensor([[-3.0, 5.0]], requires_grad=True)
    mean(concentric_giou_loss, size, torch.tensor([[4.0, 5.0]]), torch.ones(1, 2)).backward()
    assert size.grad[0, 0] < 0


@pytest.mark.parametrize(
    ("loss", "count"),
    [(l1_loss, 5), (normalized_l1_loss, 5), (smooth_l1_loss, 2.5), (concentric_giou_loss, 2.5)],
)
@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_counts_depend_on_weights_and_precision_on_the_output(loss, count, dtype):
    value, weight = torch.rand(3, 2) + 1, torch.tensor([[1.0, 1], [1, 1], [0, 1]])
    total, found = loss(torch.rand(3, 2, dtype=dtype), value, weight)
    assert found.item() == count
    assert total.dtype == found.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)


@pytest.mark.parametrize(
    ("kind", "theirs"), [("giou", generalized_box_iou_loss), ("ciou", complete_box_iou_loss)]
)
def test_box_losses_and_gradients_equal_torchvisions(kind, theirs):
    """Distances are positive here; those of points outside a box are checked below."""
    generator = torch.Generator().manual_seed(1)
    found, true = (20 * torch.rand(80, 4, generator=generator, dtype=torch.float64) for _ in range(2))
    weight = torch.rand(80, 1, generator=generator, dtype=torch.float64).expand(80, 4)
    ours, other = found.clone().requires_grad_(), found.clone().requires_grad_()
    total, count = box_iou_loss(ours, true, weight, kind)
    total.backward()
    each = theirs(_boxes(other), _boxes(true), reduction="none")
    (each * weight[:, 0]).sum().backward()
    assert total.item() == pytest.approx((each * weight[:, 0]).sum().item(), rel=1e-4)
    assert count.item() == pytest.approx(weight[:, 0].sum().item())
    torch.testing.assert_close(ours.grad, other.grad, rtol=1e-2, atol=1e-4)


@pytest.mark.parametrize("kind", ["giou", "ciou"])
def test_box_losses_do_not_depend_on_the_point(kind):
    """The point may lie outside the box: then a distance is negative."""
    found, true = torch.tensor([[3.0, 2.0, 5.0, 6.0]]), torch.tensor([[2.0, 2.0, 6.0, 5.0]])
    seen = [
        box_iou_loss(found + step, true + step, torch.ones(1, 4), kind)[0]
        for step in (torch.tensor([[x, y, -x, -y]]) for x, y in ((0.0, 0.0), (7.0, -9.0), (-4.0, 20.0)))
    ]
    torch.testing.assert_close(torch.stack(seen), seen[0].expand(3))


@pytest.mark.parametrize("kind", ["giou", "ciou"])
def test_box_losses_lead_an_inside_out_box_back(kind):
    distances = torch.tensor([[-3.0, 2.0, 1.0, 2.0]], requires_grad=True)
    true = torch.tensor([[3.0, 2.0, 3.0, 2.0]])
    for _ in range(400):
        total, _ = box_iou_loss(distances, true, torch.ones(1, 4), kind)
        (gradient,) = torch.autograd.grad(total, distances)
        distances = (distances - 0.3 * gradient).detach().requires_grad_()
    assert (distances - true).abs().max() < 0.6


def _boxes(distances: torch.Tensor) -> torch.Tensor:
    return torch.cat([-distances[:, :2], distances[:, 2:]], 1)
