"""``ctnet export``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ctnet.base.choices import Deform, ImageLayout
from ctnet.base.output import print_json, print_line, print_table
from ctnet.cli.parameters import Run
from ctnet.cli.parsing import parse_size

if TYPE_CHECKING:
    from ctnet.export.detector import ExportReport


def export(
    run: Run = None,
    output: Annotated[
        Path, typer.Option("--output", "-o", help="Output file: .onnx (ONNX), .xml (OpenVINO), .pt2 (torch).")
    ] = Path("model.onnx"),
    layout: Annotated[
        ImageLayout, typer.Option(help="Layout of the uint8 RGB images: (B, H, W, 3) or (B, 3, H, W).")
    ] = "nhwc",
    fixed: Annotated[
        str | None, typer.Option(help="Fixed input size, WIDTHxHEIGHT, for runtimes that need one.")
    ] = None,
    letterbox: Annotated[
        bool, typer.Option("--letterbox", help="Resize images of any size inside the graph.")
    ] = False,
    flip: Annotated[
        bool, typer.Option("--flip", help="Average the maps with those of the mirrored image.")
    ] = False,
    half: Annotated[bool, typer.Option("--half", help="Weights and network in float16.")] = False,
    int8: Annotated[
        Path | None,
        typer.Option(help="Data directory; use 8-bit convolutions, calibrated on its train split."),
    ] = None,
    topk: Annotated[int, typer.Option(min=1, help="Detections per image.")] = 100,
    opset: Annotated[
        int | None, typer.Option(min=1, help="ONNX operator set version; the exporter's default if left out.")
    ] = None,
    deform: Annotated[
        Deform, typer.Option(help="Deformable convolutions: ONNX's DeformConv, or built from GridSample.")
    ] = "native",
    verify: Annotated[
        Path | None,
        typer.Option(help="Data directory to compare on, with metrics; the task's own scenes if left out."),
    ] = None,
    split: Annotated[str | None, typer.Option(help="Split of --verify; val if left out.")] = None,
    score: Annotated[
        float, typer.Option(min=0, max=1, help="Detections above this score are matched one to one.")
    ] = 0.1,
    json: Annotated[bool, typer.Option("--json", help="Print the comparison as JSON on stdout.")] = False,
) -> None:
    """Export a detector to one file for ONNX Runtime, OpenVINO or torch, and compare it with the run.

    The file takes uint8 images and gives detections. It is tried in its runtime first: if its maps or
    detections differ from the run's by more than rounding, the export fails. The differences are stored in
    the file. `ctnet eval`, `ctnet predict` and `ctnet analyze speed` accept the file in place of a run.

    Examples:

    * `ctnet export runs/ctdet-resfpn18-1 -o model.onnx`

    * `ctnet export best.pt -o model.xml --verify DIR --split val`

    * `ctnet export RUN -o model.onnx --letterbox --topk 50`

    * `ctnet export RUN -o small.onnx --int8 DIR`
    """
    from ctnet.analysis.exporting import export_run
    from ctnet.export.graph import GraphSettings

    settings = GraphSettings(topk, layout, parse_size(fixed, "fixed"), letterbox, flip, half, deform)
    done = export_run(run, output, settings, opset, int8, verify, split, score)
    if json:
        print_json({"file": str(done.path), **done.verification.to_json()})
        return
    _print_report(done)


def _print_report(done: ExportReport) -> None:
    seen = done.verification
    print_line(f"{done.path}: {seen.runtime} compared with the run on {seen.images} images")
    print_table(
        ["largest difference", ""],
        [
            *([f"map {name}, of its largest value", f"{gap:.1e}"] for name, gap in seen.maps.items()),
            *([name, f"{gap:.1e}"] for name, gap in seen.fields.items()),
        ],
    )
    print_line(
        f"{seen.matched} detections above {seen.score:g} matched one to one, {seen.unmatched} unmatched"
        + ("" if seen.proves else "; too few for a verdict: compare on more data with --verify DIR")
    )
    for name, (before, after) in seen.figures.items():
        print_line(f"{name}: {before:.4f} before, {after:.4f} after")
