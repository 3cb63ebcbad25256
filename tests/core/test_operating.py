"""The document of operating points: written and read, said in a line, refused where an edit broke it."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from ctnet.base.errors import CtnetError
from ctnet.core.operating import (
    Calibration,
    CalibrationCurve,
    OperatingPoint,
    OperatingPoints,
    PointIntervals,
    read_operating_points,
)

NAMES = ("ant", "bee")
CURVE = CalibrationCurve((0.1, 0.5), (0.0, 0.9))


def points(**scores: float) -> OperatingPoints:
    spread = PointIntervals((0.2, 0.6), (0.7, 0.9), (0.5, 0.7), (0.6, 0.8))
    scores = scores or {"ant": 0.41, "bee": 0.275}
    classes = {
        name: OperatingPoint(score, 0.8, 0.6, 0.69, 40, intervals=spread) for name, score in scores.items()
    }
    everything = OperatingPoint(0.35, 0.8, 0.6, 0.69, 80)
    calibration = Calibration(dict.fromkeys(classes, CURVE), CURVE, 0.1, 0.02, 5)
    return OperatingPoints("f1", None, "IoU 0.5", "val", 60, classes, everything, 200, 0, "", calibration)


def test_what_is_written_is_read_again() -> None:
    whole = points()
    assert read_operating_points(json.dumps(whole.to_json()), NAMES, "best.pt", "train again") == whole
    assert whole.thresholds(["bee", "ant"]).tolist() == [0.275, 0.41]


def test_the_line_that_is_printed() -> None:
    few = points()
    assert few.said == "thresholds of the operating points: best F1 on val, ant 0.41, bee 0.28"
    many = points(**{f"class{number}": number / 100 for number in range(10, 22)})
    assert many.said.endswith("best F1 on val, 0.10 to 0.21 for 12 classes")
    wanted = OperatingPoints(**{**vars(few), "goal": "precision", "wanted": 0.9, "split": "test"})
    assert wanted.chosen_for == "precision 0.9 on test"


def change(*path: str, value: Any) -> Callable[[dict[str, Any]], None]:
    def apply(document: dict[str, Any]) -> None:
        for key in path[:-1]:
            document = document[key]
        document[path[-1]] = value

    return apply


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (
            change("classes", "ant", "score", value=1.5),
            "at classes.ant.score: 1.5, expected a number less than",
        ),
        (change("classes", "ant", "score", value="0.4"), "at classes.ant.score: '0.4', expected a number"),
        (change("classes", "ant", "scores", value=0.4), "at classes.ant.scores: 0.4, expected no such key"),
        (change("goal", value="speed"), "at goal: 'speed'"),
        (
            change("classes", "cat", value=points().to_json()["everything"]),
            "are of other classes: 'cat' is unknown",
        ),
        (lambda document: document["classes"].pop("bee"), "are of other classes: 'bee' is missing"),
        (lambda document: document["calibration"]["classes"].pop("bee"), "'bee' is missing"),
        (
            change("calibration", "classes", "bee", "probabilities", value=[0.9, 0.1]),
            "have a calibration of 'bee' that does not ascend",
        ),
        (
            change("calibration", "everything", "scores", value=[0.5]),
            "calibration of 'all classes' that does",
        ),
    ],
)
def test_an_edited_document_is_refused_in_a_line(edit: Callable[[dict[str, Any]], Any], message: str) -> None:
    document = points().to_json()
    edit(document)
    with pytest.raises(CtnetError) as caught:
        read_operating_points(json.dumps(document), NAMES, "best.pt", "train again")
    assert message in str(caught.value)
    assert str(caught.value).startswith("the operating points in best.pt")
    assert str(caught.value).endswith("; train again")
    assert "\n" not in str(caught.value)


def test_a_curve_of_calibration_is_linear_between_its_points() -> None:
    assert CURVE([0.0, 0.1, 0.3, 0.5, 1.0]).tolist() == pytest.approx([0, 0, 0.45, 0.9, 0.9])
