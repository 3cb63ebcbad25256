"""Frames of addresses: rtsp cameras, http videos and live images; a broken connection is opened again."""

from __future__ import annotations

import http.client
import re
import shutil
import socket
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Generator, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import urlsplit

import numpy as np

from ctnet.base.errors import CtnetError
from ctnet.base.numbers import whole_number
from ctnet.data.images import IMAGE_LIMIT
from ctnet.inference.videos import VIDEO_SUFFIXES, Numbered, capture_of, described

#: Seconds that a server has for an answer, and for the next frame.
TIME_OUT = 10.0

#: Seconds before each attempt to open a connection that broke; after the last the source ends.
WAITS = (1.0, 2.0, 4.0)

#: Seconds that a connection must have lasted for all attempts to be free again.
STEADY = 60.0

_PORTS = {"rtsp": 554, "rtsps": 322, "rtmp": 1935, "rtmps": 443, "http": 80, "https": 443}
_SCHEMES = (*_PORTS, "udp", "rtp", "tcp", "srt")
_ADDRESS = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+://")
#: Suffixes of addresses that play live as often as not; all other videos with a suffix are files.
_OFTEN_LIVE = (".ts", ".mts", ".m2ts", ".flv")
_PAGES = ("text/html", "application/xhtml", "application/json", "application/xml", "text/xml")


def is_address(text: str) -> bool:
    """Whether a text is an address (``rtsp://...``) rather than a file."""
    return bool(_ADDRESS.match(text))


def shown(address: str) -> str:
    """An address as it may be printed and stored: without its password."""
    return re.sub(r"(://[^/@:]*):[^@/]*@", r"\1:***@", address)


@dataclass
class Stream:
    """An address that plays.

    Attributes:
        address: as the user wrote it.
        ends: it is a video of stated length, so that its end is not a broken connection.
        length: frames, where that is known.
        rate: frames per second.
    """

    address: str
    ends: bool
    length: int | None
    rate: float
    _opened: Any = None

    def __iter__(self) -> Iterator[Numbered]:
        """Frames with their numbers; a text says that the connection broke, or ended early."""
        name, number, attempts = shown(self.address), 0, 0
        capture, self._opened = self._opened or _capture(self.address), None
        while True:
            began = time.monotonic()
            number = yield from _frames(capture, number)
            if self.ends:
                number = number or (yield from _frames_of_a_copy(self.address))
                if self.length and number < self.length:
                    yield number, f"{name} ends after {number} of {self.length} frames"
                return
            attempts = 0 if time.monotonic() - began > STEADY else attempts
            capture = None
            while capture is None:
                if attempts == len(WAITS):
                    yield (
                        number,
                        f"{name} ended after {number} frames; {attempts} attempts to open it again failed",
                    )
                    return
                time.sleep(WAITS[attempts])
                attempts += 1
                capture = _reopened(self.address)
            yield number, f"{name}: the connection broke after {number} frames, and was opened again"


def _frames(capture: Any, number: int) -> Generator[Numbered, None, int]:
    """The frames that are left of a capture, counted on from a number; returns that of the next one."""
    try:
        while (read := capture.read())[0]:
            yield number, np.ascontiguousarray(read[1][:, :, ::-1])
            number += 1
    finally:
        capture.release()
    return number


def _frames_of_a_copy(address: str) -> Generator[Numbered, None, int]:
    """Frames of a video from a temporary file; returns how many there were.

    A server that sends files from their beginning alone lets nobody read an MP4 whose index is at the end.
    """
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "film"
        try:
            _copy(address, path)
        except CtnetError as error:
            yield 0, str(error)
            return 0
        return (yield from _frames(capture_of(str(path)), 0))


def open_stream(address: str) -> Stream | bytes:
    """Connect to an address.

    Returns:
        A stream, or the bytes of a picture where the address is one of a picture.

    Raises:
        CtnetError: naming the address, when nobody answers, it answers too late, or sends no video.
    """
    scheme = urlsplit(address).scheme.lower()
    if scheme not in _SCHEMES:
        raise CtnetError(f"cannot read {shown(address)}: addresses begin with {', '.join(_SCHEMES)}")
    ends = False
    if scheme in ("http", "https"):
        answer = _asked(address)
        if isinstance(answer, bytes):
            return answer
        ends = answer
    elif scheme in _PORTS:
        _knock(address, _PORTS[scheme])
    began = time.monotonic()
    capture = _capture(address)
    if not capture.isOpened():
        raise CtnetError(f"cannot play {shown(address)}: {_no_video(scheme, time.monotonic() - began)}")
    length, rate = described(capture)
    ends = ends or (scheme in ("http", "https") and length is not None)
    return Stream(address, ends, length if ends else None, rate, capture)


def _no_video(scheme: str, seconds: float) -> str:
    """The most likely reason why an address that answers does not play."""
    if seconds >= TIME_OUT:
        said = f"no video that can be read came within {TIME_OUT:.0f} seconds"
    elif scheme in ("http", "https"):
        return (
            "what the server sends is not a video, or ends before it can be read (an MP4 with its index at "
            "the end needs all of it); download it and look"
        )
    else:
        said = "the server sends no video that can be read"
    return f"{said}; check the path, and name and password (rtsp://NAME:PASSWORD@...)"


def _capture(address: str) -> Any:
    import cv2

    milliseconds = int(1000 * TIME_OUT)
    settings = (cv2.CAP_PROP_OPEN_TIMEOUT_MSEC, milliseconds, cv2.CAP_PROP_READ_TIMEOUT_MSEC, milliseconds)
    return capture_of(address, settings)


def _reopened(address: str) -> Any:
    """A capture of an address that played before; None where it does not now."""
    capture = _capture(address)
    return capture if capture.isOpened() else None


def _knock(address: str, usual_port: int) -> None:
    """Whether a server listens: OpenCV would only say that it could not open the address."""
    try:
        parts = urlsplit(address)
        host, port = parts.hostname or "", parts.port or usual_port
        socket.create_connection((host, port), TIME_OUT).close()
    except (OSError, ValueError, UnicodeError) as error:
        raise _no_answer(address, error) from error


def _asked(address: str) -> bytes | bool:
    """The picture that an http address sends, or whether what it sends has an end.

    Raises:
        CtnetError: for no answer, an answer that is an error, and web pages.
    """
    try:
        with _opener(address).open(_request(address), timeout=TIME_OUT) as answer:
            kind = answer.headers.get_content_type()
            if kind.startswith("image/"):
                return _picture(answer)
            ends = answer.headers.get("Content-Length") is not None or _is_file(address, kind)
    except urllib.error.HTTPError as error:
        raise CtnetError(
            f"cannot read {shown(address)}: the server answers {error.code} {error.reason}"
        ) from error
    except (OSError, ValueError, UnicodeError, http.client.HTTPException) as error:
        raise _no_answer(address, error) from error
    if kind.startswith(_PAGES):
        raise CtnetError(
            f"cannot play {shown(address)}: it is a page or a document ({kind}); give the video's own address"
        )
    return ends


def _is_file(address: str, kind: str) -> bool:
    """Whether what an address sends has an end though its length is not stated: a file, not a camera."""
    suffix = PurePosixPath(urlsplit(address).path).suffix.lower()
    return not kind.startswith("multipart/") and suffix in VIDEO_SUFFIXES and suffix not in _OFTEN_LIVE


def _copy(address: str, path: Path) -> None:
    """Write what an address sends to a file.

    Raises:
        CtnetError: when the connection breaks, no length is stated, or it is half of what the disk has free.
    """
    try:
        with _opener(address).open(_request(address), timeout=TIME_OUT) as answer, open(path, "wb") as file:
            length = whole_number(answer.headers.get("Content-Length", ""))
            if length is None:
                raise CtnetError(f"cannot play {shown(address)}: no frame of it can be read")
            if length > shutil.disk_usage(path.parent).free // 2:
                raise CtnetError(
                    f"cannot play {shown(address)}: its server sends it from the beginning alone, and "
                    f"{path.parent} is too small for a copy; set TMPDIR to a larger folder"
                )
            shutil.copyfileobj(answer, file)
    except (OSError, ValueError, http.client.HTTPException) as error:
        raise _no_answer(address, error) from error


def _picture(answer: http.client.HTTPResponse) -> bytes:
    """All that a server sends, unless it never stops."""
    parts, length, until = [], 0, time.monotonic() + STEADY
    while part := answer.read1(1 << 20):
        parts.append(part)
        length += len(part)
        if length > IMAGE_LIMIT or time.monotonic() > until:
            raise OSError("the picture that it sends has no end")
    return b"".join(parts)


def _request(address: str) -> urllib.request.Request:
    return urllib.request.Request(_without_login(address), headers={"User-Agent": "ctnet"})


def _without_login(address: str) -> str:
    return re.sub(r"(://)[^/@]*@", r"\1", address)


def _opener(address: str) -> urllib.request.OpenerDirector:
    """Asks for an address, with the name and the password in it where there are any."""
    parts = urlsplit(address)
    passwords = urllib.request.HTTPPasswordMgrWithDefaultRealm()
    if parts.username:
        passwords.add_password(None, _without_login(address), parts.username, parts.password or "")
    return urllib.request.build_opener(
        urllib.request.HTTPBasicAuthHandler(passwords), urllib.request.HTTPDigestAuthHandler(passwords)
    )


def _no_answer(address: str, error: Exception) -> CtnetError:
    reason = getattr(error, "reason", error)
    if isinstance(reason, TimeoutError):
        said = f"no answer within {TIME_OUT:.0f} seconds"
    else:
        said = getattr(reason, "strerror", None) or str(reason)
    return CtnetError(f"cannot connect to {shown(address)}: {said}; check the host, the port and the network")
