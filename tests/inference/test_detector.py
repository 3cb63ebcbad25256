from __future__ import annotations

import dataclasses
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from ctnet.base import compiling
from ctnet.base.device import normalise
from ctnet.base.errors import CtnetError
from ctnet.checkpoint import Description
from ctnet.core.declarations import Suppression
from ctnet.core.geometry import Affine, View
from ctnet.core.heads import Heatmap, mirror_maps
from ctnet.core.records import Detections, ImageInfo, Instances
from ctnet.core.task import list_tasks, load_task_class, scenes_of
from ctnet.inference import Detector, prepare
from ctnet.inference import forward as forward_module
from ctnet.inference.decoding import decode, merge
from ctnet.inference.detector import checkpoint_of
from ctnet.inference.preprocessing import Preprocessor
from ctnet.inference.settings import DetectionSettings
from ctnet.inference.timing import StageTimes
from ctnet.model import create_model

SIZES = [(50, 70), (64, 64), (50, 70), (128, 32), (33, 65), (50, 70), (64, 64)]


def info(image: np.ndarray) -> ImageInfo:
    return ImageInfo(1, "x", image.shape[1], image.shape[0])


# --- preprocessing

CASES = [
    # key, image, mean and std, preprocessor, scale
    ("fix128", "", Preprocessor("fix", (128, 128), 32), 1.0),
    ("fix128_scale15", "", Preprocessor("fix", (128, 128), 32), 1.5),
    ("keep_pad31", "", Preprocessor("keep", (1, 1), 32), 1.0),
    ("keep_pad127", "", Preprocessor("keep", (1, 1), 128), 1.0),
    ("keep_pad31_scale075", "", Preprocessor("keep", (1, 1), 32), 0.75),
    ("ddd_fix", "ddd_", Preprocessor("fix", (192, 64), 32, "width"), 1.0),
]


@pytest.mark.golden
@pytest.mark.skipif(
    int(cv2.__version__.split(".")[0]) < 5,
    reason="OpenCV 4 interpolates in steps of 1/32 pixel, which differs by up to two grey levels",
)
@pytest.mark.parametrize(("key", "prefix", "preprocess", "scale"), CASES, ids=[case[0] for case in CASES])
def test_preprocessing_equals_the_reference(
    golden: Path, key: str, prefix: str, preprocess: Preprocessor, scale: float
) -> None:
    for file in sorted(golden.glob("preprocess*.npz")):
        data = np.load(file)
        image = np.ascontiguousarray(data[f"{prefix}image"][:, :, ::-1])  # ours is RGB
        mean, std = (tuple(data[f"{prefix}{name}"][::-1]) for name in ("mean", "std"))
        prepared = preprocess(image, info(image), scale)
        ours = normalise(torch.from_numpy(prepared.input[None]), mean, std).numpy()[:, ::-1]
        grey_levels = np.abs(ours - data[key]) * np.array(std[::-1])[:, None, None] * 255
        assert grey_levels.max() < 1.01
        assert (grey_levels > 0.5).mean() < 0.01
        # The inverse mapping uses the same numbers: centre and extent of the area that the input shows.
        out_width, out_height = int(data[f"{key}_out_width"]), int(data[f"{key}_out_height"])
        assert prepared.input.shape == (4 * out_height, 4 * out_width, 3)
        side = float(np.ravel(data[f"{key}_s"])[0])
        theirs = Affine.centred(tuple(data[f"{key}_c"].tolist()), side, (out_width, out_height))
        to_grid = Affine.scaling(1 / 4).after(prepared.affine)
        corners = np.array([[0, 0], [image.shape[1], 0], [0, image.shape[0]]], float)
        np.testing.assert_allclose(to_grid.points(corners), theirs.points(corners * scale), atol=1e-4)


@pytest.mark.parametrize(("side", "padded"), [(31, 32), (32, 64), (33, 64), (63, 64), (64, 96)])
def test_keep_pads_to_the_next_multiple_and_one_more_for_a_multiple(side: int, padded: int) -> None:
    image = np.full((side, side, 3), 200, np.uint8)
    prepared = Preprocessor("keep", (1, 1), 32)(image, info(image))
    assert prepared.input.shape[:2] == (padded, padded)
    assert (prepared.input == 200).all(2).sum() == side * side  # the image as it is, the rest black
    assert prepared.input.sum() == 3 * 200 * side * side


def test_width_fills_the_input_and_cuts_or_pads_above_and_below_alike() -> None:
    image = np.full((100, 100, 3), 200, np.uint8)
    image[40:60] = 90
    flat = Preprocessor("fix", (128, 64), 32, "width")(image, info(image))
    assert (flat.input > 0).all()
    corners = flat.affine.points(np.array([[0.0, 50], [100, 50]]))
    np.testing.assert_allclose(corners, [[0, 32], [128, 32]], atol=1e-9)
    tall = Preprocessor("fix", (64, 128), 32, "width")(image, info(image))
    np.testing.assert_array_equal(np.flatnonzero(tall.input[:, 32, 0])[[0, -1]], [32, 95])


def test_the_input_grows_with_the_scale_and_shows_the_whole_image() -> None:
    image = np.full((90, 120, 3), 200, np.uint8)
    for resize, sides in (
        ("fix", [(64, 64), (128, 128), (192, 192)]),
        ("keep", [(64, 64), (128, 96), (192, 160)]),
    ):
        preprocess = Preprocessor(resize, (128, 128), 32)
        views = preprocess.views(image, info(image), (0.5, 1.0, 1.5))
        assert [view.input.shape[1::-1] for view in views] == sides
        for view in views:
            corners = view.affine.points(np.array([[0.0, 0], [119, 89]]))
            assert (corners >= -0.5).all()
            assert (corners <= np.array(view.input.shape[1::-1])).all()
        plain = preprocess(image, info(image))
        np.testing.assert_array_equal(views[1].input, plain.input)


@pytest.mark.parametrize("scale", [1.0, 0.5])
@pytest.mark.parametrize("resize", ["fix", "keep"])
def test_geometry_needs_no_image(resize, scale: float) -> None:
    preprocess = Preprocessor(resize, (128, 96), 32)
    image = np.zeros((75, 121, 3), np.uint8)
    prepared = preprocess(image, info(image), scale)
    affine, size = preprocess.geometry(121, 75, scale)
    assert size == prepared.input.shape[1::-1]
    np.testing.assert_array_equal(affine.matrix, prepared.affine.matrix)


# --- detections are returned in the pixels of their image


def some_instances(width: int, height: int, seed: int) -> Instances:
    """One box in each cell of a 3x2 raster: no two centres come near each other."""
    rng = np.random.default_rng(seed)
    cells = np.array([[x, y] for x in range(3) for y in range(2)])
    middle = (cells + 0.5 + rng.uniform(-0.1, 0.1, (6, 2))) * [width / 3, height / 2]
    half = rng.uniform(0.15, 0.35, (6, 2)) * [width / 3, height / 2]
    return Instances.of(np.concatenate([middle - half, middle + half], 1), rng.integers(0, 2, 6))


def sorted_by_place(boxes: np.ndarray, labels: np.ndarray) -> np.ndarray:
    rows = np.concatenate([boxes, labels[:, None]], 1)
    return rows[np.lexsort((rows[:, 1].round(1), rows[:, 0].round(1)))]


@pytest.mark.parametrize("resize", ["fix", "keep"])
def test_a_perfect_network_gives_the_instances_back(knowing, resize) -> None:
    sizes = [(120, 90), (61, 140), (120, 90), (300, 77), (64, 64), (120, 90)]
    images = {40 * (number + 1): size for number, size in enumerate(sizes)}
    known = {grey: some_instances(*size, seed=grey) for grey, size in images.items()}
    detector = knowing(known)
    arrays = [np.full((height, width, 3), grey, np.uint8) for grey, (width, height) in images.items()]
    preprocess = detector.preprocessor(resize)
    detector.model.prepared = {grey: preprocess(a, info(a)) for grey, a in zip(images, arrays, strict=True)}
    found = detector(arrays, DetectionSettings(score=0.0, resize=resize, topk=10), batch_size=2)
    assert len(found) == len(arrays)
    for instances, detections in zip(known.values(), found, strict=True):
        detections = detections.above(0.999)
        np.testing.assert_allclose(
            sorted_by_place(detections.boxes, detections.labels),
            sorted_by_place(instances.boxes, instances.labels),
            atol=2e-3,
        )
    assert sorted(detector.model.batches) == ([2, 2, 2] if resize == "fix" else [1, 1, 1, 1, 2])


def test_a_task_may_lift_detections_by_what_is_known_of_the_image(
    detector, random_image, monkeypatch
) -> None:
    seen: list[ImageInfo] = []
    middles = [(20, 15), (25, 10)]

    def lift(detections: Detections, view: View) -> Detections:
        seen.append(view.info)
        np.testing.assert_allclose(view.affine.points(np.array([8, 8.0])), middles[len(seen) - 1])
        return detections.replace(depth=np.full(len(detections), view.info.height))

    monkeypatch.setattr(detector.task, "lift", lift)
    found = detector([random_image(40, 30), random_image(50, 20)], score=0.0)
    assert [int(detections.depth[0]) for detections in found] == [30, 20]
    assert [(about.image_id, about.width) for about in seen] == [(0, 40), (1, 50)]


def test_records_of_images_reach_the_task(detector, random_image, monkeypatch) -> None:
    monkeypatch.setattr(
        detector.task, "lift", lambda found, view: found.replace(f=np.full(len(found), view.info.record["f"]))
    )
    images = [random_image(40, 30), random_image(60, 20), random_image(40, 30, 1)]
    found = detector(
        images,
        DetectionSettings(score=0.0, resize="keep"),
        batch_size=2,
        records=[{"f": 7}, {"f": 8}, {"f": 9}],
    )
    assert [int(detections.f[0]) for detections in found] == [7, 8, 9]
    with pytest.raises(CtnetError, match="there are 1 records for 3 images"):
        detector(images, records=[{"f": 7}])


# --- flip testing


def mirror_boxes(boxes: np.ndarray, width: int) -> np.ndarray:
    return np.stack([width - 1 - boxes[:, 2], boxes[:, 1], width - 1 - boxes[:, 0], boxes[:, 3]], 1)


def in_order(detections: Detections) -> np.ndarray:
    rows = np.concatenate([detections.boxes, detections.scores[:, None], detections.labels[:, None]], 1)
    return rows[np.lexsort(rows.round(3).T)]


def test_the_mirror_image_has_the_mirrored_detections(detector, random_image) -> None:
    """An offset of 3/8 cells is its own mirror image: 4 (c + o) + 4 (w - 1 - c + o) = 4 w - 1."""
    offset = detector.model.branches[0]["offset"][2]
    with torch.no_grad():
        offset.weight.zero_()
        offset.bias.copy_(torch.tensor([0.375, 0.2]))
    image = random_image(64, 64)
    (plain,), (other,) = (
        detector(np.ascontiguousarray(one), DetectionSettings(score=0.0, flip=True, topk=20))
        for one in (image, image[:, ::-1])
    )
    back = other.replace(boxes=mirror_boxes(other.boxes, 64))
    np.testing.assert_allclose(in_order(plain), in_order(back), atol=1e-3)
    (unflipped,) = detector(image, DetectionSettings(score=0.0, topk=20))
    assert not np.allclose(unflipped.scores, plain.scores, atol=1e-4)  # flipping does something


@pytest.mark.parametrize("name", list_tasks())
def test_maps_are_averaged_where_the_head_can_be_mirrored(name: str, tiny: str, random_image) -> None:
    """For every installed task: the mirror image has the mirrored maps, or they are not averaged."""
    torch.manual_seed(0)
    task = load_task_class(name)(scenes_of(load_task_class(name)).categories)
    model = create_model(task, tiny)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(std=0.15)
    detector = Detector(task, model, Description.of(task, tiny, (64, 64)))
    prepare = Preprocessor("keep", (64, 64), 32)
    image = random_image(64, 64)
    one = prepare(image, info(image))
    # Tasks that see two frames get this one in all their channels.
    shown = np.concatenate([one.input] * 3, axis=2)[:, :, : task.frames.inputs]
    one = dataclasses.replace(one, input=np.ascontiguousarray(shown))
    other = dataclasses.replace(one, input=np.ascontiguousarray(one.input[:, ::-1]))
    single, plain, mirrored = detector.maps([one]), detector.maps([one], True), detector.maps([other], True)
    averaged = 0
    for name, back in mirror_maps(task.heads, mirrored).items():
        if back is None:
            torch.testing.assert_close(plain[name], single[name], atol=1e-5, rtol=1e-5)
        else:
            torch.testing.assert_close(plain[name], back, atol=1e-5, rtol=1e-5)
            averaged += not torch.allclose(plain[name], single[name], atol=1e-4)
    assert averaged
    heatmaps = [name for name, head in task.heads.items() if isinstance(head, Heatmap)]
    assert all(mirror_maps(task.heads, single)[name] is not None for name in heatmaps)


def test_without_memory_for_both_the_two_go_one_after_the_other(detector, random_image, monkeypatch) -> None:
    images = [random_image(64, 64, seed) for seed in range(2)]
    expected = detector(images, DetectionSettings(score=0.0, flip=True))
    forward, sizes = detector.model.activated, []

    def scarce(inputs: torch.Tensor) -> dict[str, torch.Tensor]:
        sizes.append(len(inputs))
        if len(inputs) > 2:
            raise torch.OutOfMemoryError
        return forward(inputs)

    monkeypatch.setattr(detector.model, "activated", scarce)
    for found, before in zip(
        detector(images, DetectionSettings(score=0.0, flip=True)), expected, strict=True
    ):
        np.testing.assert_allclose(found.scores, before.scores, rtol=1e-5)
    assert sizes == [4, 2, 2]


# --- several scales


@pytest.mark.parametrize("resize", ["fix", "keep"])
def test_one_scale_is_no_scale(detector, random_image, resize) -> None:
    image = random_image(70, 50)
    (plain,), (one,) = (
        detector(image, DetectionSettings(score=0.0, resize=resize)),
        detector(image, DetectionSettings(score=0.0, resize=resize, scales=[1])),
    )
    for name, column in plain.fields().items():
        np.testing.assert_array_equal(column, one.fields()[name])


@pytest.mark.parametrize("nms", [None, "none", "hard"])
def test_scales_are_merged_per_class(detector, random_image, nms) -> None:
    image, scales = random_image(70, 50), (0.5, 1.0, 1.5)
    chosen = DetectionSettings(score=0.0, resize="keep", scales=scales, nms=nms, topk=30, clip=False)
    (merged,) = detector(image, chosen)
    preprocess = detector.preprocessor("keep")
    settings, parts = DetectionSettings(nms=nms, scales=scales, topk=30), []
    for scale in scales:
        prepared = preprocess(image, info(image), scale)
        parts += decode(detector.task, detector.maps([prepared]), [prepared.view(4)], settings)
    expected = merge(detector.task, parts, settings)
    for name, column in expected.fields().items():
        np.testing.assert_allclose(merged.fields()[name], column, rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("resize", ["fix", "keep"])
def test_augmented_batches_of_mixed_sizes_equal_one_by_one(detector, random_image, resize) -> None:
    images = [random_image(*size, seed=seed) for seed, size in enumerate(SIZES)]
    settings = {"resize": resize, "topk": 20, "flip": True, "scales": (0.75, 1.0), "nms": "hard"}
    together = detector(images, DetectionSettings(score=0.0, **settings), batch_size=3)
    for image, detections in zip(images, together, strict=True):
        (alone,) = detector(image, DetectionSettings(score=0.0, **settings))
        np.testing.assert_allclose(detections.scores, alone.scores, rtol=1e-5)
        np.testing.assert_allclose(detections.boxes, alone.boxes, rtol=1e-5, atol=1e-4)
        np.testing.assert_array_equal(detections.labels, alone.labels)


def test_a_perfect_network_agrees_with_itself_at_all_scales(knowing) -> None:
    """Each scale alone returns the instances, so the boxes of all scales coincide."""
    known = {90: some_instances(120, 90, seed=1)}
    detector = knowing(known)
    image = np.full((90, 120, 3), 90, np.uint8)
    for resize in ("fix", "keep"):
        for scale in (0.75, 1.0, 1.5):
            (view,) = detector.preprocessor(resize).views(image, info(image), (scale,))
            detector.model.prepared = {90: view}
            (found,) = detector(image, DetectionSettings(score=0.0, resize=resize, scales=[scale], topk=10))
            np.testing.assert_allclose(
                sorted_by_place(found.above(0.999).boxes, found.above(0.999).labels),
                sorted_by_place(known[90].boxes, known[90].labels),
                atol=1.5,  # a small grid cuts more off at its border; resized sides are whole pixels
            )


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"scales": ()}, r"scales are \(\); give one or several positive numbers"),
        ({"scales": (1.0, 0.0)}, "give one or several positive numbers"),
        ({"scales": (float("nan"),)}, "give one or several positive numbers"),
        ({"nms": "firm"}, "nms is 'firm'; it must be none, hard, soft or soft-linear"),
    ],
)
def test_settings_that_make_no_sense(detector, random_image, settings, message) -> None:
    with pytest.raises(CtnetError, match=message):
        detector(random_image(40, 40), DetectionSettings(score=0.0, **settings))


def test_stages_are_timed(detector, random_image) -> None:
    settings = DetectionSettings(score=0.0, flip=True, scales=(0.5, 1.0), topk=5)
    image = random_image(64, 64)
    views = detector.preprocessor().views(image, info(image), settings.scales)
    times = StageTimes()
    detector.detect([views, views], settings, times)
    assert times.images == 2
    assert {name for name, seconds in times.seconds.items() if seconds > 0} == {
        "pre",
        "network",
        "decode",
        "post",
    }


# --- calling it


@pytest.mark.parametrize("resize", ["fix", "keep"])
def test_a_batch_of_mixed_sizes_equals_one_by_one(detector, random_image, resize) -> None:
    images = [random_image(*size, seed=seed) for seed, size in enumerate(SIZES)]
    together = detector(images, DetectionSettings(score=0.0, resize=resize, topk=20), batch_size=3)
    for image, detections in zip(images, together, strict=True):
        (alone,) = detector(image, DetectionSettings(score=0.0, resize=resize, topk=20))
        np.testing.assert_allclose(detections.scores, alone.scores, rtol=1e-5)
        np.testing.assert_allclose(detections.boxes, alone.boxes, rtol=1e-5, atol=1e-4)
        np.testing.assert_array_equal(detections.labels, alone.labels)


def test_detections_are_numpy_best_first_and_as_many_as_asked(detector, random_image) -> None:
    (found,) = detector(random_image(60, 40), DetectionSettings(score=0.0, topk=7, clip=False))
    assert isinstance(found.boxes, np.ndarray)
    assert found.boxes.shape == (7, 4)
    assert (np.diff(found.scores) <= 0).all()
    assert set(found.labels) <= {0, 1}


def test_files_and_arrays_mix(detector, random_image, tmp_path: Path) -> None:
    image = random_image(60, 40)
    cv2.imwrite(str(tmp_path / "a.png"), image[:, :, ::-1])
    found = detector([tmp_path / "a.png", image, str(tmp_path / "a.png")], score=0.0)
    for other in found[1:]:
        np.testing.assert_array_equal(other.boxes, found[0].boxes)
    np.testing.assert_allclose(detector(tmp_path / "a.png", score=0.0)[0].scores, found[0].scores, rtol=1e-5)


def test_no_images_give_no_detections(detector) -> None:
    assert detector([]) == []


def test_an_iterator_will_do(detector, random_image) -> None:
    assert len(detector(random_image(40, 40, seed) for seed in range(3))) == 3


def test_missing_file_is_named(detector, tmp_path: Path) -> None:
    with pytest.raises(CtnetError, match=r"cannot read .*gone\.png: No such file"):
        detector([tmp_path / "gone.png"])


def test_sizes_that_do_not_fit_name_the_next_that_does(detector, random_image) -> None:
    with pytest.raises(CtnetError, match=r"size 65x32 .* multiples of 32; the next size that fits is 96x32"):
        detector(random_image(40, 40), DetectionSettings(size=(65, 32)))
    with pytest.raises(CtnetError, match="next size that fits is 32x32"):
        detector(random_image(40, 40), DetectionSettings(size=(0, 32)))


def test_a_size_is_for_fix_alone(detector, random_image) -> None:
    with pytest.raises(CtnetError, match="size 64x64 is for resize fix"):
        detector(random_image(40, 40), DetectionSettings(size=(64, 64), resize="keep"))
    with pytest.raises(CtnetError, match="resize is 'stretch'; it must be fix or keep"):
        detector(random_image(40, 40), DetectionSettings(resize="stretch"))


def test_another_size_is_another_input(detector, random_image) -> None:
    image = random_image(64, 64)
    default, same, other = (
        detector(image, DetectionSettings(score=0.0, size=size))[0] for size in (None, (64, 64), (96, 128))
    )
    np.testing.assert_array_equal(default.boxes, same.boxes)
    assert not np.array_equal(default.boxes, other.boxes)


@pytest.mark.parametrize("branch", ["heatmap", "size", "offset"])
def test_damaged_weights_are_noticed(detector, random_image, branch) -> None:
    with torch.no_grad():
        detector.model.branches[0][branch][2].bias.fill_(float("nan"))
    with pytest.raises(CtnetError, match=r"NaN or infinities \(0\); it diverged"):
        detector(random_image(40, 40), score=0.0)


@pytest.mark.parametrize("size", [(1, 1), (2, 300), (1000, 3)])
@pytest.mark.parametrize("resize", ["fix", "keep"])
def test_absurd_shapes_work(detector, random_image, size, resize) -> None:
    (found,) = detector(random_image(*size), DetectionSettings(score=0.0, resize=resize, topk=5, clip=False))
    assert len(found) == 5


# --- loading


def test_load_takes_a_run_or_a_checkpoint(run_folder: Path, detector, random_image) -> None:
    image = random_image(60, 50)
    expected = detector(image, score=0.0)[0]
    for path in (run_folder, run_folder / "best.pt", str(run_folder)):
        loaded = Detector.load(path, "cpu")
        assert not loaded.model.training
        assert loaded.task.categories.names == ("ball", "box")
        np.testing.assert_array_equal(loaded(image)[0].boxes, expected.boxes)
    last = Detector.load(run_folder / "last.pt", "cpu")
    assert not np.array_equal(last(image)[0].boxes, expected.boxes)
    (run_folder / "best.pt").unlink()
    np.testing.assert_array_equal(Detector.load(run_folder, "cpu")(image)[0].boxes, last(image)[0].boxes)


def test_a_folder_without_a_checkpoint_says_so(tmp_path: Path) -> None:
    with pytest.raises(CtnetError, match=r"contains neither best\.pt nor last\.pt"):
        checkpoint_of(tmp_path)


def test_load_of_nothing_names_the_path(tmp_path: Path) -> None:
    with pytest.raises(CtnetError, match=r"cannot read .*nothing\.pt: No such file"):
        Detector.load(tmp_path / "nothing.pt")


def test_a_task_may_suppress_by_itself_and_ask_for_more_candidates(detector, random_image) -> None:
    image = random_image(64, 64)
    asked = []
    with torch.no_grad():
        detector.model.branches[0]["size"][2].bias.fill_(10)  # in cells, so that boxes overlap

    class Grouping(type(detector.task)):
        suppression = Suppression("hard", candidates=30)

        def decode(self, maps, k):
            asked.append(k)
            return super().decode(maps, k)

    (every,) = detector(image, DetectionSettings(score=0.0, topk=30))
    (hard,) = detector(image, DetectionSettings(score=0.0, topk=30, nms="hard"))
    assert len(hard) < len(every)
    detector.task = Grouping(detector.task.categories)
    (chosen,) = detector(image, DetectionSettings(score=0.0, topk=5))
    np.testing.assert_array_equal(chosen.boxes, hard.boxes[:5])
    (plain,) = detector(image, DetectionSettings(score=0.0, topk=5, nms="none"))
    np.testing.assert_array_equal(plain.boxes, every.boxes[:5])
    detector(image, DetectionSettings(score=0.0, topk=40))
    assert asked == [30, 30, 40]


# --- memory


@pytest.mark.parametrize("error", [torch.OutOfMemoryError("CUDA out of memory"), MemoryError()])
def test_without_memory_for_a_batch_it_is_looked_at_in_parts(
    detector, random_image, monkeypatch, error
) -> None:
    images = [random_image(64, 64, seed) for seed in range(5)]
    expected = detector(images, score=0.0)
    forward, sizes = detector.model.activated, []

    def scarce(inputs: torch.Tensor) -> dict[str, torch.Tensor]:
        sizes.append(len(inputs))
        if len(inputs) > 2:
            raise error
        return forward(inputs)

    monkeypatch.setattr(detector.model, "activated", scarce)
    for found, before in zip(detector(images, score=0.0), expected, strict=True):
        np.testing.assert_allclose(found.scores, before.scores, rtol=1e-5)
    assert sizes == [5, 2, 2, 1]


def test_an_image_that_no_memory_is_left_for_is_named(detector, random_image, monkeypatch) -> None:
    def refuse(inputs: torch.Tensor) -> dict[str, torch.Tensor]:
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 99 bytes.")

    monkeypatch.setattr(detector.model, "activated", refuse)
    with pytest.raises(CtnetError, match=r"image 0, 64x64 pixels .* needs more memory than available; use"):
        detector(random_image(64, 64), score=0.0)


def test_memory_is_asked_for_before_a_large_batch(detector, random_image, monkeypatch) -> None:
    images = [random_image(64, 64, seed) for seed in range(5)]
    needed = 64 * 64 * detector._forward.bytes_per_pixel
    assert needed > 0
    monkeypatch.setattr(forward_module, "_SMALL_INPUT", 64 * 64)
    forward, sizes = detector.model.activated, []
    monkeypatch.setattr(
        detector.model, "activated", lambda inputs: (sizes.append(len(inputs)), forward(inputs))[1]
    )
    monkeypatch.setattr(forward_module, "available_memory", lambda device: int(2.5 * needed))
    detector(images, score=0.0)
    assert sizes == [2, 2, 1]
    monkeypatch.setattr(forward_module, "available_memory", lambda device: int(0.5 * needed))
    with pytest.raises(CtnetError, match=r"needs at least .* GB, but .* GB are free; use --tiles"):
        detector(images, score=0.0)


# --- dtype, compile


def test_maps_in_bfloat16_are_close_to_those_in_float32(
    detector: Detector, random_image, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(prepare, "has_bf16", lambda device: True)
    lower = Detector(detector.task, detector.model, detector.description, dtype=torch.bfloat16)
    assert next(lower.model.parameters()).dtype == torch.bfloat16
    image = random_image(64, 64)
    views = detector.preprocessor().views(image, info(image), (1.0,))
    expected, maps = detector.maps(views), lower.maps(views)
    for name, values in maps.items():
        assert values.dtype == torch.float32
        assert not torch.equal(values, expected[name])
        assert (values - expected[name]).abs().max() < 2e-2 * expected[name].abs().max()


def test_a_compiled_detector_finds_the_same(
    detector: Detector, random_image, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch._dynamo.reset()
    monkeypatch.setattr(compiling, "BACKEND", "eager")
    quick = Detector(detector.task, detector.model, detector.description, compile=True)
    images = [random_image(width, height) for height, width in SIZES[:4]]
    settings = DetectionSettings(resize="keep", score=0.0)
    for found, expected in zip(quick(images, settings), detector(images, settings), strict=True):
        np.testing.assert_allclose(found.scores, expected.scores, rtol=1e-5)
        np.testing.assert_allclose(found.boxes, expected.boxes, atol=1e-3)
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"]
