"""MOTChallenge's and KITTI's files: lossless there and back, and what bad lines get."""

import json

import cv2
import numpy as np
import pytest
from ctnet_tasks_tracks.files import measure_files
from ctnet_tasks_tracks.kitti import export_kitti, import_kitti
from ctnet_tasks_tracks.mot import export_mot, import_mot

from ctnet.plugin import CtnetError, Dataset, create_task

GT = """1,1,912.5,484,97,109,1,1,0.97
1,2,1338,418.25,167,379,0,8,1
2,1,914,485,98,108,1,1,1
3,1,916,486,98.3,107,1,1,0.5
"""
INFO = """[Sequence]
name=MOT17-02
imDir=img1
frameRate=30
seqLength=3
imWidth=1920
imHeight=600
imExt=.jpg
"""
KITTI = """0 -1 DontCare -1 -1 -10.000000 219.310000 188.490000 245.500000 218.560000 -1000.000000 \
-1000.000000 -1000.000000 -10.000000 -1.000000 -1.000000 -1.000000
0 0 Van 0 0 -1.793451 296.744956 161.752147 455.226042 292.372804 2.000000 1.823255 4.433886 -4.552284 \
1.858523 13.410495 -2.115488
1 0 Van 0 1 -1.796862 294.898777 156.024256 452.199718 284.621269 2.000000 1.823255 4.433886 -4.650955 \
1.766774 13.581085 -2.121565
"""


def picture(path, size=(1920, 600)) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), np.full((size[1], size[0], 3), 90, np.uint8))


def mot_folder(folder, text=GT, frames=3):
    place = folder / "train" / "MOT17-02"
    for frame in range(1, frames + 1):
        picture(place / "img1" / f"{frame:06d}.jpg")
    (place / "gt").mkdir(exist_ok=True)
    (place / "gt" / "gt.txt").write_text(text)
    (place / "seqinfo.ini").write_text(INFO)
    return folder


def kitti_folder(folder):
    for frame in range(2):
        picture(folder / "training" / "image_02" / "0000" / f"{frame:06d}.png")
    labels = folder / "training" / "label_02" / "0000.txt"
    labels.parent.mkdir()
    labels.write_text(KITTI)
    calib = folder / "training" / "calib" / "0000.txt"
    calib.parent.mkdir()
    calib.write_text(
        "P2: 721.5377 0.0 609.5593 44.85728 0.0 721.5377 172.854 0.2163791 0.0 0.0 1.0 0.002745884\n"
    )
    return folder


def test_mot_is_the_same_text_after_the_way_there_and_back(tmp_path) -> None:
    source = mot_folder(tmp_path / "mot")
    import_mot(source, tmp_path / "coco", "copy", strict=True)
    export_mot(tmp_path / "coco", tmp_path / "again", "copy", strict=True)
    for name in ("gt/gt.txt", "seqinfo.ini"):
        before, after = (folder / "train" / "MOT17-02" / name for folder in (source, tmp_path / "again"))
        assert after.read_text() == before.read_text()
    assert len(list((tmp_path / "again" / "train" / "MOT17-02" / "img1").iterdir())) == 3


def test_mot_becomes_videos_that_tracks_reads(tmp_path) -> None:
    import_mot(mot_folder(tmp_path / "mot"), tmp_path / "coco", "copy")
    dataset = Dataset.open(tmp_path / "coco", "train")
    dataset = dataset.with_task(create_task("tracks", dataset.categories))
    assert [*dataset.videos.frames] == ["MOT17-02"]
    first = dataset.instances(0)
    assert first.boxes[0].tolist() == [911.5, 483, 1008.5, 592]  # counted from 0
    assert first.track_id.tolist() == [1, 2]
    assert first.crowd.tolist() == [False, True]  # a line that is not to be considered


def test_kitti_is_the_same_text_after_the_way_there_and_back(tmp_path) -> None:
    source = kitti_folder(tmp_path / "kitti")
    import_kitti(source, tmp_path / "coco", "copy", strict=True)
    export_kitti(tmp_path / "coco", tmp_path / "again", "none", strict=True)
    for name in ("label_02/0000.txt", "calib/0000.txt"):
        before, after = (folder / "training" / name for folder in (source, tmp_path / "again"))
        assert after.read_text() == before.read_text()


def test_kitti_has_what_3d_boxes_need(tmp_path) -> None:
    import_kitti(kitti_folder(tmp_path / "kitti"), tmp_path / "coco", "copy")
    dataset = Dataset.open(tmp_path / "coco", "train")
    dataset = dataset.with_task(create_task("tracks", dataset.categories, base="ddd"))
    assert not dataset.problems
    found = dataset.instances(1)
    assert found.location[0].tolist() == pytest.approx([-4.650955, 1.766774, 13.581085])
    assert np.shape(dataset.info(0).record["calib"]) == (3, 4)


@pytest.mark.parametrize("seed", range(2))
def test_random_videos_survive_both_formats(tmp_path, seed) -> None:
    rng = np.random.default_rng(seed)
    lines = []
    for frame in range(1, 4):
        for identity in rng.permutation(6)[:4]:
            box = rng.integers(-2000, 200000, 2) / 100, rng.integers(1, 50000, 2) / 1000
            numbers = [*box[0].tolist(), *box[1].tolist()]
            lines.append(
                [frame, int(identity), *numbers, 1, int(rng.integers(1, 13)), rng.integers(0, 101) / 100]
            )
    words = [[f"{v:g}" if v == int(v) else repr(float(v)) for v in line] for line in lines]
    text = "".join(",".join(line) + "\n" for line in words)
    import_mot(mot_folder(tmp_path / "mot", text), tmp_path / "coco", "copy", strict=True)
    export_mot(tmp_path / "coco", tmp_path / "again", "none")
    after = (tmp_path / "again" / "train" / "MOT17-02" / "gt" / "gt.txt").read_text().splitlines()
    assert [[float(word) for word in line.split(",")] for line in after] == lines


BAD = {
    "1,1,5,5,9": "not 7 to 10 words",
    "1,x,5,5,9,9,1,1,1": "not a number",
    "1,1.5,5,5,9,9,1,1,1": "not whole",
    "1,1,5,5,0,9,1,1,1": "without area",
    "9,1,5,5,9,9,1,1,1": "does not have (frame 9)",
    "1,1,5,5,9,9,1,99,1": "class that is not 1 to 13",
    "1,-4,5,5,9,9,1,1,1": "below 0",
    "1,1,nan,5,9,9,1,1,1": "not finite",
}


@pytest.mark.parametrize("line", BAD)
def test_a_bad_line_is_listed_and_the_others_are_kept(tmp_path, line) -> None:
    report = import_mot(
        mot_folder(tmp_path / "mot", f"2,3,5,5,9,9,1,1,1\n{line}\n"), tmp_path / "coco", "copy"
    )
    (problem,) = report.problems
    assert BAD[line] in str(problem)
    assert "gt.txt:2" in str(problem)
    assert (
        len(json.loads((tmp_path / "coco/annotations/instances_train.json").read_text())["annotations"]) == 1
    )
    with pytest.raises(CtnetError, match=r"gt\.txt:2"):
        import_mot(tmp_path / "mot", tmp_path / "strict", "copy", strict=True)


def test_one_identity_twice_in_a_frame_is_listed(tmp_path) -> None:
    text = "1,7,5,5,9,9,1,1,1\n1,7,20,5,9,9,1,1,1\n"
    report = import_mot(mot_folder(tmp_path / "mot", text), tmp_path / "coco", "copy")
    assert "identity that occurs twice in a frame (7 in frame 1)" in str(report.problems[0])


def test_a_missing_frame_keeps_its_objects(tmp_path) -> None:
    report = import_mot(mot_folder(tmp_path / "mot", frames=2), tmp_path / "coco", "copy")
    assert "frame 3 of MOT17-02: frame without an image" in str(report.problems[0])
    export_mot(tmp_path / "coco", tmp_path / "again", "none")
    assert (tmp_path / "again/train/MOT17-02/gt/gt.txt").read_text() == GT


def test_a_folder_without_sequences_is_refused(tmp_path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(CtnetError, match="holds no sequences"):
        import_mot(tmp_path / "empty", tmp_path / "coco")
    with pytest.raises(CtnetError, match="holds no sequences"):
        import_kitti(tmp_path / "empty", tmp_path / "coco")


def test_a_broken_seqinfo_is_named(tmp_path) -> None:
    source = mot_folder(tmp_path / "mot")
    (source / "train" / "MOT17-02" / "seqinfo.ini").write_text("[Sequence]\nseqLength=many\n")
    with pytest.raises(CtnetError, match=r"seqinfo.ini cannot be read .* seqLength, imWidth and imHeight"):
        import_mot(source, tmp_path / "coco")


def test_files_of_tracks_are_measured(tmp_path) -> None:
    import_mot(mot_folder(tmp_path / "mot"), tmp_path / "coco", "copy")
    tracks = tmp_path / "tracks"
    tracks.mkdir()
    with pytest.raises(CtnetError, match=r"no file of a video of train \(MOT17-02.txt"):
        measure_files(tracks, tmp_path / "coco", "train")
    lines = [line.split(",") for line in GT.splitlines()]
    kept = [
        [w[0], w[1], str(float(w[2]) - 1), str(float(w[3]) - 1), *w[4:6], "1", "2"]
        for w in lines
        if w[6] == "1"
    ]
    (tracks / "MOT17-02.txt").write_text("".join(",".join(words) + "\n" for words in kept))
    figures = measure_files(tracks, tmp_path / "coco", "train")
    assert figures["HOTA"] == figures["MOTA"] == figures["IDF1"] == 1
    (tracks / "MOT17-02.txt").write_text("1,1,5,5,9,9,1,2\n1,1,5,5,9,9,1,2\n")
    with pytest.raises(CtnetError, match="twice in a frame"):
        measure_files(tracks, tmp_path / "coco", "train")
