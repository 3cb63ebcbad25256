from __future__ import annotations

import numpy as np
import pytest
import torch

from ctnet.base import device
from ctnet.base.device import amp_name, autocast, choose_amp, choose_device, normalise
from ctnet.base.errors import CtnetError

CPU = torch.device("cpu")


def test_normalise_equals_the_formula() -> None:
    images = torch.randint(0, 256, (2, 5, 7, 3), dtype=torch.uint8)
    mean, std = (0.5, 0.4, 0.3), (0.2, 0.25, 0.3)
    ours = normalise(images, mean, std)
    expected = (images.numpy() / 255 - np.array(mean)) / np.array(std)
    assert ours.shape == (2, 3, 5, 7)
    assert ours.dtype == torch.float32
    np.testing.assert_allclose(ours.permute(0, 2, 3, 1), expected, atol=2e-6)


def test_normalised_images_are_channels_last() -> None:
    images = normalise(torch.zeros(2, 4, 4, 3, dtype=torch.uint8), (0, 0, 0), (1, 1, 1))
    assert images.is_contiguous(memory_format=torch.channels_last)


def test_cpu_is_always_there() -> None:
    assert choose_device("cpu") == CPU
    assert choose_device("auto").type in ("cpu", "cuda", "mps")


def test_auto_prefers_a_gpu(monkeypatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert choose_device("auto").type == "cuda"
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    assert choose_device("auto") == CPU


@pytest.mark.parametrize("name", ["gpu", "cuda:x", "cuda:99", "", "cpu:-2"])
def test_devices_that_are_not_there(name: str) -> None:
    with pytest.raises(CtnetError, match=f"device '{name}' cannot be used here; use auto or cpu"):
        choose_device(name)


def test_amp_names() -> None:
    assert choose_amp("off", CPU) is None
    assert choose_amp("bf16", CPU) == torch.bfloat16
    assert choose_amp("fp16", CPU) == torch.float16
    with pytest.raises(CtnetError, match="--amp is 'half'; it must be auto, off, bf16 or fp16"):
        choose_amp("half", CPU)


@pytest.mark.parametrize("has", [True, False])
def test_auto_amp_asks_the_device(monkeypatch, has: bool) -> None:
    monkeypatch.setattr(device, "has_bf16", lambda _: has)
    assert choose_amp("auto", CPU) == (torch.bfloat16 if has else None)


@pytest.mark.parametrize("name", ["off", "bf16", "fp16"])
def test_amp_name_is_the_way_back(name: str) -> None:
    assert amp_name(choose_amp(name, CPU)) == name


def test_autocast_of_none_changes_nothing() -> None:
    a = torch.rand(2, 2)
    with autocast(CPU, None):
        assert (a @ a).dtype == torch.float32
    with autocast(CPU, torch.bfloat16):
        assert (a @ a).dtype == torch.bfloat16


@pytest.mark.parametrize("name", ["meta", "cuda:99", "xla", "vulkan", "cpu:5", "cpu:²", "lazy", "", "abacus"])
def test_devices_that_exist_in_name_only(name: str) -> None:
    with pytest.raises(CtnetError, match=f"device '{name}' cannot be used here"):
        choose_device(name)


def test_what_is_read_in_one_copy_is_what_was_joined() -> None:
    """The way back from a GPU, whose tensors are joined as bytes."""
    torch.manual_seed(0)
    tensors = [
        torch.randn(2, 3),
        torch.tensor([True, False, True]),
        torch.randint(-9, 9, (2, 2)),
        torch.randn(4, 5).T,  # not contiguous
        torch.zeros(0, 4),
        torch.tensor(True),
        torch.tensor([-3, 4], dtype=torch.int16),
    ]
    for array, tensor in zip(device._split(device._joined(tensors).numpy(), tensors), tensors, strict=True):
        assert array.shape == tensor.shape
        np.testing.assert_array_equal(array, tensor.numpy())
    (small,) = device.to_host([torch.tensor([1.5], dtype=torch.bfloat16, requires_grad=True)])
    assert (small.dtype, small.tolist()) == (np.float32, [1.5])


def test_constants_are_kept_on_a_device_and_made_anew_on_the_cpu() -> None:
    there = torch.zeros(1, device="meta")
    with torch.inference_mode():
        first = device.constant([1, 2], there)
    assert device.constant([1, 2], there) is first
    assert not first.is_inference()
    assert device.constant([1, 2], there, torch.int64) is not first
    here = device.constant([1, 2], torch.zeros(1, dtype=torch.float64))
    assert here.tolist() == [1.0, 2.0]
    assert here.dtype == torch.float64
    assert device.constant([1, 2], torch.zeros(1)) is not device.constant([1, 2], torch.zeros(1))


def test_tf32_is_off_or_on_within_the_context_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    products, convolutions = torch.backends.cuda.matmul, torch.backends.cudnn
    monkeypatch.setattr(convolutions, "allow_tf32", True)
    with device.without_tf32():
        assert (products.allow_tf32, convolutions.allow_tf32) == (False, False)
        with device.tf32(True):
            assert (products.allow_tf32, convolutions.allow_tf32) == (True, True)
    assert (products.allow_tf32, convolutions.allow_tf32) == (False, True)


def test_tf32_where_a_program_set_it_by_its_newer_name() -> None:
    """torch then refuses to read the older one."""
    products = torch.backends.cuda.matmul
    if not hasattr(products, "fp32_precision"):
        pytest.skip("this torch has the older names alone")
    before, products.fp32_precision = products.fp32_precision, "tf32"
    try:
        with device.without_tf32():
            assert products.fp32_precision == "ieee"
        assert products.fp32_precision == "tf32"
    finally:
        products.fp32_precision = before


def test_a_dtype_by_name() -> None:
    names = ("float32", "bf16", "fp16")
    assert [device.choose_dtype(name) for name in names] == [None, torch.bfloat16, torch.float16]
    with pytest.raises(CtnetError, match="--dtype is 'fp8'; it must be float32, bf16 or fp16"):
        device.choose_dtype("fp8")
