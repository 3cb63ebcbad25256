"""What an exported file says of itself: the same words in ONNX, OpenVINO and torch.export files."""

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

#: Under this key the description lies in the file's metadata.
KEY = "ctnet"
FORMAT = "ctnet export 1"


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
        letterbox: (width, height) to which the graph resizes images of any size; None: it does not resize.
        flip: whether the graph averages with the mirrored image.
        half: whether the weights are float16.
        int8: whether convolutions run in 8 bits.
        parameters: number of the network's weights.
        digest: SHA-256 of the weights that were exported.
        operating_points: scores by category to cut at; reserved.
        verified: what comparing the file with the detector showed, see `ctnet.export.verify`.
        versions: of what wrote the file.
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
    operating_points: dict[str, Any] | None = None
    verified: dict[str, Any] = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=dict)

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
        fix = f"ctnet {__version__} reads {FORMAT!r} files: export the run again"
        try:
            content = json.loads(text, object_pairs_hook=unique_keys)
            found = content.pop("format")
        except (AttributeError, KeyError, RecursionError, TypeError, ValueError) as error:
            raise CtnetError(f"the description in {path} is damaged; {fix}") from error
        if found != FORMAT:
            raise CtnetError(f"{path} has format {found!r}; {fix}")
        exported: Exported = check_json(cls, content, f"the description in {path}", fix)
        return exported
