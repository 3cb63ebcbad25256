"""``ctnet tasks``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ctnet.base.errors import unknown_name
from ctnet.base.output import print_json, print_line, print_table
from ctnet.cli.checks import check_task
from ctnet.cli.new_task import new_task

if TYPE_CHECKING:
    from ctnet.core.options import OptionRow
    from ctnet.core.recipe import Recipe
    from ctnet.core.task import Task

app = typer.Typer(no_args_is_help=True, help="Installed tasks.")
app.command(name="check")(check_task)
app.command(name="new")(new_task)


@app.command(name="list")
def list_(json: Annotated[bool, typer.Option("--json", help="JSON on stdout.")] = False) -> None:
    """List installed tasks and where they come from; a plugin that does not load is shown with its error.

    Example: `ctnet tasks list`
    """
    from ctnet.base.errors import CtnetError
    from ctnet.base.plugins import discover
    from ctnet.core.task import GROUP, load_task_class

    rows = []
    for name, plugin in discover(GROUP).items():
        try:
            summary, error = _first_line(load_task_class(name)), None
        except CtnetError as problem:
            summary, error = "", str(problem)
        rows.append(
            {
                "name": name,
                "distribution": plugin.distribution,
                "version": plugin.version,
                "summary": summary,
                "error": error,
            }
        )
    if json:
        print_json(rows)
        return
    print_table(
        ("task", "distribution", "version", "what it detects"),
        [(row["name"], row["distribution"], row["version"], row["summary"] or row["error"]) for row in rows],
    )


@app.command()
def show(
    name: Annotated[str, typer.Argument(help="Task, see `ctnet tasks list`.")],
    recipe: Annotated[
        str | None,
        typer.Option(help="Print this recipe as TOML on stdout instead, for `ctnet train --recipe FILE`."),
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="JSON on stdout.")] = False,
) -> None:
    """Show a task's heads, options, recipes and metrics.

    Examples:

    * `ctnet tasks show ctdet`

    * `ctnet tasks show ctdet --recipe paper > mine.toml`
    """
    from ctnet.core.recipe_files import recipe_toml
    from ctnet.core.task import load_task_class

    cls = load_task_class(name)
    task = cls(cls.scenes.categories if cls.scenes else [{"id": 1, "name": "object"}])
    recipes = task.recipes("")
    if recipe is not None:
        if recipe not in recipes:
            raise unknown_name(f"recipe of task {name}", recipe, recipes)
        print(recipe_toml(recipes[recipe]), end="")
    elif json:
        print_json(_document(task, recipes))
    else:
        _print(task, recipes)


def _document(task: Task, recipes: Mapping[str, Recipe]) -> dict[str, Any]:
    import dataclasses

    return {
        "name": task.name,
        "heads": _heads(task),
        "options": [dataclasses.asdict(row) for row in _options(task)],
        "recipes": {key: dataclasses.asdict(recipe) for key, recipe in recipes.items()},
        "metrics": list(task.metrics),
    }


def _print(task: Task, recipes: Mapping[str, Recipe]) -> None:
    print_line(_first_line(type(task)))
    print_line(f"\nheads, for {len(task.categories)} categories ({', '.join(task.categories.names)})")
    print_table(("head", "kind", "channels", "weight"), [tuple(head.values()) for head in _heads(task)])
    print_line("\noptions, set with -O NAME=VALUE")
    print_table(
        ("option", "values", "default", "what it does"),
        [(row.name, row.type, str(row.default), row.help) for row in _options(task)],
    )
    print_line("\nrecipes, whose fields are set with -R FIELD=VALUE")
    print_table(
        ("recipe", "epochs", "milestones", "rate", "at batch", "input", "optimizer", "schedule", "options"),
        [_recipe_row(key, recipe) for key, recipe in recipes.items()],
    )
    print_line(f"\nmetrics: {', '.join(task.metrics)}")


def _heads(task: Task) -> list[dict[str, Any]]:
    return [
        {"name": key, "kind": type(head).__name__, "channels": head.channels, "weight": head.weight}
        for key, head in task.heads.items()
    ]


def _options(task: Task) -> list[OptionRow]:
    from ctnet.core.attributed import with_attributes
    from ctnet.core.options import option_rows

    return option_rows(with_attributes(type(task)).Options)


def _recipe_row(name: str, recipe: Recipe) -> tuple[object, ...]:
    return (
        name,
        recipe.epochs,
        ", ".join(map(str, recipe.milestones)),
        recipe.learning_rate,
        recipe.batch_size,
        "x".join(map(str, recipe.size)),
        recipe.optimizer,
        recipe.schedule,
        ", ".join(f"{name}={value}" for name, value in recipe.options.items()),
    )


def _first_line(cls: type) -> str:
    lines = (cls.__doc__ or "").strip().splitlines() or ["no description"]
    return lines[0].replace("``", "")
