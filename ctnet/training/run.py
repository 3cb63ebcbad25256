"""The run folder: config, metrics, checkpoints."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ctnet.base.errors import CtnetError, os_error
from ctnet.base.files import atomic_write, read_json, read_text, write_json
from ctnet.base.lock import LOCK_NAME, lock_folder
from ctnet.core.recipe import Recipe
from ctnet.training.recipe_files import recipe_toml

if TYPE_CHECKING:
    from filelock import BaseFileLock

RUNS = Path("runs")

#: What ends a file's name that can only be a network's.
_NETWORKS = (".pt", ".pth", ".pt2", ".onnx", ".xml")

#: How a checkpoint begins, whatever its name.
_ZIP = b"PK\x03\x04"


@dataclass(frozen=True)
class Run:
    """The folder of one training run.

    Attributes:
        path: the folder.
        lock: keeps other processes from training in it; None for read-only use.
    """

    path: Path
    lock: BaseFileLock | None = field(default=None, compare=False, repr=False)

    @property
    def config(self) -> Path:
        return self.path / "config.json"

    @property
    def recipe(self) -> Path:
        return self.path / "recipe.toml"

    @property
    def last(self) -> Path:
        return self.path / "last.pt"

    @property
    def best(self) -> Path:
        return self.path / "best.pt"

    @property
    def metrics(self) -> Path:
        return self.path / "metrics.csv"

    @classmethod
    def create(cls, path: Path | None, stem: str, config: Mapping[str, Any]) -> Run:
        """Make a run folder, lock it and write its config.

        Args:
            path: the folder; a new numbered one under ``runs`` when None.
            stem: first part of that folder's name.
            config: the content of ``config.json``.

        Raises:
            CtnetError: when the folder already holds a run, or cannot be written.
        """
        if path is None:
            path = fresh_folder(stem)
        else:
            _make(path, exist_ok=True)
        cls(path)._refuse_a_second()
        run = cls(path, _locked(path))
        try:
            run._refuse_a_second()  # another process may have created one at the same time
            write_json(run.config, config)
        except BaseException:
            run.release()
            raise
        return run

    def _refuse_a_second(self) -> None:
        if self.config.exists():
            raise CtnetError(
                f"{self.path} already holds a run; continue it with --resume {self.path}, or choose another "
                "--output"
            )

    @classmethod
    def existing(cls, path: Path) -> Run:
        """Open a run folder.

        Raises:
            CtnetError: when there is no config in it.
        """
        run = cls(path)
        if not run.config.is_file():
            raise CtnetError(
                f"{path} is not a run folder (it has no config.json); start one with `ctnet train`"
            )
        return run

    def locked(self) -> Run:
        """The same run, locked for this process until ``release``.

        Raises:
            CtnetError: when another process is training it.
        """
        return replace(self, lock=_locked(self.path))

    def release(self) -> None:
        """Release the lock."""
        if self.lock is not None:
            self.lock.release()

    def discard(self) -> None:
        """Undo ``create`` for a run that could not start: remove its config, and the folder if empty."""
        self.config.unlink(missing_ok=True)
        self.recipe.unlink(missing_ok=True)
        (self.path / LOCK_NAME).unlink(missing_ok=True)
        self.release()
        with suppress(OSError):
            self.path.rmdir()

    def remove_leftovers(self) -> None:
        """Delete partial files of a killed process."""
        for part in self.path.glob(".*.part"):
            part.unlink(missing_ok=True)

    def read_config(self) -> Any:
        """The content of config.json, unchecked."""
        return read_json(self.config)

    def write_recipe(self, recipe: Recipe) -> None:
        """Write recipe.toml, for ``ctnet train --recipe``."""
        with atomic_write(self.recipe, "w") as stream:
            stream.write(recipe_toml(recipe))

    def write_metrics(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Write metrics.csv: one row per epoch, with the columns of all rows."""
        names = list(dict.fromkeys(name for row in rows for name in row))
        text = io.StringIO()
        writer = csv.DictWriter(text, names, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
        with atomic_write(self.metrics, "w") as stream:
            stream.write(text.getvalue())

    def read_metrics(self) -> list[dict[str, float]]:
        """The rows of metrics.csv: the values of each epoch by column, without the empty ones.

        Raises:
            CtnetError: when there is none, or it holds anything but numbers.
        """
        reader = csv.DictReader(io.StringIO(read_text(self.metrics)))
        try:
            return [{name: float(text) for name, text in row.items() if text} for row in reader]
        except (TypeError, ValueError, csv.Error) as error:
            raise CtnetError(
                f"{self.metrics} is damaged: line {reader.line_num} has something else than one number per "
                f"column; `ctnet train --resume {self.path}` writes it again"
            ) from error


def names_run(path: Path) -> bool:
    """Whether a path is that of a run folder, a checkpoint or an exported file, and not of images."""
    if path.is_dir():
        return any((path / name).is_file() for name in ("config.json", "best.pt", "last.pt"))
    if path.suffix in _NETWORKS:
        return True
    try:
        with path.open("rb") as stream:
            return stream.read(len(_ZIP)) == _ZIP
    except OSError:
        return False


def latest_run(folder: Path = RUNS) -> Path:
    """The run folder with the newest checkpoint.

    Raises:
        CtnetError: when there is none.
    """
    files = [file for file in folder.glob("*/*.pt") if (file.parent / "config.json").is_file()]
    if not files:
        raise CtnetError(
            f"there is no run with a checkpoint in {folder.absolute()}; name a run folder or a checkpoint"
        )
    return max(files, key=lambda file: file.stat().st_mtime_ns).parent


def fresh_folder(stem: str) -> Path:
    """Make the folder with the first free number, safely for concurrent processes."""
    for number in count(1):
        with suppress(FileExistsError):
            _make(path := RUNS / f"{stem}-{number}", exist_ok=False)
            return path
    raise AssertionError


def _make(path: Path, exist_ok: bool) -> None:
    try:
        path.mkdir(parents=True, exist_ok=exist_ok)
    except (OSError, ValueError) as error:
        if isinstance(error, FileExistsError) and not exist_ok:
            raise
        if isinstance(error, OSError):
            raise os_error(error, "make the folder", path) from error
        raise CtnetError(f"cannot make the folder {path}: {error}; choose another --output") from error


def _locked(path: Path) -> BaseFileLock | None:
    return lock_folder(path, f"{path} is being trained by another process; wait for it, or stop it first")
