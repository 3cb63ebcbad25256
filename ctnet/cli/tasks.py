"""``ctnet tasks``."""

from __future__ import annotations

from typing import Annotated

import typer

from ctnet.base.output import print_json, print_line, print_table
from ctnet.cli.checks import check_task
from ctnet.cli.new_task import new_task

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
    json: Annotated[bool, typer.Option("--json", help="JSON on stdout.")] = False,
) -> None:
    """Show a task's heads, options, recipes and metrics.

    Example: `ctnet tasks show ctdet`
    """
    import dataclasses

    from ctnet.core.attributed import with_attributes
    from ctnet.core.options import option_rows
    from ctnet.core.task import load_task_class

    cls = load_task_class(name)
    task = cls(cls.scenes.categories if cls.scenes else [{"id": 1, "name": "object"}])
    heads = [
        {"name": key, "kind": type(head).__name__, "channels": head.channels, "weight": head.weight}
        for key, head in task.heads.items()
    ]
    options = option_rows(with_attributes(cls).Options)
    recipes = task.recipes("")
    if json:
        print_json(
            {
                "name": name,
                "heads": heads,
                "options": [dataclasses.asdict(row) for row in options],
                "recipes": {key: dataclasses.asdict(recipe) for key, recipe in recipes.items()},
                "metrics": list(cls.metrics),
            }
        )
        return
    print_line(_first_line(cls))
    print_line(f"\nheads, for {len(task.categories)} categories ({', '.join(task.categories.names)})")
    print_table(("head", "kind", "channels", "weight"), [tuple(head.values()) for head in heads])
    print_line("\noptions, set with -O NAME=VALUE")
    print_table(
        ("option", "values", "default", "what it does"),
        [(row.name, row.type, str(row.default), row.help) for row in options],
    )
    print_line("\nrecipes")
    print_table(
        ("recipe", "epochs", "milestones", "rate", "at batch", "input", "optimizer", "schedule", "options"),
        [
            (
                key,
                recipe.epochs,
                ", ".join(map(str, recipe.milestones)),
                recipe.learning_rate,
                recipe.batch_size,
                "x".join(map(str, recipe.size)),
                recipe.optimizer,
                recipe.schedule,
                ", ".join(f"{name}={value}" for name, value in recipe.options.items()),
            )
            for key, recipe in recipes.items()
        ],
    )
    print_line(f"\nmetrics: {', '.join(cls.metrics)}")


def _first_line(cls: type) -> str:
    lines = (cls.__doc__ or "").strip().splitlines() or ["no description"]
    return lines[0].replace("``", "")
