"""One text file per frame, in a folder or in a zip."""

from __future__ import annotations

import zipfile
from collections.abc import Iterable, Sequence
from os.path import exists  # unlike Path's, False for a name that is too long
from pathlib import Path, PurePosixPath

from ctnet.plugin import CtnetError, os_error, read_text, require_regular

#: Largest file of a frame, bytes; a zip of a few kilobytes can unpack to terabytes.
_LARGEST = 1 << 26


class FrameFiles:
    """The files ``NNNNNN.txt`` of a folder or a zip; ``frame in files`` is whether a frame has one.

    If no text file has a number as its name, frames have other names.

    Attributes:
        source: the folder or zip.
        names: the frames, in ascending order: file names without suffix.
    """

    def __init__(self, source: str | Path, folders: Sequence[str] = ()) -> None:
        """Find the files.

        Args:
            source: a folder, or a zip with the files in any one folder.
            folders: subfolders of ``source`` to search if there are no files at its top: the first of these
                that has any ("data" for results; "label_2" or "training/label_2" for labels).

        Raises:
            CtnetError: when there are none, or when a zip has files in several folders but none of those
                named.
        """
        self.source = Path(source)
        self._archive = None
        if self.source.is_dir():
            paths = [path for folder in (".", *folders) for path in (self.source / folder).glob("*.txt")]
            members = [path.relative_to(self.source).as_posix() for path in paths]
        else:
            self._archive = _open_archive(self.source)
            members = self._archive.namelist()
        self._members = _of_one_folder(members, self.source, folders)
        self.names = tuple(sorted(self._members))

    @classmethod
    def first_of(cls, places: Iterable[Path], folders: Sequence[str], otherwise: str) -> FrameFiles:
        """The files in the first existing place; if none exists, a CtnetError says ``otherwise``."""
        for place in places:
            if exists(place):
                return cls(place, folders)
        raise CtnetError(otherwise)

    def __contains__(self, name: object) -> bool:
        return name in self._members

    def where(self, name: str) -> str:
        """The file of a frame, for messages."""
        return f"{self.source}/{self._members[name]}"

    def read(self, name: str) -> str:
        """The text of a frame's file.

        Raises:
            CtnetError: when it cannot be read or is not text.
        """
        member = self._members[name]
        try:
            if self._archive is None:
                return read_text(self.source / member)
            if self._archive.getinfo(member).file_size > _LARGEST:
                raise CtnetError(f"{self.where(name)} has more than {_LARGEST} bytes: not a frame's file")
            return self._archive.read(member).decode("utf-8-sig")
        except OSError as error:
            raise os_error(error, "read", self.where(name)) from error
        except (zipfile.BadZipFile, NotImplementedError, RuntimeError) as error:  # damaged, or encrypted
            raise CtnetError(f"cannot read {self.where(name)}: {error}") from error
        except UnicodeDecodeError as error:
            raise CtnetError(f"{self.where(name)} is not a text file in UTF-8 ({error})") from error


def _open_archive(source: Path) -> zipfile.ZipFile:
    require_regular(source)
    try:
        return zipfile.ZipFile(source)
    except OSError as error:
        raise os_error(error, "read", source) from error
    except zipfile.BadZipFile as error:
        raise CtnetError(f"{source} is neither a folder nor a zip ({error}); was it cut short?") from error


def _of_one_folder(members: Iterable[str], source: Path, folders: Sequence[str]) -> dict[str, str]:
    """Frame -> file: of those at the top, else in the first of ``folders``, else in the only folder."""
    paths = {path: member for member in members if (path := PurePosixPath(member)).suffix == ".txt"}
    # The benchmark's frames have numbers, so a readme next to them is not one; custom data may have names.
    numbered = {path: member for path, member in paths.items() if path.stem.isdecimal()}
    found: dict[str, dict[str, str]] = {}
    for path, member in (numbered or paths).items():
        found.setdefault(str(path.parent), {})[path.stem] = member
    for folder in (".", *folders):
        for parent, files in found.items():
            if parent == folder or parent.endswith(f"/{folder}"):
                return files
    if not found:
        places = "".join(f" nor in {folder}" for folder in folders)
        raise CtnetError(
            f"{source} has no text files, one per frame (000001.txt), neither at its top{places}"
        )
    if len(found) > 1:
        several = ", ".join(sorted(found))
        raise CtnetError(f"{source} has frames in several folders ({several}); make a zip of one of them")
    return next(iter(found.values()))
