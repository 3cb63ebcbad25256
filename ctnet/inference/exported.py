"""Detecting with an exported file: inputs in, detections in image pixels out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch

from ctnet.base.errors import CtnetError
from ctnet.base.schema import shorten
from ctnet.checkpoint.exported import Exported
from ctnet.core.geometry import Affine, View
from ctnet.core.records import Detections, ImageInfo
from ctnet.core.task import Task
from ctnet.inference.decoding import candidates, place
from ctnet.inference.preprocessing import Prepared, Preprocessor, first_frame
from ctnet.inference.runtimes import first_line, open_exported
from ctnet.inference.settings import DetectionSettings
from ctnet.inference.timing import StageTimes


class ExportedNetwork:
    """An exported file, opened in its runtime.

    Flip testing and the number of detections are part of the graph: they were chosen at export.

    Args:
        path: a .onnx, .xml or .pt2 file.
        threads: number of threads for the runtime; torch's own number when None.

    Attributes:
        path: the file.
        about: its description.
        task: the task that it was trained for.

    Raises:
        CtnetError: see `open_exported`.
    """

    def __init__(self, path: str | Path, threads: int | None = None) -> None:
        self.path = Path(path)
        self.runtime = open_exported(path, threads)
        self.about: Exported = self.runtime.exported
        self.task: Task = self.about.description.create_task(path)
        self._axes = _axes_of(self.task)
        given = [column.name for column in self.about.columns]
        if sorted(given) != sorted(self._axes):
            raise CtnetError(
                f"{self.path} gives {shorten(given)} where task {self.task.name} detects by "
                f"{', '.join(self._axes)}; export the run again"
            )

    def look(
        self, batch: Sequence[Prepared], settings: DetectionSettings, times: StageTimes
    ) -> list[Detections]:
        """Detections of each image, best first, in image pixels, lifted.

        Args:
            batch: inputs of one size.
            settings: used are flip, topk, score, amp and those of suppression.
            times: records how long each stage takes.

        Raises:
            CtnetError: for settings that the file was not exported with, and when it gives NaN or infinities.
        """
        self._check(settings)
        if len({prepared.input.shape for prepared in batch}) > 1:  # a file that resizes takes any size
            return [found for one in batch for found in self.look([one], settings, times)]
        with times.stage("network"):
            outputs = self.outputs(batch)
        with times.stage("post"):
            return self.read(outputs, batch, settings)

    def read(
        self, outputs: Sequence[np.ndarray], batch: Sequence[Prepared], settings: DetectionSettings
    ) -> list[Detections]:
        """Convert the result of ``outputs`` for a batch into detections; see ``look``."""
        # A file that is being verified also outputs maps, after the columns.
        names = [column.name for column in self.about.columns]
        columns = dict(zip(names, outputs, strict=False))
        self._check_columns(columns, len(batch))
        found = columns["scores"] > settings.limit
        if not all(_finite(columns[name] if name == "scores" else columns[name][found]) for name in names):
            seen = ", ".join(prepared.info.file_name or str(prepared.info.image_id) for prepared in batch)
            raise CtnetError(f"{self.path} gives NaN or infinities ({seen}); its weights are damaged")
        return [
            self._placed({name: column[index] for name, column in columns.items()}, prepared, settings)
            for index, prepared in enumerate(batch)
        ]

    def _check_columns(self, columns: Mapping[str, np.ndarray], images: int) -> None:
        """Refuse what the file's description does not say: only an edited file gives it."""
        rows = columns["scores"].shape[1:2] if "scores" in columns else ()
        wrong = [
            name
            for name, axes in self._axes.items()
            if name not in columns or columns[name].ndim != axes or columns[name].shape[:2] != (images, *rows)
        ]
        labels, classes = columns.get("labels"), len(self.task.categories)
        if not wrong and columns["boxes"].shape[2] != 4:
            wrong = ["boxes"]
        if (
            not wrong
            and labels is not None
            and labels.size
            and not 0 <= labels.min() <= labels.max() < classes
        ):
            wrong = ["labels"]
        if wrong:
            raise CtnetError(
                f"{self.path} gives {', '.join(wrong)} that do not fit its description; export the run again"
            )

    def outputs(self, batch: Sequence[Prepared]) -> list[np.ndarray]:
        """All outputs of the file for inputs of one size, (B, ...) each.

        Raises:
            CtnetError: when the runtime fails.
        """
        images = in_layout([prepared.input for prepared in batch], self.about.layout)
        try:
            return self.runtime.run(images)
        except Exception as error:  # every runtime has exceptions of its own
            single = min(batch[0].input.shape[:2]) == self.about.divisor
            if self.path.suffix == ".pt2" and single and "Guard failed" in str(error):
                raise CtnetError(
                    f"{self.path} does not take images of {images.shape}: a .pt2 file without --fixed needs "
                    f"at least {2 * self.about.divisor} pixels a side; give a larger --size"
                ) from error
            raise CtnetError(
                f"{self.runtime.name} cannot run {self.path} on images of {images.shape}: "
                f"{first_line(error)}; export the run again"
            ) from error

    def preprocessor(self, fitting: Preprocessor) -> Preprocessor:
        """The preprocessing for this file: none where its graph resizes the images.

        Args:
            fitting: the preprocessing of the network, for the size of its input.
        """
        return fitting if self.about.letterbox is None else Unchanged(**vars(fitting))

    def _placed(
        self, columns: Mapping[str, np.ndarray], prepared: Prepared, settings: DetectionSettings
    ) -> Detections:
        """Detections of one image, from columns in pixels of the input."""
        own = {name: columns[name] for name in ("boxes", "scores", "labels")}
        found = Detections(**own, extra={name: value for name, value in columns.items() if name not in own})
        from_input = View.through(prepared.info, prepared.affine, 1).affine
        grid = prepared.view(self.about.description.stride)
        if self.about.letterbox is not None:
            info, fit = prepared.info, self.task.layout.fit
            fitting = Preprocessor("fix", self.about.letterbox, self.about.divisor, fit)
            to_input, _ = fitting.geometry(info.width, info.height)
            grid = View.through(info, to_input, self.about.description.stride)
        return place(self.task, found, from_input, grid, settings)

    def _check(self, settings: DetectionSettings) -> None:
        wanted = candidates(self.task, settings)
        if settings.flip and not self.about.flip:
            raise CtnetError(
                f"{self.path} does not average with the mirrored image; export the run with --flip"
            )
        if wanted > self.about.topk:
            raise CtnetError(
                f"{self.path} gives {self.about.topk} detections per image, not {wanted}; "
                f"export the run with --topk {wanted}"
            )
        if settings.scales != (1.0,) and (self.about.fixed or self.about.letterbox):
            raise CtnetError(
                f"{self.path} has only one input size; for several scales export the run without --fixed "
                "and --letterbox"
            )
        if settings.amp is not None:
            raise CtnetError(
                f"{self.path} has its own precision; export the run with --half instead of using amp"
            )

    def check_size(self, size: tuple[int, int] | None, resize: str) -> None:
        """Refuse inputs that a file for one size cannot take.

        Raises:
            CtnetError: naming the size that the file takes.
        """
        fixed = self.about.letterbox or self.about.fixed
        if fixed is not None and (resize == "keep" or (size is not None and size != fixed)):
            way = "resizes every image to" if self.about.letterbox else "only takes inputs of"
            option = "--letterbox" if self.about.letterbox else "--fixed"
            raise CtnetError(
                f"{self.path} {way} {fixed[0]}x{fixed[1]}; leave out --size and --resize, or export "
                f"the run without {option}"
            )


class Unchanged(Preprocessor):
    """Leaves images unchanged, for files that resize them."""

    def __call__(self, image: np.ndarray, info: ImageInfo, scale: float = 1.0) -> Prepared:
        return Prepared(Affine.identity(), info, first_frame(image, self.frames))


def _axes_of(task: Task) -> dict[str, int]:
    """The columns that a task decodes from a batch, and how many axes each has."""
    blank = {name: torch.zeros(1, head.channels, 8, 8) for name, head in task.heads.items()}
    with torch.no_grad():
        found = task.decode(blank, 1).without("cells").fields()
    return {name: values.ndim for name, values in found.items()}


def _finite(values: np.ndarray) -> bool:
    return bool(np.isfinite(values).all())


def in_layout(images: Sequence[np.ndarray], layout: str) -> np.ndarray:
    """Images (H, W, 3) of one size as a batch in the given layout."""
    batch = np.stack(list(images))
    return np.ascontiguousarray(batch.transpose(0, 3, 1, 2)) if layout == "nchw" else batch
