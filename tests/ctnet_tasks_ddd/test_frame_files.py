"""One text file per frame, in a folder or a zip."""

from __future__ import annotations

import zipfile
from pathlib import Path

import pytest

from ctnet.base.errors import CtnetError
from ctnet_tasks_ddd.frame_files import FrameFiles


def make_zip(path: Path, members: dict[str, str | bytes]) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for name, text in members.items():
            archive.writestr(name, text)
    return path


def test_a_folder_its_named_folder_and_zips_read_alike(tmp_path: Path) -> None:
    top, nested = tmp_path / "top", tmp_path / "nested" / "data"
    for folder in (top, nested):
        folder.mkdir(parents=True)
        (folder / "000002.txt").write_text("two\n")
        (folder / "000010.txt").write_text("ten\n")
        (folder / "notes.txt").write_text("no frame")
    flat = make_zip(tmp_path / "a.zip", {"000010.txt": "ten\n", "000002.txt": "two\n"})
    several = {"x/data/000010.txt": "ten\n", "x/data/000002.txt": "two\n", "x/plot/000002.txt": "no"}
    for source in (top, tmp_path / "nested", flat, make_zip(tmp_path / "b.zip", several)):
        files = FrameFiles(source, ("data",))
        assert files.names == ("000002", "000010")
        assert [files.read(name) for name in files.names] == ["two\n", "ten\n"]
        assert files.where("000002").endswith("000002.txt")


def test_mistakes(tmp_path: Path) -> None:
    with pytest.raises(CtnetError, match=r"cannot read .*nowhere: No such file"):
        FrameFiles(tmp_path / "nowhere")
    with pytest.raises(
        CtnetError, match=r"has no text files, one per frame .* neither at its top nor in data"
    ):
        FrameFiles(tmp_path, ("data",))
    (tmp_path / "text").write_text("no zip")
    with pytest.raises(CtnetError, match="neither a folder nor a zip"):
        FrameFiles(tmp_path / "text")
    two = make_zip(tmp_path / "two.zip", {"a/000001.txt": "", "b/000001.txt": ""})
    with pytest.raises(CtnetError, match=r"frames in several folders \(a, b\)"):
        FrameFiles(two, ("data",))
    with pytest.raises(CtnetError, match="neither at its top"):
        FrameFiles(make_zip(tmp_path / "none.zip", {"readme.md": ""}))
    binary = make_zip(tmp_path / "binary.zip", {"000001.txt": b"\xff\xfe\x00"})
    with pytest.raises(CtnetError, match=r"binary\.zip/000001\.txt is not a text file"):
        FrameFiles(binary).read("000001")


def test_damaged_zip_is_named(tmp_path: Path) -> None:
    path = make_zip(tmp_path / "damaged.zip", {"000001.txt": "Car 1 2 3"})
    content = path.read_bytes()
    path.write_bytes(content.replace(b"Car 1", b"Cax 1"))
    with pytest.raises(CtnetError, match=r"cannot read .*damaged\.zip/000001\.txt: Bad CRC"):
        FrameFiles(path).read("000001")


def test_frames_may_have_names_where_none_is_a_number(tmp_path: Path) -> None:
    for name in ("lot_0001.txt", "lot_0002.txt"):
        (tmp_path / name).write_text(name)
    files = FrameFiles(tmp_path)
    assert files.names == ("lot_0001", "lot_0002")
    assert files.read("lot_0002") == "lot_0002.txt"
    (tmp_path / "000007.txt").write_text("")
    assert FrameFiles(tmp_path).names == ("000007",)


def test_a_zip_of_terabytes_is_not_unpacked(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "bomb.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("000001.txt", bytes((1 << 26) + 1))
    with pytest.raises(CtnetError, match=r"000001.txt has more than 67108864 bytes"):
        FrameFiles(tmp_path / "bomb.zip").read("000001")
