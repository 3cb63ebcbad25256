"""The page of a service in a real browser: what it shows, the keyboard, and what a screen reader needs."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from ctnet.inference import Detector

pytestmark = pytest.mark.browser

#: What Chromium writes of an answer that refuses an image; nothing else may be in its console.
REFUSED = ("401 (Unauthorized)", "400 (Bad Request)")


@pytest.fixture
def opened(browser) -> Iterator[Callable[..., Any]]:
    """``opened(address, width)``: a page in a window; fails at the end for errors, and requests elsewhere."""
    problems: list[str] = []
    contexts = []

    def open_page(address: str, width: int = 1400, **options: Any) -> Any:
        contexts.append(browser.new_context(viewport={"width": width, "height": 900}, **options))
        contexts[-1].set_default_timeout(60_000)  # on a busy machine
        page = contexts[-1].new_page()
        page.on("console", lambda message: problems.append(f"{message.type}: {message.text}"))
        page.on("pageerror", lambda error: problems.append(str(error)))
        page.on("dialog", lambda dialog: problems.append(f"dialog: {dialog.message}"))
        own = (f"{address}/", "data:", f"blob:{address}/")
        page.on("request", lambda request: request.url.startswith(own) or problems.append(request.url))
        page.goto(f"{address}/")
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert [problem for problem in problems if not problem.endswith(REFUSED)] == []


def choose(page: Any, name: str, data: bytes) -> None:
    page.set_input_files("#file", {"name": name, "mimeType": "image/png", "buffer": data})


def said(page: Any, text: str) -> None:
    """Wait until the page says this."""
    page.locator("#said", has_text=text).wait_for()


def set_slider(page: Any, step: int) -> None:
    page.locator("#score").evaluate(
        "(slider, step) => { slider.value = step; slider.dispatchEvent(new Event('input')); }", step
    )


def objects(page: Any) -> int:
    """Objects that the page shows: in words, as boxes and as rows, which agree."""
    number = int(page.locator("#said").inner_text().split()[0])
    assert page.locator("#marks .mark").count() == page.locator("#table tbody tr").count() == number
    return number


def test_choose_look_and_slide(opened, running, detector: Detector, image, png) -> None:
    page = opened(running())
    choose(page, "<b>a.png", png(90, 60))
    said(page, " in 90x60 pixels")
    (found,) = detector(image(90, 60), score=0.01)
    assert objects(page) == (found.scores > 0.3).sum() > 0
    for step in (80, 50, 20, 100):
        set_slider(page, step)
        assert objects(page) == (found.scores >= step / 100).sum()
    set_slider(page, 1)
    best = page.locator("#table tbody tr").first
    assert best.locator("th").inner_text() == found.names[0]
    assert best.locator("td").first.inner_text() == f"{found.scores[0]:.3f}"
    box = page.locator("#marks .mark rect").last  # the best one is on top
    sides = [float(box.get_attribute(name) or "nan") for name in ("x", "y", "width", "height")]
    assert sides[:2] == pytest.approx(found.boxes[0][:2].tolist(), abs=1e-3)
    # Marks lie where the picture is.
    picture, marks = page.locator("#picture").bounding_box(), page.locator("#marks").bounding_box()
    assert picture["width"] == pytest.approx(marks["width"], abs=3)
    choose(page, "bad.png", b"hello")
    said(page, "the body is not an image")
    assert not page.locator("#shown").is_visible()
    choose(page, "c.png", png(40, 30))
    said(page, " in 40x30 pixels")


def test_drop_an_image(opened, running, png) -> None:
    page = opened(running(), 380)
    page.evaluate(
        """(bytes) => {
            const moved = new DataTransfer();
            moved.items.add(new File([new Uint8Array(bytes)], "a.png", { type: "image/png" }));
            for (const kind of ["dragover", "drop"]) {
                document.body.dispatchEvent(new DragEvent(kind, { dataTransfer: moved, bubbles: true }));
            }
        }""",
        list(png(80, 50)),
    )
    said(page, " in 80x50 pixels")
    assert page.evaluate("document.documentElement.scrollWidth") <= 380
    assert page.locator("#table").evaluate("(one) => one.scrollWidth <= one.clientWidth"), "all columns fit"


def test_the_keyboard_is_enough_and_the_token_is_asked_for(opened, running, png) -> None:
    page = opened(running(token="secret"))
    choose(page, "a.png", png())
    said(page, "the token is missing or wrong")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.id") == "score"
    page.keyboard.press("Tab")
    page.keyboard.type("secret")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.id") == "file"
    choose(page, "b.png", png(70, 50))  # the dialog of the operating system is not there to be driven
    said(page, " in 70x50 pixels")
    before = page.locator("#score-value").inner_text()
    page.keyboard.press("Shift+Tab")
    page.keyboard.press("Shift+Tab")
    for _ in range(20):
        page.keyboard.press("ArrowRight")
    assert float(page.locator("#score-value").inner_text()) == pytest.approx(float(before) + 0.2)
    objects(page)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_serious(opened, serious_problems, running, png, scheme: str) -> None:
    address = running(token="a" if scheme == "dark" else None)
    for width in (380, 1400):
        page = opened(address, width, color_scheme=scheme, bypass_csp=True)  # axe makes functions of text
        if scheme == "dark":
            page.fill("#token", "a")
        choose(page, "a.png", png(90, 60))
        said(page, " in 90x60 pixels")
        assert serious_problems(page) == {}
        assert page.evaluate("document.documentElement.scrollWidth") <= width
