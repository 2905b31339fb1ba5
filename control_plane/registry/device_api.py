"""GET /device/v1/blobs/sha256/SHA256: files of versions and releases, whole or in ranges (RFC 9110 §14)."""

import re

from starlette.responses import StreamingResponse

from control_plane.fleet import service as fleet
from control_plane.kit.db import Session
from control_plane.kit.device_http import device_route, proof_of
from control_plane.kit.errors import Invalid
from control_plane.kit.http import APIRouter, Request, Response, context_of
from control_plane.registry import service

device_api = APIRouter(tags=["device"])
RANGE = re.compile(r"^bytes=(\d{1,18})-(\d{0,18})$")


async def _blob(request: Request, session: Session, body: bytes) -> Response:
    await fleet.authenticate(session, request.app.state.identities, proof_of(request, body))
    sha256 = request.path_params["sha256"]
    if not re.fullmatch(r"[0-9a-f]{64}", sha256):
        raise Invalid("a blob is named by its sha256 in lower-case hex", code="malformed")
    size = await service.deployable(session, sha256)
    start, stop, status = _range(request.headers.get("range"), size)
    headers = {
        "Accept-Ranges": "bytes",
        "Content-Length": str(stop - start),
        "ETag": f'"{sha256}"',
        "Cache-Control": "private, immutable",
    }
    if status == 416:
        return Response(status_code=416, headers={"Content-Range": f"bytes */{size}"})
    if status == 206:
        headers["Content-Range"] = f"bytes {start}-{stop - 1}/{size}"
    chunks = context_of(request).objects.open(sha256, start, stop)
    return StreamingResponse(chunks, status, headers, media_type="application/octet-stream")


def _range(header: str | None, size: int) -> tuple[int, int, int]:
    """Return (start, stop, status); a header that is not one simple range is ignored, as RFC 9110 allows."""
    found = RANGE.match(header or "")
    if not found:
        return 0, size, 200
    start = int(found[1])
    stop = min(int(found[2]) + 1, size) if found[2] else size
    return (start, stop, 206) if start < stop else (0, 0, 416)


device_api.add_route("/device/v1/blobs/sha256/{sha256}", device_route(_blob), methods=["GET"])
