"""Everything that a plugin may import: the API for tasks, backbones, commands,
converters and observers.

Anything else may change. Names are imported on first use, so that a plugin's command only loads what it uses.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ctnet.base.lazy import lazy_attributes
from ctnet.base.plugins import CONTRACTS

if TYPE_CHECKING:
    from ctnet.analysis.reported import ReportedRun as ReportedRun
    from ctnet.backbones import Backbone as Backbone
    from ctnet.backbones import create_backbone as create_backbone
    from ctnet.base.choices import ImageMode as ImageMode
    from ctnet.base.choices import Nms as Nms
    from ctnet.base.device import constant as constant
    from ctnet.base.errors import CtnetError as CtnetError
    from ctnet.base.errors import os_error as os_error
    from ctnet.base.errors import unknown_name as unknown_name
    from ctnet.base.files import atomic_write as atomic_write
    from ctnet.base.files import read_json as read_json
    from ctnet.base.files import read_text as read_text
    from ctnet.base.files import require_regular as require_regular
    from ctnet.base.files import write_json as write_json
    from ctnet.base.numbers import LARGEST_COORDINATE as LARGEST_COORDINATE
    from ctnet.base.numbers import whole_number as whole_number
    from ctnet.base.output import print_json as print_json
    from ctnet.base.output import print_line as print_line
    from ctnet.base.output import print_note as print_note
    from ctnet.base.output import print_table as print_table
    from ctnet.base.output import warn_once as warn_once
    from ctnet.base.progress import track as track
    from ctnet.base.schema import check_json as check_json
    from ctnet.base.schema import shorten as shorten
    from ctnet.convert.coco import ImageRecord as ImageRecord
    from ctnet.convert.coco import box_annotation as box_annotation
    from ctnet.convert.coco import numbered as numbered
    from ctnet.convert.coco import plain as plain
    from ctnet.convert.coco import write_splits as write_splits
    from ctnet.convert.command import ImagesOption as ImagesOption
    from ctnet.convert.command import JsonOption as JsonOption
    from ctnet.convert.command import OutputOption as OutputOption
    from ctnet.convert.command import StrictOption as StrictOption
    from ctnet.convert.command import print_report as print_report
    from ctnet.convert.exports import ExportedImage as ExportedImage
    from ctnet.convert.exports import exported_images as exported_images
    from ctnet.convert.exports import write_text as write_text
    from ctnet.convert.files import place_image as place_image
    from ctnet.convert.report import BadRecord as BadRecord
    from ctnet.convert.report import ConvertReport as ConvertReport
    from ctnet.convert.report import SplitReport as SplitReport
    from ctnet.convert.sources import check_folder as check_folder
    from ctnet.convert.sources import checked_number as checked_number
    from ctnet.convert.sources import finite_number as finite_number
    from ctnet.convert.sources import image_files as image_files
    from ctnet.convert.sources import listed_names as listed_names
    from ctnet.convert.sources import numbered_lines as numbered_lines
    from ctnet.convert.sources import read_each as read_each
    from ctnet.convert.sources import read_lines as read_lines
    from ctnet.convert.sources import readable_size as readable_size
    from ctnet.core.boxes import RadiusFormula as RadiusFormula
    from ctnet.core.boxes import box_cells as box_cells
    from ctnet.core.boxes import box_radius as box_radius
    from ctnet.core.boxes import clip_boxes as clip_boxes
    from ctnet.core.boxes import cut_to_grid as cut_to_grid
    from ctnet.core.categories import Categories as Categories
    from ctnet.core.declarations import Layout as Layout
    from ctnet.core.declarations import Scenes as Scenes
    from ctnet.core.declarations import Suppression as Suppression
    from ctnet.core.evaluator import Evaluator as Evaluator
    from ctnet.core.evaluator import GroundTruth as GroundTruth
    from ctnet.core.evaluator import MetricFactory as MetricFactory
    from ctnet.core.evaluator import State as State
    from ctnet.core.evaluator import metric as metric
    from ctnet.core.fields import Angle as Angle
    from ctnet.core.fields import Choice as Choice
    from ctnet.core.fields import Field as Field
    from ctnet.core.fields import Length as Length
    from ctnet.core.fields import Points as Points
    from ctnet.core.fields import Value as Value
    from ctnet.core.fields import is_finite as is_finite
    from ctnet.core.fields import write_fields as write_fields
    from ctnet.core.frames import Frames as Frames
    from ctnet.core.frames import Identity as Identity
    from ctnet.core.frames import prior_planes as prior_planes
    from ctnet.core.geometry import Affine as Affine
    from ctnet.core.geometry import Fit as Fit
    from ctnet.core.geometry import View as View
    from ctnet.core.heads import BoxDistances as BoxDistances
    from ctnet.core.heads import Head as Head
    from ctnet.core.heads import Heatmap as Heatmap
    from ctnet.core.heads import Regression as Regression
    from ctnet.core.losses import Loss as Loss
    from ctnet.core.masks import Mask as Mask
    from ctnet.core.masks import Outline as Outline
    from ctnet.core.masks import RunLength as RunLength
    from ctnet.core.masks import outline_of as outline_of
    from ctnet.core.options import option as option
    from ctnet.core.recipe import DEMO as DEMO
    from ctnet.core.recipe import SMALL as SMALL
    from ctnet.core.recipe import Augmentation as Augmentation
    from ctnet.core.recipe import Recipe as Recipe
    from ctnet.core.records import Detections as Detections
    from ctnet.core.records import ImageInfo as ImageInfo
    from ctnet.core.records import Instances as Instances
    from ctnet.core.records import Sample as Sample
    from ctnet.core.tally import Drawn as Drawn
    from ctnet.core.tally import JoinedTally as JoinedTally
    from ctnet.core.tally import Matched as Matched
    from ctnet.core.tally import Matches as Matches
    from ctnet.core.tally import MeanTally as MeanTally
    from ctnet.core.tally import Tally as Tally
    from ctnet.core.targets import CellTargets as CellTargets
    from ctnet.core.targets import DenseCells as DenseCells
    from ctnet.core.targets import DenseTargets as DenseTargets
    from ctnet.core.targets import Grid as Grid
    from ctnet.core.targets import Peaks as Peaks
    from ctnet.core.targets import Target as Target
    from ctnet.core.task import AnnotationWarning as AnnotationWarning
    from ctnet.core.task import Task as Task
    from ctnet.core.task import create_task as create_task
    from ctnet.core.task import load_task_class as load_task_class
    from ctnet.core.task import scenes_of as scenes_of
    from ctnet.core.tracking import OverlapTracker as OverlapTracker
    from ctnet.core.tracking import Tracker as Tracker
    from ctnet.core.tracking import best_pairs as best_pairs
    from ctnet.data.dataset import Dataset as Dataset
    from ctnet.data.dataset import open_splits as open_splits
    from ctnet.data.directory import annotation_files as annotation_files
    from ctnet.data.images import IMAGE_SUFFIXES as IMAGE_SUFFIXES
    from ctnet.data.images import ImageError as ImageError
    from ctnet.data.images import image_size as image_size
    from ctnet.data.images import read_image as read_image
    from ctnet.data.joints import left_right_pairs as left_right_pairs
    from ctnet.data.joints import names_a_side as names_a_side
    from ctnet.data.joints import other_side as other_side
    from ctnet.data.problems import Problem as Problem
    from ctnet.data.problems import refuse as refuse
    from ctnet.data.problems import summarize as summarize
    from ctnet.data.scenes import blend as blend
    from ctnet.data.scenes import contrasting as contrasting
    from ctnet.data.scenes import coverage as coverage
    from ctnet.data.scenes import fine_points as fine_points
    from ctnet.data.scenes import scene_of as scene_of
    from ctnet.data.scenes import visible_objects as visible_objects
    from ctnet.data.shape_scenes import SHAPES as SHAPES
    from ctnet.data.shape_scenes import draw_scene as draw_scene
    from ctnet.evaluation.coco import BOX_METRICS as BOX_METRICS
    from ctnet.evaluation.coco import CocoBoxEvaluator as CocoBoxEvaluator
    from ctnet.evaluation.coco import CocoEvaluator as CocoEvaluator
    from ctnet.evaluation.coco import coco_curves as coco_curves
    from ctnet.evaluation.matching import MatchedEvaluator as MatchedEvaluator
    from ctnet.evaluation.matching import Metric as Metric
    from ctnet.evaluation.matching import average_precision as average_precision
    from ctnet.evaluation.matching import check_column as check_column
    from ctnet.evaluation.matching import match_best_first as match_best_first
    from ctnet.evaluation.queues import match_in_order as match_in_order
    from ctnet.evaluation.ranking import Averages as Averages
    from ctnet.evaluation.ranking import RankedTally as RankedTally
    from ctnet.evaluation.ranking import Ranking as Ranking
    from ctnet.evaluation.ranking import Rule as Rule
    from ctnet.evaluation.voc import VOC_METRICS as VOC_METRICS
    from ctnet.evaluation.voc import VocEvaluator as VocEvaluator
    from ctnet.heatmap import FoundPeaks as FoundPeaks
    from ctnet.heatmap import box_iou_loss as box_iou_loss
    from ctnet.heatmap import concentric_giou_loss as concentric_giou_loss
    from ctnet.heatmap import draw_gaussians as draw_gaussians
    from ctnet.heatmap import find_peaks as find_peaks
    from ctnet.heatmap import focal_loss as focal_loss
    from ctnet.heatmap import full_precision as full_precision
    from ctnet.heatmap import gather as gather
    from ctnet.heatmap import gaussian_radius as gaussian_radius
    from ctnet.heatmap import l1_loss as l1_loss
    from ctnet.heatmap import locate as locate
    from ctnet.heatmap import normalized_l1_loss as normalized_l1_loss
    from ctnet.heatmap import smooth_l1_loss as smooth_l1_loss
    from ctnet.heatmap import suppress_non_peaks as suppress_non_peaks
    from ctnet.ops import DeformConv as DeformConv
    from ctnet.ops import deform_conv2d as deform_conv2d
    from ctnet.ops.boxes import box_areas as box_areas
    from ctnet.ops.boxes import box_centres as box_centres
    from ctnet.ops.boxes import box_coverage as box_coverage
    from ctnet.ops.boxes import box_intersections as box_intersections
    from ctnet.ops.boxes import box_iou as box_iou
    from ctnet.ops.boxes import box_sizes as box_sizes
    from ctnet.ops.boxes import boxes_around as boxes_around
    from ctnet.ops.boxes import ratio as ratio
    from ctnet.ops.polygons import polygon_areas as polygon_areas
    from ctnet.ops.polygons import rotated_intersections as rotated_intersections
    from ctnet.ops.polygons import rotated_iou as rotated_iou
    from ctnet.report.draw import Colour as Colour
    from ctnet.report.draw import Place as Place
    from ctnet.report.draw import as_pixels as as_pixels
    from ctnet.report.draw import caption as caption
    from ctnet.report.draw import class_colour as class_colour
    from ctnet.report.draw import draw_caption as draw_caption
    from ctnet.report.draw import draw_detections as draw_detections
    from ctnet.report.draw import draw_dot as draw_dot
    from ctnet.report.draw import draw_lines as draw_lines
    from ctnet.report.draw import draw_rectangle as draw_rectangle
    from ctnet.report.draw import drawable as drawable
    from ctnet.report.draw import font_scale as font_scale
    from ctnet.report.draw import free_place as free_place
    from ctnet.report.draw import line_width as line_width
    from ctnet.report.draw import side_by_side as side_by_side
    from ctnet.report.page import ReportSection as ReportSection
    from ctnet.report.page import ReportTable as ReportTable
    from ctnet.report.tables import print_metrics as print_metrics
    from ctnet.report.writing import write_image as write_image
    from ctnet.training.observers import CheckpointSaved as CheckpointSaved
    from ctnet.training.observers import EpochEnd as EpochEnd
    from ctnet.training.observers import EvaluationEnd as EvaluationEnd
    from ctnet.training.observers import Observer as Observer
    from ctnet.training.observers import RunEnd as RunEnd
    from ctnet.training.observers import RunStart as RunStart
    from ctnet.training.observers import StepEnd as StepEnd

#: Section of the reference -> module -> the names that it exports.
CONTENTS: dict[str, dict[str, tuple[str, ...]]] = {
    "The task": {
        "ctnet.core.task": (
            "AnnotationWarning",
            "create_task",
            "load_task_class",
            "scenes_of",
            "Task",
        ),
        "ctnet.core.options": ("option",),
        "ctnet.core.recipe": (
            "DEMO",
            "SMALL",
            "Augmentation",
            "Recipe",
        ),
        "ctnet.core.records": (
            "Detections",
            "ImageInfo",
            "Instances",
            "Sample",
        ),
        "ctnet.core.geometry": (
            "Affine",
            "Fit",
            "View",
        ),
        "ctnet.base.choices": ("Nms",),
        "ctnet.core.declarations": (
            "Layout",
            "Scenes",
            "Suppression",
        ),
        "ctnet.core.categories": ("Categories",),
    },
    "Fields": {
        "ctnet.core.fields": (
            "Angle",
            "Choice",
            "Field",
            "Length",
            "Points",
            "Value",
            "is_finite",
            "write_fields",
        ),
        "ctnet.core.masks": (
            "Mask",
            "Outline",
            "outline_of",
            "RunLength",
        ),
    },
    "Videos": {
        "ctnet.core.frames": (
            "Frames",
            "Identity",
            "prior_planes",
        ),
        "ctnet.core.tracking": (
            "OverlapTracker",
            "Tracker",
            "best_pairs",
        ),
    },
    "Heads and targets": {
        "ctnet.base.device": ("constant",),
        "ctnet.core.heads": (
            "Head",
            "Heatmap",
            "BoxDistances",
            "Regression",
        ),
        "ctnet.core.losses": ("Loss",),
        "ctnet.core.targets": (
            "CellTargets",
            "DenseCells",
            "DenseTargets",
            "Grid",
            "Peaks",
            "Target",
        ),
        "ctnet.core.boxes": (
            "box_cells",
            "box_radius",
            "clip_boxes",
            "cut_to_grid",
            "RadiusFormula",
        ),
    },
    "The paper's mathematics": {
        "ctnet.heatmap": (
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
        ),
    },
    "Boxes": {
        "ctnet.ops.boxes": (
            "box_areas",
            "box_centres",
            "box_coverage",
            "box_intersections",
            "box_iou",
            "box_sizes",
            "boxes_around",
            "ratio",
        ),
        "ctnet.ops.polygons": (
            "polygon_areas",
            "rotated_intersections",
            "rotated_iou",
        ),
    },
    "Evaluation": {
        "ctnet.core.evaluator": (
            "Evaluator",
            "GroundTruth",
            "metric",
            "MetricFactory",
            "State",
        ),
        "ctnet.core.tally": (
            "Drawn",
            "JoinedTally",
            "Matched",
            "Matches",
            "MeanTally",
            "Tally",
        ),
        "ctnet.evaluation.coco": (
            "BOX_METRICS",
            "coco_curves",
            "CocoBoxEvaluator",
            "CocoEvaluator",
        ),
        "ctnet.evaluation.matching": (
            "average_precision",
            "check_column",
            "match_best_first",
            "MatchedEvaluator",
            "Metric",
        ),
        "ctnet.evaluation.queues": ("match_in_order",),
        "ctnet.evaluation.ranking": (
            "Averages",
            "RankedTally",
            "Ranking",
            "Rule",
        ),
        "ctnet.evaluation.voc": (
            "VOC_METRICS",
            "VocEvaluator",
        ),
    },
    "Drawing": {
        "ctnet.report.draw": (
            "Colour",
            "Place",
            "as_pixels",
            "caption",
            "class_colour",
            "draw_caption",
            "draw_detections",
            "draw_dot",
            "draw_lines",
            "draw_rectangle",
            "drawable",
            "font_scale",
            "free_place",
            "line_width",
            "side_by_side",
        ),
        "ctnet.report.writing": ("write_image",),
    },
    "Data": {
        "ctnet.data.dataset": (
            "Dataset",
            "open_splits",
        ),
        "ctnet.data.directory": ("annotation_files",),
        "ctnet.data.images": (
            "IMAGE_SUFFIXES",
            "ImageError",
            "image_size",
            "read_image",
        ),
        "ctnet.data.joints": (
            "left_right_pairs",
            "other_side",
            "names_a_side",
        ),
        "ctnet.data.problems": (
            "Problem",
            "refuse",
            "summarize",
        ),
    },
    "Synthetic scenes": {
        "ctnet.data.scenes": (
            "blend",
            "contrasting",
            "coverage",
            "fine_points",
            "visible_objects",
            "scene_of",
        ),
        "ctnet.data.shape_scenes": (
            "SHAPES",
            "draw_scene",
        ),
    },
    "Converters": {
        "ctnet.convert.command": (
            "ImagesOption",
            "JsonOption",
            "OutputOption",
            "print_report",
            "StrictOption",
        ),
        "ctnet.convert.sources": (
            "check_folder",
            "checked_number",
            "finite_number",
            "image_files",
            "listed_names",
            "numbered_lines",
            "read_each",
            "read_lines",
            "readable_size",
        ),
        "ctnet.base.choices": ("ImageMode",),
        "ctnet.convert.files": ("place_image",),
        "ctnet.convert.coco": (
            "box_annotation",
            "ImageRecord",
            "numbered",
            "plain",
            "write_splits",
        ),
        "ctnet.convert.exports": (
            "ExportedImage",
            "exported_images",
            "write_text",
        ),
        "ctnet.convert.report": (
            "BadRecord",
            "ConvertReport",
            "SplitReport",
        ),
    },
    "Backbones": {
        "ctnet.backbones": (
            "Backbone",
            "create_backbone",
        ),
        "ctnet.ops": (
            "DeformConv",
            "deform_conv2d",
        ),
    },
    "Observers": {
        "ctnet.training.observers": (
            "Observer",
            "RunStart",
            "StepEnd",
            "EvaluationEnd",
            "CheckpointSaved",
            "EpochEnd",
            "RunEnd",
        ),
    },
    "Errors, files, output": {
        "ctnet.base.errors": (
            "CtnetError",
            "os_error",
            "unknown_name",
        ),
        "ctnet.base.files": (
            "atomic_write",
            "read_json",
            "read_text",
            "require_regular",
            "write_json",
        ),
        "ctnet.base.numbers": (
            "LARGEST_COORDINATE",
            "whole_number",
        ),
        "ctnet.base.output": (
            "print_json",
            "print_line",
            "print_note",
            "print_table",
            "warn_once",
        ),
        "ctnet.base.progress": ("track",),
        "ctnet.base.schema": (
            "check_json",
            "shorten",
        ),
        "ctnet.report.tables": ("print_metrics",),
    },
    "Reports": {
        "ctnet.analysis.reported": ("ReportedRun",),
        "ctnet.report.page": (
            "ReportSection",
            "ReportTable",
        ),
    },
}

_HOMES = {name: module for part in CONTENTS.values() for module, names in part.items() for name in names}

__all__ = ["CONTRACTS", *_HOMES]

__getattr__ = lazy_attributes(__name__, _HOMES)


def __dir__() -> list[str]:
    return sorted(__all__)
