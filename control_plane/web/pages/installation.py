"""What this installation is: how long it keeps what, whom it trusts, which version it runs. For admins to read."""

import platform

from control_plane.kit.db import row
from control_plane.kit.http import Response
from control_plane.kit.observability import our_version
from control_plane.kit.roles import Role
from control_plane.kit.settings import Settings
from control_plane.registry import service as registry
from control_plane.web.edge import PageCall, SeeCall, pages

installation = pages()


@installation.get("/settings/installation")
async def show_installation(call: SeeCall) -> Response:
    call.principal.must_be(Role.ADMIN)
    return call.show(
        "installation.html",
        kept=kept(call.context.settings),
        trust=await registry.trust_status(call.session, call.context.keyring),
        about=await _about(call),
        still=True,
    )


def kept(settings: Settings) -> list[tuple[str, str, str]]:
    """Return what is kept, for how long, and the setting that says so."""
    windows = f"{settings.retention_windows_days} days, {settings.retention_floor_days} at least"
    return [
        ("Windows and field events, one by one", windows, "FLEETLOOP_RETENTION_WINDOWS_DAYS, …_FLOOR_DAYS"),
        ("Exposure by time and by device", f"{settings.retention_cells_days} days", "FLEETLOOP_RETENTION_CELLS_DAYS"),
        ("Totals of exposure, models, evidence, rollouts, lineage", "for ever", ""),
        ("The audit trail", "for ever; the database refuses to change or delete an entry", ""),
        ("Webhook deliveries", "30 days, the newest 500 of each webhook", ""),
    ]


async def _about(call: PageCall) -> dict[str, str]:
    settings = call.context.settings
    found = await row(
        call.session, "select version_num, current_setting('server_version') as server from alembic_version"
    )
    return {
        "version": our_version(),
        "Python": platform.python_version(),
        "PostgreSQL": str(found["server"]).split()[0] if found else "unknown",
        "schema": str(found["version_num"]) if found else "unknown",
        "public URL": settings.public_url,
        "objects": "S3" if (settings.object_store or "").startswith("s3://") else "a folder",
        "orchestrator": settings.orchestrator,
        "devices prove themselves by": settings.device_auth,
        "approvals a release needs": str(settings.approvals_needed),
    }
