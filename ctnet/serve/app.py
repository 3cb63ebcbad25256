"""The routes of a service, as an ASGI application."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import ExitStack, asynccontextmanager
from dataclasses import dataclass

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from ctnet.base.errors import unknown_name
from ctnet.serve.batching import Full
from ctnet.serve.bodies import read_body, unless_gone
from ctnet.serve.description import describe
from ctnet.serve.guard import Guard
from ctnet.serve.lines import JSON, json_bytes
from ctnet.serve.metrics import CONTENT_TYPE
from ctnet.serve.page import render_service_page
from ctnet.serve.refusals import ClientGone, Refusal
from ctnet.serve.responses import Answer, NoResponse, refused
from ctnet.serve.service import Service, Wanted

#: The media types of drawn pictures, and the suffix of their files.
PICTURES = {"image/png": ".png", "image/jpeg": ".jpg"}
_DRAW = {"png": ".png", "jpeg": ".jpg"}


def create_app(service: Service, token: str | None = None) -> Guard:
    """The application of a service, which runs from its start to its shutdown.

    Args:
        service: answers.
        token: what clients must send in the header Authorization, if anything.

    Raises:
        CtnetError: for a token that no header can hold.
    """
    engine, guarded = service.engine, token is not None
    document = json_bytes(describe(engine.detector.task, service.limits, guarded))
    handlers = _Handlers(service, document, *render_service_page(engine, guarded))
    routes = {
        "/": (handlers.page, "GET"),
        "/detect": (handlers.detect, "POST"),
        "/health": (handlers.health, "GET"),
        "/metrics": (handlers.metrics, "GET"),
        "/openapi.json": (handlers.description, "GET"),
    }

    @asynccontextmanager
    async def life(_: Starlette) -> AsyncIterator[None]:
        async with service:
            yield

    app = Starlette(
        routes=[Route(path, function, methods=[method]) for path, (function, method) in routes.items()],
        exception_handlers={HTTPException: _other_path_or_method, Exception: _bug},
        lifespan=life,
    )
    app.router.redirect_slashes = False
    return Guard(app, frozenset(routes), service.metrics, token)


@dataclass
class _Handlers:
    service: Service
    document: bytes
    text_of_page: str
    policy_of_page: str

    async def detect(self, request: Request) -> Response:
        """``POST /detect``."""
        limits, unread = self.service.limits, True
        try:
            wanted = _wanted(request)
            with ExitStack() as held:
                places = held.enter_context(self.service.batcher.places())
                length = request.headers.get("content-length")
                body = await read_body(request.receive, length, limits.body_bytes, limits.seconds)
                unread = False
                kind = request.headers.get("content-type", "")
                work = self.service.answer(places, body, kind, wanted)
                content = await unless_gone(request.receive, work)
                kinds = {suffix: kind for kind, suffix in PICTURES.items()}
                release = held.pop_all().close
                return Answer(content, kinds.get(wanted.picture, JSON), limits.seconds, release)
        except Full as full:
            message = f"all {limits.places} places for images are taken; try again in {full.seconds} s"
            return refused(Refusal(429, message, {"retry-after": str(full.seconds)}), unread)
        except Refusal as refusal:
            return refused(refusal, unread)
        except ClientGone:
            return NoResponse()

    async def page(self, request: Request) -> Response:
        """``GET /``: a page that sends images to ``/detect``."""
        headers = {"content-security-policy": self.policy_of_page}
        return Response(self.text_of_page, media_type="text/html", headers=headers)

    async def health(self, request: Request) -> Response:
        """``GET /health``: whether the service runs."""
        return Response(json_bytes({"status": "ok"}), media_type=JSON)

    async def metrics(self, request: Request) -> Response:
        """``GET /metrics``, for Prometheus."""
        return Response(self.service.metrics.text(), headers={"content-type": CONTENT_TYPE})

    async def description(self, request: Request) -> Response:
        """``GET /openapi.json``."""
        return Response(self.document, media_type=JSON)


def _wanted(request: Request) -> Wanted:
    """What the query and the header Accept ask for.

    Raises:
        Refusal: for a parameter that is not known, or has another value.
    """
    given = request.query_params.multi_items()
    known: dict[str, Callable[[str], object]] = {"score": _score, "draw": _drawing}
    values: dict[str, object] = {}
    for name, text in given:
        if name not in known:
            raise Refusal(400, str(unknown_name("query parameter", name[:50], known)))
        if name in values:
            raise Refusal(400, f"{name} is given twice; leave one of them out")
        values[name] = known[name](text)
    picture = values.get("draw", PICTURES.get(request.headers.get("accept", "").strip().lower(), ""))
    score = values.get("score")
    assert isinstance(picture, str)
    assert score is None or isinstance(score, float)
    return Wanted(score, picture)


def _score(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value <= 1:  # nor NaN
        raise Refusal(400, f"score is {text[:50]!r}; it must be a number from 0 to 1")
    return value


def _drawing(text: str) -> str:
    if text not in _DRAW:
        raise Refusal(400, f"draw is {text[:50]!r}; it must be {' or '.join(_DRAW)}")
    return _DRAW[text]


async def _other_path_or_method(request: Request, error: Exception) -> Response:
    """A path that does not exist, or a method that it does not have."""
    assert isinstance(error, HTTPException)
    headers = dict(error.headers or {})
    if error.status_code == 405:
        message = f"{request.method[:20]} is not for this path; use {headers.get('Allow', 'another method')}"
    else:
        message = "there is nothing at this path; see /openapi.json"
    return refused(Refusal(error.status_code, message, headers))


async def _bug(request: Request, error: Exception) -> Response:
    """The last resort: the error itself is logged, not told."""
    return Response(json_bytes({"error": "the service made a mistake; see its log"}), 500, media_type=JSON)
