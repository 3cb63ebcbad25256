"""What several commands share: reading option texts."""

from __future__ import annotations

import math
from collections.abc import Sequence

import typer

from ctnet.base.errors import CtnetError
from ctnet.base.numbers import whole_number

OPTION_HELP = "An option of the task, NAME=VALUE (repeatable); see `ctnet tasks show TASK`."
DEVICE_HELP = "auto, cpu, cuda, cuda:1, mps."
SIZE_HELP = "Network input in pixels: 512, or WIDTHxHEIGHT."
RESIZE_HELP = "fix: fit into the training size; keep: the image's own resolution."
FLIP_HELP = "Average the maps with those of the mirrored image."
MULTISCALE_HELP = "Look at 0.5, 0.75, 1, 1.25 and 1.5 times the size, and merge."
SCALES_HELP = "Look at these sizes instead: 0.75,1."
NMS_HELP = "none, hard, soft (Gaussian), soft-linear; soft where scales are merged, else none."


def parse_size(text: str | None) -> tuple[int, int] | None:
    """ "512" -> (512, 512); "1280x384" -> (1280, 384).

    Raises:
        CtnetError: for anything else.
    """
    if text is None:
        return None
    sides = [whole_number(part) or 0 for part in text.lower().split("x")]
    if len(sides) in (1, 2) and min(sides) > 0:
        return sides[0], sides[-1]
    raise CtnetError(f"--size is {text!r}; write one number (512) or WIDTHxHEIGHT (1280x384)")


def require_finite(**values: float | None) -> None:
    """Refuse NaN and infinities, which a range of an option lets through.

    Args:
        values: by the option's name with underscores; None where it was left out.

    Raises:
        CtnetError: naming the option.
    """
    for name, value in values.items():
        if value is not None and not math.isfinite(value):
            raise CtnetError(f"--{name.replace('_', '-')} is {value}; it must be a finite number")


def parse_assignments(texts: Sequence[str]) -> dict[str, str]:
    """["a=1", "b=x"] -> {"a": "1", "b": "x"}.

    Raises:
        CtnetError: for a text without "=".
    """
    pairs = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals or not name:
            raise CtnetError(f"-O {text!r} is no NAME=VALUE")
        pairs[name] = value
    return pairs


def refuse_other_settings(context: typer.Context, instead: str, allowed: Sequence[str]) -> None:
    """Refuse what an option makes meaningless: nothing that one says is passed over in silence.

    Args:
        context: of the command.
        instead: the option (its parameter's name) that was given.
        allowed: parameters that go with it.

    Raises:
        CtnetError: naming the first other one on the command line.
    """
    for name in context.params:
        source = context.get_parameter_source(name)
        if name not in (instead, *allowed) and source is not None and source.name == "COMMANDLINE":
            written = "a run" if name == "run" else f"--{name.replace('_', '-')}"
            raise CtnetError(f"{written} cannot be combined with --{instead}; leave one of them out")
