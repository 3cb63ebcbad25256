"""One text file a frame, in a folder or in a zip."""

from __future__ import annotations

import zipfile
from collections.abc import Iterable, Mapping
from functools import partial
from pathlib import Path, PurePosixPath

from ctnet.plugin import CtnetError, os_error
from ctnet_tasks_ddd.frame_names import is_frame

_ENOUGH = 4096  # bytes that tell what a file is


class FrameFiles:
    """The files of frames in a folder or a zip: ``NNNNNN.txt``, or of other names (see ``is_frame``).

    Attributes:
        source: the folder or zip.
        names: the frames, in ascending order: file names without suffix.
    """

    def __init__(self, source: Path, members: Mapping[str, str], archive: zipfile.ZipFile | None) -> None:
        self.source = source
        self.names = tuple(sorted(members))
        self._members = members
        self._archive = archive

    @classmethod
    def open(cls, source: str | Path, folders: Iterable[str] = ()) -> FrameFiles:
        """Find the files.

        Args:
            source: a folder, or a zip with the files in any one folder.
            folders: where the files lie in ``source`` if they do not lie at its top: the first of these that
                has any ("data" in a folder of results, say; "label_2" or "training/label_2" in labels).

        Raises:
            CtnetError: when there are none, or when a zip has some in several folders and in none of those
                named.
        """
        source, folders = Path(source), tuple(folders)
        try:
            if source.is_dir():
                return cls(source, _in_folder(source, folders), None)
            archive = zipfile.ZipFile(source)
        except OSError as error:
            raise os_error(error, "read", source) from error
        except zipfile.BadZipFile as error:
            raise CtnetError(
                f"{source} is neither a folder nor a zip ({error}); was it cut short?"
            ) from error
        return cls(source, _in_archive(archive, source, folders), archive)

    def where(self, name: str) -> str:
        """The file of a frame, for messages."""
        member = self._members[name]
        return f"{self.source}/{member}"

    def read(self, name: str) -> str:
        """The text of a frame's file.

        Raises:
            CtnetError: when it cannot be read or is no text.
        """
        member = self._members[name]
        try:
            content = (
                (self.source / member).read_bytes() if self._archive is None else self._archive.read(member)
            )
            return content.decode("utf-8-sig")
        except OSError as error:
            raise os_error(error, "read", self.where(name)) from error
        except (zipfile.BadZipFile, NotImplementedError, RuntimeError) as error:  # damaged, or encrypted
            raise CtnetError(f"cannot read {self.where(name)}: {error}") from error
        except UnicodeDecodeError as error:
            raise CtnetError(f"{self.where(name)} is not a text file in UTF-8 ({error})") from error


def _in_folder(source: Path, folders: tuple[str, ...]) -> dict[str, str]:
    for folder in (".", *folders):
        found = {
            path.stem: path.relative_to(source).as_posix()
            for path in (source / folder).glob("*.txt")
            if is_frame(path.stem, partial(_first_bytes, path))
        }
        if found:
            return found
    raise _no_files(source, folders)


def _in_archive(archive: zipfile.ZipFile, source: Path, folders: tuple[str, ...]) -> dict[str, str]:
    found: dict[str, dict[str, str]] = {}
    for member in archive.namelist():
        path = PurePosixPath(member)
        if path.suffix == ".txt" and is_frame(path.stem, partial(_first_bytes_of_member, archive, member)):
            found.setdefault(str(path.parent), {})[path.stem] = member
    if not found:
        raise _no_files(source, folders)
    if len(found) == 1:
        return next(iter(found.values()))
    for folder in (".", *folders):
        for parent, members in found.items():
            if parent == folder or parent.endswith(f"/{folder}"):
                return members
    raise CtnetError(
        f"{source} has frames in several folders ({', '.join(sorted(found))}); make a zip of one of them"
    )


def _first_bytes(path: Path) -> bytes:
    """Nothing where it cannot be read: reading it whole says why."""
    try:
        with path.open("rb") as stream:
            return stream.read(_ENOUGH)
    except OSError:
        return b""


def _first_bytes_of_member(archive: zipfile.ZipFile, member: str) -> bytes:
    try:
        with archive.open(member) as stream:
            return stream.read(_ENOUGH)
    except (OSError, zipfile.BadZipFile, NotImplementedError, RuntimeError):
        return b""


def _no_files(source: Path, folders: tuple[str, ...]) -> CtnetError:
    places = "".join(f" nor in {folder}" for folder in folders)
    return CtnetError(
        f"{source} has no files NNNNNN.txt (or of other names, with objects), one a frame, neither at its "
        f"top{places}"
    )
