"""``ctnet predict``."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ctnet.base.errors import CtnetError
from ctnet.base.output import counted, print_json, print_line, print_note
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
from ctnet.cli.parsing import parse_assignments, parse_size

if TYPE_CHECKING:
    from ctnet.inference.prediction import Prediction


def predict(
    run: Run = None,
    sources: Annotated[
        list[str] | None,
        typer.Argument(
            help="Images, folders, videos, animations, camera numbers, or addresses (rtsp://, http://)."
        ),
    ] = None,
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder for pictures and JSON.")] = Path(
        "predictions"
    ),
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
    calib: Annotated[
        Path | None,
        typer.Option(help="Camera calibration file, or a folder with one file per image (3D tasks)."),
    ] = None,
    focal: Focal = None,
    batch_size: BatchSize = 8,
    track: Annotated[
        bool,
        typer.Option(
            "--track",
            help="Follow objects through videos (and folders of frames) by their overlap, and write their "
            "tracks as MOTChallenge text; a task that follows them itself needs no --track.",
        ),
    ] = False,
    draw: Annotated[bool, typer.Option("--draw/--no-draw", help="Draw pictures, or write only JSON.")] = True,
    option: TaskOptions = None,
    device: Device = "auto",
    dtype: Dtype = "float32",
    compile: Compile = False,
    json: Annotated[bool, typer.Option("--json", help="Also print the results as JSON on stdout.")] = False,
) -> None:
    """Detect in images, videos and streams; write pictures, results.json (COCO results) and images.json.

    Examples:

    * `ctnet predict runs/ctdet-resfpn18-1 photo.jpg folder/ -o out`

    * `ctnet predict 'photos/*.jpg'`

    * `ctnet predict model.onnx street.mp4 --score 0.4`

    * `ctnet predict best.pt rtsp://name:password@camera/stream`

    * `ctnet predict best.pt folder/ --resize keep --flip --scales 0.75,1,1.5`

    * `ctnet predict best.pt satellite.tif --tiles 1024`

    * `ctnet predict best.pt street.mp4 --track`
    """
    from ctnet.base.device import choose_dtype
    from ctnet.inference import DetectionSettings, Detector
    from ctnet.inference.camera import Camera
    from ctnet.inference.prediction import predict
    from ctnet.inference.settings import choose_scales, choose_tiles
    from ctnet.inference.sources import open_sources
    from ctnet.inference.thresholds import other_settings

    run, texts = _run_and_sources(run, sources or [])
    opened = open_sources(texts)
    options = parse_assignments(option or [], "-O")
    detector = Detector.load(run, device, options, choose_dtype(dtype), compile)
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
    if score is None and (line := other_settings(detector.operating_points, settings.in_words)):
        print_note(f"warning: {line}")
    done = predict(detector, opened, output, settings, batch_size, draw, Camera(calib, focal), track)
    _give(done, draw, json, detector.thresholds(score).said)
    if done.interrupted:
        raise typer.Exit(130)


def _run_and_sources(first: Path | None, others: Sequence[str]) -> tuple[Path, Sequence[str]]:
    """Run and sources; if the first argument is itself a source, the run is the latest one."""
    from ctnet.training.run import latest_run, names_run

    given = [] if first is None else [str(first)]
    if first is None or not names_run(first):
        others, first = [*given, *others], None
    if not others:
        raise CtnetError("no images were given; name some: `ctnet predict RUN photo.jpg`")
    return first or latest_run(), others


def _give(done: Prediction, draw: bool, json: bool, thresholds: str) -> None:
    for problem in done.problems:
        print_note(f"warning: skipped: {problem}")
    for note in done.notes:
        print_note(f"warning: {note}")
    if done.interrupted:
        print_note("interrupted; the results so far are kept")
    if json:
        print_json({"images": done.images, "results": done.results})
    say = print_note if json else print_line
    say(thresholds)
    found = f"{counted(len(done.results), 'detection')} in {_seen(done)}"
    written = _listed([str(done.folder / "results.json"), *_texts(done), *(_drawn(done) if draw else [])])
    if done.results or not done.best_score:
        say(f"{found}: {written}")
    else:
        say(f"{found}; the best score was {done.best_score:.2g}, try --score {_below(done.best_score)}")
        say(f"written: {written}")


def _seen(done: Prediction) -> str:
    """ "3 images and 1 video (90 frames)"."""
    frames = sum(done.frames)
    images = len(done.images) - frames
    kinds = [counted(images, "image")] if images or not frames else []
    if frames:
        kinds.append(f"{counted(len(done.frames), 'video')} ({counted(frames, 'frame')})")
    return _listed(kinds)


def _drawn(done: Prediction) -> list[str]:
    videos = sum(path.suffix == ".mp4" for path in done.pictures)
    kinds = {"picture": len(done.pictures) - videos, "video": videos}
    return [counted(number, noun) for noun, number in kinds.items() if number]


def _texts(done: Prediction) -> list[str]:
    return [counted(len(done.tracks), "file") + " of tracks"] if done.tracks else []


def _listed(parts: Sequence[str]) -> str:
    """ "a, b and c"."""
    return " and ".join([*([", ".join(parts[:-1])] if parts[:-1] else []), parts[-1]])


def _below(score: float) -> str:
    """The largest smaller number with as few decimals as possible."""
    power = next(10**digits for digits in range(1, 10) if score * 10**digits > 1 or digits == 9)
    return f"{math.floor(score * power - 1e-6) / power:g}"
