from __future__ import annotations

import errno
import json
import multiprocessing
import os
import re
import shutil
import signal
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from ctnet import checkpoint
from ctnet.base import compiling, lock
from ctnet.base.errors import CtnetError
from ctnet.core.declarations import Layout
from ctnet.data.loader import Batch, collate
from ctnet.data.problems import Problem
from ctnet.ops.winograd_layers import TrainingWinograd
from ctnet.tasks.ctdet import CenterDetection
from ctnet.training import Run, latest_run, memory
from ctnet.training import validation as validation_module
from ctnet.training.gradients import Step
from ctnet.training.request import Machine
from ctnet.training.session import Session, resumed_session
from ctnet.training.trainer import Trainer

UNREADABLE = Problem("unreadable image", "000001.jpg", "it is cut short")


def state(run: Path) -> dict:
    """Everything in last.pt that a training depends on."""
    saved = checkpoint.load(run / "last.pt")
    return {"weights": dict(saved.weights), **saved.training}


def assert_same(one, other, where="") -> None:
    """Equal to the last bit."""
    assert type(one) is type(other), where
    if isinstance(one, dict):
        assert one.keys() == other.keys(), where
        for key in one:
            assert_same(one[key], other[key], f"{where}/{key}")
    elif isinstance(one, (list, tuple)):
        assert len(one) == len(other), where
        for index, (a, b) in enumerate(zip(one, other, strict=True)):
            assert_same(a, b, f"{where}/{index}")
    elif isinstance(one, torch.Tensor):
        assert torch.equal(one, other), where
    else:
        assert one == other, where


def stop_after(trainer: Trainer, steps: int) -> None:
    """Ask the training to stop after this many steps, as Ctrl-C does."""
    original = trainer._step

    def step() -> None:
        original()
        if trainer.position.step == steps:
            trainer._ask_to_stop()

    trainer._step = step


@pytest.fixture(scope="module")
def finished(session, scenes, tmp_path_factory) -> Path:
    """A run of three epochs without interruption."""
    run = tmp_path_factory.mktemp("runs") / "whole"
    assert session(scenes, run).fit()
    return run


def test_a_run_folder_holds_what_it_promises(finished):
    config = json.loads((finished / "config.json").read_text())
    assert config["recipe"]["epochs"] == 3
    assert config["versions"]["torch"] == torch.__version__
    rows = (finished / "metrics.csv").read_text().splitlines()
    assert rows[0].startswith("epoch,learning_rate,loss,heatmap_loss,size_loss,offset_loss,AP,AP50")
    assert [row.split(",")[0] for row in rows[1:]] == ["1", "2", "3"]
    saved = checkpoint.load(finished / "last.pt")
    assert saved.description.backbone == "with_dropout"
    assert saved.description.size == (64, 64)
    assert (finished / "best.pt").is_file()


@pytest.mark.parametrize("steps", [1, 3, 5, 8])
def test_a_stopped_run_resumes_to_the_same_bits(resumed, session, scenes, finished, tmp_path, steps):
    """Ten images in batches of four: step 3 ends an epoch, the others lie within one."""
    first = session(scenes, tmp_path / "run")
    stop_after(first.trainer, steps)
    assert not first.fit()
    again = resumed(tmp_path / "run")
    assert again.trainer.position.step == steps
    assert again.fit()
    assert_same(state(tmp_path / "run"), state(finished))
    assert (tmp_path / "run/metrics.csv").read_text() == (finished / "metrics.csv").read_text()


@pytest.mark.thorough
def test_winograds_convolutions_resume_to_the_same_bits(resumed, session, scenes, tmp_path):
    """A network wide enough for them, stopped during its second epoch."""
    settings = {"backbone": "resfpn18", "fields": {"epochs": 2}}
    whole = session(scenes, tmp_path / "whole", **settings)
    layers = [module for module in whole.trainer.model.modules() if isinstance(module, TrainingWinograd)]
    assert len(layers) > 10
    assert whole.fit()
    part = session(scenes, tmp_path / "part", **settings)
    stop_after(part.trainer, 4)
    assert not part.fit()
    assert resumed(tmp_path / "part").fit()
    assert_same(state(tmp_path / "part"), state(tmp_path / "whole"))


@pytest.mark.thorough
def test_a_compiled_run_computes_the_same(session, scenes, finished, tmp_path, monkeypatch):
    """The captured graph, run as it is, has the operations of the eager step."""
    monkeypatch.setattr(compiling, "BACKEND", "eager")
    torch._dynamo.reset()
    assert session(scenes, tmp_path / "run", fields={"compile": True}).fit()
    assert json.loads((tmp_path / "run/config.json").read_text())["recipe"]["compile"] is True
    ours, theirs = state(tmp_path / "run")["weights"], state(finished)["weights"]
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"]
    for name, tensor in theirs.items():
        torch.testing.assert_close(ours[name], tensor, rtol=1e-4, atol=1e-6)


def test_the_number_of_workers_changes_nothing(session, scenes, finished, tmp_path):
    assert session(scenes, tmp_path / "run", workers=2).fit()
    assert_same(state(tmp_path / "run"), state(finished))


def test_another_seed_changes_the_weights(session, scenes, finished, tmp_path):
    assert session(scenes, tmp_path / "run", seed=1).fit()
    ours, theirs = state(tmp_path / "run")["weights"], state(finished)["weights"]
    assert any(not torch.equal(ours[name], theirs[name]) for name in ours if ours[name].is_floating_point())


def test_resuming_a_finished_run_does_nothing(resumed, scenes, finished, tmp_path):
    shutil.copytree(finished, tmp_path / "run")
    assert resumed(tmp_path / "run").fit()
    assert_same(state(tmp_path / "run"), state(finished))


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_after_the_step_and_says_how_to_continue(session, scenes, tmp_path, number):
    one = session(scenes, tmp_path / "run")
    original = one.trainer._step

    def step() -> None:
        if one.trainer.position.step == 1:
            os.kill(os.getpid(), number)
        original()

    one.trainer._step = step
    assert not one.fit()
    assert one.trainer.position.step == 2
    assert f"ctnet train --resume {tmp_path / 'run'}" in one.display.lines[-1]
    assert checkpoint.load(tmp_path / "run/last.pt").training


def test_gradients_of_accumulated_batches_make_one_step(session, scenes, tmp_path):
    one = session(scenes, tmp_path / "run", accumulate=2, fields={"epochs": 2})
    assert one.fit()
    assert one.trainer.position.step == 4  # three batches per epoch: 2 + 1
    assert "learning rate 0.001 at 8 images per step (recipe: 0.002 at 16)" in one.display.lines[1]


def step_of(trainer: Trainer, batches: list[Batch]) -> Step:
    return next(trainer.gradients.steps(iter(batches), len(batches)))


def test_accumulated_batches_have_the_gradient_and_losses_of_one(session, scenes, tmp_path):
    """Without batch statistics and dropout, three batches (of 4, 4 and 2 images) are equivalent to one."""
    whole = session(scenes, tmp_path / "whole", fields={"batch_size": 10}).trainer
    parts = session(scenes, tmp_path / "parts", accumulate=3).trainer
    seen = []
    for trainer in (whole, parts):
        # In float64: float32 rounds by the size of the batch, differently on every processor.
        trainer.model.eval().double()
        trainer.model.backbone.register_forward_pre_hook(lambda _, inputs: inputs[0].double())
        step = list(trainer.loader.epoch(0))
        images, terms = trainer._losses_and_gradients(step_of(trainer, step))
        assert images == 10
        gradients = {name: p.grad for name, p in trainer.model.named_parameters()}
        seen.append((len(step), terms, gradients, trainer.position.sums))
    (one, terms, gradients, sums), (three, terms3, gradients3, sums3) = seen
    assert (one, three) == (1, 3)
    assert terms3 == pytest.approx(terms, rel=1e-5)
    assert sums3 == pytest.approx(sums, rel=1e-5)
    largest = max(gradient.abs().max() for gradient in gradients.values())
    for name, gradient in gradients.items():
        assert (gradients3[name] - gradient).abs().max() < 1e-9 * largest


def test_frozen_batch_norms_keep_statistics_and_weights(session, scenes, tmp_path):
    started = session(scenes, tmp_path / "run", batch_norm="frozen", fields={"epochs": 1})
    before = {name: value.clone() for name, value in started.trainer.model.state_dict().items()}
    assert started.fit()
    after = checkpoint.load(tmp_path / "run" / "last.pt").training["weights"]
    kept = {name for name, value in after.items() if torch.equal(value, before[name])}
    norm = {f"backbone.layers.1.{name}" for name in ("weight", "bias", "running_mean", "running_var")}
    assert norm <= kept
    assert "backbone.layers.0.weight" not in kept
    assert resumed_session(tmp_path / "run").trainer.config.recipe.batch_norm == "frozen"


def test_a_batch_without_a_readable_image_adds_nothing(session, scenes, tmp_path):
    trainer = session(scenes, tmp_path / "run", accumulate=3).trainer
    trainer.model.eval()
    batches = list(trainer.loader.epoch(0))
    trainer._losses_and_gradients(step_of(trainer, batches[::2]))
    without = [p.grad.clone() for p in trainer.model.parameters()]
    trainer.optimizer.zero_grad()
    step = [batches[0], collate([UNREADABLE]), batches[2]]
    images, _ = trainer._losses_and_gradients(step_of(trainer, step))
    assert images == 6
    assert all(torch.equal(p.grad, g) for p, g in zip(trainer.model.parameters(), without, strict=True))
    assert trainer._losses_and_gradients(step_of(trainer, [collate([UNREADABLE])])) == (0, {})


def test_of_several_batches_the_one_whose_loss_is_not_finite_is_named(session, scenes, tmp_path):
    trainer = session(scenes, tmp_path / "run", accumulate=3).trainer
    batches = list(trainer.loader.epoch(0))
    batches[1].targets["size"].value.fill_(float("inf"))
    named = ", ".join(trainer.loader.samples.dataset.info(index).file_name for index in batches[1].indices)
    with pytest.raises(CtnetError, match=rf"epoch 1, batch 2 \(total inf.*its images: {named}; lower"):
        trainer._losses_and_gradients(step_of(trainer, batches))


def test_the_best_checkpoint_follows_the_main_metric(session, scenes, tmp_path):
    one = session(scenes, tmp_path / "run", fields={"smooth": 1})
    figures = iter([0.1, 0.5, 0.3])
    evaluated = one.trainer._evaluate
    one.trainer._evaluate = lambda val: replace(evaluated(val), metrics={"AP": next(figures)})
    assert one.fit()
    assert checkpoint.load(tmp_path / "run/best.pt").metrics == {"AP": 0.5}
    assert checkpoint.load(tmp_path / "run/last.pt").metrics == {"AP": 0.3}
    assert "best AP 0.500 at epoch 2: " in one.summary


def test_the_best_checkpoint_follows_a_mean(session, scenes, tmp_path):
    one = session(scenes, tmp_path / "run", fields={"smooth": 2, "epochs": 4})
    figures = iter([0.1, 0.5, 0.2, 0.45])  # means of two: 0.1, 0.3, 0.35, 0.325
    evaluated = one.trainer._evaluate
    one.trainer._evaluate = lambda val: replace(evaluated(val), metrics={"AP": next(figures)})
    assert one.fit()
    assert checkpoint.load(tmp_path / "run/best.pt").metrics == {"AP": 0.2}
    assert "best AP 0.200 at epoch 3 (by the mean of 2; epoch 2 alone has 0.500): " in one.summary


def test_without_validation_the_last_weights_are_the_best(session, scenes, tmp_path):
    one = session(scenes, tmp_path / "run", val_split=None, fields={"epochs": 1, "ema": 0.0})
    assert one.fit()
    assert_same(dict(checkpoint.load(tmp_path / "run/best.pt").weights), state(tmp_path / "run")["weights"])


def poison_after(trainer: Trainer, steps: int) -> None:
    """Fill the first layer with NaN after this many steps."""
    original = trainer._step

    def step() -> None:
        original()
        if trainer.position.step == steps:
            with torch.no_grad():
                next(trainer.model.parameters()).fill_(float("nan"))

    trainer._step = step


def test_weights_that_are_not_finite_never_replace_a_good_checkpoint(session, scenes, tmp_path):
    one = session(scenes, tmp_path / "run", save_every=0.0)
    poison_after(one.trainer, 2)
    with pytest.raises(CtnetError, match=r"not finite after step 2 .*last.pt holds the last good"):
        one.fit()
    saved = checkpoint.load(tmp_path / "run/last.pt")
    assert json.loads(saved.training["position"])["step"] == 1


def test_a_loss_that_is_not_finite_names_the_images_and_keeps_the_last_checkpoint(
    resumed, session, scenes, tmp_path
):
    first = session(scenes, tmp_path / "run")
    stop_after(first.trainer, 2)
    first.fit()
    one = resumed(tmp_path / "run")
    with torch.no_grad():
        next(one.trainer.model.parameters()).fill_(float("nan"))
    with pytest.raises(
        CtnetError, match=r"not finite in epoch 1, batch 3 \(total nan.*its images: 0000\d\d.jpg"
    ):
        one.fit()
    saved = checkpoint.load(tmp_path / "run/last.pt")
    assert json.loads(saved.training["position"])["step"] == 2


def test_an_unreadable_image_is_named_and_skipped(session, scenes, tmp_path):
    data = tmp_path / "data"
    shutil.copytree(scenes, data)
    broken = sorted((data / "train").iterdir())[3]
    broken.write_bytes(broken.read_bytes()[:200])
    (data / "val").joinpath("000002.jpg").unlink()
    one = session(data, tmp_path / "run", fields={"epochs": 1})
    assert one.fit()
    said = "\n".join(one.display.lines)
    assert f"skipped {broken.name}: unreadable image" in said
    assert "skipped 000002.jpg: unreadable image" in said


def test_strict_refuses_an_unreadable_image(session, scenes, tmp_path):
    data = tmp_path / "data"
    shutil.copytree(scenes, data)
    (data / "train/000004.jpg").write_bytes(b"")
    one = session(data, tmp_path / "run", strict=True, fields={"epochs": 1})
    with pytest.raises(CtnetError, match="1 bad records: 1 with unreadable image"):
        one.fit()


def test_a_mistake_found_by_a_worker_is_one_line(session, scenes, tmp_path):
    one = session(scenes, tmp_path / "run", workers=1)

    def complain(*arguments):
        raise CtnetError("annotation 7 has 14 columns")

    one.trainer.loader.samples.task.encode = complain
    with pytest.raises(CtnetError) as caught:
        one.fit()
    assert str(caught.value) == "annotation 7 has 14 columns"


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ("annotations/instances_train.json", r"instances_train.json was changed after .* was started"),
        ("annotations/instances_val.json", r"instances_val.json was changed after .* was started"),
        ("train/000003.*", r"images of .*data were changed after .* was started"),
        ("val/000002.*", r"images of .*data were changed after .* was started"),
    ],
)
def test_data_that_changed_since_is_not_resumed_on(resumed, session, scenes, tmp_path, changed, message):
    data = tmp_path / "data"
    shutil.copytree(scenes, data)
    first = session(data, tmp_path / "run")
    stop_after(first.trainer, 1)
    first.fit()
    [file] = data.glob(changed)
    file.write_bytes(file.read_bytes() + b" ")
    with pytest.raises(CtnetError, match=message):
        resumed(tmp_path / "run")


def test_settings_that_changed_since_are_not_resumed_with(resumed, scenes, finished, tmp_path):
    shutil.copytree(finished, tmp_path / "run")
    file = tmp_path / "run/config.json"
    config = json.loads(file.read_text())
    file.write_text(json.dumps({**config, "seed": 5, "recipe": {**config["recipe"], "warmup": 4}}))
    with pytest.raises(CtnetError, match=r"recipe.warmup is 4, was 60; seed is 5, was 0\); .*--init"):
        resumed(tmp_path / "run")


def rate_of(session, resumed, schedule: str, finished: Path, scenes: Path, tmp_path: Path) -> Session:
    """A finished run of three epochs with this schedule."""
    if schedule == "cosine":
        shutil.copytree(finished, tmp_path / "run")
    else:
        fields = {"schedule": "step", "milestones": (2,), "warmup": 0}
        assert session(scenes, tmp_path / "run", fields=fields).fit()
    return resumed(tmp_path / "run", epochs=5)


@pytest.mark.parametrize("schedule", ["cosine", "step"])
def test_a_finished_run_is_trained_further(resumed, session, scenes, finished, tmp_path, schedule):
    one = rate_of(session, resumed, schedule, finished, scenes, tmp_path)
    # A cosine is stretched over the new epochs, so its learning rate rises again; milestones stay in place.
    [rise] = [line for line in one.display.lines if "epochs become" in line]
    assert rise.startswith("3 epochs become 5: the learning rate continues at ")
    assert ("so far" in rise) == (schedule == "cosine")
    assert one.fit()
    run = tmp_path / "run"
    assert json.loads((run / "config.json").read_text())["recipe"]["epochs"] == 5
    assert "epochs = 5" in (run / "recipe.toml").read_text()
    rows = [row.split(",") for row in (run / "metrics.csv").read_text().splitlines()[1:]]
    assert [row[0] for row in rows] == ["1", "2", "3", "4", "5"]
    rates = [float(row[1]) for row in rows]
    assert rates[3] > rates[2] if schedule == "cosine" else rates[3] == rates[2] < rates[0]
    assert resumed(run).display.lines == [
        f"{run} has already finished its 5 epochs; train it further with --resume {run} --epochs 10, or "
        f"start a new run from its weights with --init {run}"
    ]


def test_a_run_that_was_extended_and_killed_resumes(resumed, finished, tmp_path):
    shutil.copytree(finished, tmp_path / "run")
    first = resumed(tmp_path / "run", epochs=4)
    first.run.release()  # killed before anything was saved
    again = resumed(tmp_path / "run")
    assert again.display.lines == [f"resuming {tmp_path / 'run'} at epoch 4/4, batch 1"]
    again.run.release()


@pytest.mark.parametrize("epochs", [1, 3])
def test_a_run_does_not_become_shorter(resumed, finished, tmp_path, epochs):
    shutil.copytree(finished, tmp_path / "run")
    before = (tmp_path / "run/config.json").read_bytes()
    with pytest.raises(CtnetError, match=r"already has 3 epochs.*give --epochs 4 or more, or .* --init"):
        resumed(tmp_path / "run", epochs=epochs)
    assert (tmp_path / "run/config.json").read_bytes() == before


def test_a_run_continues_with_its_data_in_another_place(resumed, session, scenes, tmp_path):
    data, run = tmp_path / "data", tmp_path / "run"
    shutil.copytree(scenes, data)
    first = session(data, run)
    stop_after(first.trainer, 1)
    first.fit()
    data.rename(tmp_path / "moved")
    with pytest.raises(CtnetError, match=r"give its new location: --resume .*run --data DIR"):
        resumed(run)
    other = tmp_path / "other"
    shutil.copytree(tmp_path / "moved", other)
    [file] = other.glob("train/000003.*")
    file.write_bytes(file.read_bytes() + b" ")
    before = (run / "config.json").read_bytes()
    with pytest.raises(CtnetError, match=r"images of .*other were changed after .* with --init"):
        resumed(run, data=other)
    assert (run / "config.json").read_bytes() == before
    assert resumed(run, data=tmp_path / "moved").fit()
    assert json.loads((run / "config.json").read_text())["data"] == str(tmp_path / "moved")
    resumed(run).run.release()


def test_data_that_moved_is_found_where_the_config_says(resumed, session, scenes, tmp_path):
    data = tmp_path / "data"
    shutil.copytree(scenes, data)
    first = session(data, tmp_path / "run")
    stop_after(first.trainer, 1)
    first.fit()
    data.rename(tmp_path / "moved")
    file = tmp_path / "run/config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "data": str(tmp_path / "moved")}))
    assert resumed(tmp_path / "run").fit()


def test_a_run_without_its_last_checkpoint_is_left_as_it_is(resumed, finished, tmp_path):
    shutil.copytree(finished, tmp_path / "run")
    (tmp_path / "run/last.pt").unlink()
    before = {file.name: file.read_bytes() for file in (tmp_path / "run").iterdir() if file.is_file()}
    with pytest.raises(CtnetError, match=r"has no last.pt, so there is nothing to continue from"):
        resumed(tmp_path / "run")
    for name, content in before.items():
        assert (tmp_path / "run" / name).read_bytes() == content


def test_two_trainings_of_one_run(resumed, session, scenes, tmp_path, monkeypatch):
    monkeypatch.setattr(lock, "_PATIENCE_SECONDS", 0.1)
    first = session(scenes, tmp_path / "run")
    with pytest.raises(CtnetError, match=r"run is being trained by another process"):
        resumed(tmp_path / "run")
    stop_after(first.trainer, 1)
    assert not first.fit()
    assert resumed(tmp_path / "run").fit()


def test_runs_that_begin_at_once_get_numbers_of_their_own(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with ThreadPoolExecutor(8) as pool:
        runs = list(pool.map(lambda _: Run.create(None, "one", {}), range(16)))
    assert {run.path.name for run in runs} == {f"one-{number}" for number in range(1, 17)}


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_an_evaluation_and_the_run_resumes_to_the_same_bits(
    resumed, session, scenes, finished, tmp_path, monkeypatch, number
):
    """The epoch is saved as it stands before its evaluation."""
    original = validation_module.evaluate

    def interrupted(*arguments, **settings):
        os.kill(os.getpid(), number)
        return original(*arguments, **settings)

    one = session(scenes, tmp_path / "run")
    monkeypatch.setattr(validation_module, "evaluate", interrupted)
    assert not one.fit()
    assert (one.trainer.position.epoch, one.trainer.position.batch) == (0, 3)
    monkeypatch.undo()
    assert resumed(tmp_path / "run").fit()
    assert_same(state(tmp_path / "run"), state(finished))
    assert (tmp_path / "run/metrics.csv").read_text() == (finished / "metrics.csv").read_text()


def test_a_job_that_is_ended_with_its_worker_processes_saves(resumed, session, scenes, finished, tmp_path):
    """Schedulers send SIGTERM to every process of a job."""
    one = session(scenes, tmp_path / "run", workers=1)
    original = one.trainer._step

    def step() -> None:
        original()
        if one.trainer.position.step == 2:
            for process in [*multiprocessing.active_children()]:
                os.kill(process.pid, signal.SIGTERM)
            os.kill(os.getpid(), signal.SIGTERM)

    one.trainer._step = step
    assert not one.fit()
    assert one.trainer.position.step == 2
    assert resumed(tmp_path / "run").fit()
    assert_same(state(tmp_path / "run"), state(finished))


def test_a_worker_process_that_is_killed_is_one_line(session, scenes, tmp_path):
    one = session(scenes, tmp_path / "run", workers=1, fields={"epochs": 50})
    original = one.trainer._step

    def step() -> None:
        original()
        if one.trainer.position.step == 2:
            for process in multiprocessing.active_children():
                os.kill(process.pid, signal.SIGKILL)

    one.trainer._step = step
    with pytest.raises(CtnetError, match="a worker process was killed, as Linux does when memory is short"):
        one.fit()


@pytest.mark.parametrize("error", [MemoryError("no"), torch.OutOfMemoryError("CUDA out of memory. Tried")])
def test_an_allocator_that_refuses_a_step_is_one_line(session, scenes, tmp_path, error):
    one = session(scenes, tmp_path / "run")

    def refuse(batch, counts, last):
        raise error

    one.trainer.gradients._backward = refuse
    with pytest.raises(CtnetError, match=r"to train on 4 images of 64x64 .*--batch-size 2 -R accumulate=2"):
        one.fit()


def test_a_size_of_which_no_image_fits_is_refused_before_training(session, scenes, tmp_path, monkeypatch):
    monkeypatch.setattr(memory, "available_memory", lambda device: 10_000_000)
    with pytest.raises(CtnetError, match=r"one image of 2048x2048 needs at least .* GB, but 0.0 GB are free"):
        session(scenes, tmp_path / "run", fields={"size": (2048, 2048)})
    assert not (tmp_path / "run").exists()


def test_a_last_batch_of_one_image_whose_deepest_map_has_one_cell_trains(session, scenes, tmp_path):
    """Ten images in batches of three, at the size of which resfpn18 leaves one cell."""
    settings = {"backbone": "resfpn18", "fields": {"epochs": 1, "batch_size": 3, "size": (32, 32)}}
    one = session(scenes, tmp_path / "run", val_split=None, **settings)
    assert one.fit()
    assert all(module.training for module in one.trainer.model.modules())


def test_ground_truth_that_cannot_be_measured_is_refused_before_training(session, scenes, tmp_path):
    data = tmp_path / "data"
    shutil.copytree(scenes, data)
    file = data / "annotations/instances_val.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "annotations": []}))
    with pytest.raises(CtnetError, match="has no objects"):
        session(data, tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("amp", ["off", "fp16"])
def test_an_epoch_without_a_readable_image_is_not_a_success(session, scenes, tmp_path, amp):
    data = tmp_path / "data"
    shutil.copytree(scenes, data)
    for file in (data / "train").iterdir():
        file.write_bytes(b"")
    one = session(data, tmp_path / "run", amp=amp, fields={"epochs": 1})
    with pytest.raises(CtnetError, match=r"not one image of .*data could be read in epoch 1"):
        one.fit()
    assert sum("unreadable image" in line for line in one.display.lines) == 10


def test_overfitting_ends_with_small_steps_by_default(session, scenes, tmp_path):
    rates = [
        session(
            scenes, tmp_path / str(index), overfit=overfit, fields=fields
        ).trainer.config.recipe.final_rate
        for index, (overfit, fields) in enumerate([(0, {}), (2, {}), (2, {"final_rate": 0.5})])
    ]
    assert rates == [0.2, 0.0, 0.5]


@pytest.mark.parametrize(("given", "taken"), [({}, 0.75), ({"min_visible": "0.1"}, 0.1)])
def test_a_recipe_sets_the_tasks_options_that_the_user_leaves_open(
    resumed, session, scenes, tmp_path, given, taken
):
    one = session(scenes, tmp_path / "run", options={"radius": "corrected", **given})
    for task in (one.trainer.task, one.trainer.loader.samples.task, one.trainer.validation.dataset.task):
        assert (task.options.min_visible, task.options.radius) == (taken, "corrected")
    assert one.trainer.config.options["min_visible"] == taken
    assert any("min_visible 0.75" in line for line in one.display.lines) == (not given)
    one.run.release()
    assert resumed(tmp_path / "run").trainer.task.options.min_visible == taken


def test_overfitting_sees_images_as_they_are(session, scenes, tmp_path):
    one = session(scenes, tmp_path / "run", overfit=3)
    samples = one.trainer.loader.samples
    assert len(samples) == 3
    assert len(one.trainer.validation.dataset) == 3
    assert (samples[0, 1].image == samples[5, 1].image).all()


def test_a_full_disk_is_one_clear_line_and_keeps_the_old_checkpoint(
    resumed, session, scenes, tmp_path, monkeypatch
):
    one = session(scenes, tmp_path / "run", fields={"epochs": 2}, val_split=None)
    stop_after(one.trainer, 1)
    one.fit()
    before = (tmp_path / "run/last.pt").read_bytes()
    again = resumed(tmp_path / "run")

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("ctnet.base.files.os.fsync", full)
    with pytest.raises(CtnetError, match=r"cannot write .*best.pt: No space left on device"):
        again.fit()
    assert (tmp_path / "run/last.pt").read_bytes() == before
    assert not list((tmp_path / "run").glob("*.part"))


def test_an_output_that_holds_a_run_is_not_overwritten(session, scenes, finished):
    with pytest.raises(CtnetError, match=re.escape(f"continue it with --resume {finished}")):
        session(scenes, finished)


def test_an_output_that_cannot_be_made_is_named(session, scenes, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(CtnetError, match=r"cannot make the folder .*file/run"):
        session(scenes, tmp_path / "file" / "run")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "is not valid JSON"),
        ('{"task": "ctdet"}', r"config\.json: at options: missing, .* not a run's config"),
    ],
)
def test_a_broken_config_is_named(tmp_path, content, message):
    (tmp_path / "config.json").write_text(content)
    with pytest.raises(CtnetError, match=message):
        resumed_session(tmp_path)


def test_resuming_what_is_no_run_or_of_another_task(finished, tmp_path):
    with pytest.raises(CtnetError, match="is not a run folder"):
        resumed_session(tmp_path)
    with pytest.raises(CtnetError, match="is a run of task ctdet, not pose"):
        resumed_session(finished, "pose")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"backbone": "resnet19"}, "no backbone called 'resnet19'; did you mean resnet18"),
        ({"recipe": "papr"}, "no recipe of task ctdet called 'papr'; did you mean paper"),
        (
            {"fields": {"schedule": "linear"}},
            "field schedule of the recipe is 'linear'; it must be step|cosine",
        ),
        ({"fields": {"amp": "fp8"}}, "field amp of the recipe is 'fp8'; it must be auto|off|bf16|fp16"),
        ({"pretrained": True, "backbone": "broken"}, "weights cannot be loaded"),
        ({"device": "tpu"}, "device 'tpu' cannot be used here"),
        ({"train_split": "training"}, "training"),
        ({"fields": {"size": (66, 64)}}, "multiples of 4"),
    ],
)
def test_wrong_settings_say_what_is_right(session, scenes, tmp_path, changes, message):
    with pytest.raises(CtnetError, match=re.escape(message)):
        session(scenes, tmp_path / "run", **changes)
    assert not (tmp_path / "run").exists()


def test_a_backbone_that_needs_pretraining_is_warned_of(session, scenes, tmp_path):
    one = session(scenes, tmp_path / "run", backbone="resdcn18")
    assert any("resdcn18 without ImageNet weights hardly learns" in line for line in one.display.lines)


def test_bad_records_are_reported_or_refused(session, scenes, tmp_path):
    data = tmp_path / "data"
    shutil.copytree(scenes, data)
    file = data / "annotations/instances_train.json"
    content = json.loads(file.read_text())
    content["annotations"][0]["bbox"][2] = 0
    file.write_text(json.dumps(content))
    one = session(data, tmp_path / "run")
    assert any(line.startswith("warning: skipped 1 with") for line in one.display.lines)
    with pytest.raises(CtnetError, match="has 1 bad records"):
        session(data, tmp_path / "other", strict=True)


def test_the_latest_run_is_the_one_with_the_newest_checkpoint(tmp_path):
    for number, name in enumerate(("a", "b", "c")):
        folder = tmp_path / name
        folder.mkdir()
        (folder / "config.json").write_text("{}")
        if name != "c":  # never reached a checkpoint
            (folder / "last.pt").write_bytes(b"")
            os.utime(folder / "last.pt", (1000 - number, 1000 - number))
    assert latest_run(tmp_path) == tmp_path / "a"
    with pytest.raises(CtnetError, match="no run with a checkpoint"):
        latest_run(tmp_path / "c")


def test_metrics_keep_a_column_for_every_figure(tmp_path):
    run = Run(tmp_path)
    run.write_metrics([{"epoch": 1, "loss": 2.0}, {"epoch": 2, "loss": 1.0, "AP": 0.5}])
    assert (tmp_path / "metrics.csv").read_text() == "epoch,loss,AP\n1,2.0,\n2,1.0,0.5\n"


def test_a_validation_split_of_other_categories_is_refused(session, scenes, tmp_path):
    data = tmp_path / "data"
    shutil.copytree(scenes, data)
    file = data / "annotations/instances_val.json"
    content = json.loads(file.read_text())
    content["categories"][0]["name"] = "banana"
    file.write_text(json.dumps(content))
    with pytest.raises(CtnetError, match=r"split 'val' .*category id 1 is 'banana' there and 'ball' here"):
        session(data, tmp_path / "run")


def test_a_run_starts_from_another_and_continues_without_it(resumed, session, scenes, tmp_path):
    first = session(scenes, tmp_path / "first", fields={"epochs": 1})
    first.fit()
    second = session(scenes, tmp_path / "second", init=tmp_path / "first", fields={"epochs": 1}, rate=1e-12)
    assert any("backbone taken" in line for line in second.display.lines)
    weights = checkpoint.load(tmp_path / "first" / "best.pt").weights
    name = "backbone.layers.0.weight"
    torch.testing.assert_close(second.trainer.model.state_dict()[name], weights[name], rtol=0, atol=0)
    second.fit()
    shutil.rmtree(tmp_path / "first")
    again = resumed(tmp_path / "second")
    assert again.trainer.started == []


def test_a_turn_is_part_of_the_recipe(session, scenes, tmp_path):
    turned = session(scenes, tmp_path / "run", fields={"rotate": 15.0})
    assert turned.trainer.config.recipe.augmentation.rotate == 15


class Upright(CenterDetection):
    name = "upright"
    layout = Layout(rotatable=False)


def test_rotation_is_refused_for_a_task_that_does_not_support_it(
    session, scenes, tmp_path, register_task
) -> None:
    task = register_task(Upright)
    with pytest.raises(CtnetError, match="cannot be trained on rotated images; set -R rotate=0"):
        session(scenes, tmp_path / "run", task=task, fields={"rotate": 15.0})
    assert not (tmp_path / "run").exists()
    assert session(scenes, tmp_path / "run", task=task, fields={"rotate": 0.0}).run.path.exists()


def test_torchrun_does_not_train_the_same_twice(session, scenes, finished, tmp_path, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(CtnetError, match="this training runs in one process; leave out torchrun"):
        session(scenes, tmp_path / "run")
    with pytest.raises(CtnetError, match="this training runs in one process; leave out torchrun"):
        resumed_session(finished)


# --- a training state that is not one


@pytest.fixture
def stopped(scenes, finished, tmp_path) -> Path:
    run = tmp_path / "run"
    shutil.copytree(finished, run)
    return run


def change_state(run: Path, change) -> None:
    content = checkpoint.read_tensors(run / "last.pt")
    change(content)
    torch.save(content, run / "last.pt")


def test_a_best_checkpoint_in_the_place_of_the_last_is_named(stopped):
    shutil.copy(stopped / "best.pt", stopped / "last.pt")
    with pytest.raises(CtnetError, match=r"last\.pt cannot be continued: it has weights but no training"):
        resumed_session(stopped, machine=Machine("cpu", 0))


def moments(content):
    return content["training"]["optimizer"]["state"]


def first_moments(content):
    return moments(content)[0]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: c["training"].pop("optimizer"), "at optimizer: missing, expected a value"),
        (lambda c: c["training"].update(more=1), "at more: 1, expected no such key"),
        (lambda c: c["training"].update(position="{"), "its position is not valid JSON"),
        (lambda c: c["training"].update(position='{"epoch": -1}'), "at epoch: -1, expected a number greater"),
        (lambda c: c["training"].update(random=torch.zeros(3)), "its random or scaler state does not match"),
        (lambda c: c["training"].update(updates="3"), "at updates: '3', expected a whole number"),
        (lambda c: c["training"].pop("weights"), "it has no moving average"),
        (lambda c: c["training"]["optimizer"].pop("state"), "at state: missing"),
        (lambda c: c["training"]["optimizer"]["param_groups"].pop(), "has different parameter groups"),
        (
            lambda c: c["training"]["optimizer"]["param_groups"][0].update(params=torch.zeros(2)),
            "at param_groups.0.params: .*expected a list",
        ),
        (lambda c: first_moments(c).update(exp_avg=torch.zeros(2, device="meta")), "0 does not match"),
        (lambda c: first_moments(c).pop("step"), "optimizer's state of parameter 0 does not match"),
        (lambda c: first_moments(c).update(exp_avg=torch.zeros(2)), "parameter 0 does not match"),
        (lambda c: first_moments(c).update(step=torch.tensor(float("nan"))), "parameter 0 does not match"),
        (
            lambda c: c["training"]["optimizer"]["state"].update({99: first_moments(c)}),
            "parameter 99 does not",
        ),
        (lambda c: c["weights"].popitem(), "these weights do not match the network"),
    ],
)
def test_a_state_that_does_not_fit_is_named(stopped, change, message):
    change_state(stopped, change)
    with pytest.raises(CtnetError, match=rf"last\.pt cannot be continued: .*{message}") as caught:
        resumed_session(stopped, machine=Machine("cpu", 0))
    assert str(caught.value).isprintable()


@pytest.mark.parametrize("seed", [-1, 2**64])
def test_a_seed_that_generators_do_not_take_is_refused_before_all_else(session, scenes, tmp_path, seed):
    with pytest.raises(CtnetError, match=f"--seed is {seed}"):
        session(scenes, tmp_path / "run", seed=seed)
    assert not (tmp_path / "run").exists()
