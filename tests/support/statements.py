"""Statements signed by a test's device."""

from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

from pydantic import BaseModel

from agents.protocol import v1 as wire
from tests.support.device import Device, sign

ANNOUNCE: dict[str, Any] = {
    "sha256": "a" * 64,
    "size_bytes": 100,
    "trigger": "collision",
    "content_digest": "c" * 64,
    "started_at": "2026-01-01T00:00:00Z",
    "ended_at": "2026-01-01T00:00:10Z",
}


def sealed(device: Device, payload_type: str, statement: BaseModel | bytes) -> dict[str, Any]:
    payload = statement if isinstance(statement, bytes) else statement.model_dump_json().encode()
    keyid = wire.device_key_id(device.key.public_key())
    envelope = wire.seal_device_envelope(payload_type, payload, keyid, lambda data: sign(device.key, data))
    plain: dict[str, Any] = envelope.model_dump(mode="json", by_alias=True)
    return plain


def report_of(device: Device) -> wire.InstallReport:
    deployment = wire.DeploymentReport(release_digest="d" * 64, counter=3, phase=wire.DeploymentPhase.COMMITTED)
    return wire.InstallReport(
        device_id=device.id,
        report_id=f"r-{uuid4().hex[:12]}",
        at=datetime.now(UTC),
        agent_version="0.1.0",
        deployment=deployment,
    )
