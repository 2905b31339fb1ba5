"""Artifacts, models, versions and releases over the API, as a pipeline makes them."""

import hashlib
from typing import Any

from tests.support.bundle import MODEL, bundle
from tests.support.server import Server


async def upload(server: Server, data: bytes) -> dict[str, Any]:
    """Put bytes into the object store the way a client does; return their reference."""
    ref = {"sha256": hashlib.sha256(data).hexdigest(), "size_bytes": len(data)}
    ticket = await server.ok("POST", "/artifacts", json=ref)
    if ticket["upload_url"]:
        answer = await server.http.put(ticket["upload_url"], content=data)
        assert answer.status_code == 201, answer.text
    return ref


async def upload_all(server: Server, files: dict[str, bytes]) -> dict[str, Any]:
    return {path: await upload(server, data) for path, data in files.items()}


async def put_model(server: Server, name: str = "times", **changes: Any) -> None:
    await server.ok("PUT", f"/models/{name}", json=MODEL | changes)


async def register(server: Server, scale: float = 2.0, name: str = "times", **changes: Any) -> dict[str, Any]:
    """Register a version of the model `times`, which multiplies by `scale`."""
    await put_model(server, name, **changes)
    files = await upload_all(server, bundle(scale))
    version: dict[str, Any] = await server.ok("POST", f"/models/{name}/versions", json={"files": files})
    return version


async def release(server: Server, content: str) -> dict[str, Any]:
    body = {"content_digest": content, "device_classes": ["cart"], "reason": "a test"}
    made: dict[str, Any] = await server.ok("POST", "/releases", json=body)
    return made
