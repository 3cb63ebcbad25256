"""The moving average as a teacher: what it changes, when, and that runs resume with it."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from ctnet import checkpoint
from ctnet.base.errors import CtnetError
from ctnet.core.task import create_task
from ctnet.data.shape_scenes import SHAPES
from ctnet.model import create_model
from ctnet.training.optimization import MovingAverage
from ctnet.training.teacher import AverageTeacher, first_update

IGNORE = {"options": {"doubtful": "ignore"}}


def weights_of(path):
    return checkpoint.load(path).weights


def same(one, other) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def test_the_teacher_is_the_average_as_it_moves():
    task = create_task("ctdet", SHAPES, doubtful="ignore")
    model = create_model(task, "with_dropout")
    average = MovingAverage(model, 0.9)
    seen = []
    task.taught = lambda targets, maps: seen.append(maps["heatmap"]) or targets
    teacher = AverageTeacher(task, model, average, begin=0)
    images = torch.randn(2, 3, 32, 32)
    for _ in range(2):
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(torch.randn_like(parameter))
        average.update(model)
        teacher(images, {})
        alone = create_model(task, "with_dropout").eval()
        alone.load_state_dict(average.weights)
        with torch.no_grad():
            torch.testing.assert_close(seen[-1], alone.activated(images)["heatmap"], rtol=0, atol=0)
    assert not torch.equal(*seen)


def test_it_does_not_teach_before_its_time():
    task = create_task("ctdet", SHAPES, doubtful="ignore")
    model = create_model(task, "with_dropout")
    average = MovingAverage(model, 0.9)
    task.taught = lambda targets, maps: {"changed": targets}
    teacher = AverageTeacher(task, model, average, begin=2)
    changed = []
    for _ in range(4):
        changed.append("changed" in teacher(torch.zeros(1, 3, 32, 32), {}))
        average.update(model)
    assert changed == [False, False, True, True]


@pytest.mark.parametrize(("epochs", "first"), [(1, 7), (3, 7), (10, 21), (40, 84)])
def test_it_begins_after_three_tenths_of_the_epochs(epochs, first):
    recipe = next(iter(create_task("ctdet", SHAPES).recipes("resfpn18").values()))
    assert first_update(recipe.with_fields({"epochs": epochs}), 7) == first


@pytest.fixture
def insistent(monkeypatch: pytest.MonkeyPatch) -> None:
    """A network of a few steps is sure of nothing: a teacher that insists on much less."""
    monkeypatch.setattr("ctnet.core.doubtful.INSISTS", 0.05)


def test_a_stopped_run_resumes_to_the_same_bits(session, resumed, scenes, tmp_path, insistent):
    whole = session(scenes, tmp_path / "whole", **IGNORE)
    whole.fit()
    plain = session(scenes, tmp_path / "plain", options={"doubtful": "background"})
    plain.fit()
    part = session(scenes, tmp_path / "part", **IGNORE)
    steps = 0
    report = part.display.step

    def stop(*args):
        nonlocal steps
        report(*args)
        steps += 1
        if steps == 5:  # of 9; the teacher begins after 3
            part.trainer._ask_to_stop()

    part.display.step = stop
    assert not part.fit()
    resumed(tmp_path / "part").fit()
    assert same(weights_of(tmp_path / "whole" / "last.pt"), weights_of(tmp_path / "part" / "last.pt"))
    assert not same(weights_of(tmp_path / "whole" / "last.pt"), weights_of(tmp_path / "plain" / "last.pt"))


def test_accumulated_batches_are_taught_like_one(session, scenes, tmp_path, insistent):
    """Counts are exchanged before the teacher speaks, so it must not change them."""
    seen = []
    for name, changes in (("whole", {"fields": {"batch_size": 10}}), ("parts", {"accumulate": 3})):
        trainer = session(scenes, tmp_path / name, **IGNORE, **changes).trainer
        (teacher,) = trainer.gradients._losses._teachers
        teacher._begin = 0
        trainer.model.eval().double()
        trainer.model.backbone.register_forward_pre_hook(lambda _, inputs: inputs[0].double())
        batches = list(trainer.loader.epoch(0))
        untaught = trainer.gradients._losses
        step = next(trainer.gradients.steps(iter(batches), len(batches)))
        trainer.gradients.accumulate(step)
        taught = [parameter.grad.clone() for parameter in trainer.model.parameters()]
        trainer.model.zero_grad()
        untaught._teachers = ()
        trainer.gradients.accumulate(step)
        plain = [parameter.grad for parameter in trainer.model.parameters()]
        seen.append((len(batches), taught, plain))
    (one, whole, plain), (three, parts, _) = seen
    assert (one, three) == (1, 3)
    largest = max(gradient.abs().max() for gradient in whole)
    assert all((a - b).abs().max() < 1e-9 * largest for a, b in zip(whole, parts, strict=True))
    assert any((a - b).abs().max() > 1e-3 * largest for a, b in zip(whole, plain, strict=True))


def test_without_a_moving_average_it_is_refused(session, scenes, tmp_path):
    with pytest.raises(CtnetError, match=r"taught by the moving average.*-R ema=0\.99"):
        session(scenes, tmp_path / "run", fields={"ema": 0.0}, **IGNORE)
    assert not (tmp_path / "run").exists()


def test_random_numbers_stay_as_they_are(session, scenes, tmp_path):
    """A teacher that sees nothing changes nothing: it draws no random numbers."""
    done = []
    for choice in ("background", "ignore"):
        made = session(scenes, tmp_path / choice, options={"doubtful": choice})
        made.fit()
        done.append(weights_of(tmp_path / choice / "last.pt"))
    assert same(*done)
    assert np.isfinite(made.rows[-1]["loss"])


def test_a_trained_run_teaches_another_backbone_and_resumes(session, resumed, scenes, tmp_path):
    session(scenes, tmp_path / "teacher").fit()
    taught = {"fields": {"teacher": str(tmp_path / "teacher"), "teach": 0.3}}
    whole = session(scenes, tmp_path / "whole", **taught)
    whole.fit()
    part = session(scenes, tmp_path / "part", **taught)
    report = part.display.step

    def stop(*args):
        report(*args)
        part.trainer._ask_to_stop()

    part.display.step = stop
    assert not part.fit()
    resumed(tmp_path / "part").fit()
    plain = session(scenes, tmp_path / "plain")
    plain.fit()
    assert same(weights_of(tmp_path / "whole" / "last.pt"), weights_of(tmp_path / "part" / "last.pt"))
    assert not same(weights_of(tmp_path / "whole" / "last.pt"), weights_of(tmp_path / "plain" / "last.pt"))


def test_a_teacher_that_is_given_teaches_half(session, scenes, tmp_path):
    session(scenes, tmp_path / "teacher").fit()
    made = session(scenes, tmp_path / "run", fields={"teacher": str(tmp_path / "teacher")})
    assert made.trainer.config.recipe.teach == 0.5
    assert made.trainer.config.recipe.teacher == str(tmp_path / "teacher" / "best.pt")


def test_a_teacher_of_other_heads_is_refused(session, scenes, tmp_path):
    session(scenes, tmp_path / "teacher", options={"box": "giou"}).fit()
    with pytest.raises(CtnetError, match="has heads heatmap 5, box 4, this training heatmap 5, size 2"):
        session(scenes, tmp_path / "run", fields={"teacher": str(tmp_path / "teacher")})


def test_the_average_teaches_all_heads(session, scenes, tmp_path):
    made = session(scenes, tmp_path / "run", fields={"teach": 0.3})
    (teacher,) = made.trainer.gradients._losses._teachers
    teacher._begin = 0
    batch = next(made.trainer.loader.epoch(0))
    taught = teacher(torch.zeros(len(batch), 3, 64, 64), batch.targets)
    size, before = taught["size"], batch.targets["size"]
    seen = teacher._model.activated(torch.zeros(len(batch), 3, 64, 64))["size"]
    assert torch.allclose(size.value, 0.7 * before.value + 0.3 * before.gather(seen))
    assert taught["heatmap"].soft.shape[1:] == (5, 16, 16)
