"""What clients of a release rely on in the API, taken from its OpenAPI document.

    python -m tests.support.released docs/reference/openapi.json > tests/contract/golden/api/released.json

is run when a release is cut, never to make a change pass.
"""

import json
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

METHODS = ("get", "put", "post", "patch", "delete")
Shape = dict[str, dict[str, list[str]]]


def promises(document: Mapping[str, Any]) -> dict[str, Shape]:
    """Return of every operation its parameters, of every schema its properties: the required ones and all.

    A schema counts as a request's, a response's or both, by where it can be reached from.
    """
    schemas, made = document["components"]["schemas"], _operations(document)
    asked = {name for _, each in made for name in _named(each.get("requestBody", {}))}
    told = {name for _, each in made for name in _named(each["responses"])}
    return {
        "operations": {name: _parameters(each) for name, each in sorted(made)},
        "requests": {name: _shape(schemas[name]) for name in sorted(_reached(asked, schemas))},
        "responses": {name: _shape(schemas[name]) for name in sorted(_reached(told, schemas))},
    }


def _operations(document: Mapping[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    paths = document["paths"].items()
    return [(f"{name.upper()} {path}", each[name]) for path, each in paths for name in METHODS if name in each]


def _parameters(operation: Mapping[str, Any]) -> dict[str, list[str]]:
    found = {f"{each['in']} {each['name']}": each.get("required", False) for each in operation.get("parameters", [])}
    return {"required": sorted(name for name, needed in found.items() if needed), "all": sorted(found)}


def _shape(schema: Mapping[str, Any]) -> dict[str, list[str]]:
    return {"required": sorted(schema.get("required", [])), "all": sorted(schema.get("properties", {}))}


def _named(part: Any) -> Iterator[str]:
    """Yield the schemas that a part of the document refers to."""
    if isinstance(part, dict):
        if isinstance(part.get("$ref"), str):
            yield part["$ref"].removeprefix("#/components/schemas/")
        for each in part.values():
            yield from _named(each)
    elif isinstance(part, list):
        for each in part:
            yield from _named(each)


def _reached(names: set[str], schemas: Mapping[str, Any]) -> set[str]:
    reached: set[str] = set()
    while names:
        reached |= names
        names = {inner for name in names for inner in _named(schemas[name])} - reached
    return reached


def broken(released: Mapping[str, Shape], now: Mapping[str, Shape]) -> list[str]:
    """Say in sentences what of a release's promises holds no more."""
    return [
        f"{kind}: {name} {why}"
        for kind in ("operations", "requests", "responses")
        for name, before in released[kind].items()
        for why in _broken(kind, before, _found(name, now[kind]))
    ]


def _found(name: str, shapes: Shape) -> dict[str, list[str]] | None:
    """Find a schema, also where it has been parted into what is taken and what is given."""
    base = name.removesuffix("-Input").removesuffix("-Output")
    return next((shapes[each] for each in (name, base, f"{base}-Input", f"{base}-Output") if each in shapes), None)


def _broken(kind: str, before: Mapping[str, list[str]], after: Mapping[str, list[str]] | None) -> Iterator[str]:
    if after is None:
        yield "is gone"
        return
    sender = "a control plane of the release does not say it" if kind == "responses" else "clients do not send it"
    reader = "clients read it" if kind == "responses" else "clients send it"
    for name in sorted(set(after["required"]) - set(before["required"])):
        yield f"requires {name} now: {sender}"
    for name in sorted(set(before["all"]) - set(after["all"])):
        yield f"has no {name} any more: {reader}"


if __name__ == "__main__":
    print(json.dumps(promises(json.loads(Path(sys.argv[1]).read_text())), indent=1, sort_keys=True))
