"""A picture of what a network is trained on: augmented samples with the heatmaps that are their targets."""

from __future__ import annotations

import numpy as np

from ctnet.core.heads import Heatmap
from ctnet.core.targets import Grid, collate_targets
from ctnet.data.loader import EncodedSample, TrainingSet
from ctnet.report.draw import grid
from ctnet.report.embedding import laid_over

_COLUMNS = 4


def draw_training_samples(samples: TrainingSet, number: int = 8) -> np.ndarray | None:
    """Samples of the first epoch, each with its first heatmap laid over, in a grid.

    Args:
        samples: the augmented training split.
        number: most samples; they are chosen evenly.

    Returns:
        (H, W, 3) uint8, RGB; None where no image can be read.
    """
    chosen = np.unique(np.linspace(0, len(samples) - 1, min(number, len(samples))).astype(int)).tolist()
    drawn = [samples[0, index] for index in chosen]
    pictures = [_with_heatmap(sample, samples) for sample in drawn if isinstance(sample, EncodedSample)]
    return grid(pictures, columns=_COLUMNS) if pictures else None


def _with_heatmap(sample: EncodedSample, samples: TrainingSet) -> np.ndarray:
    name = next((name for name, head in samples.task.heads.items() if isinstance(head, Heatmap)), None)
    image = np.ascontiguousarray(sample.image[:, :, :3])  # without what is shown of an earlier frame
    if name is None:
        return image
    height, width = (side // samples.stride for side in sample.image.shape[:2])
    target = collate_targets([sample.targets[name]])
    heat = samples.task.heads[name].render(target, Grid(height, width))[0].amax(dim=0).numpy()
    return laid_over(image, heat)
