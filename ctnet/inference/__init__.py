"""From images to detections."""

from ctnet.inference.detector import Detector
from ctnet.inference.found import ImageDetections
from ctnet.inference.preprocessing import Prepared, Preprocessor
from ctnet.inference.settings import DetectionSettings
from ctnet.inference.timing import StageTimes

__all__ = ["DetectionSettings", "Detector", "ImageDetections", "Prepared", "Preprocessor", "StageTimes"]
