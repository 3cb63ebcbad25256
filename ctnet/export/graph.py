"""The exported graph: uint8 images in, columns of detections out, in plain torch operations."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.export import Dim
from torch.nn import functional

from ctnet.base.choices import Deform, ImageLayout
from ctnet.base.device import normalise
from ctnet.checkpoint import Description
from ctnet.checkpoint.exported import Column
from ctnet.core.fields import Length, Points
from ctnet.core.heads import mirror_maps
from ctnet.core.task import Task
from ctnet.inference.prepare import folded
from ctnet.model import CenterNet, check_input_size
from ctnet.ops.deform_conv import DeformConv, GridSampleDeformConv
from ctnet.ops.modules import replace_modules

#: Largest batch, and largest side in multiples of the divisor, for files that take any size.
_MOST = 32768


@dataclass(frozen=True)
class GraphSettings:
    """What the exported graph does.

    Attributes:
        topk: detections per image.
        layout: layout of the images, see `ctnet.checkpoint.exported.Exported`.
        fixed: (width, height) of the input, for runtimes that need one size; None for any size.
        letterbox: resize images of any size to the input size (``fixed``, or the training size), and give
            positions in pixels of the original images.
        flip: average with the mirrored image (flip testing).
        half: weights and network in float16; images are normalised and detections decoded in float32.
        deform: "native" (ONNX's DeformConv) or "grid-sample", for runtimes without that operator.
    """

    topk: int = 100
    layout: ImageLayout = "nhwc"
    fixed: tuple[int, int] | None = None
    letterbox: bool = False
    flip: bool = False
    half: bool = False
    deform: Deform = "native"


class DetectionGraph(nn.Module):
    """Preprocessing, network, activations and decoding in one module.

    Attributes:
        settings: what the graph does.
        network: the network, with batch norms folded and stock operators only.
        columns: the outputs of ``forward``, in order.
        maps: names of the activated maps that follow the columns; used for verification and then removed.
        topk: rows per image, unless the grid has fewer cells.
        letterbox: (width, height) that images are resized to; None: they are not resized.
    """

    def __init__(
        self, task: Task, model: CenterNet, description: Description, settings: GraphSettings
    ) -> None:
        super().__init__()
        self.maps = tuple(f"map_{name}" for name in task.heads)
        self.network = _plain(model, settings)
        self.topk = max(settings.topk, task.suppression.candidates)
        self._task, self._description, self.settings = task, description, settings
        self._gives_maps = True
        self.letterbox = (settings.fixed or description.size) if settings.letterbox else None
        side = 2 * model.backbone.divisor
        with torch.no_grad():
            blank = torch.zeros(1, side, side, task.frames.inputs, dtype=torch.uint8)
            found = self._decoded(self._maps(normalise(blank, description.mean, description.std)))
        self.columns = tuple(_column(name, task) for name in found)

    @property
    def outputs(self) -> list[str]:
        """Names of what ``forward`` gives, in order."""
        return [column.name for column in self.columns] + list(self.maps)

    def sides(self) -> tuple[int, int, int, int]:
        """The shape of the images that the file takes; -1 where it takes any."""
        taken = self.settings.fixed if self.letterbox is None else None
        width, height = taken or (-1, -1)
        channels = self._task.frames.inputs
        nchw = self.settings.layout == "nchw"
        return (-1, channels, height, width) if nchw else (-1, height, width, channels)

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """Detections of images, best first.

        Args:
            images: uint8 RGB, (B, H, W, 3), or (B, 3, H, W) for layout "nchw". Of a task that sees two
                frames: 3 channels of this one, 3 of the one before, then its planes (``Frames``).

        Returns:
            The columns, (B, k, ...) each; positions and lengths in pixels of the images. Then the maps.
        """
        if self.settings.layout == "nchw":
            images = images.permute(0, 2, 3, 1)
        inputs = images if self.letterbox is None else self.resized(images)
        maps = self._maps(normalise(inputs, self._description.mean, self._description.std))
        found = self._decoded(maps)
        if self.letterbox is not None:
            found = self._in_image(found, images)
        return (*found.values(), *maps.values()) if self._gives_maps else tuple(found.values())

    def resized(self, images: Tensor) -> Tensor:
        """Images resized and centred in the input as ``Preprocessor`` does it, with black borders.

        Args:
            images: (B, H, W, 3) uint8.

        Returns:
            (B, height, width, 3) float32, integers from 0 to 255.
        """
        assert self.letterbox is not None
        width, height = self.letterbox
        factor, side = self._fit(images)
        x = (torch.arange(width, dtype=torch.float32) - width / 2) / factor + side[0] / 2
        y = (torch.arange(height, dtype=torch.float32) - height / 2) / factor + side[1] / 2
        across, down = (2 * x + 1) / side[0] - 1, (2 * y + 1) / side[1] - 1
        grid = torch.stack([across.expand(height, width), down[:, None].expand(height, width)], dim=2)
        pixels = images.permute(0, 3, 1, 2).float()
        grid = grid.expand(pixels.shape[0], height, width, 2)
        shown = functional.grid_sample(pixels, grid, padding_mode="zeros", align_corners=False)
        # Values of exactly one half, common with simple ratios, are rounded the same way in every runtime.
        return (shown.permute(0, 2, 3, 1) + 0.498).floor()

    def _fit(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Input pixels per image pixel, and (width, height) of images (B, H, W, 3)."""
        assert self.letterbox is not None
        height, width = (torch.scalar_tensor(images.shape[axis], dtype=torch.float32) for axis in (1, 2))
        across = self.letterbox[0] / width
        inside = self._task.layout.fit == "inside"
        factor = torch.minimum(across, self.letterbox[1] / height) if inside else across
        return factor, torch.stack([width, height])

    def _in_image(self, found: Mapping[str, Tensor], images: Tensor) -> dict[str, Tensor]:
        """Convert columns from pixels of the input to pixels of the images."""
        assert self.letterbox is not None
        factor, side = self._fit(images)
        middle = torch.tensor(self.letterbox, dtype=torch.float32) / 2
        moved = dict(found)
        for name, values in found.items():
            if name == "boxes":
                moved[name] = (values - middle.repeat(2)) / factor + side.repeat(2) / 2
            elif isinstance(self._task.fields.get(name), Points):
                moved[name] = (values - middle) / factor + side / 2
            elif _is_in_pixels(name, self._task):
                moved[name] = values / factor
        return moved

    def _decoded(self, maps: Mapping[str, Tensor]) -> dict[str, Tensor]:
        found = self._task.decode(maps, self.topk).without("cells").fields()
        stride = self._description.stride
        return {
            name: values * stride if name == "boxes" or _is_in_pixels(name, self._task) else values
            for name, values in found.items()
        }

    def _maps(self, inputs: Tensor) -> Mapping[str, Tensor]:
        if self.settings.half:
            inputs = inputs.half()
        maps = self.network.activated(inputs)
        if not self.settings.flip:
            return maps
        mirrored = mirror_maps(self._task.heads, self.network.activated(inputs.flip(3)))
        return {
            name: maps[name] if back is None else (maps[name] + back) / 2 for name, back in mirrored.items()
        }

    def example(self) -> Tensor:
        """Example images for tracing the graph."""
        divisor = self.network.backbone.divisor
        width, height = self.settings.fixed or (_example_side(divisor), _example_side(divisor) + divisor)
        generator = torch.Generator().manual_seed(0)
        shape = (2, height, width, self._task.frames.inputs)
        images = torch.randint(0, 256, shape, generator=generator, dtype=torch.uint8)
        return images.permute(0, 3, 1, 2).contiguous() if self.settings.layout == "nchw" else images

    def captured(self, with_maps: bool = True) -> torch.export.ExportedProgram:
        """The graph captured by torch.export, with dynamic batch and, unless fixed, dynamic sides.

        Args:
            with_maps: whether it outputs the activated maps as well.

        Raises:
            CtnetError: for a fixed size that the network cannot take.
        """
        divisor, fixed = self.network.backbone.divisor, self.settings.fixed
        shape = {0: Dim("batch", min=1, max=_MOST)}
        if fixed is not None:
            check_input_size(fixed, divisor, self._description.backbone)
        if fixed is None or self.letterbox is not None:
            first = 2 if self.settings.layout == "nchw" else 1
            step = divisor if self.letterbox is None else 1
            shape[first] = step * Dim("rows", min=1, max=_MOST)
            shape[first + 1] = step * Dim("columns", min=1, max=_MOST)
        self._gives_maps = with_maps
        with torch.no_grad():
            return torch.export.export(self, (self.example(),), dynamic_shapes=(shape,), strict=False)


def _plain(model: CenterNet, settings: GraphSettings) -> CenterNet:
    """A copy for inference, with stock operators only."""
    network = folded(model).cpu()
    if settings.deform == "grid-sample":
        layers = [module for module in network.modules() if isinstance(module, DeformConv)]
        replace_modules(network, {layer: GridSampleDeformConv(layer) for layer in layers})
    return network.half() if settings.half else network.float()


def _example_side(divisor: int) -> int:
    """About 96 pixels: small, but with enough cells for the usual number of detections.

    It is at least two divisors, since torch.export takes a side of one as fixed.
    """
    return divisor * max(2, round(96 / divisor))


def _is_in_pixels(name: str, task: Task) -> bool:
    return isinstance(task.fields.get(name), (Points, Length))


def _column(name: str, task: Task) -> Column:
    if name == "boxes":
        return Column(name, "", "px", "bbox", in_pixels=True)
    if name in ("scores", "labels"):
        return Column(name, json={"scores": "score", "labels": "category_id"}[name])
    field = task.fields.get(name)
    if field is None:  # a field's second column (the scores of points), or one that only ``lift`` reads
        return Column(name)
    return Column(name, type(field).__name__, field.unit, field.json, _is_in_pixels(name, task))
