"""Batch norms over several processes: threads here, real processes in tests/training/test_ranks.py."""

from __future__ import annotations

import copy
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from torch import Tensor, nn

from ctnet.ops.sync_batch_norm import SyncBatchNorm2d, freeze_batch_norm, use_sync_batch_norm


class Sums:
    """Sums the values of several threads, in the order of their numbers."""

    def __init__(self, count: int) -> None:
        self._parts: list[Tensor] = [torch.empty(0)] * count
        self._barrier = threading.Barrier(count, timeout=30)

    def of(self, number: int) -> Callable[[Tensor], None]:
        def add(tensor: Tensor) -> None:
            self._parts[number] = tensor.clone()
            self._barrier.wait()
            total = torch.stack(self._parts).sum(0)
            self._barrier.wait()
            tensor.copy_(total)

        return add


def norm_of(channels: int) -> nn.BatchNorm2d:
    norm = nn.BatchNorm2d(channels).double()
    with torch.no_grad():
        norm.weight.uniform_(0.5, 1.5)
        norm.bias.normal_()
    return norm


def learn(norm: nn.BatchNorm2d, x: Tensor, target: Tensor, counts: bool = True) -> dict[str, Tensor]:
    x = x.clone().requires_grad_()
    out = norm(x)
    ((out - target).square().sum() * (1.0 if counts else 0.0)).backward()
    return {"x": x.grad, "weight": norm.weight.grad, "bias": norm.bias.grad, "out": out.detach()}


@pytest.mark.parametrize("shares", [(3, 2), (1, 4), (5, 0)])
def test_shares_are_normalised_as_the_whole(shares: tuple[int, int]) -> None:
    torch.manual_seed(0)
    norm = norm_of(3)
    x, target = torch.randn(5, 3, 4, 2).double() * 3 + 1, torch.randn(5, 3, 4, 2).double()
    plain = copy.deepcopy(norm)
    expected = learn(plain, x, target)
    sums = Sums(2)
    layers = [SyncBatchNorm2d(copy.deepcopy(norm), sums.of(number)) for number in range(2)]

    def part(number: int) -> dict[str, Tensor]:
        start = sum(shares[:number])
        mine, theirs = (t[start : start + shares[number]] for t in (x, target))
        if len(mine):
            return learn(layers[number], mine, theirs)
        layers[number].counts = False  # an image that does not count
        return learn(layers[number], torch.full((1, 3, 4, 2), 7.0).double(), torch.zeros(1).double(), False)

    with ThreadPoolExecutor(2) as pool:
        found = list(pool.map(part, range(2)))
    kept = [one for one, share in zip(found, shares, strict=True) if share]
    for name in ("x", "out"):
        torch.testing.assert_close(torch.cat([one[name] for one in kept]), expected[name], rtol=0, atol=1e-12)
    for name in ("weight", "bias"):
        torch.testing.assert_close(sum(one[name] for one in found), expected[name], rtol=0, atol=1e-12)
    for layer in layers:
        for name, value in plain.state_dict().items():
            torch.testing.assert_close(layer.state_dict()[name], value, rtol=0, atol=1e-12)


@pytest.mark.parametrize("momentum", [0.1, None])
def test_alone_it_is_a_batch_norm(momentum: float | None) -> None:
    torch.manual_seed(0)
    plain = nn.BatchNorm2d(3, momentum=momentum).double()
    layer = SyncBatchNorm2d(copy.deepcopy(plain), lambda tensor: None)
    for _ in range(3):
        x = torch.randn(2, 3, 5, 4).double()
        torch.testing.assert_close(layer(x), plain(x), rtol=0, atol=1e-12)
    for norm in (plain, layer):
        norm.eval()
    torch.testing.assert_close(layer(x), plain(x), rtol=0, atol=1e-12)
    assert layer.state_dict().keys() == plain.state_dict().keys()


def test_all_batch_norms_of_a_network_and_their_names() -> None:
    network = nn.Sequential(
        nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4), nn.Sequential(nn.BatchNorm2d(4, affine=False))
    )
    names = network.state_dict().keys()
    weight = network[1].weight
    use_sync_batch_norm(network, lambda tensor: None)
    assert network.state_dict().keys() == names
    assert isinstance(network[1], SyncBatchNorm2d)
    assert isinstance(network[2][0], SyncBatchNorm2d)
    assert network[1].weight is weight
    assert isinstance(copy.deepcopy(network)[1], SyncBatchNorm2d)
    network(torch.rand(2, 3, 4, 4)).sum().backward()


def test_frozen_ones_stay_as_they_are() -> None:
    network = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4))
    network.train()
    freeze_batch_norm(network)
    before = {name: value.clone() for name, value in network[1].state_dict().items()}
    network(torch.rand(2, 3, 4, 4)).sum().backward()
    assert all(torch.equal(before[name], value) for name, value in network[1].state_dict().items())
    assert network[1].weight.grad is None
    assert network[0].weight.grad is not None
