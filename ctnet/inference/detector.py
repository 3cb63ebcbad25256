"""Detector: images in, detections in image pixels out."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ctnet.base.ahead import ahead
from ctnet.base.choices import Resize, check_choice
from ctnet.base.device import choose_device
from ctnet.base.errors import CtnetError
from ctnet.checkpoint import Description, load, load_model
from ctnet.core.operating import Calibration, OperatingPoints
from ctnet.core.records import Detections, ImageInfo
from ctnet.core.task import Task
from ctnet.inference.decoding import decode, merge_all, not_finite
from ctnet.inference.exported import ExportedNetwork
from ctnet.inference.following import Following, StreamFrame, require_stream
from ctnet.inference.forward import Forward
from ctnet.inference.found import ImageDetections
from ctnet.inference.pictures import Picture, listed_pictures, opened
from ctnet.inference.prepare import Preparation, prepare_for_inference
from ctnet.inference.preprocessing import Prepared, Preprocessor, Views
from ctnet.inference.receptive import Reach, exact_overlap, reach_of
from ctnet.inference.runtimes import is_exported
from ctnet.inference.settings import DetectionSettings
from ctnet.inference.sources import stream_frames
from ctnet.inference.thresholds import Thresholds, calibrated
from ctnet.inference.tiled import TiledLook
from ctnet.inference.tiles import OVERLAP, Tiling, tiling_of
from ctnet.inference.timing import StageTimes
from ctnet.model import CenterNet, check_input_size


class Detector:
    """A trained network with pre- and postprocessing.

    Attributes:
        task: the task it was trained for.
        description: the description in the checkpoint or exported file.
        device: the device it runs on.
        operating_points: the thresholds that were chosen for it; None if none were.
    """

    def __init__(
        self,
        task: Task,
        model: CenterNet | ExportedNetwork,
        description: Description,
        device: torch.device | None = None,
        dtype: torch.dtype | None = None,
        compile: bool = False,
        operating_points: OperatingPoints | None = None,
    ) -> None:
        """Args:
        task: the task that the network was trained for.
        model: the network, which is not changed, or an exported file.
        description: the description of its input.
        device: to run on; the CPU when None. Exported files run on the CPU.
        dtype: dtype of a network's weights and maps, such as torch.bfloat16; None for float32.
        compile: let ``torch.compile`` make code of a network, see ``prepare_for_inference``.
        operating_points: the thresholds that were chosen for it, if any.

        Raises:
            CtnetError: for a dtype that the device does not compute in, and for ``dtype`` or ``compile`` with
                an exported file.
        """
        self.task = task
        self.description = description
        self.operating_points = operating_points
        self.device = device or torch.device("cpu")
        if not isinstance(model, ExportedNetwork):
            self._network: CenterNet | ExportedNetwork = prepare_for_inference(
                model.to(self.device), dtype=dtype, compile=compile
            )
            return
        if dtype is not None or compile:
            raise CtnetError(
                f"{model.path} is compiled already, and keeps the dtype that it was exported with; leave out "
                f"{'--dtype' if dtype is not None else '--compile'}"
            )
        self._network = model

    @property
    def exported(self) -> ExportedNetwork | None:
        """The exported file that this detector runs; None for a network."""
        return self._network if isinstance(self._network, ExportedNetwork) else None

    @property
    def model(self) -> CenterNet:
        """The network, prepared for inference on ``device``.

        Raises:
            CtnetError: for an exported file, whose layers and maps are not accessible.
        """
        if isinstance(self._network, ExportedNetwork):
            raise CtnetError(
                f"{self._network.path} gives only detections, no maps; use the run that it was exported from"
            )
        return self._network

    @classmethod
    def load(
        cls,
        path: str | Path,
        device: str = "auto",
        options: Mapping[str, Any] | None = None,
        dtype: torch.dtype | None = None,
        compile: bool = False,
    ) -> Detector:
        """Open a checkpoint, a run folder (its best weights), or an exported file.

        Args:
            path: file or folder; exported files end in .onnx, .xml or .pt2.
            device: device to run on; exported files run on the CPU.
            options: task options that replace those used in training; not for exported files.
            dtype, compile: see ``Detector``; not for exported files.

        Raises:
            CtnetError: for a file that is missing, damaged or not from ctnet; for an unusable device; for
                options that the task does not have, or that do not match the weights; for what ``Detector``
                refuses.
        """
        if is_exported(path):
            return cls._open_export(path, device, options, Preparation(dtype, compile))
        checkpoint = load(checkpoint_of(path))
        if options:
            trained = checkpoint.description
            description = replace(trained, options={**trained.options, **options})
            checkpoint = replace(checkpoint, description=description)
        task, model = load_model(checkpoint)
        where, points = choose_device(device), checkpoint.operating_points
        return cls(task, model, checkpoint.description, where, dtype, compile, points)

    @classmethod
    def _open_export(
        cls, path: str | Path, device: str, options: Mapping[str, Any] | None, preparation: Preparation
    ) -> Detector:
        if device not in ("auto", "cpu"):
            raise CtnetError(f"{path} runs on the CPU, not on {device}; leave out --device")
        if options:
            raise CtnetError(
                f"the options of {path} were chosen at export ({', '.join(options)} cannot be changed); "
                "export the run again"
            )
        return cls.of_export(ExportedNetwork(path), preparation)

    @classmethod
    def of_export(cls, network: ExportedNetwork, preparation: Preparation | None = None) -> Detector:
        """A detector that runs an exported file, which refuses any other preparation than the default."""
        about, chosen = network.about, preparation or Preparation()
        points = about.operating_points
        return cls(network.task, network, about.description, None, chosen.dtype, chosen.compile, points)

    def preprocessor(self, resize: Resize = "fix", size: tuple[int, int] | None = None) -> Preprocessor:
        """The preprocessing that resizes images for the network.

        Args:
            resize: see ``Preprocessor``.
            size: (width, height) for "fix"; the training size when None.

        Raises:
            CtnetError: for an unknown mode, a size that the network does not accept, or a size for "keep".
        """
        check_choice("resize", resize, Resize)
        if resize == "keep" and size is not None:
            raise CtnetError(f"size {size[0]}x{size[1]} is for resize fix; with keep every image has its own")
        fixed = None
        if self.exported is not None:
            self.exported.check_size(size, resize)
            about = self.exported.about
            divisor, fixed = about.divisor, about.letterbox or about.fixed
        else:
            divisor = self.model.backbone.divisor
        size = size or fixed or self.description.size
        check_input_size(size, divisor, self.description.backbone)
        preprocess = Preprocessor(resize, size, divisor, self.task.layout.fit, frames=self.task.frames)
        return preprocess if self.exported is None else self.exported.preprocessor(preprocess)

    @property
    def class_names(self) -> tuple[str, ...]:
        """Name of each label."""
        return self.task.categories.names

    def thresholds(self, score: float | None = None) -> Thresholds:
        """The score above which detections of each class are kept, in what this detector returns.

        Args:
            score: for all classes. None: the operating points, or 0.3 for a detector without any.
        """
        return Thresholds.of(score, self.operating_points, self.class_names)

    @property
    def calibration(self) -> Calibration:
        """How its scores become probabilities.

        Raises:
            CtnetError: for a detector without a calibration.
        """
        if self.operating_points is None or self.operating_points.calibration is None:
            raise CtnetError(
                "this detector has no calibration; fit one with "
                "`ctnet analyze thresholds RUN --calibrate --write`"
            )
        return self.operating_points.calibration

    def __repr__(self) -> str:
        names = ", ".join(self.class_names)
        return f"Detector({self.task.name} with {self.description.backbone} on {self.device}: {names})"

    def __call__(
        self,
        images: Picture | Iterable[Picture],
        settings: DetectionSettings | None = None,
        batch_size: int = 8,
        records: Sequence[Mapping[str, Any]] | None = None,
        *,
        score: float | None = None,
        bgr: bool = False,
    ) -> list[ImageDetections]:
        """Detect in one or more images, of any sizes.

        Args:
            images: one or more paths, arrays, tensors or PIL images. Arrays are (H, W) or (H, W, C) with 1, 3
                or 4 channels, RGB, uint8 or floats from 0 to 1; tensors the same, channels first.
                Transparency is dropped.
            settings: test-time settings.
            batch_size: images per forward pass.
            records: for each image the additional keys of its entry in a COCO file (such as a camera's
                ``calib``), for tasks that lift detections into 3D.
            score: score threshold, instead of ``settings.score``. Default: the operating points, or 0.3 for a
                detector without any, as in ``ctnet predict``; 0 gives all detections, up to
                ``settings.topk``.
            bgr: whether arrays have their channels in OpenCV's order: blue, green, red.

        Returns:
            One record per image, in order, best detection first, with boxes in pixels of that image. With
            ``settings.clip`` they are clipped to it, and those wholly outside are dropped.

        Raises:
            CtnetError: for an image that cannot be read, or invalid settings.
        """
        chosen = settings or DetectionSettings()
        thresholds = self.thresholds(chosen.score if score is None else score)
        chosen = replace(chosen, score=thresholds.lowest)
        calibration = self.calibration if chosen.calibrated else None
        sources = listed_pictures(images)
        if records is not None and len(records) != len(sources):
            raise CtnetError(f"there are {len(records)} records for {len(sources)} images; give one for each")
        preprocess = self.prepares(chosen)
        views = (
            preprocess.views(
                *opened(source, position, records[position] if records else {}, bgr), chosen.scales
            )
            for position, source in enumerate(sources)
        )
        found = self.found(ahead(views, self.reads_ahead, batch_size), chosen, batch_size)
        return [calibrated(thresholds.kept(of_image), calibration, self.class_names) for of_image in found]

    def stream(
        self,
        source: str | Path | Iterable[Picture],
        settings: DetectionSettings | None = None,
        *,
        score: float | None = None,
        by_overlap: bool = False,
        bgr: bool = False,
    ) -> Iterator[StreamFrame]:
        """Follow the objects of a video, frame by frame; only what the next frame needs is kept.

        Args:
            source: a video, a camera's number, an address, a folder of frames, or the frames themselves.
            settings: test-time settings.
            score: lowest score of a new object, instead of ``settings.score``.
            by_overlap: associate by overlap, even where the task declares a tracker of its own.
            bgr: see ``__call__``; for frames that are arrays.

        Yields:
            Every frame that could be read, with the objects followed in it: their ``track_id`` (N,) int64
            stays the same from frame to frame. When a new scene begins, see ``Following``.

        Raises:
            CtnetError: for a source that cannot be read, and invalid settings.
        """
        chosen = settings or DetectionSettings()
        thresholds = self.thresholds(chosen.score if score is None else score)
        follow = Following(self.task, thresholds.lowest, by_overlap)
        chosen = replace(chosen, score=0.0)
        preprocess = self.prepares(chosen)
        for frame in stream_frames(source, bgr):
            if frame.image is None:
                follow.skip() if frame.problem else follow.reset()
                continue
            info = ImageInfo(0, frame.name, frame.image.shape[1], frame.image.shape[0])
            views = follow.views(preprocess.views(frame.image, info, chosen.scales))
            found = follow.update(self.found([views], chosen, 1)[0])
            seen = ImageDetections.of(found[found.track_id >= 0], self.task, info)
            yield StreamFrame(frame.image, frame.name, seen)

    @property
    def reads_ahead(self) -> bool:
        """Whether images are read and resized by a thread while the network computes.

        On a CPU they would compete for its cores.
        """
        return self.device.type != "cpu"

    def found(
        self, images: Iterable[Views], settings: DetectionSettings, batch_size: int = 8
    ) -> list[ImageDetections]:
        """Detections of prepared images of any sizes, in order, with raw scores.

        Args:
            images: from ``Preprocessor.views``.
            settings: see ``__call__``; the score threshold is ``settings.score`` alone.
            batch_size: images per forward pass.
        """
        waiting: dict[tuple[Any, ...], list[tuple[int, Views]]] = {}
        found: dict[int, ImageDetections] = {}

        def flush(shapes: tuple[Any, ...]) -> None:
            positions, batch = zip(*waiting.pop(shapes), strict=True)
            for position, views, detections in zip(
                positions, batch, self.detect(batch, settings), strict=True
            ):
                of_image = ImageDetections.of(detections, self.task, views[0].info)
                found[position] = of_image.clipped() if settings.clip else of_image

        for position, views in enumerate(images):
            shapes = tuple(view.input.shape for view in views)
            waiting.setdefault(shapes, []).append((position, views))
            if len(waiting[shapes]) == batch_size:
                flush(shapes)
        for shapes in list(waiting):
            flush(shapes)
        return [found[position] for position in range(len(found))]

    def detect(
        self,
        batch: Sequence[Views],
        settings: DetectionSettings,
        times: StageTimes | None = None,
        keep_maps: Callable[[Mapping[str, Tensor], Sequence[Prepared], float], None] | None = None,
    ) -> list[Detections]:
        """Detections of images that were prepared at every scale, in pixels of each image.

        Args:
            batch: for each image one input per scale, from ``Preprocessor.views``; all inputs of one scale
                have the same size.
            settings: used are scales, flip, nms, topk, score and amp.
            times: records how long each stage takes.
            keep_maps: called with the activated maps of every scale, their images, and the scale.

        Raises:
            CtnetError: when the network outputs NaN or infinities.
        """
        times = StageTimes() if times is None else times
        tiling = self.tiling(settings)
        if tiling is not None and keep_maps is not None:
            raise CtnetError("maps are kept of whole images; use --resize keep instead of --tiles")
        looks = []
        for scale, prepared in zip(settings.scales, zip(*batch, strict=True), strict=True):
            if tiling is not None:
                look = TiledLook(self.task, self._forward, tiling, self.description.stride, settings, times)
                looks.append([look(canvas) for canvas in prepared])
                continue
            if self.exported is not None and keep_maps is None:
                looks.append(self.exported.look(prepared, settings, times))
                continue
            maps, finite = self._forward.maps(prepared, settings.flip, settings.amp, times)
            if keep_maps is not None:
                _check(finite, prepared)
                keep_maps(maps, prepared, scale)
            views = [one.view(self.description.stride) for one in prepared]
            looks.append(decode(self.task, maps, views, settings, times, finite))
        times.images += len(batch)
        with times.stage("post"):
            return merge_all(self.task, list(zip(*looks, strict=True)), settings)

    def maps(
        self,
        batch: Sequence[Prepared],
        flip: bool = False,
        amp: torch.dtype | None = None,
        times: StageTimes | None = None,
    ) -> dict[str, Tensor]:
        """The network's activated maps (B, C, H, W) float32 on the device, ready for decoding.

        Args:
            batch: inputs of one size; split if it does not fit into memory.
            flip: average with the mirrored input, where the heads allow it.
            amp: data type for autocast; None for full precision.
            times: records how long each stage takes.

        Raises:
            CtnetError: when the network outputs NaN or infinities, or a single image does not fit into
                memory.

        Source: section 4 and appendix, flip testing: maps are averaged before decoding.
        """
        maps, finite = self._forward.maps(batch, flip, amp, StageTimes() if times is None else times)
        _check(finite, batch)
        return maps

    @cached_property
    def _forward(self) -> Forward:
        about = self.description
        return Forward(self.model, self.task.heads, about.mean, about.std, self.device)

    def prepares(self, settings: DetectionSettings) -> Preprocessor:
        """The preprocessing for these settings; its views are for ``found`` and ``detect``.

        Raises:
            CtnetError: see ``preprocessor`` and ``tiling``.
        """
        tiling = self.tiling(settings)
        return replace(self.preprocessor(settings.resized, settings.size), whole=tiling is None)

    def tiling(self, settings: DetectionSettings) -> Tiling | None:
        """How images are cut into tiles; None where they are not.

        Raises:
            CtnetError: for sides and overlaps that do not fit the network, an exact overlap that the network
                does not have, and an exported file.
        """
        if settings.tiles is None:
            return None
        require_stream(self.task, settings.tiles)
        if self.exported is not None:
            raise CtnetError(
                f"{self.exported.path} gives detections without the cells of their peaks, so tiles cannot be "
                "joined; use the run that it was exported from"
            )
        divisor, name = self.model.backbone.divisor, self.description.backbone
        if settings.overlap == "exact":
            overlap = exact_overlap(self.reach, divisor, settings.tiles, name)
        elif settings.overlap is None:
            overlap = -(-OVERLAP // (2 * divisor)) * 2 * divisor
        else:
            overlap = settings.overlap
        return tiling_of(settings.tiles, overlap, divisor, name)

    @cached_property
    def reach(self) -> Reach:
        """How far the network looks beyond a part of the image.

        Raises:
            CtnetError: for a network with layers that look anywhere.
        """
        return reach_of(self.task, self.description.backbone)


def _check(finite: Tensor, batch: Sequence[Prepared]) -> None:
    if not finite:
        raise not_finite([prepared.info for prepared in batch])


def checkpoint_of(path: str | Path) -> Path:
    """The file to open: a checkpoint, or a run folder's best.pt (last.pt before the first evaluation).

    Raises:
        CtnetError: when there is none.
    """
    path = Path(path)
    if not path.is_dir():
        return path
    for name in ("best.pt", "last.pt"):
        if (path / name).is_file():
            return path / name
    raise CtnetError(
        f"{path} contains neither best.pt nor last.pt; is it a run folder, and was a checkpoint saved yet?"
    )
