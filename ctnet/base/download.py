"""Files from the web, kept in the cache: checked, and continued where a download was cut short."""

from __future__ import annotations

import hashlib
import http.client
import os
import re
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast
from urllib.parse import unquote, urlsplit

from ctnet.base.cache import cache_folder
from ctnet.base.errors import CtnetError, os_error
from ctnet.base.files import read_json, write_json
from ctnet.base.lock import lock_folder
from ctnet.base.output import print_note
from ctnet.base.progress import track

_SCHEMES = ("http", "https")
_THIS_MACHINE = ("localhost", "127.0.0.1", "::1")
_SECONDS = 30.0
_CHUNK = 1 << 20
_DIGEST = re.compile(r"sha256=([0-9a-f]{64})", re.IGNORECASE)


def is_address(text: str) -> bool:
    """Whether a text is the address of a file on the web, not a path."""
    return text.partition("://")[0].lower() in _SCHEMES and "://" in text


@dataclass(frozen=True)
class Download:
    """A file on the web, and where it is kept.

    Attributes:
        address: without its digest.
        digest: SHA-256 of the file, hexadecimal, if it is known.
        folder: its own folder in the cache.
    """

    address: str
    digest: str | None
    folder: Path

    @classmethod
    def of(cls, text: str) -> Download:
        """From an address that may end in ``#sha256=`` and the digest of the file.

        Raises:
            CtnetError: for anything else.
        """
        address, _, fragment = text.partition("#")
        match = _DIGEST.fullmatch(fragment)
        if fragment and match is None:
            raise CtnetError(f"{text}: what follows # must be sha256= and 64 hexadecimal digits")
        if not is_address(text) or not urlsplit(address).hostname:
            raise CtnetError(f"{text} is not an address of the web; write https://host/file.pt")
        if _is_open_to_change(address) and match is None:
            raise CtnetError(
                f"{text} can be changed on its way; use https, or add #sha256= and the digest of the file"
            )
        try:
            cache = cache_folder()
        except RuntimeError as error:
            raise CtnetError("there is no home folder to keep downloads in; set CTNET_CACHE") from error
        own = hashlib.sha256(address.encode()).hexdigest()[:16]
        return cls(address, match[1].lower() if match else None, cache / "downloads" / own)

    @property
    def name(self) -> str:
        """The last part of the address."""
        return unquote(urlsplit(self.address).path.rpartition("/")[2]).replace(os.sep, "_") or "file"

    @property
    def path(self) -> Path:
        """Where the whole file is."""
        return self.folder / self.name

    @property
    def _part(self) -> Path:
        return self.folder / f"{self.name}.part"

    @property
    def _about(self) -> Path:
        """The version of the file that the part is of."""
        return self.folder / f"{self.name}.part.json"

    def get(self) -> Path:
        """The file: from the cache, or downloaded now; several processes may ask for it at once.

        Raises:
            CtnetError: when it cannot be downloaded, or has another digest.
        """
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise os_error(error, "create", self.folder) from error
        busy = f"another process has been downloading {self.address} for long; wait for it"
        lock = lock_folder(self.folder, busy, seconds=3600.0)
        try:
            if not self.path.is_file():
                self._complete()
                if self.digest is None:
                    found = _digest(self.path)
                    print_note(f"add #sha256={found} to the address of {self.name} to have it checked")
            else:
                self._check(self.path)
            return self.path
        finally:
            if lock is not None:
                lock.release()

    def _complete(self) -> None:
        """Download what is missing."""
        try:
            with self._opened() as answer:
                start, total = self._starts(answer), answer.length
                with self._part.open("ab" if start else "wb") as file:
                    if not start:
                        write_json(self._about, {"version": _version(answer)})
                    chunks = -(-total // _CHUNK) if total is not None else None
                    for chunk in track(_chunks(answer), f"downloading {self.name}", chunks, unit="MB"):
                        file.write(chunk)
                    file.flush()
                    os.fsync(file.fileno())
        except urllib.error.HTTPError as error:
            raise CtnetError(
                f"cannot download {self.address}: the server says {error.code} {error.reason}"
            ) from error
        except (urllib.error.URLError, http.client.HTTPException, TimeoutError, ConnectionError) as error:
            raise self._cut_short(getattr(error, "reason", None) or error) from error
        except OSError as error:
            raise os_error(error, "write", self._part) from error
        size = self._part.stat().st_size
        if total is not None and size < start + total:
            raise self._cut_short(f"it ended after {size} of {start + total} bytes")
        self._check(self._part)
        try:
            os.replace(self._part, self.path)
            self._about.unlink(missing_ok=True)
        except OSError as error:
            raise os_error(error, "write", self.path) from error

    def _opened(self) -> http.client.HTTPResponse:
        """The server's answer: the rest of the file where a part is there, else all of it."""
        request = urllib.request.Request(self.address, headers={"User-Agent": "ctnet"})
        done = self._part.stat().st_size if self._part.is_file() else 0
        version = self._known_version() if done else None
        if version:
            request.add_header("Range", f"bytes={done}-")
            request.add_header("If-Range", version)
        try:
            opener = urllib.request.build_opener(_Redirects(self))
            return cast(http.client.HTTPResponse, opener.open(request, timeout=_SECONDS))
        except urllib.error.HTTPError as error:
            if error.code != http.HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE or not done:
                raise
        # The part is as long as the file, or longer: it is not trusted.
        self._part.unlink()
        return self._opened()

    def _known_version(self) -> str | None:
        try:
            about: Any = read_json(self._about)
        except CtnetError:
            return None
        version = about.get("version") if isinstance(about, dict) else None
        return version if isinstance(version, str) else None

    def _starts(self, answer: http.client.HTTPResponse) -> int:
        """The first byte of the answer: 0 where the server sends the whole file."""
        if answer.status != http.HTTPStatus.PARTIAL_CONTENT:
            return 0
        first = re.match(r"bytes (\d+)-", answer.headers.get("Content-Range", ""))
        done = self._part.stat().st_size
        if first is None or int(first[1]) != done:
            self._part.unlink()
            raise CtnetError(f"{self.address}: the server does not continue at byte {done}; try again")
        return done

    def _check(self, file: Path) -> None:
        """Remove the file if its digest is another one."""
        if self.digest is None:
            return
        found = _digest(file)
        if found != self.digest:
            file.unlink()
            raise CtnetError(
                f"{self.address} has the SHA-256 {found}, not {self.digest}; it was changed or damaged on "
                "its way, and is not used"
            )

    def _cut_short(self, reason: object) -> CtnetError:
        kept = self._part.stat().st_size if self._part.is_file() else 0
        more = f"; {kept / 1e6:.1f} MB are kept, run it again to go on" if kept else ""
        return CtnetError(f"cannot download {self.address}: {reason}{more}")


class _Redirects(urllib.request.HTTPRedirectHandler):
    """Follows a server to another address, if what comes from there can be trusted as much."""

    def __init__(self, download: Download) -> None:
        self._download = download

    def redirect_request(self, *arguments: Any) -> urllib.request.Request | None:
        address = str(arguments[-1])
        if self._download.digest is None and _is_open_to_change(address):
            raise CtnetError(
                f"{self._download.address} leads to {address}, which can be changed on its way; add #sha256= "
                "and the digest of the file"
            )
        return super().redirect_request(*arguments)


def _is_open_to_change(address: str) -> bool:
    """Whether others could change what comes from an address: it has no encryption, and crosses a network."""
    parts = urlsplit(address)
    return parts.scheme.lower() == "http" and parts.hostname not in _THIS_MACHINE


def _version(answer: http.client.HTTPResponse) -> str | None:
    """What identifies this version of the file for the server; a weak tag does not."""
    tag = answer.headers.get("ETag")
    return tag if tag and not tag.startswith("W/") else answer.headers.get("Last-Modified")


def _chunks(answer: http.client.HTTPResponse) -> Iterator[bytes]:
    while chunk := answer.read(_CHUNK):
        yield chunk


def _digest(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()
