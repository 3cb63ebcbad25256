"""Detection on a GPU of fake tensors: one wait for a batch and scale, no copy that blocks."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import pytest
import torch
from fake_gpu import Stalls
from torch.utils._python_dispatch import TorchDispatchMode

from ctnet.backbones import list_backbones
from ctnet.base.device import normalise
from ctnet.checkpoint import MEAN, STD, Description
from ctnet.core.records import ImageInfo
from ctnet.core.task import create_task, list_tasks, load_task_class, scenes_of
from ctnet.data.shape_scenes import SHAPES
from ctnet.inference import DetectionSettings, Detector
from ctnet.model import create_model
from ctnet.ops.deform_conv import DeformConv

CAMERA = {"calib": [[100, 0, 32, 0], [0, 100, 32, 0], [0, 0, 1, 0]]}
SETTINGS = {
    "plain": DetectionSettings(),
    "bf16": DetectionSettings(amp=torch.bfloat16),
    "augmented": DetectionSettings(flip=True, scales=(1.0, 2.0), nms="soft"),
}


@pytest.mark.parametrize(
    ("name", "kind"), [*((name, "augmented") for name in list_tasks()), ("ctdet", "plain"), ("ctdet", "bf16")]
)
def test_a_batch_waits_once_a_scale(stalls: Stalls, name: str, kind: str) -> None:
    settings = SETTINGS[kind]
    task = create_task(name, scenes_of(load_task_class(name)).categories)
    model = create_model(task, "resfpn18").to("cuda")
    detector = Detector(task, model, Description.of(task, "resfpn18", (64, 64)), torch.device("cuda"))
    preprocess = detector.preprocessor()
    image = np.zeros((64, 64, 3), np.uint8)
    infos = [ImageInfo(number, "", 64, 64, CAMERA) for number in range(3)]
    batch = [preprocess.views(image, info, settings.scales) for info in infos]
    for _ in range(2):  # the first sends constants
        stalls.waits.clear(), stalls.copies.clear()
        assert len(detector.detect(batch, settings)) == 3
    # Detections and the check of the maps come back in one copy, which is the wait.
    assert not stalls.waits, stalls.counted()
    assert len(stalls.copies) == len(settings.scales), stalls.counted()
    assert {event.what for event in stalls.copies} == {"copy to cpu"}


#: All others are left to the thorough tests.
FEW = {"resfpn18", "resdcn18", "light32", "dla34"}


@pytest.mark.parametrize(
    "backbone",
    [name if name in FEW else pytest.param(name, marks=pytest.mark.thorough) for name in list_backbones()],
)
def test_every_backbone_runs_where_its_weights_are(stalls: Stalls, backbone: str) -> None:
    model = create_model(create_task("ctdet", SHAPES), backbone).to("cuda")
    images = torch.zeros(2, 128, 128, 3, dtype=torch.uint8, device="cuda")
    with torch.autocast("cuda", torch.bfloat16):
        *_, maps = model(normalise(images, MEAN, STD))
    for values in maps.values():
        assert (values.device.type, values.dtype) == ("cuda", torch.bfloat16)


class Conversions(TorchDispatchMode):
    """Counts conversions between dtypes, and deformable convolutions."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: Counter[str] = Counter()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.calls[func.overloadpacket.__name__] += 1
        return func(*args, **(kwargs or {}))


def test_a_deformable_convolution_converts_three_times(stalls: Stalls) -> None:
    """Its input and positions to float32, which the kernel wants, and its result to bfloat16; no weight."""
    layer = DeformConv(8, 8).to("cuda")
    x = torch.zeros(2, 8, 16, 16, device="cuda", dtype=torch.bfloat16)
    with torch.no_grad(), torch.autocast("cuda", torch.bfloat16):
        layer(x)  # autocast keeps the converted weights of the plain convolution for this block
        with Conversions() as counted:
            out = layer(x)
    assert counted.calls["_to_copy"] == 3
    assert out.dtype == torch.bfloat16
    assert out.is_contiguous(memory_format=torch.channels_last)
