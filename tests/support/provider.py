"""A small OpenID Connect provider on loopback: what it says can be made wrong in every way that matters."""

import asyncio
import base64
import hashlib
import socket
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs, urlsplit

import uvicorn
from joserfc import jwt
from joserfc.jwk import OctKey, RSAKey
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

CLIENT, SECRET = "fleetloop", "a secret of the client"


@dataclass
class OpenIdProvider:
    """`wrong` are claims that replace right ones (None leaves one out); `signer` signs; `asked` is the last request."""

    port: int
    key: RSAKey = field(default_factory=lambda: RSAKey.generate_key(2048, {"kid": "one"}))
    signer: Any = None
    algorithm: str = "RS256"
    issuer_says: str | None = None
    wrong: dict[str, Any] = field(default_factory=dict)
    groups: Any = field(default_factory=lambda: ["robot-ops", "everybody"])
    asked: dict[str, str] = field(default_factory=dict)
    redeemed: int = 0

    @property
    def issuer(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def authorize(self, location: str) -> dict[str, str]:
        """Do what a browser and a person do at the provider; return what it sends back with the browser."""
        url = urlsplit(location)
        assert f"{url.scheme}://{url.netloc}{url.path}" == f"{self.issuer}/authorize"
        self.asked = {name: values[0] for name, values in parse_qs(url.query).items()}
        assert self.asked["code_challenge_method"] == "S256"
        return {"code": "the-code", "state": self.asked["state"], "iss": self.issuer}

    async def about(self, _: Request) -> Response:
        return JSONResponse(
            {
                "issuer": self.issuer_says or self.issuer,
                "authorization_endpoint": f"{self.issuer}/authorize",
                "token_endpoint": f"{self.issuer}/token",
                "jwks_uri": f"{self.issuer}/keys",
            }
        )

    async def keys(self, _: Request) -> Response:
        return JSONResponse({"keys": [self.key.as_dict(private=False)]})

    async def token(self, request: Request) -> Response:
        form = {name: values[0] for name, values in parse_qs((await request.body()).decode()).items()}
        challenge = (
            base64.urlsafe_b64encode(hashlib.sha256(form["code_verifier"].encode()).digest()).decode().rstrip("=")
        )
        basic = base64.b64encode(f"{CLIENT}:{SECRET}".encode()).decode()
        known = request.headers["authorization"] == f"Basic {basic}" and form["code"] == "the-code"
        if not known or challenge != self.asked["code_challenge"] or self.redeemed:
            return JSONResponse({"error": "invalid_grant"}, 400)
        self.redeemed += 1
        return JSONResponse({"access_token": "x", "token_type": "Bearer", "id_token": self._id_token()})

    def _id_token(self) -> str:
        now = int(time.time())
        claims = {
            "iss": self.issuer,
            "aud": CLIENT,
            "sub": "u-1",
            "iat": now,
            "exp": now + 300,
            "nonce": self.asked["nonce"],
            "email": "ada@example.com",
            "email_verified": True,
            "groups": self.groups,
        } | self.wrong
        said = {name: value for name, value in claims.items() if value is not None}
        header = {"alg": self.algorithm, "kid": "one"}
        return jwt.encode(header, said, self.signer or self.key, algorithms=[self.algorithm])


@asynccontextmanager
async def providing() -> AsyncIterator[OpenIdProvider]:
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        held.listen()
        made = OpenIdProvider(held.getsockname()[1])
        routes = [
            Route("/.well-known/openid-configuration", made.about),
            Route("/keys", made.keys),
            Route("/token", made.token, methods=["POST"]),
        ]
        server = uvicorn.Server(uvicorn.Config(Starlette(routes=routes), log_level="error", lifespan="off"))
        running = asyncio.create_task(server.serve(sockets=[held]))
        while not server.started:  # noqa: ASYNC110 - uvicorn has no event to wait for
            await asyncio.sleep(0.01)
        yield made
        server.should_exit = True
        await running


def other_key() -> RSAKey:
    return RSAKey.generate_key(2048, {"kid": "one"})


def shared_secret() -> OctKey:
    return OctKey.import_key(SECRET)
