"""Check-ins that bring nothing new: answered from memory, their sign of life written later, many devices at once.

A check-in is quiet if this process itself committed the last thing the device said, and all it says differently now is
its number, its nonce and its gauges. ADR 0018 says what that gives up and what not.

Each device is written at most every `WRITE_EVERY_S`. A write is taken only if the device's row is as this process left
it. Where it is not (another process heard the device, a person decided about it), nothing is answered from memory for
that device any more until it was judged by its row again; and what the row then proves, two computers with one key,
is treated as if the check-in had been judged at once.
"""

import asyncio
import contextlib
import json
import logging
import sys
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import lru_cache
from itertools import islice
from typing import Any

import msgspec

from agents.protocol import v1 as wire
from control_plane.fleet import store
from control_plane.fleet.domain import DeviceState, Freshness, Heard, freshness
from control_plane.fleet.service.check_ins import heard_of, quarantine_clone
from control_plane.fleet.service.identities import Identities, Known
from control_plane.kit import clock
from control_plane.kit.db import DATABASE_ERRORS, Database, Session

WRITE_EVERY_S = 5.0
LOOK_EVERY_S = 0.25
ROWS_AT_ONCE = 1000
RETRY_S = 1.0
WAITING_MOST = 500_000

log = logging.getLogger("fleetloop.quiet")


class Said(msgspec.Struct, gc=False):
    """A check-in as a process keeps it until its sign of life is written."""

    known: Known
    boot_id: bytes
    seq: int
    nonce: bytes
    spool: bytes
    platform: bytes | None
    since_seq: int
    since_s: float
    at: float


Offered = Callable[[Sequence[Said]], Awaitable[None]]


def name_of(boot_id: bytes, said: bytes) -> int:
    """Name what a device says of itself, all that is news when it changes; 0 is nobody's name.

    `said` is its check-in from the agent's version to the counter floor, as the agent writes it.
    """
    return hash((boot_id, said)) or 1


class Quiet:
    """What this process answered from memory and has not written yet.

    `listening` says whether notifications reach this process; while they do not, nothing is answered from memory.
    """

    def __init__(self, database: Database, identities: Identities, also: Offered | None = None) -> None:
        self._database, self._identities, self._also = database, identities, also
        self._waiting: dict[str, Said] = {}
        self._writing: dict[str, Said] = {}
        self._lock = asyncio.Lock()
        self.hears = asyncio.Event()

    @property
    def listening(self) -> bool:
        return self.hears.is_set()

    def listen(self, listening: bool) -> None:
        if listening:
            self.hears.set()
        else:
            self.hears.clear()

    @property
    def open(self) -> bool:
        return self.listening and len(self._waiting) < WAITING_MOST

    def begin(self, device_id: str) -> int:
        """Have a check-in judged by the device's row: none of it is answered from memory before `remember`."""
        known = self._identities.known(device_id)
        if known is None:
            return -1
        known.said = 0
        known.turn = (known.turn + 1) & 0xFF
        return known.turn

    def remember(self, device_id: str, turn: int, said: int, seq: int, floor: int, offer: object) -> Known | None:
        """Keep what a device said and was told, once that is committed; None if something came between."""
        known = self._identities.known(device_id)
        if known is None or known.turn != turn or known.denied or known.state is not DeviceState.ACTIVE:
            return None
        known.said, known.facts, known.offer, known.offered_at = said, 0, offer, -1
        known.seq, known.floor = seq, floor
        return known

    def hear(self, known: Known, boot_id: bytes, seq: int, nonce: bytes, spool: bytes, facts: bytes | None) -> None:
        """Note a quiet check-in of a device; it is written within `WRITE_EVERY_S`, if PostgreSQL can keep up."""
        at = clock.now().timestamp()
        waiting = self._waiting.get(known.id)
        if waiting is None:
            now_s = asyncio.get_running_loop().time()
            self._waiting[known.id] = Said(known, boot_id, seq, nonce, spool, facts, known.seq, now_s, at)
        else:
            waiting.seq, waiting.nonce, waiting.spool, waiting.at = seq, nonce, spool, at
            waiting.platform = facts or waiting.platform
        known.seq = seq

    async def preload(self, most: int) -> int:
        """Read devices that were heard lately into memory, as if they had just said again what is in their rows.

        So a process that starts is not asked for the row of every device of the fleet at once. Return how many.
        """
        after, done = "", 0
        while done < most and self.listening:
            changes = self._identities.changes
            rows = await store.heard_lately(self._database, after, min(ROWS_AT_ONCE, most - done))
            if changes != self._identities.changes:
                continue  # what was read may be older than what a notification just said
            for row in rows:
                self._identities.keep(_known(row))
            done += len(rows)
            if len(rows) < ROWS_AT_ONCE:
                break
            after = str(rows[-1]["id"])
        return done

    async def settle(self, device_id: str) -> None:
        """Write what a device said before, so that its row can judge what it says now."""
        if device_id in self._waiting or device_id in self._writing:
            async with self._lock:
                said = self._waiting.pop(device_id, None)
                if said is not None:
                    await self._write([said])

    async def run(self) -> None:
        """Write for ever; at the end write what is left."""
        try:
            while True:
                await asyncio.sleep(LOOK_EVERY_S)
                await self._write_due(asyncio.get_running_loop().time() - WRITE_EVERY_S)
        finally:
            with contextlib.suppress(OSError, *DATABASE_ERRORS):  # at the end nobody is left to try again
                await self.flush()

    async def flush(self) -> None:
        while self._waiting:
            async with self._lock:
                await self._write(self._take(float("inf")))

    async def _write_due(self, until_s: float) -> None:
        try:
            async with self._lock:
                while due := self._take(until_s):
                    await self._write(due)
        except (OSError, *DATABASE_ERRORS) as error:
            log.warning("signs of life are not written: %s", str(error)[:200])
            await asyncio.sleep(RETRY_S)

    def _take(self, until_s: float) -> list[Said]:
        due = []
        for said in islice(self._waiting.values(), ROWS_AT_ONCE):
            if said.since_s > until_s:
                break
            due.append(said)
        for said in due:
            del self._waiting[said.known.id]
        return due

    async def _write(self, batch: list[Said]) -> None:
        self._writing = {said.known.id: said for said in batch}
        try:
            written = await store.go_on_quietly(self._database, [_row(said) for said in batch])
        except BaseException:
            self._put_back(batch)
            raise
        finally:
            self._writing = {}
        for said in batch:
            if said.known.id not in written:
                await self._disagree(said)
        if self._also is not None:
            await self._also([said for said in batch if said.known.id in written])

    def _put_back(self, batch: list[Said]) -> None:
        for said in batch:
            newer = self._waiting.setdefault(said.known.id, said)
            if newer is not said:
                newer.since_seq = said.since_seq

    async def _disagree(self, said: Said) -> None:
        """Learn from a row that is not as this process left it; the device's next check-in is judged by it."""
        device_id = said.known.id
        self._identities.forget(device_id)
        async with self._database.transaction() as session:
            device = await store.lock_seen(session, device_id)
            if device is None or device["state"] != DeviceState.ACTIVE or device["denied"]:
                return
            await self._compare(session, said, heard_of(device))

    async def _compare(self, session: Session, said: Said, heard: Heard) -> None:
        device_id, boot_id, nonce = said.known.id, said.boot_id.decode(), said.nonce.decode()
        if boot_id not in heard.boots:
            return
        if boot_id != heard.boots[0]:
            last, late = heard.ends.get(boot_id, (said.seq, 0))
            ends = {**heard.ends, boot_id: (max(last, said.seq), late)}  # it was on time; it is written late
            await store.put_boot_ends(session, device_id, json.dumps(ends))
            return
        found = freshness(heard, boot_id, said.seq, nonce)
        if found is Freshness.CLONED:
            await quarantine_clone(session, device_id, boot_id, said.seq)
        elif found is Freshness.FRESH:
            await store.raise_seq(session, device_id, said.seq, nonce)


def _row(said: Said) -> store.QuietRow:
    return store.QuietRow(
        said.known.id,
        said.known.key_sha256.hex(),
        said.boot_id.decode(),
        said.since_seq,
        said.seq,
        said.nonce.decode(),
        said.at,
        said.spool.decode(),
        said.platform.decode() if said.platform else None,
    )


def _known(row: Mapping[str, Any]) -> Known:
    active = b"null"
    if row["active_release"] is not None:
        found = str(row["active_release"]).encode(), str(row["active_content"]).encode(), row["active_counter"]
        active = b'{"release_digest":"%b","content_digest":"%b","counter":%d}' % found
    deployment = _deployment(row["deployment"]) if row["deployment"] is not None else b"null"
    version = row["agent_version"].encode()
    said = b'"agent_version":"%b","active":%b,"deployment":%b,"counter_floor":%d'
    return Known(
        row["id"],
        sys.intern(row["device_class"]),
        sys.intern(row["site"]),
        DeviceState.ACTIVE,
        bytes.fromhex(row["key_sha256"]),
        denied=False,
        said=name_of(row["boot"].encode(), said % (version, active, deployment, row["counter_floor"])),
        seq=row["last_seq"],
        floor=row["counter_floor"],
    )


@lru_cache(maxsize=1000)
def _deployment(kept: str) -> bytes:
    """Return a report from its row as the agent writes it."""
    return wire.DeploymentReport.model_validate_json(kept).model_dump_json().encode()
