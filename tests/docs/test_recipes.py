"""The recipes page lists every field as in the code, and its file can be read."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path
from typing import Any

from ctnet.base.settings import type_text
from ctnet.core.recipe import SMALL, Augmentation, Recipe, recipe_fields
from ctnet.core.task import create_task
from ctnet.training.recipe_files import read_recipe

PAGE = (Path(__file__).parents[2] / "docs" / "recipes.md").read_text("utf-8")
ROWS = {
    cells[0].strip("`"): cells[1:4]
    for line in PAGE.splitlines()
    if line.startswith("| `")
    and len(cells := [cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]]) == 5
}


def text(value: Any) -> str:
    """A value as written for ``-R``."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, tuple):
        kinds = {float: "..", int: "x" if len(value) == 2 else ","}
        return kinds[type(value[0])].join(map(str, value)) if value else ""
    return "none" if value is None else str(value)


def values(recipe: Recipe) -> dict[str, Any]:
    own = {**vars(recipe), **vars(recipe.augmentation)}
    return {name: own[name] for name in recipe_fields()}


def defaults() -> dict[str, str]:
    fields = [*dataclasses.fields(Recipe), *dataclasses.fields(Augmentation)]
    known = {field.name: field.default for field in fields if field.name in recipe_fields()}
    return {
        name: "" if default is dataclasses.MISSING else f"`{text(default)}`"
        for name, default in known.items()
    }


def test_every_field_has_its_row() -> None:
    small, default = values(SMALL), defaults()
    assert {
        name: [type_text(hint).replace("|", r"\|"), default[name], f"`{text(small[name])}`"]
        for name, hint in recipe_fields().items()
    } == ROWS


def test_what_the_page_shows_of_a_value_sets_it() -> None:
    for name, (_, default, small) in ROWS.items():
        if default:
            plain = SMALL.with_fields({name: default.strip("`")})
            assert f"`{text(values(plain)[name])}`" == default
        assert SMALL.with_fields({name: small.strip("`")}) == SMALL


def test_the_file_of_the_page_is_read(tmp_path: Path) -> None:
    (block,) = re.findall(r"^```toml\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)
    (tmp_path / "mine.toml").write_text(block)
    recipe = read_recipe(tmp_path / "mine.toml")
    assert (recipe.size, recipe.clip_norm, recipe.augmentation.rotate) == ((640, 384), None, 10)
    create_task("ctdet", [{"id": 1, "name": "a"}], **recipe.options)
