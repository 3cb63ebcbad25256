"""Looking through a file of torch.export before torch reads it: such a file can hold code, and torch runs it.

What ctnet writes holds operators, numbers and shapes. Everything else is refused: pickled objects, compiled
libraries, functions that are not operators, and conditions on shapes that are more than arithmetic.
"""

from __future__ import annotations

import ast
import io
import json
import re
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

#: Members of an archive, also as torch 2.6 wrote it.
_MEMBERS = re.compile(
    r"(?:[^/]+/)?(?:data/weights/weight_\d+|data/constants/tensor_\d+|data/sample_inputs/model\.pt"
    r"|data/(?:weights|constants)/model_(?:weights|constants)_config\.json|models/model\.json"
    r"|serialized_(?:exported_program\.json|(?:state_dict|constants|example_inputs)\.pt)"
    r"|extra(?:_files)?/ctnet|\.data/\w+|\.format_version|\.storage_alignment"
    r"|archive_format|archive_version|byteorder|version)"
)

#: Functions of a graph.
_OPERATORS = re.compile(
    r"torch\.ops\.(?:aten|torchvision)\.\w+\.\w+|torch\.sym_\w+|math\.\w+"
    r"|_operator\.(?:add|sub|mul|truediv|floordiv|mod|pow|neg|pos|abs|eq|ne|lt|le|gt|ge|and_|or_|not_|getitem)"
)

#: Names in a graph become names in the program that torch makes of it.
_NAME = re.compile(r"[-\w.]*")

#: What says where an operator came from; torch does not run it.
_ORIGINS = ("stack_trace", "nn_module_stack", "torch_fn", "source_fn_stack", "from_node", "torch_version")

#: How inputs and outputs are nested.
_NESTED = ("builtins.tuple", "builtins.list", "builtins.dict", None)

#: Functions in the sizes of a graph, and in its conditions on them.
_SIZES = re.compile(
    r"Symbol|Integer|Float|Rational|Add|Mul|Pow|Min|Max|Mod|PythonMod|FloorDiv|CleanDiv|IntTrueDiv|FloatTrueDiv"
    r"|CeilToInt|FloorToInt|RoundToInt|TruncToInt|ToFloat|Abs|Eq|Ne|Lt|Le|Gt|Ge|And|Or|Not|Where|ceiling|floor"
    r"|torch\.sym_\w+|math\.\w+|L\[\w+\]\.(?:size|stride|storage_offset)"
)
_ARITHMETIC = (
    *(
        ast.Expression,
        ast.BinOp,
        ast.UnaryOp,
        ast.Compare,
        ast.BoolOp,
        ast.Call,
        ast.Subscript,
        ast.Attribute,
    ),
    *(
        ast.Name,
        ast.Constant,
        ast.keyword,
        ast.operator,
        ast.unaryop,
        ast.cmpop,
        ast.boolop,
        ast.expr_context,
    ),
)


def check_program(path: Path) -> None:
    """Refuse a file of torch.export that holds more than operators, numbers and shapes.

    Raises:
        ValueError: naming what it holds.
    """
    with zipfile.ZipFile(path) as archive:
        for member in archive.infolist():
            if not _MEMBERS.fullmatch(member.filename):
                raise ValueError(f"it holds {member.filename!r}, which ctnet does not write")
            if member.filename.endswith(".pt"):
                torch.load(io.BytesIO(archive.read(member)), weights_only=True)
            elif member.filename.endswith(".json"):
                _check(json.loads(archive.read(member)))


def _check(document: Any) -> None:
    for key, value in _entries(document):
        if key in ("expr_str", "guards_code", "range_constraints"):
            texts = [value] if isinstance(value, str) else list(value)
            if not all(map(is_arithmetic, texts)):
                raise ValueError(f"{key} in it is more than arithmetic")
        elif key == "use_pickle" and value is not False:
            raise ValueError("it holds a pickled object")
        elif key == "target" and not (isinstance(value, str) and _OPERATORS.fullmatch(value)):
            raise ValueError(f"its graph calls {value!r}, which is not an operator")
        elif key in ("in_spec", "out_spec"):
            if any(kind not in _NESTED for name, kind in _entries(json.loads(value)) if name == "type"):
                raise ValueError(f"{key} in it is more than tuples")
        elif key not in _ORIGINS and not all(map(_NAME.fullmatch, _texts(key, value))):
            raise ValueError(f"it names something {key!r}: {value!r}"[:200])


def _texts(key: str, value: Any) -> list[str]:
    """The key and the value of an entry, as far as they are texts."""
    values = value if isinstance(value, list) else [value]
    return [text for text in (key, *values) if isinstance(text, str)]


def _entries(value: Any) -> Iterator[tuple[str, Any]]:
    """The entries of all objects in a JSON document."""
    waiting = [value]
    while waiting:
        value = waiting.pop()
        if isinstance(value, dict):
            yield from value.items()
            waiting += (item for key, item in value.items() if key != "range_constraints")
        elif isinstance(value, list):
            waiting += value


def is_arithmetic(text: object) -> bool:
    """Whether a text calculates with sizes and does nothing else."""
    if not isinstance(text, str):
        return False
    try:
        nodes = list(ast.walk(ast.parse(text, mode="eval")))
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return False
    # A text within could be read as code again.
    texts = [node.value for node in nodes if isinstance(node, ast.Constant) and isinstance(node.value, str)]
    called = [ast.unparse(node.func) for node in nodes if isinstance(node, ast.Call)]
    within = {id(node.func) for node in nodes if isinstance(node, ast.Call)}
    return (
        all(isinstance(node, _ARITHMETIC) for node in nodes)
        and all(re.fullmatch(r"\w+", text) for text in texts)
        and all(_SIZES.fullmatch(name.replace("'", "")) for name in called)
        and all(id(node) in within for node in nodes if isinstance(node, ast.Attribute))
    )
