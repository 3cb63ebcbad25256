"""Running exported files: ONNX Runtime, OpenVINO, and torch itself."""

from __future__ import annotations

import logging
import zipfile
from collections.abc import Callable, Mapping
from importlib import import_module
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch

from ctnet.base.errors import CtnetError
from ctnet.base.extras import need
from ctnet.base.files import is_plain_archive, require_regular
from ctnet.checkpoint.exported import KEY, Exported
from ctnet.inference.programs import check_program


class Runtime(Protocol):
    """An exported file, opened by a runtime.

    Attributes:
        exported: the file's description.
        name: name of the runtime.
    """

    exported: Exported
    name: str

    def run(self, images: np.ndarray) -> list[np.ndarray]:
        """All outputs, in order: first the columns, (B, k, ...) each.

        Args:
            images: uint8 RGB in the file's layout.
        """


def is_exported(path: str | Path) -> bool:
    """Whether the suffix of a path is that of an exported file."""
    return Path(path).suffix in _OPENERS


def open_exported(path: str | Path, threads: int | None = None) -> Runtime:
    """Open an exported file with the runtime that it was exported for.

    Args:
        path: a .onnx, .xml or .pt2 file.
        threads: number of threads for the runtime; torch's own number when None.

    Raises:
        CtnetError: for a file that is missing, truncated or not exported by ctnet; and for a runtime that is
            missing or too old for the file.
    """
    path = Path(path)
    require_regular(path)  # a pipe would be read for ever
    return _OPENERS[path.suffix](path, threads or torch.get_num_threads())


class OnnxRuntime:
    """A file run by ONNX Runtime, on the CPU."""

    name = "ONNX Runtime"

    def __init__(self, path: Path, threads: int) -> None:
        onnxruntime = need("onnxruntime")
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.log_severity_level = 3
        self._session = _opened(
            path,
            f"onnxruntime {onnxruntime.__version__}",
            lambda: onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"]),
        )
        metadata = self._session.get_modelmeta().custom_metadata_map
        self.exported = Exported.from_json(metadata.get(KEY), path)

    def run(self, images: np.ndarray) -> list[np.ndarray]:
        return list(self._session.run(None, {"images": images}))


class OpenVino:
    """A file run by OpenVINO, on the CPU, in float32 unless it was exported in half precision."""

    name = "OpenVINO"

    def __init__(self, path: Path, threads: int) -> None:
        openvino = need("openvino")
        core, runtime = openvino.Core(), f"OpenVINO {openvino.__version__}"
        if (weights := path.with_suffix(".bin")).exists():
            require_regular(weights)
        model = _opened(path, runtime, lambda: core.read_model(path))
        has_text = model.has_rt_info([KEY])
        text = _opened(path, runtime, lambda: model.get_rt_info(KEY).astype(str)) if has_text else None
        self.exported = Exported.from_json(text, path)
        settings: dict[str, Any] = {"INFERENCE_NUM_THREADS": threads}
        if not self.exported.half:
            settings["INFERENCE_PRECISION_HINT"] = "f32"
        self._model = _opened(path, runtime, lambda: core.compile_model(model, "CPU", settings))

    def run(self, images: np.ndarray) -> list[np.ndarray]:
        values = self._model([np.ascontiguousarray(images)])
        return [np.array(values[position]) for position in range(len(values))]


class TorchProgram:
    """A torch.export program, run on the CPU."""

    name = "torch.export"

    def __init__(self, path: Path, threads: int) -> None:
        import_module("torchvision")  # registers the operator of deformable convolutions
        extra, runtime = {KEY: ""}, f"torch {torch.__version__}"
        program = _opened(path, runtime, lambda: read_program(path, extra))
        self.exported = Exported.from_json(extra[KEY] or None, path)
        self._module = _opened(path, runtime, program.module)

    def run(self, images: np.ndarray) -> list[np.ndarray]:
        with torch.inference_mode():
            values = self._module(torch.from_numpy(np.ascontiguousarray(images)))
        return [value.numpy() for value in values]


def read_program(path: Path, extra: dict[str, str] | None = None) -> torch.export.ExportedProgram:
    """Read a program; what torch prints of a broken one, with a traceback, is left out.

    Args:
        path: a .pt2 file that ``check_program`` accepts.
        extra: its keys are the texts to read from the file, too.
    """
    log = logging.getLogger("torch.export")
    level = log.level
    log.setLevel(logging.CRITICAL)
    try:
        return torch.export.load(path, extra_files=extra)
    except RuntimeError as error:
        if "warnings above" in str(error):
            raise ValueError("its graph and its weights do not fit together") from error
        raise
    finally:
        log.setLevel(level)


_OPENERS: Mapping[str, Callable[[Path, int], Runtime]] = {
    ".onnx": OnnxRuntime,
    ".xml": OpenVino,
    ".pt2": TorchProgram,
}


def _opened(path: Path, runtime: str, opener: Callable[[], Any]) -> Any:
    """Open a file with a runtime, whose many kinds of errors become a message of one line."""
    try:
        if path.suffix == ".pt2" and not (zipfile.is_zipfile(path) and is_plain_archive(path)):
            raise ValueError("it is not a whole archive")
        if path.suffix == ".pt2":
            check_program(path)
        return opener()
    except Exception as error:
        raise CtnetError(
            f"{runtime} cannot open {path}: {first_line(error)}; the file is damaged or needs a newer "
            "runtime: export the run again, or update the runtime"
        ) from error


def first_line(error: Exception) -> str:
    """The first line of an error's message, shortened to 200 characters."""
    lines = (line.strip() for line in str(error).splitlines())
    return next((line for line in lines if line), type(error).__name__)[:300]
