"""What an exported file says of itself: the same words in ONNX, OpenVINO and torch.export files."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from ctnet.base.errors import CtnetError
from ctnet.base.version import __version__
from ctnet.checkpoint.file import Description

#: Under this key the description lies in the file's metadata.
KEY = "ctnet"
FORMAT = "ctnet export 1"

ImageLayout = Literal["nhwc", "nchw"]


@dataclass(frozen=True)
class Column:
    """One output of an exported file.

    Attributes:
        name: of the output: "boxes", "scores", "labels", or a declared field.
        kind: of the field: "Points", "Length", "Angle", ...; "" for those that every task has.
        unit: of the values; "px" are pixels of the image that was given in.
        json: key in results files.
        in_pixels: whether the graph turned it from cells of the output grid into pixels.
    """

    name: str
    kind: str = ""
    unit: str = ""
    json: str = ""
    in_pixels: bool = False


@dataclass(frozen=True)
class Exported:
    """Everything needed to use an exported file.

    Attributes:
        description: task, options, categories, size, normalisation and versions, as in checkpoints.
        columns: the outputs, in order.
        topk: detections per image; fewer where the grid has fewer cells.
        layout: of the uint8 RGB images that go in: (B, H, W, 3) or (B, 3, H, W).
        divisor: what the input's height and width are multiples of.
        fixed: (width, height) of the input where the file takes one size alone.
        flip: whether the graph averages with the mirrored image.
        half: whether the weights are float16.
        digest: SHA-256 of the weights that were exported.
        operating_points: scores by category to cut at; reserved.
        verified: what comparing the file with the detector showed, see `ctnet.export.verify`.
        versions: of what wrote the file.
    """

    description: Description
    columns: tuple[Column, ...]
    topk: int
    layout: ImageLayout = "nhwc"
    divisor: int = 32
    fixed: tuple[int, int] | None = None
    flip: bool = False
    half: bool = False
    digest: str = ""
    operating_points: Mapping[str, Any] | None = None
    verified: Mapping[str, Any] = field(default_factory=dict)
    versions: Mapping[str, str] = field(default_factory=dict)

    def to_json(self) -> str:
        """The text for the file's metadata."""
        return json.dumps({"format": FORMAT, **asdict(self)})

    @classmethod
    def from_json(cls, text: str | None, path: object) -> Exported:
        """What a file's metadata says.

        Args:
            text: under the key `KEY`; None where the file has none.
            path: of the file, for messages.

        Raises:
            CtnetError: for a file that is not an export of ctnet, or of another version's form.
        """
        if text is None:
            raise CtnetError(
                f"{path} was not exported by ctnet; write such a file with `ctnet export RUN -o FILE`"
            )
        try:
            content = json.loads(text)
            found = content.pop("format")
            if found != FORMAT:
                raise CtnetError(
                    f"{path} has format {found!r}; ctnet {__version__} reads {FORMAT!r}: export the run again"
                )
            description = content.pop("description")
            for name in ("size", "mean", "std"):
                description[name] = tuple(description[name])
            columns = tuple(Column(**column) for column in content.pop("columns"))
            fixed = content.pop("fixed")
            return cls(Description(**description), columns, fixed=fixed and tuple(fixed), **content)
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise CtnetError(
                f"{path} does not describe itself as ctnet {__version__} does ({error!r}); "
                "export the run again"
            ) from error
