"""One release: what it is, who has signed for it, what it waits for; and the statement that a person signs.

The page offers bytes and takes a signature back. It never signs: the key stays with the person, and `fleetloop sign`
shows what the bytes say before it signs them.
"""

from datetime import timedelta

from control_plane.kit import clock
from control_plane.kit.errors import Invalid
from control_plane.kit.http import Response
from control_plane.kit.roles import Role
from control_plane.registry import service
from control_plane.registry.domain import Terms, approval_statement
from control_plane.web.edge import FormCall, SeeCall, pages
from control_plane.web.names import load_names

APPROVAL_DAYS = 30
releases = pages()


@releases.get("/releases/{digest}")
async def show_release(digest: str, call: SeeCall) -> Response:
    release = await service.get_release(call.session, digest)
    back = await service.ways_back(call.session, digest)
    return call.show(
        "release.html",
        names=await load_names(call),
        release=release,
        attestations=await service.list_attestations(call.session, digest),
        ways_back=[await service.get_release(call.session, each.digest) for each in back],
        may_sign=call.may(Role.APPROVER),
    )


@releases.get("/releases/{digest}/statement.json")
async def offer_statement(digest: str, call: SeeCall, approver: str = "", reason: str = "") -> Response:
    """Give the exact bytes that a person is asked to sign."""
    release = await service.get_release(call.session, digest)
    manifest = await service.manifest_bytes(call.session, digest)
    now = clock.now().replace(microsecond=0)
    terms = Terms(approver.strip(), now, now + timedelta(days=APPROVAL_DAYS), reason=reason.strip())
    try:
        data = approval_statement(manifest, terms, way_back=release.way_back_of is not None)
    except ValueError as error:
        raise Invalid("say who approves: a name of 1 to 100 characters, and a reason of at most 500") from error
    name = f"statement-{digest[:12]}.json"
    headers = {"Content-Disposition": f'attachment; filename="{name}"'}
    return Response(data, media_type="application/json", headers=headers)


@releases.post("/releases/{digest}/signature")
async def take_signature(digest: str, call: FormCall) -> Response:
    """Take an envelope that was signed elsewhere."""
    call.principal.must_be_one_of((Role.APPROVER, Role.OPERATOR))
    item = await service.add_attestation(
        call.session, call.context.objects, call.principal.name, call.form.get("envelope", "").strip()
    )
    if item.subject != digest:
        raise Invalid("that signature is for another release", code="other_release")
    return call.back(f"/releases/{digest}")
