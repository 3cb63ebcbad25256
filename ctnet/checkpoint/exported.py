"""The description inside an exported file, the same in ONNX, OpenVINO and torch.export files."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from typing import Any

from ctnet.base.choices import ImageLayout
from ctnet.base.errors import CtnetError
from ctnet.base.files import unique_keys
from ctnet.base.schema import check_json
from ctnet.base.version import __version__
from ctnet.checkpoint.file import Count, Description
from ctnet.core.operating import OperatingPoints, require_consistent

#: Key of the description in the file's metadata.
KEY = "ctnet"
FORMAT = "ctnet export 1"


@dataclass(frozen=True)
class Column:
    """One output of an exported file.

    Attributes:
        name: name of the output: "boxes", "scores", "labels", or a declared field.
        kind: kind of the field: "Points", "Length", "Angle", ...; "" for the outputs that every task has.
        unit: unit of the values; "px" are pixels of the input image.
        json: key in results files.
        in_pixels: whether the graph converted it from cells of the output grid to pixels.
    """

    name: str
    kind: str = ""
    unit: str = ""
    json: str = ""
    in_pixels: bool = False


@dataclass(frozen=True)
class Exported:
    """Everything one needs to know to use an exported file.

    Attributes:
        description: task, options, categories, size, normalisation and versions, as in checkpoints.
        columns: the outputs, in order.
        topk: detections per image; fewer where the grid has fewer cells.
        layout: layout of the uint8 RGB input images: "nhwc" for (B, H, W, 3), "nchw" for (B, 3, H, W).
        divisor: the input's height and width are multiples of this.
        fixed: (width, height) of the input where the file takes only one size.
        letterbox: (width, height) that the graph resizes images of any size to; None: it does not resize.
        flip: whether the graph averages with the mirrored image.
        half: whether the weights are float16.
        int8: whether convolutions run in 8 bits.
        parameters: number of weights of the network.
        digest: SHA-256 of the exported weights.
        operating_points: thresholds that were chosen for the detector; None if none were.
        verified: the result of comparing the file with the detector, see `ctnet.export.verify`.
        versions: versions of the libraries that wrote the file.
    """

    description: Description
    columns: tuple[Column, ...]
    topk: Count
    layout: ImageLayout = "nhwc"
    divisor: Count = 32
    fixed: tuple[Count, Count] | None = None
    letterbox: tuple[Count, Count] | None = None
    flip: bool = False
    half: bool = False
    int8: bool = False
    parameters: int = 0
    digest: str = ""
    operating_points: OperatingPoints | None = None
    verified: dict[str, Any] = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=dict)

    def to_json(self) -> str:
        """The text for the file's metadata."""
        return json.dumps({"format": FORMAT, **asdict(self)})

    @classmethod
    def from_json(cls, text: str | None, path: object) -> Exported:
        """Read the description from a file's metadata.

        Args:
            text: the value of `KEY`; None when the file lacks it.
            path: the file, for messages.

        Raises:
            CtnetError: for a file that ctnet did not export, and for another version of the format.
        """
        if text is None:
            raise CtnetError(
                f"{path} was not exported by ctnet; export a run with `ctnet export RUN -o FILE`"
            )
        fix = f"ctnet {__version__} reads {FORMAT!r} files: export the run again"
        try:
            content = json.loads(text, object_pairs_hook=unique_keys)
            found = content.pop("format")
        except (AttributeError, KeyError, RecursionError, TypeError, ValueError) as error:
            raise CtnetError(f"the description in {path} is damaged; {fix}") from error
        if found != FORMAT:
            raise CtnetError(f"{path} has format {found!r}; {fix}")
        exported: Exported = check_json(cls, content, f"the description in {path}", fix)
        if exported.operating_points is not None:
            names = exported.description.class_names(path)
            require_consistent(exported.operating_points, names, path, fix)
        return exported
