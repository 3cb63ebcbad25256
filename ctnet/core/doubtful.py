"""Background that may be none: unmarked objects, as a teacher's heatmaps show them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from torch import Tensor
from torch.nn import functional

from ctnet.core.heads import Head, Heatmap
from ctnet.core.targets import Peaks, Target
from ctnet.heatmap.gaussian import SOFT_PEAK
from ctnet.heatmap.peaks import suppress_non_peaks

#: Value of a peak from which on the teacher insists on an object.
INSISTS = 0.3
#: A peak where annotated objects are drawn with this value or more is one of theirs.
_ANNOTATED = 0.05
#: Cells on each side of a peak that may belong to its object.
_REACH = 6


def without_doubtful(
    heads: Mapping[str, Head], targets: Mapping[str, Target], seen: Mapping[str, Tensor]
) -> dict[str, Target]:
    """Targets in which cells are not background where a teacher insists on an object that is not annotated.

    Around every peak of the teacher's heatmap of ``INSISTS`` or more, away from the annotated objects, the
    penalty is reduced as around an object: by the teacher's values relative to the peak, up to none at all.
    Nothing becomes a positive, so the counts of the losses stay the same.

    Args:
        heads: by name; those that are a ``Heatmap`` are changed.
        targets: by head, joined over the batch, on the device.
        seen: the teacher's activated maps (B, C, H, W) by head, of the same images.
    """
    changed = dict(targets)
    for name, head in heads.items():
        target = targets[name]
        if isinstance(head, Heatmap) and isinstance(target, Peaks):
            changed[name] = replace(target, soft=_soft(seen[name], target))
    return changed


def _soft(seen: Tensor, target: Peaks) -> Tensor:
    """(B, C, H, W): how far each cell belongs to an object that only the teacher sees, 0 to ``SOFT_PEAK``."""
    peaks = suppress_non_peaks(seen)
    peaks = peaks * ((peaks >= INSISTS) & (target.draw(seen.shape) < _ANNOTATED))
    window = 2 * _REACH + 1
    around = functional.max_pool2d(peaks, (1, window), 1, (0, _REACH))  # by rows, then by columns
    around = functional.max_pool2d(around, (window, 1), 1, (_REACH, 0))
    return (seen / around.clamp(min=INSISTS) * (around > 0)).clamp(max=SOFT_PEAK)
