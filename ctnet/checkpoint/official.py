"""The authors' released checkpoints: reading them, writing them, and their training data.

A released file names its entries after the release's modules and does not state architecture, task, classes
or normalisation; all of these are recognised. Our backbones keep the release's names, so only the heads are
renamed. The released networks read BGR images and ours RGB ones, so the stem's input channels are reversed.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from ctnet.backbones import create_backbone, list_backbones
from ctnet.base.errors import CtnetError
from ctnet.base.plugins import discover
from ctnet.checkpoint.file import FORMAT, Description, load, read_tensors, save, write_tensors
from ctnet.checkpoint.released_data import COCO, RELEASED, ReleasedData
from ctnet.core.heads import Head
from ctnet.core.options import parse_options
from ctnet.core.task import GROUP, Task, load_task_class
from ctnet.model import CenterNet, create_model

ChannelOrder = Literal["bgr", "keep"]

_NETWORKS = (
    "resnet*",
    "resdcn*",
    "dla*",
    "hourglass*",
)  # those of the release, as ``list_backbones`` patterns

# DLA's ImageNet classifier, which is in the released files but never used.
_UNUSED = ("base.fc.weight", "base.fc.bias")
_KEPT_UNUSED = "official_unused"  # where a converted file stores them, within ``training``

_SINGLE = re.compile(r"[02]\.(weight|bias)")
_STACKED = re.compile(r"\d+\.(0\.conv|1)\.(weight|bias)")
_SHOWN = 12


# --- loading into a network


def load_official(
    model: CenterNet, source: str | Path | Mapping[str, Any], channel_order: ChannelOrder = "bgr"
) -> None:
    """Copy the weights of a released checkpoint into a network: all or none.

    The network's heads have the released names (hm, wh, reg, ...), or the names of an installed task whose
    heads state the released ones as ``Head.released``.

    Args:
        model: the network.
        source: a file of the release, or its content: a state dict, also inside ``{"state_dict": ...}``, and
            with ``module.`` before each name. Anything else in it (optimizer, epoch) is ignored.
        channel_order: the order of the file's input channels. "bgr" (the release) reverses those of the stem,
            so that the network reads RGB images; "keep" leaves them.

    Raises:
        CtnetError: for a file that cannot be read without running code or holds no weights, and, with a
            table, for entries that are missing, unexpected or of another shape.
    """
    _check_order(channel_order)
    weights, _ = _split_unused(_read(source))
    names = _release_names(set(model.heads), set(_head_channels(weights)))
    model.load_state_dict(_from_release(model, weights, names, channel_order, _called(source)))


def official_state_dict(model: CenterNet, channel_order: ChannelOrder = "bgr") -> dict[str, Tensor]:
    """The weights of a network under the release's names: the inverse of ``load_official``.

    Args:
        model: a network whose heads have the released names, or those of an installed task.
        channel_order: "bgr" reverses the input channels of the stem, "keep" leaves them.
    """
    _check_order(channel_order)
    names: Mapping[str, str] = {head: head for head in model.heads}
    for cls in _installed_tasks():
        if set(model.heads) <= set(_released(cls)):
            names = _released(cls)
            break
    return _to_release(model, model.state_dict(), names, channel_order)


def _check_order(channel_order: str) -> None:
    if channel_order not in ("bgr", "keep"):
        raise CtnetError(f"channel_order is {channel_order!r}; it must be 'bgr' or 'keep'")


def _read(source: str | Path | Mapping[str, Any]) -> dict[str, Tensor]:
    """The state dict of a released file, without wrapping and prefixes."""
    content = source if isinstance(source, Mapping) else read_tensors(source)
    if isinstance(content, Mapping) and content.get("format") == FORMAT:
        raise CtnetError(f"{_called(source)} is already a checkpoint of ctnet; there is nothing to convert")
    if isinstance(content, Mapping) and isinstance(content.get("state_dict"), Mapping):
        content = content["state_dict"]
    if not isinstance(content, Mapping) or not all(isinstance(value, Tensor) for value in content.values()):
        raise CtnetError(
            f"{_called(source)} holds no state dict (names and tensors); is it a checkpoint of the release?"
        )
    if not content:
        raise CtnetError(f"{_called(source)} holds no weights")
    prefix = "module." if all(name.startswith("module.") for name in content) else ""
    return {name.removeprefix(prefix): value for name, value in content.items()}


def _called(source: object) -> str:
    return "the state dict" if isinstance(source, Mapping) else str(source)


def _split_unused(weights: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    used = {name: value for name, value in weights.items() if name not in _UNUSED}
    return used, {name: value for name, value in weights.items() if name in _UNUSED}


# --- names


def _head_channels(weights: Mapping[str, Tensor]) -> dict[str, int]:
    """The release's heads in a state dict: name -> channels."""
    entries: dict[str, list[str]] = {}
    for name in weights:
        first, _, rest = name.partition(".")
        entries.setdefault(first, []).append(rest)
    heads = {}
    for head, rests in entries.items():
        for pattern, last in ((_SINGLE, "2.weight"), (_STACKED, "0.1.weight")):
            if last in rests and all(pattern.fullmatch(rest) for rest in rests):
                heads[head] = len(weights[f"{head}.{last}"])
    return heads


def _release_names(ours: set[str], theirs: set[str]) -> Mapping[str, str]:
    """Our heads -> the release's names for them."""
    if ours != theirs:
        for cls in _installed_tasks():
            names = {head: _released(cls).get(head, head) for head in ours}
            if set(names.values()) == theirs:
                return names
    return {head: head for head in ours}


def _official_names(model: CenterNet, heads: Mapping[str, str]) -> dict[str, str]:
    """Every entry of our state dict -> its name in the release."""
    names = {}
    for own in model.state_dict():
        room, _, rest = own.partition(".")
        if room == "backbone":
            names[own] = rest
            continue
        stack, head, layer, kind = rest.split(".")
        if model.backbone.stacks == 1:
            names[own] = f"{heads[head]}.{layer}.{kind}"
        else:
            names[own] = f"{heads[head]}.{stack}.{'0.conv' if layer == '0' else '1'}.{kind}"
    return names


def _stem(backbone: nn.Module) -> str:
    """The name of the first convolution's kernel."""
    return next(
        name for name, value in backbone.state_dict().items() if value.dim() == 4 and value.shape[1] == 3
    )


def _reverse_channels(kernel: Tensor) -> Tensor:
    """BGR <-> RGB."""
    return kernel.flip(1)


def _from_release(
    model: CenterNet,
    weights: Mapping[str, Tensor],
    heads: Mapping[str, str],
    channel_order: ChannelOrder,
    source: str,
) -> dict[str, Tensor]:
    """Convert a released state dict. Names, shapes and dtypes come from the model, which may be on "meta"."""
    names, own = _official_names(model, heads), model.state_dict()
    _refuse_mismatch({names[name]: value for name, value in own.items()}, weights, source)
    ours = {name: weights[names[name]].to(value.dtype) for name, value in own.items()}
    if channel_order == "bgr":
        stem = f"backbone.{_stem(model.backbone)}"
        ours[stem] = _reverse_channels(ours[stem])
    return ours


def _to_release(
    model: CenterNet, weights: Mapping[str, Tensor], heads: Mapping[str, str], channel_order: ChannelOrder
) -> dict[str, Tensor]:
    """The inverse of ``_from_release``."""
    names = _official_names(model, heads)
    state = {names.get(own, own): value for own, value in weights.items()}
    expected = {names[own]: value for own, value in model.state_dict().items()}
    _refuse_mismatch(expected, state, "the file", "its own description")
    if channel_order == "bgr":
        stem = _stem(model.backbone)
        state[stem] = _reverse_channels(state[stem])
    return state


def _refuse_mismatch(
    expected: Mapping[str, Tensor], given: Mapping[str, Tensor], source: str, of: str = "the network"
) -> None:
    """Compare names and shapes.

    Raises:
        CtnetError: with a table of every difference.
    """
    missing = [name for name in expected if name not in given]
    unexpected = [name for name in given if name not in expected]
    shapes = [
        (name, list(given[name].shape), list(value.shape))
        for name, value in expected.items()
        if name in given and given[name].shape != value.shape
    ]
    if not (missing or unexpected or shapes):
        return
    message = (
        f"{source} does not fit {of}: {len(missing)} entries are missing, {len(unexpected)} unexpected, "
        f"{len(shapes)} of another shape; nothing was loaded"
    )
    details = [
        *_rows("missing", (f"{name} {list(expected[name].shape)}" for name in missing)),
        *_rows("unexpected", (f"{name} {list(given[name].shape)}" for name in unexpected)),
        *_rows("other shape", (f"{name} {theirs} for {ours}" for name, theirs, ours in shapes)),
    ]
    raise CtnetError(message, details)


def _rows(kind: str, texts: Iterable[str]) -> list[str]:
    rows = [f"  {kind:<12} {text}" for text in texts]
    more = len(rows) - _SHOWN
    return [*rows[:_SHOWN], f"  {kind:<12} ... and {more} more"] if more > 1 else rows


# --- recognition


def _recognise_backbone(weights: Mapping[str, Tensor], source: str) -> str:
    """The name of our backbone that has exactly these entries.

    Raises:
        CtnetError: with a table of the differences from the nearest one.
    """
    heads = _head_channels(weights)
    trunk = {name: value for name, value in weights.items() if name.partition(".")[0] not in heads}
    nearest: tuple[int, str, Mapping[str, Tensor]] | None = None
    for name in (name for pattern in _NETWORKS for name in list_backbones(pattern)):
        entries = _entries(name)
        common = sum(key in trunk and trunk[key].shape == value.shape for key, value in entries.items())
        if common == len(entries) == len(trunk):
            return name
        # On ties the one with fewer other entries is nearer.
        score = 2 * common - len(entries)
        if common and (nearest is None or score > nearest[0]):
            nearest = score, name, entries
    if nearest is None:
        raise CtnetError(f"{source} holds no network of the release (ResNet, DLA-34, Hourglass-104)")
    _refuse_mismatch(nearest[2], trunk, source, f"{nearest[1]}, the nearest network")
    raise AssertionError("an exact match was missed")


@cache
def _entries(backbone: str) -> Mapping[str, Tensor]:
    """Names and shapes of a backbone's entries."""
    with torch.device("meta"):
        return create_backbone(backbone).state_dict()


def _installed_tasks() -> Iterator[type[Task]]:
    """Classes of all tasks that load; others are skipped."""
    for name in discover(GROUP):
        try:
            yield load_task_class(name)
        except CtnetError:
            continue


def _released(task: Task | type[Task]) -> dict[str, str]:
    """Our heads -> their released names, where they have one."""
    heads = _example_heads(task) if isinstance(task, type) else task.heads
    return {name: head.released for name, head in heads.items() if head.released}


def _example_heads(cls: type[Task]) -> Mapping[str, Head]:
    """Heads for the categories of a task's scenes, or of the first released data set that it accepts."""
    drawn = [] if cls.scenes is None else [cls.scenes.categories]
    for categories in (*drawn, *(data.categories for data in RELEASED)):
        with suppress(CtnetError):
            return cls(categories).heads
    return {}


def _recognise_task(
    heads: Mapping[str, int], named: Sequence[Mapping[str, Any]] | None, options: Mapping[str, Any]
) -> tuple[Task, ReleasedData]:
    """The task, bound to categories, whose heads have these names and channels, and the data set."""
    classes = [cls for cls in _installed_tasks() if set(heads) <= set(_released(cls).values())]
    shown = ", ".join(f"{name} {channels}" for name, channels in heads.items())
    if not classes:
        raise CtnetError(
            f"no installed task has the heads {shown or 'of this file: there are none'}; install the plugin "
            "of that task (`ctnet tasks list` shows what is installed)"
        )
    for cls in _accepting(classes, options):
        for data in RELEASED:
            try:
                task = cls(named or data.categories, **options)
            except CtnetError:  # such as a task of joints, for categories without joints
                continue
            if {head.released: head.channels for head in task.heads.values()} == heads:
                return task, _data_of(named) if named else data
    tasks = " or ".join(cls.name for cls in classes)
    if named:
        raise CtnetError(f"{len(named)} categories do not match the heads {shown} of task {tasks}")
    raise CtnetError(
        f"with no released data set does task {tasks} have the heads {shown}; name the categories with "
        "--names "
        "FILE, or state the task's options with -O"
    )


def _accepting(classes: Sequence[type[Task]], options: Mapping[str, Any]) -> list[type[Task]]:
    """The tasks that accept these options."""
    accepting, refused = [], []
    for cls in classes:
        try:
            parse_options(cls.Options, options, f"task {cls.name}")
            accepting.append(cls)
        except CtnetError as error:
            refused.append(error)
    if not accepting:
        raise refused[0]
    return accepting


def _data_of(named: Sequence[Mapping[str, Any]]) -> ReleasedData:
    """The data set whose normalisation is used with named categories: COCO, the release's default."""
    same = (data for data in RELEASED if len(data.categories) == len(named))
    return replace(next(same, COCO), categories=named)


# --- whole files


@dataclass(frozen=True)
class Conversion:
    """The result of a conversion.

    Attributes:
        description: as in ctnet's file.
        data: the data set whose size and normalisation were used; empty for the inverse conversion.
        dropped: released entries that the network does not have.
        parameters: number of the network's parameters.
    """

    description: Description
    data: str
    dropped: list[str]
    parameters: int


def from_official(
    source: str | Path,
    target: str | Path,
    categories: Sequence[Mapping[str, Any]] | None = None,
    options: Mapping[str, Any] | None = None,
) -> Conversion:
    """Convert a checkpoint of the release to ctnet's file.

    Args:
        source: the release's file.
        target: the file to write.
        categories: as in a COCO file, where the model was trained on other data than the release's.
        options: the task's own, where the model has other heads than with the defaults.

    Raises:
        CtnetError: for a file that cannot be read, an architecture, task or categories that are not
            recognised (with a table where entries differ), and a target that cannot be written.
    """
    weights, unused = _split_unused(_read(source))
    backbone = _recognise_backbone(weights, str(source))
    heads = _head_channels(weights)
    task, data = _recognise_task(heads, categories, options or {})
    with torch.device("meta"):
        model = create_model(task, backbone)
    ours = _from_release(model, weights, _released(task), "bgr", str(source))
    description = Description(
        task.name,
        asdict(task.options),
        [dict(category) for category in task.categories],
        backbone,
        data.size,
        data.mean,
        data.std,
        model.backbone.stride,
    )
    save(target, description, ours, {_KEPT_UNUSED: unused} if unused else None)
    return Conversion(description, data.name, list(unused), _count(model))


def to_official(source: str | Path, target: str | Path) -> Conversion:
    """Convert ctnet's file to one that the released code reads: ``{"epoch": 0, "state_dict": ...}``.

    Entries that the network does not have are restored if the file was itself converted; otherwise they are
    left out, and the released code keeps its initial values there, which it never uses.

    Args:
        source: ctnet's file.
        target: the file to write.

    Raises:
        CtnetError: for a file that cannot be read, or a network or heads that the release does not have.
    """
    checkpoint = load(source)
    description = checkpoint.description
    task = description.create_task()
    if not any(description.backbone in list_backbones(pattern) for pattern in _NETWORKS):
        raise CtnetError(
            f"the released code has no network {description.backbone}, so it could not read the file"
        )
    nameless = [name for name, head in task.heads.items() if not head.released]
    if nameless:
        raise CtnetError(f"the released code has no head for {', '.join(nameless)} of task {task.name}")
    with torch.device("meta"):
        model = create_model(task, description.backbone)
    state = _to_release(model, checkpoint.weights, _released(task), "bgr")
    kept = checkpoint.training.get(_KEPT_UNUSED, {})
    write_tensors(target, {"epoch": 0, "state_dict": {**state, **kept}})
    return Conversion(description, "", [], _count(model))


def _count(model: nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())
