"""Checks of tasks that see two frames: what they declare, and how their tracker follows objects."""

from __future__ import annotations

import numpy as np

from ctnet.core.documents import truth_of
from ctnet.core.frames import Frames, identity_of
from ctnet.core.records import Detections
from ctnet.core.tracking import Tracker
from ctnet.testing.check import require
from ctnet.testing.probe import Probe, task_check

_FEW = 6
_BIRTH = 0.3


@task_check("Task.frames")
def frames_are_declared(probe: Probe) -> None:
    """A task that sees two frames says who an object is, links it to the earlier frame, and draws pairs."""
    frames = probe.task.frames
    require(isinstance(frames, Frames), f"frames is a {type(frames).__name__}, not Frames")
    if frames.count == 1:
        return
    require(identity_of(probe.task.fields) is not None, "it has no field of the kind Identity")
    require(frames.planes in (0, 1, len(probe.task.categories)), f"there are {frames.planes} planes")
    for seed, scene in enumerate(probe.scenes(_FEW)):
        before = scene.previous
        require(before is not None, f"scene {seed} has no previous frame")
        assert before is not None
        shapes = before.image.shape, scene.image.shape
        require(shapes[0] == shapes[1], f"scene {seed}: the frames are {shapes[0]} and {shapes[1]}")


@task_check("Task.frames, Frames.link")
def objects_are_linked_to_where_they_were(probe: Probe) -> None:
    """link keeps all rows and other columns, follows where an object was, and takes unknown places."""
    frames = probe.task.frames
    if frames.link is None:
        return
    for seed, scene in enumerate(probe.scenes(_FEW)):
        instances = scene.instances
        moved = [instances.boxes + shift for shift in (0, 3)]
        near, far, unknown = (
            frames.link(instances, boxes) for boxes in (*moved, np.full_like(moved[0], np.nan))
        )
        rows = {len(near), len(far), len(unknown)} - {len(instances)}
        require(not rows, f"scene {seed}: {len(instances)} objects become {rows}")
        before, changed = instances.fields(), []
        for name, column in near.fields().items():
            same = np.array_equal(column, far.fields()[name], equal_nan=column.dtype.kind == "f")
            if not same:
                changed.append(name)
                continue
            require(
                name in before and np.shape(before[name]) == np.shape(column),
                f"scene {seed}: column {name!r} is new or has other rows, and does not depend on the boxes",
            )
        require(changed, f"scene {seed}: no column depends on where the objects were")
        targets = probe.task.encode(probe.on_grid(unknown), probe.grid)
        for name, head in probe.task.heads.items():
            rendered = head.render(targets[name], probe.grid)
            require(
                bool(rendered.isfinite().all()), f"scene {seed}: unknown places make {name} infinite or NaN"
            )


@task_check("Task.frames, Frames.tracker")
def a_tracker_keeps_identities(probe: Probe) -> None:
    """An object keeps its identity, no two in a frame have the same, and none is used again after a reset."""
    frames = probe.task.frames
    if frames.tracker is None:
        return
    for seed, scene in enumerate(probe.scenes(_FEW)):
        tracker = frames.tracker(probe.task, _BIRTH)
        require(isinstance(tracker, Tracker), f"it makes a {type(tracker).__name__}, not a Tracker")
        before, now = _frames_of(probe, seed)
        first, second = (tracker.update(found) for found in (before, now))
        for found in (first, second):
            known = found.track_id[found.track_id >= 0]
            require(len(known) == len(found), f"scene {seed}: {len(found) - len(known)} objects have none")
            require(len(set(known.tolist())) == len(known), f"scene {seed}: two objects of a frame have one")
        name = identity_of(probe.task.fields)
        ids = scene.instances[~scene.instances.crowd].fields()[str(name)]
        earlier = scene.previous.instances if scene.previous is not None else scene.instances
        were = dict(
            zip(earlier[~earlier.crowd].fields()[str(name)].tolist(), first.track_id.tolist(), strict=True)
        )
        wrong = [
            identity
            for identity, got in zip(ids.tolist(), second.track_id.tolist(), strict=True)
            if identity in were and were[identity] != got
        ]
        require(
            len(wrong) <= len(ids) / 4,
            f"scene {seed}: {len(wrong)} of {len(ids)} objects get other identities in the next frame",
        )
        tracker.reset()
        used = {*first.track_id.tolist(), *second.track_id.tolist()}
        again = used.intersection(tracker.update(before).track_id.tolist())
        require(not again, f"scene {seed}: after a reset the identities {sorted(again)} are used again")


def _frames_of(probe: Probe, seed: int) -> tuple[Detections, Detections]:
    """The annotated objects of a scene's two frames as detections, without their identities."""
    scene, name = probe.scenes(seed + 1)[seed], str(identity_of(probe.task.fields))
    require(scene.previous is not None, f"scene {seed} has no previous frame")
    assert scene.previous is not None
    pair = [truth_of(probe.task, one.instances).without(name) for one in (scene.previous, scene)]
    return pair[0], pair[1]
