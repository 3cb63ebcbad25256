"""The file format: plain tensors and JSON values, self-describing, loaded without running code."""

from __future__ import annotations

import json
import pickle
import warnings
import zipfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Annotated, Any

import torch
from annotated_types import Ge, Gt, MinLen
from torch import Tensor, nn
from typing_extensions import NotRequired, TypedDict

from ctnet.backbones import MEAN, STD, Backbone
from ctnet.base.errors import CtnetError, os_error
from ctnet.base.files import atomic_write, is_plain_archive, require_regular
from ctnet.base.schema import check_text, check_values
from ctnet.base.version import __version__
from ctnet.core.categories import Categories
from ctnet.core.frames import PLANE_STD
from ctnet.core.operating import OperatingPoints, read_operating_points, require_consistent
from ctnet.core.task import Task, create_task
from ctnet.model import CenterNet, create_model

FORMAT = "ctnet checkpoint 1"

Positive = Annotated[float, Gt(0)]
Count = Annotated[int, Ge(1)]


@dataclass(frozen=True)
class Description:
    """Everything besides weights that is needed to restore a detector.

    Attributes:
        task: entry-point name.
        options: the task's options.
        categories: as in the COCO file of the training data.
        backbone: name of the backbone.
        size: (width, height) of the training input, pixels.
        mean, std: RGB, on the scale 0..1; of every channel of the input where there are more.
        stride: input pixels per output cell.
        versions: the versions of ctnet and torch at the time of writing.
    """

    task: str
    options: dict[str, Any]
    categories: list[dict[str, Any]]
    backbone: str
    size: tuple[Count, Count]
    mean: Annotated[tuple[float, ...], MinLen(3)] = MEAN
    std: Annotated[tuple[Positive, ...], MinLen(3)] = STD
    stride: Count = 4
    versions: dict[str, str] = field(
        default_factory=lambda: {"ctnet": __version__, "torch": torch.__version__}
    )

    @classmethod
    def of(
        cls, task: Task, name: str, size: tuple[int, int], backbone: Backbone | None = None
    ) -> Description:
        """Describe a detector that is about to be trained.

        Args:
            task: its task.
            name: name of its backbone.
            size: (width, height) of the training input, pixels.
            backbone: the network, for its stride, mean and standard deviation; None for those of ctnet's own.
        """
        network = backbone or Backbone
        categories = [dict(category) for category in task.categories]
        return cls(
            task.name,
            asdict(task.options),
            categories,
            name,
            size,
            mean=network.mean * task.frames.count + (0.0,) * task.frames.planes,
            std=network.std * task.frames.count + (PLANE_STD,) * task.frames.planes,
            stride=network.stride,
        )

    @classmethod
    def from_json(cls, text: str | bytes, source: str | Path) -> Description:
        """Parse the description in a file.

        Raises:
            CtnetError: naming the file and the first value that does not fit.
        """
        fix = f"it is damaged, or not of ctnet {__version__}"
        described: Description = check_text(cls, text, f"the description in {source}", fix)
        return described

    def class_names(self, source: object) -> tuple[str, ...]:
        """Name of each label.

        Args:
            source: the file that holds the description, for messages.

        Raises:
            CtnetError: for categories that no task can have.
        """
        try:
            return Categories(self.categories).names
        except CtnetError as error:
            raise CtnetError(f"{source}: {error}") from error

    def create_task(self, source: object = None) -> Task:
        """The task that it describes.

        Args:
            source: the file that holds the description, for messages.

        Raises:
            CtnetError: for a task, options or categories that do not fit together.
        """
        try:
            return create_task(self.task, self.categories, **self.options)
        except CtnetError as error:
            raise error if source is None else CtnetError(f"{source}: {error}") from error


class _Content(TypedDict):
    """What a file holds."""

    format: str
    description: str
    weights: dict[str, Tensor]
    training: dict[str, Any]
    metrics: dict[str, float]
    operating_points: NotRequired[str]


@dataclass(frozen=True)
class Checkpoint:
    """A loaded file.

    Attributes:
        path: the file.
        description: the detector that the weights belong to.
        weights: state dict of the network to use (the moving average where there is one).
        training: optimizer, raw weights, random state, position; empty in a file for inference only.
        metrics: metrics of the evaluation of these weights.
        operating_points: thresholds that were chosen for these weights; None if none were.
    """

    path: Path
    description: Description
    weights: Mapping[str, Tensor]
    training: Mapping[str, Any]
    metrics: Mapping[str, float]
    operating_points: OperatingPoints | None = None


def save(
    path: str | Path,
    description: Description,
    weights: Mapping[str, Tensor],
    training: Mapping[str, Any] | None = None,
    metrics: Mapping[str, float] | None = None,
    operating_points: OperatingPoints | None = None,
) -> None:
    """Write a checkpoint atomically.

    Raises:
        CtnetError: when the file cannot be written (disk full, folder read-only).
    """
    content = {
        "format": FORMAT,
        "description": json.dumps(asdict(description)),
        "weights": {name: tensor.detach() for name, tensor in weights.items()},
        "training": dict(training or {}),
        "metrics": dict(metrics or {}),
    }
    if operating_points is not None:
        content["operating_points"] = json.dumps(operating_points.to_json())
    write_tensors(path, content)


def save_operating_points(path: str | Path, points: OperatingPoints) -> None:
    """Write other operating points into a checkpoint, atomically; everything else in it stays as it is.

    Raises:
        CtnetError: for a file that ``load`` refuses, points of other classes, and when it cannot be written.
    """
    names = load(path).description.class_names(path)
    require_consistent(points, names, path, "choose thresholds with this detector")
    content = read_tensors(path)
    write_tensors(path, {**content, "operating_points": json.dumps(points.to_json())})


def write_tensors(path: str | Path, content: Any) -> None:
    """Write any torch file atomically.

    Raises:
        CtnetError: when the file cannot be written (disk full, folder read-only).
    """
    with atomic_write(path) as stream:
        try:
            torch.save(content, stream)
        except RuntimeError as error:
            # torch's zip writer hides the operating system's error (mostly a full disk).
            raise _write_error(error, path) from error


def load(path: str | Path) -> Checkpoint:
    """Read a checkpoint onto the CPU. Never runs code from the file.

    Raises:
        CtnetError: for a file that is missing, truncated, not a checkpoint of ctnet, or one that holds code.
    """
    content = read_tensors(path)
    found = content.get("format") if isinstance(content, dict) else None
    if not isinstance(found, str) or found != FORMAT:  # a tensor compares to a tensor
        what = f"has format {found!r}" if isinstance(found, str) else "was not written by ctnet"
        raise CtnetError(
            f"{path} {what}; ctnet {__version__} reads {FORMAT!r} files (best.pt, last.pt of a run)"
        )
    path = Path(path)
    fix = f"it is damaged, or not of ctnet {__version__}"
    held = check_values(_Content, content, path, fix)
    description = Description.from_json(held["description"], path)
    points = None
    if "operating_points" in held:
        points = read_operating_points(held["operating_points"], description.class_names(path), path, fix)
    return Checkpoint(path, description, held["weights"], held["training"], held["metrics"], points)


def read_tensors(path: str | Path) -> Any:
    """Read any torch file of plain tensors and values (``weights_only=True``, always).

    Raises:
        CtnetError: when that is not possible, saying why.
    """
    path = Path(path)
    require_regular(path)
    try:
        stream = path.open("rb")
    except OSError as error:
        raise os_error(error, "read", path) from error
    try:
        with stream, warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about pickles that the error below is about
            # torch itself checks neither sizes nor checksums; the files that it writes are not compressed
            if zipfile.is_zipfile(stream) and (
                not is_plain_archive(stream) or zipfile.ZipFile(stream).testzip()
            ):
                raise zipfile.BadZipFile
            stream.seek(0)
            return torch.load(stream, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        if "GLOBAL" in str(error):
            raise CtnetError(
                f"{path} holds Python objects besides tensors; ctnet never runs code from a file: "
                "save the state dict alone with torch.save(model.state_dict(), ...)"
            ) from error
        raise CtnetError(f"{path} is not a checkpoint, or a damaged one; copy or train it again") from error
    except Exception as error:  # a garbled file can raise any error
        raise CtnetError(
            f"{path} is cut short or damaged; copy it again, or use another checkpoint"
        ) from error


def load_model(checkpoint: Checkpoint) -> tuple[Task, CenterNet]:
    """Create the task and network that a checkpoint describes, with its weights.

    Raises:
        CtnetError: naming the file, when weights and network do not match.
    """
    described = checkpoint.description
    try:
        task = described.create_task()
        model = create_model(task, described.backbone)
        load_weights(model, checkpoint.weights)
    except CtnetError as error:
        raise CtnetError(f"{checkpoint.path}: {error}") from error
    if described.stride != model.backbone.stride:
        raise CtnetError(
            f"{checkpoint.path} says stride {described.stride}, but {described.backbone} has "
            f"{model.backbone.stride}; it is damaged: use another checkpoint"
        )
    if {len(described.mean), len(described.std)} != {task.frames.inputs}:
        raise CtnetError(
            f"{checkpoint.path} has {len(described.mean)} means and {len(described.std)} deviations for an "
            f"input of {task.frames.inputs} channels; it is damaged: use another checkpoint"
        )
    return task, model


@dataclass(frozen=True)
class WeightReport:
    """The names of a state dict's entries, by whether they match a network's."""

    loaded: list[str]
    missing: list[str]
    unexpected: list[str]
    other_shape: list[str]

    @property
    def complete(self) -> bool:
        return not (self.missing or self.unexpected or self.other_shape)

    def summary(self) -> str:
        """One line of counts with the first names of each kind."""
        parts = [f"{len(self.loaded)} loaded"]
        for kind, names in (
            ("missing", self.missing),
            ("unexpected", self.unexpected),
            ("of another shape", self.other_shape),
        ):
            if names:
                more = ", ..." if len(names) > 3 else ""
                parts.append(f"{len(names)} {kind} ({', '.join(names[:3])}{more})")
        return ", ".join(parts)


def load_weights(module: nn.Module, weights: Mapping[str, Tensor], partial: bool = False) -> WeightReport:
    """Copy weights into a network.

    Args:
        module: the network.
        weights: its state dict.
        partial: load the entries that match and report the others, instead of failing.

    Raises:
        CtnetError: unless ``partial``, when any entry is missing, unexpected or of another shape; always for
            entries that are not dense finite tensors.
    """
    own = module.state_dict()
    _refuse_unusable(weights, own)
    other_shape = [name for name in weights if name in own and own[name].shape != weights[name].shape]
    report = WeightReport(
        loaded=[name for name in weights if name in own and name not in other_shape],
        missing=[name for name in own if name not in weights],
        unexpected=[name for name in weights if name not in own],
        other_shape=[
            f"{name} {list(weights[name].shape)} for {list(own[name].shape)}" for name in other_shape
        ],
    )
    if not report.complete and not partial:
        raise CtnetError(
            f"these weights do not match the network: {report.summary()}; are they of another backbone or "
            "task?"
        )
    module.load_state_dict({name: weights[name] for name in report.loaded}, strict=False)
    return report


_FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
_WHOLE = (torch.int64, torch.int32)


def _refuse_unusable(weights: Mapping[str, Tensor], own: Mapping[str, Tensor]) -> None:
    """Refuse tensors that cannot be weights: sparse ones, other dtypes, NaN."""
    for name, tensor in weights.items():
        kinds = (
            (_FLOATS + _WHOLE) if name not in own else _FLOATS if own[name].is_floating_point() else _WHOLE
        )
        if tensor.layout != torch.strided or tensor.device.type != "cpu" or tensor.dtype not in kinds:
            what = f"is a tensor of {tensor.dtype}, {tensor.layout}, on {tensor.device}"
        elif tensor.is_floating_point() and not _is_finite(tensor):
            what = "holds NaN or infinity"
        else:
            continue
        raise CtnetError(f"the weight {name} {what}; such weights cannot be used: use another checkpoint")


def _is_finite(tensor: Tensor) -> bool:
    """Whether all values are finite, without reading values repeated by strides of 0 more than once."""
    held = tensor[tuple(slice(0, 1) if stride == 0 else slice(None) for stride in tensor.stride())]
    return bool(held.isfinite().all())


def _write_error(error: RuntimeError, path: str | Path) -> CtnetError:
    cause = error.__context__
    if isinstance(cause, OSError):
        return os_error(cause, "write", path)
    return CtnetError(f"cannot write {path}: {error}; is the disk full?")
