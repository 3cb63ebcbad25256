"""Reports of runs as they occur: complete, of one or a thousand classes, without detections or evaluation."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from ctnet.analysis import report_figures, report_scores, reporting
from ctnet.analysis.reported import Examined, ReportChoices
from ctnet.analysis.reporting import run_page
from ctnet.analysis.scored import Scored
from ctnet.base.plugins import Plugin
from ctnet.core.operating import OperatingPoint, OperatingPoints
from ctnet.evaluation.calibration import ReliabilityBin
from ctnet.report.page import LARGEST, Page, ReportSection, ReportTable, render_page

CHOICES = ReportChoices(pictures=1)
EVIL = ["<script>alert(1)</script>", "a & b", '"quoted"', "</script>", "ring"]


def rendered(done: Examined, room: int = 1_000_000) -> str:
    return render_page(Page("t", "m", [run_page("run", done, CHOICES, room)]))


def test_a_complete_run(examined_run) -> None:
    done = examined_run()
    page = run_page("run", done, CHOICES, 1_000_000)
    assert [one.name for one in page.counts] == ["all", "ball", "square", "triangle", "ring", "cross"]
    assert page.step == done.scored.counts().best
    assert page.counts[0].right[page.step] == done.scored.counts().at(page.step)[0]
    assert [gallery.title for gallery in page.galleries] == [
        "Missed objects",
        "False detections with high scores",
        "Wrong class",
        "Badly placed",
    ]
    assert {one.name: one.value for one in page.figures}["AP"] == done.run.done.metrics["AP"]
    assert list(page.charts) == ["loss", "metrics", "learning rate"]
    assert "of the objects" in next(iter(page.groups))
    assert page.left_out == []
    text = render_page(Page("t", "m", [page]))
    assert "What costs most is" in text
    assert len(text.encode()) < 400_000


def test_classes_with_markup(examined_run) -> None:
    text = rendered(examined_run(EVIL))
    assert "<script>alert" not in text
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in text
    assert text.count("</script>") == 2


def test_pictures_show_what_is_right_and_missed(examined_run) -> None:
    done = examined_run()
    page = run_page("run", done, CHOICES, 1_000_000)
    missed = page.galleries[0].images[0]
    count, total = map(int, re.findall(r"(\d+) of (\d+) objects missed", missed.why)[0])
    assert len(missed.annotated) == total
    assert sum(mark.step < page.step for mark in missed.annotated) == count > 0
    found = sum(mark.kind == "right" and mark.step >= page.step for mark in missed.detected)
    assert found == total - count
    assert missed.picture.startswith("data:image/jpeg")
    assert missed.heatmap.startswith("data:image/png")


def test_without_a_single_detection(examined_run) -> None:
    done = examined_run(nothing=True)
    text = rendered(done)
    assert "nothing was detected" in text
    assert "Precision and recall" not in text
    assert "objects missed" in text, "the images are shown all the same"


def test_a_picture_that_has_gone(examined_run, tmp_path: Path) -> None:
    done = examined_run()
    dataset = replace(done.run.subject.dataset, folders=(tmp_path,))
    run = replace(done.run, subject=replace(done.run.subject, dataset=dataset))
    text = rendered(replace(done, run=run))
    assert "is missing; searched" in text
    assert 'class="blank"' in text


def test_pictures_that_do_not_fit_are_named(examined_run) -> None:
    done = examined_run()
    text = rendered(done, room=20_000)
    assert "of the worst images, to keep the page small" in text
    assert len(text.encode()) < 200_000


def test_a_page_that_is_too_large_loses_pictures(examined_run, monkeypatch: pytest.MonkeyPatch) -> None:
    page = Page("t", "m", [run_page("run", examined_run(), CHOICES, 1_000_000)])
    least = len(render_page(replace(page, runs=[replace(page.runs[0], galleries=[])])))
    monkeypatch.setattr(reporting, "LARGEST", least + 1000)
    text = reporting._within(page)
    assert len(text.encode()) <= least + 1000
    assert "pictures, to keep the page small" in text


def test_operating_points_are_shown(examined_run) -> None:
    done = examined_run()
    names = done.run.detector.class_names
    few = OperatingPoint(0.25, 0.5, 0.75, 0.6, 9, own=False)
    points = OperatingPoints(
        "f1", None, "IoU 0.5", "val", 24, dict.fromkeys(names, few), replace(few, own=True), 100, 0, None
    )
    done.run.detector.operating_points = points
    page = run_page("run", done, CHOICES, 1_000_000)
    assert page.step == 25
    assert page.operating.header == ["class", "score", "precision", "recall", "F1", "objects"]
    assert page.operating.rows[0][:2] == ["all classes", "0.25"]
    assert page.operating.rows[1] == ["ball", "0.25 *", "0.500", "0.750", "0.600", "9"]
    assert "best F1 on val" in page.operating_said
    assert "Classes with * have few objects" in page.operating_said
    done.run.detector.operating_points = replace(points, classes=dict.fromkeys(names, replace(few, own=True)))
    page = run_page("run", done, CHOICES, 1_000_000)
    assert {row[1] for row in page.operating.rows} == {"0.25"}
    assert "*" not in page.operating_said


def bins(*rows: tuple[float, int, float, float]) -> list[ReliabilityBin]:
    return [ReliabilityBin(low, low + 0.1, count, mean, right) for low, count, mean, right in rows]


def test_the_direction_of_scores_is_said() -> None:
    high, low = (0.1, 50, 0.15, 0.05), (0.4, 50, 0.45, 0.8)
    direction = report_scores._direction
    assert direction(bins(high, low)) == "; below 0.4 they are too high, above it too low"
    assert direction(bins(low, (0.7, 50, 0.75, 0.5))).startswith("; below 0.7 they are too low")
    assert direction(bins(low, (0.7, 3, 0.75, 0.5))) == "; they are too low", "few say little"
    assert direction(bins(high, low, (0.7, 50, 0.75, 0.5))) == ""
    assert direction([]) == ""


def many(classes: int, images: int, per_image: int = 10) -> Scored:
    rng = np.random.default_rng(0)
    count = images * per_image
    image = np.repeat(np.arange(images), per_image)
    labels = rng.integers(classes, size=count)
    right = rng.random(count) < 0.6
    taken = np.where(right, np.arange(count), -1)
    areas = rng.uniform(100, 20_000, count)
    row = np.tile(np.arange(per_image), images)
    return Scored(
        images,
        rng.random(count),
        labels,
        np.where(right, 6, 4),
        image,
        row,
        taken,
        taken,
        areas,
        labels,
        image,
        areas,
    )


def test_a_thousand_classes_are_bounded(examined_run) -> None:
    done = examined_run()
    names = [f"class {number}" for number in range(1000)]
    scored = many(1000, 300)
    done.run.detector.task.categories = type(done.run.detector.task.categories)(
        [{"id": number, "name": name} for number, name in enumerate(names, start=1)]
    )
    done = replace(done, scored=scored, left_out=[])
    rows, _ = report_figures.tallied(done)
    assert len(rows) == 1 + report_scores.MOST_CLASSES
    assert rows[0].objects == 3000
    charts = report_scores.curves(done, scored, done.left_out)
    absent = len(set(scored.object_labels.tolist())) - report_scores.MOST_CURVES
    assert len(charts) == 1 + report_scores.MOST_CURVES
    shown, table = report_scores.confusion(scored, names, 30, done.left_out)
    assert len(shown) == len(table) == report_scores.MOST_CONFUSED + 2
    assert np.sum(table) == scored.confusion(0.3, 1000).sum()
    assert [int(re.findall(r"(\d+) classes", line)[0]) for line in done.left_out] == [940, absent, 980]


@pytest.mark.thorough
def test_a_hundred_thousand_images_are_bounded(examined_run) -> None:
    done = examined_run()
    scored = many(5, 100_000)
    done = replace(done, scored=scored)
    rows, _ = report_figures.tallied(done)
    charts = report_scores.curves(done, scored, done.left_out)
    size = len(str(rows)) + sum(map(len, charts.values()))
    assert size < 200_000
    assert len(scored.worst(0.3, "missed")) > 50_000


def plugins(monkeypatch: pytest.MonkeyPatch, **sections: object) -> None:
    class Fake(Plugin):
        def load(self) -> object:
            return sections[self.name]

        @property
        def origin(self) -> str:
            return f"{self.name} 1.0"

    found = {name: Fake(reporting.GROUP, name, ()) for name in sections}
    monkeypatch.setattr(reporting, "discover", lambda group: found if group == reporting.GROUP else {})


def test_plugins_add_sections(examined_run, monkeypatch: pytest.MonkeyPatch) -> None:
    def section(run) -> ReportSection:
        picture = np.zeros((20, 30, 3), np.uint8)
        table = ReportTable(["image", "<b>"], [[len(run.found), "<i>"]])
        return ReportSection("Mine <b>", [f"{run.done.metrics['AP']:.3f}"], [table], {"dark": picture})

    def broken(run) -> ReportSection:
        raise ZeroDivisionError("no\nobjects")

    plugins(monkeypatch, good=section, none=lambda run: None, broken=broken)
    done = examined_run()
    text = rendered(done)
    assert "Mine &lt;b&gt;" in text
    assert "&lt;i&gt;" in text
    assert 'alt="dark"' in text
    assert done.left_out == ["section broken of broken 1.0, which failed (ZeroDivisionError: no objects)"]


def test_pictures_of_plugins_are_bounded(examined_run, monkeypatch: pytest.MonkeyPatch) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (300, 300, 3), np.uint8)
    section = ReportSection("Many", pictures={str(number): noise for number in range(9)})
    plugins(monkeypatch, many=lambda run: section)
    done = examined_run()
    page = run_page("run", done, CHOICES, 1000)
    assert 0 < len(page.sections[0].pictures) < 9
    assert "pictures of section many, to keep the page small" in done.left_out[-1]


def test_names_are_as_short_as_they_can_be() -> None:
    assert reporting._names([Path("/a/x"), Path("/a/y")]) == ["x", "y"]
    assert reporting._names([Path("/a/x/run"), Path("/a/y/run")]) == ["x/run", "y/run"]
    assert reporting._names([Path("/a/x"), Path("/a/x")]) == ["//a/x", "//a/x"]
    assert LARGEST == 5_000_000
