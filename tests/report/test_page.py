"""The page of plain values: nothing in it can end an element, and its size does not grow with the data."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np

from ctnet.report.captions import Caption
from ctnet.report.embedding import as_jpeg
from ctnet.report.page import (
    Bar,
    Figure,
    Gallery,
    Mark,
    Page,
    ReportTable,
    RunPage,
    Shown,
    SideBySide,
    Tallied,
    ratio,
    render_page,
    script_json,
    with_code,
)

EVIL = '</script><script>alert("1")</script><img src=x onerror=alert(2)> & \u2028 \' "'


class Elements(HTMLParser):
    """Names and attributes of all elements, and the texts of scripts."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))


def everything(text: str) -> RunPage:
    """A run whose every text is this one."""
    picture = as_jpeg(np.zeros((4, 6, 3), np.uint8))
    marks = [Mark((0, 0, 3, 3), text, Caption(0, 3), "right", 50, (picture, (0, 0, 6, 4)))]
    shown = Shown(text, text, 6, 4, picture, picture, marks, marks, why_not=text)
    counts = [1] * 101
    figure = Figure(text, 0.5, 0.4, 0.6)
    return RunPage(
        name=text,
        summary=text,
        about={text: text},
        epochs=ReportTable([text], [[text]]),
        figures=[figure],
        figures_said=[text],
        counts=[Tallied(text, counts, counts, 3, {"AP": figure})],
        class_figures=["AP"],
        operating=ReportTable([text], [[text, text]]),
        operating_said=text,
        confusion=([text, "background"], [[1, 2], [3, 0]]),
        errors=[Bar(text, (text, text), 0.5)],
        errors_said=text,
        oracle=[Bar(text, (text,), 0.5)],
        oracle_said=[text],
        groups={text: [Bar(text, (text,), 1.0)]},
        calibration_said=[text],
        times=[Bar(text, (text,), 1.0)],
        times_said=text,
        galleries=[Gallery(text, [shown, replace(shown, picture="")])],
        left_out=[text],
    )


def test_no_text_can_become_markup() -> None:
    side = SideBySide(["metric", EVIL], [[EVIL, EVIL]], {}, [EVIL])
    page = Page(EVIL, EVIL, [everything(EVIL), everything(EVIL)], side)
    plain = replace(
        page,
        title="x",
        made="x",
        runs=[everything("x")] * 2,
        side_by_side=SideBySide(["metric", "x"], [["x", "x"]], {}, ["x"]),
    )
    evil, calm = (Elements(render_page(one)).tags for one in (page, plain))
    assert [tag for tag, _ in evil] == [tag for tag, _ in calm]
    assert [sorted(attributes) for _, attributes in evil] == [sorted(attributes) for _, attributes in calm]
    assert [tag for tag, _ in evil].count("script") == 2


def test_nothing_is_asked_for() -> None:
    for tag, attributes in Elements(render_page(Page("t", "m", [everything("a")]))).tags:
        assert tag not in ("iframe", "object", "embed", "base")
        for name in ("src", "href"):
            if (value := attributes.get(name)) is not None:
                assert value.startswith(("data:", "#")), (tag, value)
    text = render_page(Page("t", "m", [everything("a")]))
    assert not re.search(r"@import|url\(|https?://|fetch\(|XMLHttp", text)


def test_the_data_of_the_script_is_what_the_page_shows() -> None:
    page = Page("t", "m", [everything("a")])
    (data,) = re.findall(r'id="data">(.*?)</script>', render_page(page), re.DOTALL)
    assert json.loads(data) == {"counts": [[[[1] * 101, [1] * 101, 3]]]}


def test_json_in_a_script_cannot_end_it() -> None:
    text = script_json({EVIL: "<!--"})
    assert not set("<>&\u2028") & set(text)
    assert json.loads(text) == {EVIL: "<!--"}


def test_a_run_of_which_nothing_is_known() -> None:
    bare = RunPage("run", "not evaluated", {"task": "ctdet"}, left_out=["everything"])
    text = render_page(Page("t", "m", [bare]))
    assert 'id="score"' not in text
    assert "everything" in text
    assert "None" not in text


def test_words_in_backticks_are_code() -> None:
    assert with_code("see `ctnet <b>` & `x`") == "see <code>ctnet &lt;b&gt;</code> &amp; <code>x</code>"
    assert with_code("one ` alone <b>") == "one ` alone &lt;b&gt;"


def test_ratio() -> None:
    assert (ratio(1, 3), ratio(0, 0)) == ("0.333", "-")
