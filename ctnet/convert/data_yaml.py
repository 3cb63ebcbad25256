"""The few keys of an Ultralytics ``data.yaml``, read and written without a YAML library.

Such files are flat: a key and a scalar, a list or a mapping of scalars, in block or flow form. That much is
read here, for the keys that are asked for; the rest of the file (download scripts, say) is never interpreted.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from ctnet.base.errors import CtnetError, os_error

Value = str | None | list[str | None] | dict[str, str | None]

_KEY = re.compile(r"""("(?:\\.|[^"\\])*"|'(?:''|[^'])*'|[^\s"'\[\]{}#-][^:#]*?)\s*:(?:\s+(.*)|)$""")
_FLOW_TOKEN = re.compile(
    r"""\s*("(?:\\.|[^"\\])*"|'(?:''|[^'])*'|[\[\]{},]|:(?=[\s,\]}]|$)|(?:[^,\[\]{}:]|:(?![\s,\]}]|$))+)\s*"""
)


class _Unreadable(Exception):
    """A construct beyond the subset."""


class DataYaml:
    """The top-level keys of a file; values are read when asked for."""

    def __init__(self, text: str, where: str | Path) -> None:
        self.where = where
        self._lines: dict[str, list[str]] = {}
        key = None
        for number, line in enumerate(text.split("\n"), start=1):
            line = _without_comment(line).rstrip()
            if not line or line in ("---", "...") or line.startswith("%"):
                continue
            found = None if line[0] in " \t" else _KEY.match(line)
            if found:
                key = _scalar(found[1]) or ""
                self._lines[key] = [found[2] or ""]
            elif key is None:
                raise CtnetError(f"{where}:{number} is not 'key: value'; is this a data.yaml?")
            else:
                self._lines[key].append(line)

    @classmethod
    def read(cls, path: Path) -> DataYaml:
        """Open a file.

        Raises:
            CtnetError: when it cannot be read.
        """
        try:
            return cls(path.read_text(encoding="utf-8-sig"), path)
        except OSError as error:
            raise os_error(error, "read", path) from error
        except UnicodeDecodeError as error:
            raise CtnetError(f"{path} is not a text file in UTF-8 ({error}); save it as UTF-8") from error

    def __iter__(self) -> Iterator[str]:
        """The top-level keys in the order of the file."""
        return iter(self._lines)

    def get(self, key: str) -> Value:
        """The value of a key, None where the file has none.

        Raises:
            CtnetError: when the value is no scalar, list of scalars or mapping of scalars.
        """
        first, *rest = self._lines.get(key, [""])
        try:
            if first.startswith(("[", "{")):
                return _flow(" ".join([first, *rest]))
            if first or not rest:
                return _scalar(" ".join([first, *(line.strip() for line in rest)]))
            return _block(rest)
        except (_Unreadable, ValueError) as error:
            raise CtnetError(f"cannot read {key} in {self.where}: {error}") from error

    def names(self) -> list[str]:
        """The class names, from a list or from a mapping of 0, 1, 2, ... to names.

        Raises:
            CtnetError: when there are none or the mapping has gaps.
        """
        value = self.get("names")
        if isinstance(value, Mapping):
            wanted = [str(number) for number in range(len(value))]
            if sorted(value) != sorted(wanted):
                raise CtnetError(
                    f"names in {self.where} must number the classes 0 to {len(value) - 1} without gaps"
                )
            value = [value[number] for number in wanted]
        if not isinstance(value, list) or not value:
            raise CtnetError(
                f"{self.where} has no list of class names; add names: [...] or give --names FILE"
            )
        return [name or "" for name in value]

    def lists(self, key: str) -> list[list[str]]:
        """The value of a key that maps 0, 1, 2, ... to a list of texts each; empty where there is none.

        Raises:
            CtnetError: when it is anything else.
        """
        entries: list[list[str]] = []
        for line in self._lines.get(key, [""])[1:]:
            text = line.strip()
            start = re.match(r"(\d+)\s*:\s*(\[.*\])?$", text)
            if start and int(start[1]) == len(entries):
                found = _flow(start[2]) if start[2] else []
                entries.append([name or "" for name in found] if isinstance(found, list) else [])
            elif text.startswith("- ") and entries:
                entries[-1].append(_scalar(text[1:]) or "")
            else:
                raise CtnetError(
                    f"cannot read {key} in {self.where}: {text!r} is no list of names for 0, 1, ..."
                )
        return entries

    def paths(self, key: str) -> list[str]:
        """The value of a key that holds one path or several; empty where there is none."""
        value = self.get(key)
        if isinstance(value, dict):
            raise CtnetError(f"{key} in {self.where} must be a path or a list of paths")
        return [path for path in (value if isinstance(value, list) else [value]) if path]


def write_data_yaml(splits: Mapping[str, str], names: Sequence[str], more: Sequence[str] = ()) -> str:
    """The text of a ``data.yaml``: splits as key to path, the class names, and more lines.

    The file says no ``path``: readers then take its own folder as the root.
    """
    lines = [f"{key}: {_quoted(path)}" for key, path in splits.items()]
    lines += ["names:", *(f"  {number}: {_quoted(name)}" for number, name in enumerate(names)), *more]
    return "\n".join(lines) + "\n"


def _quoted(text: str) -> str:
    """A JSON string is a YAML string, but for three signs that end a line in YAML alone."""
    quoted = json.dumps(text, ensure_ascii=False)
    return re.sub("[\x85\u2028\u2029]", lambda sign: f"\\u{ord(sign[0]):04x}", quoted)


def _without_comment(line: str) -> str:
    quote = ""
    before = " "
    for position, sign in enumerate(line):
        if quote:
            if sign == quote and not (quote == '"' and before == "\\"):
                quote = ""
        elif sign in "\"'" and before in " \t[{,:":
            quote = sign
        elif sign == "#" and before in " \t":
            return line[:position]
        before = " " if before == sign == "\\" else sign
    return line


def _scalar(text: str) -> str | None:
    text = text.strip()
    if text.startswith('"'):
        return str(json.loads(text))
    if text.startswith("'"):
        if len(text) < 2 or not text.endswith("'"):
            raise _Unreadable(f"the quote in {text} does not end")
        return text[1:-1].replace("''", "'")
    if text[:1] in ("&", "*", "!", "|", ">", "[", "{"):
        raise _Unreadable(f"{text!r} is more YAML than is understood here; write plain names and paths")
    return None if text in ("", "~", "null") else text


def _block(lines: Sequence[str]) -> Value:
    indents = {len(line) - len(line.lstrip()) for line in lines}
    if len(indents) > 1:
        raise _Unreadable("its lines are not equally indented")
    entries = [line.strip() for line in lines]
    if all(entry == "-" or entry.startswith("- ") for entry in entries):
        return [_scalar(entry[1:]) for entry in entries]
    pairs = [_KEY.match(entry) for entry in entries]
    mapping = {_scalar(pair[1]) or "": _scalar(pair[2] or "") for pair in pairs if pair}
    if len(mapping) < len(entries):
        raise _Unreadable("it is neither a list ('- name') nor a mapping ('0: name') with keys of their own")
    return mapping


def _flow(text: str) -> Value:
    """A list ``[a, b]`` or mapping ``{0: a, 1: b}`` on one or more lines."""
    tokens = _FLOW_TOKEN.findall(text)
    if (
        "".join(tokens).replace(" ", "") != re.sub(r"\s", "", text)
        or tokens[-1] != {"[": "]", "{": "}"}[tokens[0]]
    ):
        raise _Unreadable(f"{text!r} does not end as it began")
    entries: list[list[str]] = [[]]
    for token in tokens[1:-1]:
        if token in ("[", "]", "{", "}"):
            raise _Unreadable("lists within lists are not understood here")
        if token == ",":
            entries.append([])
        else:
            entries[-1].append(token)
    if not entries[-1]:
        entries.pop()
    if tokens[0] == "[":
        if any(len(entry) != 1 for entry in entries):
            raise _Unreadable(f"{text!r} is no list of names")
        return [_scalar(entry[0]) for entry in entries]
    if any(len(entry) != 3 or entry[1] != ":" for entry in entries):
        raise _Unreadable(f"{text!r} is no mapping of numbers to names")
    mapping = {_scalar(entry[0]) or "": _scalar(entry[2]) for entry in entries}
    if len(mapping) < len(entries):
        raise _Unreadable(f"{text!r} has a key twice")
    return mapping
