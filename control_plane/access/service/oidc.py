"""Sign-in with an OpenID Connect provider: authorization code with PKCE, state and nonce; Authlib checks the claims.

The requests themselves are ours: bounded in time and size, and no redirect is followed.
"""

import asyncio
import secrets
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

import httpx
from authlib.oauth2.auth import encode_client_secret_basic
from authlib.oauth2.base import OAuth2Error
from authlib.oauth2.rfc6749.parameters import prepare_grant_uri, prepare_token_request
from authlib.oauth2.rfc7636 import create_s256_code_challenge
from authlib.oidc.core import CodeIDToken
from joserfc import jws, jwt
from joserfc.errors import JoseError
from joserfc.jwk import KeySet

from control_plane.access.domain import read_role_map, role_of
from control_plane.kit.errors import Forbidden, Invalid, Unavailable
from control_plane.kit.roles import Role
from control_plane.kit.settings import Settings

ALGORITHMS = ["RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "EdDSA"]
"""Public keys only: with a shared secret whoever checks could also sign, and `none` is no signature."""
CALL_S = 10.0
MAX_ANSWER_BYTES = 256 << 10
KEYS_S = 600.0
LEEWAY_S = 60
MAX_SUBJECT = 300
LOOPBACK = ("127.0.0.1", "::1", "localhost")


class Refusal(Forbidden):
    """The provider, or what came in its name, does not let somebody in."""

    code = "sign_in_refused"


@dataclass(frozen=True, slots=True)
class ProviderSettings:
    issuer: str
    client_id: str
    client_secret: str = field(repr=False)
    redirect_uri: str
    role_claim: str
    name_claim: str
    roles: Mapping[str, Role]

    @classmethod
    def read(cls, settings: Settings) -> "ProviderSettings | None":
        """Return the provider of an installation, or None if it has none.

        Raises:
            Invalid: the settings do not fit together.
        """
        if settings.oidc_issuer is None:
            return None
        issuer, secret = settings.oidc_issuer.rstrip("/"), settings.oidc_client_secret
        if not _is_safe(issuer) or settings.oidc_client_id is None or secret is None:
            raise Invalid("an OIDC provider needs an https issuer, a client id and a client secret")
        try:
            roles = read_role_map(settings.oidc_roles)
        except ValueError as error:
            raise Invalid(f"FLEETLOOP_OIDC_ROLES: {error}") from error
        back = f"{settings.public_url.rstrip('/')}/login/oidc/back"
        claims = (settings.oidc_role_claim, settings.oidc_name_claim)
        return cls(issuer, settings.oidc_client_id, secret.get_secret_value(), back, *claims, roles)


def _is_safe(url: str) -> bool:
    parts = urlsplit(url)
    return parts.scheme == "https" or (parts.scheme == "http" and parts.hostname in LOOPBACK)


@dataclass(frozen=True, slots=True)
class Vouched:
    """Whom the provider vouches for, and what its claims make them here."""

    subject: str
    name: str
    role: Role


class Provider:
    """One per process; remembers what the provider publishes for some minutes."""

    def __init__(self, settings: ProviderSettings) -> None:
        self.settings = settings
        self._held: dict[str, tuple[float, dict[str, Any]]] = {}

    async def begin(self) -> tuple[str, dict[str, str]]:
        """Return where to send the browser, and what it must bring back: state, nonce, verifier."""
        about = await self._about()
        note = {name: secrets.token_urlsafe(48) for name in ("state", "nonce", "verifier")}
        url = prepare_grant_uri(
            about["authorization_endpoint"],
            self.settings.client_id,
            "code",
            redirect_uri=self.settings.redirect_uri,
            scope="openid profile email",
            state=note["state"],
            nonce=note["nonce"],
            code_challenge=create_s256_code_challenge(note["verifier"]),
            code_challenge_method="S256",
        )
        return str(url), note

    async def finish(self, note: Mapping[str, str], said: Mapping[str, str]) -> Vouched:
        """Take what the browser brought back to the provider, and check all that it says.

        Raises:
            Refusal: it is not what we asked for, or gives no role here.
            Unavailable: the provider does not answer.
        """
        if not secrets.compare_digest(said.get("state", "").encode(), note["state"].encode()):
            raise Refusal("this sign-in was not begun by this browser; try again")
        if said.get("iss", self.settings.issuer).rstrip("/") != self.settings.issuer:
            raise Refusal("another provider answered")
        if "error" in said or not said.get("code"):
            raise Refusal("the provider did not let you in")
        token = await self._redeem(said["code"], note["verifier"])
        return self._read(await self._claims(token, note["nonce"]))

    async def _redeem(self, code: str, verifier: str) -> str:
        """Change a code for an id token."""
        about = await self._about()
        body = prepare_token_request(
            "authorization_code", redirect_uri=self.settings.redirect_uri, code=code, code_verifier=verifier
        )
        headers = {"Content-Type": "application/x-www-form-urlencoded"}
        url, headers, body = encode_client_secret_basic(self.settings, "POST", about["token_endpoint"], headers, body)
        answer = await _ask("POST", url, headers, body)
        token = answer.get("id_token")
        if not isinstance(token, str):
            raise Refusal("the provider sent no id token")
        return token

    async def _claims(self, token: str, nonce: str) -> Mapping[str, Any]:
        """Check signature, issuer, audience, times and nonce."""
        issuer, client = self.settings.issuer, self.settings.client_id
        try:
            decoded = await self._decode(token)
            options = {
                "iss": {"essential": True, "values": [issuer, f"{issuer}/"]},
                "aud": {"essential": True, "value": client},
                "sub": {"essential": True},
            }
            claims = CodeIDToken(decoded.claims, decoded.header, options, {"nonce": nonce, "client_id": client})
            claims.validate(leeway=LEEWAY_S)
        except (JoseError, OAuth2Error, ValueError, TypeError, KeyError) as error:
            raise Refusal(f"what the provider said does not hold: {type(error).__name__}") from error
        return dict(decoded.claims)

    async def _decode(self, token: str) -> jwt.Token:
        """Check the signature by the provider's keys; one that we do not know yet is asked for."""
        registry = jws.JWSRegistry(algorithms=ALGORITHMS)
        try:
            return jwt.decode(token, await self._keys(KEYS_S), registry=registry)
        except (JoseError, ValueError):
            return jwt.decode(token, await self._keys(LEEWAY_S), registry=registry)

    async def _keys(self, at_most_s: float) -> KeySet:
        about = await self._about()
        return KeySet.import_key_set(await self._held_or_asked(about["jwks_uri"], at_most_s))  # type: ignore[arg-type]  # what a provider sends is checked by the reader

    async def _about(self) -> dict[str, Any]:
        """Return the provider's own description; it must say that it is the provider we trust."""
        url = f"{self.settings.issuer}/.well-known/openid-configuration"
        about = await self._held_or_asked(url, KEYS_S)
        places = [about.get(name) for name in ("authorization_endpoint", "token_endpoint", "jwks_uri")]
        if str(about.get("issuer", "")).rstrip("/") != self.settings.issuer:
            raise Refusal("the provider says that it is another one")
        if not all(isinstance(place, str) and _is_safe(place) for place in places):
            raise Refusal("the provider's addresses are not safe")
        return about

    async def _held_or_asked(self, url: str, at_most_s: float) -> dict[str, Any]:
        held = self._held.get(url)
        if held is None or time.monotonic() - held[0] >= at_most_s:
            held = self._held[url] = (time.monotonic(), await _ask("GET", url, {}, None))
        return held[1]

    def _read(self, claims: Mapping[str, Any]) -> Vouched:
        """Say who this is here; a mail address counts only if the provider has verified it."""
        role = role_of(claims, self.settings.role_claim, self.settings.roles)
        name = str(claims.get(self.settings.name_claim) or "")
        if self.settings.name_claim == "email" and claims.get("email_verified") is not True:
            raise Refusal("the provider has not verified your mail address")
        if role is None:
            raise Refusal("the provider gives you no role here; ask an admin")
        subject = f"{self.settings.issuer} {claims['sub']}"
        if len(subject) > MAX_SUBJECT:
            raise Refusal("the provider's name for you is too long")
        return Vouched(subject, name, role)


async def _ask(method: str, url: str, headers: Mapping[str, str], body: str | None) -> dict[str, Any]:
    """Ask the provider for a JSON object.

    Raises:
        Refusal: it says no. Unavailable: it does not answer, or not in the way of a provider.
    """
    try:
        async with (
            asyncio.timeout(CALL_S),
            httpx.AsyncClient(follow_redirects=False, timeout=CALL_S) as client,
            client.stream(method, url, headers={"Accept": "application/json", **headers}, content=body) as answer,
        ):
            text = bytearray()
            async for chunk in answer.aiter_bytes():
                text += chunk
                if len(text) > MAX_ANSWER_BYTES:
                    raise Unavailable("the provider sends too much")
        found = httpx.Response(answer.status_code, content=bytes(text)).json()
    except (httpx.HTTPError, TimeoutError, OSError, ValueError) as error:
        raise Unavailable("the provider does not answer just now; try again") from error
    if 400 <= answer.status_code < 500:
        raise Refusal("the provider refuses what your browser brought")
    if not answer.is_success or not isinstance(found, dict):
        raise Unavailable("the provider does not answer just now; try again")
    return found
