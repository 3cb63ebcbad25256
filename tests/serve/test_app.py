"""Requests and answers without sockets: a bad one gets its status and one line, and the service lives on."""

from __future__ import annotations

import asyncio
import io
import json
import logging
import threading
from collections import Counter
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

import cv2
import numpy as np
import pytest
from PIL import Image

from ctnet.base.errors import CtnetError
from ctnet.core.operating import Calibration, CalibrationCurve, OperatingPoint, OperatingPoints
from ctnet.inference import DetectionSettings, Detector
from ctnet.serve.lines import json_bytes

pytestmark = pytest.mark.serve

Call = Callable[..., Awaitable[Any]]


def play(scenario: Coroutine[Any, Any, None]) -> None:
    asyncio.run(asyncio.wait_for(scenario, 60))


async def lives(call: Call, data: bytes) -> None:
    """The service still answers."""
    answer = await call("POST", "/detect", data)
    assert answer.status == 200, answer.body
    assert call.service.batcher.taken == 0  # type: ignore[attr-defined]


# --- what is detected


@pytest.mark.parametrize("query", ["", "?score=0", "?score=0.5", "?score=1"])
def test_an_image_is_answered_as_the_detector_does(
    calling, detector: Detector, image, png, query: str
) -> None:
    async def scenario() -> None:
        async with calling() as call:
            answer = await call("POST", f"/detect{query}", png(90, 60))
            assert answer.status == 200
            assert answer.headers["content-type"] == "application/json"
            score = float(query.partition("=")[2]) if query else None
            (found,) = detector(image(90, 60), score=score)
            assert len(found) > 0 or query == "?score=1"
            assert answer.json == {"width": 90, "height": 60, "detections": found.to_dicts()}

    play(scenario())


@pytest.mark.parametrize("large", [{"resize": "keep"}, {"tiles": 96, "overlap": "exact"}])
def test_the_settings_of_the_service(calling, detector: Detector, image, png, large: dict[str, Any]) -> None:
    settings = DetectionSettings(flip=True, topk=7, score=0.2, clip=False, **large)

    async def scenario() -> None:
        async with calling(settings=settings) as call:
            answer = await call("POST", "/detect", png(190, 60))
            (found,) = detector(image(190, 60), settings)
            assert answer.json["detections"] == found.to_dicts()
            assert 0 < len(found) <= 7

    play(scenario())


def test_operating_points_and_calibration(calling, checkpoint_file, image, png) -> None:
    """They are the default; the page shows the thresholds on the scale of the scores that it gets."""
    served = Detector.load(checkpoint_file, "cpu")
    curve = CalibrationCurve((0.0, 1.0), (0.0, 0.5))
    point = OperatingPoint(0.6, None, None, None, 0)
    names = served.class_names
    served.operating_points = OperatingPoints(
        "f1", None, "IoU 0.5", "val", 1, dict.fromkeys(names, point), point,
        calibration=Calibration(dict.fromkeys(names, curve), curve, 0.1, 0.0, 2),
    )  # fmt: skip
    settings = DetectionSettings(calibrated=True)

    async def scenario() -> None:
        async with calling(served=served, settings=settings) as call:
            answer = await call("POST", "/detect", png(90, 60))
            (found,) = served(image(90, 60), settings)
            assert answer.json["detections"] == found.to_dicts()
            scores = [row["score"] for row in answer.json["detections"]]
            assert 0.3 < min(scores) <= max(scores) <= 0.5
            page = (await call("GET", "/")).body.decode()
            assert '"thresholds":[0.3,0.3,0.3,0.3,0.3]' in page

    play(scenario())


def test_many_at_once_share_batches_and_get_their_own_answers(
    calling, detector: Detector, image, png
) -> None:
    """Only one thread touches the network, and it is not that of the event loop."""
    threads, batches = set(), []
    found = detector.found

    def watched(views: Any, *rest: Any) -> Any:
        threads.add(threading.get_ident())
        batches.append(len(views))
        return found(views, *rest)

    async def scenario() -> None:
        async with calling(wait=0.5) as call:
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(detector, "found", watched)
                answers = await asyncio.gather(
                    *(call("POST", f"/detect?score=0.{1 + seed % 4}", png(seed=seed)) for seed in range(20))
                )
        for seed, answer in enumerate(answers):
            (alone,) = detector(image(seed=seed), score=(1 + seed % 4) / 10)
            rows = answer.json["detections"]
            assert len(rows) == len(alone)
            np.testing.assert_allclose([row["score"] for row in rows], alone.scores, atol=1e-5)
        assert len(threads) == 1
        assert threading.get_ident() not in threads
        assert max(batches) > 1
        assert sum(batches) == 20

    play(scenario())


def test_several_images_of_which_one_is_broken(calling, png, multipart) -> None:
    files = {
        "a.png": png(seed=1),
        "bad.png": png()[:-20],
        "b.jpg": png(40, 30, suffix=".jpg"),
        "t.txt": b"hello",
    }

    async def scenario() -> None:
        async with calling() as call:
            body, headers = multipart(files)
            answer = await call("POST", "/detect", [body[:100], body[100:]], headers)
            assert answer.status == 200
            images = answer.json["images"]
            assert [one["name"] for one in images] == list(files)
            assert [set(one) for one in images] == 2 * [
                {"name", "width", "height", "detections"},
                {"name", "error"},
            ]
            assert images[1]["error"].startswith("bad.png is cut short")
            assert images[3]["error"].startswith("t.txt is not an image")
            alone = await call("POST", "/detect", files["a.png"])
            assert len(images[0]["detections"]) == len(alone.json["detections"])
            assert (images[2]["width"], images[2]["height"]) == (40, 30)
            body, headers = multipart({"x": b"1", "y": b"2"})
            answer = await call("POST", "/detect", body, headers)
            assert answer.status == 400
            assert answer.error.startswith("none of 2 images could be read: x is not an image")
            await lives(call, png())

    play(scenario())


@pytest.mark.parametrize(
    ("query", "accept", "kind"),
    [
        ("?draw=png", "*/*", "image/png"),
        ("?draw=jpeg", "application/json", "image/jpeg"),
        ("", "image/png", "image/png"),
        ("", "image/jpeg", "image/jpeg"),
    ],
)
def test_the_drawn_picture(calling, detector: Detector, image, png, multipart, query, accept, kind) -> None:
    async def scenario() -> None:
        async with calling() as call:
            answer = await call("POST", f"/detect{query}", png(90, 60), {"accept": accept})
            assert answer.status == 200
            assert answer.headers["content-type"] == kind
            drawn = np.asarray(Image.open(io.BytesIO(answer.body)).convert("RGB"))
            (found,) = detector(image(90, 60))
            expected = found.draw(image(90, 60))
            if kind == "image/png":
                np.testing.assert_array_equal(drawn, expected)
            assert drawn.shape == expected.shape
            body, headers = multipart({"a": png(), "b": png()})
            answer = await call("POST", f"/detect{query}", body, {**headers, "accept": accept})
            assert (answer.status, answer.error) == (
                400,
                "a picture is drawn of one image, not of 2; send them one by one",
            )
            body, headers = multipart({"a": png()})
            answer = await call("POST", f"/detect{query}", body, {**headers, "accept": accept})
            assert answer.headers["content-type"] == kind

    play(scenario())


# --- what is refused

BAD = {
    "empty": (b"", 400, "there is no image in the request"),
    "text": (b"hello", 400, "the body is not an image; send"),
    "tiff": (b"II*\0\x08\0\0\0", 400, "the body is TIFF, which is not accepted"),
}


@pytest.mark.parametrize("name", BAD)
def test_bodies_that_are_not_images(calling, png, name: str) -> None:
    body, status, said = BAD[name]

    async def scenario() -> None:
        async with calling() as call:
            answer = await call("POST", "/detect", body)
            assert answer.status == status
            assert answer.error.startswith(said)
            assert "connection" not in answer.headers  # the body was read
            await lives(call, png())

    play(scenario())


@pytest.mark.parametrize(
    ("query", "said"),
    [
        ("score=2", "score is '2'; it must be a number from 0 to 1"),
        ("score=-0.1", "score is '-0.1'; it must be"),
        ("score=nan", "score is 'nan'; it must be"),
        ("score=", "score is ''; it must be"),
        ("score=0.1&score=0.2", "score is given twice; leave one of them out"),
        ("draw=gif", "draw is 'gif'; it must be png or jpeg"),
        ("scor=0.1", "there is no query parameter called 'scor'; did you mean score?"),
        ("url=http://example.org/a.png", "there is no query parameter called 'url'; known: draw, score"),
        ("file=/etc/passwd", "there is no query parameter called 'file'; known: draw, score"),
    ],
)
def test_wrong_parameters(calling, png, query: str, said: str) -> None:
    async def scenario() -> None:
        async with calling() as call:
            answer = await call("POST", f"/detect?{query}", png())
            assert answer.status == 400
            assert answer.error.startswith(said)
            await lives(call, png())

    play(scenario())


@pytest.mark.parametrize(
    ("method", "path", "status", "said"),
    [
        ("GET", "/detect", 405, "GET is not for this path; use POST"),
        ("DELETE", "/health", 405, "DELETE is not for this path; use "),
        ("GET", "/nothing", 404, "there is nothing at this path; see /openapi.json"),
        ("POST", "/detect/", 404, "there is nothing at this path"),
        ("GET", "/../../etc/passwd", 404, "there is nothing at this path"),
    ],
)
def test_wrong_paths_and_methods(calling, png, method: str, path: str, status: int, said: str) -> None:
    async def scenario() -> None:
        async with calling() as call:
            answer = await call(method, path, png())
            assert answer.status == status
            assert answer.error.startswith(said)
            if status == 405:
                assert answer.headers["allow"]
            await lives(call, png())

    play(scenario())


def test_bodies_that_are_too_large(calling, png) -> None:
    said = "the body is larger than the 20000 bytes that this service takes; send less"

    async def scenario() -> None:
        async with calling(body_bytes=20_000) as call:
            announced = await call("POST", "/detect", [b"x"], {"content-length": "20001"}, arriving=True)
            pieces = await call("POST", "/detect", [b"x" * 9000] * 4)
            for answer in (announced, pieces):
                assert (answer.status, answer.error) == (413, said)
                assert answer.headers["connection"] == "close"
            await lives(call, png())

    play(scenario())


def test_too_many_pixels(calling, png, multipart) -> None:
    async def scenario() -> None:
        async with calling(pixels=5000) as call:
            answer = await call("POST", "/detect", png(101, 50))
            assert answer.status == 413
            assert answer.error.startswith("the body has 101x50 pixels; this service takes 5000 at most")
            body, headers = multipart({"large": png(101, 50), "small": png()})
            images = (await call("POST", "/detect", body, headers)).json["images"]
            assert "101x50" in images[0]["error"]
            assert "detections" in images[1]
            await lives(call, png())

    play(scenario())


def test_an_image_that_does_not_fit_the_settings(calling, png) -> None:
    async def scenario() -> None:
        async with calling(settings=DetectionSettings(scales=(16.0,), resize="keep")) as call:
            answer = await call("POST", "/detect", png(3000, 20))
            assert answer.status == 422
            assert answer.error.startswith("the body of 3000x20 pixels at scale 16 has a side above")
            await lives(call, png(8, 8))

    play(scenario())


def test_slow_clients(calling, png) -> None:
    async def scenario() -> None:
        async with calling(seconds=0.2, places=1) as call:
            slow = asyncio.create_task(call("POST", "/detect", [png()[:50]], arriving=False))
            await asyncio.sleep(0.05)
            busy = await call("POST", "/detect", png())
            assert busy.status == 429
            answer = await slow
            assert (answer.status, answer.headers["connection"]) == (408, "close")
            assert answer.error == "the body did not arrive within 0.2 s; send it faster"
            await lives(call, png())

    play(scenario())


def test_an_answer_that_is_not_read_holds_its_place_for_a_while(calling, png) -> None:
    async def scenario() -> None:
        async with calling(seconds=0.3, places=1) as call:
            unread = asyncio.create_task(call("POST", "/detect", png(), reads=False))
            while not call.service.metrics._images["detected"]:
                await asyncio.sleep(0.01)
            assert call.service.batcher.taken == 1
            assert (await call("POST", "/detect", png())).status == 429
            assert (await unread).body == b""
            await lives(call, png())

    play(scenario())


def test_a_large_answer_is_sent_in_pieces(calling, image) -> None:
    """So that what is not read yet waits in one place, and not in the connection."""
    data = cv2.imencode(".png", image(300, 300)[:, :, ::-1])[1].tobytes()

    async def scenario() -> None:
        async with calling() as call:
            answer = await call("POST", "/detect?draw=png", data)
            assert len(answer.body) == int(answer.headers["content-length"]) > 1 << 17
            assert cv2.imdecode(np.frombuffer(answer.body, np.uint8), 1).shape == (300, 300, 3)

    play(scenario())


def test_clients_that_leave(calling, detector: Detector, png, monkeypatch: pytest.MonkeyPatch) -> None:
    """What they sent is not detected in, and the places are free again."""
    entered, go, worked = threading.Event(), threading.Event(), []

    def slowly(views: Any, *rest: Any) -> Any:
        worked.append(len(views))
        entered.set()
        assert go.wait(20)
        return found(views, *rest)

    found = detector.found
    monkeypatch.setattr(detector, "found", slowly)

    async def scenario() -> None:
        async with calling(batch_size=1) as call:
            first = asyncio.create_task(call("POST", "/detect", png()))
            while not entered.is_set():
                await asyncio.sleep(0.01)
            gone = asyncio.Event()
            others = [asyncio.create_task(call("POST", "/detect", png(), gone=gone)) for _ in range(3)]
            while len(call.service.batcher._waiting) < 3:
                await asyncio.sleep(0.01)
            gone.set()
            assert [(await other).status for other in others] == [0, 0, 0]
            assert call.service.batcher.taken == 1
            go.set()
            assert (await first).status == 200
            await lives(call, png())
            assert worked == [1, 1]
            text = (await call("GET", "/metrics")).body.decode()
            assert 'ctnet_requests_total{path="/detect",status="gone"} 3' in text

    play(scenario())


@pytest.mark.thorough
def test_a_thousand_at_once(calling, png) -> None:
    """Each is answered or told when to come again; then all is as before."""
    data = png()

    async def scenario() -> None:
        async with calling(places=20) as call:
            answers = await asyncio.gather(*(call("POST", "/detect", data) for _ in range(1000)))
            statuses = Counter(answer.status for answer in answers)
            assert set(statuses) == {200, 429}
            assert statuses[200] >= 20
            for answer in answers:
                if answer.status == 429:
                    assert answer.error.startswith("all 20 places for images are taken; try again in ")
                    assert int(answer.headers["retry-after"]) >= 1
            await lives(call, data)

    play(scenario())


def test_several_images_need_a_place_each(calling, png, multipart) -> None:
    async def scenario() -> None:
        async with calling(places=3) as call:
            body, headers = multipart({f"{number}": png() for number in range(3)})
            assert (await call("POST", "/detect", body, headers)).status == 200
            with call.service.batcher.places():
                assert (await call("POST", "/detect", body, headers)).status == 429
            body, headers = multipart({f"{number}": png() for number in range(4)})
            answer = await call("POST", "/detect", body, headers)
            assert (answer.status, answer.error) == (
                413,
                "there are more than 3 images in the request; send fewer",
            )
            await lives(call, png())

    play(scenario())


@pytest.mark.parametrize(
    ("error", "status", "said"),
    [
        (CtnetError("the weights are damaged"), 500, "the weights are damaged"),
        (MemoryError(), 503, "there is not enough memory for this image now"),
        (ZeroDivisionError("a secret"), 500, "the service made a mistake; see its log"),
    ],
)
def test_a_network_that_fails_for_one_image(
    calling, detector: Detector, png, monkeypatch: pytest.MonkeyPatch, caplog, error, status: int, said: str
) -> None:
    found = detector.found

    def fail(views: Any, *rest: Any) -> Any:
        if any(one[0].info.width == 13 for one in views):
            raise error
        return found(views, *rest)

    monkeypatch.setattr(detector, "found", fail)

    async def scenario() -> None:
        async with calling(wait=1.0) as call:
            good, bad, other = await asyncio.gather(
                *(call("POST", "/detect", png(width, 20)) for width in (12, 13, 14))
            )
            assert (good.status, bad.status, other.status) == (200, status, 200)
            assert bad.error.startswith(said)
            await lives(call, png())

    with caplog.at_level(logging.ERROR, "ctnet"):
        play(scenario())
    logged = [record for record in caplog.records if record.name == "ctnet"]
    assert len(logged) == isinstance(error, ZeroDivisionError)  # a bug is logged with its traceback


# --- the token, other sites, headers


def test_the_token(calling, png) -> None:
    async def scenario() -> None:
        async with calling(token="secret-1") as call:
            for given in ({}, {"authorization": "Bearer secret-2"}, {"authorization": "secret-1"}):
                for method, path in (
                    ("POST", "/detect"),
                    ("GET", "/metrics"),
                    ("GET", "/openapi.json"),
                    ("GET", "/x"),
                ):
                    answer = await call(method, path, png(), given)
                    assert answer.status == 401
                    assert answer.headers["www-authenticate"] == "Bearer"
                    assert answer.error.startswith("the token is missing or wrong")
            right = {"authorization": "Bearer secret-1"}
            assert (await call("POST", "/detect", png(), right)).status == 200
            assert (await call("GET", "/metrics", headers=right)).status == 200
            assert (await call("GET", "/health")).json == {"status": "ok"}
            page = (await call("GET", "/")).body.decode()
            assert 'id="token"' in page
            assert "triangle" not in page

    play(scenario())


@pytest.mark.parametrize("token", ["", "two words", "ü", "a\nb"])
def test_tokens_that_no_header_can_hold(calling, token: str) -> None:
    async def scenario() -> None:
        async with calling(token=token):
            pass

    with pytest.raises(CtnetError, match=r"the token (is empty|has spaces)"):
        play(scenario())


def test_other_sites_cannot_use_it(calling, png) -> None:
    async def scenario() -> None:
        async with calling() as call:
            answer = await call("POST", "/detect", png(), {"sec-fetch-site": "cross-site"})
            assert answer.status == 403
            assert answer.error.startswith("another web site sent this request")
            for site in ("same-origin", "none"):
                assert (await call("POST", "/detect", png(), {"sec-fetch-site": site})).status == 200
            answer = await call("OPTIONS", "/detect", headers={"origin": "http://example.org"})
            assert answer.status == 405
            assert not [name for name in answer.headers if name.startswith("access-control")]

    play(scenario())


def test_safe_headers_on_everything(calling, png) -> None:
    async def scenario() -> None:
        async with calling() as call:
            requests = [
                ("GET", "/"),
                ("GET", "/health"),
                ("POST", "/detect"),
                ("GET", "/nothing"),
                ("PUT", "/"),
            ]
            for method, path in requests:
                headers = (await call(method, path, png())).headers
                assert headers["x-content-type-options"] == "nosniff"
                assert headers["x-frame-options"] == "DENY"
                assert headers["referrer-policy"] == "no-referrer"
                assert headers["cache-control"] == "no-store"
                assert "default-src 'none'" in headers["content-security-policy"]
                assert "access-control-allow-origin" not in headers
            assert "unsafe" not in (await call("GET", "/")).headers["content-security-policy"]

    play(scenario())


# --- metrics


def test_metrics(calling, png, multipart) -> None:
    async def scenario() -> None:
        async with calling() as call:
            found = (await call("POST", "/detect?score=0", png())).json["detections"]
            await call("POST", "/detect", b"hello")
            await call("GET", "/a/b")
            answer = await call("GET", "/metrics")
            assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
            lines = answer.body.decode().splitlines()
            samples = dict(line.rsplit(" ", 1) for line in lines if not line.startswith("#"))
            assert samples['ctnet_requests_total{path="/detect",status="200"}'] == "1"
            assert samples['ctnet_requests_total{path="/detect",status="400"}'] == "1"
            assert samples['ctnet_requests_total{path="other",status="404"}'] == "1"
            assert samples['ctnet_images_total{outcome="detected"}'] == "1"
            assert samples['ctnet_images_total{outcome="refused"}'] == "1"
            assert int(samples["ctnet_detections_total"]) == len(found) > 0
            assert samples['ctnet_batch_images_bucket{le="1"}'] == samples["ctnet_batch_images_count"] == "1"
            assert samples['ctnet_request_seconds_bucket{le="+Inf"}'] == "3"
            assert samples["ctnet_queue_images"] == "0"
            assert int(samples["process_resident_memory_bytes"]) > 1e7
            named = [line.split()[2] for line in lines if line.startswith("# TYPE")]
            helped = [line.split()[2] for line in lines if line.startswith("# HELP")]
            assert named == helped
            assert all(any(sample.startswith(name) for name in named) for sample in samples)

    play(scenario())


def test_a_name_with_markup_is_text_in_the_page(calling, detector: Detector, monkeypatch) -> None:
    evil = "</script><b>'\"&"
    names = (evil, *detector.class_names[1:])
    monkeypatch.setattr(type(detector), "class_names", names)

    async def scenario() -> None:
        async with calling() as call:
            page = (await call("GET", "/")).body.decode()
            assert evil not in page
            assert "&lt;/script&gt;&lt;b&gt;" in page

    play(scenario())


def test_numbers_that_json_lacks_become_null() -> None:
    assert json.loads(json_bytes({"a": [float("nan"), 1.5], "b": float("inf")})) == {
        "a": [None, 1.5],
        "b": None,
    }
