from __future__ import annotations

import multiprocessing
import os
import signal
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from ctnet.core.recipe import Augmentation
from ctnet.core.task import create_task
from ctnet.data.dataset import Dataset
from ctnet.data.loader import Batch, Loader, TrainingSet
from ctnet.data.shape_scenes import SHAPES
from ctnet.data.synthetic import write_dataset

TASK = create_task("ctdet", SHAPES)


@pytest.fixture(scope="module")
def dataset(tmp_path_factory) -> Dataset:
    folder = tmp_path_factory.mktemp("scenes")
    write_dataset(TASK, folder, {"train": 7}, (96, 80))
    return Dataset.open(folder, "train", TASK)


def loader(dataset: Dataset, workers: int = 0, seed: int = 0, batch_size: int = 3) -> Loader:
    return Loader(TrainingSet(dataset, TASK, (64, 64), Augmentation(), seed), batch_size, workers, seed)


def assert_same(one: Batch, other: Batch) -> None:
    assert one.indices == other.indices
    assert torch.equal(one.images, other.images)
    for name, target in one.targets.items():
        for column in vars(target):
            ours, theirs = getattr(target, column), getattr(other.targets[name], column)
            assert torch.equal(ours, theirs) if isinstance(ours, torch.Tensor) else ours == theirs


def test_every_image_comes_once_an_epoch(dataset):
    batches = list(loader(dataset).epoch(0))
    assert [len(batch) for batch in batches] == [3, 3, 1]
    assert sorted(index for batch in batches for index in batch.indices) == list(range(7))


@pytest.fixture(params=["fork", pytest.param("spawn", marks=pytest.mark.thorough)])
def start_method(request) -> Iterator[str]:
    """How processes start: fork on Linux before Python 3.14, spawn on macOS and Windows."""
    before = multiprocessing.get_start_method()
    multiprocessing.set_start_method(request.param, force=True)
    yield request.param
    multiprocessing.set_start_method(before, force=True)


def test_workers_give_the_same_batches(dataset, start_method):
    many = loader(dataset, workers=2)
    for epoch in (0, 1):
        for one, other in zip(loader(dataset).epoch(epoch), many.epoch(epoch), strict=True):
            assert_same(one, other)


@pytest.mark.parametrize("workers", [0, 2])
def test_images_in_memory_give_the_same_batches(dataset, workers, start_method):
    kept = loader(dataset.cached(), workers)
    for epoch in (0, 1):
        for one, other in zip(loader(dataset).epoch(epoch), kept.epoch(epoch), strict=True):
            assert_same(one, other)


def test_an_epoch_can_begin_in_the_middle(dataset):
    whole = list(loader(dataset).epoch(4))
    rest = list(loader(dataset).epoch(4, start=1))
    assert len(rest) == 2
    for one, other in zip(whole[1:], rest, strict=True):
        assert_same(one, other)


def test_epochs_seeds_and_images_have_streams_of_their_own(dataset):
    samples = TrainingSet(dataset, TASK, (64, 64), Augmentation(), seed=0)
    other_seed = TrainingSet(dataset, TASK, (64, 64), Augmentation(), seed=1)
    assert (samples[0, 2].image == samples[0, 2].image).all()
    assert (samples[0, 2].image != samples[1, 2].image).any()
    assert (samples[0, 2].image != other_seed[0, 2].image).any()
    orders = {
        tuple(i for b in loader(dataset, seed=s).epoch(e) for i in b.indices) for s in (0, 1) for e in (0, 1)
    }
    assert len(orders) == 4


def test_loading_does_not_touch_the_global_random_stream(dataset):
    before = torch.get_rng_state()
    list(loader(dataset).epoch(0))
    assert torch.equal(before, torch.get_rng_state())


def test_targets_of_a_batch_are_those_of_its_images(dataset):
    batch = next(iter(loader(dataset).epoch(0)))
    size = batch.targets["size"]
    samples = loader(dataset).samples
    for position, index in enumerate(batch.indices):
        mine = size.batch == position
        torch.testing.assert_close(size.value[mine], samples[0, index].targets["size"].value)
    peaks = batch.targets["heatmap"]
    assert peaks.cells == int(((2 * peaks.radius + 1) ** 2).sum())


def test_targets_lie_on_the_grid_of_the_input(dataset):
    wide = TrainingSet(dataset, TASK, (128, 64), Augmentation(), seed=0)
    sample = wide[0, 0]
    assert sample.image.shape == (64, 128, 3)
    for index in range(len(wide)):
        size = wide[3, index].targets["size"]
        assert ((size.x >= 0) & (size.x < 32)).all()
        assert ((size.y >= 0) & (size.y < 16)).all()


def test_images_arrive_as_bytes(dataset):
    batch = next(iter(loader(dataset).epoch(0)))
    assert batch.images.dtype == torch.uint8
    assert batch.images.shape == (3, 64, 64, 3)
    assert batch.images.float().std() > np.float32(5)


def _load_and_be_killed(dataset: Dataset, pids) -> None:
    batches = loader(dataset, workers=1)
    next(batches.epoch(0))
    pids.put([child.pid for child in multiprocessing.active_children()])
    pids.close()
    pids.join_thread()
    os.kill(os.getpid(), signal.SIGKILL)


@pytest.mark.thorough
@pytest.mark.skipif(not Path("/proc").exists(), reason="looks processes up in /proc")
def test_workers_end_with_a_killed_trainer(dataset):
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["ctnet.training.session"])
    pids = context.Queue()
    trainer = context.Process(target=_load_and_be_killed, args=(dataset, pids))
    trainer.start()
    [worker] = pids.get(timeout=60)
    trainer.join()
    deadline = time.monotonic() + 20
    while Path(f"/proc/{worker}").exists() and time.monotonic() < deadline:
        time.sleep(0.2)
    assert not Path(f"/proc/{worker}").exists()


MOSAICS = Augmentation(flip=0, scale=None, shift=0.0, colour=0, lighting=0, mosaic=1.0)


def test_mosaics_show_the_objects_of_four_images(dataset):
    """Every object of a mosaic is where its picture is: each tile is that image alone, encoded by itself."""
    samples = TrainingSet(dataset, TASK, (64, 64), MOSAICS, epochs=10)
    counts = []
    for index in range(len(dataset)):
        mosaic = samples[0, index]
        again = samples[0, index]
        assert np.array_equal(mosaic.image, again.image)
        counts.append(len(mosaic.targets["size"]))
        peaks = mosaic.targets["heatmap"]
        assert ((peaks.x >= 0) & (peaks.x < 16) & (peaks.y >= 0) & (peaks.y < 16)).all()
    alone = [len(dataset[index].instances) for index in range(len(dataset))]
    assert sum(counts) > 2 * sum(alone)


def test_the_last_epochs_are_plain(dataset):
    samples = TrainingSet(dataset, TASK, (64, 64), MOSAICS, epochs=10)
    plain = TrainingSet(dataset, TASK, (64, 64), replace(MOSAICS, mosaic=0.0), epochs=10)
    same = [np.array_equal(samples[epoch, 0].image, plain[epoch, 0].image) for epoch in range(10)]
    assert same == 8 * [False] + 2 * [True]


def test_mosaics_do_not_change_what_other_recipes_see(dataset):
    """Recipes without it draw the same random numbers as before it was there."""
    one = TrainingSet(dataset, TASK, (64, 64), Augmentation(), 3)
    other = TrainingSet(dataset, TASK, (64, 64), replace(Augmentation(), mosaic=1.0), 3, epochs=10)
    assert np.array_equal(one[9, 2].image, other[9, 2].image)
