from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor

from ctnet.backbones import (
    Backbone,
    _registry,
    create_backbone,
    describe_backbone,
    list_backbones,
    register_backbone,
)
from ctnet.base.errors import CtnetError

PLUGIN = """
import torch
from ctnet.backbones import Backbone

class Shrink(Backbone):
    channels, divisor = 3, 4
    def __init__(self):
        super().__init__()
        self.scale = torch.nn.Conv2d(3, 3, 4, stride=4)
    def forward(self, images):
        self.check_size(images)
        return [self.scale(images)]

def shrink(pretrained=False):
    return Shrink()

def fails(pretrained=False):
    raise OSError("no such weights")

def wrong(pretrained=False):
    return torch.nn.Identity()
"""
ENTRY_POINTS = """
[ctnet.backbones]
shrink = nets_of_others:shrink
fails = nets_of_others:fails
wrong = nets_of_others:wrong
missing = module_that_is_not_there:factory
resnet18 = nets_of_others:shrink
"""


@pytest.fixture
def plugins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An installed distribution with good and bad backbones."""
    (tmp_path / "nets_of_others.py").write_text(PLUGIN)
    info = tmp_path / "nets_of_others-1.2.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: nets-of-others\nVersion: 1.2\n")
    (info / "entry_points.txt").write_text(ENTRY_POINTS)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delenv("CTNET_PLUGINS", raising=False)
    monkeypatch.delitem(sys.modules, "nets_of_others", raising=False)


def test_list_is_filtered_and_in_order_of_depth() -> None:
    assert list_backbones("resnet*") == ["resnet18", "resnet34", "resnet50", "resnet101", "resnet152"]
    assert list_backbones("*dcn18") == ["resdcn18"]
    assert list_backbones("nothing*") == []


def test_unknown_name_offers_the_nearest() -> None:
    with pytest.raises(CtnetError, match=r"no backbone called 'resnet19'; did you mean .*resnet18"):
        create_backbone("resnet19")
    with pytest.raises(CtnetError, match="no backbone called 'resnet19'"):
        describe_backbone("resnet19")


def test_registering_twice_warns(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_registry, "_factories", {})

    def tiny(pretrained: bool = False) -> Backbone:
        return Backbone()

    assert register_backbone(tiny) is tiny
    with pytest.warns(UserWarning, match="backbone 'tiny' is registered again"):
        register_backbone(tiny)
    assert "tiny" in list_backbones()


def test_description_counts_weights_without_allocating_them() -> None:
    info = describe_backbone("resdcn18")
    network = create_backbone("resdcn18")
    assert info.parameters == sum(parameter.numel() for parameter in network.parameters())
    assert (info.source, info.channels, info.stride, info.divisor, info.error) == ("ctnet", 64, 4, 32, "")


@pytest.mark.usefixtures("plugins")
@pytest.mark.filterwarnings("ignore:backbone 'resnet18'")
class TestPlugins:
    def test_listing_imports_none(self) -> None:
        assert {"shrink", "fails", "missing"} <= set(list_backbones())
        assert "nets_of_others" not in sys.modules

    def test_a_good_one_is_like_ours(self) -> None:
        network = create_backbone("shrink")
        assert network(torch.zeros(1, 3, 8, 12))[-1].shape == (1, 3, 2, 3)
        info = describe_backbone("shrink")
        assert (info.source, info.parameters, info.error) == ("nets-of-others 1.2", 3 * 3 * 16 + 3, "")

    @pytest.mark.parametrize(
        ("name", "message"),
        [
            ("missing", "'missing' of nets-of-others 1.2 does not load: ModuleNotFoundError"),
            ("fails", "'fails' of nets-of-others 1.2 cannot be built: OSError: no such weights"),
            ("wrong", "'wrong' of nets-of-others 1.2 returns a Identity"),
        ],
    )
    def test_a_broken_one_is_named_and_harms_no_other(self, name: str, message: str) -> None:
        with pytest.raises(CtnetError, match=message):
            create_backbone(name)
        assert message in describe_backbone(name).error
        assert create_backbone("shrink").channels == 3

    def test_ours_wins_and_says_so(self) -> None:
        with pytest.warns(UserWarning, match="'resnet18' of nets-of-others is hidden by the built-in one"):
            list_backbones()
        assert create_backbone("resnet18").channels == 256

    def test_the_environment_restricts_them(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("CTNET_PLUGINS", "shrink")
        assert "shrink" in list_backbones()
        assert "fails" not in list_backbones()
        monkeypatch.setenv("CTNET_PLUGINS", "none")
        assert "shrink" not in list_backbones()
        with pytest.raises(CtnetError, match="no backbone called 'shrink'"):
            create_backbone("shrink")


def test_size_error_names_the_next_size() -> None:
    class Coarse(Backbone):
        divisor = 128

        def forward(self, images: Tensor) -> list[Tensor]:
            self.check_size(images)
            return [images]

    with pytest.raises(CtnetError, match=r"300x512 .* multiples of 128; the next size that fits is 384x512"):
        Coarse()(torch.zeros(1, 3, 300, 512))
