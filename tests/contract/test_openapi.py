"""The API describes itself: every operation has a name, a tag, a summary and says how it fails."""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from control_plane.kit.settings import Settings
from control_plane.main import create_app

METHODS = {"get", "put", "post", "patch", "delete"}


@pytest.fixture(scope="module")
def schema(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    home: Path = tmp_path_factory.mktemp("home")
    made: dict[str, Any] = create_app(Settings(home=home, database_url="postgresql://nobody@localhost/none")).openapi()
    return made


def operations(schema: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    for path, methods in schema["paths"].items():
        for method, operation in methods.items():
            if method in METHODS:
                yield f"{method.upper()} {path}", operation


def test_every_operation_is_described(schema: dict[str, Any]) -> None:
    found = dict(operations(schema))
    assert len(found) > 50
    for name, operation in found.items():
        assert len(operation["tags"]) == 1, name
        assert operation["operationId"], name
        assert operation["summary"], name
        assert operation.get("description"), name


def test_operation_ids_are_unique(schema: dict[str, Any]) -> None:
    ids = Counter(operation["operationId"] for _, operation in operations(schema))
    assert [name for name, times in ids.items() if times > 1] == []


def test_every_operation_says_how_it_fails(schema: dict[str, Any]) -> None:
    for name, operation in operations(schema):
        answers = operation["responses"]
        assert any(status.startswith("2") for status in answers), name
        problems = [s for s, a in answers.items() if "application/problem+json" in a.get("content", {})]
        assert problems, f"{name} names no problem"


def test_every_answer_has_a_schema(schema: dict[str, Any]) -> None:
    for name, operation in operations(schema):
        for status, answer in operation["responses"].items():
            if status.startswith("2"):
                assert answer["content"]["application/json"]["schema"], name


def test_paths_stay_within_version_one(schema: dict[str, Any]) -> None:
    assert all(path.startswith(("/api/v1/", "/device/v1/")) for path in schema["paths"])
