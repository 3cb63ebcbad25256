"""``ctnet`` with two small backbones, as ``torchrun`` starts it; FAILURE makes one process fail.

    torchrun --nproc-per-node 3 tests/training/job.py train ctdet --backbone small_network ...

FAILURE is "nan RANK STEP": the loss of that process is not finite in that step (from 1); or
"full RANK BYTES": that process can write no file beyond so many bytes.
"""

from __future__ import annotations

import os
import sys

import torch
from torch import Tensor, nn

from ctnet.backbones import Backbone, register_backbone
from ctnet.cli import main


class SmallNetwork(Backbone):
    """Two convolutions and a batch norm."""

    channels, divisor, hidden = 6, 4, 6

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(3, 6, 3, 2, 1), nn.BatchNorm2d(6), nn.ReLU(), nn.Conv2d(6, 6, 3, 2, 1)
        )

    def forward(self, images: Tensor) -> list[Tensor]:
        return [self.layers(images)]


def small_network(pretrained: bool = False) -> Backbone:
    return SmallNetwork()


def spoil_loss(rank: str, step: int) -> None:
    """Let the loss of one process be infinite from a step on."""
    from ctnet.training.gradients import StepLosses

    if os.environ.get("RANK", "0") != rank:
        return
    forward, calls = StepLosses.forward, [0]

    def spoilt(self, images, targets, counts):
        calls[0] += 1
        found = forward(self, images, targets, counts)
        return {**found, "total": found["total"] * float("inf")} if calls[0] >= step else found

    StepLosses.forward = spoilt


if __name__ == "__main__":
    torch.set_num_threads(1)
    register_backbone(small_network)
    if failure := os.environ.get("FAILURE"):
        kind, rank, number = failure.split()
        if kind == "nan":
            spoil_loss(rank, int(number))
        elif os.environ.get("RANK") == rank:
            import resource

            resource.setrlimit(resource.RLIMIT_FSIZE, (int(number), int(number)))
    sys.argv[0] = "ctnet"
    main()
