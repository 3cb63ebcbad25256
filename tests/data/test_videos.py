"""Videos of a data set: order, gaps, bad entries, and pairs for training."""

import json

import cv2
import numpy as np
import pytest

from ctnet.base.errors import CtnetError
from ctnet.core.recipe import Augmentation
from ctnet.core.task import create_task
from ctnet.data.dataset import Dataset
from ctnet.data.loader import TrainingSet
from ctnet.data.shape_scenes import SHAPES

STILL = Augmentation(flip=0, scale=None, shift=0, colour=0, lighting=0)


def data(folder, entries, annotations=(), size=(64, 64)):
    """A data directory whose image i is of grey value 10 i."""
    images = []
    for number, entry in enumerate(entries, start=1):
        name = f"{number}.png"
        (folder / "train").mkdir(parents=True, exist_ok=True)
        wide = entry.pop("wide", size[0])
        cv2.imwrite(str(folder / "train" / name), np.full((size[1], wide, 3), 10 * number, np.uint8))
        images.append({"id": number, "file_name": name, "width": wide, "height": size[1], **entry})
    rows = [{"id": i, "area": 100, "iscrowd": 0, **row} for i, row in enumerate(annotations, start=1)]
    content = {"images": images, "annotations": rows, "categories": [dict(one) for one in SHAPES]}
    (folder / "annotations").mkdir(exist_ok=True)
    (folder / "annotations" / "instances_train.json").write_text(json.dumps(content))
    return folder


def frames(*numbers, video="a"):
    return [{"video_id": video, "frame_id": number} for number in numbers]


def box(image, x, y, track=None, **more):
    known = {} if track is None else {"track_id": track}
    return {"image_id": image, "category_id": 1, "bbox": [x, y, 10, 10], **known, **more}


def test_frames_are_ordered_by_their_numbers(tmp_path) -> None:
    entries = [*frames(3, 1, 7), *frames(1, video=2), {}]
    videos = Dataset.open(data(tmp_path, entries), "train").videos
    assert videos.frames == {"a": [1, 0, 2], 2: [3]}
    assert videos.stills == [4]
    assert videos.earlier(2, 4) == [0]
    assert videos.earlier(2, 6) == [0, 1]
    assert videos.earlier(1, 9) == videos.earlier(4, 9) == []
    lines = videos.warnings()
    assert lines == [
        "the frames of video a are not in order in the file; frame_id orders them",
        "video a lacks 1 frames between 1 and 7",
    ]


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        ([{"frame_id": 3}], r"image 1 of .*instances_train.json \(1.png\) has a frame_id but no video_id"),
        ([{"video_id": "a"}], r"has a video_id but no frame_id; a frame of a video needs both"),
        ([{"video_id": "a", "frame_id": "x"}], r"has frame_id 'x'; it must be a whole number"),
        ([{"video_id": 1.5, "frame_id": 1}], r"has video_id 1.5; it must be a whole number or a name"),
        (frames(4, 4), r"image 2 .* is frame 4 of video a, as an earlier image is; renumber it"),
    ],
)
def test_bad_entries_get_one_line(tmp_path, entries, message) -> None:
    dataset = Dataset.open(data(tmp_path, entries), "train")
    with pytest.raises(CtnetError, match=message):
        _ = dataset.videos


def tracks(dataset, **options):
    pytest.importorskip("ctnet_tasks_tracks")
    calm = {"missed": 0, "false": 0, "jitter": 0, **options}
    task = create_task("tracks", dataset.categories, **calm)
    return task, dataset.with_task(task)


def test_one_identity_twice_in_a_frame_is_listed_and_the_first_kept(tmp_path) -> None:
    rows = [box(1, 5, 5, 7), box(1, 30, 5, 7), box(1, 30, 30, 8), box(1, 5, 30)]
    _, dataset = tracks(Dataset.open(data(tmp_path, frames(1), rows), "train"))
    assert dataset.instances(0).track_id.tolist() == [7, 8, -1]
    (problem,) = dataset.problems
    assert str(problem).startswith("annotation 2 of image 1: annotation unfit for the task")
    assert "its track_id is that of an earlier object of the frame" in str(problem)


def test_a_pair_shows_the_earlier_frame_and_its_objects(tmp_path) -> None:
    rows = [box(1, 8, 8, 7), box(2, 20, 12, 7), box(2, 40, 40, 9)]
    task, dataset = tracks(Dataset.open(data(tmp_path, frames(1, 2), rows), "train"))
    sample = TrainingSet(dataset, task, (64, 64), STILL)[0, 1]
    assert sample.image.shape == (64, 64, 7)
    assert sample.image[0, 0, :6].tolist() == [20, 20, 20, 10, 10, 10]
    plane = sample.image[..., 6]
    assert np.unravel_index(plane.argmax(), plane.shape) == (13, 13)
    target = sample.targets["displacement"]
    assert len(target) == 1  # the other was not there before
    cell = np.array([target.x[0], target.y[0]])
    assert ((cell + target.value[0].numpy()) * 4).tolist() == pytest.approx([13, 13], abs=1e-4)


def test_a_still_image_is_paired_with_a_view_of_itself(tmp_path) -> None:
    rows = [box(1, 20, 20), box(1, 40, 36)]
    task, dataset = tracks(Dataset.open(data(tmp_path, [{}], rows), "train"), still_shift=0.1)
    sample = TrainingSet(dataset, task, (64, 64), STILL)[0, 0]
    target, plane = sample.targets["displacement"], sample.image[..., 6]
    assert len(target) == 2
    for x, y, value in zip(target.x.tolist(), target.y.tolist(), target.value.numpy(), strict=True):
        place = np.round((np.array([x, y]) + value) * 4).astype(int)
        assert plane[max(place[1] - 1, 0) : place[1] + 2, max(place[0] - 1, 0) : place[0] + 2].max() > 200
    again = TrainingSet(dataset, task, (64, 64), STILL)[0, 0]
    assert np.array_equal(again.image, sample.image)


def test_frames_of_another_size_are_not_paired(tmp_path) -> None:
    entries = [{**frames(1)[0], "wide": 80}, *frames(2)]
    rows = [box(1, 5, 5, 1), box(2, 5, 5, 1)]
    dataset = Dataset.open(data(tmp_path, entries, rows), "train")
    assert dataset.pair(1, np.random.default_rng(0), 3).previous is None


def test_an_earlier_frame_that_is_missing_is_left_out(tmp_path) -> None:
    folder = data(tmp_path, frames(1, 2), [box(2, 5, 5, 1)])
    (folder / "train" / "1.png").unlink()
    dataset = Dataset.open(folder, "train")
    assert dataset.pair(1, np.random.default_rng(0), 3).previous is None


def test_identities_without_frames_are_those_of_still_images(tmp_path) -> None:
    task, dataset = tracks(Dataset.open(data(tmp_path, [{}], [box(1, 20, 20, 4)]), "train"))
    assert len(TrainingSet(dataset, task, (64, 64), STILL)[0, 0].targets["displacement"]) == 1
