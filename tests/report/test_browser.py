"""The report in a real browser: what the slider shows, the keyboard, and what a screen reader needs."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ctnet.analysis.breakdown import Compared, break_down
from ctnet.analysis.reported import ReportChoices
from ctnet.analysis.reporting import run_page
from ctnet.core.records import Detections
from ctnet.report.page import Page, SideBySide, render_page

pytestmark = pytest.mark.browser

WIDTHS = (380, 1400)
EVIL = ["<script>alert(1)</script>", "a & b", '"quoted"', "</script>", "ring"]


@pytest.fixture(scope="module")
def examined(examined_run):
    return examined_run(EVIL)


@pytest.fixture(scope="module")
def report(examined, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The report of a run whose classes have names with markup."""
    path = tmp_path_factory.mktemp("report") / "report.html"
    page = run_page("run <b>", examined, ReportChoices(pictures=1), 1_000_000)
    path.write_text(render_page(Page("Report of run <b>", "now", [page])), "utf-8")
    return path


@pytest.fixture
def opened(browser, report: Path) -> Iterator[Callable[..., Any]]:
    """``opened(width)``: the report in a window; fails at the end for errors, and requests to anywhere."""
    problems: list[str] = []
    contexts = []

    def open_page(width: int, path: Path = report, **options: Any) -> Any:
        contexts.append(browser.new_context(viewport={"width": width, "height": 900}, **options))
        page = contexts[-1].new_page()
        page.on("console", lambda message: problems.append(f"{message.type}: {message.text}"))
        page.on("pageerror", lambda error: problems.append(str(error)))
        page.on("dialog", lambda dialog: problems.append(f"dialog: {dialog.message}"))
        own = path.as_uri()
        page.on(
            "request",
            lambda request: (
                None
                if request.url == own or request.url.startswith("data:")
                else problems.append(request.url)
            ),
        )
        page.goto(own)
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert problems == []


def set_slider(page: Any, step: int) -> None:
    page.locator("#score").evaluate(
        "(slider, step) => { slider.value = step; slider.dispatchEvent(new Event('input')); }", step
    )


def cells(page: Any, label: int) -> dict[str, str]:
    found = page.locator(f".counts [data-class='{label}']")
    return {one.get_attribute("data-what"): one.inner_text() for one in found.all()}


def counted_by_breakdown(examined, score: float, label: int | None) -> dict[str, int]:
    """The same from the error breakdown of the detections above the score alone."""
    dataset, task = examined.run.subject.dataset, examined.run.detector.task
    images = []
    for index in range(len(dataset)):
        found: Detections = examined.run.found[int(dataset.image_ids[index])].above(score)
        truth = dataset.instances(index)
        if label is not None:
            found, truth = found[found.labels == label], truth[truth.labels == label]
        overlap = task.overlap(found, Detections(truth.boxes, np.ones(len(truth)), truth.labels))
        images.append(Compared(truth, found, overlap))
    done = break_down(images)
    return {"right": done.right, "wrong": done.detections - done.right, "missed": done.objects - done.right}


@pytest.mark.parametrize("step", [0, 17, 50, 93])
def test_the_counts_of_the_slider_are_those_of_python(opened, examined, step: int) -> None:
    page = opened(1400)
    set_slider(page, step)
    for row, label in ((0, None), (1, 0), (5, 4)):
        shown, expected = cells(page, row), counted_by_breakdown(examined, step / 100, label)
        assert {name: int(shown[name]) for name in expected} == expected
        right, wrong, missed = expected.values()
        assert shown["precision"] == (f"{right / (right + wrong):.3f}" if right + wrong else "-")
        assert shown["recall"] == f"{right / (right + missed):.3f}"
    assert page.locator("#said [data-what='right']").inner_text() == cells(page, 0)["right"]


def test_the_slider_draws_and_removes_boxes(opened, examined) -> None:
    page = opened(1400)
    dataset = examined.run.subject.dataset
    names = {dataset.info(index).file_name: index for index in range(len(dataset))}
    for step in (0, 40, 80, 100):
        set_slider(page, step)
        for figure in page.locator("figure.shown").all():
            index = names[figure.locator("figcaption b").inner_text()]
            found = examined.run.found[int(dataset.image_ids[index])].above(step / 100)
            visible = [mark for mark in figure.locator("svg.found .mark").all() if mark.is_visible()]
            assert len(visible) == len(found) == int(figure.locator("output").inner_text())
            mine = examined.scored.object_scores[examined.scored.object_image == index]
            assert figure.locator(".mark.object.missed").count() == (mine < step / 100).sum()


def test_the_keyboard_is_enough(opened) -> None:
    page = opened(1400)
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.id") == "score"
    before = page.locator("#score-value").inner_text()
    counts = cells(page, 0)
    for _ in range(20):
        page.keyboard.press("ArrowRight")
    assert float(page.locator("#score-value").inner_text()) == pytest.approx(float(before) + 0.2)
    assert cells(page, 0) != counts
    heat = page.locator("figure.shown").first.locator(".heat")
    assert not heat.is_visible()
    for _ in range(40):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.className") == "heat-button":
            break
    page.keyboard.press("Enter")
    assert heat.is_visible()
    assert page.locator(".heat-button").first.get_attribute("aria-pressed") == "true"
    page.keyboard.press("Space")
    assert not heat.is_visible()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", WIDTHS)
def test_axe_finds_nothing_serious(opened, serious_problems, width: int, scheme: str) -> None:
    assert serious_problems(opened(width, color_scheme=scheme)) == {}


@pytest.mark.parametrize("width", WIDTHS)
def test_the_page_fits_the_window(opened, width: int) -> None:
    page = opened(width)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    outside = page.evaluate(
        """() => [...document.querySelectorAll("main h2, main h3, main p, figure, .figures > div, .wide")]
            .filter((one) => one.getBoundingClientRect().right > innerWidth + 1)
            .map((one) => one.outerHTML.slice(0, 80))"""
    )
    assert outside == []
    assert page.locator(".wide").first.evaluate("(one) => getComputedStyle(one).overflowX") == "auto"


def test_names_with_markup_are_text(opened) -> None:
    page = opened(1400)
    shown = [row.inner_text() for row in page.locator(".counts tbody th").all()]
    assert shown == ["all", *EVIL]
    assert page.locator("b", has_text="run").count() == 0
    assert page.locator("h2").first.inner_text() == "run <b>"


def test_without_the_script_the_page_shows_one_score(opened, examined) -> None:
    page = opened(1400, java_script_enabled=False)
    assert page.locator("#score-value").inner_text() == f"{examined.scored.counts().best / 100:.2f}"
    right, wrong, missed = examined.scored.counts().at(examined.scored.counts().best)
    shown = cells(page, 0)
    assert [int(shown[name]) for name in ("right", "wrong", "missed")] == [right, wrong, missed]
    first = page.locator("figure.shown").first
    drawn = [mark for mark in first.locator("svg.found .mark").all() if mark.is_visible()]
    assert 0 < len(drawn) == first.locator("svg.found .mark:not(.off)").count()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_on_paper_nothing_is_cut_off_and_letters_are_dark(opened, scheme: str) -> None:
    """Paper is white, also for a device whose pages are dark."""
    page = opened(1400, color_scheme=scheme)
    page.emulate_media(media="print")
    assert page.evaluate("getComputedStyle(document.body).color") == "rgb(28, 32, 36)"
    assert not page.locator("details summary").first.is_visible()
    assert not page.locator("#score").is_visible()
    assert not page.locator(".heat-button").first.is_visible()
    assert page.locator("figure.shown svg.found").first.is_visible()
    assert page.pdf(format="A4").startswith(b"%PDF")


def test_a_bare_page_and_several_runs(opened, examined, tmp_path: Path) -> None:
    one = run_page("one", examined, ReportChoices(pictures=0), 0)
    side = SideBySide(
        ["metric", "one", "bare"], [["AP", "0.5", ""]], {}, ["A = one, B = bare: not compared."]
    )
    bare = replace(one, name="bare", figures=(), counts=(), curves={}, confusion=None, groups={}, errors=())
    path = tmp_path / "several.html"
    path.write_text(render_page(Page("t", "m", [bare, one], side)), "utf-8")
    page = opened(1400, path)
    set_slider(page, 60)
    counts = examined.scored.counts().at(60)
    assert page.locator("[data-run='1'][data-class='0'][data-what='right']").inner_text() == str(counts[0])
    path.write_text(render_page(Page("t", "m", [bare])), "utf-8")
    assert opened(380, path).locator("#score").count() == 0
