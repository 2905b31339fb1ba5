"""One device's agent: its parts wired together and the four loops that keep it going.

`run` and `host` start exactly this; they differ in how many share a process.
"""

import asyncio
import contextlib
import fcntl
import logging
import sqlite3
import time
import uuid
from collections.abc import Awaitable, Callable, Coroutine
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, Final, TextIO

from agents.capture import PERIOD_S, HeatLog, Now, Outbox, RecordingSender, TelemetrySender
from agents.link import Credentials, Identity, Renewal, Reports, Uploader, open_client
from agents.link.identity import AGENT_VERSION
from agents.main.check_in import CheckIns, active_release
from agents.main.configuration import Configuration
from agents.main.page import LoopbackPage
from agents.main.parts import Shared, open_parts
from agents.main.status import status
from agents.main.trusting import TrustKeeper
from agents.platform import PlatformFacts
from agents.protocol.v1 import DeploymentPhase, canonical_json
from agents.sdk.files import write_whole
from agents.sdk.layout import StateDir
from agents.sdk.spool import Spool
from agents.update import (
    Anchor,
    DirectorCheck,
)

_BUSY_TICK_S: Final = 1.0
# A model that turns out bad after its trial is left within this.
_SETTLED_TICK_S: Final = 5.0
_STATUS_S: Final = 60.0
_SWORN_TO: Final = frozenset({DeploymentPhase.COMMITTED, DeploymentPhase.REVERTED, DeploymentPhase.REFUSED})
_log = logging.getLogger("fleetloop.agent")


class LockedError(RuntimeError):
    """Another agent runs on this state directory; two of them would look like a cloned device."""


class Agent:
    """Needs an enrolled state directory.

    Raises:
        LockedError: another agent holds it.
    """

    def __init__(self, state: StateDir, identity: Identity, shared: Shared) -> None:
        self.identity = identity
        self._state = state
        self._lock = _locked(state.private / "agent.lock")
        configuration = Configuration.load(state)
        self._client = client = open_client(shared.http, state, identity)
        self._renewal = Renewal(client, Credentials(state.private))
        self._reports = Reports(client, state.private / "reports")
        self._platform = PlatformFacts(state.root)
        parts = open_parts(state, identity, client, shared, configuration, self._platform)
        if parts.recovered:
            _log.warning("%s: the journal was rebuilt from the active link: %s", identity.device_id, parts.recovered)
        self._update, self._downloader = parts.update, parts.downloader
        self._spool = Spool(state.spool)
        self._outbox = Outbox(state.outbox, state.private / "capture.db")
        self._heat = HeatLog()
        self._telemetry = TelemetrySender(client, self._spool, self._heat)
        self._present = parts.present
        self._spool.retry_rejected(AGENT_VERSION)
        self._recordings = RecordingSender(
            Uploader(client), self._outbox, configuration.capture_rules(), configuration.bounds(),
            courtesy=configuration.courtesy(), now=self._around, retry=configuration.retry(),
        )  # fmt: skip
        self._check_ins = self._checking_in(parts.trust.anchor)
        self._trusting = TrustKeeper(parts.trust, self._update, self._check_ins.hurry.set)
        port = configuration.status.port
        self._page = LoopbackPage(port, lambda: status(state), self._gauges) if port else None
        self._status_errors: dict[str, str | None] = {}
        self._status_at_s = float("-inf")

    def _checking_in(self, anchor: Anchor) -> CheckIns:
        return CheckIns(
            self._client,
            DirectorCheck(self.identity.device_id, anchor.director_keys, anchor.heard_time),
            self._update,
            self._numbers,
            self._platform.now,
            anchor,
            boot_id=f"b-{uuid.uuid4().hex[:20]}",
        )

    async def run(self) -> None:
        """Run until cancelled."""
        try:
            await self._update.check_slots()
            await _together(
                self._updating(),
                _repeated(self._trusting.once, self._check_ins.trust_outdated),
                _repeated(self._checked_in, self._check_ins.hurry),
                _repeated(self._telemetry.look),
                _repeated(self._feel),
                _repeated(self._recordings.send_once),
                _repeated(self._reports.send_once, self._reports.made),
                _repeated(self._renewal.once),
                *([self._page.run()] if self._page else []),
            )
        finally:
            await self._update.close()
            await self._client.aclose()
            self._spool.close()
            self._outbox.close()
            self._lock.close()

    async def _updating(self) -> None:
        while True:
            before = self._update.state
            await self._update.advance()
            after = self._update.state
            if (before.phase, before.reason, before.target) != (after.phase, after.reason, after.target):
                _log.info(
                    "%s: %s %s: %s",
                    self.identity.device_id,
                    after.phase.value,
                    after.reason or "",
                    self._update.because,
                )
                # The server hears of it now, not a period later.
                self._check_ins.hurry.set()
                if after.phase in _SWORN_TO:
                    await self._swear()
            tick_s = _SETTLED_TICK_S if self._update.settled else _BUSY_TICK_S
            with contextlib.suppress(asyncio.TimeoutError):
                await asyncio.wait_for(self._update.wake.wait(), tick_s)

    async def _swear(self) -> None:
        """Keep a signed report of how a deployment ended; a full disk must not stop the update itself."""
        report = self._update.report()
        if report is None:
            return
        try:
            await self._reports.settled(report, active_release(self._update.running()))
        except OSError as error:
            _log.warning("%s: no report of %s: %s", self.identity.device_id, report.phase.value, error)

    async def _checked_in(self) -> float:
        wait_s = await self._check_ins.once()
        # For `doctor`; a file a minute is enough while nothing changes.
        errors = self._errors()
        if errors != self._status_errors or time.monotonic() - self._status_at_s > _STATUS_S:
            self._status_errors, self._status_at_s = errors, time.monotonic()
            write_whole(self._state.private / "status.json", canonical_json(self._status()), durable=False)
        return wait_s

    async def _feel(self) -> float:
        """Read how hot the machine is, for the windows of this time."""
        machine = self._platform.conditions()
        self._heat.note(datetime.now(timezone.utc), machine.temperature_c, machine.throttled)
        return PERIOD_S

    def _gauges(self) -> dict[str, float]:
        """Return what the loopback page gives to Prometheus."""
        state, at, machine = self._update.state, self._check_ins.last_at, self._platform.conditions()
        active = self._update.running()
        told = {
            "checked_in_timestamp_seconds": at.timestamp() if at else None,
            "active_counter": float(active.counter) if active else 0.0,
            "counter_floor": float(state.floor),
            "temperature_celsius": machine.temperature_c,
            "power_watts": machine.power_w,
            **{f'phase{{phase="{each.value}"}}': float(state.phase is each) for each in DeploymentPhase},
            **{f'failing{{part="{name}"}}': float(error is not None) for name, error in self._errors().items()},
        }
        return {**self._numbers(), **{name: value for name, value in told.items() if value is not None}}

    def _errors(self) -> dict[str, str | None]:
        return {
            "check_in_error": self._check_ins.last_error,
            "trust_error": self._trusting.last_error,
            "telemetry_error": self._telemetry.last_error,
            "recordings_error": self._recordings.last_error,
        }

    def _status(self) -> dict[str, Any]:
        at = self._check_ins.last_at
        return {
            "checked_in_at": at.isoformat() if at else None,
            **self._errors(),
            "held": dict(self._recordings.held),
            "refused_recordings": self._outbox.reasons(),
        }

    def _around(self) -> Now:
        """Return what a recording may have to wait for."""
        machine = self._platform.conditions()
        metered = self._present.metered(machine)
        return Now(metered, machine.temperature_c, machine.throttled, behind=self._telemetry.behind)

    def _numbers(self) -> dict[str, float]:
        """Return what a check-in says about spool, outbox and downloads."""
        counts = self._spool.counts()
        own = {
            "outbox_files": self._recordings.waiting_files,
            "outbox_bytes": self._recordings.waiting_bytes,
            "outbox_dropped": self._recordings.dropped,
            "outbox_rejected": self._outbox.counts().get("rejected", 0),
            "outbox_held": sum(self._recordings.held.values()),
            "wrong_digests": self._downloader.wrong_digests,
            "downloaded_bytes": self._downloader.received_bytes,
        }
        return {name: float(value) for name, value in {**counts, **own}.items() if name != "sent_through"}


async def _together(*works: Coroutine[Any, Any, None]) -> None:
    """Run all until one fails; none outlives the others (python 3.10 has no TaskGroup)."""
    tasks = [asyncio.ensure_future(work) for work in works]
    try:
        await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _repeated(work: Callable[[], Awaitable[float]], hurry: asyncio.Event | None = None) -> None:
    """Do `work` again after as many seconds as it says, or at once when somebody is in a hurry."""
    event = hurry or asyncio.Event()
    while True:
        event.clear()
        try:
            wait_s = await work()
        except (OSError, sqlite3.Error) as error:
            # A full disk or a database locked by the application: this part waits, the others go on.
            _log.warning("%s", error)
            wait_s = 10.0
        with contextlib.suppress(asyncio.TimeoutError):
            await asyncio.wait_for(event.wait(), wait_s)


def _locked(path: Path) -> TextIO:
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    file = path.open("w")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        file.close()
        raise LockedError(f"another agent runs on {path.parent.parent}") from error
    return file
