"""The wire: golden messages of every release still parse, unknown fields are ignored, schemas can be made."""

import json
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel, ValidationError

from agents.protocol import v1 as wire

GOLDEN = Path(__file__).parent / "golden" / "v1"
MESSAGES: tuple[type[BaseModel], ...] = (
    wire.EnrolRequest,
    wire.EnrolReply,
    wire.CheckIn,
    wire.CheckInReply,
    wire.TelemetryBatch,
    wire.TelemetryReply,
    wire.RecordingAnnounce,
    wire.RecordingReply,
    wire.RenewRequest,
    wire.RenewReply,
    wire.InstallReport,
    wire.ReportReply,
    wire.RecordingStatement,
    wire.ContentManifest,
    wire.ReleaseManifest,
    wire.DirectorManifest,
    wire.Envelope,
)
BY_NAME = {kind.__name__: kind for kind in MESSAGES}


def golden(name: str) -> bytes:
    return (GOLDEN / f"{name}.json").read_bytes()


def test_there_is_a_golden_message_for_every_kind() -> None:
    assert {path.stem for path in GOLDEN.glob("*.json")} == set(BY_NAME)


@pytest.mark.parametrize("name", BY_NAME)
def test_golden_messages_mean_what_they_meant(name: str) -> None:
    plain = wire.strict_json(golden(name), 1 << 20)
    message = BY_NAME[name].model_validate(plain)
    again = json.loads(message.model_dump_json(by_alias=True))
    assert kept(plain, again) == plain


def kept(plain: Any, again: Any) -> Any:
    """Return `again` without what `plain` does not have: fields may be added, none may be lost or change."""
    if isinstance(plain, dict) and isinstance(again, dict):
        return {key: kept(value, again.get(key)) for key, value in plain.items()}
    if isinstance(plain, list) and isinstance(again, list) and len(plain) == len(again):
        return [kept(a, b) for a, b in zip(plain, again, strict=True)]
    return again


@pytest.mark.parametrize("name", BY_NAME)
def test_unknown_fields_are_ignored_at_every_depth(name: str) -> None:
    plain = json.loads(golden(name))

    def grown(value: Any, kind: str) -> Any:
        if isinstance(value, dict) and kind == "message":
            return {"added_later": [1, {"a": None}]} | value
        return value

    message = BY_NAME[name].model_validate(grown(plain, "message"))
    assert message == BY_NAME[name].model_validate(plain)
    assert b"added_later" not in message.model_dump_json().encode()


@pytest.mark.parametrize("name", BY_NAME)
def test_a_message_without_a_required_field_is_refused(name: str) -> None:
    plain = json.loads(golden(name))
    kind = BY_NAME[name]
    for field, info in kind.model_fields.items():
        if info.is_required():
            less = {key: value for key, value in plain.items() if key not in {field, info.alias}}
            with pytest.raises(ValidationError):
                kind.model_validate(less)


@pytest.mark.parametrize("name", BY_NAME)
def test_a_schema_can_be_made(name: str) -> None:
    schema = BY_NAME[name].model_json_schema(by_alias=True)
    assert schema["type"] == "object"
    assert set(json.loads(golden(name))) <= set(schema["properties"])
    assert schema.get("additionalProperties", True) is not False


def test_digests_of_golden_manifests_never_change() -> None:
    """A device compares digests, so canonical bytes of version 1 are fixed for ever."""
    content = wire.ContentManifest.model_validate_json(golden("ContentManifest"))
    digest = wire.digest_of(content.model_dump(mode="json", by_alias=True))
    release = wire.ReleaseManifest.model_validate_json(golden("ReleaseManifest"))
    assert release.content == content
    assert release.content_digest == digest == "f61393c5b50985cdd29bee60e8594a43aa0f0923acffb3f1b9a0d648035b1ac1"
