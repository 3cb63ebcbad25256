"""Fields of a recipe as options."""

from __future__ import annotations

from pathlib import Path

import pytest

from ctnet.cli.fields import as_assignments

OWN = {"--epochs", "--size", "-R"}


@pytest.mark.parametrize(
    ("written", "read"),
    [
        ("ctdet --patience 10", "ctdet -R patience=10"),
        ("--patience=10 ctdet", "-R patience=10 ctdet"),
        ("--weight-decay 0.1", "-R weight_decay=0.1"),
        ("--small-heads ctdet", "-R small_heads=true ctdet"),
        ("--small-heads false ctdet", "-R small_heads=false ctdet"),
        ("--epochs 3 --size 64", "--epochs 3 --size 64"),  # options of their own
        ("--colour 0.1", "-R colour=0.1"),  # of the augmentation
        ("--patience", "-R patience="),
        ("--no-such 3", "--no-such 3"),
        ("-- --patience 10", "-- --patience 10"),
    ],
)
def test_an_option_that_is_a_field_sets_it(written: str, read: str) -> None:
    assert as_assignments(written.split(), OWN) == read.split()


def test_train_takes_fields(ctnet, training) -> None:
    done = ctnet(*training, "-o", "run", "--epochs", 1, "--warmup", 0, "--clip-norm=3")
    assert done.code == 0, done.err
    text = Path("run/recipe.toml").read_text()
    assert "warmup = 0" in text
    assert "clip_norm = 3.0" in text


def test_a_wrong_field_or_value_is_named(ctnet, training) -> None:
    assert "field patience of the recipe is 'x'" in ctnet(*training, "--patience", "x").message
    done = ctnet(*training, "--patienc", "3")
    assert done.code == 2
    assert "No such option: --patienc" in done.err
