from __future__ import annotations

import json
import pickle
import zlib
from pathlib import Path
from typing import Any
from urllib.error import URLError

import numpy as np
import pytest
import torch
from torch import nn

from ctnet.backbones import create_backbone, list_backbones
from ctnet.backbones.resnet import ResNetDCN
from ctnet.errors import CtnetError

PREFIXES = {"res": "resnet", "resdcn": "resdcn"}  # in the reference's file names -> in ours


def network_of(arch: str, heads: dict[str, int]) -> nn.Module:
    """Backbone and heads under the reference's names."""
    prefix, depth = arch.split("_")
    network = create_backbone(PREFIXES[prefix] + depth)
    for name, channels in heads.items():
        hidden = nn.Conv2d(network.channels, network.hidden, 3, padding=1)
        network.add_module(name, nn.Sequential(hidden, nn.ReLU(), nn.Conv2d(network.hidden, channels, 1)))
    return network.eval()


def recipe_weight(name: str, shape: tuple[int, ...], seed: int) -> np.ndarray:
    """Weight recipe of golden/README.md."""
    rng = np.random.default_rng(zlib.crc32(name.encode()) + seed)
    if name.endswith("num_batches_tracked"):
        return np.zeros(shape, np.int64)
    if name.endswith("running_var"):
        return 0.5 + rng.random(shape)
    if name.endswith("running_mean") or (len(shape) == 1 and name.endswith(".bias")):
        return 0.1 * rng.standard_normal(shape)
    if len(shape) == 1:
        return (0.5 + rng.random(shape)) * (0.15 if name.endswith(("bn2.weight", "bn3.weight")) else 1.0)
    weight = rng.standard_normal(shape) * np.sqrt(2 / np.prod(shape[1:]))
    if "conv_offset_mask" in name:
        return weight * 0.1
    return weight * 2.0 if name.startswith("deconv_layers.") else weight


def fill(network: nn.Module, seed: int) -> None:
    for name, tensor in network.state_dict().items():
        tensor.copy_(torch.from_numpy(recipe_weight(name, tuple(tensor.shape), seed)).to(tensor.dtype))


def golden_files(folder: Path, pattern: str) -> list[Path]:
    return [file for prefix in PREFIXES for file in sorted(folder.glob(pattern.format(prefix)))]


@pytest.mark.golden
def test_state_dicts_have_the_published_layout(golden: Path) -> None:
    files = golden_files(golden, "state_dict_{}_[0-9]*.json")
    assert files
    for file in files:
        document = json.loads(file.read_text())
        with torch.device("meta"):
            network = network_of(document["arch"], document["heads"])
        ours = {key: (list(value.shape), str(value.dtype)) for key, value in network.state_dict().items()}
        theirs = {
            key: (shape, f"torch.{dtype.removeprefix('torch.')}")
            for key, shape, dtype in document["state_dict"]
        }
        assert ours == theirs, file.name
        assert sum(p.numel() for p in network.parameters()) == document["num_parameters"]


@pytest.mark.golden
def test_forward_equals_the_published_network(golden: Path) -> None:
    files = golden_files(golden, "forward_{}_[0-9]*.npz")
    assert files
    for file in files:
        arrays = np.load(file)
        document = json.loads((golden / f"state_dict_{file.stem.removeprefix('forward_')}.json").read_text())
        network = network_of(document["arch"], document["heads"])
        fill(network, int(arrays["seed"]))
        for suffix in ("", "_b"):
            if f"input_shape{suffix}" in arrays:
                _compare(network, document["heads"], arrays, suffix)


def _compare(network: Any, heads: dict[str, int], arrays: Any, suffix: str) -> None:
    images = np.random.default_rng(7).standard_normal(arrays[f"input_shape{suffix}"]).astype(np.float32)
    with torch.no_grad():
        features = network(torch.from_numpy(images))[-1]
        for name in heads:
            expected = torch.from_numpy(arrays[name + suffix])
            tolerance = 1e-3 * float(arrays[f"{name}{suffix}_std"])
            torch.testing.assert_close(getattr(network, name)(features), expected, rtol=1e-3, atol=tolerance)


def test_up_convolutions_start_bilinear() -> None:
    network = create_backbone("resdcn18")
    assert isinstance(network, ResNetDCN)
    ups = [layer for layer in network.deconv_layers if isinstance(layer, nn.ConvTranspose2d)]
    assert len(ups) == 3
    for up in ups:
        with torch.no_grad():
            ones = up(torch.ones(1, up.in_channels, 6, 6))[0, 0]
        torch.testing.assert_close(ones[2:-2, 2:-2], torch.full((8, 8), float(up.in_channels)))


@pytest.mark.parametrize("name", ["resnet18", "resdcn18", "resfpn18"])
def test_pretrained_fills_the_trunk(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from torchvision.models import resnet18

    torch.manual_seed(0)
    classifier = resnet18()
    monkeypatch.setattr(
        "torchvision.models._api.load_state_dict_from_url", lambda *_, **__: classifier.state_dict()
    )
    network = create_backbone(name, pretrained=True)
    trunk = {key: value for key, value in classifier.state_dict().items() if not key.startswith("fc.")}
    ours = network.state_dict()
    assert all(torch.equal(ours[key], value) for key, value in trunk.items())


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (
            URLError("no route to host"),
            r"cannot fetch .* \(no route to host\): put https://.* at .*, or train resfpn18",
        ),
        (PermissionError(13, "Permission denied"), r"cannot fetch .*Permission denied"),
        (RuntimeError("invalid hash value"), r"does not hold the ImageNet weights of resnet18; delete it"),
        (pickle.UnpicklingError("code in it"), r"does not hold the ImageNet weights of resnet18; delete it"),
    ],
)
def test_missing_weights_say_what_to_do(
    error: Exception, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise error

    monkeypatch.setattr("torchvision.models._api.load_state_dict_from_url", fail)
    with pytest.raises(CtnetError, match=message) as raised:
        create_backbone("resnet18", pretrained=True)
    assert "\n" not in str(raised.value)


def test_all_depths_are_there() -> None:
    assert len(list_backbones("resnet*")) == len(list_backbones("resdcn*")) == 5
    assert len(list_backbones("resfpn*")) == 4
