"""The first stages of a backbone stay as they are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from ctnet import checkpoint
from ctnet.backbones import Backbone, create_backbone
from ctnet.base.errors import CtnetError
from ctnet.training.freezing import freeze_stages


class Staged(Backbone):
    channels, divisor, hidden = 8, 4, 8

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Sequential(nn.Conv2d(3, 8, 3, stride=2, padding=1), nn.BatchNorm2d(8), nn.ReLU())
        self.second = nn.Sequential(nn.Conv2d(8, 8, 3, stride=2, padding=1), nn.BatchNorm2d(8), nn.ReLU())
        self.last = nn.Conv2d(8, 8, 1)

    def freezable_stages(self) -> Mapping[str, Sequence[nn.Module]]:
        return {"first": (self.first,), "second": (self.second,)}

    def forward(self, images: Tensor) -> list[Tensor]:
        return [self.last(self.second(self.first(images)))]


def staged(pretrained: bool = False) -> Backbone:
    return Staged()


@pytest.fixture(scope="module", autouse=True)
def backbone(registered_backbones):
    with registered_backbones(staged):
        yield


@pytest.mark.parametrize("ema", [0.0, 0.9])
def test_frozen_stages_are_the_same_to_the_bit_also_resumed(session, resumed, scenes, tmp_path, ema) -> None:
    fields = {"epochs": 1, "freeze": 1, "weight_decay": 0.1, "ema": ema}
    started = session(scenes, tmp_path / "run", backbone="staged", fields=fields)
    assert "frozen: first of staged, batch norm statistics included" in started.display.lines
    assert (
        "warning: the frozen stages have random weights; give --pretrained or --init" in started.display.lines
    )
    before = {name: value.clone() for name, value in started.trainer.model.state_dict().items()}
    assert started.fit()
    assert resumed(tmp_path / "run", epochs=2).fit()
    for file in ("last.pt", "best.pt"):
        after = checkpoint.load(tmp_path / "run" / file).weights
        same = {name for name in before if torch.equal(before[name], after[name])}
        frozen = {name for name in before if name.startswith("backbone.first.")}
        assert len(frozen) == 7
        assert frozen <= same
        learnt = {name for name in before if "running" in name or name.endswith("weight")} - frozen
        assert not learnt & same


def test_started_from_a_run_there_is_no_warning(session, scenes, tmp_path) -> None:
    settings = {"backbone": "staged", "fields": {"epochs": 1}}
    assert session(scenes, tmp_path / "one", **settings).fit()
    settings["fields"] = {"epochs": 1, "freeze": 2}
    other = session(scenes, tmp_path / "other", **settings, init=tmp_path / "one")
    other.run.release()
    assert "frozen: first, second of staged, batch norm statistics included" in other.display.lines
    assert not [line for line in other.display.lines if "random weights" in line]


@pytest.mark.parametrize(
    ("backbone", "freeze", "said"),
    [
        ("staged", 3, r"freeze is 3, but staged has 2 stages \(first, second\); choose at most 2"),
        ("with_dropout", 1, "with_dropout has no stages that can be frozen; leave out freeze=1"),
        ("staged", -1, "field freeze of the recipe is -1; it must be at least 0"),
    ],
)
def test_bad_numbers_of_stages(session, scenes: Path, tmp_path: Path, backbone, freeze, said) -> None:
    with pytest.raises(CtnetError, match=said):
        session(scenes, tmp_path / "run", backbone=backbone, fields={"freeze": freeze})
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("name", "stages"),
    [
        ("resfpn18", ["stem", "layer1", "layer2", "layer3", "layer4"]),
        ("resdcn18", ["stem", "layer1", "layer2", "layer3", "layer4"]),
        ("dla34", ["stem", "level2", "level3", "level4", "level5"]),
        ("hourglass104", ["stem", "hourglass1", "hourglass2"]),
    ],
)
def test_the_stages_of_our_backbones(name, stages) -> None:
    with torch.device("meta"):
        network = create_backbone(name)
    assert list(network.freezable_stages()) == stages
    everything = sum(weight.numel() for weight in network.parameters() if weight.requires_grad)
    freeze_stages(network, 1)
    first = sum(weight.numel() for weight in network.parameters() if weight.requires_grad)
    freeze_stages(network, len(stages))
    rest = sum(weight.numel() for weight in network.parameters() if weight.requires_grad)
    assert everything > first > rest
    assert (rest == 0) == (name == "hourglass104")


def test_the_stages_of_timms_backbones() -> None:
    pytest.importorskip("timm")
    found = {}
    for name in ("resnet10t", "mobilenetv3_small_050", "test_vit", "hrnet_w18_small"):
        with torch.device("meta"):
            found[name] = list(create_backbone(f"timm/{name}").freezable_stages())
    assert found == {
        "resnet10t": ["act1", "layer1", "layer2", "layer3", "layer4"],
        "mobilenetv3_small_050": ["bn1", "blocks.0", "blocks.1", "blocks.3", "blocks.5"],
        "test_vit": [],
        "hrnet_w18_small": [],
    }
