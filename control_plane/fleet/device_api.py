"""POST /device/v1/enrol, renew and reports; GET /device/v1/ca."""

from agents.protocol import v1 as wire
from control_plane.fleet import service
from control_plane.kit.certificates import Authority
from control_plane.kit.db import Session
from control_plane.kit.device_http import address_of, answer, device_route, parse, plain_route, proof_of
from control_plane.kit.errors import Forbidden, Unauthenticated, Unavailable
from control_plane.kit.http import APIRouter, Request, Response, context_of

device_api = APIRouter(tags=["device"])
ENROL_BYTES = 32 << 10


async def _enrol(request: Request, session: Session, body: bytes) -> Response:
    identities: service.Identities = request.app.state.identities
    identities.failures.check(address_of(request))
    message = parse(wire.EnrolRequest, body, ENROL_BYTES)
    try:
        device_id = await service.enrol(session, message)
    except (Forbidden, Unauthenticated):
        identities.failures.count(address_of(request))
        raise
    context = context_of(request)
    certificate = None
    if message.csr_pem is not None:
        certificate = await service.certify(session, _authority(request), device_id, message.csr_pem, "enrol")
    return answer(
        wire.EnrolReply(
            device_id=device_id,
            director_keys=(context.signers["director"].public_hex,),
            certificate_pem=certificate,
            ca_pem=context.device_ca.pem if context.device_ca else None,
            trust_root=await request.app.state.trust_root(session),
            next_check_in_s=context.settings.check_in_s,
        ),
        201,
    )


async def _renew(request: Request, session: Session, body: bytes) -> Response:
    """Renew over TLS with the certificate that is running out, or with a signature where it is over."""
    proof = proof_of(request, body)
    who = await service.authenticate(session, request.app.state.identities, proof, renewing=True)
    message = parse(wire.RenewRequest, body, ENROL_BYTES)
    authority = _authority(request)
    certificate = await service.renew(session, authority, who, message.csr_pem)
    return answer(wire.RenewReply(certificate_pem=certificate, ca_pem=authority.pem))


async def _reports(request: Request, session: Session, body: bytes) -> Response:
    identities: service.Identities = request.app.state.identities
    who = await service.authenticate(session, identities, proof_of(request, body))
    return answer(await service.take_report(session, identities, who, body), 201)


async def _ca(request: Request) -> Response:
    """Say who our authority is; a device believes it only by the fingerprint that came with its token."""
    return Response(_authority(request).pem, media_type="application/x-pem-file")


def _authority(request: Request) -> Authority:
    authority = context_of(request).device_ca
    if authority is None:
        raise Unavailable("this server has no device authority")
    return authority


device_api.add_route("/device/v1/enrol", device_route(_enrol), methods=["POST"])
device_api.add_route("/device/v1/renew", device_route(_renew), methods=["POST"])
device_api.add_route("/device/v1/reports", device_route(_reports), methods=["POST"])
device_api.add_route("/device/v1/ca", plain_route(_ca), methods=["GET"])
