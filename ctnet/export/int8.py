"""8-bit convolutions: static quantisation by ONNX Runtime and by NNCF, the heads in floating point."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ctnet.base.extras import need
from ctnet.export.graph import DetectionGraph

#: Convolutions in a head's branch; they stay in floating point: sizes and offsets need more than 8 bits.
_BRANCH = 2


def quantized_onnx(proto: Any, graph: DetectionGraph, inputs: Sequence[np.ndarray]) -> Any:
    """A model whose convolutions run in 8 bits, except those of heads and of sampling offsets.

    Weights use 7 bits: processors without VNNI add products in 16 bits, which would overflow with 8.

    Args:
        proto: the ONNX model, with the maps among its outputs.
        graph: the graph that it was made from.
        inputs: calibration batches, in the form that the file takes.
    """
    need("onnxruntime")
    tools = need("onnxruntime.quantization")

    class Reader(tools.CalibrationDataReader):  # type: ignore[misc, name-defined]  # of an untyped package
        def __init__(self) -> None:
            self._left: Iterator[np.ndarray] = iter(inputs)

        def get_next(self) -> dict[str, np.ndarray] | None:
            batch = next(self._left, None)
            return None if batch is None else {"images": batch}

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "int8.onnx"
        tools.quantize_static(
            proto,
            path,
            Reader(),
            per_channel=True,
            reduce_range=True,
            op_types_to_quantize=["Conv"],
            nodes_to_exclude=sorted(_float_nodes(proto, graph)),
        )
        return need("onnx").load(str(path))


def _float_nodes(proto: Any, graph: DetectionGraph) -> set[str]:
    makers = {output: node for node in proto.graph.node for output in node.output}
    ends = [output.name for output in proto.graph.output[len(graph.columns) :]]
    found = {name for end in ends for name in _convolutions_before(end, makers, _BRANCH)}
    for node in proto.graph.node:
        if node.op_type == "DeformConv":
            steering = (node.input[2], *node.input[4:])
            found |= {name for value in steering for name in _convolutions_before(value, makers, 1)}
    return found


def _convolutions_before(value: str, makers: Mapping[str, Any], deep: int) -> set[str]:
    """Names of the last ``deep`` convolutions that a value was computed by."""
    node = makers.get(value)
    if node is None or deep == 0:
        return set()
    if node.op_type == "Conv":
        return {node.name} | _convolutions_before(node.input[0], makers, deep - 1)
    return {name for each in node.input for name in _convolutions_before(each, makers, deep)}


def quantized_openvino(model: Any, graph: DetectionGraph, inputs: Sequence[np.ndarray]) -> Any:
    """A model whose convolutions run in 8 bits, except those of the heads; see ``quantized_onnx``.

    Args:
        model: the OpenVINO model, with the maps among its outputs.
        graph: the graph that it was made from.
        inputs: calibration batches, in the form that the file takes.
    """
    nncf = need("nncf")
    kept: dict[str, int] = {}
    for result in model.get_results():
        _take_branch(result, kept)
    return nncf.quantize(
        model,
        nncf.Dataset(list(inputs)),
        subset_size=len(inputs),
        ignored_scope=nncf.IgnoredScope(names=sorted(kept)),
    )


def _take_branch(result: Any, kept: dict[str, int]) -> None:
    """Collect all nodes that a result depends on, back to the first convolutions of the heads.

    Args:
        result: a result node of the OpenVINO graph.
        kept: name -> number of convolutions still allowed before it; extended in place.
    """
    waiting = [(result, _BRANCH)]
    while waiting:
        node, deep = waiting.pop()
        name, kind = node.get_friendly_name(), node.get_type_name()
        if kind in ("Constant", "Parameter", "ShapeOf") or kept.get(name, 0) >= deep:
            continue
        if kind != "Result":
            kept[name] = deep
        left = deep - (kind == "Convolution")
        if left:
            waiting += [(node.input_value(port).get_node(), left) for port in range(node.get_input_size())]
