"""Evaluators: detections and ground truth in, metrics out."""

from ctnet.evaluation.coco import CocoBoxEvaluator
from ctnet.evaluation.voc import VocEvaluator

__all__ = ["CocoBoxEvaluator", "VocEvaluator"]
