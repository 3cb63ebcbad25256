"""Test-time settings."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, TypedDict

import torch

from ctnet.base.choices import Nms, Resize, check_choice
from ctnet.base.errors import CtnetError

if TYPE_CHECKING:
    from ctnet.core.task import Task

#: The paper's scales for ``--multiscale``.
MULTISCALE = (0.5, 0.75, 1.0, 1.25, 1.5)

#: Default score threshold where people look at the detections.
SCORE = 0.3

_SMALLEST, _LARGEST = 1 / 64, 16.0
_SCALES = f"{_SMALLEST:g} to {_LARGEST:g}"


@dataclass(frozen=True)
class DetectionSettings:
    """Test-time settings of a detector.

    Attributes:
        flip: average the activated maps with those of the mirrored input, where the heads allow it.
        scales: factors of the image's size; the detections of several scales are merged.
        nms: "none", "hard", "soft" (Gaussian) or "soft-linear" suppression per class; None: "soft" where
            several scales are merged, as in the released code; else the task's own (``Task.suppression``).
        topk: detections per image, all scales together.
        score: only detections above this score are kept. None: the operating points, or 0.3 for a detector
            without any, in what ``Detector`` returns and ``predict`` writes; no threshold in evaluation. 0
            only removes empty rows: ``Task.decode`` always returns the requested number of rows, with scores
            of 0 where there are fewer objects.
        resize: "fix" or "keep", see ``Preprocessor``.
        size: (width, height) for "fix"; the training size when None.
        tiles: side of the tiles that images are cut into, pixels; they keep their resolution then, and only a
            few tiles are in memory at once. None: images pass the network whole.
        overlap: pixels that neighbouring tiles share; "exact": as many as the network's receptive field asks
            for; None: ``OVERLAP``, or the next number that fits the network.
        amp: type for autocast.
        clip: cut boxes to the image in what ``Detector`` returns, and leave out those wholly outside it.
            Evaluation measures them as they are, as in the released code.
        calibrated: replace the scores in what ``Detector`` returns by the probability that the detection is
            right; thresholds are of the scores before that. The detector must have a calibration.

    Raises:
        CtnetError: for scales that are not positive numbers, unknown names, and settings that contradict each
            other.
    """

    flip: bool = False
    scales: tuple[float, ...] = (1.0,)
    nms: Nms | None = None
    topk: int = 100
    resize: Resize = "fix"
    size: tuple[int, int] | None = None
    tiles: int | None = None
    overlap: int | Literal["exact"] | None = None
    amp: torch.dtype | None = None
    score: float | None = None
    clip: bool = True
    calibrated: bool = False

    def __post_init__(self) -> None:
        if not self.scales or not all(map(_is_scale, self.scales)):
            raise CtnetError(f"scales are {self.scales}; give one or several positive numbers from {_SCALES}")
        if self.nms is not None:
            check_choice("nms", self.nms, Nms)
        check_choice("resize", self.resize, Resize)
        if self.tiles is not None and self.size is not None:
            raise CtnetError("tiles are cut from images of their own resolution; leave out --size or --tiles")
        if self.tiles is None and self.overlap is not None:
            raise CtnetError("--overlap is of tiles; give --tiles too, such as --tiles 1024")

    @property
    def resized(self) -> Resize:
        """How images are resized: tiles keep their resolution."""
        return self.resize if self.tiles is None else "keep"

    @property
    def limit(self) -> float:
        """The score above which detections are kept, where nothing else was said."""
        return self.score or 0.0

    @property
    def in_words(self) -> str:
        """The settings that change scores, where they are not the usual ones: "flip, scales 0.75 and 1"."""
        parts = ["flip"] if self.flip else []
        if self.scales != (1.0,):
            parts.append(f"scales {' and '.join(f'{scale:g}' for scale in self.scales)}")
        if self.nms is not None:
            parts.append(f"nms {self.nms}")
        if self.resize != "fix":
            parts.append(f"resize {self.resize}")
        if self.tiles is not None:
            parts.append(f"tiles {self.tiles}")
        if self.size is not None:
            parts.append(f"size {self.size[0]}x{self.size[1]}")
        return ", ".join(parts)

    def suppression(self, task: Task) -> Nms:
        """The suppression method in effect for a task."""
        return self.nms or ("soft" if len(self.scales) > 1 else task.suppression.method)


def choose_scales(multiscale: bool, text: str | None) -> tuple[float, ...]:
    """Scales from the command line's ``--multiscale`` and ``--scales 0.75,1``.

    Raises:
        CtnetError: for a string that is not a list of positive numbers.
    """
    if text is None:
        return MULTISCALE if multiscale else (1.0,)
    try:
        scales = tuple(float(part) for part in text.split(","))
    except ValueError as error:
        raise CtnetError(f"--scales is {text!r}; write numbers separated by commas: 0.75,1") from error
    if not all(map(_is_scale, scales)):
        raise CtnetError(f"--scales is {text!r}; every scale must be a positive number from {_SCALES}")
    return scales


def _is_scale(scale: float) -> bool:
    """Smaller scales leave no image, and larger ones are mistakes."""
    return _SMALLEST <= scale <= _LARGEST


class _Tiles(TypedDict):
    tiles: int | None
    overlap: int | Literal["exact"] | None


def choose_tiles(tiles: int | None, overlap: str | None) -> _Tiles:
    """The settings of the command line's ``--tiles`` and ``--overlap 128`` or ``--overlap exact``.

    Raises:
        CtnetError: for anything else.
    """
    if overlap is None or overlap == "exact":
        return {"tiles": tiles, "overlap": "exact" if overlap else None}
    if not overlap.isdecimal():
        raise CtnetError(f"--overlap is {overlap!r}; write pixels, such as 128, or exact")
    return {"tiles": tiles, "overlap": int(overlap)}
