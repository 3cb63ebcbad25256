"""``ctnet predict``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ctnet.base.errors import CtnetError
from ctnet.base.output import print_json, print_line
from ctnet.cli.parsing import (
    DEVICE_HELP,
    FLIP_HELP,
    MULTISCALE_HELP,
    NMS_HELP,
    OPTION_HELP,
    RESIZE_HELP,
    SCALES_HELP,
    SIZE_HELP,
    parse_assignments,
    parse_size,
)


def predict(
    run: Annotated[Path, typer.Argument(help="Run folder or checkpoint.")],
    sources: Annotated[list[str], typer.Argument(help="Images, folders, videos, or a camera's number.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder for pictures and JSON.")] = Path(
        "predictions"
    ),
    score: Annotated[float, typer.Option(min=0, max=1, help="Keep what scores more than this.")] = 0.3,
    topk: Annotated[int, typer.Option(min=1, help="Detections per image.")] = 100,
    flip: Annotated[bool, typer.Option("--flip", help=FLIP_HELP)] = False,
    multiscale: Annotated[bool, typer.Option("--multiscale", help=MULTISCALE_HELP)] = False,
    scales: Annotated[str | None, typer.Option(help=SCALES_HELP)] = None,
    nms: Annotated[str | None, typer.Option(help=NMS_HELP)] = None,
    resize: Annotated[str, typer.Option(help=RESIZE_HELP)] = "fix",
    size: Annotated[str | None, typer.Option(help=SIZE_HELP + " For --resize fix.")] = None,
    calib: Annotated[
        Path | None,
        typer.Option(help="Calibration file of the camera, or a folder with one per image (3D tasks)."),
    ] = None,
    focal: Annotated[
        float | None, typer.Option(help="Or the camera's focal length, pixels (3D tasks).")
    ] = None,
    batch_size: Annotated[int, typer.Option(min=1, help="Images a forward pass.")] = 8,
    draw: Annotated[
        bool, typer.Option("--draw/--no-draw", help="Draw pictures, or write JSON alone.")
    ] = True,
    option: Annotated[list[str] | None, typer.Option("-O", "--option", help=OPTION_HELP)] = None,
    device: Annotated[str, typer.Option(help=DEVICE_HELP)] = "auto",
    json: Annotated[bool, typer.Option("--json", help="Results as JSON on stdout as well.")] = False,
) -> None:
    """Detect in images, folders and videos: drawn pictures, results.json (COCO results) and images.json.

    Examples:

    * `ctnet predict runs/ctdet-resfpn18-1 photo.jpg folder/ -o out`

    * `ctnet predict best.pt street.mp4 --score 0.4`

    * `ctnet predict best.pt folder/ --resize keep --flip --scales 0.75,1,1.5`
    """
    from ctnet.inference import Detector
    from ctnet.inference.camera import Camera
    from ctnet.inference.prediction import predict
    from ctnet.inference.preprocessing import resize_mode
    from ctnet.inference.settings import choose_scales
    from ctnet.inference.sources import open_sources
    from ctnet.ops.nms import nms_method

    opened = open_sources(sources)
    done = predict(
        Detector.load(run, device, parse_assignments(option or [])),
        opened,
        output,
        score=score,
        flip=flip,
        scales=choose_scales(multiscale, scales),
        nms=None if nms is None else nms_method(nms),
        topk=topk,
        resize=resize_mode(resize),
        size=parse_size(size),
        batch_size=batch_size,
        draw=draw,
        camera=Camera(calib, focal),
    )
    for problem in done.problems:
        print_line(f"warning: skipped: {problem}")
    if json:
        print_json({"images": done.images, "results": done.results})
    if done.interrupted:
        print_line("interrupted; what was done until then is kept")
    pictures = f" and {len(done.pictures)} pictures" if draw else ""
    print_line(
        f"{len(done.results)} detections in {len(done.images)} images: {output}/results.json{pictures}"
    )
    if done.interrupted:
        raise typer.Exit(130)
    if not done.images:
        raise CtnetError("no image could be read")
