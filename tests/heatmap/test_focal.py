from __future__ import annotations

import numpy as np
import pytest
import torch

from ctnet.heatmap import focal_loss


def mean_focal(logits: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    total, count = focal_loss(logits, target)
    return total / count.clamp(min=1)


def plain_focal(logits: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """Equation 1, term by term, in float64 from clamped probabilities."""
    p = logits.double().sigmoid().clamp(1e-4, 1 - 1e-4)
    total, positives = torch.zeros((), dtype=torch.float64), 0
    for prediction, wanted in zip(p.flatten(), target.double().flatten(), strict=True):
        if wanted == 1:
            total = total - (1 - prediction) ** 2 * prediction.log()
            positives += 1
        else:
            total = total - (1 - wanted) ** 4 * prediction**2 * (1 - prediction).log()
    return total / max(positives, 1)


@pytest.mark.golden
@pytest.mark.parametrize("case", ["focal_pos", "focal_nopos"])
def test_loss_and_gradient_equal_the_reference(golden, case):
    for file in sorted(golden.glob("losses*.npz")):
        data = np.load(file)
        logits = torch.from_numpy(data[f"{case}_logits"]).requires_grad_()
        loss = mean_focal(logits, torch.from_numpy(data[f"{case}_gt"]))
        loss.backward()
        assert loss.item() == pytest.approx(float(data[f"{case}_loss"]), rel=1e-5)
        wanted = data[f"{case}_grad_logits"]
        np.testing.assert_allclose(logits.grad, wanted, rtol=1e-5, atol=1e-6 * np.abs(wanted).max())


def test_loss_equals_the_plain_sum():
    generator = torch.Generator().manual_seed(3)
    logits = 4 * torch.randn(2, 3, 5, 4, generator=generator)
    target = torch.rand(2, 3, 5, 4, generator=generator)
    target[0, 1, 2, 3] = target[1, 0, 0, 0] = 1
    assert mean_focal(logits, target).item() == pytest.approx(plain_focal(logits, target).item(), rel=1e-5)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_stays_finite_and_close(dtype):
    generator = torch.Generator().manual_seed(4)
    logits = (12 * torch.randn(1, 2, 8, 8, generator=generator)).to(dtype).requires_grad_()
    target = torch.rand(1, 2, 8, 8, generator=generator)
    target[0, 0, 0, 0] = 1
    loss = mean_focal(logits, target)
    loss.backward()
    assert loss.dtype == torch.float32
    assert torch.isfinite(loss)
    assert torch.isfinite(logits.grad).all()
    assert loss.item() == pytest.approx(plain_focal(logits, target).item(), rel=1e-4)


def test_gradient_agrees_with_finite_differences_in_the_unclamped_range():
    generator = torch.Generator().manual_seed(5)
    logits = (2 * torch.randn(1, 2, 3, 3, generator=generator)).requires_grad_()
    target = torch.rand(1, 2, 3, 3, generator=generator)
    target[0, 0, 1, 1] = 1
    mean_focal(logits, target).backward()
    step = 1e-4
    for index in range(logits.numel()):
        up, down = logits.detach().double().clone(), logits.detach().double().clone()
        up.view(-1)[index] += step
        down.view(-1)[index] -= step
        numeric = (plain_focal(up, target) - plain_focal(down, target)) / (2 * step)
        assert logits.grad.view(-1)[index].item() == pytest.approx(numeric.item(), rel=1e-3, abs=1e-6)


def test_doubles_stay_doubles():
    generator = torch.Generator().manual_seed(6)
    logits = 2 * torch.randn(2, 2, 6, 5, generator=generator, dtype=torch.float64)
    target = torch.rand(2, 2, 6, 5, generator=generator)
    target[0, 0, 1, 1] = target[1, 1, 2, 2] = 1
    total, count = focal_loss(logits, target)
    assert total.dtype == count.dtype == torch.float64
    assert count == 2
    assert (total / count).item() == pytest.approx(plain_focal(logits, target).item(), rel=1e-13)
