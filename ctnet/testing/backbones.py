"""Checks of a backbone."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property, lru_cache, partial

import torch
from torch import Tensor

from ctnet.backbones import Backbone, create_backbone
from ctnet.base.errors import CtnetError
from ctnet.testing.check import Check, Outcome, promise, require, run

Factory = Callable[..., Backbone]

#: The checks of a backbone, in the order in which they run.
BACKBONE_CHECKS: list[Check] = []

_SIDE = 32


def check_backbone(factory: Factory | str) -> list[Outcome]:
    """Run every check of the contract on a backbone, with tiny images and random weights.

    Args:
        factory: builds the backbone, called with ``pretrained=False``; or its name.

    Returns:
        The outcome of each check: passed, or skipped with the reason.

    Raises:
        ContractViolation: naming every check that fails, what the contract requires, and where it is broken.
    """
    name = factory if isinstance(factory, str) else getattr(factory, "__name__", repr(factory))
    return run(BACKBONE_CHECKS, as_factory(factory), f"backbone {name}")


def as_factory(factory: Factory | str) -> Factory:
    """The factory for an argument of ``check_backbone``."""
    return partial(create_backbone, factory) if isinstance(factory, str) else factory


class BackboneProbe:
    """A backbone, built once, with two images and their features.

    Attributes:
        factory: what builds it.
    """

    def __init__(self, factory: Factory) -> None:
        self.factory = factory

    @cached_property
    def backbone(self) -> Backbone:
        torch.manual_seed(0)
        built = self.factory(pretrained=False)
        require(isinstance(built, Backbone), f"the factory returns a {type(built).__name__}, not a Backbone")
        return built.eval()

    @cached_property
    def images(self) -> Tensor:
        """(2, 3, H, 2 H): the smallest allowed by the divisor, and never square."""
        divisor = self.backbone.divisor
        side = -(-_SIDE // divisor) * divisor
        return torch.rand(2, 3, side, 2 * side, generator=torch.Generator().manual_seed(0))

    @cached_property
    def features(self) -> list[Tensor]:
        """Features of both images, in evaluation mode."""
        with torch.no_grad():
            return self.backbone(self.images)  # type: ignore[no-any-return]


@lru_cache(maxsize=1)
def _probe_of(factory: Factory) -> BackboneProbe:
    """The probe of the factory under test: all its checks share one network."""
    return BackboneProbe(factory)


def _backbone_check(member: str) -> Callable[[Callable[[BackboneProbe], None]], None]:
    def add(function: Callable[[BackboneProbe], None]) -> None:
        def check(factory: Factory) -> None:
            function(_probe_of(factory))

        BACKBONE_CHECKS.append(Check(function.__name__, member, promise(function), check))

    return add


@_backbone_check("Backbone")
def attributes_are_declared(probe: BackboneProbe) -> None:
    """channels, stride, divisor, hidden and stacks are integers; the stride divides the divisor."""
    backbone = probe.backbone
    for name in ("channels", "stride", "divisor", "hidden", "stacks"):
        value = getattr(backbone, name, None)
        require(isinstance(value, int) and value > 0, f"{name} is {value!r}")
    require(
        backbone.divisor % backbone.stride == 0,
        f"the divisor {backbone.divisor} is not a multiple of the stride {backbone.stride}",
    )


@_backbone_check("Backbone.forward")
def features_have_the_promised_shape(probe: BackboneProbe) -> None:
    """forward returns one finite map per stack, with the declared channels and stride."""
    backbone, (batch, _, height, width) = probe.backbone, probe.images.shape
    require(isinstance(probe.features, list), f"it returns a {type(probe.features).__name__}, not a list")
    require(
        len(probe.features) == backbone.stacks,
        f"it returns {len(probe.features)} maps but has {backbone.stacks} stacks",
    )
    expected = (batch, backbone.channels, height // backbone.stride, width // backbone.stride)
    for stack, features in enumerate(probe.features):
        shape = tuple(features.shape)
        require(
            shape == expected, f"stack {stack} gives {shape} for a {height}x{width} input, not {expected}"
        )
        require(features.isfinite().all(), f"stack {stack} gives NaN or infinities")


@_backbone_check("Backbone.forward, Backbone.check_size")
def wrong_sizes_are_refused(probe: BackboneProbe) -> None:
    """Sides that are not multiples of the divisor raise a CtnetError that names the next size that fits."""
    side = probe.backbone.divisor
    wrong = torch.zeros(1, 3, side + 1, side)
    try:
        with torch.no_grad():
            probe.backbone(wrong)
    except CtnetError as error:
        require(f"{2 * side}x{side}" in str(error), f"{side + 1}x{side} is refused with: {error}")
    except Exception as error:
        require(False, f"{side + 1}x{side} raises {type(error).__name__}: {error}")
    else:
        require(side == 1, f"{side + 1}x{side} is accepted")


@_backbone_check("Backbone.forward")
def images_do_not_mix(probe: BackboneProbe) -> None:
    """In evaluation mode an image has the same features alone and in a batch; the network does not change."""
    before = {name: value.clone() for name, value in probe.backbone.named_buffers()}
    with torch.no_grad():
        alone = probe.backbone(probe.images[1:])
    for stack, (one, both) in enumerate(zip(alone, probe.features, strict=True)):
        require(_close(one[0], both[1]), f"stack {stack} differs for the second image of two")
    for name, value in probe.backbone.named_buffers():
        require(torch.equal(value, before[name]), f"buffer {name} was changed")


@_backbone_check("Backbone")
def weights_survive_a_state_dict(probe: BackboneProbe) -> None:
    """A network with another one's state dict computes the same features, also with channels-last memory."""
    other = probe.factory(pretrained=False).eval()
    other.load_state_dict(probe.backbone.state_dict())
    other.to(memory_format=torch.channels_last)
    with torch.no_grad():
        again = other(probe.images[1:].contiguous(memory_format=torch.channels_last))
    for stack, (one, both) in enumerate(zip(again, probe.features, strict=True)):
        require(_close(one[0], both[1]), f"stack {stack} differs")


@_backbone_check("Backbone")
def builds_without_memory(probe: BackboneProbe) -> None:
    """It can be built on the meta device, with the same weights, to be described without allocation."""
    with torch.device("meta"):
        described = probe.factory(pretrained=False)
    shapes = [
        {name: tuple(value.shape) for name, value in backbone.state_dict().items()}
        for backbone in (described, probe.backbone)
    ]
    require(shapes[0] == shapes[1], "its state dict differs from that of the real one")
    real = [name for name, value in described.named_parameters() if not value.is_meta]
    require(not real, f"{', '.join(real[:3])} are allocated anyway")


@_backbone_check("Backbone.freezable_stages")
def stages_come_in_order(probe: BackboneProbe) -> None:
    """The stages that can be frozen are parts of the network, share no weights, and run in their order."""
    backbone, stages = probe.backbone, probe.backbone.freezable_stages()
    own, owner = set(backbone.modules()), dict[int, str]()
    calls: list[str] = []
    hooks = []
    for name, modules in stages.items():
        parts = [part for module in modules for part in module.modules()]
        require(parts, f"stage {name} is empty")
        require(own.issuperset(parts), f"stage {name} has modules that are not the backbone's")
        for weight in (weight for module in modules for weight in module.parameters()):
            other = owner.setdefault(id(weight), name)
            require(other == name, f"stages {other} and {name} share a weight")
        leaves = [part for part in parts if not [*part.children()]]
        hooks += [leaf.register_forward_pre_hook(lambda *_, name=name: calls.append(name)) for leaf in leaves]
    try:
        with torch.no_grad():
            backbone(probe.images[:1])
    finally:
        for hook in hooks:
            hook.remove()
    order = list(stages)
    numbers = [order.index(name) for name in calls]
    require(numbers == sorted(numbers), f"an image does not pass through {', '.join(order)} in this order")
    require(
        len(set(numbers)) == len(order), f"an image passes through {', '.join(dict.fromkeys(calls))} alone"
    )


@_backbone_check("Backbone.forward")
def every_weight_learns(probe: BackboneProbe) -> None:
    """In training mode a finite gradient reaches every weight."""
    backbone = probe.backbone
    buffers = {name: value.clone() for name, value in backbone.named_buffers()}
    try:
        maps = backbone.train()(probe.images)
        generator = torch.Generator().manual_seed(0)
        total = torch.stack(
            [(one * torch.randn(one.shape, generator=generator)).mean() for one in maps]
        ).sum()
        total.backward()  # type: ignore[no-untyped-call]
        weights = {name: value for name, value in backbone.named_parameters() if value.requires_grad}
        lost = [name for name, value in weights.items() if value.grad is None]
        require(not lost, f"{len(lost)} of {len(weights)} get none: {', '.join(lost[:3])}")
        broken = [name for name, value in weights.items() if not value.grad.isfinite().all()]  # type: ignore[union-attr]
        require(not broken, f"that of {', '.join(broken[:3])} is NaN or infinite")
        require(
            any(value.grad.any() for value in weights.values()),  # type: ignore[union-attr]
            "every gradient is zero",
        )
    finally:
        backbone.zero_grad(set_to_none=True)
        backbone.eval()
        for name, value in backbone.named_buffers():
            value.copy_(buffers[name])


def _close(one: Tensor, other: Tensor) -> bool:
    scale = float(other.abs().max().clamp(min=1e-6))
    return bool(((one - other).abs().max() <= 2e-3 * scale).item())
