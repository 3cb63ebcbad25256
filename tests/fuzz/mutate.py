"""Files that are almost valid: bytes changed, values of JSON, torch and HDF5 files replaced."""

from __future__ import annotations

import copy
import html
import io
import json
import random
import re
import tempfile
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import torch


class Raw(str):
    """JSON text as it stands."""


class Pairs(list):
    """A JSON object that may have a key twice."""


NUMBERS: list[Any] = [
    *(0, -1, 1, 2, 2**31, -(2**31), 2**63 - 1, 2**63, -(2**63), 2**64, 10**30, 10**308),
    *(0.5, -0.5, -0.0, 1e-320, 1e15, 1e39, 1e300, -1e300, 1e308, float("nan"), float("inf"), -float("inf")),
    *(Raw("1" * 400), Raw("9" * 5000), Raw("1e99999"), Raw("-1e-99999")),
]
TEXTS: list[Any] = [
    *("", "x", "1", "²", "nan", "0.5", "a" * 300, "\x00", "\x1b[2J\n", "\ud800", "../../x", "a\\b", "é"),
    *("self", "categories", "float[1..0]", "ripeness:float", "auto"),
]
OTHERS: list[Any] = [
    None,
    True,
    False,
    [],
    {},
    [[]],
    [1, 2, 3],
    [None] * 4,
    {"a": 1},
    {"": []},
    [[1, 2], "x"],
]
DEEP: list[Any] = [Raw("[" * depth + "]" * depth) for depth in (50, 900, 100_000)]
VALUES = [*NUMBERS, *TEXTS, *OTHERS]


def dump(value: Any) -> str:
    """JSON text, also of ``Raw`` and ``Pairs``."""
    if isinstance(value, Raw):
        return str(value)
    if isinstance(value, (dict, Pairs)):
        pairs = value if isinstance(value, Pairs) else value.items()
        return "{" + ", ".join(f"{json.dumps(key)}: {dump(item)}" for key, item in pairs) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(dump, value)) + "]"
    return json.dumps(value)


def places(value: Any, above: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The path of every value in nested containers but the outermost."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    found = []
    for key, item in items:
        found += [(*above, key), *places(item, (*above, key))]
    return found


def holder(value: Any, place: tuple[Any, ...]) -> Any:
    for key in place[:-1]:
        value = value[key]
    return value


def mutated_values(rng: random.Random, value: Any, values: list[Any]) -> Any:
    """One to three values of nested containers replaced, removed, duplicated, or put in place of another."""
    value = copy.deepcopy(value)
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        found = places(value)
        if not found or rng.random() < 0.02:
            return rng.choice(values)
        place = rng.choice(found)
        within, key = holder(value, place), place[-1]
        kind = rng.random()
        if kind < 0.6:
            within[key] = copy.deepcopy(rng.choice(values))
        elif kind < 0.75:
            del within[key]
        elif kind < 0.85:
            other = rng.choice(found)
            if other[: len(place)] != place:
                within[key] = copy.deepcopy(holder(value, other)[other[-1]])
        elif isinstance(within, list):
            within.insert(key, copy.deepcopy(within[key]))
        else:
            within[rng.choice([text for text in TEXTS if isinstance(text, str)])] = within[key]
    return value


def mutated_json(rng: random.Random, data: bytes) -> bytes:
    try:
        value = json.loads(data)
    except ValueError:  # an earlier mutation
        return mutated_bytes(rng, data)
    if rng.random() < 0.1:
        return mutated_bytes(rng, data)
    if rng.random() < 0.1:
        value = with_doubled_key(rng, value)
    else:
        value = mutated_values(rng, value, [*VALUES, *DEEP])
    return dump(value).encode("utf-8", "surrogatepass")


def with_doubled_key(rng: random.Random, value: Any) -> Any:
    value = {"": copy.deepcopy(value)}
    objects = [place for place in places(value) if isinstance(holder(value, place)[place[-1]], dict)]
    if objects:
        place = rng.choice(objects)
        within = holder(value, place)
        pairs = Pairs(within[place[-1]].items())
        if pairs:
            key = rng.choice(pairs)[0]
            pairs.insert(rng.randrange(len(pairs) + 1), (key, rng.choice(VALUES)))
            within[place[-1]] = pairs
    return value[""]


def mutated_bytes(rng: random.Random, data: bytes) -> bytes:
    """Some bytes flipped, removed, duplicated, inserted, or the end cut off."""
    changed = bytearray(data)
    for _ in range(rng.choice((1, 1, 2, 4, 16))):
        if not changed:
            break
        at = rng.randrange(len(changed))
        span = rng.choice((1, 2, 8, 64))
        kind = rng.randrange(6)
        if kind == 0:
            changed[at] ^= 1 << rng.randrange(8)
        elif kind == 1:
            changed[at] = rng.choice((0, 255, 32, 10, 45, rng.randrange(256)))
        elif kind == 2:
            del changed[at : at + span]
        elif kind == 3:
            changed[at:at] = rng.randbytes(span)
        elif kind == 4:
            changed[at:at] = changed[at : at + span]
        elif rng.random() < 0.3:
            del changed[at:]
    return bytes(changed)


def mutated_text(rng: random.Random, data: bytes) -> bytes:
    """Words and lines of a text replaced, removed and duplicated."""
    if rng.random() < 0.25:
        return mutated_bytes(rng, data)
    lines = [line.split(b" ") for line in data.split(b"\n")]
    for _ in range(rng.choice((1, 1, 2, 4))):
        line = rng.choice(lines)
        at = rng.randrange(len(line))
        kind = rng.randrange(5)
        if kind <= 1:
            line[at] = _word(rng)
        elif kind == 2:
            line[at : at + 1] = []
        elif kind == 3:
            line[at:at] = line[at : at + 1]
        else:
            lines.insert(rng.randrange(len(lines) + 1), list(line))
        line[:] = line or [b""]
    return b"\n".join(b" ".join(line) for line in lines)


def mutated_markup(rng: random.Random, data: bytes) -> bytes:
    """As ``mutated_text``; a word is what stands between < and >."""
    if rng.random() < 0.25:
        return mutated_bytes(rng, data)
    words = [*data.replace(b"<", b"\0<").replace(b">", b">\0").split(b"\0")]
    for _ in range(rng.choice((1, 1, 2, 4))):
        at = rng.randrange(len(words))
        kind = rng.randrange(5)
        if kind <= 1:
            words[at] = _word(rng)
        elif kind == 2:
            words[at] = b""
        elif kind == 3:
            words.insert(at, words[at])
        else:
            words[at] = words[at] * 2
    return b"".join(words)


def _word(rng: random.Random) -> bytes:
    value = rng.choice(
        [*NUMBERS, *TEXTS, "1e-99999999999999999999", "1" * 30, "[a, b]", "- a", "0:", "{", '"']
    )
    return str(value).encode("utf-8", "surrogatepass")


# --- torch files


def mutated_torch(rng: random.Random, data: bytes) -> bytes:
    if rng.random() < 0.2:
        return mutated_bytes(rng, data)
    content = torch.load(io.BytesIO(data), weights_only=True)
    plain = [value for value in VALUES if not isinstance(value, Raw)]
    texts = [place for place in places(content) if isinstance(_at(content, place), str)]
    tensors = [place for place in places(content) if isinstance(_at(content, place), torch.Tensor)]
    documents = [place for place in texts if _at(content, place).startswith("{")]
    kind = rng.random()
    if kind < 0.4 and tensors:
        place = rng.choice(tensors)
        holder(content, place)[place[-1]] = mutated_tensor(rng, _at(content, place))
    elif kind < 0.7 and documents:
        place = rng.choice(documents)
        text = mutated_json(rng, _at(content, place).encode())
        holder(content, place)[place[-1]] = text.decode("utf-8", "replace")
    else:
        content = mutated_values(rng, content, [*plain, torch.zeros(2), torch.tensor(1), (1, 2), b"x"])
    stream = io.BytesIO()
    torch.save(content, stream)
    return stream.getvalue()


def _at(content: Any, place: tuple[Any, ...]) -> Any:
    return holder(content, place)[place[-1]]


def mutated_tensor(rng: random.Random, tensor: torch.Tensor) -> torch.Tensor:
    """Of another type, shape or layout, with strides that repeat values, or with absurd values."""
    kinds: list[Callable[[], torch.Tensor]] = [
        lambda: tensor.to(
            rng.choice((torch.float64, torch.float16, torch.int64, torch.bool, torch.complex64))
        ),
        lambda: tensor.flatten()[:-1],
        lambda: tensor[None],
        lambda: tensor.flatten()[:1].expand(tensor.shape) if tensor.numel() else tensor,
        lambda: torch.zeros(1).expand(10**12),
        lambda: tensor.transpose(0, -1) if tensor.dim() > 1 else tensor,
        lambda: torch.full_like(tensor.float(), rng.choice((float("nan"), float("inf"), 1e38, -1.0, 0.0))),
        lambda: tensor.float().to_sparse(),
        lambda: torch.empty(tensor.shape, device="meta"),
        lambda: torch.quantize_per_tensor(tensor.float(), 0.1, 0, torch.qint8),
        lambda: torch.empty(0),
        lambda: torch.as_strided(tensor.flatten(), tensor.shape, [0] * tensor.dim()),
    ]
    try:
        return rng.choice(kinds)()
    except RuntimeError:
        return torch.zeros(())


# --- exported files: mostly their description changes, and for .pt2 the program


def mutated_onnx(rng: random.Random, data: bytes) -> bytes:
    if rng.random() < 0.3:
        return mutated_bytes(rng, data)
    import onnx

    model = onnx.load_from_string(data)
    for entry in model.metadata_props:
        entry.value = mutated_json(rng, entry.value.encode()).decode("utf-8", "replace")
    return model.SerializeToString()


def mutated_openvino(rng: random.Random, data: bytes) -> bytes:
    if rng.random() < 0.3:
        return mutated_markup(rng, data)
    before, text, after = re.split(r'(?<=<ctnet value=")([^"]*)', data.decode(), maxsplit=1)
    changed = mutated_json(rng, html.unescape(text).encode()).decode("utf-8", "replace")
    return (before + html.escape(changed) + after).encode("utf-8", "replace")


def mutated_program(rng: random.Random, data: bytes) -> bytes:
    if rng.random() < 0.2:
        return mutated_bytes(rng, data)
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        members = {member.filename: archive.read(member) for member in archive.infolist()}
    name = rng.choice([name for name in members if name.endswith(("/ctnet", ".json"))])
    members[name] = mutated_json(rng, members[name])
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        for member, content in members.items():
            archive.writestr(member, content)
    return stream.getvalue()


# --- HDF5


def mutated_hdf5(rng: random.Random, data: bytes) -> bytes:
    if rng.random() < 0.3:
        return mutated_bytes(rng, data)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "a.h5"
        path.write_bytes(data)
        with h5py.File(path, "r+") as file:
            for _ in range(rng.choice((1, 1, 2))):
                _change_hdf5(rng, file)
        return path.read_bytes()


def mutated_pack(rng: random.Random, data: bytes) -> bytes:
    """Mostly a table is changed, and its checksum with it."""
    if rng.random() < 0.3:
        return mutated_hdf5(rng, data)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "a.h5"
        path.write_bytes(data)
        with h5py.File(path, "r+") as file:
            _change_table(rng, file)
        return path.read_bytes()


def _change_table(rng: random.Random, file: Any) -> None:
    names: list[str] = []
    file.visit(names.append)
    name = rng.choice([name for name in names if isinstance(file[name], h5py.Dataset) and name != "data"])
    values = file[name][()]
    number = rng.choice([-1, 0, 1, 255, 2**31 - 1, 2**62, 2**63 - 1])
    kinds: list[Callable[[], np.ndarray]] = [
        lambda: values[:-1],
        lambda: values[:0],
        lambda: values[::-1],
        lambda: values[..., None],
        lambda: np.concatenate([values, values]),
        lambda: values.astype(rng.choice(["f8", "i1", "u8", "i2", "bool"])),
        lambda: np.full_like(values, np.array(number).astype(values.dtype)),
        lambda: np.where(rng.random() < np.linspace(0, 1, values.size).reshape(values.shape), values, number),
    ]
    with np.errstate(all="ignore"):
        changed = np.ascontiguousarray(rng.choice(kinds)())
    del file[name]
    file[name] = changed
    file[name].attrs["checksum"] = zlib.crc32(changed.tobytes())


def _change_hdf5(rng: random.Random, file: Any) -> None:
    names: list[str] = []
    file.visit(names.append)
    name = rng.choice(names)
    kind = rng.randrange(7)
    if kind == 0:
        attribute = rng.choice(list(file.attrs) or ["format"])
        value = rng.choice([1, -1.5, np.nan, "x", [1.0, np.inf], [], [[1.0]], np.zeros(0), True, 2**40])
        file.attrs[attribute] = value
    elif kind == 1:
        file.attrs.pop(rng.choice(list(file.attrs) or [""]), None)
    elif kind == 2:
        del file[name]
    elif kind == 3:
        file.move(name, rng.choice(["x", "0x0", "99999x99999", "32x32", f"{name}2"]))
    elif kind == 4:
        links = [h5py.SoftLink("/"), h5py.SoftLink("/nowhere"), h5py.ExternalLink("other.h5", "/")]
        del file[name]
        file[name] = rng.choice(links)
    else:
        _change_dataset(rng, file, rng.choice([n for n in names if isinstance(file[n], h5py.Dataset)]))


def _change_dataset(rng: random.Random, file: Any, name: str) -> None:
    if file[name].nbytes > 1 << 28:  # an earlier change declared it so large
        return
    values = file[name][()]
    del file[name]
    if isinstance(values, bytes):
        text = mutated_json(rng, values)
        file[name] = text.decode("utf-8", "replace").replace("\x00", "")
        return
    kind = rng.randrange(6)
    if kind == 0:
        file[name] = values.astype(rng.choice(["i1", "f8", "f2", "u8", "bool", "S3", "c8"]))
    elif kind == 1:
        file[name] = values[:-1]
    elif kind == 2:
        value = rng.choice([np.nan, np.inf, 0, -1, 60000]) if values.dtype.kind == "f" else -1
        file[name] = np.full_like(values, np.array(value).astype(values.dtype))
    elif kind == 3:
        file.create_dataset(name, (10**9, *values.shape[1:]), values.dtype, chunks=(1, *values.shape[1:]))
    elif kind == 4:
        file[name] = values[..., None]
    else:
        file[name] = rng.choice(["text", 3, np.zeros(3)])
