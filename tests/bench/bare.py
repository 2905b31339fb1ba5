"""The ceiling of a request: an ASGI app that reads the body and answers bytes, served exactly as the API is.

`python -m tests.bench.bare KIND BYTES WHERE`: KIND is `proxied` (WHERE is a unix socket) or `tls` (PORT:FILE, with the
file of the device authority). The listeners are the API's own, with its protocol classes.
"""

import asyncio
import sys
from pathlib import Path
from typing import Any

from control_plane.kit import clock, tls
from control_plane.kit.certificates import load_authority


def app_of(size: int) -> Any:
    body = b"x" * size
    headers = [(b"content-type", b"application/json"), (b"content-length", str(size).encode())]

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            return
        while (await receive()).get("more_body"):
            pass
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    return app


def listener_of(kind: str, app: Any, where: str) -> tls.Listener:
    if kind == "proxied":
        return tls.behind_proxy(app, socket=Path(where))
    port, file = where.split(":", 1)
    authority = load_authority(Path(file), "fleetloop", clock.now())
    return tls.mutual_tls(app, "127.0.0.1", int(port), authority, ["localhost"])


def main() -> None:
    kind, size, where = sys.argv[1:]
    listener = listener_of(kind, app_of(int(size)), where)
    with asyncio.Runner(loop_factory=listener.config.get_loop_factory()) as runner:
        runner.run(listener.serve())


if __name__ == "__main__":
    main()
