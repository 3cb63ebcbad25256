from __future__ import annotations

import json

import pytest

from ctnet.base.errors import CtnetError
from ctnet.data.json_reader import JsonReader

TEXT = """ {"whole": 1234, "real": -1.5e+3, "small": 12E-2, "words": [true, false, null, NaN, -Infinity],
 "text": "ü\\u00fc\\\\\\" 12", "list": [ ], "object": {}, "deep": [[{"a": [1, 2.5]}], []], "last":-0.25}
"""


@pytest.mark.parametrize("chunk", range(1, 40))
def test_values_and_their_bytes_wherever_the_pieces_end(chunk: int) -> None:
    data = TEXT.encode()
    reader = JsonReader((data[start : start + chunk] for start in range(0, len(data), chunk)), "file")
    found = {}
    for key in reader.entries():
        value, start, end = reader.value()
        assert repr(json.loads(data[start:end])) == repr(value)
        found[key] = value
    reader.end()
    assert repr(found) == repr(json.loads(TEXT))


def read_items(text: str, skim: bool) -> list[tuple[object, bytes]]:
    data = text.encode()
    items = JsonReader([data[:9], data[9:]], "file").items("entry", skim)
    return [(value, data[start:end]) for value, start, end in items]


def test_skimming_drops_long_lists_within_lists_alone() -> None:
    """Only their numbers are dropped: positions and everything else stay."""
    entry = {"polygon": [[0.5] * 40, [1.5] * 40], "long": list(range(60)), "short": [[1, 2]], "id": 3}
    text = json.dumps([entry, entry])
    assert [value for value, _ in read_items(text, skim=False)] == [entry, entry]
    skimmed = {**entry, "polygon": [[], [1.5] * 40]}
    assert [value for value, _ in read_items(text, skim=True)] == [skimmed, skimmed]
    assert [json.loads(part) for _, part in read_items(text, skim=True)] == [entry, entry]


@pytest.mark.parametrize("chunk", range(100, 2000, 100))
def test_what_follows_a_skimmed_list_is_read_whole(chunk: int) -> None:
    """A piece of the file that begins among the annotations may reach into the categories."""
    numbers = [[0.5] * 40, [1.5] * 40]
    document = {
        "annotations": [{"polygon": numbers}] * 4,
        "categories": [{"skeleton": numbers}],
        "x": numbers,
    }
    data = json.dumps(document).encode()
    reader = JsonReader((data[start : start + chunk] for start in range(0, len(data), chunk)), "file")
    found = {}
    for key in reader.entries():
        found[key] = [value for value, _, _ in reader.items("entry", skim=key == "annotations")]
    assert found["categories"] == document["categories"]
    assert found["x"] == numbers


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ('{"a": 1, "b": 2}', None),
        ('{"a": ":", "b": "\\": 2", "c": "http://x:1"}', None),
        ('{"a": {"b": 1}, "b": {"a": [{"a": 1}, {"a": 2}]}}', None),
        ('{"a": 1, "b": 2, "a": 1}', "a"),
        ('{"a" : 1, "b"\n:2, "a"\t: 1}', "a"),
        ('{"a": 1, "\\u0061": 2}', "a"),
        ('{"a": {"b": 1, "c": ":", "b": 2}}', "b"),
        ('{"a": [[{"b": 1}, {"b": 1, "b": 2}]]}', "b"),
        ('{"x": {"a": 1, "a": {"b": 1, "c": 2}}}', "a"),
        ('{"a": 1, "a": {"b": 1}, "c": "http://x"}', "a"),
        ('{"ü": 1, "é": 1, "ü": 2}', "ü"),
        ('{"": 1, "": 2}', ""),
    ],
)
@pytest.mark.parametrize("chunk", [3, 1000])
def test_a_key_that_an_object_has_twice(text: str, key: str | None, chunk: int) -> None:
    data = f"[0, {text}, 1]".encode()
    reader = JsonReader((data[start : start + chunk] for start in range(0, len(data), chunk)), "file")
    found = [reader.repeated_key(*item) for item in reader.items("entry") if isinstance(item[0], dict)]
    assert found == [key]


@pytest.mark.parametrize("text", ["[1, 2", "[1,", "[", "", "[1, tru", '[1, "tr', "[1, -"])
def test_cut_short(text: str) -> None:
    with pytest.raises(
        CtnetError, match=rf"file ends in the middle of entry \d at byte {len(text)}; was it cut"
    ):
        read_items(text, skim=True)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[1 2]", "in entry 2 at byte 3: '2' where , or ] should be"),
        ("[1,]", "in entry 2 at byte 3: expecting"),
        (f"[1, {'9' * 5000}]", "in entry 2 at byte 4: a number of thousands of digits"),
        (f"[{'[' * 100_000}{']' * 100_000}]", "in entry 1 at byte 1: values nested too deeply"),
    ],
)
def test_invalid(text: str, message: str) -> None:
    with pytest.raises(CtnetError, match=f"file is not valid JSON {message}"):
        read_items(text, skim=False)
