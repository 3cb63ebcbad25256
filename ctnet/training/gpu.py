"""How a GPU computes while a network trains: settings of torch that are those of the whole program."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from ctnet.base.device import tf32
from ctnet.base.errors import CtnetError
from ctnet.core.recipe import Recipe

#: cuBLAS reads this when it is first used.
_WORKSPACE = "CUBLAS_WORKSPACE_CONFIG"
_DETERMINISTIC_WORKSPACES = (":4096:8", ":16:8")


def prepare_gpu(device: torch.device, recipe: Recipe) -> None:
    """Choose what must be chosen before the first operation on a GPU.

    Raises:
        CtnetError: when the environment asks cuBLAS for something that is not deterministic.
    """
    if device.type != "cuda" or not recipe.deterministic:
        return
    wanted = os.environ.setdefault(_WORKSPACE, _DETERMINISTIC_WORKSPACES[0])
    if wanted not in _DETERMINISTIC_WORKSPACES:
        known = " or ".join(_DETERMINISTIC_WORKSPACES)
        raise CtnetError(f"{_WORKSPACE} is {wanted!r}; for -R deterministic=true set it to {known}")


@contextmanager
def gpu_settings(device: torch.device, recipe: Recipe) -> Iterator[None]:
    """Within the context a GPU computes as the recipe says; a CPU does as always.

    Inputs of a training have one size, for which cuDNN looks for its fastest algorithm in the first steps;
    where results are to be the same each time, it must take the same one.

    Raises:
        CtnetError: when a layer has no deterministic algorithm, and the recipe asks for one.
    """
    if device.type != "cuda":
        yield
        return
    cudnn = torch.backends.cudnn
    before = (cudnn.benchmark, cudnn.deterministic, torch.get_deterministic_debug_mode())
    try:
        cudnn.benchmark, cudnn.deterministic = not recipe.deterministic, recipe.deterministic
        if recipe.deterministic:
            torch.use_deterministic_algorithms(True)
        with tf32(recipe.tf32):
            yield
    except RuntimeError as error:
        if not recipe.deterministic or "deterministic" not in str(error):
            raise
        operation = str(error).split()[0]
        raise CtnetError(
            f"{operation} of this network has no deterministic algorithm on a GPU; leave out -R "
            "deterministic=true, choose another backbone, or train on a CPU"
        ) from error
    finally:
        cudnn.benchmark, cudnn.deterministic = before[:2]
        torch.set_deterministic_debug_mode(before[2])
