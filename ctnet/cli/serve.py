"""``ctnet serve``."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from ctnet.base.output import print_line, print_note
from ctnet.cli.parameters import (
    BatchSize,
    Calibrated,
    Clip,
    Compile,
    Device,
    Dtype,
    Flip,
    Focal,
    Multiscale,
    Nms,
    Overlap,
    Resize,
    Run,
    Scales,
    Score,
    Size,
    TaskOptions,
    Tiles,
    Topk,
)
from ctnet.cli.parsing import parse_assignments, parse_size, require_finite


def serve(
    run: Run = None,
    host: Annotated[
        str, typer.Option(help="Address to listen on; 0.0.0.0 for all: then give a --token.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port to listen on; 0 for a free one.")] = 8000,
    token: Annotated[
        str | None,
        typer.Option(
            help="Clients must send it: `Authorization: Bearer TOKEN`; default: the variable CTNET_TOKEN."
        ),
    ] = None,
    score: Score = None,
    calibrated: Calibrated = False,
    topk: Topk = 100,
    flip: Flip = False,
    multiscale: Multiscale = False,
    scales: Scales = None,
    nms: Nms = None,
    resize: Resize = "fix",
    size: Size = None,
    tiles: Tiles = None,
    overlap: Overlap = None,
    clip: Clip = True,
    calib: Annotated[Path | None, typer.Option(help="Camera calibration file (3D tasks).")] = None,
    focal: Focal = None,
    batch_size: BatchSize = 8,
    wait: Annotated[
        float, typer.Option(min=0, max=1000, help="Milliseconds that an image waits for others of its batch.")
    ] = 5.0,
    queue: Annotated[
        int,
        typer.Option(min=1, max=100_000, help="Images accepted and not yet answered; beyond: status 429."),
    ] = 64,
    max_mb: Annotated[
        float, typer.Option(min=0.001, max=10_000, help="Megabytes of a request; beyond: status 413.")
    ] = 20.0,
    max_megapixels: Annotated[
        float, typer.Option(min=0.001, max=178, help="Megapixels of an image; beyond: status 413.")
    ] = 50.0,
    timeout: Annotated[
        float,
        typer.Option(
            min=0.1, max=3600, help="Seconds for a request to arrive, and for an answer to be read."
        ),
    ] = 30.0,
    option: TaskOptions = None,
    device: Device = "auto",
    dtype: Dtype = "float32",
    compile: Compile = False,
) -> None:
    """Serve a detector over HTTP: images in, JSON or drawn pictures out; needs the extra `serve`.

    `POST /detect` takes an image, or several as multipart; `/` is a page to try it, `/metrics` is for
    Prometheus, `/openapi.json` describes it. SIGTERM and Ctrl-C end it after what was accepted is answered.

    Examples:

    * `ctnet serve runs/ctdet-resfpn18-1`

    * `ctnet serve model.onnx --port 8080 --batch-size 16 --wait 10`

    * `CTNET_TOKEN=secret ctnet serve best.pt --host 0.0.0.0`

    * `curl --data-binary @photo.jpg localhost:8000/detect`
    """
    from ctnet.base.device import choose_dtype
    from ctnet.base.extras import need
    from ctnet.inference import DetectionSettings, Detector
    from ctnet.inference.camera import Camera
    from ctnet.inference.settings import choose_scales, choose_tiles
    from ctnet.inference.thresholds import other_settings
    from ctnet.training.run import latest_run

    for module in ("starlette", "uvicorn", "python_multipart"):
        need(module)
    from ctnet.serve import server
    from ctnet.serve.app import create_app
    from ctnet.serve.engine import Engine
    from ctnet.serve.limits import Limits
    from ctnet.serve.service import Service

    settings = DetectionSettings(
        flip=flip,
        scales=choose_scales(multiscale, scales),
        nms=nms,
        topk=topk,
        resize=resize,
        size=parse_size(size),
        **choose_tiles(tiles, overlap),
        score=score,
        clip=clip,
        calibrated=calibrated,
    )
    require_finite(wait=wait, max_mb=max_mb, max_megapixels=max_megapixels, timeout=timeout)
    token = os.environ.get("CTNET_TOKEN") if token is None else token
    limits = Limits(wait / 1e3, queue, round(max_mb * 1e6), round(max_megapixels * 1e6), timeout)
    options, camera = parse_assignments(option or [], "-O"), Camera(calib, focal)
    with server.listen(host, port) as opened:
        detector = Detector.load(run or latest_run(), device, options, choose_dtype(dtype), compile)
        engine = Engine(detector, settings, camera, batch_size)
        app = create_app(Service(engine, limits), token)
        engine.warm_up()
        if score is None and (line := other_settings(detector.operating_points, settings.in_words)):
            print_note(f"warning: {line}")
        if token is None and not server.is_loopback(opened):
            print_note(f"warning: everyone who reaches {host} can use this service; give it a --token")
        _say(repr(detector), engine.thresholds.said, server.address_of(opened))
        server.run(app, opened, limits.seconds)


def _say(detector: str, thresholds: str, address: str) -> None:
    print_line(detector)
    print_line(thresholds)
    print_line(f"listening on {address} (Ctrl-C ends it)")
    sys.stdout.flush()  # for readers of a pipe or a file
