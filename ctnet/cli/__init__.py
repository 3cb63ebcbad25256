"""The command line: one module per command, which parses, calls the library and prints.

Nothing heavy is imported before a command runs.
"""

from __future__ import annotations

import io
import os
import signal
import sys
import time
from collections.abc import Sequence
from contextlib import redirect_stderr, redirect_stdout

import typer

from ctnet.base.errors import CtnetError, remedy
from ctnet.base.output import printable
from ctnet.base.ranks import is_first_process, number_of_processes
from ctnet.base.signals import on_termination
from ctnet.cli import analyze, convert, data
from ctnet.cli.checks import backbones_app
from ctnet.cli.compare import compare
from ctnet.cli.demo import demo
from ctnet.cli.doctor import doctor
from ctnet.cli.evaluate import evaluate
from ctnet.cli.export import export
from ctnet.cli.fields import RecipeCommand
from ctnet.cli.plugins import plugin_group
from ctnet.cli.predict import predict
from ctnet.cli.report import report
from ctnet.cli.serve import serve
from ctnet.cli.tasks import app as tasks_app
from ctnet.cli.train import train

app = typer.Typer(
    name="ctnet",
    cls=plugin_group("ctnet.commands"),
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    rich_markup_mode="markdown",
    help="Objects as Points (CenterNet): train, evaluate and run detectors whose objects are points.",
)
app.command()(demo)
app.command(cls=RecipeCommand)(train)
app.command(name="eval")(evaluate)
app.command()(compare)
app.command()(report)
app.command()(predict)
app.command()(export)
app.command()(serve)
app.add_typer(analyze.app, name="analyze", cls=plugin_group("ctnet.analyses"))
app.add_typer(convert.app, name="convert", cls=plugin_group("ctnet.converters"))
app.add_typer(data.app, name="data")
app.add_typer(tasks_app, name="tasks")
app.add_typer(backbones_app, name="backbones")
app.command()(doctor)


@app.callback(invoke_without_command=True)
def _root(version: bool = typer.Option(False, "--version", help="Print the version and exit.")) -> None:
    if version:
        from ctnet.base.version import __version__

        print(f"ctnet {__version__}")
        raise typer.Exit


#: Seconds after which another process than the first ends with an error.
_BEHIND = 2.0


def main() -> None:
    """Run the command line: a user's mistake is one line on stderr and exit code 2. SIGTERM acts as Ctrl-C.

    Of several processes (``torchrun``) only the first one prints, but for the traceback of a bug.
    """
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="surrogateescape")  # paths are bytes
    if number_of_processes() > 1:
        # torch warns from C++, in every process, of what is chosen with care (see training/gradients.py).
        os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")
    if is_first_process():
        _run()
        return
    with open(os.devnull, "w") as nothing, redirect_stdout(nothing), redirect_stderr(nothing):
        try:
            _run()
        except SystemExit as end:
            if end.code:
                # torchrun ends all processes as soon as one has failed: the first has something to say.
                time.sleep(_BEHIND)
            raise


def _run() -> None:
    try:
        with on_termination(signal.default_int_handler, including_ctrl_c=False):
            app()
    except (MemoryError, RuntimeError) as error:
        from ctnet.base.memory import is_out_of_memory

        if not is_out_of_memory(error):
            raise
        fail("there is not enough memory; close other programs, or use smaller images and batches")
    except CtnetError as error:
        fail(str(error), error.details, error.exit_code)
    except OSError as error:
        # A full disk or missing permissions, where no library function gave a better message.
        where = f": {os.fsdecode(error.filename)}" if isinstance(error.filename, (str, bytes)) else ""
        fail(f"{error.strerror or error}{where}{remedy(error.errno)}")


def fail(message: str, details: Sequence[str] = (), code: int = 2) -> None:
    """Print an error line, with the table that may follow it, and exit."""
    for line in (f"error: {message}", *details):
        print(printable(line), file=sys.stderr)
    sys.exit(code)
