"""Recipes as TOML: the fields of ``Recipe``, with the tables ``augmentation`` and ``options``."""

from __future__ import annotations

import dataclasses
import json
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, get_type_hints

from ctnet.base.errors import CtnetError
from ctnet.base.files import read_text
from ctnet.base.settings import convert_all
from ctnet.core.recipe import Augmentation, Recipe, own_fields

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib


def read_recipe(path: str | Path) -> Recipe:
    """The recipe in a TOML file; missing fields have the defaults of ``Recipe``.

    Raises:
        CtnetError: when the file cannot be read or is not TOML, lacks epochs, batch_size or learning_rate, or
            has an unknown field or an invalid value.
    """
    try:
        content = tomllib.loads(read_text(path))
    except tomllib.TOMLDecodeError as error:
        raise CtnetError(f"{path} is not valid TOML ({error})") from error
    try:
        return _recipe(content)
    except CtnetError as error:
        raise CtnetError(f"{path}: {error}") from error


def recipe_toml(recipe: Recipe) -> str:
    """A recipe as TOML for ``read_recipe``, with all fields."""
    return "\n".join(_lines(recipe)) + "\n"


def _recipe(content: Mapping[str, Any]) -> Recipe:
    tables = {name: content.get(name, {}) for name in ("augmentation", "options")}
    for name, table in tables.items():
        if not isinstance(table, dict):
            raise CtnetError(f"{name} is {table!r}; it must be a table: [{name}]")
    own = {name: value for name, value in content.items() if name not in tables}
    values = convert_all(own, own_fields(), "field", "the recipe")
    inner = convert_all(tables["augmentation"], get_type_hints(Augmentation), "field", "the augmentation")
    if missing := [name for name in ("epochs", "batch_size", "learning_rate") if name not in values]:
        raise CtnetError(f"the recipe lacks {' and '.join(missing)}; add that")
    return Recipe(**values, augmentation=Augmentation(**inner), options=tables["options"])


def _lines(recipe: Recipe) -> Iterator[str]:
    for name in own_fields():
        yield f"{name} = {_text(getattr(recipe, name))}"
    yield "\n[augmentation]"
    for field in dataclasses.fields(recipe.augmentation):
        yield f"{field.name} = {_text(getattr(recipe.augmentation, field.name))}"
    if recipe.options:
        yield "\n[options]"
    for name, value in recipe.options.items():
        yield f"{name} = {_text(value)}"


def _text(value: Any) -> str:
    """A value in TOML, which has no null, so None is the string "none"."""
    if isinstance(value, tuple):
        return f"[{', '.join(map(_text, value))}]"
    if isinstance(value, bool):
        return str(value).lower()
    return json.dumps("none" if value is None else value, ensure_ascii=False)
