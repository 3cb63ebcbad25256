"""Running exported files: ONNX Runtime, OpenVINO, and torch itself."""

from __future__ import annotations

import re
import zipfile
from collections.abc import Callable, Mapping
from importlib import import_module
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch

from ctnet.base.errors import CtnetError
from ctnet.base.files import is_plain_archive, require_regular
from ctnet.checkpoint.exported import KEY, Exported
from ctnet.inference.programs import check_program

#: What brings a runtime, by module.
_EXTRAS = {
    "onnx": "export",
    "onnxscript": "export",
    "onnxruntime": "export",
    "openvino": "openvino",
    "nncf": "openvino",
}


#: What older versions of these lack: operators, or the exporter's names for them.
_FLOORS = {"onnxscript": (0, 7, 1), "onnxruntime": (1, 25)}


def need(module: str) -> Any:
    """Import a module of an optional extra.

    Args:
        module: its name.

    Raises:
        CtnetError: naming the extra, where it is not installed, too old, or too broken to import.
    """
    package = module.partition(".")[0]
    install = f"pip install --upgrade 'ctnet-toolkit[{_EXTRAS[package]}]'"
    try:
        loaded = import_module(module)
    except ImportError as error:
        raise CtnetError(f"{module} cannot be imported ({error}); install it with: {install}") from error
    floor = _FLOORS.get(module, ())
    found = getattr(loaded, "__version__", "")
    if tuple(map(int, re.findall(r"\d+", found)[:3])) < floor:
        wanted = ".".join(map(str, floor))
        raise CtnetError(f"{module} {found} is too old, ctnet needs {wanted}; update it with: {install}")
    return loaded


class Runtime(Protocol):
    """An opened file.

    Attributes:
        exported: what it says of itself.
        name: of the runtime.
    """

    exported: Exported
    name: str

    def run(self, images: np.ndarray) -> list[np.ndarray]:
        """All outputs, in order: columns (B, k, ...) first.

        Args:
            images: uint8 RGB in the layout of the file.
        """


def is_exported(path: str | Path) -> bool:
    """Whether a name is that of an exported file."""
    return Path(path).suffix in _OPENERS


def open_exported(path: str | Path, threads: int | None = None) -> Runtime:
    """Open an exported file with the runtime it was written for.

    Args:
        path: of a .onnx, .xml or .pt2 file.
        threads: that the runtime may use; torch's own number when None.

    Raises:
        CtnetError: for a file that is missing, cut, or not an export of ctnet; and for a runtime that is
            missing or too old for it.
    """
    path = Path(path)
    require_regular(path)  # a pipe would be read for ever
    return _OPENERS[path.suffix](path, threads or torch.get_num_threads())


class OnnxRuntime:
    """A file for ONNX Runtime, on the CPU."""

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
    """A file for OpenVINO, on the CPU, in float32 unless it was exported in half precision."""

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
    """A program of torch.export, on the CPU."""

    name = "torch.export"

    def __init__(self, path: Path, threads: int) -> None:
        import_module("torchvision")  # registers the operator of deformable convolutions
        extra, runtime = {KEY: ""}, f"torch {torch.__version__}"
        program = _opened(path, runtime, lambda: torch.export.load(path, extra_files=extra))
        self.exported = Exported.from_json(extra[KEY] or None, path)
        self._module = _opened(path, runtime, program.module)

    def run(self, images: np.ndarray) -> list[np.ndarray]:
        with torch.inference_mode():
            values = self._module(torch.from_numpy(np.ascontiguousarray(images)))
        return [value.numpy() for value in values]


_OPENERS: Mapping[str, Callable[[Path, int], Runtime]] = {
    ".onnx": OnnxRuntime,
    ".xml": OpenVino,
    ".pt2": TorchProgram,
}


def _opened(path: Path, runtime: str, opener: Callable[[], Any]) -> Any:
    """What a runtime makes of a file; it says in its own words, and kinds of errors, what it dislikes."""
    try:
        if path.suffix == ".pt2" and not (zipfile.is_zipfile(path) and is_plain_archive(path)):
            raise ValueError("it is not a whole archive")
        if path.suffix == ".pt2":
            check_program(path)
        return opener()
    except Exception as error:
        raise CtnetError(
            f"{runtime} cannot open {path}: {first_line(error)}; it is damaged, or needs a newer runtime: "
            "export the run again, or update the runtime"
        ) from error


def first_line(error: Exception) -> str:
    """What a runtime says of an error, as far as it fits on a line."""
    lines = (line.strip() for line in str(error).splitlines())
    return next((line for line in lines if line), type(error).__name__)[:200]
