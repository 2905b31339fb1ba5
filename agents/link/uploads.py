"""Recordings to wherever the server wants them: announced, streamed with their length, completed."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Final

from agents.link.client import DeviceClient, require_success
from agents.link.errors import LinkError
from agents.protocol.v1 import RECORDING_PAYLOAD, Envelope, RecordingAnnounce, RecordingReply, RecordingStatement

_CHUNK: Final = 1 << 18


class Uploader:
    def __init__(self, client: DeviceClient, min_bytes_per_s: float = 16 << 10) -> None:
        self._client, self._min_bytes_per_s = client, min_bytes_per_s

    async def announce(self, recording: RecordingAnnounce) -> RecordingReply:
        signed = recording.model_copy(update={"signed": self._sworn(recording)})
        return await self._client.post("recordings", signed.model_dump_json(by_alias=True).encode(), RecordingReply)

    def _sworn(self, recording: RecordingAnnounce) -> Envelope | None:
        """Have the device swear to what it announces: others than the server may want to check it one day."""
        if self._client.device_id is None:
            return None
        facts = recording.model_dump(exclude={"signed"})
        return self._client.swear(RECORDING_PAYLOAD, RecordingStatement(device_id=self._client.device_id, **facts))

    async def complete(self, sha256: str) -> RecordingReply:
        return await self._client.post(f"recordings/{sha256}/complete", b"", RecordingReply)

    async def put(self, path: Path, sha256: str, size_bytes: int, upload_url: str) -> None:
        """Stream the file to `upload_url`; signed only where that is our own server.

        Raises:
            LinkError: it did not arrive; nothing is remembered, the next attempt starts over.
        """
        deadline_s = 60 + size_bytes / self._min_bytes_per_s
        try:
            await asyncio.wait_for(self._put(path, sha256, size_bytes, upload_url), deadline_s)
        except asyncio.TimeoutError as error:
            raise LinkError("deadline", f"the upload took longer than {deadline_s:.0f} s") from error

    async def _put(self, path: Path, sha256: str, size_bytes: int, upload_url: str) -> None:
        url = self._client.resolve(upload_url)
        headers = {"Content-Length": str(size_bytes)}
        async with self._client.exchange(
            "PUT", url, headers=headers, content=_pieces(path), content_sha256=sha256
        ) as response:
            await require_success(response)


async def _pieces(path: Path) -> AsyncIterator[bytes]:
    with path.open("rb") as file:
        while piece := await asyncio.to_thread(file.read, _CHUNK):
            yield piece
