"""Arguments and options that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ctnet.base.choices import Amp as AmpName
from ctnet.base.choices import Dtype as DtypeName
from ctnet.base.choices import ImageMode
from ctnet.base.choices import Nms as NmsName
from ctnet.base.choices import Resize as ResizeName

# --- what is evaluated

Run = Annotated[
    Path | None, typer.Argument(help="Run folder, checkpoint or exported file; default: the latest run.")
]
Data = Annotated[Path | None, typer.Option(help="Data directory; default: the run's own.")]
Split = Annotated[str | None, typer.Option(help="Split; default: the run's validation split.")]
Metric = Annotated[str | None, typer.Option(help="One of the task's metrics, see `ctnet tasks show`.")]
TaskOfResults = Annotated[str | None, typer.Option("--task", help="The task of --results; default: ctdet.")]

# --- test-time settings

Flip = Annotated[bool, typer.Option("--flip", help="Average the maps with those of the mirrored image.")]
Multiscale = Annotated[
    bool,
    typer.Option("--multiscale", help="Detect at 0.5, 0.75, 1, 1.25 and 1.5 times the size, and merge."),
]
Scales = Annotated[str | None, typer.Option(help="Detect at these scales instead: 0.75,1.")]
Nms = Annotated[
    NmsName | None,
    typer.Option(help="Suppression; soft is Gaussian. Default: soft for merged scales, else the task's."),
]
Resize = Annotated[
    ResizeName, typer.Option(help="fix: fit into the training size; keep: the image's own resolution.")
]
SIZE_HELP = "Network input in pixels: 512, or WIDTHxHEIGHT."
Size = Annotated[str | None, typer.Option(help=SIZE_HELP + " For --resize fix.")]
Tiles = Annotated[
    int | None,
    typer.Option(
        help="Cut images, at their own resolution, into tiles with this side in pixels, for large images."
    ),
]
Overlap = Annotated[
    str | None,
    typer.Option(
        help="Pixels that tiles share, or exact: enough to lose nothing. Default: 128; see docs/tiles.md."
    ),
]
Topk = Annotated[int, typer.Option(min=1, help="Detections per image.")]

Score = Annotated[
    float | None,
    typer.Option(
        min=0,
        max=1,
        help="Keep detections above this score; default: the operating points, or 0.3 without any.",
    ),
]
Calibrated = Annotated[
    bool,
    typer.Option("--calibrated", help="Scores are probabilities of being right; needs a calibration."),
]
Clip = Annotated[
    bool,
    typer.Option(
        "--clip/--no-clip",
        help="Clip boxes to the image and drop those outside it, or leave all as detected.",
    ),
]
Focal = Annotated[float | None, typer.Option(help="Focal length in pixels, instead of --calib (3D tasks).")]

# --- where and how it runs

BatchSize = Annotated[int, typer.Option(min=1, help="Images per forward pass.")]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1, mps.")]
Workers = Annotated[int | None, typer.Option(min=0, help="Worker processes.")]
Threads = Annotated[
    int | None, typer.Option(min=1, help="Threads that --budget is for; default: those of torch here.")
]
Amp = Annotated[AmpName, typer.Option(help="Mixed precision.")]

Dtype = Annotated[
    DtypeName, typer.Option(help="Dtype of the weights and maps: bf16 and fp16 are faster on a GPU.")
]
Compile = Annotated[
    bool, typer.Option("--compile", help="Compile the network first; takes minutes, needs a C++ compiler.")
]

# --- intervals

Draws = Annotated[int, typer.Option("--draws", min=100, help="How often the images are drawn again.")]
DrawSeed = Annotated[int, typer.Option("--seed", min=0, help="Seed of the drawing of images.")]

# --- the rest

TaskOptions = Annotated[
    list[str] | None,
    typer.Option(
        "-O", "--option", help="An option of the task, NAME=VALUE (repeatable); see `ctnet tasks show TASK`."
    ),
]
Strict = Annotated[bool, typer.Option("--strict", help="Refuse bad records instead of skipping them.")]
Json = Annotated[bool, typer.Option("--json", help="Everything as JSON on stdout.")]
Images = Annotated[
    ImageMode,
    typer.Option(
        help="link: hard links, which take no space (copies where not supported); none: do not place images."
    ),
]
