"""Evaluating stored maps, without the network that made them."""

from __future__ import annotations

from collections.abc import Iterator

from ctnet.base.choices import Nms
from ctnet.base.errors import CtnetError
from ctnet.core.geometry import View
from ctnet.core.records import Detections, ImageInfo
from ctnet.core.task import Task
from ctnet.data.dataset import Dataset
from ctnet.evaluation.evaluators import evaluator_of
from ctnet.inference.decoding import decode, merge
from ctnet.inference.maps import MapFile
from ctnet.inference.settings import DetectionSettings
from ctnet.inference.timing import StageTimes
from ctnet.measuring.run import Evaluation, measure


def evaluate_maps(
    maps: MapFile,
    dataset: Dataset,
    task: Task,
    topk: int = 100,
    nms: Nms | None = None,
    metric: str | None = None,
    max_dets: int | None = None,
) -> Evaluation:
    """Decode the maps of a file and evaluate the detections.

    Maps are stored as float16, so two neighbouring cells that differ by less than 1/2000 of their value may
    become equal and both be peaks: metrics differ from the network's by a few ten-thousandths.

    Args:
        maps: maps of all images of the data set; a missing one counts as an image without detections.
        dataset: the ground truth.
        task: decodes them.
        topk, nms: see ``DetectionSettings``.
        metric, max_dets: see ``evaluator_of``.

    Raises:
        CtnetError: for an image that the data set does not have.
    """
    maps.check_heads(task)
    evaluator = evaluator_of(task, dataset, metric, max_dets)
    times = StageTimes()
    infos = {info.image_id: info for info in map(dataset.info, range(len(dataset)))}
    settings = DetectionSettings(scales=maps.scales, nms=nms, topk=topk)
    found = _detections(maps, infos, task, settings, times)
    return measure(found, evaluator, len(maps.image_ids), "measuring", [], times)


def _detections(
    maps: MapFile,
    infos: dict[int, ImageInfo],
    task: Task,
    settings: DetectionSettings,
    times: StageTimes,
) -> Iterator[tuple[int, Detections]]:
    for image_id in maps.image_ids:
        if image_id not in infos:
            raise CtnetError(
                f"image id {image_id} of {maps.path} is not in the ground truth, which has {len(infos)} "
                "images; are these maps of another data set or split?"
            )
        with times.stage("load"):
            stored = maps[image_id]
        looks = []
        for one in stored:
            view = View.through(infos[image_id], one.affine, maps.description.stride)
            looks += decode(task, one.maps, [view], settings, times)
        with times.stage("post"):
            merged = merge(task, looks, settings)
        times.images += 1
        yield image_id, merged
