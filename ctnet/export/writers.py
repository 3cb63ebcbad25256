"""Writing the graph for a runtime: ONNX, OpenVINO's IR, torch.export."""

from __future__ import annotations

import contextlib
import io
import logging
import shutil
import tempfile
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from importlib import import_module
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from ctnet.base.errors import CtnetError
from ctnet.base.extras import need
from ctnet.base.files import atomic_write
from ctnet.checkpoint.exported import KEY, Exported
from ctnet.export.graph import DetectionGraph
from ctnet.export.int8 import quantized_onnx, quantized_openvino
from ctnet.inference.runtimes import first_line

#: Writes the file. Takes its path, its description, and whether maps are among its outputs.
Write = Callable[[Path, Exported, bool], None]
#: Batches that 8-bit convolutions are calibrated on; None: full precision.
Inputs = Sequence[np.ndarray] | None


class Format(NamedTuple):
    """One format of exported files.

    Attributes:
        suffix: suffix of the file.
        companion: suffix of a second file that belongs to it; "" for none.
        convert: takes graph, opset and inputs for the calibration of 8-bit convolutions; gives the function
            that writes the file.
    """

    suffix: str
    companion: str
    convert: Callable[[DetectionGraph, int | None, Inputs], Write]


def to_onnx(graph: DetectionGraph, opset: int | None = None, inputs: Inputs = None) -> Write:
    """Convert the graph to ONNX.

    Args:
        graph: the detector.
        opset: ONNX operator set version; the exporter's default when None. DeformConv needs 19.
        inputs: batches to calibrate 8-bit convolutions on; full precision when None.

    Raises:
        CtnetError: when the extra "export" is not installed, or the exporter refuses the graph.
    """
    onnx = need("onnx")
    need("onnxscript")
    program = _exported("ONNX", lambda: _onnx_program(graph, opset))
    proto = program.model_proto
    if inputs is not None:
        proto = _exported("ONNX Runtime's quantisation", lambda: quantized_onnx(proto, graph, inputs))

    def write(path: Path, exported: Exported, with_maps: bool) -> None:
        versions = {
            **exported.versions,
            "onnx": onnx.__version__,
            "opset": str(proto.opset_import[0].version),
        }
        if not with_maps:
            del proto.graph.output[len(graph.columns) :]
        save_onnx(proto, path, replace(exported, versions=versions))

    return write


def save_onnx(proto: Any, path: Path, exported: Exported) -> None:
    """Write an ONNX model with its description."""
    del proto.metadata_props[:]
    entry = need("onnx").StringStringEntryProto(key=KEY, value=exported.to_json())
    proto.metadata_props.append(entry)
    with atomic_write(path) as stream:
        stream.write(proto.SerializeToString())


def _onnx_program(graph: DetectionGraph, opset: int | None) -> Any:
    return torch.onnx.export(
        graph.captured(),
        dynamo=True,
        verbose=False,
        input_names=["images"],
        output_names=graph.outputs,
        opset_version=opset,
        external_data=False,
    )


def to_openvino(graph: DetectionGraph, opset: int | None = None, inputs: Inputs = None) -> Write:
    """Convert the graph with OpenVINO's PyTorch front end; weights keep their type (float32 or float16).

    Args:
        graph: the detector.
        opset: must be None.
        inputs: see ``to_onnx``.

    Raises:
        CtnetError: when the extra "openvino" is not installed, for an opset, or a graph that is refused.
    """
    _refuse_opset(opset, "OpenVINO's IR")
    openvino = need("openvino")
    model = _exported("OpenVINO", lambda: openvino.convert_model(_openvino_decoder(graph.captured())))
    for port, name in zip(model.outputs, graph.outputs, strict=True):
        port.get_tensor().set_names({name})
    model.inputs[0].get_tensor().set_names({"images"})
    # The front end leaves every side open, that of the channels too.
    model.reshape({"images": openvino.PartialShape(list(graph.sides()))})
    if inputs is not None:
        model = _exported("NNCF", lambda: quantized_openvino(model, graph, inputs))

    def write(path: Path, exported: Exported, with_maps: bool) -> None:
        if not with_maps:
            for result in model.get_results()[len(graph.columns) :]:
                model.remove_result(result)
        versions = {**exported.versions, "openvino": version("openvino")}
        save_openvino(model, path, replace(exported, versions=versions))

    return write


def save_openvino(model: Any, path: Path, exported: Exported) -> None:
    """Write an OpenVINO model with its description: .xml and .bin."""
    model.set_rt_info(exported.to_json(), KEY)
    with tempfile.TemporaryDirectory() as folder:
        temporary = Path(folder) / path.name
        try:
            need("openvino").save_model(model, temporary, compress_to_fp16=False)
        except RuntimeError as error:  # it does not say what the operating system said
            raise CtnetError(
                f"cannot write {path}: OpenVINO could not save it in {folder} ({first_line(error)}); is "
                "the disk full?"
            ) from error
        for suffix in (".bin", path.suffix):  # the file that others look for comes last
            with (
                open(temporary.with_suffix(suffix), "rb") as content,
                atomic_write(path.with_suffix(suffix)) as stream,
            ):
                shutil.copyfileobj(content, stream)


def _openvino_decoder(program: torch.export.ExportedProgram) -> Any:
    """Input for OpenVINO's front end, which lacks the minimum of two sizes: it becomes one of tensors."""
    fx = import_module("openvino.frontend.pytorch.fx_decoder")
    kept = import_module("openvino.frontend.pytorch.torchdynamo.export_decompositions").ops_to_not_decompose()
    table = torch.export.default_decompositions()
    for operator in kept:
        table.pop(operator, None)  # type: ignore[no-untyped-call]
    module = program.run_decompositions(table).module()
    assert isinstance(module, torch.fx.GraphModule)
    aten, nodes = torch.ops.aten, module.graph
    for node in list(nodes.nodes):
        if node.target is torch.sym_min:
            with nodes.inserting_before(node):
                sizes = [nodes.call_function(aten.scalar_tensor.default, (size,)) for size in node.args]
                least = nodes.call_function(aten.minimum.default, tuple(sizes))
                whole = nodes.call_function(aten._to_copy.default, (least,), {"dtype": torch.int64})
                node.replace_all_uses_with(nodes.call_function(aten._local_scalar_dense.default, (whole,)))
            nodes.erase_node(node)
    return fx.TorchFXPythonDecoder(module, dynamic_shapes=True)


def to_program(graph: DetectionGraph, opset: int | None = None, inputs: Inputs = None) -> Write:
    """Capture the graph with torch.export, to be read with torch and torchvision alone.

    Args:
        graph: the detector.
        opset: must be None.
        inputs: see ``to_onnx``.

    Raises:
        CtnetError: for an opset, or a graph that is refused.
    """
    _refuse_opset(opset, "torch.export")
    if inputs is not None:
        raise CtnetError("--int8 is for .onnx and .xml files; .pt2 files cannot have 8-bit convolutions")
    # Outputs cannot be removed from a captured program, so it is captured again for the final file.
    captured: dict[bool, Any] = {True: _exported("torch.export", graph.captured)}

    def write(path: Path, exported: Exported, with_maps: bool) -> None:
        if with_maps not in captured:
            captured[with_maps] = _exported("torch.export", lambda: graph.captured(with_maps))
        save_program(captured[with_maps], path, exported)

    return write


def save_program(program: torch.export.ExportedProgram, path: Path, exported: Exported) -> None:
    """Write a program of torch.export with its description."""
    content = io.BytesIO()
    torch.export.save(program, content, extra_files={KEY: exported.to_json()})
    with atomic_write(path) as stream:
        stream.write(content.getbuffer())


FORMATS = {
    ".onnx": Format(".onnx", "", to_onnx),
    ".xml": Format(".xml", ".bin", to_openvino),
    ".pt2": Format(".pt2", "", to_program),
}


def format_of(path: Path) -> Format:
    """The format that a file name's suffix stands for.

    Raises:
        CtnetError: for any other suffix.
    """
    if path.suffix not in FORMATS:
        raise CtnetError(
            f"cannot export to {path}: name a file that ends in .onnx (ONNX), .xml (OpenVINO) or .pt2 (torch)"
        )
    return FORMATS[path.suffix]


def _refuse_opset(opset: int | None, what: str) -> None:
    if opset is not None:
        raise CtnetError(f"--opset {opset} is for .onnx files; {what} does not have opsets")


def _exported(what: str, convert: Callable[[], Any]) -> Any:
    """Run an exporter without its prints and warnings; its long error messages become one line."""
    try:
        with _quiet():
            return convert()
    except CtnetError:
        raise
    except Exception as error:
        raise CtnetError(f"{what} cannot convert this network: {_reason(error)}") from error


def _reason(error: Exception) -> str:
    """The line of an exporter's error that names the operator, or the first line of its deepest cause."""
    lines = [line.strip(" -") for line in str(error).splitlines() if line.strip()]
    for line in lines:
        if "No conversion rule" in line or "No ONNX function found" in line:
            return line[:200]
    if error.__cause__ is not None and isinstance(error.__cause__, Exception):
        return _reason(error.__cause__)
    return f"{type(error).__name__}: {lines[0][:200] if lines else ''}"


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    disabled = logging.root.manager.disable
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        logging.disable(logging.WARNING)
        try:
            yield
        finally:
            logging.disable(disabled)
