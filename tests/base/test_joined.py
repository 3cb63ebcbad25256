from __future__ import annotations

import torch

from ctnet.base.joined import Joined


def test_tensors_come_back_as_they_were() -> None:
    tensors = [
        torch.tensor([True, False, True]),
        torch.arange(5),
        torch.zeros(0, 2),
        torch.randn(3, 4, generator=torch.Generator().manual_seed(0)).t(),
        torch.tensor(2.5, dtype=torch.float64),
        torch.tensor([1.5], dtype=torch.bfloat16),
    ]
    joined = Joined.of(tensors)
    assert (joined.data.dtype, joined.data.dim()) == (torch.uint8, 1)
    back = joined.to(torch.device("cpu")).tensors()
    for tensor, again in zip(tensors, back, strict=True):
        assert (again.dtype, again.shape) == (tensor.dtype, tensor.shape)
        assert torch.equal(again, tensor)
    assert all(again.data_ptr() % 16 == joined.data.data_ptr() % 16 for again in back if len(again.shape))


def test_nothing_joined_is_nothing() -> None:
    assert Joined.of([]).tensors() == []
