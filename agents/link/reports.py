"""Install reports: signed when they are made, kept on disk until the server has them."""

import asyncio
import uuid
from datetime import datetime, timezone
from pathlib import Path
from typing import Final

from agents.link.backoff import Backoff
from agents.link.client import DeviceClient
from agents.link.errors import LinkError
from agents.link.identity import AGENT_VERSION
from agents.protocol.v1 import REPORT_PAYLOAD, ActiveRelease, DeploymentReport, InstallReport, ReportReply
from agents.sdk.files import read_bounded, write_whole

KEPT_MOST: Final = 256
_BYTES: Final = 16 << 10
_LOOK_S: Final = 5.0


class Reports:
    """`dropped` counts what was given up: the oldest of too many, and what the server will never take."""

    def __init__(self, client: DeviceClient, folder: Path) -> None:
        self._client, self._folder = client, folder
        self._backoff = Backoff(1.0, 300.0)
        self.made = asyncio.Event()
        self.dropped = 0
        self.last_error: str | None = None

    async def settled(self, deployment: DeploymentReport, active: ActiveRelease | None) -> None:
        """Swear to a deployment; durable when this returns."""
        device_id, at = self._client.device_id, datetime.now(timezone.utc)
        if device_id is None:
            raise ValueError("a device reports once it is enrolled")
        report = InstallReport(
            device_id=device_id,
            report_id=f"{at:%Y%m%dT%H%M%S%f}-{uuid.uuid4().hex[:12]}",
            at=at,
            agent_version=AGENT_VERSION,
            deployment=deployment,
            active=active,
        )
        envelope = self._client.swear(REPORT_PAYLOAD, report)
        body = envelope.model_dump_json(by_alias=True).encode()
        await asyncio.to_thread(self._write, report.report_id, body)
        self.made.set()

    def _write(self, report_id: str, body: bytes) -> None:
        self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        write_whole(self._folder / f"{report_id}.json", body, durable=True, mode=0o600)
        for path in self._waiting()[:-KEPT_MOST]:
            self._drop(path)

    async def send_once(self) -> float:
        """Send what waits, oldest first; return the seconds until the next look."""
        try:
            for path in await asyncio.to_thread(self._waiting):
                await self._send(path)
        except LinkError as error:
            self.last_error = str(error)
            return self._backoff.failed(error.retry_after_s)
        self._backoff.succeeded()
        self.last_error = None
        return self._backoff.spread(_LOOK_S)

    async def _send(self, path: Path) -> None:
        body = await asyncio.to_thread(read_bounded, path, _BYTES)
        if not body:
            self._drop(path)
            return
        try:
            await self._client.post("reports", body, ReportReply)
        except LinkError as error:
            if not error.refused:
                raise
            self.last_error = str(error)
            self._drop(path)
            return
        await asyncio.to_thread(path.unlink, missing_ok=True)

    def _waiting(self) -> list[Path]:
        return sorted(self._folder.glob("[0-9]*.json"))

    def _drop(self, path: Path) -> None:
        path.unlink(missing_ok=True)
        self.dropped += 1
