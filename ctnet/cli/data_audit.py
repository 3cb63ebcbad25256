"""``ctnet data audit``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ctnet.base.errors import CtnetError
from ctnet.base.output import counted, print_json, print_line, print_note, print_table
from ctnet.cli.parameters import Device, Workers
from ctnet.cli.parsing import parse_assignments, refuse_given, refuse_other_settings

if TYPE_CHECKING:
    from ctnet.audit import Audit

_SHOWN = 20


def audit(
    context: typer.Context,
    run: Annotated[
        Path | None,
        typer.Argument(
            help="A run folder: its data is audited. With --apply: the annotation file, if it was moved."
        ),
    ] = None,
    folds: Annotated[
        int, typer.Option(min=0, help="Train so many networks, each on the rest; 0: the run's own judges.")
    ] = 0,
    split: Annotated[
        str | None,
        typer.Option(
            help="Split; default: the run's training split with --folds, else its validation split."
        ),
    ] = None,
    data: Annotated[Path | None, typer.Option(help="Data directory; default: the run's own.")] = None,
    field: Annotated[
        list[str] | None,
        typer.Option(
            "-R", "--set", help="With --folds: a field of the recipe, such as epochs=20 (repeatable)."
        ),
    ] = None,
    group: Annotated[
        str | None,
        typer.Option(help="A key of the images' entries: images with the same value are in one fold."),
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the division into folds.")] = 0,
    most: Annotated[int, typer.Option(min=1, max=1000, help="Number of suggestions.")] = 100,
    device: Device = "auto",
    workers: Workers = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            help="Folder; default: in the run's. With --apply: the corrected annotation file.",
        ),
    ] = None,
    apply: Annotated[
        Path | None,
        typer.Option(help="Carry out what a decisions file accepts, in a copy of the annotations."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print everything as JSON on stdout.")] = False,
) -> None:
    """Find likely label errors: unmarked objects, wrong classes, badly placed boxes, duplicates.

    A network repeats the errors that it learnt. With --folds 5 five networks are trained as the run was,
    each on four fifths of the images, and each judges the others; they are kept as runs in the output folder,
    and the same command goes on where it was stopped. Without --folds the run judges its validation split.

    The folder gets decisions.json and audit.html: a page to accept or reject with keys, which gives the
    decisions back as a file for --apply. It opens from disk and loads nothing.

    Examples:

    * `ctnet data audit runs/ctdet-resfpn18-1 --folds 5`

    * `ctnet data audit runs/ctdet-resfpn18-1 --folds 5 -R epochs=20 --group patient -o audit`

    * `ctnet data audit --apply decisions.json -o data/mine/annotations/instances_better.json`
    """
    if apply is not None:
        refuse_other_settings(context, "apply", ("run", "output", "as_json"))
        _apply(apply, run, output, as_json)
        return
    from ctnet.audit import AuditChoice
    from ctnet.audit import audit as audited
    from ctnet.training.request import Machine
    from ctnet.training.run import latest_run

    if not folds:
        refuse_given(context, ("group", "seed"), "--folds")
        if field:
            raise CtnetError("-R is for --folds; add that, or leave it out")
    if folds == 1:
        raise CtnetError("--folds is 1; at least 2 are needed")
    choice = AuditChoice(run or latest_run(), data, split, folds, group, seed, _fields(field), most, output)
    done = audited(choice, Machine(device, workers))
    if as_json:
        print_json(_as_json(done))
    else:
        _print(done)


def _fields(texts: list[str] | None) -> dict[str, Any]:
    return parse_assignments(texts or [], "-R")


def _apply(decisions: Path, annotations: Path | None, output: Path | None, as_json: bool) -> None:
    from ctnet.audit import apply_decisions

    if output is None:
        raise CtnetError("--apply writes a corrected copy of the annotations; name it with --output FILE")
    done = apply_decisions(decisions, output, annotations)
    if as_json:
        print_json({**vars(done), "path": str(done.path)})
        return
    for note in done.notes:
        print_note(f"note: {note}")
    print_line(
        f"{done.path}: {counted(done.added, 'annotation')} added, {done.changed} changed, "
        f"{done.removed} removed ({done.rejected} suggestions rejected, {done.open} undecided)"
    )


def _as_json(done: Audit) -> dict[str, Any]:
    problems = [{"kind": each.kind, "where": each.where, "what": each.what} for each in done.problems]
    return {
        **done.decisions.to_json(),
        "found": len(done.suggestions),
        "file": str(done.file),
        "page": str(done.page),
        "problems": problems,
        "notes": list(done.notes),
    }


def _print(done: Audit) -> None:
    from ctnet.audit.decisions import count

    for problem in done.problems:
        print_note(f"skipped {problem}")
    for note in done.notes:
        print_note(f"note: {note}")
    shown = done.decisions.suggestions
    if not shown:
        print_line(f"nothing in {done.dataset.coco.path} looks like an error")
    else:
        rows = [
            [each.number, f"{each.rank:.2f}", each.kind, each.file_name, each.reason]
            for each in shown[:_SHOWN]
        ]
        print_table(["", "rank", "kind", "image", "reason"], rows)
        if len(shown) > _SHOWN:
            print_line(f"and {len(shown) - _SHOWN} more; --json lists all")
        kinds = ", ".join(f"{number} {kind}" for kind, number in count(shown).items())
        print_line(f"\n{len(shown)} of {counted(len(done.suggestions), 'suggestion')}: {kinds}")
    print_line(f"look at them: {done.page}")
    print_line(f"then: ctnet data audit --apply {done.file} --output CORRECTED.json")
