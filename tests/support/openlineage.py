"""OpenLineage's own schemas, with which events and each of their facets are checked."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from jsonschema import Draft202012Validator, FormatChecker
from referencing import Registry, Resource

FOLDER = Path(__file__).parents[1] / "fixtures" / "openlineage"
SCHEMAS: dict[str, Any] = {
    schema["$id"]: schema for schema in (json.loads(path.read_text()) for path in sorted(FOLDER.rglob("*.json")))
}
REGISTRY: Any = Registry().with_resources([(name, Resource.from_contents(each)) for name, each in SCHEMAS.items()])


def check(event: dict[str, Any]) -> int:
    """Check an event and all its facets; return how many facets there were.

    Raises:
        ValidationError: something is not as the specification wants it.
        KeyError: a facet names a schema that is not the specification's.
    """
    _check(event["schemaURL"], event)
    facets = list(_facets(event))
    for facet in facets:
        assert facet["_schemaURL"].split("#")[0] in SCHEMAS, facet["_schemaURL"]
        _check(facet["_schemaURL"], facet)
    return len(facets)


def _check(schema: str, value: Any) -> None:
    Draft202012Validator({"$ref": schema}, registry=REGISTRY, format_checker=FormatChecker()).validate(value)


def _facets(value: Any) -> Iterator[dict[str, Any]]:
    if isinstance(value, dict):
        if "_schemaURL" in value:
            yield value
        for each in value.values():
            yield from _facets(each)
    elif isinstance(value, list):
        for each in value:
            yield from _facets(each)
