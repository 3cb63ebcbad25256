"""The subset of YAML that data.yaml files need."""

from __future__ import annotations

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from ctnet.base.errors import CtnetError
from ctnet.convert.data_yaml import DataYaml, write_data_yaml

TYPICAL = """\
# COCO8
path: ../datasets/coco8 # root
train: images/train # relative to 'path'
val: 'images/val'
test: # none

names:
  0: person
  1: "traffic \\u00e9 # light: red"
  2: driver's cab
download: |
  from x import y
  print("names: []")
"""


def test_a_typical_file() -> None:
    yaml = DataYaml(TYPICAL, "data.yaml")
    assert list(yaml) == ["path", "train", "val", "test", "names", "download"]
    assert yaml.names() == ["person", "traffic é # light: red", "driver's cab"]
    assert yaml.paths("path") == ["../datasets/coco8"]
    assert yaml.paths("train") == ["images/train"]
    assert yaml.paths("val") == ["images/val"]
    assert yaml.paths("test") == yaml.paths("absent") == []


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("names: ['a', \"b\", c d]", ["a", "b", "c d"]),
        ("names: [ a,\n   'b, c',\n  d ]  # x", ["a", "b, c", "d"]),
        ("names:\n- a\n- b: c\n", ["a", "b: c"]),
        ("names:\r\n  - a\r\n  - 'it''s'\r\n", ["a", "it's"]),
        ("names: {1: 'b: c', 0: a}", ["a", "b: c"]),
        ("---\n'names': [C:/x, a#b,]", ["C:/x", "a#b"]),
    ],
)
def test_forms_of_names(text: str, names: list[str]) -> None:
    assert DataYaml(text, "x").names() == names


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("nc: 3", "no list of class names"),
        ("names: []", "no list of class names"),
        ("names: a", "no list of class names"),
        ("names: {0: a, 2: b}", "number the classes 0 to 1"),
        ("names: {0: a, 0: b}", "has a key twice"),
        ("names: [a", "does not end"),
        ("names: 'abc", "does not end"),
        ("names: [a, [b]]", "lists within lists"),
        ("names: [a: b, c]", "no list of names"),
        ("names: &x [a]", "more YAML than is understood"),
        ("names:\n  0: a\n   1: b", "equally indented"),
        ("names:\n  0: a\n  0: b", "keys of their own"),
        ("just words", "x:1 is not 'key: value'"),
    ],
)
def test_what_cannot_be_read_is_said(text: str, message: str) -> None:
    with pytest.raises(CtnetError, match=message):
        DataYaml(text, "x").names()


@settings(max_examples=60, deadline=None)
@given(st.lists(st.text(st.characters(exclude_categories=("Cs",)), min_size=1), min_size=1, max_size=4))
@example(["a b", "ü # : '\"\\", "[x]", "- y", "null", "1", "\u2028 a", "\x85", "😀", " pad ", "\t"])
def test_names_survive_writing_and_reading(names: list[str]) -> None:
    yaml = DataYaml(write_data_yaml({"train": "images/train"}, names), "x")
    assert yaml.names() == names
    assert yaml.paths("train") == ["images/train"]
