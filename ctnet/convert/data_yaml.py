"""The few keys of an Ultralytics ``data.yaml``, read and written.

Only known keys are read; nothing in the file (tags, download scripts) is ever executed. Every value is kept
as a string: a class called ``no`` or ``1`` keeps its name.
"""

from __future__ import annotations

import codecs
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from ctnet.base.errors import CtnetError, os_error
from ctnet.base.files import require_regular
from ctnet.base.numbers import whole_number

_LARGEST = 1 << 20  # bytes; the names of 1203 classes take 20 thousand
_MISSING = ("", "~", "null", "Null", "NULL")
_UTF16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)


class DataYaml:
    """The top-level keys of a file; values are checked on access.

    A key without a value (``test:``, ``test: null``) counts as absent.

    Args:
        text: the file's content.
        where: the file, for messages.

    Raises:
        CtnetError: when it is not YAML or its top level is not a mapping.
    """

    def __init__(self, text: str, where: str | Path) -> None:
        self.where = where
        top = _compose(text, where)
        if top is not None and not isinstance(top, yaml.MappingNode):
            raise self._error(top, "is not 'key: value'; is this a data.yaml?")
        self._values = {key: value for key, value in self._pairs(top) if not _missing(value)} if top else {}

    @classmethod
    def read(cls, path: Path) -> DataYaml:
        """Open a file.

        Raises:
            CtnetError: when it cannot be read.
        """
        require_regular(path)
        try:
            with open(path, "rb") as stream:
                data = stream.read(_LARGEST + 1)
            if len(data) > _LARGEST:
                raise CtnetError(f"{path} is larger than {_LARGEST >> 20} MB; is this a data.yaml?")
            return cls(data.decode("utf-16" if data.startswith(_UTF16) else "utf-8-sig"), path)
        except OSError as error:
            raise os_error(error, "read", path) from error
        except UnicodeDecodeError as error:
            raise CtnetError(f"{path} is not a text file in UTF-8 ({error}); save it as UTF-8") from error

    def __iter__(self) -> Iterator[str]:
        """The top-level keys that have a value, in the order of the file."""
        return iter(self._values)

    def names(self) -> list[str]:
        """The class names, from a list or from a mapping of 0, 1, 2, ... to names.

        Raises:
            CtnetError: when there are none or the mapping has gaps.
        """
        node = self._values.get("names")
        if node is None or isinstance(node, yaml.ScalarNode) or not node.value:
            raise CtnetError(
                f"{self.where} has no list of class names; add names: [...] or give --names FILE"
            )
        return self._names(self._numbered("names", node))

    def lists(self, key: str) -> list[list[str]]:
        """The value of a key that maps 0, 1, 2, ... to lists of strings; empty where there is none.

        Raises:
            CtnetError: when it is anything else.
        """
        node = self._values.get(key)
        if node is None:
            return []
        lists = self._numbered(key, node)
        for entry in lists:
            if not isinstance(entry, yaml.SequenceNode):
                raise self._error(entry, f"is not a list of names; write {key} as 0: [name, ...]")
        return [self._names(entry.value) for entry in lists]

    def paths(self, key: str) -> list[str]:
        """The value of a key that holds one path or several; empty where there is none.

        Raises:
            CtnetError: when it is anything else.
        """
        node = self._values.get(key)
        if node is None:
            return []
        if isinstance(node, yaml.MappingNode):
            raise self._error(node, f"is not a path or a list of paths; write {key} as a path")
        entries = node.value if isinstance(node, yaml.SequenceNode) else [node]
        return [self._text(entry).strip() for entry in entries if not _missing(entry)]

    def numbers(self, key: str) -> list[int]:
        """The value of a key that holds a list of integers from 0; empty where there is none.

        Raises:
            CtnetError: when it is anything else.
        """
        node = self._values.get(key)
        if node is None:
            return []
        texts = [self._text(entry) for entry in node.value] if isinstance(node, yaml.SequenceNode) else [""]
        numbers = [whole_number(text) for text in texts]
        if None in numbers:
            raise self._error(node, f"is not a list of integers; write {key} as [0, 1, ...]")
        return [number for number in numbers if number is not None]

    def _names(self, nodes: Sequence[yaml.Node]) -> list[str]:
        names = [self._text(node) for node in nodes]
        if "" in names:
            raise self._error(nodes[names.index("")], "has an empty name; write one")
        return names

    def _numbered(self, key: str, node: yaml.Node) -> list[yaml.Node]:
        """The entries of a list, or of a mapping of 0, 1, 2, ..., in the order of their numbers."""
        if isinstance(node, yaml.SequenceNode):
            return list(node.value)
        entries = self._pairs(node) if isinstance(node, yaml.MappingNode) else []
        wanted = [str(number) for number in range(len(entries))]
        by_number = dict(entries)
        if not entries or sorted(by_number) != sorted(wanted):
            raise self._error(
                node, f"must number the classes 0 to {max(len(entries) - 1, 0)} without gaps under {key}"
            )
        return [by_number[number] for number in wanted]

    def _pairs(self, node: yaml.MappingNode) -> list[tuple[str, yaml.Node]]:
        pairs = [(self._text(key), value) for key, value in node.value]
        seen: set[str] = set()
        for (text, _), (key, _) in zip(pairs, node.value, strict=True):
            if text in seen:
                raise self._error(key, f"has the key {text!r} a second time; remove one of them")
            if text == "<<":
                raise self._error(key, "merges another mapping (<<); write its keys out")
            seen.add(text)
        return pairs

    def _text(self, node: yaml.Node) -> str:
        if not isinstance(node, yaml.ScalarNode):
            kind = "a list" if isinstance(node, yaml.SequenceNode) else "a mapping"
            raise self._error(node, f"has {kind} where a string should be; quote strings with ': ' or '['")
        try:
            return str(node.value).encode("utf-16", "surrogatepass").decode("utf-16")  # JSON's \ud83d\ude00
        except UnicodeDecodeError:
            raise self._error(node, "has half a surrogate pair (\\ud800 to \\udfff); remove it") from None

    def _error(self, node: yaml.Node, reason: str) -> CtnetError:
        return CtnetError(f"{self.where}:{node.start_mark.line + 1} {reason}")


def write_data_yaml(
    splits: Mapping[str, str], names: Sequence[str], more: Mapping[str, Any] | None = None
) -> str:
    """The content of a ``data.yaml``.

    The file has no ``path``, so readers use its own folder as the root.

    Args:
        splits: key -> path.
        names: the names of the classes, in the order of their numbers.
        more: further keys and their values.
    """
    content = {**splits, "names": dict(enumerate(names)), **(more or {})}
    # PyYAML does not preserve YAML's special line breaks unless it escapes everything that is not ASCII.
    plain = not any(sign in name for name in names for sign in "\x85\u2028\u2029")
    return str(yaml.safe_dump(content, allow_unicode=plain, sort_keys=False, width=float("inf")))


def _compose(text: str, where: str | Path) -> yaml.Node | None:
    try:
        return yaml.compose(text, Loader=yaml.BaseLoader)
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        reason = f"the character U+{error.character:04X} is not allowed; remove it"
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = mark.line + 1 if mark else 1
        reason = f"{error.problem or error.context}; check the quotes, brackets and indentation there"
    except (ValueError, OverflowError):  # PyYAML does not catch the error of chr()
        line, reason = 1, "an escape is beyond Unicode (U+10FFFF); correct it"
    except RecursionError:
        line, reason = 1, "values are nested too deeply; a data.yaml needs three levels"
    raise CtnetError(f"{where}:{line} is not valid YAML: {reason}")


def _missing(node: yaml.Node) -> bool:
    """A plain ``null``; the same in quotes is a string."""
    return isinstance(node, yaml.ScalarNode) and node.style is None and node.value in _MISSING
