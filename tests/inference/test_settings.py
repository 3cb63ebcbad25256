from __future__ import annotations

import pytest

from ctnet.base.errors import CtnetError
from ctnet.core.declarations import Suppression
from ctnet.core.task import create_task
from ctnet.inference.settings import MULTISCALE, DetectionSettings, choose_scales
from ctnet.inference.timing import STAGES, StageTimes


@pytest.mark.parametrize(
    ("multiscale", "text", "expected"),
    [
        (False, None, (1.0,)),
        (True, None, MULTISCALE),
        (False, "0.75,1", (0.75, 1.0)),
        (True, "2", (2.0,)),
    ],
)
def test_scales_of_the_command_line(multiscale: bool, text: str | None, expected: tuple[float, ...]) -> None:
    assert choose_scales(multiscale, text) == expected


@pytest.mark.parametrize("text", ["", "1,", "a", "0", "1,-1", "nan", "inf", "1e9", "1e-9", "1,17", "²"])
def test_scales_that_are_none(text: str) -> None:
    with pytest.raises(CtnetError, match=f"--scales is '{text}'"):
        choose_scales(False, text)


def test_suppression_goes_with_the_scales_and_the_task() -> None:
    task = create_task("ctdet", [{"id": 1, "name": "thing"}])
    assert DetectionSettings().suppression(task) == "none"
    assert DetectionSettings(scales=MULTISCALE).suppression(task) == "soft"
    assert DetectionSettings(scales=MULTISCALE, nms="none").suppression(task) == "none"
    assert DetectionSettings(nms="hard").suppression(task) == "hard"

    class Grouping(type(task)):
        suppression = Suppression("soft-linear")

    grouping = Grouping(task.categories)
    assert DetectionSettings().suppression(grouping) == "soft-linear"
    assert DetectionSettings(nms="none").suppression(grouping) == "none"
    assert DetectionSettings(scales=MULTISCALE).suppression(grouping) == "soft"


def test_times_add_up() -> None:
    one, other = StageTimes(images=2, passed=4.0), StageTimes(images=6, passed=3.0)
    one.seconds["network"], other.seconds["network"] = 1.0, 3.0
    one.add(other)
    assert one.images_per_second == 2.0
    assert one.milliseconds() == {**dict.fromkeys(STAGES, 0.0), "network": 500.0}
    assert str(one) == "2.0 images/s; ms per image: load 0.0, pre 0.0, network 500.0, decode 0.0, post 0.0"
    assert one.to_json()["ms_per_image"]["network"] == 500.0
    assert StageTimes().images_per_second == 0.0
