"""Starting from the weights of another run."""

from __future__ import annotations

from pathlib import Path

from ctnet.base.download import Download, is_address
from ctnet.base.errors import CtnetError
from ctnet.checkpoint import load, load_weights
from ctnet.model import CenterNet


def start_from(model: CenterNet, path: str | Path) -> list[str]:
    """Copy the matching weights of a checkpoint: the backbone, and heads of the same name and shape.

    Args:
        model: a new network.
        path: a checkpoint of any task, or the address of one on the web, see ``Download``.

    Returns:
        A description of what was copied: one line for the backbone, one for the heads.

    Raises:
        CtnetError: when the checkpoint cannot be downloaded or read, or has another backbone.
    """
    checkpoint = load(Download.of(str(path)).get() if is_address(str(path)) else path)
    taken = set(load_weights(model, checkpoint.weights, partial=True).loaded)
    names = list(model.state_dict())
    if not taken.issuperset(name for name in names if name.startswith("backbone.")):
        raise CtnetError(
            f"{path} holds the backbone {checkpoint.description.backbone}, whose weights do not match this "
            f"network; train with --backbone {checkpoint.description.backbone}"
        )
    whole: list[str] = []
    partly: list[str] = []
    fresh: list[str] = []
    for head in model.heads:
        entries = [name for name in names if name.startswith("branches.") and name.split(".")[2] == head]
        fitting = taken.intersection(entries)
        (whole if len(fitting) == len(entries) else partly if fitting else fresh).append(head)
    words = [
        ("taken", whole),
        ("taken but for the last convolution, which has another number of channels", partly),
        ("started fresh", fresh),
    ]
    heads = "; ".join(f"{what}: {', '.join(found)}" for what, found in words if found)
    return [f"started from {path} (task {checkpoint.description.task}): backbone taken", f"heads {heads}"]
