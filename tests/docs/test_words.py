"""The project's prose says things the way a native engineer would: a list of what not to write.

Prose is what people read: Markdown pages (without code spans), and in Python files comments, docstrings
and every other text (messages, help).
"""

from __future__ import annotations

import ast
import io
import re
import tokenize
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).parents[2]
FOLDERS = ("ctnet", "ctnet_tasks_ddd", "ctnet_tasks_pose", "plugins", "docs", "benchmarks", "tests")
PYTHON, PAGES = (".py", ".py.template"), (".md", ".md.template")


class Phrase(NamedTuple):
    """What not to write.

    Attributes:
        pattern: the pattern of the phrase, in any case.
        instead: what to write.
        caught: an example.
        fine: what resembles it and is plain English.
    """

    pattern: str
    instead: str
    caught: str
    fine: str


# What follows "is no" and "are no" in plain English: "it is no longer", "there is no".
NO = r"(?<!\bthere )\b(is|are|was|were|be) no\b(?! (longer|more|less|fewer|different|better|worse)\b)"
# A place, or what is left somewhere.
BEHIND = r"(?<!from )\bbehind\b(?! (the (camera|horizon)|others?|something)\b)"
LEFT = r"\b(leaves?|left|leaving)\b[^.;]{0,40}\bbehind\b|\bhalf of one behind\b"
PER = r"image|class|line|cell|edge|epoch|step|batch|row|person"
MANY = "one|images|objects|points|rows|slots|classes|maps|cells|pixels|batches|persons"

PHRASES = [
    Phrase(BEHIND, "after", "written behind the name", "seen from behind, a location behind the camera"),
    Phrase(NO, "is not a", "nan is no number", "there is no number, and it is no longer one"),
    Phrase(r"\bmend(s|ed|ing|able)?\b", "fix", "a mistake that users can mend", "we recommend it"),
    Phrase(r"\bfault(s|y)?\b", "error, broken", "annotations without a fault", "by default"),
    Phrase(r"\bremark(s|ed|able)?\b", "warning, note", "a list of remarks", "Markdown, marks"),
    Phrase(r"\b(splat(s|ted)?|paint(s|ed|er|ing)?)\b", "render, draw", "heatmaps are painted", "a pain"),
    Phrase(r"\beats?\b", "takes", "what a training step eats", "repeats, heat"),
    Phrase(r"\bin parts of\b|\bin parts(?=[.,;]|$)", "as a fraction of", "in parts of it", "in part"),
    Phrase(r"\bin turns\b", "alternating, interleaved", "timed in turns", "GPUs are taken in turn"),
    Phrase(r"\bin turn around\b|\bin either turn\b", "in order around", "in turn around it", "in turn"),
    Phrase(r"\bby the clock\b", "wall time", "three seconds by the clock", "clock, o'clock"),
    Phrase(r"\bin sight\b", "visible", "a detection in sight", "insight"),
    Phrase(r"\b(the|its|their) measures\b", "metrics", "the measures", "it measures"),
    Phrase(r"\bby heart\b", "overfitted", "four scenes by heart", "heart"),
    Phrase(r"\bby lot\b", "at random", "chosen by lot", "by lots of"),
    Phrase(r"\banew\b", "again", "make it anew", "a new one"),
    Phrase(r"\bno good\b", "damaged", "files that are no good", "good"),
    Phrase(r"\bof above\b", "above", "the machine of above", "the above"),
    Phrase(r"\bdo(es)? likewise\b", "do the same", "two layers do likewise", "likewise"),
    Phrase(rf"\b({MANY}) an? ({PER})\b", "per", "one a line, images a step", "as a line, one per line"),
    Phrase(r"\bgood child\b", "well-behaved", "make a worker a good child", "child"),
    Phrase(r"\bloading process(es)?\b", "worker process", "a loading process died", "loading a process"),
    Phrase(r"\bhangs? on (a|the|few)\b", "depends on", "AP hangs on a few objects", "it hangs"),
    Phrase(r"\bsomebody's|\bof anybody's", "someone's", "a file of anybody's", "anyone's file"),
    Phrase(r"\bthe (present|actual) (step|one|epoch)\b", "current", "the present step", "is present"),
    Phrase(r"\bmade[- ]up (boxes|results|data)\b", "random, synthetic", "made-up boxes", "made up of boxes"),
    Phrase(r"\bequal to the bit\b", "bit for bit", "equal to the bit", "to the bit rate"),
    Phrase(r"\bwell ones\b|\bthe ill\b", "others", "the well ones work", "well"),
    Phrase(r"\bhal(f|ves) of (a )?characters?\b", "unpaired surrogate", "half of a character in it", "half"),
    Phrase(r"\b(cannot|can|to) be had\b", "loaded, available", "weights that cannot be had", "it had"),
    Phrase(r"\bbeyond every (picture|image)\b", "too large", "a box beyond every picture", "beyond it"),
    Phrase(r"\bnobody (says|asks|knows|looks)\b", "unknown, by default", "None where nobody says", "nobody"),
    Phrase(r"\banybody('s)?\b|\bsomebody\b", "any program, another process", "anybody's file", "anyone"),
    Phrase(r"\bin silence\b", "silently", "dropped in silence", "the silence"),
    Phrase(r"\bwaits? for ever\b", "block", "a pipe would wait for ever", "hang for ever"),
    Phrase(r"\bwhat comes (of|out)\b", "the outcome, the result", "what comes of it", "it comes of age"),
    Phrase(r"\bplays? no part\b", "is ignored", "others play no part", "a part"),
    Phrase(r"\bsoften(s|ed)? the penalty\b", "reduces the penalty", "it softens the penalty", "a penalty"),
    Phrase(r"\blaid into\b", "fitted into", "an image laid into the input", "laid out"),
    Phrase(r"\bnetworks? without error\b", "a perfect network", "a network without error", "no error"),
    Phrase(r"\b(images|frames) a (forward|second)\b", "per", "images a forward pass", "per forward pass"),
    Phrase(r"\bas shares of\b|\bin shares of\b", "relative to", "as shares of the image", "shares"),
    Phrase(r"\b(takes?|taking) off\b", "learns", "it does not take off", "take it off"),
    Phrase(r"\bin one go\b", "at once", "parsed in one go", "one goes"),
    Phrase(r"\bchoices at test time\b", "test-time settings", "choices at test time", "choices"),
    Phrase(r"\bsa(ys?|id) of itself\b", "describes, its description", "what it says of itself", "by itself"),
    Phrase(r"\borientation marks?\b", "EXIF orientation", "the orientation mark is obeyed", "a mark"),
    Phrase(r"\bsearched deeply\b", "searched recursively", "folders searched deeply", "nested too deeply"),
    Phrase(r"\btakes? in how\b", "records how", "it takes in how long stages take", "takes it in"),
    Phrase(r"\bfilms?\b(?![./-])", "video", "a film that ends early", "film.mp4"),
    Phrase(r"\bwhere (it|they) lies? now\b|\bsay where\b", "the new location", "say where it lies", "lies"),
]  # fmt: skip


@cache
def prose() -> tuple[tuple[str, int, str], ...]:
    """(file, line, text) of all that people read."""
    found = []
    paths = [path for folder in FOLDERS for path in sorted((ROOT / folder).rglob("*"))]
    for path in [ROOT / "README.md", *paths]:
        if path == Path(__file__) or "__pycache__" in path.parts:
            continue
        name = str(path.relative_to(ROOT))
        if name.endswith(PYTHON):
            found += [(name, line, text) for line, text in python_prose(path.read_text("utf-8"))]
        elif name.endswith(PAGES):
            found += [(name, line, text) for line, text in page_prose(path.read_text("utf-8"))]
    return tuple(found)


def page_prose(text: str) -> Iterator[tuple[int, str]]:
    """Paragraphs joined, so that a phrase may go over lines; without code spans."""
    start, lines = 1, list[str]()
    for number, line in enumerate([*text.split("\n"), ""], start=1):
        if line.strip():
            start = start if lines else number
            lines.append(re.sub(r"`[^`]*`", "`", line.strip()))
        elif lines:
            yield start, " ".join(lines)
            lines = []


def python_prose(text: str) -> Iterator[tuple[int, str]]:
    """Comments, and strings with at least one space; those of a joined string together."""
    text = re.sub(r"@(\w+)@", r"\1", text)  # placeholders of templates
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.JoinedStr):
            parts = [part.value if isinstance(part, ast.Constant) else "{}" for part in node.values]
            yield node.lineno, "".join(map(str, parts))
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and " " in node.value.strip():
            yield node.lineno, re.sub(r"`+[^`]*`+", "`", " ".join(node.value.split()))
    comments = [t for t in tokenize.generate_tokens(io.StringIO(text).readline) if t.type == tokenize.COMMENT]
    for token in comments:
        yield token.start[0], token.string.lstrip("#: ")


def hits(phrase: Phrase, text: str) -> bool:
    if phrase.instead == "after":
        text = re.sub(LEFT, "", text)
    return re.search(phrase.pattern, text, re.IGNORECASE) is not None


@pytest.mark.parametrize("phrase", PHRASES, ids=lambda phrase: phrase.instead)
def test_prose_says_it_plainly(phrase: Phrase) -> None:
    found = [f"{name}:{line}: {text[:300]}" for name, line, text in prose() if hits(phrase, text)]
    assert not found, f"write {phrase.instead!r}:\n" + "\n".join(found)


@pytest.mark.parametrize("phrase", PHRASES, ids=lambda phrase: phrase.instead)
def test_a_phrase_is_caught_and_plain_english_is_not(phrase: Phrase) -> None:
    assert hits(phrase, phrase.caught)
    assert not hits(phrase, phrase.fine)
    assert not hits(Phrase(BEHIND, "after", "", ""), "a kill leaves half of a file behind")


def test_all_kinds_of_prose_are_read() -> None:
    code = '"""A doc\nstring."""\nx = f"a {1} b"  # a comment\ny = ["a message " "in two parts"]\n'
    assert sorted(text for _, text in python_prose(code)) == [
        "A doc string.",
        "a comment",
        "a message in two parts",
        "a {} b",
    ]
    page = "# Title\n\nfirst `code` line\nsecond line\n"
    assert list(page_prose(page)) == [(1, "# Title"), (3, "first ` line second line")]
    names = {name for name, _, _ in prose()}
    assert {"README.md", "ctnet/cli/train.py", "docs/design.md", "tests/conftest.py"} <= names
    assert len(prose()) > 5000
