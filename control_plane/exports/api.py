"""Lineage taken away in a format that others read."""

from typing import Annotated, Any

from fastapi import Query

from control_plane.exports import service
from control_plane.exports.domain import Format
from control_plane.kit.http import Depth, Response, WideCall, router
from control_plane.kit.roles import Role
from control_plane.lineage.domain import Kind, Node

api = router("lineage", "/lineage")
_TEXT = {"schema": {"type": "string"}}
_DOCUMENTS: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "The document; which media type it has depends on the format",
        "content": {
            "application/json": _TEXT,
            "application/x-ndjson": _TEXT,
            "application/vnd.in-toto+json": _TEXT,
            "application/vnd.cyclonedx+json": _TEXT,
        },
    }
}


@api.get("/{kind}/{name}/export", name="export_lineage", response_class=Response, responses=_DOCUMENTS)
async def export(
    kind: Kind,
    name: str,
    call: WideCall,
    wanted: Annotated[Format, Query(alias="format")],
    depth: Annotated[int, Depth] = 20,
) -> Response:
    """Write OpenLineage run events, an in-toto statement with SLSA provenance, or a CycloneDX bill of materials."""
    made = await service.export(
        call.session,
        Node(kind, name),
        wanted,
        url=call.context.settings.public_url,
        depth=depth,
        trains=call.principal.role is Role.PIPELINE,
    )
    headers = {"Content-Disposition": f'attachment; filename="{made.name}"'}
    return Response(made.data, media_type=made.media_type, headers=headers)
