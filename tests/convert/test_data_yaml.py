"""Spellings of data.yaml found in the wild, and what is refused."""

from __future__ import annotations

import json
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import yaml
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
    description = DataYaml(TYPICAL, "data.yaml")
    assert list(description) == ["path", "train", "val", "names", "download"]
    assert description.names() == ["person", "traffic é # light: red", "driver's cab"]
    assert description.paths("path") == ["../datasets/coco8"]
    assert description.paths("train") == ["images/train"]
    assert description.paths("val") == ["images/val"]
    assert description.paths("test") == description.paths("absent") == []
    assert description.numbers("kpt_shape") == description.lists("kpt_names") == []


# Every text below describes the same data set as CONTENT.
NAMES = ["person", "traffic light", "no", "größe"]
CONTENT: dict[str, Any] = {
    "path": "../datasets/street",
    "train": "images/train",
    "val": "images/val",
    "nc": 4,
    "names": dict(enumerate(NAMES)),
}
AS_LIST = {**CONTENT, "names": NAMES}
HEAD = "path: ../datasets/street\ntrain: images/train\nval: images/val\n"
BLOCK = "names:\n  0: person\n  1: traffic light\n  2: no\n  3: größe\n"
FLOW = "names: [person, traffic light, no, größe]\n"
SPELLINGS: dict[str, str | bytes] = {
    # Ultralytics' own files
    "block mapping": HEAD + BLOCK,
    "comments": "# Ultralytics 🚀 AGPL\n# ├── x\n\n" + HEAD + "test:  # optional\n\n# Classes\n" + BLOCK,
    "comments after values": HEAD.replace("\n", "  # images\n") + BLOCK.replace("no\n", "no # Norway\n"),
    "download script": HEAD + BLOCK + "\ndownload: |\n  import os\n  x = {'names': [1]}\n  # done: [\n",
    "download address": HEAD + BLOCK + "download: https://example.com/street.zip\n",
    "nc before names": HEAD + "nc: 4  # number of classes\n" + FLOW,
    "flow list of quoted names": HEAD + "names: ['person', 'traffic light', 'no', 'größe']\n",
    "flow list in double quotes": HEAD + 'names: ["person", "traffic light", "no", "größe"]\n',
    "flow list over lines": HEAD + "names: [ 'person', 'traffic light',\n         'no', 'größe' ]  # names\n",
    "flow list with a last comma": HEAD + "names: [\n  person,\n  traffic light,\n  no,\n  größe,\n]\n",
    "pose": HEAD + "kpt_shape: [17, 3]\nflip_idx: [0, 2, 1]\n" + BLOCK,
    "names first": BLOCK + HEAD,
    "old style without path": HEAD + "nc: 4\n\nnames:\n- person\n- traffic light\n- no\n- größe\n",
    # Roboflow
    "roboflow": HEAD
    + "\nnc: 4\nnames: ['person', 'traffic light', 'no', 'größe']\n\nroboflow:\n  workspace: w\n"
    "  project: p-1\n  version: 3\n  license: CC BY 4.0\n  url: https://universe.roboflow.com/w/p-1/dataset/3\n",
    "roboflow with tags": HEAD + FLOW + "roboflow:\n  tags: [a, {b: c}]\n  more:\n    deep:\n    - 1\n",
    # CVAT, Label Studio, FiftyOne, Hugging Face
    "cvat": BLOCK + HEAD + "test: null\n",
    "label studio": HEAD + "nc: 4\n" + json.dumps({"names": NAMES}, ensure_ascii=False)[1:-1] + "\n",
    "document marks": "---\n" + HEAD + BLOCK + "...\n",
    "version directive": "%YAML 1.1\n---\n" + HEAD + BLOCK,
    "json": json.dumps(AS_LIST, ensure_ascii=False),
    "indented json with escapes": json.dumps({**AS_LIST, "emoji": "🚀"}, indent=4),
    # what yaml.dump writes
    "dump": yaml.dump(CONTENT),
    "dump unsorted": yaml.dump(CONTENT, sort_keys=False),
    "dump of a list": yaml.dump(AS_LIST, sort_keys=False),
    "dump with unicode": yaml.dump(AS_LIST, allow_unicode=True),
    "dump in flow style": yaml.dump(CONTENT, default_flow_style=True),
    "dump in mixed style": yaml.dump(AS_LIST, default_flow_style=None),
    "dump wrapped": yaml.dump(AS_LIST, width=12, default_flow_style=True),
    "dump all quoted": yaml.dump(CONTENT, default_style='"'),
    "dump all single quoted": yaml.dump(AS_LIST, default_style="'"),
    "dump indented": yaml.dump(AS_LIST, indent=6),
    "dump with marks": yaml.dump(CONTENT, explicit_start=True, explicit_end=True),
    "dump canonical": yaml.dump(AS_LIST, canonical=True),
    "dump of a shared list": yaml.dump({"classes": NAMES, **AS_LIST, "names": NAMES}),
    "dump with carriage returns": yaml.dump(AS_LIST, line_break="\r\n"),
    # edited by tools or by hand
    "byte order mark": b"\xef\xbb\xbf" + (HEAD + BLOCK).encode(),
    "windows line ends": (HEAD + BLOCK).replace("\n", "\r\n"),
    "utf-16": (HEAD + FLOW).encode("utf-16"),
    "no last line end": (HEAD + FLOW).rstrip(),
    "indented list": HEAD + "names:\n    - person\n    - 'traffic light'\n    - \"no\"\n    - größe\n",
    "escapes": HEAD + 'names: [person, "traffic\\x20light", no, "gr\\xf6\\u00dfe"]\n',
    "wrapped texts": HEAD + 'names:\n- person\n- traffic\n  light\n- no\n- "gr\\\n  öße"\n',
    "folded texts": HEAD + "names:\n- person\n- >-\n  traffic\n  light\n- |-\n  no\n- größe\n",
    "anchors": HEAD.replace("path:", "x: &x") + "path: *x\ny: &y" + FLOW[6:] + "names: *y\n",
    "quoted keys": HEAD.replace("val:", "'val' :") + BLOCK.replace("names:", '"names":'),
    "numbers in another order": HEAD + "names: {3: größe, 1: traffic light, 0: person, 2: no}\n",
    "blank lines and spaces": HEAD.replace("\n", "  \n\n") + BLOCK.replace("\n", "   \n"),
    "tags": HEAD + "names: !!seq [!!str person, traffic light, !!str no, größe]\n",
    "complex keys": HEAD + "? names\n: - person\n  - traffic light\n  - no\n  - größe\n",
    "empty splits": HEAD + FLOW + "test:\nminival: ~\n",
}  # fmt: skip


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_real_spellings_are_read_alike(tmp_path: Path, spelling: str) -> None:
    text = SPELLINGS[spelling]
    path = tmp_path / "data.yaml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    description = DataYaml.read(path)
    assert description.names() == NAMES
    assert description.paths("path") == ["../datasets/street"]
    assert description.paths("train") == ["images/train"]
    assert description.paths("val") == ["images/val"]
    assert description.paths("test") == description.paths("minival") == []


def test_there_are_forty_spellings_and_each_differs() -> None:
    assert len(set(map(str, SPELLINGS.values()))) == len(SPELLINGS) >= 40


@pytest.mark.parametrize(
    ("text", "paths"),
    [
        ("train: /data/street/images", ["/data/street/images"]),
        ("train: ../train/images", ["../train/images"]),
        ("train: C:\\data\\street", ["C:\\data\\street"]),
        ("train: 'C:\\data, all\\street #1'", ["C:\\data, all\\street #1"]),
        ("train: [images/a, images/b]", ["images/a", "images/b"]),
        ("train:\n- images/a\n- images/b # more", ["images/a", "images/b"]),
        ("train:  # 16551 images\n  - images/a\n  - images/b", ["images/a", "images/b"]),
        ("train: &all [images/a]\nval: *all", ["images/a"]),
        ("train: [images/a, null, ~, '']", ["images/a", ""]),
        ("train: 'null'", ["null"]),
        ("train: NULL", []),
        ("train: []", []),
        ("train: >-\n  images\n  of cats", ["images of cats"]),
        ("train: |\n  images/a\n", ["images/a"]),
        ("train: a folder with spaces and\n  a wrapped line", ["a folder with spaces and a wrapped line"]),
    ],
)
def test_paths(text: str, paths: list[str]) -> None:
    assert DataYaml(text, "x").paths("train") == paths


WORDS = [
    "yes",
    "no",
    "on",
    "Off",
    "true",
    "null",
    "~",
    "1",
    "007",
    "1.50",
    "1e3",
    "0x1F",
    "2024-01-01",
    "1:30",
]


@pytest.mark.parametrize("text", [f"names: [{', '.join(WORDS)}]", "names:\n- " + "\n- ".join(WORDS)])
def test_names_stay_as_written(text: str) -> None:
    assert DataYaml(text, "x").names() == WORDS


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("names: ['a', \"b\", c d]", ["a", "b", "c d"]),
        ("names: [ a,\n   'b, c',\n  d ]  # x", ["a", "b, c", "d"]),
        ("names:\n- a\n- 'b: c'\n", ["a", "b: c"]),
        ("names:\r\n  - a\r\n  - 'it''s'\r\n", ["a", "it's"]),
        ("names: {1: 'b: c', 0: a}", ["a", "b: c"]),
        ("---\n'names': [C:/x, a#b,]", ["C:/x", "a#b"]),
    ],
)
def test_forms_of_names(text: str, names: list[str]) -> None:
    assert DataYaml(text, "x").names() == names


@pytest.mark.parametrize(
    "text",
    [
        "kpt_shape: [2, 3]\nflip_idx: [1, 0]\nkpt_names:\n  0:\n  - nose\n  - no\n",
        "kpt_shape:\n- 2\n- 3\nflip_idx:\n- 1\n- 0\nkpt_names:\n- [nose, no]\n",
        "kpt_shape: ['2', \"3\"]\nflip_idx: [1,0]\nkpt_names: {'0': ['nose', 'no']}\n",
    ],
)
def test_keypoints(text: str) -> None:
    description = DataYaml(text, "x")
    assert description.numbers("kpt_shape") == [2, 3]
    assert description.numbers("flip_idx") == [1, 0]
    assert description.lists("kpt_names") == [["nose", "no"]]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("nc: 3", "x has no list of class names; add names"),
        ("names: null", "x has no list of class names"),
        ("names: []", "x has no list of class names"),
        ("names: a", "x has no list of class names"),
        ("names: {0: a, 2: b}", "x:1 must number the classes 0 to 1"),
        ("names: {a: 0, b: 1}", "x:1 must number the classes 0 to 1"),
        ("names: {0: a, 0: b}", "x:1 has the key '0' a second time"),
        ("names:\n  0: a\n  0: b", "x:3 has the key '0' a second time"),
        ("nc: 3\nnames: [a]\nnc: 4", "x:3 has the key 'nc' a second time; remove"),
        ("x: &x {names: [a]}\n<<: *x", "x:2 merges another mapping"),
        ("names: [a", "x:1 is not valid YAML: expected ',' or ']', but got '<stream end>'; check the quotes"),
        ("nc: 1\nnames: 'abc", "x:2 is not valid YAML: found unexpected end of stream; check the quotes"),
        ("names: [a, [b]]", "x:1 has a list where a string should be"),
        ("names: [a: b, c]", "x:1 has a mapping where a string should be; quote"),
        ("names:\n- traffic light: red", "x:2 has a mapping where a string should be; quote"),
        ("names:\n- a\n-\n", "x:3 has an empty name"),
        ("names: ['a', '']", "x:1 has an empty name"),
        ("names:\n  0: a\n   1: b", "x:3 is not valid YAML: mapping values are not allowed here"),
        ("names:\n\t- a", "x:2 is not valid YAML: .*cannot start any token"),
        ("names: *a", "x:1 is not valid YAML: found undefined alias"),
        ("names: [a]\n---\nnames: [b]", "x:2 is not valid YAML: but found another document"),
        ('names: ["C:\\data"]', "x:1 is not valid YAML: found unknown escape character 'd'"),
        (
            'names: [a]\n"\\q": 1',
            "x:2 is not valid YAML: found unknown escape character 'q'; check the quotes",
        ),
        ('"\\u12": 1', "x:1 is not valid YAML: expected escape sequence of 4 hexadecimal numbers"),
        ("? *a\n: 1", "x:1 is not valid YAML: found undefined alias 'a'"),
        ("? {a: b}\n: c", "x:1 has a mapping where a string should be"),
        ("names:\n- a\x07", "x:2 is not valid YAML: the character U.0007 is not allowed; remove it"),
        ('names: ["\\U00110000"]', "x:1 is not valid YAML: an escape is beyond Unicode"),
        ('names: ["\\ud83d"]', "x:1 has half a surrogate pair"),
        ("names: " + "[" * 1200, "x:1 is not valid YAML: values are nested too deeply"),
        ("? [a]\n: b", "x:1 has a list where a string should be"),
        ("just words", "x:1 is not 'key: value'; is this a data.yaml"),
        ("\n- a\n- b", "x:2 is not 'key: value'; is this a data.yaml"),
    ],
)
def test_what_cannot_be_read_is_reported(text: str, message: str) -> None:
    with pytest.raises(CtnetError, match=message) as caught:
        DataYaml(text, "x").names()
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("key: {a: b}", "x:1 is not a path or a list of paths"),
        ("key: [[a]]", "x:1 has a list where a string should be"),
        ("key: 3", "x:1 is not a list of integers"),
        ("key: [a]", "x:1 is not a list of integers"),
        ("key: [-1]", "x:1 is not a list of integers"),
        ("key: {0: a}", "x:1 is not a list of names"),
        ("key: a", "x:1 must number the classes"),
    ],
)
def test_values_of_another_kind_are_refused(text: str, message: str) -> None:
    description = DataYaml(text, "x")
    failures = []
    for read in (description.paths, description.numbers, description.lists):
        try:
            read("key")
        except CtnetError as error:
            failures.append(str(error))
    assert any(message in failure for failure in failures), failures


def test_a_bomb_of_aliases_costs_nothing() -> None:
    levels = "\n".join(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 40))
    start = time.perf_counter()
    description = DataYaml(f"a0: &a0 [lol]\n{levels}\nnames: *a39\ntrain: *a39\nself: &s [*s]", "x")
    with pytest.raises(CtnetError, match="has a list where a string should be"):
        description.names()
    with pytest.raises(CtnetError, match="has a list where a string should be"):
        description.paths("self")
    assert time.perf_counter() - start < 5


def test_files_that_cannot_be_a_data_yaml(tmp_path: Path) -> None:
    path = tmp_path / "data.yaml"
    with pytest.raises(CtnetError, match=r"cannot read .*data\.yaml"):
        DataYaml.read(path)
    path.write_bytes(b"names: [gr\xf6sse]")
    with pytest.raises(CtnetError, match="save it as UTF-8"):
        DataYaml.read(path)
    path.write_bytes(b"names: [a]\n" + b"# x\n" * (1 << 18))
    with pytest.raises(CtnetError, match="larger than 1 MB"):
        DataYaml.read(path)
    path.write_bytes(b"")
    assert list(DataYaml.read(path)) == []


@settings(max_examples=200, deadline=None)
@given(st.text(alphabet="ab01:[]{}-?&*!|>'\"%#@,~ \n\t\\\ufeff\x00", max_size=40))
def test_any_text_is_read_or_refused(text: str) -> None:
    def read() -> None:
        description = DataYaml(text, "x")
        for key in description:
            description.paths(key)
        description.names()

    with suppress(CtnetError):
        read()


@settings(max_examples=60, deadline=None)
@given(st.lists(st.text(st.characters(exclude_categories=("Cs",)), min_size=1), min_size=1, max_size=4))
@example(
    ["a b", "ü # : '\"\\", "[x]", "- y", "null", "1", "\u2028 a", "\x85", "😀", " pad ", "\t", "yes", "<<"]
)
def test_names_survive_writing_and_reading(names: list[str]) -> None:
    text = write_data_yaml({"train": "images/train"}, names)
    description = DataYaml(text, "x")
    assert description.names() == names
    assert description.paths("train") == ["images/train"]
    assert yaml.safe_load(text) == {"train": "images/train", "names": dict(enumerate(names))}
