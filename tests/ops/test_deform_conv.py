from __future__ import annotations

import math
import subprocess
import sys
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from ctnet.ops import deform_conv
from ctnet.ops.deform_conv import DeformConv, deform_conv2d
from ctnet.ops.fast import fast_paths


def slow_deform_conv2d(
    x: Tensor,
    offset: Tensor,
    weight: Tensor,
    bias: Tensor,
    mask: Tensor,
    stride: int,
    padding: int,
    dilation: int,
) -> Tensor:
    """The definition, one number at a time."""
    batch, channels, height, width = x.shape
    outputs, _, kernel_height, kernel_width = weight.shape
    out = torch.zeros(batch, outputs, *offset.shape[2:], dtype=x.dtype)

    def pixel(b: int, row: int, column: int) -> Tensor:
        inside = 0 <= row < height and 0 <= column < width
        return x[b, :, row, column] if inside else torch.zeros(channels, dtype=x.dtype)

    for b in range(batch):
        for row in range(out.shape[2]):
            for column in range(out.shape[3]):
                total = bias.clone()
                for i in range(kernel_height):
                    for j in range(kernel_width):
                        tap = i * kernel_width + j
                        y = row * stride - padding + i * dilation + offset[b, 2 * tap, row, column].item()
                        z = (
                            column * stride
                            - padding
                            + j * dilation
                            + offset[b, 2 * tap + 1, row, column].item()
                        )
                        top, left = math.floor(y), math.floor(z)
                        down, right = y - top, z - left
                        value = (1 - down) * (1 - right) * pixel(b, top, left)
                        value = value + (1 - down) * right * pixel(b, top, left + 1)
                        value = value + down * (1 - right) * pixel(b, top + 1, left)
                        value = value + down * right * pixel(b, top + 1, left + 1)
                        total = total + mask[b, tap, row, column] * (weight[:, :, i, j] @ value)
                out[b, :, row, column] = total
    return out


def make_inputs(
    batch: int = 2,
    channels: int = 4,
    size: tuple[int, int] = (7, 6),
    outputs: int = 3,
    kernel: tuple[int, int] = (3, 3),
    stride: int = 1,
    padding: int = 1,
    dilation: int = 1,
    spread: float = 2.0,
    dtype: torch.dtype = torch.float64,
    seed: int = 0,
) -> tuple[list[Tensor], dict[str, int]]:
    """x, offset, weight, bias, mask; and the keywords."""
    generator = torch.Generator().manual_seed(seed)
    sides = [
        (n + 2 * padding - dilation * (k - 1) - 1) // stride + 1 for n, k in zip(size, kernel, strict=True)
    ]
    taps = kernel[0] * kernel[1]

    def randn(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype)

    tensors = [
        randn(batch, channels, *size),
        spread * randn(batch, 2 * taps, *sides),
        randn(outputs, channels, *kernel),
        randn(outputs),
        randn(batch, taps, *sides).sigmoid(),
    ]
    return tensors, {"stride": stride, "padding": padding, "dilation": dilation}


def gradients(tensors: list[Tensor], keywords: dict[str, int], path: str) -> list[Tensor]:
    leaves = [tensor.detach().clone().requires_grad_() for tensor in tensors]
    with fast_paths(path == "gather"):
        out = deform_conv2d(*leaves, **keywords)
    cotangent = torch.randn(out.shape, generator=torch.Generator().manual_seed(9), dtype=torch.float64)
    return [out.detach(), *torch.autograd.grad(out, leaves, cotangent.to(out.dtype))]


shapes = st.fixed_dictionaries(
    {
        "batch": st.integers(1, 3),
        "channels": st.integers(1, 5),
        "size": st.tuples(st.integers(1, 6), st.integers(1, 6)),
        "outputs": st.integers(1, 3),
        "kernel": st.tuples(st.integers(1, 3), st.integers(1, 3)),
        "stride": st.integers(1, 2),
        "padding": st.integers(2, 3),
        "dilation": st.integers(1, 2),
        "spread": st.sampled_from([0.0, 0.7, 3.0, 1e6, 1e30]),
        "seed": st.integers(0, 99),
    }
)


@given(shapes)
@settings(max_examples=25, deadline=None)
def test_equals_the_definition(shape: dict[str, Any]) -> None:
    tensors, keywords = make_inputs(**shape)
    torch.testing.assert_close(
        deform_conv2d(*tensors, **keywords), slow_deform_conv2d(*tensors, **keywords), rtol=1e-9, atol=1e-9
    )


@given(shapes)
@settings(max_examples=25, deadline=None)
def test_values_and_gradients_equal_torchvisions(shape: dict[str, Any]) -> None:
    """Spread 0 puts every sample exactly on a pixel, where the derivative jumps: the layer's first step."""
    tensors, keywords = make_inputs(**shape)
    ours, stock = gradients(tensors, keywords, "gather"), gradients(tensors, keywords, "torchvision")
    for mine, theirs in zip(ours, stock, strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("spread", [0.0, 2.0, 1e4])
def test_float32_equals_torchvision(spread: float) -> None:
    tensors, keywords = make_inputs(channels=32, size=(20, 24), spread=spread, dtype=torch.float32)
    ours, stock = gradients(tensors, keywords, "gather"), gradients(tensors, keywords, "torchvision")
    for mine, theirs in zip(ours, stock, strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-4, atol=1e-4 * max(1.0, theirs.abs().max().item()))


def test_gradcheck() -> None:
    tensors, keywords = make_inputs(batch=1, size=(4, 5), stride=2, dilation=2, padding=2)
    leaves = [tensor.requires_grad_() for tensor in tensors]
    assert torch.autograd.gradcheck(lambda *t: deform_conv2d(*t, **keywords), leaves)


def test_gradcheck_without_mask_and_bias() -> None:
    (x, offset, weight, *_), keywords = make_inputs(batch=1, size=(4, 3))
    leaves = [tensor.requires_grad_() for tensor in (x, offset, weight)]
    assert torch.autograd.gradcheck(lambda *t: deform_conv2d(*t, **keywords), leaves)


def test_pairs_for_stride_padding_and_dilation() -> None:
    (x, _, weight, _, _), _ = make_inputs(kernel=(2, 3))
    keywords = {"stride": (1, 2), "padding": (0, 2), "dilation": (3, 1)}
    plain = torch.nn.functional.conv2d(x, weight, **keywords)  # type: ignore[arg-type]
    offset = torch.zeros(2, 12, *plain.shape[2:], dtype=x.dtype)
    torch.testing.assert_close(deform_conv2d(x, offset, weight, **keywords), plain)  # type: ignore[arg-type]


def test_blocks_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    tensors, keywords = make_inputs(batch=3)
    whole = gradients(tensors, keywords, "gather")
    monkeypatch.setattr(deform_conv, "_FORWARD_SAMPLES", 9 * 17)
    monkeypatch.setattr(deform_conv, "_FORWARD_COLUMNS", 36 * 5)
    monkeypatch.setattr(deform_conv, "_FEWEST_ROWS", 1)
    monkeypatch.setattr(deform_conv, "_BACKWARD_BLOCK", 11 * 36)
    for blocked, once in zip(gradients(tensors, keywords, "gather"), whole, strict=True):
        torch.testing.assert_close(blocked, once, rtol=1e-12, atol=1e-12)


def test_blocks_cover_all_pixels_within_the_budget() -> None:
    for pixels, columns, budget in [(0, 9, 100), (1, 900, 100), (256, 4608, 786432), (1000, 7, 700)]:
        blocks = list(deform_conv._blocks(pixels, columns, budget))
        assert [p for block in blocks for p in range(block.start, block.stop)] == list(range(pixels))
        assert all((block.stop - block.start) * columns <= max(budget, columns) for block in blocks)


def _transposed(tensor: Tensor) -> Tensor:
    return tensor.transpose(2, 3).contiguous().transpose(2, 3) if tensor.dim() == 4 else tensor


def _strided(tensor: Tensor) -> Tensor:
    return torch.stack([tensor, -tensor], dim=-1)[..., 0]


def _channels_last(tensor: Tensor) -> Tensor:
    return tensor.contiguous(memory_format=torch.channels_last) if tensor.dim() == 4 else tensor


@pytest.mark.parametrize("layout", [_transposed, _strided, _channels_last])
def test_memory_layout_does_not_matter(layout: Any) -> None:
    tensors, keywords = make_inputs()
    expected = gradients(tensors, keywords, "gather")
    leaves = [tensor.clone().requires_grad_() for tensor in tensors]
    out = deform_conv2d(*[layout(leaf) for leaf in leaves], **keywords)
    cotangent = torch.randn(out.shape, generator=torch.Generator().manual_seed(9), dtype=out.dtype)
    for mine, other in zip(
        [out, *torch.autograd.grad(out, leaves, layout(cotangent))], expected, strict=True
    ):
        torch.testing.assert_close(mine, other)


@pytest.mark.parametrize("path", ["gather", "torchvision"])
def test_empty_batch(path: str) -> None:
    tensors, keywords = make_inputs(batch=0)
    out, grad_x, grad_offset, grad_weight, *_ = gradients(tensors, keywords, path)
    assert out.shape == (0, 3, 7, 6)
    assert grad_x.shape == (0, 4, 7, 6)
    assert grad_offset.shape == (0, 18, 7, 6)
    assert not grad_weight.any()


@pytest.mark.parametrize("path", ["gather", "torchvision"])
def test_bfloat16(path: str) -> None:
    tensors, keywords = make_inputs(channels=16, dtype=torch.bfloat16)
    exact = gradients([tensor.double() for tensor in tensors], keywords, "gather")
    for mine, reference in zip(gradients(tensors, keywords, path), exact, strict=True):
        assert mine.dtype == torch.bfloat16
        assert (mine - reference).abs().max() < 0.02 * reference.abs().max()


def test_autocast_computes_in_the_dtype_of_x() -> None:
    tensors, keywords = make_inputs(dtype=torch.float32)
    expected = deform_conv2d(*tensors, **keywords)
    with torch.autocast("cpu", torch.bfloat16):
        kept = deform_conv2d(*tensors, **keywords)
        lowered = deform_conv2d(tensors[0].bfloat16(), *tensors[1:], **keywords)
    torch.testing.assert_close(kept, expected)
    assert lowered.dtype == torch.bfloat16
    assert (lowered - expected).abs().max() < 0.02 * expected.abs().max()


def test_torchvisions_kernel_keeps_the_weights() -> None:
    """It computes in float32, so weights that were rounded to bfloat16 would only lose digits."""
    tensors, keywords = make_inputs(channels=16, dtype=torch.float32)
    x, *rest = tensors
    with fast_paths(False):
        out = deform_conv2d(x.bfloat16(), *rest, **keywords)
        expected = deform_conv2d(x.bfloat16().float(), *rest, **keywords)
    torch.testing.assert_close(out, expected.bfloat16(), rtol=0, atol=0)
    assert out.is_contiguous(memory_format=torch.channels_last)


def test_nan_offsets_give_nan_and_infinite_ones_zero() -> None:
    (x, offset, weight, _, _), keywords = make_inputs()
    offset[0, :, 3, 3] = math.nan
    offset[1, :, 2, 2] = math.inf
    out = deform_conv2d(x, offset, weight, **keywords)
    assert out[0, :, 3, 3].isnan().all()
    assert (out[1, :, 2, 2] == 0).all()
    assert out.isnan().sum() == 3


def test_the_same_values_twice() -> None:
    tensors, keywords = make_inputs(channels=16, size=(24, 24), dtype=torch.float32)
    for first, second in zip(
        gradients(tensors, keywords, "gather"), gradients(tensors, keywords, "gather"), strict=True
    ):
        assert torch.equal(first, second)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"x": torch.zeros(4, 7, 6)}, "x must be a floating-point tensor with 4 dimensions"),
        ({"x": torch.zeros(2, 4, 7, 6, dtype=torch.int64)}, r"not torch.int64 of shape \(2, 4, 7, 6\)"),
        ({"x": torch.zeros(2, 5, 7, 6)}, "weight expects 4 input channels, x has 5"),
        ({"offset": torch.zeros(2, 9, 7, 6)}, r"offset must have shape \(2, 18, 7, 6\), not \(2, 9, 7, 6\)"),
        ({"mask": torch.zeros(2, 9, 7, 7)}, r"mask must have shape \(2, 9, 7, 6\), not \(2, 9, 7, 7\)"),
        ({"bias": torch.zeros(4)}, r"bias must have shape \(3,\), not \(4,\)"),
        ({"stride": 0}, r"stride \(0, 0\) and dilation \(1, 1\) must be at least 1"),
        ({"padding": -1}, r"padding \(-1, -1\) at least 0"),
        (
            {"dilation": 5},
            r"kernel \(3, 3\) with dilation \(5, 5\), padding \(1, 1\) does not fit into \(7, 6\)",
        ),
    ],
)
def test_error_messages(change: dict[str, Any], message: str) -> None:
    tensors, keywords = make_inputs(dtype=torch.float32)
    names = ("x", "offset", "weight", "bias", "mask")
    with pytest.raises(ValueError, match=message):
        deform_conv2d(**{**dict(zip(names, tensors, strict=True)), **keywords, **change})


def test_layer_starts_as_half_a_convolution() -> None:
    torch.manual_seed(0)
    layer = DeformConv(8, 5)
    x = torch.randn(2, 8, 9, 7)
    plain = torch.nn.functional.conv2d(x, layer.weight, padding=1) / 2
    torch.testing.assert_close(layer(x), plain, rtol=1e-4, atol=1e-5)


def test_layer_starts_with_the_published_bounds() -> None:
    layer = DeformConv(8, 64)
    bound = 1 / math.sqrt(8 * 9)
    assert 0.95 * bound < layer.weight.abs().max() <= bound
    assert not layer.bias.any()


def test_layer_learns_offsets() -> None:
    """A shift by half a pixel is within reach of the offsets alone."""
    torch.manual_seed(0)
    layer = DeformConv(2, 2)
    layer.weight.requires_grad_(False)
    x = torch.nn.functional.interpolate(torch.randn(1, 2, 5, 5), size=(20, 20), mode="bilinear")
    with torch.no_grad():
        goal = deform_conv2d(
            x,
            torch.full((1, 18, 20, 20), 0.5),
            layer.weight,
            None,
            torch.full((1, 9, 20, 20), 0.5),
            padding=1,
        )
    optimizer = torch.optim.Adam(layer.conv_offset_mask.parameters(), lr=0.02)
    losses = []
    for _ in range(40):
        optimizer.zero_grad()
        loss = (layer(x) - goal).square().mean()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.3 * losses[0]


MEMORY = """
import resource, sys, torch
from ctnet.ops.deform_conv import deform_conv2d

def peak():
    megabyte = 2**20 if sys.platform == "darwin" else 2**10
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / megabyte

torch.set_num_threads(1)
side, train = int(sys.argv[1]), sys.argv[2] == "train"
shapes = [(1, 64, side, side), (1, 18, side, side), (8, 64, 3, 3), (1, 9, side, side)]
x, offset, weight, mask = (torch.randn(shape).requires_grad_(train) for shape in shapes)
before = peak()
out = deform_conv2d(x, offset, weight, None, mask, padding=1)
if train:
    out.sum().backward()
print(peak() - before)
"""


@pytest.mark.thorough
@pytest.mark.parametrize(("side", "mode", "most"), [(512, "infer", 100), (192, "train", 80)])
def test_memory_stays_bounded(side: int, mode: str, most: float) -> None:
    """Megabytes added at the peak; the columns of all pixels would take 604 and 85, their indices more."""
    pytest.importorskip("resource")
    command = [sys.executable, "-c", MEMORY, str(side), mode]
    added = float(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    assert added < most


@pytest.mark.parametrize("path", ["gather", "torchvision"])
def test_bfloat16_gradients(path: str) -> None:
    tensors, keywords = make_inputs(channels=16, size=(9, 10), dtype=torch.float32)
    expected = gradients(tensors, keywords, "torchvision")
    x, *rest = tensors
    leaves = [x.bfloat16().requires_grad_(), *(tensor.clone().requires_grad_() for tensor in rest)]
    with fast_paths(path == "gather"):
        out = deform_conv2d(*leaves, **keywords)
    cotangent = torch.randn(out.shape, generator=torch.Generator().manual_seed(9), dtype=torch.float64)
    found = torch.autograd.grad(out, leaves, cotangent.to(out.dtype))
    for mine, exact, leaf in zip(found, expected[1:], leaves, strict=True):
        assert mine.dtype == leaf.dtype
        assert (mine - exact).norm() < 0.02 * exact.norm()


@pytest.mark.gpu
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_cuda_equals_cpu(dtype: torch.dtype) -> None:
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    tensors, keywords = make_inputs(channels=16, size=(20, 24), dtype=dtype)
    expected = deform_conv2d(*[tensor.float() for tensor in tensors], **keywords)
    out = deform_conv2d(*[tensor.cuda() for tensor in tensors], **keywords)
    assert out.is_cuda
    assert out.dtype == dtype
    torch.testing.assert_close(
        out.float().cpu(), expected, rtol=1e-2, atol=1e-2 * expected.abs().max().item()
    )


@pytest.mark.gpu
def test_gradients_on_cuda_equal_those_on_the_cpu() -> None:
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    tensors, keywords = make_inputs(channels=8, size=(9, 10))
    expected = gradients(tensors, keywords, "gather")
    leaves = [tensor.cuda().requires_grad_() for tensor in tensors]
    out = deform_conv2d(*leaves, **keywords)
    cotangent = torch.randn(out.shape, generator=torch.Generator().manual_seed(9), dtype=torch.float64)
    found = torch.autograd.grad(out, leaves, cotangent.cuda())
    for mine, exact in zip((out.detach(), *found), expected, strict=True):
        torch.testing.assert_close(mine.cpu(), exact, rtol=1e-8, atol=1e-8)


def test_a_captured_layer_takes_any_sides() -> None:
    """Wider, taller or square, whatever images it was captured with."""
    layer = DeformConv(4, 3).eval()
    shape = {0: torch.export.Dim("batch"), 2: torch.export.Dim("rows"), 3: torch.export.Dim("columns")}
    with torch.no_grad():
        captured = torch.export.export(
            layer, (torch.rand(2, 4, 9, 7),), dynamic_shapes=(shape,), strict=False
        )
        for size in ((1, 4, 5, 8), (3, 4, 6, 6), (2, 4, 12, 5)):
            x = torch.rand(size)
            torch.testing.assert_close(captured.module()(x), layer(x))
