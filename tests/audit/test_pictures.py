"""Pictures of suggestions show what they are about, wherever it lies."""

from __future__ import annotations

import numpy as np
import pytest

from ctnet.audit.pictures import SIDE, pictures
from ctnet.audit.suggestions import Suggestion
from ctnet.core.records import ImageInfo, Instances, Sample
from ctnet.core.task import create_task, load_task_class

from .test_suggestions import evidence


def suggestion(task, box, size, kind="box"):
    instances = Instances.of([box], [0])
    image = np.full((size[1], size[0], 3), 90, np.uint8)
    found = [] if kind == "unseen" else [(0, 0.9, box)]
    one = evidence([(0, 1, box)], found)
    return (
        Suggestion(kind, 0.5, one, 0, None if kind == "unseen" else 0),
        Sample(image, instances, ImageInfo(1, "a.jpg", *size)),
    )


@pytest.mark.parametrize(
    ("box", "size"),
    [
        ((10, 10, 40, 30), (200, 150)),
        ((0, 0, 8, 6), (2000, 1500)),
        ((1500, 900, 1999, 1499), (2000, 1500)),
        ((0, 0, 30, 400), (30, 400)),
        ((-20, -20, 700, 30), (640, 20)),
    ],
)
def test_what_was_seen_is_drawn_inside_the_picture(box, size):
    task = create_task("ctdet", [{"id": 1, "name": "cat"}])
    left, right = pictures(*suggestion(task, box, size), task)
    assert left.shape == right.shape == (SIDE, SIDE, 3)
    # Coloured pixels are the drawing: the image and what is beyond it are grey.
    coloured = np.ptp(right.astype(int), axis=2) > 40
    assert coloured.any(axis=0).sum() > 8 or coloured.any(axis=1).sum() > 8
    assert (left == 255).all(axis=2).any()  # the frame


def test_where_nothing_is_seen_the_image_is_left_as_it_is():
    task = create_task("ctdet", [{"id": 1, "name": "cat"}])
    _, right = pictures(*suggestion(task, (50, 50, 90, 90), (200, 200), "unseen"), task)
    assert (right == 90).all()


def test_a_task_that_needs_the_whole_image_draws_it_whole():
    """A camera's projection is of the image's own pixels."""
    cls = load_task_class("ddd")
    task = create_task("ddd", cls.scenes.categories)
    from ctnet.core.documents import truth_of
    from ctnet.core.task import example_of

    sample = example_of(task, np.random.default_rng(3))
    truth = truth_of(task, sample.instances)
    one = evidence([(int(truth.labels[0]), 1, tuple(truth.boxes[0].tolist()))])
    one = Suggestion("unseen", 0.5, type(one)(**{**vars(one), "annotated": truth, "found": truth}), 0)
    left, right = pictures(one, sample, task)
    assert left.shape == right.shape == (SIDE, SIDE, 3)
    assert not np.array_equal(left, right)
