"""Settings of torch for a GPU, which can be set and read without one."""

from __future__ import annotations

import dataclasses
import os
from typing import Any

import pytest
import torch

from ctnet.base.errors import CtnetError
from ctnet.core.recipe import SMALL
from ctnet.training.gpu import gpu_settings, prepare_gpu

CPU, CUDA = torch.device("cpu"), torch.device("cuda")
DETERMINISTIC = dataclasses.replace(SMALL, deterministic=True)


def current() -> tuple[Any, ...]:
    cudnn, products = torch.backends.cudnn, torch.backends.cuda.matmul
    return (
        cudnn.benchmark,
        cudnn.deterministic,
        torch.are_deterministic_algorithms_enabled(),
        cudnn.allow_tf32,
        products.allow_tf32,
    )


@pytest.mark.parametrize(
    ("recipe", "expected"),
    [
        (SMALL, (True, False, False, True, True)),
        (dataclasses.replace(SMALL, tf32=False), (True, False, False, False, False)),
        (DETERMINISTIC, (False, True, True, True, True)),
    ],
)
def test_settings_are_those_of_the_recipe_within_the_context(recipe, expected) -> None:
    before = current()
    with gpu_settings(CUDA, recipe):
        assert current() == expected
    assert current() == before


def test_a_cpu_computes_as_always() -> None:
    before = current()
    with gpu_settings(CPU, DETERMINISTIC):
        assert current() == before


def test_an_operation_without_a_deterministic_algorithm_is_named() -> None:
    before = current()
    text = "compute_grad_input does not have a deterministic implementation, but you set"
    with (
        pytest.raises(CtnetError, match=r"^compute_grad_input of this network has no deterministic"),
        gpu_settings(CUDA, DETERMINISTIC),
    ):
        raise RuntimeError(text)
    with pytest.raises(RuntimeError, match="something else"), gpu_settings(CUDA, DETERMINISTIC):
        raise RuntimeError("something else")
    assert current() == before


def test_cublas_is_told_before_its_first_use(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", "")
    monkeypatch.delenv("CUBLAS_WORKSPACE_CONFIG")
    prepare_gpu(CUDA, SMALL)
    prepare_gpu(CPU, DETERMINISTIC)
    assert "CUBLAS_WORKSPACE_CONFIG" not in os.environ
    prepare_gpu(CUDA, DETERMINISTIC)
    assert os.environ["CUBLAS_WORKSPACE_CONFIG"] == ":4096:8"
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", ":0:0")
    with pytest.raises(CtnetError, match="':0:0'; for -R deterministic=true set it to :4096:8 or :16:8"):
        prepare_gpu(CUDA, DETERMINISTIC)
