"""Measuring detections against ground truth: COCO's and Pascal VOC's figures."""

from ctnet.evaluation.coco import CocoBoxEvaluator
from ctnet.evaluation.evaluator import Evaluator
from ctnet.evaluation.results import evaluate_results
from ctnet.evaluation.voc import VocEvaluator

__all__ = ["CocoBoxEvaluator", "Evaluator", "VocEvaluator", "evaluate_results"]
