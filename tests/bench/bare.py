"""The ceiling of a request: an ASGI app that reads the body and answers bytes, served exactly as the API is.

`python -m tests.bench.bare PORT BYTES`
"""

import sys
from typing import Any

import uvicorn


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


if __name__ == "__main__":
    uvicorn.run(
        app_of(int(sys.argv[2])),
        host="127.0.0.1",
        port=int(sys.argv[1]),
        log_config=None,
        access_log=False,
        lifespan="off",
        timeout_keep_alive=75,
        h11_max_incomplete_event_size=64 << 10,
    )
