"""``timm/<model>``: any feature extractor of timm, upsampled to stride 4 by lateral connections.

timm is an extra and takes seconds to import, so it is imported only when one of its models is used.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from importlib import metadata
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn

from ctnet.backbones._registry import Backbone, Family, register_family
from ctnet.backbones.pyramid import CHANNELS, merge, pyramid_layers
from ctnet.base.errors import CtnetError, unknown_name


class TimmPyramid(Backbone):
    """A trunk from timm with lateral connections.

    Args:
        model: timm's name.
        pretrained: start the trunk from timm's default weights.

    Raises:
        CtnetError: without timm, for an unknown model, one without feature maps or with a fixed input size,
            and for weights that cannot be loaded.
    """

    channels = CHANNELS

    def __init__(self, model: str, pretrained: bool) -> None:
        super().__init__()
        options = _probe(model)
        self.trunk = _create(model, pretrained, options)
        weights = self.trunk.pretrained_cfg
        self.mean, self.std = tuple(weights["mean"]), tuple(weights["std"])
        info = self.trunk.feature_info
        # Of several maps with one stride the last is the deepest. Strides below 4 are not used.
        self.indices = {
            stride: index
            for index, (stride, _) in enumerate(zip(info.reduction(), info.channels(), strict=True))
            if stride >= 4
        }
        self.divisor = max(self.indices)
        self.channels_last_maps = getattr(self.trunk, "output_fmt", "NCHW") == "NHWC"
        channels = {stride: info.channels()[index] for stride, index in self.indices.items()}
        self.top, self.laterals, self.fusions = pyramid_layers(channels)

    def freezable_stages(self) -> Mapping[str, Sequence[nn.Module]]:
        """The parts of timm's network between its feature maps; none where it does not run them in a row."""
        ends = getattr(self.trunk, "return_layers", self.trunk.feature_info.module_name())
        found: dict[str, Sequence[nn.Module]] = {}
        before: list[nn.Module] = []
        for name, module in _in_a_row(self.trunk, ends):
            before.append(module)
            if name in ends:
                found[name] = before
                before = []
        return found if len(found) == len(ends) else {}

    def forward(self, images: Tensor) -> list[Tensor]:
        self.check_size(images)
        maps = self.trunk(images)
        if self.channels_last_maps:
            maps = [one.permute(0, 3, 1, 2) for one in maps]
        by_stride = {stride: maps[index] for stride, index in self.indices.items()}
        return [merge(by_stride, self.top, self.laterals, self.fusions)]


def _in_a_row(trunk: nn.Module, ends: Iterable[str]) -> Iterator[tuple[str, nn.Module]]:
    """The parts of a trunk in their order; a sequence of which a part is an end is given by its parts."""
    for name, child in trunk.named_children():
        if isinstance(child, nn.Sequential) and any(end.startswith(f"{name}.") for end in ends):
            yield from ((f"{name}.{inner}", part) for inner, part in child.named_children())
        else:
            yield name, child


def _probe(model: str) -> Mapping[str, Any]:
    """Find the options with which a model accepts images of any size, by running it on the meta device.

    Raises:
        CtnetError: when there are none, or the strides are not powers of two.
    """
    error: Exception | None = None
    for options in ({"dynamic_img_size": True}, {}):
        try:
            with torch.device("meta"):
                trunk = _create(model, False, options).eval()
                strides = trunk.feature_info.reduction()
                if any(stride & (stride - 1) for stride in strides) or max(strides) < 4:
                    break
                side = max(strides)
                trunk(torch.zeros(1, 3, 2 * side, 3 * side))
            return options
        except CtnetError:
            raise
        except TypeError as problem:  # the option does not exist
            error = error or problem
        except Exception as problem:
            error = problem
    else:
        raise CtnetError(
            f"timm/{model} does not accept images of any size ({type(error).__name__}: {error}); "
            "choose another model"
        ) from error
    raise CtnetError(
        f"timm/{model} has maps at strides {', '.join(map(str, strides))}; "
        "a backbone needs powers of two, the largest at least 4; choose another model"
    )


def _create(model: str, pretrained: bool, options: Mapping[str, Any]) -> Any:
    timm = _import_timm()
    if not timm.is_model(model.partition(".")[0]):
        raise unknown_name("backbone", f"timm/{model}", (f"timm/{name}" for name in timm.list_models()))
    try:
        return timm.create_model(model, pretrained=pretrained, features_only=True, **options)
    except TypeError:
        raise
    except RuntimeError as error:
        if pretrained:
            raise _no_weights(model, error) from error
        raise CtnetError(f"timm/{model} has no feature maps ({error}); choose another model") from error
    except Exception as error:
        if pretrained:
            raise _no_weights(model, error) from error
        raise


def imagenet_weights(model: str) -> dict[str, Tensor]:
    """Weights of one of timm's classifiers, under timm's names.

    Raises:
        CtnetError: without timm, and for weights that cannot be loaded.
    """
    timm = _import_timm()
    try:
        classifier: nn.Module = timm.create_model(model, pretrained=True)
    except Exception as error:
        raise _no_weights(model, error) from error
    return classifier.state_dict()


def _no_weights(model: str, error: Exception) -> CtnetError:
    reason = str(error).strip().splitlines()
    return CtnetError(
        f"cannot load timm's weights of {model} ({type(error).__name__}: {reason[0] if reason else ''}): "
        "they come from huggingface.co, or from the cache of a machine that has fetched them (HF_HOME)"
    )


def _import_timm() -> ModuleType:
    try:
        import timm
    except ImportError as error:
        raise CtnetError(
            f"timm's models need timm, which does not import here ({error}): pip install timm"
        ) from error
    module: ModuleType = timm
    return module


def _models() -> list[str]:
    names: list[str] = _import_timm().list_models()
    return names


def _source() -> str:
    try:
        return f"timm {metadata.version('timm')}"
    except metadata.PackageNotFoundError:
        return "timm (not installed)"


register_family(Family("timm", TimmPyramid, _models, _source))
