"""Writing operating points into exported files; everything else in them stays as it is."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from ctnet.base.extras import need
from ctnet.checkpoint.exported import Exported
from ctnet.core.operating import OperatingPoints, require_consistent
from ctnet.export.writers import save_onnx, save_openvino, save_program
from ctnet.inference.runtimes import open_exported, read_program


def write_operating_points(path: str | Path, points: OperatingPoints) -> None:
    """Replace the operating points of an exported file, atomically.

    Args:
        path: a .onnx, .xml or .pt2 file.
        points: the new ones, for the file's classes.

    Raises:
        CtnetError: for a file that cannot be opened, points of other classes, a missing extra, and when the
            file cannot be written.
    """
    path = Path(path)
    exported = open_exported(path).exported  # a file of torch.export is looked through there
    names = exported.description.class_names(path)
    require_consistent(points, names, path, "choose thresholds with the file itself")
    _WRITERS[path.suffix](path, replace(exported, operating_points=points))


def _write_onnx(path: Path, exported: Exported) -> None:
    save_onnx(need("onnx").load(str(path)), path, exported)


def _write_openvino(path: Path, exported: Exported) -> None:
    save_openvino(need("openvino").Core().read_model(path), path, exported)


def _write_program(path: Path, exported: Exported) -> None:
    save_program(read_program(path), path, exported)


_WRITERS = {".onnx": _write_onnx, ".xml": _write_openvino, ".pt2": _write_program}
