"""Sessions before their first step: settings resolved, the run folder created, and what is announced."""

from __future__ import annotations

import json
import threading
from pathlib import Path

import pytest

from ctnet import checkpoint
from ctnet.base.errors import CtnetError
from ctnet.training.request import Machine
from ctnet.training.session import resumed_session

FIELDS = {"epochs": 2}


def test_settings_are_resolved_and_written(session, scenes: Path, tmp_path: Path) -> None:
    made = session(scenes, tmp_path / "run", fields=FIELDS, amp="auto", seed=3)
    made.run.release()
    config = json.loads((tmp_path / "run/config.json").read_text())
    assert config["amp"] in ("off", "bf16")  # never "auto", which depends on the machine
    assert (config["task"], config["backbone"], config["seed"]) == ("ctdet", "with_dropout", 3)
    assert config["recipe"]["size"] == [64, 64]
    assert "epochs = 2" in (tmp_path / "run/recipe.toml").read_text()
    assert made.rows == []


@pytest.mark.parametrize(
    ("val_split", "shown"), [("val", " validation images"), (None, "no validation images")]
)
def test_the_run_is_announced(
    session, scenes: Path, tmp_path: Path, val_split: str | None, shown: str
) -> None:
    made = session(scenes, tmp_path / "run", fields=FIELDS, val_split=val_split)
    made.run.release()
    first, rate, data = made.display.lines
    assert first.startswith("ctdet with with_dropout, recipe small: 2 epochs of ")
    assert first.endswith("batch 4, input 64x64, min_visible 0.75")
    assert rate.startswith("learning rate ")
    assert "training images" in data
    assert shown in data
    assert data.endswith(f"run folder {tmp_path / 'run'}")


def test_options_of_the_task_reach_the_config(session, scenes: Path, tmp_path: Path) -> None:
    made = session(scenes, tmp_path / "run", options={"size_weight": "0.5"})
    made.run.release()
    assert json.loads((tmp_path / "run/config.json").read_text())["options"]["size_weight"] == 0.5


def test_a_run_that_cannot_start_leaves_no_folder(session, scenes: Path, tmp_path: Path) -> None:
    with pytest.raises(CtnetError):
        session(scenes, tmp_path / "run", backbone="broken", pretrained=True)
    assert not (tmp_path / "run").exists()


def test_what_cannot_be_resumed_is_named(session, scenes: Path, tmp_path: Path) -> None:
    with pytest.raises(CtnetError, match="is not a run folder"):
        resumed_session(tmp_path / "nothing")
    session(scenes, tmp_path / "run").run.release()
    with pytest.raises(CtnetError, match="is a run of task ctdet, not pose"):
        resumed_session(tmp_path / "run", "pose")


def test_images_stay_in_memory_on_request(session, scenes: Path, tmp_path: Path, monkeypatch) -> None:
    one = session(scenes, tmp_path / "run", cache="ram")
    assert one.trainer.loader.samples.dataset.cache is not None
    assert one.trainer.validation.dataset.cache is not None
    one.run.release()
    again = resumed_session(tmp_path / "run", machine=Machine("cpu", 0, cache="ram"))
    assert again.trainer.validation.dataset.cache is not None
    again.run.release()
    few = session(scenes, tmp_path / "few", cache="ram", overfit=2)
    assert few.trainer.validation.dataset.cache is few.trainer.loader.samples.dataset.cache
    monkeypatch.setattr("ctnet.data.cache.available_memory", lambda: 1000)
    with pytest.raises(CtnetError, match="train without --cache ram"):
        session(scenes, tmp_path / "large", cache="ram")
    assert not (tmp_path / "large").exists()


def test_a_refused_resume_leaves_no_file_and_no_thread(session, scenes: Path, tmp_path: Path) -> None:
    """TensorBoard's writer makes both, and must not start before the training does."""
    session(scenes, tmp_path / "run").run.release()
    (tmp_path / "run/last.pt").write_bytes(b"damaged")
    files, threads = sorted((tmp_path / "run").iterdir()), threading.active_count()
    for _ in range(3):  # a lock that remained would refuse the second
        with pytest.raises(CtnetError, match=r"last\.pt"):
            resumed_session(tmp_path / "run", machine=Machine("cpu", 0))
    assert sorted((tmp_path / "run").iterdir()) == files
    assert threading.active_count() == threads


def test_compile_and_synchronised_batch_norms_are_refused(session, scenes: Path, tmp_path: Path) -> None:
    with pytest.raises(CtnetError, match="batch_norm=sync adds up between layers, which cannot be compiled"):
        session(scenes, tmp_path / "run", fields={"compile": True}, batch_norm="sync")
    assert not (tmp_path / "run").exists()


def test_a_backbone_of_timm_is_trained_with_its_own_mean_and_deviation(
    session, scenes: Path, tmp_path: Path
) -> None:
    pytest.importorskip("timm")
    made = session(scenes, tmp_path / "run", backbone="timm/mobilenetv3_small_050", fields={"epochs": 1})
    assert made.fit()
    about = checkpoint.load(tmp_path / "run/best.pt").description
    assert (about.mean, about.std) == ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
