"""Read and check the audit trail."""

from control_plane.audit import service
from control_plane.audit.schemas import AuditCheck, AuditItem
from control_plane.kit.http import Cursor, Limit, WideCall, router
from control_plane.kit.pages import Page

api = router("audit", "/audit")


@api.get("", name="list_audit_entries")
async def list_entries(
    call: WideCall, after: Cursor = None, limit: Limit = 50, subject: str | None = None
) -> Page[AuditItem]:
    """List entries, newest first."""
    return await service.list_entries(call.session, after=after, subject=subject, limit=limit)


@api.get("/check", name="check_audit_chain")
async def check(call: WideCall) -> AuditCheck:
    """Walk the chain and say whether it is intact."""
    return await service.verify(call.session)
