"""A pack in place of a data directory."""

from __future__ import annotations

import json
import multiprocessing
import shutil
import zlib
from pathlib import Path

import h5py
import numpy as np
import pytest

from ctnet.base.errors import CtnetError
from ctnet.base.files import is_file, read_bytes
from ctnet.base.packs import open_pack, place_of
from ctnet.core.task import create_task
from ctnet.data.check import check_dataset
from ctnet.data.dataset import Dataset, open_splits
from ctnet.data.images import ImageError
from ctnet.data.pack import pack_directory
from ctnet.data.shape_scenes import SHAPES
from ctnet.data.synthetic import write_dataset


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    write_dataset(create_task("ctdet", SHAPES), folder, {"train": 5, "val": 3}, (48, 40))
    return folder


@pytest.fixture(scope="module")
def pack(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("packs") / "data.h5"
    report = pack_directory(folder, path)
    assert (report.images, report.problems) == (8, ())
    assert report.size == path.stat().st_size
    return path


def test_every_file_is_there_byte_for_byte(folder: Path, pack: Path) -> None:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    assert sorted(open_pack(pack)) == sorted(path.relative_to(folder).as_posix() for path in files)
    for path in files:
        assert read_bytes(pack / path.relative_to(folder)) == path.read_bytes()


def check_same(one: Dataset, other: Dataset) -> None:
    assert len(one) == len(other)
    assert one.categories == other.categories
    assert one.as_coco(full=True) == other.as_coco(full=True)
    for index in range(len(one)):
        first, second = one[index], other[index]
        assert np.array_equal(first.image, second.image)
        assert np.array_equal(first.instances.boxes, second.instances.boxes)
        assert dict(first.info.record) == dict(second.info.record)


def test_the_data_sets_are_the_same(folder: Path, pack: Path) -> None:
    for one, other in zip(open_splits(folder), open_splits(pack), strict=True):
        check_same(one, other)
        assert one.coco.digest == other.coco.digest
        assert one.fingerprint() == other.fingerprint()
    assert check_dataset(folder).as_dict()["splits"] == check_dataset(pack).as_dict()["splits"]


@pytest.mark.parametrize("method", ["fork", pytest.param("spawn", marks=pytest.mark.thorough)])
def test_workers_read_from_it(folder: Path, pack: Path, method: str) -> None:
    if method not in multiprocessing.get_all_start_methods():
        pytest.skip(f"this system has no {method}")
    packed, loose = Dataset.open(pack, "train"), Dataset.open(folder, "train")
    with multiprocessing.get_context(method).Pool(2) as pool:
        samples = pool.map(packed.__getitem__, range(len(packed)))
    for index, sample in enumerate(samples):
        assert np.array_equal(sample.image, loose[index].image)


def test_images_that_are_missing_or_elsewhere_are_listed(folder: Path, tmp_path: Path) -> None:
    shutil.copytree(folder, tmp_path / "data")
    names = sorted(path.name for path in (tmp_path / "data" / "val").iterdir())
    (tmp_path / "data" / "val" / names[0]).unlink()
    path = tmp_path / "data" / "annotations" / "instances_train.json"
    content = json.loads(path.read_text())
    outside = shutil.copy(folder / "train" / content["images"][0]["file_name"], tmp_path)
    content["images"][0]["file_name"] = str(outside)
    path.write_text(json.dumps(content))
    report = pack_directory(tmp_path / "data", tmp_path / "x.h5")
    assert report.images == 6
    assert [problem.kind for problem in report.problems] == ["image that is not packed"] * 2
    assert "lies outside" in report.problems[0].what
    with pytest.raises(ImageError, match="is missing"):
        Dataset.open(tmp_path / "x.h5", "val")[0]


def damaged(pack: Path, target: Path, at: int, value: int = 255) -> Path:
    content = bytearray(pack.read_bytes())
    content[at] ^= value
    target.write_bytes(content)
    return target


def test_damage_is_named(pack: Path, tmp_path: Path) -> None:
    image = place_of(pack / "train" / "000002.jpg")
    assert image is not None
    broken = damaged(pack, tmp_path / "image.h5", image.start + 30)
    dataset = Dataset.open(broken, "train")
    with pytest.raises(ImageError, match=r"train/000002\.jpg in .*image\.h5 is damaged; pack the data again"):
        dataset[1]
    assert check_dataset(broken, "train").bad
    document = place_of(pack / "annotations" / "instances_val.json")
    assert document is not None
    broken = damaged(pack, tmp_path / "document.h5", document.start + document.size - 3)
    with pytest.raises(CtnetError, match=r"instances_val\.json in .* is damaged"):
        check_dataset(broken, "val")


@pytest.mark.parametrize("share", [0.0, 0.3, 0.9, 0.999])
def test_a_pack_that_was_cut(pack: Path, tmp_path: Path, share: float) -> None:
    content = pack.read_bytes()
    (tmp_path / "x.h5").write_bytes(content[: int(len(content) * share)])
    with pytest.raises(CtnetError, match=r"x\.h5 .*pack the data again") as caught:
        Dataset.open(tmp_path / "x.h5", "train")
    assert "\n" not in str(caught.value)


def change(file: h5py.File, name: str, values: np.ndarray) -> None:
    del file[name]
    file[name] = values


@pytest.mark.parametrize(
    ("edit", "words"),
    [
        (lambda file: file.attrs.__delitem__("format"), "is not a pack of ctnet"),
        (
            lambda file: file.attrs.__setitem__("format", np.bytes_("ctnet pack 9")),
            "has format 'ctnet pack 9'",
        ),
        (lambda file: file.__delitem__("files"), "is damaged"),
        (lambda file: file["files/starts"].__setitem__(0, 10**9), "starts is not what was packed"),
        (lambda file: change(file, "data", np.zeros(3, np.uint8)), "does not fit its data"),
        (lambda file: change(file, "data", np.zeros((3, 3), np.uint8)), "is damaged"),
        (lambda file: change(file, "files/names", np.zeros(3)), "is damaged"),
        (lambda file: file.__setitem__("files/loop", h5py.SoftLink("/files/loop")), "is damaged"),
    ],
)
def test_a_pack_that_was_edited(pack: Path, tmp_path: Path, edit, words: str) -> None:
    shutil.copy(pack, tmp_path / "x.h5")
    with h5py.File(tmp_path / "x.h5", "r+") as file:
        edit(file)
    with pytest.raises(CtnetError, match=words) as caught:
        Dataset.open(tmp_path / "x.h5", "train")
    assert "\n" not in str(caught.value)


COLUMNS = "columns/annotations%2Finstances_train.json"


@pytest.mark.parametrize(
    ("name", "edit"),
    [
        ("files/starts", lambda v: v.astype(float)),
        ("files/sizes", lambda v: v * 0 + 2**62),
        ("files/starts", lambda v: v[:, None]),
        (f"{COLUMNS}/boxes", lambda v: v[:, :3]),
        (f"{COLUMNS}/boxes", lambda v: v * np.nan),
        (f"{COLUMNS}/boxes", lambda v: v.astype(np.float32)),
        (f"{COLUMNS}/areas", lambda v: v * np.inf),
        (f"{COLUMNS}/category_ids", lambda v: v + 77),
        (f"{COLUMNS}/image_ranges", lambda v: v + 10**9),
        (f"{COLUMNS}/annotation_ranges", lambda v: v[:, ::-1]),
        (f"{COLUMNS}/annotation_ranges", lambda v: np.minimum(v, 1)),
        (f"{COLUMNS}/image_index", lambda v: v + 1),
        (f"{COLUMNS}/first", lambda v: v * 0),
        (f"{COLUMNS}/name_ends", lambda v: v[::-1]),
        (f"{COLUMNS}/names", lambda v: v * 0 + 255),
        (f"{COLUMNS}/widths", lambda v: v * 0),
        (f"{COLUMNS}/errors", lambda v: v + 200),
        (f"{COLUMNS}/category_json", lambda v: np.frombuffer(b'[{"id": 1}]', np.uint8)),
        (f"{COLUMNS}/category_json", lambda v: np.frombuffer(b"[[[", np.uint8)),
        (f"{COLUMNS}/category_json", lambda v: np.frombuffer(b"5", np.uint8)),
    ],
)
def test_tables_that_are_whole_and_wrong(pack: Path, tmp_path: Path, name: str, edit) -> None:
    """Their checksums are right: another program wrote them."""
    shutil.copy(pack, tmp_path / "x.h5")
    with h5py.File(tmp_path / "x.h5", "r+") as file:
        values = np.ascontiguousarray(edit(file[name][()]))
        change(file, name, values)
        file[name].attrs["checksum"] = zlib.crc32(values.tobytes())
    with pytest.raises(CtnetError, match=r"x\.h5") as caught:
        Dataset.open(tmp_path / "x.h5", "train").as_coco(full=True)
    assert "\n" not in str(caught.value)


def test_columns_of_another_version(pack: Path, tmp_path: Path) -> None:
    shutil.copy(pack, tmp_path / "x.h5")
    with h5py.File(tmp_path / "x.h5", "r+") as file:
        del file["columns/annotations%2Finstances_train.json/version"]
    with pytest.raises(CtnetError, match="was packed by another version of ctnet"):
        Dataset.open(tmp_path / "x.h5", "train")


def test_what_cannot_be_packed(folder: Path, pack: Path, tmp_path: Path) -> None:
    with pytest.raises(CtnetError, match=r"the name of a pack ends in \.h5 or \.hdf5"):
        pack_directory(folder, tmp_path / "x.zip")
    with pytest.raises(CtnetError, match="is a pack already"):
        pack_directory(pack, tmp_path / "x.h5")
    with pytest.raises(CtnetError, match="is not a folder"):
        pack_directory(tmp_path / "nowhere", tmp_path / "x.h5")
    assert list(tmp_path.iterdir()) == []


def test_folders_called_as_packs_are(folder: Path, tmp_path: Path) -> None:
    shutil.copytree(folder, tmp_path / "data.h5")
    assert len(Dataset.open(tmp_path / "data.h5", "val")) == 3
    assert is_file(tmp_path / "data.h5" / "val" / "000001.jpg")
