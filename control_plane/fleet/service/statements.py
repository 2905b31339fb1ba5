"""What devices swear to: install reports and recordings, verified with the device's key and kept as exact bytes."""

import hashlib
import logging
from typing import TypeVar

from pydantic import BaseModel

from agents.protocol import v1 as wire
from control_plane.fleet import store
from control_plane.fleet.domain import Identity
from control_plane.fleet.schemas import StatementItem
from control_plane.fleet.service.identities import Identities
from control_plane.kit.db import Session
from control_plane.kit.device_http import parse
from control_plane.kit.errors import Conflict, Invalid, NotFound

Statement = TypeVar("Statement", bound=BaseModel)
_log = logging.getLogger("fleetloop.security")


async def take_report(session: Session, identities: Identities, who: Identity, body: bytes) -> wire.ReportReply:
    """Keep an install report; the same bytes again change nothing."""
    envelope = parse(wire.Envelope, body)
    report = await _opened(session, identities, who, envelope, wire.REPORT_PAYLOAD, wire.InstallReport)
    if report.device_id != who.id:
        raise _bad(who, "it is about another device")
    subject = report.deployment.release_digest
    digest = await _keep(session, who, "install-report", report.report_id, subject, body)
    return wire.ReportReply(envelope_sha256=digest)


async def check_recording(
    session: Session, identities: Identities, who: Identity, message: wire.RecordingAnnounce, *, required: bool
) -> None:
    """Refuse a recording whose statement is not its device's, or says something else than the announcement."""
    if message.signed is None:
        if required:
            raise _bad(who, "recordings are taken only with a statement signed by the device")
        return
    said = await _opened(session, identities, who, message.signed, wire.RECORDING_PAYLOAD, wire.RecordingStatement)
    if said != wire.RecordingStatement(device_id=who.id, **message.model_dump(exclude={"signed"})):
        raise _bad(who, "it says something else than the announcement")
    body = message.signed.model_dump_json(by_alias=True).encode()
    await _keep(session, who, "recording", message.sha256, message.sha256, body)


async def _opened(
    session: Session,
    identities: Identities,
    who: Identity,
    envelope: wire.Envelope,
    payload_type: str,
    kind: type[Statement],
) -> Statement:
    key = await identities.key_of(session, who.id)
    try:
        payload = wire.open_device_envelope(envelope, payload_type, key)
    except wire.EnvelopeError as error:
        raise _bad(who, str(error)) from error
    return parse(kind, payload)


async def _keep(session: Session, who: Identity, kind: str, statement_id: str, subject: str, body: bytes) -> str:
    digest = hashlib.sha256(body).hexdigest()
    values = {
        "sha256": digest,
        "device_id": who.id,
        "kind": kind,
        "statement_id": statement_id,
        "subject": subject,
        "key_sha256": who.key_sha256,
        "body": body,
    }
    if await store.insert_statement(session, values):
        return digest
    kept = await store.find_statement_of(session, who.id, kind, statement_id)
    if kept is None:
        raise Conflict("another device has made this very statement", code="statement_of_another")
    # A recording may be announced again, sworn to anew; a report is a fact of its time and is said once.
    if kept != digest and kind == "install-report":
        raise Conflict(f"report {statement_id} was made already and said something else", code="report_changed")
    return kept


def _bad(who: Identity, why: str) -> Invalid:
    _log.warning("statement refused: device %s: %s", who.id, why)
    return Invalid(f"the statement is not to be believed: {why}", code="bad_statement")


async def list_statements(
    session: Session, device_id: str | None, subject: str | None, limit: int
) -> list[StatementItem]:
    found = await store.list_statements(session, device_id, subject, limit)
    return [StatementItem.model_validate(dict(each)) for each in found]


async def statement(session: Session, sha256: str) -> bytes:
    """Return a statement's exact bytes."""
    body = await store.statement_body(session, sha256)
    if body is None:
        raise NotFound(f"there is no statement {sha256}")
    return body
