"""What a service does with an image: the steps of ``Detector``, each in the thread that it belongs to."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from ctnet.base.errors import CtnetError
from ctnet.core.records import ImageInfo
from ctnet.inference import DetectionSettings, Detector, ImageDetections
from ctnet.inference.camera import Camera
from ctnet.inference.preprocessing import Views
from ctnet.inference.thresholds import Thresholds, calibrated


@dataclass(frozen=True)
class Work:
    """An image that is ready for the network.

    Attributes:
        views: the inputs.
        thresholds: the scores above which detections are kept.
    """

    views: Views
    thresholds: Thresholds

    @property
    def pixels(self) -> int:
        """Pixels of all its inputs."""
        return sum(view.input.shape[0] * view.input.shape[1] for view in self.views)


class Engine:
    """A detector with its settings.

    Args:
        detector: only ``detect`` uses its network.
        settings: test-time settings.
        camera: the camera of all images, for tasks that need one.
        batch_size: images per forward pass.

    Attributes:
        thresholds: those in effect where a request gives none.

    Raises:
        CtnetError: for settings that do not fit the detector.
    """

    def __init__(
        self, detector: Detector, settings: DetectionSettings, camera: Camera, batch_size: int = 8
    ) -> None:
        if camera.calib is not None and camera.calib.is_dir():
            raise CtnetError(
                f"--calib {camera.calib} is a folder; give a file: names of images come from clients here, "
                "and no file is opened by them"
            )
        # Read once; a focal length depends on the size of the image.
        self._record = None if camera.calib is None else camera.record("", 0, 0)
        self.detector, self.camera, self.batch_size = detector, camera, batch_size
        self.calibration = detector.calibration if settings.calibrated else None
        self.thresholds = detector.thresholds(settings.score)
        self._preprocess = detector.prepares(settings)
        self._settings = settings

    def warm_up(self) -> None:
        """Detect in a grey image, so that the first request finds everything ready.

        Raises:
            CtnetError: when the network does not run.
        """
        grey = np.full((64, 64, 3), 128, np.uint8)
        self.detect([self.prepare(grey, "a grey image", self.thresholds)])

    def chosen(self, score: float | None) -> Thresholds:
        """The thresholds of a request."""
        return self.thresholds if score is None else self.detector.thresholds(score)

    def prepare(self, image: np.ndarray, name: str, thresholds: Thresholds) -> Work:
        """An image (H, W, 3) uint8 RGB, ready for the network; any thread may call it."""
        height, width = image.shape[:2]
        record = self._record or self.camera.record(name, width, height)
        info = ImageInfo(0, name, width, height, record)
        return Work(self._preprocess.views(image, info, self._settings.scales), thresholds)

    def detect(self, batch: Sequence[Work]) -> list[ImageDetections]:
        """The detections of a batch, as ``Detector`` gives them; only one thread may call it.

        Raises:
            CtnetError: when the network gives NaN or infinities, or an input does not fit into memory.
        """
        lowest = min(work.thresholds.lowest for work in batch)
        settings = replace(self._settings, score=lowest)
        found = self.detector.found([work.views for work in batch], settings, self.batch_size)
        return [
            calibrated(work.thresholds.kept(one), self.calibration, self.detector.class_names)
            for work, one in zip(batch, found, strict=True)
        ]
