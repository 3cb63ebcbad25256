"""The reach of networks, against the pixels that change a cell when they change."""

import copy
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ctnet.base.errors import CtnetError
from ctnet.core.task import create_task
from ctnet.inference.receptive import Reach, exact_overlap, measure_reach, reach_of
from ctnet.ops.deform_conv import DeformConv

DIVISOR, STRIDE = 16, 4


class Calls(nn.Module):
    """A layer from a function."""

    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x)


def conv(kernel: int = 3, stride: int = 1, padding: int | None = None, dilation: int = 1) -> nn.Conv2d:
    padding = dilation * (kernel // 2) if padding is None else padding
    return nn.Conv2d(4, 4, kernel, stride, padding, dilation)


def down(steps: int) -> list[nn.Module]:
    """Halves the image that often."""
    return [nn.Conv2d(3, 4, 3, 2, 1), *(conv(3, 2) for _ in range(steps - 1))]


#: Networks of stride 4, with every kind of operation.
NETWORKS: dict[str, Callable[[], list[nn.Module]]] = {
    "convolutions": lambda: [*down(2), conv(5), conv(3, dilation=2)],
    "an even kernel": lambda: [*down(1), nn.Conv2d(4, 4, 4, 2, 1)],
    "one-sided padding": lambda: [*down(2), nn.ZeroPad2d((0, 2, 1, 0)), nn.Conv2d(4, 4, (2, 3), padding=0)],
    "pooling": lambda: [nn.Conv2d(3, 4, 3, 1, 1), nn.AvgPool2d(3, 2, 1), nn.AvgPool2d(2), conv()],
    "transposed": lambda: [*down(4), nn.ConvTranspose2d(4, 4, 4, 2, 1), nn.ConvTranspose2d(4, 4, 2, 2)],
    "transposed, odd": lambda: [*down(3), nn.ConvTranspose2d(4, 4, 3, 2, 1, 1)],
    "nearest": lambda: [*down(4), nn.Upsample(scale_factor=2), conv(), nn.Upsample(scale_factor=2)],
    "bilinear": lambda: [*down(3), nn.Upsample(scale_factor=2, mode="bilinear")],
    "bilinear by four": lambda: [*down(4), nn.Upsample(scale_factor=4, mode="bilinear"), conv()],
    "nearest down": lambda: [*down(1), nn.Upsample(scale_factor=0.5), conv()],
    "shuffled pixels": lambda: [*down(3), nn.Conv2d(4, 16, 3, 1, 1), nn.PixelShuffle(2)],
    "several ways": lambda: [
        *down(2),
        Calls(lambda x: torch.cat([x, F.avg_pool2d(x, 5, 1, 2)], 1)[:, 2:6] + x),
    ],
    "channels": lambda: [
        *down(2),
        Calls(lambda x: torch.cat(x.chunk(2, 1)[::-1], 1)),
        Calls(lambda x: x.view(1, 2, 2, *x.shape[2:]).transpose(1, 2).reshape(x.shape)),
        Calls(lambda x: x * x.mean(1, keepdim=True)),
        conv(),
    ],
    "activations": lambda: [*down(2), nn.BatchNorm2d(4), nn.SiLU(), nn.Hardswish(True), nn.Dropout(), conv()],
}


@pytest.mark.parametrize("name", NETWORKS)
def test_reach_is_what_changes_a_cell(name: str) -> None:
    torch.manual_seed(0)
    network = nn.Sequential(*NETWORKS[name]()).eval()
    found = measure_reach(copy.deepcopy(network).to("meta"), divisor=DIVISOR, stride=STRIDE, name=name)
    network.double()
    for parameter in network.parameters():
        parameter.data = parameter.data.abs() + 0.1  # positive, so that nothing cancels out

    def pixels(first: int, last: int) -> tuple[Tensor, Tensor]:
        """The rows and columns that change these cells, in the middle of a large image."""
        image = torch.rand(1, 3, 10 * DIVISOR, 10 * DIVISOR, dtype=torch.float64, requires_grad=True)
        network(image)[..., first : last + 1, first : last + 1].sum().backward()
        return tuple(image.grad.abs().sum((0, 1, axis)).nonzero().flatten() for axis in (3, 2))

    block = 5 * DIVISOR // STRIDE
    fields = [int(one.max() - one.min()) + 1 for i in range(4) for one in pixels(block + i, block + i)]
    around = pixels(block - 1, block + DIVISOR // STRIDE)
    beyond = [max(5 * DIVISOR - int(one.min()), int(one.max()) + 1 - 6 * DIVISOR) for one in around]
    assert found == Reach(max(fields), max(beyond))


def test_max_pooling_reaches_as_far_as_its_window() -> None:
    pooled, averaged = (
        nn.Sequential(*down(1), kind(3, 2, 1)).eval().to("meta") for kind in (nn.MaxPool2d, nn.AvgPool2d)
    )
    assert measure_reach(pooled, 8, 4, "a") == measure_reach(averaged, 8, 4, "b")


REFUSED: dict[str, tuple[Callable[[], nn.Module], str]] = {
    "deformable": (lambda: DeformConv(4, 4), r"2 \(DeformConv\) samples at learned positions"),
    "global": (lambda: nn.AdaptiveAvgPool2d(1), r"2 \(AdaptiveAvgPool2d\) reads the whole image"),
    "mean": (lambda: Calls(lambda x: x * x.mean((2, 3), keepdim=True)), r"2 \(Calls\) reads the whole image"),
    "statistics": (lambda: Calls(lambda x: x / x.amax()), "reads numbers that stand for the whole image"),
    "aligned": (
        lambda: nn.Upsample(scale_factor=2, mode="bilinear", align_corners=True),
        "resizes with aligned corners",
    ),
    "fractions": (lambda: nn.Upsample(scale_factor=1.5), "resizes by 12/8"),
    "unknown": (lambda: Calls(lambda x: x.cumsum(2)), "has an operation, cumsum, whose reach is not known"),
    "axes": (
        lambda: Calls(lambda x: x.transpose(2, 3)),
        "transpose, that moves the image's rows and columns",
    ),
    "rows": (lambda: Calls(lambda x: x.reshape(1, 4, -1)[..., None]), "that moves the image's rows"),
    "cut": (lambda: Calls(lambda x: x[:, :, 1:-1]), "slice, that moves the image's rows"),
    "weights": (lambda: Calls(lambda x: F.conv2d(x, x[:, :, :3, :3])), "slice, that moves"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_layers_that_look_anywhere_are_named(name: str) -> None:
    layer, message = REFUSED[name]
    network = nn.Sequential(*down(2), layer()).eval().to("meta")
    with pytest.raises(CtnetError, match=message):
        measure_reach(network, DIVISOR, STRIDE, "net")


TASK = create_task("ctdet", [{"id": 1, "name": "ball"}])


def test_reach_of_networks() -> None:
    assert reach_of(TASK, "resfpn18") == Reach(499, 281)
    assert reach_of(TASK, "resnet18") == Reach(499, 281)
    assert reach_of(TASK, "hourglass104") == Reach(11611, 5869)


@pytest.mark.parametrize("backbone", ["resdcn18", "dla34"])
def test_deformable_networks_are_refused(backbone: str) -> None:
    with pytest.raises(CtnetError, match=f"the reach of {backbone} has no bound: backbone.*DeformConv"):
        reach_of(TASK, backbone)


def test_exact_overlaps() -> None:
    assert exact_overlap(Reach(499, 281), 32, 608, "net") == 576
    with pytest.raises(
        CtnetError, match=r"net looks 281 pixels beyond .* overlap by 576 and have sides of 608"
    ):
        exact_overlap(Reach(499, 281), 32, 576, "net")
