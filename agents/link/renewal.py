"""The device's certificate, renewed from half of its life on, also long after it is over."""

import asyncio
from datetime import datetime, timezone
from typing import Final

from agents.link.backoff import Backoff
from agents.link.client import DeviceClient
from agents.link.credentials import Credentials
from agents.link.errors import LinkError
from agents.link.keys import DeviceKey
from agents.protocol.v1 import RenewReply, RenewRequest
from agents.sdk.files import sync_directory

LOOK_S: Final = 60.0
_FIRST_S, _MOST_S, _FAILURES = 30.0, 3600.0, 3


class Renewal:
    """`fresh_key` makes a new key with every renewal; the old one signs for it and is then gone."""

    def __init__(self, client: DeviceClient, credentials: Credentials, *, fresh_key: bool = False) -> None:
        self._client, self._credentials, self._fresh_key = client, credentials, fresh_key
        self._next = credentials.key.with_name("key.next.pem")
        self._backoff = Backoff(_FIRST_S, _MOST_S)
        self.last_error: str | None = None

    async def once(self) -> float:
        """Renew if it is time; return the seconds until the next look."""
        if not self.due():
            return self._backoff.spread(LOOK_S)
        try:
            await self.renew()
        except LinkError as error:
            self.last_error = str(error)
            return self._backoff.failed(error.retry_after_s)
        self._backoff.succeeded()
        self.last_error = None
        return self._backoff.spread(LOOK_S)

    def due(self) -> bool:
        """Whether half the certificate's life is over, or the server took it for no good."""
        valid = self._credentials.valid()
        if valid is None or self._certificate_fails or self._next.exists():
            return True
        begin, end = valid
        return datetime.now(timezone.utc) >= begin + (end - begin) / 2

    async def renew(self) -> None:
        """Get a new certificate and use it.

        Raises:
            LinkError: the server refused or could not be reached; the next attempt goes on where this one stopped.
        """
        key = self._client.key
        fresh = DeviceKey.load_or_make(self._next) if self._fresh_key or self._next.exists() else key
        body = RenewRequest(csr_pem=fresh.csr_pem()).model_dump_json().encode()
        try:
            reply = await self._asked(key, body)
        except LinkError as error:
            if fresh is key or error.status != 401:
                raise
            # The server may have taken the fresh key before its answer was lost: then only that one is heard.
            reply = await self._client.post_signed_by(fresh, "renew", body, RenewReply)
        await asyncio.to_thread(self._keep, reply)
        key.become(fresh)
        await self._client.reopen()

    @property
    def _certificate_fails(self) -> bool:
        """Whether the server's TLS seems to refuse our certificate: by its clock it may be over, by ours not yet."""
        return self._client.certificate_failures >= _FAILURES

    async def _asked(self, key: DeviceKey, body: bytes) -> RenewReply:
        if self._certificate_fails:
            return await self._client.post_signed_by(key, "renew", body, RenewReply)
        return await self._client.post("renew", body, RenewReply)

    def _keep(self, reply: RenewReply) -> None:
        # The key goes first: a certificate of a key that is gone would be of no use, and this one can be had again.
        if self._next.exists():
            self._next.replace(self._credentials.key)
            sync_directory(self._credentials.key.parent)
        self._credentials.store(reply.certificate_pem, reply.ca_pem if self._credentials.pinned else None)
