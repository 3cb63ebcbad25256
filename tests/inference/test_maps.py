from __future__ import annotations

import resource
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch

from ctnet.base.errors import CtnetError
from ctnet.core.records import ImageInfo
from ctnet.inference import DetectionSettings
from ctnet.inference.maps import FORMAT, MapFile, write_maps

SETTINGS = DetectionSettings(resize="keep", flip=True, scales=(1.0, 0.5))


def prepared(detector, random_image, sizes):
    """One batch of views for every size."""
    preprocess = detector.preprocessor("keep")
    batches = []
    for number, (width, height) in enumerate(sizes):
        about = ImageInfo(100 - number, f"{number}.png", width, height)
        batches.append([preprocess.views(random_image(width, height, number), about, SETTINGS.scales)])
    return batches


def store(detector, random_image, path: Path, sizes=((60, 40), (90, 40), (50, 33))):
    batches = prepared(detector, random_image, sizes)
    with write_maps(path, detector.description, SETTINGS) as keep:
        for batch in batches:
            detector.detect(batch, SETTINGS, keep_maps=keep)
    return batches


def test_maps_come_back_rounded_to_half_precision(detector, random_image, tmp_path: Path) -> None:
    path = tmp_path / "deep" / "maps.h5"
    batches = store(detector, random_image, path)
    assert [file.name for file in path.parent.iterdir()] == ["maps.h5"]
    with MapFile.open(path) as stored:
        assert sorted(stored.image_ids) == [98, 99, 100]
        assert stored.description == detector.description
        for (views,) in batches:
            half, one = stored[views[0].info.image_id]  # the smallest scale first
            assert (half.scale, one.scale) == (0.5, 1.0)
            for back, view in ((one, views[0]), (half, views[1])):
                np.testing.assert_array_equal(back.affine.matrix, view.affine.matrix)
                for name, values in detector.maps([view], flip=True).items():
                    assert back.maps[name].dtype == torch.float32
                    torch.testing.assert_close(back.maps[name], values, rtol=2**-11, atol=1e-7)


def test_the_file_explains_itself(detector, random_image, tmp_path: Path) -> None:
    store(detector, random_image, tmp_path / "maps.h5")
    with h5py.File(tmp_path / "maps.h5") as file:
        assert file.attrs["format"].decode() == FORMAT
        assert (file.attrs["task"], file.attrs["resize"], file.attrs["flip"]) == (b"ctdet", b"keep", True)
        assert list(file.attrs["scales"]) == [1.0, 0.5]
        group = file["64x64"]
        assert set(group) == {"image_id", "scale", "affine", "maps"}
        heatmap = group["maps/heatmap"]
        assert heatmap.dtype == np.float16
        assert heatmap.chunks == (1, 2, 16, 16)
        assert len(heatmap) == len(group["image_id"]) == len(group["affine"])


def test_what_half_precision_cannot_hold_is_cut(detector, random_image, tmp_path: Path) -> None:
    ((views,),) = prepared(detector, random_image, [(60, 40)])
    with write_maps(tmp_path / "maps.h5", detector.description, SETTINGS) as keep:
        keep({"depth": torch.full((1, 1, 2, 2), 1e6)}, views[:1], 1.0)
    with MapFile.open(tmp_path / "maps.h5") as stored:
        assert stored[100][0].maps["depth"].unique().tolist() == [65504.0]


def test_many_categories_fit(detector, random_image, tmp_path: Path) -> None:
    """HDF5 limits an attribute to 64 kB."""
    detector.description.categories.extend({"id": 100 + n, "name": "x" * 50} for n in range(2000))
    store(detector, random_image, tmp_path / "maps.h5")
    with MapFile.open(tmp_path / "maps.h5") as stored:
        assert stored.description.categories == detector.description.categories


def test_a_failure_leaves_nothing_behind(detector, random_image, tmp_path: Path) -> None:
    batches = prepared(detector, random_image, [(60, 40)])

    def interrupted() -> None:
        with write_maps(tmp_path / "m.h5", detector.description, SETTINGS) as keep:
            detector.detect(batches[0], SETTINGS, keep_maps=keep)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("room", [1000, 20_000, 300_000])
def test_a_full_disk_is_one_line(detector, random_image, tmp_path: Path, room: int) -> None:
    """The file may not grow beyond ``room`` bytes; HDF5 survives that."""
    (tmp_path / "maps.h5").write_text("what was there before")
    batches = prepared(detector, random_image, [(300, 300)])
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (room, before[1]))

    def fill() -> None:
        with write_maps(tmp_path / "maps.h5", detector.description, SETTINGS) as keep:
            for _ in range(20):
                detector.detect(batches[0], SETTINGS, keep_maps=keep)

    try:
        with pytest.raises(CtnetError, match=r"cannot write .*maps\.h5: File too large") as caught:
            fill()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert "\n" not in str(caught.value)
    assert [(file.name, file.read_text()) for file in tmp_path.iterdir()] == [
        ("maps.h5", "what was there before")
    ]


def test_other_files_are_refused(detector, random_image, tmp_path: Path) -> None:
    store(detector, random_image, tmp_path / "maps.h5")
    content = (tmp_path / "maps.h5").read_bytes()
    (tmp_path / "cut.h5").write_bytes(content[: len(content) // 2])
    (tmp_path / "text.h5").write_text("no maps")
    with h5py.File(tmp_path / "other.h5", "w") as file:
        file["x"] = 1
    with h5py.File(tmp_path / "maps.h5", "a") as file:
        change_dataset(file, "description", np.frombuffer(b"{}", np.uint8))
    for name, message in (
        ("gone.h5", r"cannot read .*gone\.h5: No such file"),
        ("cut.h5", r"cut\.h5 is not an HDF5 file, or was cut short; make it again with --save-maps"),
        ("text.h5", r"text\.h5 is not an HDF5 file"),
        ("other.h5", r"other\.h5 has no maps of ctnet"),
        ("maps.h5", r"the description in .*maps\.h5: at task: missing, expected a value"),
    ):
        with pytest.raises(CtnetError, match=message), MapFile.open(tmp_path / name):
            pass


# --- files that HDF5 reads and that are not ours


def change_dataset(file, name: str, values) -> None:
    del file[name]
    file[name] = values


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda f: f.attrs.update(flip="yes"), "its attribute flip is of variable length"),
        (lambda f: f.attrs.update(format="ctnet maps 1"), "its attribute format is of variable length"),
        (lambda f: f.attrs.pop("scales"), r"the attributes of .*m\.h5: at scales: missing"),
        (lambda f: f.attrs.update(scales=[1.0, 0.0]), r"at scales.1: 0.0, expected a number greater than 0"),
        (lambda f: f.attrs.update(flip=np.bytes_("yes")), "at flip: 'yes', expected true or false"),
        (lambda f: f.attrs.update(stride=np.nan), "at stride: nan, expected a whole number"),
        (lambda f: f.pop("description"), "it has no description of its own"),
        (lambda f: change_dataset(f, "description", 3), r"description is int64 of shape \(\)"),
        (
            lambda f: change_dataset(f, "description", np.frombuffer(b"{}", np.uint8)),
            r"the description in .*: at task: missing",
        ),
        (lambda f: f.move("64x64", "large"), "the group 'large' is not named after a size"),
        (lambda f: f.pop("64x64/scale"), "it has no scale of its own"),
        (lambda f: change_dataset(f, "64x64/scale", [1.0, 2.0]), r"scale is float64 of shape \(2,\)"),
        (lambda f: change_dataset(f, "64x64/image_id", ["a"]), "image_id is object of shape"),
        (lambda f: change_dataset(f, "64x64/affine", np.zeros((1, 2, 3))), "cannot be inverted"),
        (lambda f: change_dataset(f, "64x64/affine", np.full((1, 2, 3), np.nan)), "not finite"),
        (lambda f: change_dataset(f, "64x64/maps", 3), "maps"),
        (lambda f: change_dataset(f, "64x64/maps", h5py.ExternalLink("other.h5", "/")), "no maps of its own"),
        (
            lambda f: change_dataset(f, "64x64/maps/size", h5py.SoftLink("/64x64/maps/offset")),
            "no size of its",
        ),
        (lambda f: change_dataset(f, "64x64/maps/size", np.zeros((1, 2, 16, 16), int)), "size is int64"),
    ],
)
def test_structure_shapes_and_attributes_are_checked(detector, random_image, tmp_path: Path, change, message):
    store(detector, random_image, tmp_path / "m.h5", [(60, 40)])
    with h5py.File(tmp_path / "m.h5", "r+") as file:
        change(file)
    with (
        pytest.raises(CtnetError, match=message) as caught,
        MapFile.open(tmp_path / "m.h5") as stored,
    ):
        stored[100]
    assert str(caught.value).isprintable()


def test_a_file_cannot_claim_more_than_it_holds(detector, random_image, tmp_path: Path) -> None:
    """HDF5 gives zeros for what was never written."""
    store(detector, random_image, tmp_path / "m.h5", [(60, 40)])
    with h5py.File(tmp_path / "m.h5", "r+") as file:
        for name, values in (("image_id", "i8"), ("scale", "f8")):
            del file[f"64x64/{name}"]
            file["64x64"].create_dataset(name, (10**9,), values, chunks=(1024,))
    with pytest.raises(CtnetError, match="claims 1000000000 rows"), MapFile.open(tmp_path / "m.h5"):
        pass


def test_a_description_cannot_claim_more_than_the_file_holds(detector, random_image, tmp_path: Path) -> None:
    store(detector, random_image, tmp_path / "m.h5", [(60, 40)])
    with h5py.File(tmp_path / "m.h5", "r+") as file:
        del file["description"]
        file.create_dataset("description", (10**9,), "u1", chunks=(1,))  # read cell by cell, for hours
    with (
        pytest.raises(
            CtnetError, match="its description claims 1000000000 bytes, more than the file can hold"
        ),
        MapFile.open(tmp_path / "m.h5"),
    ):
        pass


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda f: f.pop("64x64/maps/size"), "size at 64x64 of no shape, and task ctdet needs 2x16x16"),
        (lambda f: f.move("64x64", "128x64"), "at 128x64 of 2x16x16, and task ctdet needs 2x16x32"),
        (lambda f: f.move("64x64/maps/size", "64x64/maps/more"), "more at 64x64 of 2x16x16, .* no shape"),
    ],
)
def test_maps_of_other_heads_or_grids_are_refused(detector, random_image, tmp_path: Path, change, message):
    store(detector, random_image, tmp_path / "m.h5", [(60, 40)])
    with h5py.File(tmp_path / "m.h5", "r+") as file:
        change(file)
    with MapFile.open(tmp_path / "m.h5") as stored, pytest.raises(CtnetError, match=message):
        stored.check_heads(detector.task)


def test_maps_that_are_not_finite_are_damaged(detector, random_image, tmp_path: Path) -> None:
    store(detector, random_image, tmp_path / "m.h5", [(60, 40)])
    with h5py.File(tmp_path / "m.h5", "r+") as file:
        file["64x64/maps/heatmap"][0, 0, 3, 3] = np.nan
    with (
        MapFile.open(tmp_path / "m.h5") as stored,
        pytest.raises(CtnetError, match=r"the maps of image 100 in .* are damaged"),
    ):
        stored[100]
