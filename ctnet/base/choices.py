"""The sets of names that one chooses from, for the library and for options of the command line alike.

They lie here, apart from what they choose, so that ``--help`` and completion need no torch.
"""

from __future__ import annotations

from typing import Any, Literal, get_args

from ctnet.base.errors import CtnetError

#: Mixed precision: a type for autocast, none, or bf16 where the device has it.
Amp = Literal["auto", "off", "bf16", "fp16"]

#: Which operator deformable convolutions become in an exported file, see ``GraphSettings``.
Deform = Literal["native", "grid-sample"]

#: How the images lie that an exported file takes, see ``Exported``.
ImageLayout = Literal["nhwc", "nchw"]

#: How an image gets into a data directory, see ``place_image``.
ImageMode = Literal["link", "copy", "none"]

#: How detections that overlap are suppressed: not at all, dropped, or their scores lowered.
Nms = Literal["none", "hard", "soft", "soft-linear"]

#: How an image is made to fit the network, see ``Preprocessor``.
Resize = Literal["fix", "keep"]

#: The cell of a centre, see ``count_collisions``.
Rounding = Literal["floor", "nearest"]

#: Where anchors stand and what sizes they have, see ``Anchors``.
AnchorVariant = Literal["official", "paper"]


def check_choice(what: str, value: object, choices: Any) -> None:
    """Refuse a value that is not one of a ``Literal``'s.

    Args:
        what: what is chosen, for the message ("nms").
        value: what was given.
        choices: the ``Literal``.

    Raises:
        CtnetError: naming the choices.
    """
    names = get_args(choices)
    if value not in names:
        raise CtnetError(f"{what} is {value!r}; it must be {', '.join(names[:-1])} or {names[-1]}")
