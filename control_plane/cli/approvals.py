"""`fleetloop approve`: what people sign, they sign here, with a key that never leaves them.

The statement is made from the release manifest's own bytes, checked against their digest: a server that shows one
release and has another one signed gets nothing.
"""

import json
import os
import time
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated, Any

import typer
from pydantic import BaseModel

from agents.protocol.v1 import Envelope, ReleaseManifest, seal_envelope, sha256_hex
from agents.protocol.v1.statement import (
    STATEMENT_BYTES,
    STATEMENT_PAYLOAD,
    Approval,
    Result,
    StatementError,
    read_statement,
)
from control_plane.cli.answers import Answer, Change, Report
from control_plane.cli.command import DryRun, guarded
from control_plane.cli.connection import client
from control_plane.cli.home import default_home, people_folder
from control_plane.cli.output import View, console, errors, for_people, say, show_one
from control_plane.client import Calls, Client, ClientError, Invalid, NotFound
from control_plane.fleet.schemas import DeviceItem
from control_plane.kit.errors import Problem
from control_plane.kit.signing import Signer, load_signer, read_signer
from control_plane.registry.domain import Terms, approval_statement
from control_plane.registry.schemas import AttestationCreate, ReleaseItem, RevocationCreate, RevocationItem
from control_plane.review.domain import ReviewState
from control_plane.review.schemas import ReviewAnswerCreate, ReviewItem

KEY_VARIABLE = "FLEETLOOP_APPROVER_KEY"
KeyFile = Annotated[Path | None, typer.Option(help=f"your key; default {KEY_VARIABLE}, HOME or ~/.config")]


@dataclass(frozen=True, slots=True)
class Wish:
    """How somebody approves."""

    name: str
    reason: str = ""
    days: float = 30.0
    widest_stage: float = 1.0
    accept_warning: bool = False

    def terms(self, at: datetime) -> Terms:
        accepts = Result.WARNED if self.accept_warning else Result.PASSED
        return Terms(self.name, at, at + timedelta(days=self.days), self.widest_stage, accepts, self.reason)


def default_key() -> Path:
    """Return the variable's key, else the one that `fleetloop up` made on this machine, else that of this person."""
    given = os.environ.get(KEY_VARIABLE)
    here = people_folder(default_home()) / "approver.pem"
    if given:
        return Path(given)
    return here if here.exists() else Path.home() / ".config" / "fleetloop" / "approver.pem"


def sign_approvals(client: Client, release: ReleaseItem, signer: Signer, wish: Wish) -> list[bytes]:
    """Sign a release and its ways back, hand the approvals in, and return the statements.

    The way back is approved for the whole fleet: it must not stop where the release may stop.

    Raises:
        ClientError: the server refuses, or what it shows is not what it names.
    """
    ways_back = [each for each in client.list_releases(release.model) if each.way_back_of == release.digest]
    at = datetime.now(UTC).replace(microsecond=0)
    statements = []
    for each in (release, *ways_back):
        manifest = client.get_release_manifest(each.digest)
        if sha256_hex(manifest) != each.digest:
            raise ClientError(0, "manifest_mismatch", f"the server's manifest is not that of {each.digest[:12]}")
        back = each is not release
        terms = Wish(wish.name, wish.reason, wish.days) if back else wish
        statements.append(approval_statement(manifest, terms.terms(at), way_back=back))
    for statement in statements:
        envelope = seal_envelope(STATEMENT_PAYLOAD, statement, [signer.private])
        client.add_attestation(AttestationCreate(envelope=_text(envelope)))
    return statements


def _text(envelope: Envelope) -> str:
    return envelope.model_dump_json(by_alias=True)


def find_review(client: Client, subject: str) -> ReviewItem | None:
    """Return the open question about a review id, a release or a rollout."""
    found = (r for r in client.list_reviews(state="open") if subject in (r.id, r.subject, r.evidence.get("rollout")))
    return next(found, None)


class Signed(BaseModel):
    """What was signed about a release, and how the question about it stands; None if nobody asks."""

    release: str
    state: ReviewState | None
    signed: list[dict[str, Any]]


def approve(
    subject: Annotated[str, typer.Argument(help="a release, or the review or rollout that asks about it")],
    key: KeyFile = None,
    name: Annotated[str, typer.Option(help="your name, as it goes into the statement")] = "",
    reason: Annotated[str, typer.Option(help="why")] = "",
    days: Annotated[float, typer.Option(help="how long it may be begun")] = 30.0,
    widest_stage: Annotated[float, typer.Option(help="up to which share of the fleet")] = 1.0,
    *,
    accept_warning: Annotated[bool, typer.Option(help="although the gate did not see the claimed benefit")] = False,
    reject: Annotated[bool, typer.Option("--reject", help="say no instead; nothing is signed")] = False,
    dry_run: DryRun = False,
) -> Answer:
    """Sign for a release with your own key, and answer the question about it. --dry-run shows what would be signed.

    For example: fleetloop approve ROLLOUT --key ada.pem --name ada --reason "looked at the flips"
    """
    path = key or default_key()
    wish = Wish(name or path.stem, reason, days, widest_stage, accept_warning)
    c = client("approver")
    review = find_review(c, subject)
    if review is None and len(subject) != 64:
        raise NotFound(404, "not_found", f"no open question is about {subject}")
    release = c.get_release(review.subject if review is not None else subject)
    if dry_run:
        manifest = ReleaseManifest.model_validate_json(c.get_release_manifest(release.digest))
        return Report([manifest], lambda: console.print_json(manifest.model_dump_json(by_alias=True)))
    statements = [] if reject else sign_approvals(c, release, _signer(path), wish)
    state = None
    if review is not None:
        state = c.answer_review(review.id, ReviewAnswerCreate(approves=not reject, reason=wish.reason)).state
    signed = Signed(release=release.digest, state=state, signed=[json.loads(each) for each in statements])
    return Report([signed], lambda: _tell_signed(signed, release), key="release")


def _tell_signed(signed: Signed, release: ReleaseItem) -> None:
    for statement in signed.signed:
        console.print_json(json.dumps(statement))
    if signed.state is not None:
        say(f"the question about {release.model} {release.version} is {signed.state}")


def _signer(key: Path) -> Signer:
    if not key.exists():
        raise Invalid(422, "no_key", f"there is no key {key}; make one with: fleetloop approver-key --key {key}")
    try:
        return read_signer(key)
    except Problem as error:
        raise Invalid(422, error.code, error.detail) from error


def sign(
    statement: Annotated[Path, typer.Argument(help="a statement that a release's page offers")], key: KeyFile = None
) -> None:
    """Show what a statement says, sign it, and print the envelope to hand in. Needs no network.

    For example: fleetloop sign statement.json --key ada.pem > signed.json
    """
    raise typer.Exit(guarded(lambda: _sign(statement, key or default_key())))


def _sign(path: Path, key: Path) -> int:
    try:
        data = path.read_bytes()[:STATEMENT_BYTES]
        said = read_statement(data)
    except (OSError, StatementError) as error:
        raise Invalid(422, "not_a_statement", str(error)) from error
    if not isinstance(said.predicate, Approval):
        raise Invalid(422, "not_an_approval", f"{path} is a statement of another kind; people sign approvals")
    errors.print_json(data.decode())
    typer.echo(_text(seal_envelope(STATEMENT_PAYLOAD, data, [_signer(key).private])))
    return 0


def revoke(
    release: Annotated[list[str] | None, typer.Option(help="digest of a release")] = None,
    content: Annotated[list[str] | None, typer.Option(help="digest of a content, under every counter")] = None,
    key: Annotated[list[str] | None, typer.Option(help="id of a key whose signatures no longer count")] = None,
    reason: Annotated[str, typer.Option(help="why", prompt=True)] = "",
    *,
    yes: Annotated[bool, typer.Option("--yes", help="do not ask again")] = False,
    wait_s: Annotated[float, typer.Option("--wait", help="follow for so many seconds, and list who is left")] = 0.0,
    dry_run: DryRun = False,
) -> Answer:
    """Emergency stop: every device that can be reached leaves what is revoked at its next check-in.

    Only the offline keys can take it back.
    For example: fleetloop revoke --content DIGEST --reason "drives into docks" --wait 60
    """
    body = RevocationCreate(release_digests=release or [], content_digests=content or [], keys=key or [], reason=reason)
    if not yes and not dry_run:
        typer.confirm("This reaches the whole fleet and only the offline keys take it back. Go on?", abort=True)
    digests = [*body.release_digests, *body.content_digests]
    return Change("operator", [Calls.revoke.ask(body)], status=lambda found: _revoked(found, digests, wait_s))


def _revoked(found: RevocationItem, digests: list[str], wait_s: float) -> int:
    if not for_people():
        show_one(found, View("revision", ()))
    say(f"revision {found.revision} is out; devices leave it at their next check-in")
    left = _follow(digests, wait_s)
    for device in left:
        seen = f"{device.last_seen_at:%Y-%m-%d %H:%M} UTC" if device.last_seen_at else "never"
        typer.echo(f"still on it: {device.serial} at {device.site}, last seen {seen}", err=True)
    return 1 if left and wait_s else 0


def _follow(digests: list[str], wait_s: float) -> list[DeviceItem]:
    """Return who runs one of these, once nobody does or time is over."""
    give_up = time.monotonic() + wait_s
    while True:
        left = {d.id: d for digest in digests for d in client("viewer").list_devices(running=digest)}
        if not left or time.monotonic() >= give_up:
            return sorted(left.values(), key=lambda each: each.serial)
        typer.echo(f"{len(left)} devices still run it", err=True)
        time.sleep(min(2.0, max(0.1, give_up - time.monotonic())))


def approver_key(key: KeyFile = None) -> None:
    """Make your approver's key and print its public part, for the trust policy.

    For example: fleetloop approver-key --key ada.pem
    """
    path = key or default_key()
    if path.exists():
        errors.print(f"{path} exists; this is its public key", highlight=False)
    typer.echo(load_signer(path.parent, path.stem).public_hex)
