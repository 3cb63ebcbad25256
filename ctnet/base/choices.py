"""The choices of options that take one of several names, for the library and the command line alike.

They are kept apart from the code that they select, so that ``--help`` and completion need no torch.
"""

from __future__ import annotations

from typing import Any, Literal, get_args

from ctnet.base.errors import CtnetError

#: Mixed precision: the dtype for autocast, none, or bf16 where the device supports it.
Amp = Literal["auto", "off", "bf16", "fp16"]

#: Where training keeps the decoded images, see ``Dataset.cached``.
Cache = Literal["none", "ram"]

#: Which operator deformable convolutions become in an exported file, see ``GraphSettings``.
Deform = Literal["native", "grid-sample"]

#: How the images lie that an exported file takes, see ``Exported``.
ImageLayout = Literal["nhwc", "nchw"]

#: Whose images the statistics of batch norms are of in training, see ``Recipe``.
BatchNorm = Literal["own", "sync", "frozen"]

#: How an image gets into a data directory, see ``place_image``.
ImageMode = Literal["link", "copy", "none"]

#: What happens to overlapping detections: nothing, they are removed, or their scores are lowered.
Nms = Literal["none", "hard", "soft", "soft-linear"]

#: How an image is made to fit the network, see ``Preprocessor``.
Resize = Literal["fix", "keep"]

#: Which cell a centre falls into, see ``count_collisions``.
Rounding = Literal["floor", "nearest"]

#: Positions and sizes of anchors, see ``Anchors``.
AnchorVariant = Literal["official", "paper"]


def check_choice(what: str, value: object, choices: Any) -> None:
    """Refuse a value that is not one of the names of a ``Literal``.

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
