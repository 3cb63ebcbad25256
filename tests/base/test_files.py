from __future__ import annotations

import os
import re
import stat
import time
import zipfile
from pathlib import Path

import pytest

from ctnet.base.errors import CtnetError
from ctnet.base.files import (
    atomic_write,
    is_file,
    is_plain_archive,
    read_bytes,
    read_json,
    read_text,
    require_regular,
    write_json,
)


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


# --- what is not a plain file


def test_a_device_stays_one(tmp_path: Path) -> None:
    link = tmp_path / "nothing"
    link.symlink_to(os.devnull)
    for path in (Path(os.devnull), link):
        write_json(path, {"a": 1})
        assert stat.S_ISCHR(os.stat(path).st_mode)
    assert link.is_symlink()
    assert os.listdir(tmp_path) == ["nothing"]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="Linux has a device that is always full")
def test_a_full_device_is_one_line() -> None:
    with pytest.raises(CtnetError, match="cannot write /dev/full: No space left"):
        write_json("/dev/full", 1)


def test_a_pipe_gets_the_content(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    with pytest.raises(CtnetError, match="nobody reads this pipe"):
        write_json(pipe, 1)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    write_json(pipe, {"a": 1})
    assert os.read(reader, 100) == b'{\n  "a": 1\n}\n'
    os.close(reader)
    assert stat.S_ISFIFO(os.stat(pipe).st_mode)
    with (
        pytest.raises(CtnetError, match="it is a named pipe; name a file"),
        atomic_write(pipe, seekable=True),
    ):
        pass


def test_a_link_stays_one_and_its_file_is_written(tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    link, target = tmp_path / "last", tmp_path / "disk" / "real"
    link.symlink_to(target)
    for value in (1, 2):  # a link that leads nowhere yet, and one to a file
        write_json(link, value)
        assert link.is_symlink()
        assert read_json(target) == value
    assert os.listdir(tmp_path / "disk") == ["real"]


def test_a_folder_is_not_written(tmp_path: Path) -> None:
    with pytest.raises(CtnetError, match="it is a folder; name a file"):
        write_json(tmp_path, 1)


def test_names_as_long_as_the_file_system_allows(tmp_path: Path) -> None:
    path = tmp_path / ("ü" * 125 + ".json")
    write_json(path, 1)
    assert read_json(path) == 1
    with pytest.raises(CtnetError, match="File name too long"):
        write_json(tmp_path / ("ü" * 130), 1)


@pytest.mark.parametrize("name", ["half \ud800", "nought \0"])
def test_names_that_no_file_system_holds(tmp_path: Path, name: str) -> None:
    with pytest.raises(CtnetError, match="cannot write"):
        write_json(tmp_path / name, 1)
    with pytest.raises(CtnetError, match="cannot read"):
        read_json(tmp_path / name)
    assert not is_file(tmp_path / name)


@pytest.mark.parametrize("read", [read_json, read_text, read_bytes, require_regular])
def test_what_could_be_read_without_end_is_refused(tmp_path: Path, read) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path, kind in (
        (tmp_path / "pipe", "a named pipe"),
        (Path("/dev/zero"), "a device"),
        (tmp_path, "a folder"),
    ):
        with pytest.raises(CtnetError, match=f"cannot read {path}: it is {kind}; give a regular file"):
            read(path)
    assert not is_file(tmp_path / "pipe")


def test_a_file_beyond_the_limit_is_refused(tmp_path: Path) -> None:
    with open(tmp_path / "sparse", "wb") as stream:
        stream.truncate(1 << 40)
    with pytest.raises(CtnetError, match="has 1099511627776 bytes; the limit is"):
        read_text(tmp_path / "sparse")


def test_an_unpaired_surrogate_cannot_be_written_as_text(tmp_path: Path) -> None:
    with (
        pytest.raises(CtnetError, match=r"cannot write .*a.txt: unpaired surrogate in 'name: \\ud800'"),
        atomic_write(tmp_path / "a.txt", "w") as stream,
    ):
        stream.write("name: \ud800")
    assert not list(tmp_path.iterdir())


def test_json_of_names_that_are_not_utf_8(tmp_path: Path) -> None:
    name = os.fsdecode(b"caf\xe9.png")
    write_json(tmp_path / "a.json", [name, "é", "\ud800"])
    assert read_json(tmp_path / "a.json") == [name, "é", "\ud800"]
    assert (tmp_path / "a.json").read_bytes().decode("utf-8")


def test_archives_that_hold_more_than_they_have(tmp_path: Path) -> None:
    for name, method in (("plain", zipfile.ZIP_STORED), ("bomb", zipfile.ZIP_DEFLATED)):
        with zipfile.ZipFile(tmp_path / name, "w", method) as archive:
            archive.writestr("data", b"\0" * 1_000_000)
    assert is_plain_archive(tmp_path / "plain")
    assert not is_plain_archive(tmp_path / "bomb")
    with open(tmp_path / "bomb", "rb") as stream:
        assert not is_plain_archive(stream)


def test_a_key_twice_among_very_many_is_found_at_once(tmp_path: Path) -> None:
    keys = [*map(str, range(200_000)), "199999"]
    (tmp_path / "r.json").write_text("{" + ", ".join(f'"{key}": 0' for key in keys) + "}")
    started = time.process_time()
    with pytest.raises(CtnetError, match="the key '199999' twice"):
        read_json(tmp_path / "r.json")
    assert time.process_time() - started < 10  # hours, where each key is counted


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[" * 100_000 + "]" * 100_000, r"r\.json holds values nested too deeply; write it again"),
        ("[" + "9" * 5000 + "]", r"r\.json is not valid JSON \(a number of thousands of digits\)"),
        ('[{"a": 1, "b": 2, "a": 3}]', r"r\.json has an object with the key 'a' twice; keep one of them"),
    ],
)
def test_json_that_python_reads_badly_or_not_at_all(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "r.json").write_text(text)
    with pytest.raises(CtnetError, match=message):
        read_json(tmp_path / "r.json")
