"""Recipes as TOML: written, read, and what is refused."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest

from ctnet.base.errors import CtnetError
from ctnet.core.recipe import DEMO, SMALL, Augmentation, Recipe
from ctnet.core.task import create_task, list_tasks, load_task_class
from ctnet.training.recipe_files import read_recipe, recipe_toml

PLAIN = Recipe(epochs=1, batch_size=2, learning_rate=1e-5)
REQUIRED = "epochs = 1\nbatch_size = 2\nlearning_rate = 1e-5\n"


def written(folder: Path, text: str) -> Path:
    path = folder / "mine.toml"
    path.write_text(text, encoding="utf-8")
    return path


def tasks_recipes() -> dict[str, Recipe]:
    found = {}
    for name in list_tasks():
        scenes = load_task_class(name).scenes
        categories = scenes.categories if scenes else [{"id": 1, "name": "thing"}]
        recipes = create_task(name, categories).recipes("dla34")
        found |= {f"{name} {key}": recipe for key, recipe in recipes.items()}
    return found


@pytest.mark.parametrize(
    "recipe",
    [
        PLAIN,
        SMALL,
        DEMO,
        replace(PLAIN, milestones=(3, 5), size=(1280, 384), clip_norm=1 / 3, accumulate=4),
        replace(PLAIN, augmentation=Augmentation(scale=None, shift=0.25, rotate=7.5)),
        replace(PLAIN, options={"text": 'a "quoted" \\ line\n é', "on": True, "number": 3, "part": 1e-300}),
    ],
)
def test_what_is_written_is_read(tmp_path: Path, recipe: Recipe) -> None:
    assert read_recipe(written(tmp_path, recipe_toml(recipe))) == recipe


def test_so_are_the_recipes_of_all_tasks(tmp_path: Path) -> None:
    recipes = tasks_recipes()
    assert "ctdet paper" in recipes
    for recipe in recipes.values():
        assert read_recipe(written(tmp_path, recipe_toml(recipe))) == recipe


def test_what_a_file_leaves_out_has_its_default(tmp_path: Path) -> None:
    assert read_recipe(written(tmp_path, REQUIRED)) == PLAIN
    part = read_recipe(written(tmp_path, f"{REQUIRED}[augmentation]\nrotate = 5\n"))
    assert part.augmentation == Augmentation(rotate=5)


def test_the_spellings_of_the_command_line_are_read_too(tmp_path: Path) -> None:
    text = f'{REQUIRED}size = "64x32"\nmilestones = "5,3"\n[augmentation]\nscale = "0.5..2"\n'
    recipe = read_recipe(written(tmp_path, text))
    assert (recipe.size, recipe.milestones, recipe.augmentation.scale) == ((64, 32), (3, 5), (0.5, 2.0))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("epochs = ", "mine.toml is not valid TOML ("),
        ("epochs = " + "9" * 5000, "mine.toml is not valid TOML ("),
        ("size = " + "[" * 900 + "]" * 900, "mine.toml holds values nested too deeply; write it again"),
        ("a = " + "{a = " * 100_000, "mine.toml holds values nested too deeply"),
        ("epochs = 1", "mine.toml: the recipe lacks batch_size and learning_rate; add that"),
        (f"{REQUIRED}epoch = 1", "there is no field of the recipe called 'epoch'; did you mean epochs"),
        (f"{REQUIRED}rotate = 1", "there is no field of the recipe called 'rotate'"),
        (f"{REQUIRED}warmup = 1.5", "field warmup of the recipe is 1.5; it must be a whole number"),
        (f"{REQUIRED}ema = 2", "mine.toml: field ema of the recipe is 2; it must be at least 0 and below 1"),
        (f"{REQUIRED}size = [1, 2, 3]", "field size of the recipe is [1, 2, 3]; it must be a whole number"),
        (f"{REQUIRED}augmentation = 3", "augmentation is 3; it must be a table: [augmentation]"),
        (f"{REQUIRED}options = []", "options is []; it must be a table: [options]"),
        (f"{REQUIRED}[augmentation]\nrotat = 1", "no field of the augmentation called 'rotat'; did you mean"),
        (f"{REQUIRED}[augmentation]\nflip = 'yes'", "field flip of the augmentation is 'yes'"),
        (f"{REQUIRED}[augmentation]\nrotate = 400", "mine.toml: field rotate of the recipe is 400"),
    ],
)
def test_mistakes_are_one_line_that_names_the_file(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(CtnetError, match=re.escape(message)) as error:
        read_recipe(written(tmp_path, text))
    assert "mine.toml" in str(error.value)
    assert "\n" not in str(error.value)


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(CtnetError, match=r"cannot read .*gone\.toml: No such file"):
        read_recipe(tmp_path / "gone.toml")
    (tmp_path / "mine.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(CtnetError, match=r"mine\.toml is not a text file in UTF-8"):
        read_recipe(tmp_path / "mine.toml")
