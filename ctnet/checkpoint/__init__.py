"""Checkpoints: ctnet's own file format, and conversion from and to the authors' release."""

from ctnet.backbones import MEAN, STD
from ctnet.checkpoint.file import (
    FORMAT,
    Checkpoint,
    Description,
    WeightReport,
    load,
    load_model,
    load_weights,
    read_tensors,
    save,
)
from ctnet.checkpoint.official import (
    Conversion,
    from_official,
    load_official,
    official_state_dict,
    to_official,
)

__all__ = [
    "FORMAT",
    "MEAN",
    "STD",
    "Checkpoint",
    "Conversion",
    "Description",
    "WeightReport",
    "from_official",
    "load",
    "load_model",
    "load_official",
    "load_weights",
    "official_state_dict",
    "read_tensors",
    "save",
    "to_official",
]
