"""The run folder: config, figures, checkpoints."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ctnet.base.errors import CtnetError, os_error
from ctnet.base.files import atomic_write, read_json, write_json

RUNS = Path("runs")


@dataclass(frozen=True)
class Run:
    """One training's folder.

    Attributes:
        path: the folder.
    """

    path: Path

    @property
    def config(self) -> Path:
        return self.path / "config.json"

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
        """Make a run folder and write its config.

        Args:
            path: where; a fresh numbered folder under ``runs`` when None.
            stem: first part of that folder's name.
            config: what ``config.json`` shall hold.

        Raises:
            CtnetError: when the folder holds a run already, or cannot be written.
        """
        path = path or _fresh(stem)
        run = cls(path)
        if run.config.exists():
            raise CtnetError(
                f"{path} holds a run already; continue it with --resume {path}, or choose another --output"
            )
        try:
            path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise os_error(error, "make the folder", path) from error
        write_json(run.config, config)
        return run

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

    def discard(self) -> None:
        """Undo ``create`` for a run that could not begin: remove its config, and an empty folder."""
        self.config.unlink(missing_ok=True)
        with suppress(OSError):
            self.path.rmdir()

    def remove_leftovers(self) -> None:
        """Delete the half-written files that a kill left behind."""
        for part in self.path.glob(".*.part"):
            part.unlink(missing_ok=True)

    def read_config(self) -> dict[str, Any]:
        """The content of config.json."""
        return dict(read_json(self.config))

    def write_metrics(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Write metrics.csv whole: one row per epoch, a column for every name that any row has."""
        names = list(dict.fromkeys(name for row in rows for name in row))
        text = io.StringIO()
        writer = csv.DictWriter(text, names, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
        with atomic_write(self.metrics, "w") as stream:
            stream.write(text.getvalue())


def latest_run(folder: Path = RUNS) -> Path:
    """The run folder whose checkpoint is newest.

    Raises:
        CtnetError: when there is none.
    """
    files = [file for file in folder.glob("*/*.pt") if (file.parent / "config.json").is_file()]
    if not files:
        raise CtnetError(
            f"there is no run with a checkpoint in {folder.absolute()}; name a run folder or a checkpoint"
        )
    return max(files, key=lambda file: file.stat().st_mtime_ns).parent


def _fresh(stem: str) -> Path:
    number = 1
    while (RUNS / f"{stem}-{number}").exists():
        number += 1
    return RUNS / f"{stem}-{number}"
