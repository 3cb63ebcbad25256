"""The largest batch that fits: by estimate on a CPU, by trial on a GPU."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from ctnet import checkpoint
from ctnet.base.errors import CtnetError
from ctnet.base.ranks import Ranks
from ctnet.training import batch_size as module
from ctnet.training.batch_size import Chosen, Trial, choose_batch_size, largest
from ctnet.training.data import open_data
from ctnet.training.plan import Plan, plan_training
from ctnet.training.request import Network, RecipeChoice, TrainingData

CPU = torch.device("cpu")


def plan_of(scenes: Path, **fields) -> Plan:
    fields = {"batch_size": 4, "size": (64, 64), **fields}
    splits = open_data("ctdet", TrainingData(scenes), {})
    return plan_training(splits, "with_dropout", RecipeChoice("small", fields), Network(), 0)


def test_sizes_rise_by_halves_to_the_largest() -> None:
    assert module._sizes(1) == [1]
    assert module._sizes(50) == [1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 50]
    assert module._sizes(48)[-2:] == [32, 48]


def test_sizes_are_tried_until_one_does_not_fit() -> None:
    tried = []
    assert largest([1, 2, 4, 8], lambda size: tried.append(size) or size < 4) == (
        2,
        "a step with 4 does not fit into 80 % of the free memory",
    )
    assert tried == [1, 2, 4]
    assert largest([1, 2], lambda size: True)[0] == 2
    assert largest([1, 2], lambda size: False)[0] == 0


@pytest.mark.thorough
def test_more_memory_gives_larger_batches_up_to_the_images(scenes, monkeypatch) -> None:
    """Ten images: sixteen steps are not possible, so the recipe's own 8 images are the most."""
    plan = plan_of(scenes, batch_size=8)
    trial = Trial(plan, "with_dropout", CPU, "off")
    image = module._PEAK * trial.kept(2) + 6 * 64 * 64
    assert 64 * 64 * 3 * 4 < trial.kept(2) < 64 * 64 * 3 * 400  # at least the input, in float32

    def chosen(images: float) -> Chosen:
        free = (trial.weights() + images * image) / 0.8
        monkeypatch.setattr(module, "available_memory", lambda device: int(free))
        return choose_batch_size(plan, "with_dropout", CPU, "off", Ranks())

    assert [chosen(images).size for images in (1.1, 2.5, 5.9, 6.1)] == [1, 2, 4, 6]
    assert "its estimated memory is 0.0 GB, at most 80 % of the 0.0 GB that are free" in chosen(6.1).why
    assert chosen(1000) == Chosen(8, "an epoch then has 2 steps; a larger batch would fit, but leave fewer")
    with pytest.raises(CtnetError, match=r"not even one image of 64x64 fits: .*; use a smaller --size"):
        chosen(0.9)


def test_memory_is_shared_and_the_cache_counts(scenes, monkeypatch) -> None:
    plan = plan_of(scenes, batch_size=8)
    trial = Trial(plan, "with_dropout", CPU, "off")
    image = module._PEAK * trial.kept(2) + 6 * 64 * 64
    free = int((trial.weights() + 8.1 * image) / 0.8)
    monkeypatch.setattr(module, "available_memory", lambda device: free)
    assert module._by_estimate(trial, 8, 0)[0] == 8
    assert module._by_estimate(trial, 8, int(3 * image))[0] == 4
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")
    assert module._by_estimate(trial, 8, 0)[0] < 4
    monkeypatch.setattr(module, "available_memory", lambda device: None)
    assert module._by_estimate(trial, 8, 0) == (8, "free memory is not known here, so it is the recipe's")


@pytest.mark.parametrize(
    ("images", "batch", "accumulate", "most"),
    [(1000, 16, 1, 62), (1000, 16, 2, 31), (100, 16, 1, 16), (9, 16, 1, 9)],
)
def test_an_epoch_keeps_its_steps(scenes, monkeypatch, images, batch, accumulate, most) -> None:
    plan = plan_of(scenes, batch_size=batch, accumulate=accumulate)
    monkeypatch.setattr(type(plan.splits.train), "__len__", lambda self: images)
    assert module._most(plan, 1) == most


def test_on_a_gpu_sizes_are_tried_and_out_of_memory_is_caught(scenes, monkeypatch) -> None:
    """With a CPU in the place of the GPU, on which no step has more than four images."""
    plan, held = plan_of(scenes, batch_size=8), {"peak": 0}
    steps: list[int] = []
    step = Trial.step

    def limited(self: Trial, images: int) -> None:
        steps.append(images)
        if images > 4:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
        step(self, images)
        held["peak"] = 100 * images

    monkeypatch.setattr(Trial, "step", limited)
    for name in ("reset_peak_memory_stats", "empty_cache"):
        monkeypatch.setattr(torch.cuda, name, lambda *_: None)
    monkeypatch.setattr(torch.cuda, "memory_allocated", lambda _: 0)
    monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda _: held["peak"])
    monkeypatch.setattr(module, "available_memory", lambda device: 10_000)
    trial = Trial(plan, "with_dropout", CPU, "off")
    said = "a step with 6 does not fit into 80 % of the free memory"
    assert module._by_trial(trial, 8) == (4, said)
    assert steps == [1, 2, 3, 4, 6]
    monkeypatch.setattr(module, "available_memory", lambda device: 400)  # 80 % of it: three images
    assert module._by_trial(trial, 8)[0] == 3

    def broken(self: Trial, images: int) -> None:
        raise RuntimeError("CUDA error: device-side assert triggered")

    monkeypatch.setattr(Trial, "step", broken)
    with pytest.raises(RuntimeError, match="device-side assert"):
        module._by_trial(trial, 8)


def test_a_run_with_the_largest_batch_is_one_with_that_number(session, scenes, tmp_path) -> None:
    fields = {"epochs": 1, "batch_size": 5}
    auto = session(scenes, tmp_path / "auto", fields={**fields, "batch_size": 8}, largest_batch=True)
    config = auto.trainer.config
    assert config.recipe.batch_size == 8
    assert config.learning_rate == pytest.approx(2e-3 * 8 / 16)
    assert (
        "batch size 8: an epoch then has 2 steps; a larger batch would fit, but leave fewer"
        in auto.display.lines
    )
    assert auto.fit()
    given = session(scenes, tmp_path / "given", fields={**fields, "batch_size": 8})
    assert given.trainer.config.recipe == config.recipe
    assert given.fit()
    one, other = (dict(checkpoint.load(tmp_path / name / "last.pt").weights) for name in ("auto", "given"))
    assert all(torch.equal(one[name], other[name]) for name in one)


MEASURE = """
import sys
from pathlib import Path
from ctnet.training.batch_size import _PEAK, Trial
from ctnet.training.data import open_data
from ctnet.training.plan import plan_training
from ctnet.training.request import Network, RecipeChoice, TrainingData
import torch

torch.set_num_threads(1)
splits = open_data("ctdet", TrainingData(Path(sys.argv[1])), {})
choice = RecipeChoice("small", {"batch_size": 8, "size": (192, 192)})
plan = plan_training(splits, "resfpn18", choice, Network(), 0)
trial = Trial(plan, "resfpn18", torch.device("cpu"), "off")
estimate = 8 * _PEAK * trial.kept(2)

def status(name):
    text = Path("/proc/self/status").read_text()
    return 1024 * next(int(line.split()[1]) for line in text.splitlines() if line.startswith(name))

trial.step(1)  # gradients and moments are there
Path("/proc/self/clear_refs").write_text("5")
before = status("VmRSS")
trial.step(8)
print(estimate / (status("VmHWM") - before))
"""


@pytest.mark.thorough
@pytest.mark.skipif(sys.platform != "linux", reason="peak memory is read from /proc")
def test_the_estimate_is_near_what_a_step_needs(scenes) -> None:
    command = [sys.executable, "-c", MEASURE, str(scenes)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=True)
    assert 0.8 < float(done.stdout) < 2
