"""The OpenAPI description of a service, written from the declared fields of its task."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ctnet.base.version import __version__
from ctnet.core.fields import Choice, Field, Points, Value
from ctnet.core.masks import Mask
from ctnet.core.task import Task
from ctnet.serve.images import ACCEPTED
from ctnet.serve.limits import Limits

Schema = dict[str, Any]

_NUMBER: Schema = {"type": "number"}
_NONE_OR_NUMBER: Schema = {"type": ["number", "null"]}


def describe(task: Task, limits: Limits, guarded: bool) -> Schema:
    """The OpenAPI 3.1 document of a service.

    Args:
        task: what is detected.
        limits: what the service accepts.
        guarded: whether it asks for a token.
    """
    document: Schema = {
        "openapi": "3.1.0",
        "info": {
            "title": f"ctnet serve: {task.name}",
            "version": __version__,
            "description": "Detects objects in images.",
        },
        "paths": {
            "/detect": {"post": _detect(limits)},
            "/health": {
                "get": _plain("Whether the service runs.", {"application/json": _status()}, open_=True)
            },
            "/metrics": {"get": _plain("Counts and times, for Prometheus.", {"text/plain": _text()})},
            "/openapi.json": {"get": _plain("This description.", {"application/json": {"schema": {}}})},
            "/": {"get": _plain("A page to try the service.", {"text/html": _text()}, open_=True)},
        },
        "components": {"schemas": _schemas(task)},
    }
    if guarded:
        document["components"]["securitySchemes"] = {"token": {"type": "http", "scheme": "bearer"}}
        document["security"] = [{"token": []}]
    return document


def detection_schema(task: Task) -> Schema:
    """The JSON schema of one detection.

    Args:
        task: declares the fields.
    """
    names = list(task.categories.names)
    properties: dict[str, Schema] = {
        "label": {
            "type": "integer",
            "minimum": 0,
            "maximum": len(names) - 1,
            "description": "index of the class",
        },
        "name": {"enum": names, "description": "name of the class"},
        "score": {"type": "number", "minimum": 0, "maximum": 1},
        "box": {**_numbers(4), "description": "x1, y1, x2, y2 in pixels of the image"},
    }
    required = list(properties)
    for field in task.fields.values():
        if field.json:
            _place(properties, field.json, field_schema(field))
    return {"type": "object", "properties": properties, "required": required}


def field_schema(field: Field) -> Schema:
    """The JSON schema of a field's values in results.

    Args:
        field: the declaration; of a kind that is not known here any value is allowed.
    """
    unit = f", {field.unit}" if field.unit else ""
    if isinstance(field, Points):
        third = ", score" if field.visible else ""
        names = f": {', '.join(field.names)}" if field.names else ""
        count = (3 if field.visible else 2) * (field.n or 1)
        return {**_numbers(count, _NONE_OR_NUMBER), "description": f"x, y{third} of each point{unit}{names}"}
    if isinstance(field, Choice):
        return {"type": "boolean"} if field.choices == ("false", "true") else {"enum": list(field.choices)}
    if isinstance(field, Value):
        parts = f"{', '.join(field.parts)}" if field.parts else type(field).__name__.lower()
        schema = _NUMBER if field.width is None else _numbers(field.width)
        return {**schema, "description": f"{parts}{unit}"}
    if isinstance(field, Mask):
        polygon = {"type": "array", "items": _NUMBER, "minItems": 6}
        runs = {"size": _numbers(2), "counts": {"type": "string"}}
        either = "polygons: x, y of each corner, pixels; or COCO's run-length encoding"
        return {"type": ["array", "object"], "items": polygon, "properties": runs, "description": either}
    return {}


def _place(properties: dict[str, Schema], path: str, schema: Schema) -> None:
    """Add a property at "a.b": b of a nested object a."""
    *outer, key = path.split(".")
    for part in outer:
        properties = properties.setdefault(part, {"type": "object", "properties": {}})["properties"]
    properties[key] = schema


def _numbers(count: int, of: Schema = _NUMBER) -> Schema:
    return {"type": "array", "items": of, "minItems": count, "maxItems": count}


def _schemas(task: Task) -> dict[str, Schema]:
    size: dict[str, Schema] = {
        "width": {"type": "integer", "description": "pixels"},
        "height": {"type": "integer", "description": "pixels"},
    }
    found = {"type": "array", "items": _ref("Detection"), "description": "best first"}
    name = {"name": {"type": "string", "description": "as the request calls it"}}
    image = {"type": "object", "properties": {**size, "detections": found}, "required": [*size, "detections"]}
    error = {"type": "object", "properties": {"error": {"type": "string"}}, "required": ["error"]}
    named = {"type": "object", "properties": name, "required": list(name)}
    entry = {"allOf": [named, {"anyOf": [_ref("Image"), _ref("Error")]}]}
    images = {
        "type": "object",
        "properties": {"images": {"type": "array", "items": entry}},
        "required": ["images"],
    }
    return {"Detection": detection_schema(task), "Image": image, "Images": images, "Error": error}


def _detect(limits: Limits) -> Schema:
    binary: Mapping[str, Any] = {"schema": {"type": "string", "format": "binary"}}
    several = {"type": "object", "additionalProperties": binary["schema"]}
    pictures = {"image/png": binary, "image/jpeg": binary}
    answer = {"application/json": {"schema": {"oneOf": [_ref("Image"), _ref("Images")]}}, **pictures}
    refusals = {
        "400": "Not an image, or one that is broken; a wrong parameter.",
        "401": "The token is missing or wrong.",
        "403": "Sent by another web site.",
        "408": f"The body did not arrive within {limits.seconds:g} s.",
        "413": f"More than {limits.body_bytes} bytes, {limits.pixels} pixels or {limits.places} images.",
        "422": "The image does not fit the settings of the service.",
        "429": "The queue is full; the header Retry-After says for how long.",
        "500": "The network failed, or the service did.",
        "503": "There is not enough memory now.",
    }
    return {
        "summary": "Detect objects in one image, or in several.",
        "description": f"Images are {', '.join(ACCEPTED)}. An image that is the body is answered by an "
        "Image, the parts of a multipart body by Images, in order; one of them that cannot be read has an "
        "error in its place.",
        "parameters": [
            {
                "name": "score",
                "in": "query",
                "description": "Keep detections above this score; default: the thresholds of the service.",
                "schema": {"type": "number", "minimum": 0, "maximum": 1},
            },
            {
                "name": "draw",
                "in": "query",
                "description": "Answer with the picture of one image and its detections, as does "
                "`Accept: image/png` or `image/jpeg`.",
                "schema": {"enum": ["png", "jpeg"]},
            },
        ],
        "requestBody": {
            "required": True,
            "content": {"image/*": binary, "multipart/form-data": {"schema": several}},
        },
        "responses": {
            "200": {"description": "What was detected.", "content": answer},
            **{status: _refused(text) for status, text in refusals.items()},
        },
    }


def _plain(description: str, content: Schema, open_: bool = False) -> Schema:
    found: Schema = {"responses": {"200": {"description": description, "content": content}}}
    return {**found, "security": []} if open_ else found


def _refused(text: str) -> Schema:
    return {"description": text, "content": {"application/json": {"schema": _ref("Error")}}}


def _status() -> Schema:
    return {"schema": {"type": "object", "properties": {"status": {"const": "ok"}}}}


def _text() -> Schema:
    return {"schema": {"type": "string"}}


def _ref(name: str) -> Schema:
    return {"$ref": f"#/components/schemas/{name}"}
