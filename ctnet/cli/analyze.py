"""``ctnet analyze``: the studies of the paper, one module each."""

from __future__ import annotations

import typer

from ctnet.cli.analyze_anchors import anchors
from ctnet.cli.analyze_collisions import collisions
from ctnet.cli.analyze_errors import errors
from ctnet.cli.analyze_nms import nms
from ctnet.cli.analyze_resolution import resolution
from ctnet.cli.analyze_speed import speed
from ctnet.cli.analyze_thresholds import thresholds

app = typer.Typer(no_args_is_help=True, help="Repeat the studies of the paper on any data set or run.")

for _study in (collisions, anchors, errors, nms, resolution, speed, thresholds):
    app.command()(_study)
