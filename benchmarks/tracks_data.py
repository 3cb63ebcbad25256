"""Videos of moving shapes for the figures in the README of ctnet-tasks-tracks.

    python benchmarks/tracks_data.py DIR [--videos 40] [--frames 20]

Splits: ``train``, of videos of all speeds; ``stills``, the same images without videos and identities;
``val``, in which a shape moves 1 to 5 % of the image per frame; ``fast``, with 14 to 20 %, so that a shape
seldom overlaps its own place in the frame before.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import replace
from pathlib import Path

from ctnet_tasks_tracks.scenes import SPEEDS, film

from ctnet.core.task import create_task
from ctnet.data.synthetic import write_dataset
from ctnet.plugin import SHAPES

SPLITS = {"train": SPEEDS, "val": (0.01, 0.05), "fast": (0.14, 0.20)}


def main() -> None:
    """Write the four splits."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("directory", type=Path)
    parser.add_argument("--videos", type=int, default=40, help="videos to train on")
    parser.add_argument("--frames", type=int, default=20, help="frames of each video")
    parser.add_argument("--seed", type=int, default=0)
    chosen = parser.parse_args()
    task = create_task("tracks", SHAPES)
    scenes = task.scenes
    assert scenes is not None
    for split, speeds in SPLITS.items():
        videos = chosen.videos if split == "train" else 12

        def draw(rng, size, frames, speeds=speeds):  # type: ignore[no-untyped-def]
            return film(rng, size, frames, speeds)

        vars(task)["scenes"] = replace(scenes, video=draw, length=chosen.frames)
        counts = {split: videos * chosen.frames}
        write_dataset(task, chosen.directory, counts, (128, 128), chosen.seed)
    _without_videos(chosen.directory)


def _without_videos(directory: Path) -> None:
    """The annotations of ``train`` as those of single images, in ``stills``."""
    path = directory / "annotations" / "instances_train.json"
    content = json.loads(path.read_text())
    for image in content["images"]:
        image["file_name"] = f"train/{image['file_name']}"
        del image["video_id"], image["frame_id"]
    for annotation in content["annotations"]:
        annotation.pop("track_id", None)
        annotation.pop("previous", None)
    path.with_name("instances_stills.json").write_text(json.dumps(content))


if __name__ == "__main__":
    main()
