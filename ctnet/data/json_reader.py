"""Reading a large JSON file value by value, with the byte range of each, in little memory."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from typing import Any

from ctnet.base.errors import CtnetError
from ctnet.base.files import RepeatedKey, unique_keys

CHUNK = 1 << 20
"""Bytes read at a time."""

_SPACES = " \t\n\r"
_SPACE = re.compile(f"[{_SPACES}]*")
_CUT_OFF = re.compile(r"[-+.\\\w]*\s*\Z")
_MAY_GO_ON = re.compile(r"[-+.eE0-9]*\Z")  # a number at the end of what has been read
_KEY = re.compile(r'"[ \t\n\r]*:')
_LONG_LIST = re.compile(r"\[\[[-+.0-9eE, \t\r\n]{60,}\]")


class JsonReader:
    """Parses one JSON document step by step.

    The text is held as latin-1, where a character is a byte: positions in it are then offsets in the
    file. Values with other characters are decoded again, as UTF-8.

    Args:
        chunks: the file's bytes, in pieces of any size.
        source: the file's name, for messages.
    """

    def __init__(self, chunks: Iterable[bytes], source: object) -> None:
        self._chunks = iter(chunks)
        self._source = source
        self._decode = json.JSONDecoder().raw_decode
        self._plain = ""  # what has been read and not yet parsed
        self._text = ""  # the same, without the long lists that are skipped
        self._position = 0  # in both
        self._base = 0  # offset of self._text in the file
        self._place = "the document"
        self._count = 0
        self._skim = False
        self._more()
        if self._text.startswith("\xef\xbb\xbf"):  # a UTF-8 byte order mark
            self._position = 3

    def peek(self) -> str:
        """The next character that is not whitespace; empty at the end."""
        while True:
            character = self._text[self._position : self._position + 1]
            if character and character not in _SPACES:
                return character  # most often
            self._position = _SPACE.match(self._text, self._position).end()  # type: ignore[union-attr]
            if self._position < len(self._text):
                return self._text[self._position]
            if not self._more():
                return ""

    def value(self) -> tuple[Any, int, int]:
        """The next value of any type, and its byte range in the file (first, last plus one)."""
        self.peek()
        chunks = 1
        while True:
            try:
                value, end = self._decode(self._text, self._position)
            except (json.JSONDecodeError, RecursionError) as error:
                if not self._more(chunks):
                    raise self._broken(error) from None
                chunks *= 2  # a value of many chunks is not parsed again for each
                continue
            except ValueError:
                raise self._invalid("a number of thousands of digits") from None
            whole = value.__class__ in (dict, list) or not _MAY_GO_ON.match(self._text, end)
            if whole or not self._more():
                return self._finish(value, end)

    def entries(self) -> Iterator[str]:
        """The keys of the next object. The caller reads each value before asking for the next key."""
        self._take("{")
        if self.peek() == "}":
            self._take("}")
            return
        seen = set()
        while True:
            key, _, _ = self.value()
            if not isinstance(key, str):
                raise self._invalid("a key that is not a string")
            if key in seen:
                raise self._invalid(f"the key {key!r} a second time; keep one of them")
            seen.add(key)
            self._take(":")
            yield key
            self._place, self._skim, self._text = "the document", False, self._plain
            if self._take(",}") == "}":
                return

    def items(self, noun: str, skim: bool = False) -> Iterator[tuple[Any, int, int]]:
        """The elements of the next array with their byte ranges.

        Args:
            noun: name of an element, for messages.
            skim: read long lists of numbers inside lists (polygons) as empty ones, in a third of the time.
        """
        self._place, self._count, self._skim = noun, 1, skim
        self._take("[")
        if self.peek() == "]":
            self._take("]")
            return
        while True:
            yield self.value()
            self._count += 1
            if self._take(",]") == "]":
                return

    def repeated_key(self, value: dict[str, Any], start: int, end: int) -> str | None:
        """A key that an object has twice, itself or an object in it; ``value`` holds only the second.

        Args:
            value, start, end: the object, which must be the last value that was read.
        """
        first, last = start - self._base, end - self._base
        # Nearly every record ends here: a colon for each key.
        if self._text.count(":", first, last) == len(value):
            return None
        keys = len(value) + sum(len(part) for part in value.values() if isinstance(part, dict))
        if len(_KEY.findall(self._text, first, last)) == keys:
            return None
        try:
            return repeated_key(self._text[first:last].encode("latin-1"))
        except RecursionError:
            raise self._invalid("values nested too deeply") from None

    def end(self) -> None:
        """Refuse anything after the document."""
        if self.peek():
            raise self._invalid("text after the end of the document")

    def _take(self, expected: str) -> str:
        character = self.peek()
        if not character:
            raise self._cut_short()
        if character not in expected:
            raise self._invalid(f"{character!r} where {' or '.join(expected)} should be")
        self._position += 1
        return character

    def _finish(self, value: Any, end: int) -> tuple[Any, int, int]:
        start = self._position
        self._position = end
        if not self._text.isascii() and not (part := self._text[start:end]).isascii():  # the first is instant
            try:
                value = json.loads(part.encode("latin-1").decode("utf-8"))
            except UnicodeDecodeError:
                self._position = start
                raise self._invalid("text that is not UTF-8") from None
        return value, self._base + start, self._base + end

    def _more(self, chunks: int = 1) -> bool:
        """Read more, dropping what has been parsed; False at the end of the file."""
        read = [chunk for _, chunk in zip(range(chunks), self._chunks, strict=False)]
        if not read:
            return False
        self._plain = self._plain[self._position :] + b"".join(read).decode("latin-1")
        self._text = _LONG_LIST.sub(_blank, self._plain) if self._skim else self._plain
        self._base += self._position
        self._position = 0
        return True

    def _broken(self, error: json.JSONDecodeError | RecursionError) -> CtnetError:
        if isinstance(error, RecursionError):
            return self._invalid("values nested too deeply")
        if error.msg.startswith("Unterminated string") or _CUT_OFF.match(self._text, error.pos):
            return self._cut_short()
        self._position = error.pos
        return self._invalid(error.msg[0].lower() + error.msg[1:])

    def _cut_short(self) -> CtnetError:
        size = self._base + len(self._text)
        return CtnetError(
            f"{self._source} ends in the middle of {self._where()} at byte {size}; was it cut short?"
        )

    def _invalid(self, reason: str) -> CtnetError:
        byte = self._base + self._position
        return CtnetError(f"{self._source} is not valid JSON in {self._where()} at byte {byte}: {reason}")

    def _where(self) -> str:
        return self._place if self._place == "the document" else f"{self._place} {self._count}"


def repeated_key(document: bytes) -> str | None:
    """The first key that an object of a JSON document has twice."""
    try:
        json.loads(document, object_pairs_hook=unique_keys)
    except RepeatedKey as error:
        return error.key
    return None


def _blank(numbers: re.Match[str]) -> str:
    """Keeps the number of characters, so that positions stay valid."""
    return "[[" + " " * (len(numbers[0]) - 3) + "]"
