"""The site: every page is in its navigation, every link leads somewhere, and it builds without a warning."""

from __future__ import annotations

import os
import re
import runpy
import shutil
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PAGES = [
    *(ROOT / name for name in ("README.md", "CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md")),
    *sorted(DOCS.rglob("*.md")),
    *sorted((ROOT / "plugins").glob("*/README.md")),
]
#: A page, a picture or a place in one, in Markdown's brackets.
LINK = re.compile(r"\]\((?!https?:|mailto:)([^)\s]+)\)")
LARGEST_PICTURE = 200_000  # bytes


def prose(text: str) -> str:
    """A page without blocks of code and code spans."""
    text = re.sub(r"^```.*?^```$", "", text, flags=re.DOTALL | re.MULTILINE)
    text = re.sub(r"(?<=\n\n)(    .*\n|\n)+", "", text)
    return re.sub(r"`[^`\n]*`", "`", text)


@cache
def anchors(text: str) -> set[str]:
    """The names of headings on which GitHub and Python-Markdown agree.

    Where they do not (signs between spaces give GitHub two hyphens), a link works in one of them only.
    """
    text = re.sub(r"^```.*?^```$", "", text, flags=re.DOTALL | re.MULTILINE)
    found = set()
    for heading in re.findall(r"^#{1,6} (.+)$", text, re.MULTILINE):
        words = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).replace("`", "").strip().lower()
        on_github = re.sub(r"[^\w\- ]", "", words).replace(" ", "-")
        on_site = re.sub(r"[-\s]+", "-", re.sub(r"[^\w\s-]", "", words).strip())
        if on_github == on_site and words.isascii():
            found.add(on_site)
    return found


def mistakes(page: Path, text: str) -> Iterator[str]:
    """Links of a page that lead nowhere, or out of the site."""
    for target in LINK.findall(prose(text)):
        name, _, anchor = target.partition("#")
        path = (page.parent / name).resolve()
        if not name:
            if anchor not in anchors(text):
                yield f"{target}: there is no such heading"
        elif not path.exists():
            yield f"{target}: there is no such file"
        elif DOCS in page.parents and DOCS not in path.parents:
            yield f"{target}: it is not on the site; write its path as code"
        elif anchor and anchor not in anchors(path.read_text("utf-8")):
            yield f"{target}: there is no such heading"


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_links_lead_somewhere(page: Path) -> None:
    assert not list(mistakes(page, page.read_text("utf-8")))


@pytest.mark.parametrize(
    ("link", "mistake"),
    [
        ("[a](nowhere.md)", "no such file"),
        ("![a](images/nothing.jpg)", "no such file"),
        ("[a](data.md#no-such-place)", "no such heading"),
        ("[a](#no-such-place)", "no such heading"),
        ("[a](../plugins)", "not on the site"),
        ("[a](data.md#checking) `[b](nowhere.md)` [c](https://host/x)", ""),
        ("[a](results.md#training-from-scratch-bccd)", ""),
    ],
)
def test_a_link_that_leads_nowhere_is_found(link: str, mistake: str) -> None:
    found = " ".join(mistakes(DOCS / "page.md", f"# Title\n\n{link}\n\n    [d](nowhere.md)\n"))
    assert mistake in found if mistake else not found


def test_headings_that_renderers_name_differently_cannot_be_linked_to() -> None:
    assert anchors("# One: two (3)\n\n## a = b\n\n### `code` and [a link](x.md)\n") == {
        "one-two-3",
        "code-and-a-link",
    }


def configuration() -> Any:
    return yaml.safe_load((ROOT / "mkdocs.yml").read_text("utf-8"))


def listed(nav: Any) -> Iterator[str]:
    if isinstance(nav, str):
        yield nav
    else:
        for part in nav if isinstance(nav, list) else nav.values():
            yield from listed(part)


def test_every_page_is_in_the_navigation_once() -> None:
    there = sorted(path.relative_to(DOCS).as_posix() for path in DOCS.rglob("*.md"))
    assert sorted(listed(configuration()["nav"])) == there, "write the page into `nav` of mkdocs.yml"


def test_the_reference_is_up_to_date() -> None:
    for name, text in runpy.run_path(str(DOCS / "reference" / "generate.py"))["pages"]().items():
        written = (DOCS / "reference" / name).read_text("utf-8")
        assert written == text, "run python docs/reference/generate.py"


def test_pictures_are_small() -> None:
    pictures = [path for path in DOCS.rglob("*") if path.suffix in (".jpg", ".png", ".svg", ".webp")]
    assert len(pictures) > 4
    assert not [path.name for path in pictures if path.stat().st_size >= LARGEST_PICTURE]


def test_the_proofs_of_why_exist() -> None:
    text = (DOCS / "why.md").read_text("utf-8")
    paths = re.findall(r"`((?:tests|benchmarks)/[\w/.]+)`(?: \(`(\w+)`\))?", text)
    assert len(paths) > 10
    for path, name in paths:
        assert (ROOT / path).exists(), path
        assert not name or f"def {name}(" in (ROOT / path).read_text("utf-8"), name


@pytest.mark.thorough
@pytest.mark.skipif(sys.version_info < (3, 11), reason="Zensical needs Python 3.11")
def test_it_builds_without_a_warning_and_loads_nothing_from_elsewhere(tmp_path: Path) -> None:
    program = shutil.which("zensical")
    if program is None:
        if "CTNET_ALL_EXTRAS" in os.environ:
            pytest.fail("needs the extra docs, and CTNET_ALL_EXTRAS is set")
        pytest.skip("needs the extra docs")
    shutil.copytree(DOCS, tmp_path / "docs", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "mkdocs.yml", tmp_path)
    command = [program, "build", "--strict"]
    built = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert built.returncode == 0, built.stdout + built.stderr
    pages = {path.relative_to(tmp_path / "site").as_posix() for path in (tmp_path / "site").rglob("*.html")}
    for page in listed(configuration()["nav"]):
        html = page.replace("README.md", "index.md").replace(".md", ".html")
        assert html in pages, html
        text = (tmp_path / "site" / html).read_text("utf-8")
        loaded = re.findall(r"<(?:script|link|img)[^>]*(?:src|href)=\"?((?:https?:)?//[^\" >]+)", text)
        assert not loaded, f"{html} loads {loaded}"
