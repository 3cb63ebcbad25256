"""Fields of a recipe set by name, and what they may be."""

from __future__ import annotations

import re
from dataclasses import fields, replace

import pytest

from ctnet.base.errors import CtnetError
from ctnet.core.recipe import DEMO, SMALL, Augmentation, Recipe, recipe_fields

BASE = Recipe(epochs=10, batch_size=8, learning_rate=1e-3)


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("epochs", "3", 3),
        ("batch_size", "4", 4),
        ("learning_rate", "1e-4", 1e-4),
        ("milestones", "90,120", (90, 120)),
        ("milestones", "120, 90", (90, 120)),
        ("milestones", "7", (7,)),
        ("milestones", "", ()),
        ("schedule", "cosine", "cosine"),
        ("final_rate", "0.5", 0.5),
        ("optimizer", "adamw", "adamw"),
        ("weight_decay", "1e-2", 0.01),
        ("warmup", "60", 60),
        ("clip_norm", "10", 10.0),
        ("clip_norm", "none", None),
        ("offset_rate", "0", 0.0),
        ("small_heads", "no", False),
        ("ema", "0.99", 0.99),
        ("size", "128", (128, 128)),
        ("size", "1280x384", (1280, 384)),
        ("size", (64, 32), (64, 32)),
        ("accumulate", "2", 2),
    ],
)
def test_own_fields_are_set(name: str, text: object, value: object) -> None:
    assert BASE.with_fields({name: text}) == replace(BASE, **{name: value})


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("flip", "0", 0.0),
        ("scale", "0.6..1.4", (0.6, 1.4)),
        ("scale", "1..1", (1.0, 1.0)),
        ("scale", "none", None),
        ("scale", [0.5, 2], (0.5, 2.0)),
        ("shift", "border", "border"),
        ("shift", "0.2", 0.2),
        ("rotate", "15", 15.0),
        ("geometric", "0.5", 0.5),
        ("colour", "0", 0.0),
        ("lighting", "0.1", 0.1),
    ],
)
def test_fields_of_the_augmentation_are_set(name: str, text: object, value: object) -> None:
    changed = SMALL.with_fields({name: text})
    assert changed == replace(SMALL, augmentation=replace(SMALL.augmentation, **{name: value}))


def test_every_field_can_be_set_by_a_name_of_its_own() -> None:
    own = {field.name for field in fields(Recipe)} - {"augmentation", "options"}
    inner = {field.name for field in fields(Augmentation)}
    assert not own & inner
    assert set(recipe_fields()) == own | inner


def test_several_at_once_and_none() -> None:
    changed = BASE.with_fields({"rotate": "5", "ema": "0.9", "flip": "0"})
    assert (changed.ema, changed.augmentation.rotate, changed.augmentation.flip) == (0.9, 5.0, 0.0)
    assert DEMO.with_fields({}) == DEMO


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("rotat", "5", "there is no field of the recipe called 'rotat'; did you mean rotate"),
        ("augmentation", "5", "there is no field of the recipe called 'augmentation'"),
        ("options", "5", "there is no field of the recipe called 'options'"),
        ("epochs", "3.5", "field epochs of the recipe is '3.5'; it must be a whole number"),
        ("epochs", "0", "field epochs of the recipe is 0; it must be at least 1"),
        ("batch_size", "-1", "field batch_size of the recipe is -1; it must be at least 1"),
        ("learning_rate", "0", "field learning_rate of the recipe is 0; it must be above 0"),
        ("learning_rate", "inf", "field learning_rate of the recipe is 'inf'; it must be a number"),
        ("milestones", "ten", "it must be whole numbers separated by commas"),
        ("milestones", "0,5", "field milestones of the recipe is 0; it must be at least 1"),
        ("schedule", "linear", "field schedule of the recipe is 'linear'; it must be step|cosine"),
        ("optimizer", "sgd", "field optimizer of the recipe is 'sgd'; it must be adam|adamw"),
        ("final_rate", "2", "field final_rate of the recipe is 2; it must be at least 0 and at most 1"),
        ("weight_decay", "nan", "field weight_decay of the recipe is 'nan'; it must be a number"),
        ("weight_decay", "-1", "field weight_decay of the recipe is -1; it must be at least 0"),
        ("warmup", "-1", "field warmup of the recipe is -1; it must be at least 0"),
        ("clip_norm", "0", "field clip_norm of the recipe is 0; it must be above 0"),
        ("clip_norm", "no", "field clip_norm of the recipe is 'no'; it must be a number or none"),
        ("offset_rate", "1.1", "field offset_rate of the recipe is 1.1; it must be at least 0 and at most 1"),
        ("small_heads", "2", "field small_heads of the recipe is '2'; it must be true|false"),
        ("ema", "1", "field ema of the recipe is 1; it must be at least 0 and below 1"),
        ("size", "64x64x64", "size of the recipe is '64x64x64'; it must be a whole number or WIDTHxHEIGHT"),
        ("size", True, "field size of the recipe is True; it must be a whole number or WIDTHxHEIGHT"),
        ("size", "0", "field size of the recipe is 0; it must be at least 1"),
        ("accumulate", "0", "field accumulate of the recipe is 0; it must be at least 1"),
        ("flip", "2", "field flip of the recipe is 2; it must be at least 0 and at most 1"),
        ("scale", "1.4", "field scale of the recipe is '1.4'; it must be LOWEST..HIGHEST or none"),
        ("scale", "1.4..0.6", "is 1.4..0.6; it must be two numbers above 0, the smaller one first"),
        ("scale", "0..1", "field scale of the recipe is 0..1; it must be two numbers above 0"),
        ("scale", [1, 2, 3], "field scale of the recipe is [1, 2, 3]; it must be LOWEST..HIGHEST or none"),
        ("shift", "edge", "field shift of the recipe is 'edge'; it must be border or a number"),
        ("shift", "2", "field shift of the recipe is 2; it must be at least 0 and at most 1"),
        ("rotate", "400", "field rotate of the recipe is 400; it must be at least 0 and at most 180"),
        ("geometric", "-0.1", "field geometric of the recipe is -0.1; it must be at least 0 and at most 1"),
        ("colour", "-1", "field colour of the recipe is -1; it must be at least 0"),
        ("lighting", "-1", "field lighting of the recipe is -1; it must be at least 0"),
    ],
)  # fmt: skip
def test_mistakes_are_one_line(name: str, value: object, message: str) -> None:
    with pytest.raises(CtnetError, match=re.escape(message)) as error:
        BASE.with_fields({name: value})
    assert "\n" not in str(error.value)
