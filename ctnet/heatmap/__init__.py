"""The paper's mathematics as pure functions on tensors: Gaussians, losses, peaks."""

from ctnet.heatmap.focal import focal_loss
from ctnet.heatmap.gaussian import SOFT_PEAK, draw_gaussians, gaussian_radius
from ctnet.heatmap.peaks import FoundPeaks, find_peaks, gather, locate, suppress_non_peaks
from ctnet.heatmap.precision import full_precision
from ctnet.heatmap.regression import (
    box_iou_loss,
    concentric_giou_loss,
    l1_loss,
    normalized_l1_loss,
    smooth_l1_loss,
)

__all__ = [
    "SOFT_PEAK",
    "FoundPeaks",
    "box_iou_loss",
    "concentric_giou_loss",
    "draw_gaussians",
    "find_peaks",
    "focal_loss",
    "full_precision",
    "gather",
    "gaussian_radius",
    "l1_loss",
    "locate",
    "normalized_l1_loss",
    "smooth_l1_loss",
    "suppress_non_peaks",
]
