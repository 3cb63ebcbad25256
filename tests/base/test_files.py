from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

from ctnet.base.errors import CtnetError
from ctnet.base.files import atomic_write, read_json, write_json


def test_json_round_trip_makes_folders(tmp_path: Path) -> None:
    value = {"a": [1, 2.5, None, "ü"], "b": {}}
    write_json(tmp_path / "deep" / "er" / "a.json", value)
    assert read_json(tmp_path / "deep" / "er" / "a.json") == value
    assert "ü" in (tmp_path / "deep" / "er" / "a.json").read_text(encoding="utf-8")


def test_json_refuses_what_others_cannot_read(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(tmp_path / "a.json", [float("nan")])
    assert not list(tmp_path.iterdir())


def test_the_new_file_appears_only_when_whole(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("old")
    with atomic_write(path, "w") as stream:
        stream.write("new")
        stream.flush()
        assert path.read_text() == "old"
    assert path.read_text() == "new"


@pytest.mark.parametrize("error", [RuntimeError("x"), KeyboardInterrupt(), CtnetError("y")])
def test_a_failure_leaves_the_old_file_and_no_litter(tmp_path: Path, error: BaseException) -> None:
    path = tmp_path / "a.txt"
    path.write_text("old")

    def write_half() -> None:
        with atomic_write(path, "w") as stream:
            stream.write("half")
            raise error

    with pytest.raises(type(error)):
        write_half()
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["a.txt"]


def test_a_full_disk_is_one_line(tmp_path: Path) -> None:
    with (
        pytest.raises(CtnetError, match=re.escape(f"cannot write {tmp_path / 'a'}: No space left on device")),
        atomic_write(tmp_path / "a"),
    ):
        raise OSError(28, "No space left on device")
    assert not list(tmp_path.iterdir())


def test_a_failing_rename_leaves_the_old_file(tmp_path: Path, monkeypatch) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"old")

    def refuse(source: str, target: str) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "replace", refuse)
    with pytest.raises(CtnetError, match="Operation not permitted"), atomic_write(path) as stream:
        stream.write(b"new")
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["a"]


def test_an_impossible_folder_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(CtnetError, match=r"cannot write .*file/a\.json: "):
        write_json(tmp_path / "file" / "a.json", 1)


def test_usual_permissions(tmp_path: Path) -> None:
    (tmp_path / "usual").write_text("")
    write_json(tmp_path / "ours", 1)
    assert (tmp_path / "ours").stat().st_mode == (tmp_path / "usual").stat().st_mode


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b'{"a": [1, 2', "is not valid JSON .*was it cut short"),
        (b"", "is not valid JSON"),
        (b"\xff\xfe\x00", "is not valid JSON"),
    ],
)
def test_broken_json_is_named(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "a.json").write_bytes(content)
    with pytest.raises(CtnetError, match=rf"a\.json {message}"):
        read_json(tmp_path / "a.json")


def test_missing_json_is_named(tmp_path: Path) -> None:
    with pytest.raises(CtnetError, match=r"cannot read .*gone\.json: No such file"):
        read_json(tmp_path / "gone.json")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[" * 100_000 + "]" * 100_000, r"r\.json holds values nested too deeply; write it anew"),
        ("[" + "9" * 5000 + "]", r"r\.json is not valid JSON \(a number of thousands of digits\)"),
        ('[{"a": 1, "b": 2, "a": 3}]', r"r\.json has an object with the key 'a' twice; leave one of them"),
    ],
)
def test_json_that_python_reads_badly_or_not_at_all(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "r.json").write_text(text)
    with pytest.raises(CtnetError, match=message):
        read_json(tmp_path / "r.json")
