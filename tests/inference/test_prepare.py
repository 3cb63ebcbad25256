"""Prepared networks against the networks that they were made from."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ctnet.backbones import Backbone, list_backbones
from ctnet.base import compiling
from ctnet.base.device import has_bf16
from ctnet.base.errors import CtnetError
from ctnet.core.heads import Heatmap, Regression
from ctnet.inference import prepare
from ctnet.inference.prepare import prepare_for_inference
from ctnet.model import CenterNet, create_model
from ctnet.ops.deform_conv import DeformConv
from ctnet.ops.winograd_layers import InferenceWinograd

HEADS = {"heatmap": Heatmap(3), "size": Regression(2)}
SMALL = {"resnet18", "resdcn18", "resfpn18", "dla34"}


def shaken(model: CenterNet) -> CenterNet:
    """The model in evaluation mode, with statistics, scales and offsets as after some training."""
    torch.manual_seed(3)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            if module.running_mean is not None and module.running_var is not None:
                module.running_mean.normal_(std=0.2)
                module.running_var.uniform_(0.5, 2)
            if module.weight is not None:
                nn.init.uniform_(module.weight, 0.5, 1.5)
                nn.init.normal_(module.bias, std=0.2)
        if isinstance(module, DeformConv):
            nn.init.normal_(module.conv_offset_mask.weight, std=0.01)
    return model.eval()


def pictures(side: int, batch: int = 1) -> Tensor:
    return torch.randn(batch, 3, side, side, generator=torch.Generator().manual_seed(4))


@torch.inference_mode()
def assert_same_maps(model: CenterNet, prepared: CenterNet, images: Tensor, tolerance: float = 1e-4) -> None:
    for expected, maps in zip(model(images), prepared(images), strict=True):
        for name, values in maps.items():
            scale = max(1.0, expected[name].abs().max().item())
            torch.testing.assert_close(values.float(), expected[name], rtol=0, atol=tolerance * scale)


class Own(Backbone):
    """Another package's backbone: two layers around what the test is about."""

    channels, hidden, divisor = 8, 8, 4

    def __init__(self, forward: Callable[[Own, Tensor], Tensor], **layers: nn.Module) -> None:
        super().__init__()
        self.stem, self.apply_layers = nn.Conv2d(3, 8, 4, stride=4), forward
        for name, layer in layers.items():
            self.add_module(name, layer)

    def forward(self, images: Tensor) -> list[Tensor]:
        return [self.apply_layers(self, self.stem(images))]


def own(forward: Callable[..., Tensor], **layers: nn.Module) -> CenterNet:
    return shaken(CenterNet(Own(forward, **layers), HEADS))


def count(model: nn.Module, kind: type[nn.Module]) -> int:
    return sum(isinstance(module, kind) for module in model.modules())


@pytest.mark.parametrize(
    "name", [n if n in SMALL else pytest.param(n, marks=pytest.mark.slow) for n in list_backbones()]
)
def test_registered_backbones(name: str) -> None:
    model = shaken(create_model(HEADS, name))
    prepared = prepare_for_inference(model)
    assert count(prepared, nn.BatchNorm2d) <= 2  # DLA has two that nothing runs
    assert_same_maps(model, prepared, pictures(max(64, model.backbone.divisor)))


@pytest.fixture(scope="module")
def resdcn() -> CenterNet:
    return shaken(create_model(HEADS, "resdcn18"))


def test_original_is_untouched() -> None:
    model = shaken(create_model(HEADS, "resdcn18")).train()
    before = copy.deepcopy(model.state_dict())
    prepared = prepare_for_inference(model)
    prepared(pictures(64))
    assert model.training
    assert not prepared.training
    assert all(parameter.requires_grad for parameter in model.parameters())
    after = model.state_dict()
    assert list(before) == list(after)
    assert all(torch.equal(value, after[name]) for name, value in before.items())
    assert not any(len(module._forward_hooks) + len(module._forward_pre_hooks) for module in model.modules())


def test_works_on_larger_images_than_the_trial(resdcn: CenterNet) -> None:
    prepared = prepare_for_inference(resdcn)
    assert count(prepared, InferenceWinograd) > 0
    assert_same_maps(resdcn, prepared, pictures(224, batch=2))
    used = [m for m in prepared.modules() if isinstance(m, InferenceWinograd) and m._constants is not None]
    assert {m.kind for m in used} == {"3x3", "up"}
    assert any(m.tail is not None for m in used)
    assert_same_maps(resdcn, copy.deepcopy(prepared), pictures(160))


def test_wide_layers_keep_their_weights_visible() -> None:
    """A backbone may read them, and it may take its own Sequential apart."""
    layers = nn.Sequential(nn.Conv2d(8, 64, 3, padding=1), nn.ReLU(), nn.Conv2d(64, 64, 3, padding=1))
    model = own(
        lambda net, x: net.layers[2](net.layers[1](net.layers[0](x)))[:, :8] + net.layers[2].weight.mean(),
        layers=layers,
    )
    prepared = prepare_for_inference(model)
    assert isinstance(prepared.backbone.layers[2], InferenceWinograd)  # type: ignore[index]
    assert_same_maps(model, prepared, pictures(64), 1e-5)


def test_maps_come_channels_last_and_without_gradient(resdcn: CenterNet) -> None:
    prepared = prepare_for_inference(resdcn)
    maps = prepared(pictures(64))[-1]
    assert not maps["heatmap"].requires_grad
    assert prepared.backbone.maps_of_stages(pictures(64))[0].is_contiguous(memory_format=torch.channels_last)  # type: ignore[operator]


def test_bfloat16(resdcn: CenterNet) -> None:
    if not has_bf16(torch.device("cpu")):
        with pytest.raises(CtnetError, match="no instructions for bfloat16"):
            prepare_for_inference(resdcn, dtype=torch.bfloat16)
        return
    prepared = prepare_for_inference(resdcn, dtype=torch.bfloat16)
    assert prepared(pictures(64))[-1]["size"].dtype == torch.bfloat16
    assert_same_maps(resdcn, prepared, pictures(64), tolerance=0.05)
    assert prepared.activated(pictures(64))["heatmap"].dtype == torch.float32


def test_bfloat16_where_it_is_emulated(resdcn: CenterNet, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prepare, "has_bf16", lambda device: False)
    with pytest.raises(CtnetError, match=r"^cpu here has no instructions for bfloat16; use float32$"):
        prepare_for_inference(resdcn, dtype=torch.bfloat16)


@pytest.mark.parametrize(
    "layer",
    [
        nn.Conv2d(8, 8, 3, padding=1, bias=False),
        nn.Conv2d(8, 8, 1),
        nn.Conv2d(8, 8, 3, padding=1, groups=4, padding_mode="reflect"),
        nn.ConvTranspose2d(8, 8, 3, padding=1),
        nn.ConvTranspose2d(8, 8, 3, padding=1, groups=2, bias=False),
        nn.ConvTranspose2d(8, 8, 3, padding=1, groups=8),
        DeformConv(8, 8),
    ],
)
@pytest.mark.parametrize("norm", [nn.BatchNorm2d(8), nn.BatchNorm2d(8, affine=False)])
def test_folds(layer: nn.Module, norm: nn.Module) -> None:
    model = own(lambda net, x: net.norm(net.layer(x)).relu(), layer=layer, norm=norm)
    prepared = prepare_for_inference(model)
    assert count(prepared, nn.BatchNorm2d) == 0
    assert_same_maps(model, prepared, pictures(64), 1e-5)


@pytest.mark.parametrize(
    "forward",
    [
        lambda net, x: net.norm(net.layer(x).relu()),
        lambda net, x: net.norm(net.layer(x).relu_()),
        lambda net, x: net.norm(net.layer(x) + x),
        lambda net, x: net.norm(y := net.layer(x)) + y,
        lambda net, x: net.norm(net.layer(net.norm(net.layer(x)))),
        lambda net, x: net.norm(net.layer(x)) + net.layer(x),
        lambda net, x: net.norm(F.conv2d(x, net.layer.weight, padding=1)),
        lambda net, x: net.norm(net.layer(x)[:, :, :8, :8]).repeat(1, 1, 2, 2),
    ],
)
def test_leaves_what_is_read_otherwise(forward: Callable[..., Tensor]) -> None:
    layer = nn.Conv2d(8, 8, 3, padding=1)
    model = own(forward, layer=layer, norm=nn.BatchNorm2d(8))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        prepared = prepare_for_inference(model)
    assert count(prepared, nn.BatchNorm2d) == 1
    assert_same_maps(model, prepared, pictures(64), 1e-5)


def test_leaves_norms_of_batch_statistics() -> None:
    norm = nn.BatchNorm2d(8, track_running_stats=False)
    model = own(lambda net, x: net.norm(net.layer(x)), layer=nn.Conv2d(8, 8, 1), norm=norm)
    prepared = prepare_for_inference(model)
    assert count(prepared, nn.BatchNorm2d) == 1
    assert_same_maps(model, prepared, pictures(64), 1e-5)


def test_says_so_when_folding_would_change_the_outputs() -> None:
    """The weight is read a second time, where no trace shows it."""
    model = own(
        lambda net, x: net.norm(net.layer(x)) + net.layer.weight.sum(),
        layer=nn.Conv2d(8, 8, 3, padding=1),
        norm=nn.BatchNorm2d(8),
    )
    with pytest.warns(UserWarning, match="batch norms of Own are not folded: it changes the outputs"):
        prepared = prepare_for_inference(model)
    assert count(prepared, nn.BatchNorm2d) == 1
    assert_same_maps(model, prepared, pictures(64), 1e-5)


def test_says_so_when_the_trial_fails() -> None:
    def forward(net: Own, x: Tensor) -> Tensor:
        if x.shape[2] != 24:
            raise ValueError("this backbone is for 96x96")
        return net.norm(net.layer(x))  # type: ignore[no-any-return,operator]

    model = own(forward, layer=nn.Conv2d(8, 8, 1), norm=nn.BatchNorm2d(8))
    with pytest.warns(UserWarning, match=r"a trial run at 64x64 failed \(ValueError: this backbone is for"):
        prepared = prepare_for_inference(model)
    assert_same_maps(model, prepared, pictures(96), 1e-5)


def test_two_names_for_one_norm() -> None:
    norm = nn.BatchNorm2d(8)
    model = own(
        lambda net, x: net.block(net.layer(x)),
        layer=nn.Conv2d(8, 8, 1),
        norm=norm,
        block=nn.Sequential(norm, nn.ReLU()),
    )
    prepared = prepare_for_inference(model)
    assert count(prepared, nn.BatchNorm2d) == 0
    assert_same_maps(model, prepared, pictures(64), 1e-5)


def test_weights_that_are_not_finite_pass_through() -> None:
    """The detector, not this step, says what is wrong with them."""
    model = own(
        lambda net, x: net.norm(net.layer(x)), layer=nn.Conv2d(8, 8, 1, bias=False), norm=nn.BatchNorm2d(8)
    )
    nn.init.constant_(model.backbone.layer.weight, float("nan"))  # type: ignore[union-attr,arg-type]
    assert prepare_for_inference(model)(pictures(64))[-1]["size"].isnan().all()


@pytest.mark.slow
def test_compiled(resdcn: CenterNet, monkeypatch: pytest.MonkeyPatch) -> None:
    # Some plugin of pytest imports the standard library's distutils, beside which setuptools refuses its own.
    monkeypatch.setenv("SETUPTOOLS_USE_DISTUTILS", "stdlib")
    prepared = prepare_for_inference(resdcn, compile=True)
    assert_same_maps(resdcn, prepared, pictures(64))


@pytest.mark.gpu
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_cuda(resdcn: CenterNet, dtype: torch.dtype) -> None:
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    prepared = prepare_for_inference(copy.deepcopy(resdcn).cuda(), dtype=dtype)
    assert count(prepared, nn.BatchNorm2d) == 0
    assert count(prepared, InferenceWinograd) == 0
    with torch.inference_mode():
        maps, expected = prepared(pictures(64).cuda())[-1], resdcn(pictures(64))[-1]
    tolerance = 1e-2 if dtype == torch.float32 else 5e-2  # TF32 may be on
    for name, values in maps.items():
        assert (values.float().cpu() - expected[name]).abs().max() < tolerance * expected[name].abs().max()


def test_float16_is_refused_on_a_cpu(resdcn: CenterNet) -> None:
    with pytest.raises(CtnetError, match=r"^float16 is for GPUs; on a CPU use float32"):
        prepare_for_inference(resdcn, dtype=torch.float16)


def test_five_sizes_are_compiled_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    """The network as detectors call it, with a deformable layer, whose checks read the sizes."""
    graphs = []

    def backend(graph: torch.fx.GraphModule, inputs: object) -> Callable[..., object]:
        graphs.append(graph)
        return graph.forward  # type: ignore[no-any-return]

    torch._dynamo.reset()
    monkeypatch.setattr(compiling, "BACKEND", backend)
    model = own(lambda net, x: net.norm(net.layer(x)), layer=DeformConv(8, 8), norm=nn.BatchNorm2d(8))
    prepared, eager = prepare_for_inference(model, compile=True), prepare_for_inference(model)
    with torch.inference_mode():
        for height, width in ((64, 64), (128, 128), (64, 96), (96, 64), (32, 160)):
            images = torch.randn(1, 3, height, width)
            expected = eager.activated(images)
            for name, values in prepared.activated(images).items():
                torch.testing.assert_close(values, expected[name], rtol=0, atol=1e-4)
    assert len(graphs) == 2
    assert not torch._dynamo.utils.counters["graph_break"]
