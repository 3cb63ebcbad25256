"""``ctnet predict``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ctnet.base.errors import CtnetError
from ctnet.base.output import print_json, print_line
from ctnet.cli.parameters import (
    BatchSize,
    Device,
    Flip,
    Multiscale,
    Nms,
    Resize,
    Scales,
    Size,
    TaskOptions,
    Topk,
)
from ctnet.cli.parsing import parse_assignments, parse_size

if TYPE_CHECKING:
    from ctnet.inference.prediction import Prediction


def predict(
    run: Annotated[Path, typer.Argument(help="Run folder, checkpoint or exported file.")],
    sources: Annotated[list[str], typer.Argument(help="Images, folders, videos, or a camera's number.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder for pictures and JSON.")] = Path(
        "predictions"
    ),
    score: Annotated[float, typer.Option(min=0, max=1, help="Keep what scores more than this.")] = 0.3,
    topk: Topk = 100,
    flip: Flip = False,
    multiscale: Multiscale = False,
    scales: Scales = None,
    nms: Nms = None,
    resize: Resize = "fix",
    size: Size = None,
    calib: Annotated[
        Path | None,
        typer.Option(help="Calibration file of the camera, or a folder with one per image (3D tasks)."),
    ] = None,
    focal: Annotated[
        float | None, typer.Option(help="Or the camera's focal length, pixels (3D tasks).")
    ] = None,
    batch_size: BatchSize = 8,
    draw: Annotated[
        bool, typer.Option("--draw/--no-draw", help="Draw pictures, or write JSON alone.")
    ] = True,
    option: TaskOptions = None,
    device: Device = "auto",
    json: Annotated[bool, typer.Option("--json", help="Results as JSON on stdout as well.")] = False,
) -> None:
    """Detect in images, folders and videos: drawn pictures, results.json (COCO results) and images.json.

    Examples:

    * `ctnet predict runs/ctdet-resfpn18-1 photo.jpg folder/ -o out`

    * `ctnet predict model.onnx street.mp4 --score 0.4`

    * `ctnet predict best.pt folder/ --resize keep --flip --scales 0.75,1,1.5`
    """
    from ctnet.inference import DetectionSettings, Detector
    from ctnet.inference.camera import Camera
    from ctnet.inference.prediction import predict
    from ctnet.inference.settings import choose_scales
    from ctnet.inference.sources import open_sources

    opened = open_sources(sources)
    detector = Detector.load(run, device, parse_assignments(option or [], "-O"))
    settings = DetectionSettings(
        flip=flip,
        scales=choose_scales(multiscale, scales),
        nms=nms,
        topk=topk,
        resize=resize,
        size=parse_size(size),
        score=score,
    )
    done = predict(detector, opened, output, settings, batch_size, draw, Camera(calib, focal))
    _give(done, draw, json)
    if done.interrupted:
        raise typer.Exit(130)
    if not done.images:
        raise CtnetError("no image could be read")


def _give(done: Prediction, draw: bool, json: bool) -> None:
    for problem in done.problems:
        print_line(f"warning: skipped: {problem}")
    if json:
        print_json({"images": done.images, "results": done.results})
    if done.interrupted:
        print_line("interrupted; what was done until then is kept")
    pictures = f" and {len(done.pictures)} pictures" if draw else ""
    results = done.folder / "results.json"
    print_line(f"{len(done.results)} detections in {len(done.images)} images: {results}{pictures}")
