"""The OpenAPI description: what a service answers is what it describes, for the fields of every task."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import pytest

from ctnet.core.documents import truth_of
from ctnet.core.fields import Choice, Length, Points, Value
from ctnet.core.records import ImageInfo
from ctnet.core.task import create_task, example_of, list_tasks, load_task_class, scenes_of
from ctnet.inference import ImageDetections
from ctnet.serve.description import describe, detection_schema, field_schema
from ctnet.serve.limits import Limits

pytestmark = pytest.mark.serve

TYPES: dict[str, Any] = {
    "object": dict,
    "array": list,
    "number": (int, float),
    "integer": int,
    "string": str,
    "boolean": bool,
    "null": type(None),
}


def mistakes(value: Any, schema: Mapping[str, Any], where: str = "") -> Iterator[str]:
    """How a value differs from a schema, in the words of JSON Schema that the description uses."""
    kinds = schema.get("type", list(TYPES))
    kinds = [kinds] if isinstance(kinds, str) else kinds
    if not any(isinstance(value, TYPES[kind]) for kind in kinds):
        yield f"{where}: {value!r} is not {kinds}"
        return
    if "enum" in schema and value not in schema["enum"]:
        yield f"{where}: {value!r} is not one of {schema['enum']}"
    if isinstance(value, (int, float)) and not schema.get("minimum", value) <= value <= schema.get(
        "maximum", value
    ):
        yield f"{where}: {value} is out of range"
    if isinstance(value, list):
        if not schema.get("minItems", 0) <= len(value) <= schema.get("maxItems", len(value)):
            yield f"{where}: {len(value)} items"
        for index, item in enumerate(value):
            yield from mistakes(item, schema.get("items", {}), f"{where}[{index}]")
    if isinstance(value, dict):
        properties = schema.get("properties", {})
        yield from (f"{where}: {key} is missing" for key in schema.get("required", ()) if key not in value)
        for key, item in value.items():
            if key not in properties:
                yield f"{where}: {key} is not described"
            else:
                yield from mistakes(item, properties[key], f"{where}.{key}")


@pytest.mark.parametrize("name", list_tasks())
def test_objects_of_every_task_are_as_described(name: str) -> None:
    cls = load_task_class(name)
    task = create_task(name, scenes_of(cls).categories)
    sample = example_of(task, np.random.default_rng(0))
    info = ImageInfo(0, "", sample.info.width, sample.info.height)
    found = ImageDetections.of(truth_of(task, sample.instances), task, info)
    rows = found.to_dicts()
    assert len(rows) > 0
    schema = detection_schema(task)
    for row in rows:
        assert list(mistakes(row, schema)) == []
    for field in task.fields.values():
        if field.json:
            assert field.json.split(".")[0] in schema["properties"]


def test_the_answer_of_a_service_is_as_described(calling, png) -> None:
    async def scenario() -> None:
        async with calling() as call:
            document = (await call("GET", "/openapi.json")).json
            assert document["openapi"] == "3.1.0"
            schemas = document["components"]["schemas"]
            image = (await call("POST", "/detect?score=0", png())).json
            assert list(mistakes(image["detections"], {"items": schemas["Detection"]})) == []
            assert set(schemas["Image"]["required"]) == set(image)
            assert len(image["detections"]) > 0
            responses = document["paths"]["/detect"]["post"]["responses"]
            assert {"200", "400", "401", "408", "413", "429"} < set(responses)
            assert "security" not in document

    asyncio.run(scenario())


def test_every_reference_leads_somewhere_and_the_token_is_described() -> None:
    task = create_task("ctdet", [{"id": 1, "name": "a"}])
    document = describe(task, Limits(), guarded=True)

    def references(value: Any) -> Iterator[str]:
        if isinstance(value, dict):
            yield from ([value["$ref"]] if "$ref" in value else [])
            value = list(value.values())
        for item in value if isinstance(value, list) else ():
            yield from references(item)

    found = set(references(document))
    assert found == {f"#/components/schemas/{name}" for name in document["components"]["schemas"]}
    assert document["security"] == [{"token": []}]
    assert document["components"]["securitySchemes"]["token"]["scheme"] == "bearer"
    assert document["paths"]["/health"]["get"]["security"] == []
    assert "security" not in document["paths"]["/detect"]["post"]


def test_schemas_of_fields() -> None:
    assert field_schema(Choice(json="a", choices=("false", "true"))) == {"type": "boolean"}
    assert field_schema(Choice(json="a", choices=("red", "green"))) == {"enum": ["red", "green"]}
    assert field_schema(Length(json="a"))["description"] == "length, px"
    size = field_schema(Value(json="a", width=3, unit="m", parts=("h", "w", "l")))
    assert (size["minItems"], size["maxItems"], size["description"]) == (3, 3, "h, w, l, m")
    points = field_schema(Points(json="a", n=2, visible="v", scores="s", names=("eye", "ear")))
    assert points["maxItems"] == 6
    assert points["description"] == "x, y, score of each point, px: eye, ear"
    task = create_task("ctdet", [{"id": 1, "name": "a"}])
    row = {"label": 0, "name": "a", "score": 2.0, "box": [1.0, 2.0, np.pi], "more": 1}
    assert len(list(mistakes(row, detection_schema(task)))) == 3
