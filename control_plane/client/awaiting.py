"""The client whose calls are awaited; the calls are those of `Client`."""

import asyncio
from collections.abc import AsyncIterator
from functools import cached_property, partial
from pathlib import Path
from typing import Any, Self, TypeVar

import httpx

from control_plane.client.ask import Ask, Awaiting, Pages, Patience
from control_plane.client.blocking import Client, checked
from control_plane.client.calls import Calls
from control_plane.client.errors import ClientError, unreachable
from control_plane.factory.schemas import FileRef

T = TypeVar("T")


class AsyncClient(Calls, Awaiting):
    """`Client` for asyncio: the same calls, awaited, and lists walked with `async for`.

    >>> async def first_serials() -> list[str]:
    ...     async with AsyncClient(server, token) as client:
    ...         summary = await client.fleet_summary()
    ...         assert sum(line.devices for line in summary) == 2
    ...         return sorted([device.serial async for device in client.list_devices()])
    >>> asyncio.run(first_serials())
    ['sn-0', 'sn-1']
    """

    def __init__(self, server: str, token: str, *, patience_s: float = 60.0, timeout_s: float = 60.0) -> None:
        self.server = server.rstrip("/")
        self._http = httpx.AsyncClient(timeout=timeout_s)
        self._patience_s = patience_s
        self._headers = {"Authorization": f"Bearer {token}"}
        self._blocking = partial(Client, server, token, patience_s=patience_s, timeout_s=timeout_s)

    @cached_property
    def _files(self) -> Client:
        """Files are read and hashed, which blocks anyway: that is done by a client of the other kind, in a thread."""
        return self._blocking()

    async def close(self) -> None:
        if "_files" in vars(self):
            self._files.close()
        await self._http.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def make(self, ask: Ask[T]) -> T:
        patience, url = Patience(self._patience_s), f"{self.server}/api/v1{ask.path}"
        values: dict[str, Any] = {
            "content": ask.content(),
            "headers": self._headers | ask.headers(),
            "params": ask.params(),
            "timeout": ask.timeout_s or self._http.timeout,
        }
        while True:
            try:
                return ask.read(checked(await self._http.request(ask.method, url, **values)).content)
            except httpx.TransportError as error:
                failure: ClientError = unreachable(self.server, error)
            except ClientError as error:
                failure = error
            await asyncio.sleep(patience.pause_after(failure))

    async def walk(self, pages: Pages[T]) -> AsyncIterator[T]:
        after: str | None = None
        while True:
            items, after = pages.read(await self.make(pages.ask(after)))
            for item in items:
                yield item
            if after is None:
                return

    async def upload(self, path: Path) -> FileRef:
        """As `Client.upload`, in a thread."""
        return await asyncio.to_thread(self._files.upload, path)

    async def download(self, sha256: str, target: Path) -> None:
        """As `Client.download`, in a thread."""
        await asyncio.to_thread(self._files.download, sha256, target)
