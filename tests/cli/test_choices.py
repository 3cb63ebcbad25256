"""Options that take one of a few names: completed in the shell, refused with the names."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, get_args

import pytest
import typer

from ctnet.base.choices import Amp, AnchorVariant, Cache, ImageMode, Nms, Resize, Rounding
from ctnet.cli import app

AT_TEST_TIME = {"--nms": Nms, "--resize": Resize}
CHOICES: list[tuple[str, str, Any]] = [
    *(("eval", option, names) for option, names in {**AT_TEST_TIME, "--amp": Amp}.items()),
    *(("predict", option, names) for option, names in AT_TEST_TIME.items()),
    *(("analyze errors", option, names) for option, names in {**AT_TEST_TIME, "--amp": Amp}.items()),
    ("analyze nms", "--resize", Resize),
    ("analyze resolution", "--amp", Amp),
    ("analyze speed", "--amp", Amp),
    ("analyze collisions", "--rounding", Rounding),
    ("analyze anchors", "--variant", AnchorVariant),
    ("convert voc", "--images", ImageMode),
    ("convert yolo", "--images", ImageMode),
    ("train", "--cache", Cache),
]
every_choice = pytest.mark.parametrize(
    ("command", "option", "names"), CHOICES, ids=[f"{command} {option}" for command, option, _ in CHOICES]
)


@every_choice
def test_completion_offers_the_choices(
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    command: str,
    option: str,
    names: Any,
) -> None:
    def offered(incomplete: str) -> list[str]:
        words = ["ctnet", *command.split(), option]
        monkeypatch.setenv("_CTNET_COMPLETE", "complete_bash")
        monkeypatch.setenv("COMP_WORDS", " ".join([*words, incomplete]))
        monkeypatch.setenv("COMP_CWORD", str(len(words)))
        with pytest.raises(SystemExit):
            typer.main.get_command(app)(prog_name="ctnet", args=[])
        return capsys.readouterr().out.split()

    assert offered("") == list(get_args(names))
    first = get_args(names)[0]
    assert offered(first[:2]) == [name for name in get_args(names) if name.startswith(first[:2])]


@every_choice
def test_another_name_is_refused_with_the_choices(
    ctnet: Callable[..., Any], command: str, option: str, names: Any
) -> None:
    rest = ["-o", "out"] if command.startswith("convert") else ["photo.jpg"] if command == "predict" else []
    done = ctnet(*command.split(), option, "mid", "somewhere", *rest)
    assert (done.code, done.out) == (2, "")
    said = re.sub(r"[│\s]+", " ", done.err)
    assert f"'mid' is not one of {', '.join(repr(name) for name in get_args(names))}" in said
