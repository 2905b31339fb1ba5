"""PUT and GET of signed, expiring URLs of the local object store. With S3 these routes do not exist: S3 has its own."""

import asyncio
import time

from starlette.requests import ClientDisconnect
from starlette.responses import StreamingResponse

from control_plane.kit.errors import Invalid
from control_plane.kit.http import APIRouter, Request, Response, problem
from control_plane.kit.objects import BadUrlError, CorruptObjectError, Grant, LocalStore, Stored
from control_plane.kit.ranges import byte_range

MAX_PUT_S = 3600
SHARED = {
    "Accept-Ranges": "bytes",
    "Access-Control-Allow-Origin": "*",
    "Access-Control-Expose-Headers": "Accept-Ranges, Content-Length, Content-Range",
}
"""A viewer of recordings is a page of its own and reads parts; whoever has the URL may read."""


def object_routes(store: LocalStore) -> APIRouter:
    """Return the routes; every one checks its URL's signature before it reads a byte."""
    routes = APIRouter(include_in_schema=False)

    async def put(request: Request) -> Response:
        sha256 = request.path_params["sha256"]
        grant = store.verify_url(request.path_params["op"], sha256, request.query_params, time.time())
        if grant.size is not None and int(request.headers.get("content-length", "-1")) != grant.size:
            raise Invalid(f"this URL is for exactly {grant.size} bytes; say so in Content-Length", code="wrong_size")
        try:
            async with asyncio.timeout(MAX_PUT_S):
                await _take(store, request, grant)
        except ClientDisconnect:
            return Response(status_code=400)
        except CorruptObjectError as error:
            raise Invalid(error.detail, code=error.code) from error
        except TimeoutError:
            return problem(408, "too_slow", f"the body did not arrive within {MAX_PUT_S} s")
        return Response(status_code=201)

    async def get(request: Request) -> Response:
        sha256 = request.path_params["sha256"]
        store.verify_url("get", sha256, request.query_params, time.time())
        stored = await store.stat(sha256)
        if stored is None:
            return Response(status_code=404, headers=SHARED)
        return _part(store, stored, request.headers.get("range"))

    routes.add_route("/objects/v1/{op}/{sha256}", put, methods=["PUT"])
    routes.add_route("/objects/v1/get/{sha256}", get, methods=["GET", "HEAD"])
    return routes


async def _take(store: LocalStore, request: Request, grant: Grant) -> None:
    if grant.size is None:
        raise BadUrlError("this URL was not given out for that")
    if grant.part is None:
        await store.put_file(request.stream(), grant.sha256, max_size=grant.size)
    else:
        await store.put_part(grant.sha256, grant, request.stream())


def _part(store: LocalStore, stored: Stored, wanted: str | None) -> Response:
    start, stop, status = byte_range(wanted, stored.size)
    headers = SHARED | {"Content-Length": str(stop - start)}
    if status == 416:
        return Response(status_code=416, headers=SHARED | {"Content-Range": f"bytes */{stored.size}"})
    if status == 206:
        headers["Content-Range"] = f"bytes {start}-{stop - 1}/{stored.size}"
    whole = status == 200
    source = store.open(stored.sha256) if whole else store.open(stored.sha256, start, stop)
    return StreamingResponse(source, status, headers=headers, media_type="application/octet-stream")
