"""Files of versions and releases, whole or in ranges (RFC 9110 §14); the TUF repository."""

import hashlib
import re
from collections import OrderedDict

from starlette.responses import StreamingResponse

from control_plane.fleet import service as fleet
from control_plane.kit.db import Session
from control_plane.kit.device_http import device_route, plain_route, proof_of
from control_plane.kit.errors import Invalid
from control_plane.kit.http import APIRouter, Request, Response, context_of
from control_plane.kit.ranges import byte_range
from control_plane.registry import service

device_api = APIRouter(tags=["device"])


async def _blob(request: Request, session: Session, body: bytes) -> Response:
    await fleet.authenticate(session, request.app.state.identities, proof_of(request, body))
    sha256 = request.path_params["sha256"]
    if not re.fullmatch(r"[0-9a-f]{64}", sha256):
        raise Invalid("a blob is named by its sha256 in lower-case hex", code="malformed")
    size = await service.deployable(session, sha256)
    start, stop, status = byte_range(request.headers.get("range"), size)
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


device_api.add_route("/device/v1/blobs/sha256/{sha256}", device_route(_blob), methods=["GET"])


# The TUF repository: public and signed, so it needs no name and any standard client can read it.

METADATA = re.compile(
    r"^(?:(?P<stamp>timestamp)|(?P<version>[1-9]\d{0,8})\."
    r"(?P<role>root|targets|snapshot|revocations|releases|releases-bin-[0-9a-f]{2}))\.json$"
)
TARGET = re.compile(r"^(?P<folder>(?:[a-z]+/)?)(?P<sha256>[0-9a-f]{64})\.(?P<name>[A-Za-z0-9._-]{1,200})$")
FOR_EVER = "public, max-age=31536000, immutable"
CACHE_BYTES = 64 << 20


class TufCache:
    """Versioned metadata never changes, so the newest bytes of it stay in the process, up to a size."""

    def __init__(self, max_bytes: int = CACHE_BYTES) -> None:
        self._max_bytes = max_bytes
        self._bytes = 0
        self._held: OrderedDict[str, bytes] = OrderedDict()

    def get(self, name: str) -> bytes | None:
        if name in self._held:
            self._held.move_to_end(name)
        return self._held.get(name)

    def put(self, name: str, data: bytes) -> None:
        self._bytes += len(data) - len(self._held.pop(name, b""))
        self._held[name] = data
        while self._bytes > self._max_bytes:
            self._bytes -= len(self._held.popitem(last=False)[1])


async def _metadata(request: Request) -> Response:
    name = request.path_params["name"]
    found = METADATA.match(name)
    if not found:
        return _absent()
    if found["stamp"]:
        return _signed(request, await _read(request, "timestamp", None), "no-cache")
    if not hasattr(request.app.state, "tuf_cache"):
        request.app.state.tuf_cache = TufCache()
    cache: TufCache = request.app.state.tuf_cache
    data = cache.get(name)
    if data is None:
        data = await _read(request, found["role"], int(found["version"]))
        if data is not None:
            cache.put(name, data)
    return _signed(request, data, FOR_EVER)


async def _read(request: Request, role: str, version: int | None) -> bytes | None:
    async with context_of(request).database.transaction() as session:
        return await service.published_metadata(session, role, version)


async def _target(request: Request) -> Response:
    """Answer `releases/SHA256.NAME`, as consistent snapshots name a target."""
    found = TARGET.match(request.path_params["path"])
    if not found:
        return _absent()
    context = context_of(request)
    async with context.database.transaction() as session:
        size = await service.published_target(session, found["folder"] + found["name"], found["sha256"])
    if size is None:
        return _absent()
    return _signed(request, await context.objects.read(found["sha256"], max_size=size), FOR_EVER)


def _signed(request: Request, data: bytes | None, caching: str) -> Response:
    if data is None:
        return _absent()
    headers = {"ETag": f'"{hashlib.sha256(data).hexdigest()}"', "Cache-Control": caching}
    if request.headers.get("if-none-match") == headers["ETag"]:
        return Response(status_code=304, headers=headers)
    return Response(data, headers=headers, media_type="application/json")


def _absent() -> Response:
    return Response(b"not here", 404, headers={"Cache-Control": "no-store"}, media_type="text/plain")


device_api.add_route("/device/v1/tuf/targets/{path:path}", plain_route(_target), methods=["GET"])
device_api.add_route("/device/v1/tuf/{name}", plain_route(_metadata), methods=["GET"])
