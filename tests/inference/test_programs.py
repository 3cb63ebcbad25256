"""Files of torch.export are inspected before torch reads them: no code in them runs."""

from __future__ import annotations

import io
import json
import pickle
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch

from ctnet.inference.programs import check_program, is_arithmetic

ADD = "torch.ops.aten.add.Tensor"
SPEC = '[1, {"type": "builtins.tuple", "context": "null", "children_spec": []}]'


def program(path: Path, node: Any = None, members: dict[str, bytes] | None = None, **document: Any) -> Path:
    """An archive as torch.export writes it, as far as ctnet looks at it."""
    graph = {"nodes": [{"target": ADD, "inputs": [{"name": "self"}], **(node or {})}]}
    model = {"graph": graph, "guards_code": [], "range_constraints": {"4*s30": {"max_val": 9}}, **document}
    content = {
        "data/weights/weight_0": b"\0" * 4,
        "data/weights/model_weights_config.json": b'{"config": {"a.b": {"use_pickle": false}}}',
        "models/model.json": json.dumps(model).encode(),
        "extra/ctnet": b"{}",
        **(members or {}),
    }
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in content.items():
            archive.writestr(f"archive/{name}", data)
    return path


def saved(value: Any) -> bytes:
    stream = io.BytesIO()
    torch.save(value, stream)
    return stream.getvalue()


class Touch:
    """An object that leaves a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return Path.touch, (self.path,)


def test_a_graph_of_operators_numbers_and_shapes_passes(tmp_path: Path) -> None:
    node = {"inputs": [{"arg": {"expr_str": "Mul(Integer(4), Symbol('s18', positive=True))"}}]}
    origin = {
        "metadata": {"stack_trace": 'File "x.py", line 3\n', "nn_module_stack": "a,,b"},
        "as_float": "-Infinity",
    }
    guards = ["1 + ((-1 + L['images'].size()[2]) // 4) > 1", "torch.sym_min(100, L['images'].size()[1]) != 0"]
    check_program(
        program(
            tmp_path / "x.pt2",
            {**node, **origin},
            {"data/sample_inputs/model.pt": saved((torch.zeros(2), {}))},
            guards_code=guards,
            in_spec=SPEC,
        )
    )


@pytest.mark.parametrize(
    ("node", "document", "message"),
    [
        ({"target": "torch.os.system"}, {}, "its graph calls 'torch.os.system', which is not an operator"),
        ({"target": "torch.ops.aten.add.Tensor.__class__"}, {}, "which is not an operator"),
        ({"target": "_operator.methodcaller"}, {}, "which is not an operator"),
        ({"target": "#x:y"}, {}, "which is not an operator"),
        ({"target": 3}, {}, "which is not an operator"),
        ({"name": "x=print('y')"}, {}, "it names something 'name'"),
        ({"parameter_name": "a.b)\nimport os\n("}, {}, "it names something 'parameter_name'"),
        ({"inputs": ["a", "b; c"]}, {}, "it names something 'inputs'"),
        ({"expr_str": "exec('import os')"}, {}, "expr_str in it is more than arithmetic"),
        ({"expr_str": 5}, {}, "."),
        ({}, {"guards_code": ["True", "__import__('os').getcwd()"]}, "guards_code in it is more than"),
        ({}, {"range_constraints": {"print(1)": {}}}, "range_constraints in it is more than arithmetic"),
        ({}, {"in_spec": SPEC.replace("builtins.tuple", "os.path")}, "in_spec in it is more than tuples"),
    ],
)
def test_a_graph_that_holds_code_is_refused(
    tmp_path: Path, node: dict[str, Any], document: dict[str, Any], message: str
) -> None:
    with pytest.raises((ValueError, TypeError), match=message):
        check_program(program(tmp_path / "x.pt2", node, **document))


@pytest.mark.parametrize(
    "name",
    ["data/constants/opaque_obj_0", "data/aotinductor/model/a.so", "code/x.py", "../x", "models/other.json"],
)
def test_what_ctnet_does_not_write_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(ValueError, match="which ctnet does not write"):
        check_program(program(tmp_path / "x.pt2", members={name: b"x"}))


def test_pickled_objects_are_refused_and_never_made(tmp_path: Path) -> None:
    bomb = Touch(tmp_path / "touched")
    config = b'{"config": {"a": {"use_pickle": true}}}'
    with pytest.raises(ValueError, match="it holds a pickled object"):
        check_program(program(tmp_path / "x.pt2", members={"data/weights/model_weights_config.json": config}))
    for name in ("data/sample_inputs/model.pt", "serialized_state_dict.pt"):
        with pytest.raises(pickle.UnpicklingError):
            check_program(program(tmp_path / "x.pt2", members={name: saved(bomb)}))
    assert not (tmp_path / "touched").exists()


@pytest.mark.parametrize(
    ("text", "right"),
    [
        ("s0", True),
        ("4*s18 + 1", True),
        ("Min(Integer(100), Mul(Symbol('s18', positive=True, integer=True), Symbol('s30')))", True),
        ("L['images'].size()[1] // 4 >= 2 and not s0 == 1", True),
        ("torch.sym_max(s0, 2)", True),
        ("exec('x')", False),
        ("Symbol.__class__", False),
        ("Symbol('a').func(1)", False),
        ("Max('exec(1)')", False),  # sympy parses strings as expressions
        ("L['images'].__class__", False),
        ("(lambda: 1)()", False),
        ("[x for x in y]", False),
        ("f'{1}'", False),
        ("a if b else c", False),
        ("a = 1", False),
        ("a\nb", False),
        ("\0", False),
        ("(" * 500, False),
        ("-" * 100_000 + "1", False),
        (None, False),
    ],
)
def test_conditions_on_sizes(text: object, right: bool) -> None:
    assert is_arithmetic(text) == right
