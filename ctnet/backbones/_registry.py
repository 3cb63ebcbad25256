"""The backbone contract, and the registry: ours are registered by decorator, others by entry point."""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

import torch
from torch import Tensor, nn

from ctnet.base.errors import CtnetError, unknown_name
from ctnet.base.plugins import Plugin, discover

GROUP = "ctnet.backbones"

#: Mean and standard deviation of the released models, RGB, on the scale 0..1.
MEAN = (0.470, 0.447, 0.408)
STD = (0.278, 0.274, 0.289)


class Backbone(nn.Module):
    """Images to feature maps. These attributes are all that the heads and the engine use.

    Attributes:
        channels: channels of every feature map.
        stride: input pixels per cell of a feature map.
        divisor: the sides of the input are multiples of this.
        hidden: width of the hidden 3x3 convolution of each head.
        stacks: how many feature maps ``forward`` returns.
        head_std: standard deviation of the initial weights of regression heads; None for torch's default.
        learns_from_scratch: False where training on small data sets needs ImageNet weights.
        mean, std: with which images are normalised, RGB, on the scale 0..1: those of the ImageNet weights.
    """

    channels: int
    stride: int = 4
    divisor: int = 32
    hidden: int = 64
    stacks: int = 1
    head_std: float | None = None
    learns_from_scratch: bool = True
    mean: tuple[float, float, float] = MEAN
    std: tuple[float, float, float] = STD

    def forward(self, images: Tensor) -> list[Tensor]:
        """Compute one feature map per stack, the last one being the one to decode.

        Args:
            images: (B, 3, H, W), RGB, normalised.

        Returns:
            Maps (B, channels, H / stride, W / stride).

        Raises:
            CtnetError: when H or W is not a multiple of ``divisor``.
        """
        raise NotImplementedError

    def freezable_stages(self) -> Mapping[str, Sequence[nn.Module]]:
        """The stages that training can keep as they are (``-R freeze=N`` the first N): name -> modules.

        They come in the order in which an image passes through them, and what lies before the end of a stage
        belongs to it or to an earlier one. Modules are looked up at each call, since training may replace
        some. Layers after the last stage always learn. Empty for a network without such stages.
        """
        return {}

    def check_size(self, images: Tensor) -> None:
        """Refuse images whose sides are not multiples of ``divisor``, naming the next size that fits.

        Raises:
            CtnetError: when a side is not a multiple.
        """
        height, width = images.shape[-2:]
        if height % self.divisor or width % self.divisor:
            fit_height, fit_width = (-(-side // self.divisor) * self.divisor for side in (height, width))
            raise CtnetError(
                f"an input of {height}x{width} (height x width) does not fit {type(self).__name__}: sides "
                f"must be multiples of {self.divisor}; the next size that fits is {fit_height}x{fit_width}"
            )


Factory = Callable[..., Backbone]

_factories: dict[str, Factory] = {}


def register_backbone(factory: Factory) -> Factory:
    """Register a function as the backbone of its name; it takes ``pretrained`` and returns the network."""
    name = factory.__name__
    if name in _factories:
        warnings.warn(f"backbone {name!r} is registered again; the later one is used", stacklevel=2)
    _factories[name] = factory
    return factory


@dataclass(frozen=True)
class Family:
    """Backbones called ``<name>/<model>``, made by a library that is imported on first use.

    Attributes:
        name: the part before the slash.
        create: model, pretrained -> backbone.
        models: all models, in any order.
        source: the library and its version, looked up without importing it.
    """

    name: str
    create: Callable[[str, bool], Backbone]
    models: Callable[[], list[str]]
    source: Callable[[], str]


_families: dict[str, Family] = {}


def register_family(family: Family) -> None:
    """Make a family's backbones available under its name."""
    _families[family.name] = family


def list_families() -> list[Family]:
    """All families, by name."""
    return [_families[name] for name in sorted(_families)]


def list_backbones(pattern: str = "*") -> list[str]:
    """Names of all backbones that match a shell pattern, sorted. No plugin is imported.

    Args:
        pattern: for example "res*18". A family's models are listed where it begins with the family's name and
            a slash: "timm/*".

    Raises:
        CtnetError: for the models of a family whose library is not installed.
    """
    family = _family(pattern)
    if family is not None:
        names = {f"{family.name}/{model}" for model in family.models()}
    else:
        names = {*_factories, *_plugins()}
    return sorted((name for name in names if fnmatchcase(name, pattern)), key=_by_number)


def _family(name: str) -> Family | None:
    before, slash, _ = name.partition("/")
    return _families.get(before) if slash else None


def _by_number(name: str) -> list[str]:
    """Sort key: resnet18 before resnet101."""
    return [part.zfill(6) if part.isdigit() else part for part in re.split(r"(\d+)", name)]


def create_backbone(name: str, pretrained: bool = False) -> Backbone:
    """Build a backbone.

    Args:
        name: one of ``list_backbones()``, or a family's: "timm/resnet50".
        pretrained: start from ImageNet weights.

    Raises:
        CtnetError: for an unknown name (offering the nearest), a plugin that fails, or weights that cannot be
            loaded.
    """
    if name in _factories:
        return _factories[name](pretrained=pretrained)
    family = _family(name)
    if family is not None:
        return family.create(name.partition("/")[2], pretrained)
    plugins = _plugins()
    if name not in plugins:
        raise unknown_name("backbone", name, {*_factories, *plugins})
    return _from_plugin(plugins[name], pretrained)


@dataclass(frozen=True)
class BackboneInfo:
    """One row of the table of backbones. A plugin that fails has an error instead of values.

    Attributes:
        name: as in ``list_backbones``.
        source: the package that registers it, or the plugin's distribution and version.
        parameters: number of weights.
        channels, stride, divisor, learns_from_scratch: as in ``Backbone``.
        stages: names of the stages that can be frozen, see ``Backbone.freezable_stages``.
        error: why it cannot be built, or empty.
    """

    name: str
    source: str
    parameters: int = 0
    channels: int = 0
    stride: int = 0
    divisor: int = 0
    learns_from_scratch: bool = True
    stages: tuple[str, ...] = ()
    error: str = ""


def describe_backbone(name: str) -> BackboneInfo:
    """Describe a backbone without allocating its weights.

    Args:
        name: one of ``list_backbones()``.

    Raises:
        CtnetError: for an unknown name. A plugin or a family's model that fails is described by its error
            instead.
    """
    family = _family(name)
    plugin = None if name in _factories or family else _plugins().get(name)
    if plugin is not None:
        source = f"{plugin.distribution} {plugin.version}"
    elif family is not None:
        source = family.source()
    else:
        source = _factories[name].__module__.partition(".")[0] if name in _factories else ""
    try:
        with torch.device("meta"):
            backbone = create_backbone(name)
    except CtnetError as error:
        if plugin is None and family is None:
            raise
        return BackboneInfo(name, source, error=str(error))
    parameters = sum(parameter.numel() for parameter in backbone.parameters())
    return BackboneInfo(
        name,
        source,
        parameters,
        backbone.channels,
        backbone.stride,
        backbone.divisor,
        backbone.learns_from_scratch,
        tuple(backbone.freezable_stages()),
    )


def _plugins() -> dict[str, Plugin]:
    plugins = discover(GROUP)
    for name in _factories.keys() & plugins.keys():
        plugin = plugins.pop(name)
        warnings.warn(
            f"backbone {name!r} of {plugin.distribution} is hidden by the built-in one of that name",
            stacklevel=3,
        )
    return plugins


def _from_plugin(plugin: Plugin, pretrained: bool) -> Backbone:
    origin = f"backbone {plugin.name!r} of {plugin.distribution} {plugin.version}"
    factory = plugin.load()
    try:
        backbone = factory(pretrained=pretrained)
    except CtnetError:
        raise
    except Exception as error:
        raise CtnetError(f"{origin} cannot be built: {type(error).__name__}: {error}") from error
    if not isinstance(backbone, Backbone):
        raise CtnetError(
            f"{origin} returns a {type(backbone).__name__}, which is not a ctnet.backbones.Backbone"
        )
    return backbone
