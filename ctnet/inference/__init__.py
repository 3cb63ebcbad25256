"""From images to detections."""

from ctnet.inference.detector import Detector, Prepared

__all__ = ["Detector", "Prepared"]
