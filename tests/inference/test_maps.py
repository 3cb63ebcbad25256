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
        assert file.attrs["format"] == FORMAT
        assert (file.attrs["task"], file.attrs["resize"], bool(file.attrs["flip"])) == ("ctdet", "keep", True)
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
    """HDF5 ends an attribute at 64 kB."""
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
        file["description"][()] = "{}"
    for name, message in (
        ("gone.h5", r"cannot read .*gone\.h5: No such file"),
        ("cut.h5", r"cut\.h5 is not an HDF5 file, or was cut short; make it again with --save-maps"),
        ("text.h5", r"text\.h5 is not an HDF5 file"),
        ("other.h5", r"other\.h5 holds no maps of ctnet"),
        ("maps.h5", r"maps\.h5 is damaged"),
    ):
        with pytest.raises(CtnetError, match=message), MapFile.open(tmp_path / name):
            pass
