"""Signed requests to the device API, and answers read with suspicion: size, time, encoding and JSON are all bounded."""

import asyncio
import hashlib
import ipaddress
import secrets
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Final, TypeVar

import httpx
from pydantic import BaseModel, ValidationError

from agents.link.credentials import Credentials
from agents.link.errors import LinkError
from agents.link.keys import DeviceKey
from agents.protocol.v1 import Envelope, seal_device_envelope, signing_input_of_digest, strict_json

USER_AGENT: Final = "fleetloop-agent"
_OWN_CONNECTIONS: Final = 4
ANSWER_BYTES: Final = 256 << 10
EMPTY_SHA256: Final = hashlib.sha256(b"").hexdigest()
Answer = TypeVar("Answer", bound=BaseModel)


def new_http(connections: int = 20, tls: ssl.SSLContext | None = None) -> httpx.AsyncClient:
    """Return the client that all agents of one process share; it asks for no content encoding and follows no one."""
    return httpx.AsyncClient(
        verify=tls or MachineTrust(ssl.PROTOCOL_TLS_CLIENT),
        headers={"Accept-Encoding": "identity", "User-Agent": USER_AGENT},
        timeout=httpx.Timeout(20.0, connect=10.0),
        limits=httpx.Limits(max_connections=connections, max_keepalive_connections=connections),
        follow_redirects=False,
    )


class MachineTrust(ssl.SSLContext):
    """What the machine believes, read when it is first asked for: megabytes that a device with an authority needs not.

    Names and certificates are checked: that is what a context for clients starts with.
    """

    _read = False

    def wrap_bio(self, *args: Any, **named: Any) -> ssl.SSLObject:
        self.read()
        return super().wrap_bio(*args, **named)

    def wrap_socket(self, *args: Any, **named: Any) -> ssl.SSLSocket:
        self.read()
        return super().wrap_socket(*args, **named)

    def read(self) -> None:
        if not self._read:
            self.load_default_certs()
            self._read = True


class Channel:
    """Connections that belong together; closed once they are retired and nobody uses them."""

    def __init__(
        self,
        http: httpx.AsyncClient,
        *,
        owned: bool,
        signs: bool,
        shows: bool = False,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self.http, self._owned, self.signs, self.shows, self.tls = http, owned, signs, shows, tls
        self._users, self._retired = 0, False

    @asynccontextmanager
    async def used(self) -> AsyncIterator[None]:
        self._users += 1
        try:
            yield
        finally:
            self._users -= 1
            if self._retired:
                await self.retire()

    async def retire(self) -> None:
        self._retired = True
        if self._owned and self._users == 0:
            await self.http.aclose()


class DeviceClient:
    """One device's voice. Before enrolment it has no `device_id` and signs nothing."""

    def __init__(
        self,
        http: httpx.AsyncClient,
        server: str,
        key: DeviceKey,
        device_id: str | None,
        timeout_s: float = 30.0,
        *,
        credentials: Credentials | None = None,
        channel: Channel | None = None,
    ) -> None:
        self._http, self.key, self.device_id, self._timeout_s = http, key, device_id, timeout_s
        self._server = httpx.URL(server.rstrip("/") + "/")
        if self._server.scheme not in {"http", "https"} or not self._server.host:
            raise ValueError(f"{server!r} is not an http(s) address")
        self._credentials = credentials if self._server.scheme == "https" else None
        self._channel = channel or self._opened()
        self.certificate_failures = 0
        """How many connections in a row failed with our certificate: the server's TLS may take it for no good."""

    def _opened(self) -> Channel:
        """Return the way to our own server: by our certificate where there is one, else with signed requests."""
        if self._credentials is None:
            return Channel(self._http, owned=False, signs=True)
        context, shown = self._credentials.context()
        return Channel(new_http(_OWN_CONNECTIONS, context), owned=True, signs=not shown, shows=shown, tls=context)

    async def reopen(self) -> None:
        """Connect anew with the credentials as they are now; what is under way ends on the old connections."""
        old, self._channel = self._channel, self._opened()
        self.certificate_failures = 0
        await old.retire()

    async def aclose(self) -> None:
        await self._channel.retire()

    async def post_signed_by(self, key: DeviceKey, route: str, body: bytes, answer: type[Answer]) -> Answer:
        """Do as `post` does with another key, which only signs: our certificate is not its."""
        http = new_http(1, self._credentials.context(bare=True)[0]) if self._credentials else self._http
        channel = Channel(http, owned=self._credentials is not None, signs=True)
        other = DeviceClient(http, f"{self._server}", key, self.device_id, self._timeout_s, channel=channel)
        try:
            return await other.post(route, body, answer)
        finally:
            await other.aclose()

    def swear(self, payload_type: str, statement: BaseModel) -> Envelope:
        """Sign a statement with the device's key."""
        payload = statement.model_dump_json().encode()
        return seal_device_envelope(payload_type, payload, self.key.key_id, self.key.sign)

    async def post(self, route: str, body: bytes, answer: type[Answer], *, traced: bool = False) -> Answer:
        """Send a message and return the validated answer; `traced` asks who collects traces to keep this one.

        Raises:
            LinkError: no connection, a status other than 2xx, or an answer that must not be believed.
        """
        try:
            data = await asyncio.wait_for(self._posted(route, body, traced), self._timeout_s)
        except asyncio.TimeoutError as error:
            raise LinkError("timeout", f"no whole answer to {route} in {self._timeout_s:.0f} s") from error
        try:
            return answer.model_validate(strict_json(data, ANSWER_BYTES))
        except (ValueError, ValidationError) as error:
            raise LinkError("bad_answer", f"the answer to {route} is not valid: {str(error)[:300]}") from error

    @asynccontextmanager
    async def exchange(
        self,
        method: str,
        url: httpx.URL,
        *,
        headers: dict[str, str] | None = None,
        content: bytes | AsyncIterator[bytes] | None = None,
        content_sha256: str = EMPTY_SHA256,
    ) -> AsyncIterator[httpx.Response]:
        """Open a streamed exchange; signed if and only if it goes to our own server."""
        ours = same_origin(url, self._server)
        channel = self._channel if ours else Channel(self._http, owned=False, signs=False)
        request = channel.http.build_request(method, url, headers=headers, content=content)
        if ours and channel.signs:
            request.headers.update(self._signature(method, url, content_sha256))
        async with channel.used(), self._sent(channel, request) as response:
            yield response

    def plain_request(self, method: str, url: httpx.URL) -> tuple[dict[str, str], ssl.SSLContext | None]:
        """Return headers and TLS of a bodiless request that is sent by other means; None: the machine's trust."""
        headers = {"Accept-Encoding": "identity", "User-Agent": USER_AGENT}
        if not same_origin(url, self._server):
            return headers, None
        signed = self._signature(method, url, EMPTY_SHA256) if self._channel.signs else {}
        return headers | signed, self._channel.tls

    def _signature(self, method: str, url: httpx.URL, content_sha256: str) -> dict[str, str]:
        if self.device_id is None:
            return {}
        signed = self.key.sign(signing_input_of_digest(method, url.raw_path.decode(), content_sha256))
        return {"Fleetloop-Device": self.device_id, "Fleetloop-Signature": signed}

    @asynccontextmanager
    async def _sent(self, channel: Channel, request: httpx.Request) -> AsyncIterator[httpx.Response]:
        url = request.url
        try:
            response = await channel.http.send(request, stream=True)
        except httpx.TimeoutException as error:
            raise LinkError("timeout", f"{url.host} did not answer in time") from error
        except httpx.TransportError as error:
            self.certificate_failures += channel.shows
            raise LinkError("server_unreachable", f"{url.host}: {error or type(error).__name__}") from error
        if channel is self._channel:
            self.certificate_failures = 0
            # Something on the way may end TLS and keep our certificate to itself.
            channel.signs = channel.signs or response.status_code == 401
        try:
            yield response
        except httpx.TimeoutException as error:
            raise LinkError("timeout", f"{url.host} stopped sending") from error
        except httpx.TransportError as error:
            raise LinkError("connection_lost", f"{url.host}: {error or type(error).__name__}") from error
        finally:
            await response.aclose()

    def route(self, path: str) -> httpx.URL:
        return httpx.URL(f"{self._server}device/v1/{path}")

    def resolve(self, address: str) -> httpx.URL:
        """Return an address the server gave, relative or absolute; never from https down to http."""
        url = self._server.join(address)
        if url.scheme not in {"http", "https"} or (self._server.scheme == "https" and url.scheme == "http"):
            raise LinkError("bad_answer", f"the server points to {url.scheme}://{url.host}, which is not allowed")
        if _only_here(url.host) not in {None, _only_here(self._server.host)}:
            # A service of the device itself or of its cloud, which trusts whoever asks.
            raise LinkError("bad_answer", f"the server points to {url.host}, which means something else to everybody")
        return url

    async def _posted(self, route: str, body: bytes, traced: bool) -> bytes:
        headers = {"Content-Type": "application/json", "traceparent": new_traceparent(sampled=traced)}
        digest = hashlib.sha256(body).hexdigest()
        async with self.exchange(
            "POST", self.route(route), headers=headers, content=body, content_sha256=digest
        ) as response:
            await require_success(response)
            return await bounded_body(response, ANSWER_BYTES)


def new_traceparent(*, sampled: bool) -> str:
    """Begin a trace (https://www.w3.org/TR/trace-context/): what the server does about a request is then told apart."""
    return f"00-{secrets.token_hex(16)}-{secrets.token_hex(8)}-{int(sampled):02x}"


def _only_here(host: str) -> str | None:
    """Say in which way an address is this computer's own or its link's, if it is."""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return "loopback" if host == "localhost" or host.endswith(".localhost") else None
    if address.is_loopback or address.is_unspecified:
        return "loopback"
    return "link" if address.is_link_local or address.is_multicast else None


def same_origin(first: httpx.URL, second: httpx.URL) -> bool:
    return (first.scheme, first.host, first.port) == (second.scheme, second.host, second.port)


async def require_success(response: httpx.Response) -> None:
    """Raise LinkError for anything but 2xx, with the server's own words as far as they are short."""
    refuse_encoding(response.headers.get("Content-Encoding"))
    if not response.is_success:
        words = await bounded_body(response, 4096, strict=False)
        raise refused(response.status_code, words, response.headers.get("Retry-After"))


def refused(status: int, words: bytes, retry_after: str | None) -> LinkError:
    """Return what an answer other than 2xx means."""
    reason = {401: "not_authenticated", 403: "forbidden", 404: "not_found", 429: "too_many_requests"}.get(
        status, "server_error" if status >= 500 else "refused_by_server"
    )
    said = words.decode("utf-8", "replace")[:300]
    return LinkError(reason, f"{status} {said}", status=status, retry_after_s=_retry_after_s(retry_after or ""))


def refuse_encoding(encoding: str | None) -> None:
    """Compressed answers are refused unread: a few kilobytes may unpack to gigabytes."""
    plain = (encoding or "identity").strip().lower()
    if plain not in {"", "identity"}:
        raise LinkError("content_encoding", f"the answer is encoded as {plain[:40]!r}, which was not asked for")


async def bounded_body(response: httpx.Response, max_bytes: int, *, strict: bool = True) -> bytes:
    body = bytearray()
    async for chunk in response.aiter_raw():
        body += chunk
        if len(body) > max_bytes:
            if strict:
                raise LinkError("too_large", f"the answer has more than {max_bytes} bytes")
            break
    return bytes(body[:max_bytes])


def _retry_after_s(text: str) -> float | None:
    return float(text) if text.isascii() and text.isdigit() and len(text) < 8 else None
