"""The device's spool: exposure windows and field events until the server has acknowledged them.

Promises:
- when `put` returns, the item survives kill -9 and a power cut (WAL with synchronous=FULL: one fsync per call; with
  NORMAL a power cut may take back the last commits, and with them what the application was told is safe);
- one `stream_id` for the spool's life and one strictly growing `seq` (AUTOINCREMENT: never reused, even after acks);
- bounded in rows, bytes and age: the oldest windows are merged first (sums are kept), then windows go, events go last;
  everything lost is counted. Age is time in which the device ran: a clock that jumps makes nothing old;
- what was once sent is never merged: the server may already have it under its own `seq`;
- what the server refuses for good is kept apart with the reason, bounded, and sent again only by `retry_rejected`;
- a damaged file is put aside and a new one begun: it costs what was in it, never the device.

Any number of processes may open it. It does not know the network.
"""

import json
import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from agents.sdk import spool_file
from agents.sdk.merging import merge_windows

WINDOW: Final = "window"
EVENT: Final = "event"
MAX_ITEM_BYTES: Final = 64 << 10
REJECTED_MAX: Final = 200
_DAY_S: Final = 86400
# One step of the running clock: what a device slept, or its clock jumped, makes its items no older than this.
_STEP_MAX_S: Final = 3600
_STEP_S: Final = 60


class SpoolError(OSError):
    """The item could not be made durable (disk full, database locked for seconds); it was not taken."""


class _RebuiltError(SpoolError):
    """The file was damaged and is a new one now."""


@dataclass(frozen=True)
class Item:
    seq: int
    kind: str
    body: dict[str, Any]


@dataclass(frozen=True)
class Limits:
    rows: int = 20_000
    bytes: int = 32 << 20
    window_age_s: int = 90 * _DAY_S
    event_age_s: int = 180 * _DAY_S


class Spool:
    def __init__(self, path: Path, limits: Limits | None = None) -> None:
        self._path, self._limits = path, limits or Limits()
        self._lock = threading.Lock()
        self._sent_before = 0
        self._db = spool_file.opened(path)
        self._adopt()

    def close(self) -> None:
        with self._lock:
            self._db.close()

    def put(self, kind: str, body: dict[str, Any]) -> int:
        """Store one item durably and return its seq.

        Raises:
            ValueError: the item is larger than the server would read.
            SpoolError: it could not be stored; nothing was.
        """
        text = json.dumps(body, separators=(",", ":"), allow_nan=False)
        if len(text) > MAX_ITEM_BYTES:
            raise ValueError(f"an item of {len(text)} bytes; at most {MAX_ITEM_BYTES} fit")
        try:
            return self._put(kind, text)
        except _RebuiltError:
            return self._put(kind, text)

    def _put(self, kind: str, text: str) -> int:
        with self._transaction() as db:
            born_s = self._age(db)
            seq = db.execute(
                "INSERT INTO items (kind, size, body, born_s) VALUES (?, ?, ?, ?)", (kind, len(text), text, born_s)
            ).lastrowid
            self._bound(db)
        return int(seq or 0)

    def take(self, max_items: int, max_bytes: int = 512 << 10) -> list[Item]:
        """Return the oldest items and remember that they were sent; asking again gives the same ones until `ack`."""
        with self._transaction() as db:
            items: list[Item] = []
            size = 0
            for seq, kind, text in db.execute(
                "SELECT seq, kind, body FROM items ORDER BY seq LIMIT ?", (max_items,)
            ).fetchall():
                size += len(text)
                if items and size > max_bytes:
                    break
                items.append(Item(seq, kind, json.loads(text)))
            if items:
                (self._sent_before,) = db.execute("SELECT value FROM counts WHERE name = 'sent_through'").fetchone()
                db.execute("UPDATE counts SET value = max(value, ?) WHERE name = 'sent_through'", (items[-1].seq,))
        return items

    def holds(self, kind: str) -> bool:
        """Say whether an item of this kind waits."""
        with self._transaction(write=False) as db:
            return db.execute("SELECT 1 FROM items WHERE kind = ? LIMIT 1", (kind,)).fetchone() is not None

    def take_back(self) -> None:
        """Say that what was taken last never left the device, so that it may be merged while the server is away."""
        with self._transaction() as db:
            db.execute("UPDATE counts SET value = ? WHERE name = 'sent_through'", (self._sent_before,))

    def ack(self, through: int) -> None:
        """Forget everything sent up to `through`; what was never sent stays, whatever a server claims."""
        with self._transaction() as db:
            db.execute(
                "DELETE FROM items WHERE seq <= min(?, (SELECT value FROM counts WHERE name = 'sent_through'))",
                (through,),
            )

    def reject(self, seq: int, reason: str = "") -> None:
        """Put one item apart that the server will never take as it is, and count it; the oldest such go."""
        with self._transaction() as db:
            kept = db.execute(
                "INSERT OR IGNORE INTO rejected SELECT seq, kind, size, body, ?, born_s, 1 FROM items WHERE seq = ?",
                (reason[:300], seq),
            ).rowcount
            db.execute("DELETE FROM items WHERE seq = ?", (seq,))
            _count(db, "rejected_items", kept)
            db.execute(
                "DELETE FROM rejected WHERE seq NOT IN (SELECT seq FROM rejected ORDER BY seq DESC LIMIT ?)",
                (REJECTED_MAX,),
            )

    def rejected(self) -> list[tuple[Item, str]]:
        """Return what was refused for good, each with the reason."""
        with self._lock:
            found = self._db.execute("SELECT seq, kind, body, reason FROM rejected ORDER BY seq").fetchall()
        return [(Item(seq, kind, json.loads(body)), reason) for seq, kind, body, reason in found]

    def retry_rejected(self, agent_version: str) -> int:
        """Queue what was refused once more, once for each version of the agent: only a new one may say it better."""
        with self._transaction() as db:
            said = db.execute("SELECT value FROM facts WHERE name = 'agent_version'").fetchone()
            if said is not None and said[0] == agent_version:
                return 0
            again = db.execute(
                "INSERT INTO items (kind, size, body, born_s)"
                " SELECT kind, size, body, born_s FROM rejected ORDER BY seq"
            ).rowcount
            db.execute("DELETE FROM rejected")
            db.execute("INSERT OR REPLACE INTO facts VALUES ('agent_version', ?)", (agent_version,))
            self._bound(db)
        return again

    def tidy(self) -> None:
        """Let go of what is too old although nothing new comes in."""
        with self._transaction() as db:
            self._age(db)

    def count(self, name: str, amount: int = 1) -> None:
        with self._transaction() as db:
            _count(db, name, amount)

    def counts(self) -> dict[str, int]:
        with self._transaction(write=False) as db:
            return dict(db.execute("SELECT name, value FROM counts").fetchall())

    @contextmanager
    def _transaction(self, *, write: bool = True) -> Iterator[sqlite3.Connection]:
        with self._lock:
            try:
                self._follow()
                self._db.execute("BEGIN IMMEDIATE" if write else "BEGIN")
                try:
                    yield self._db
                except BaseException:
                    self._db.execute("ROLLBACK")
                    raise
                self._db.execute("COMMIT")
            except sqlite3.Error as error:
                self._failed(error)

    def _failed(self, error: sqlite3.Error) -> None:
        if spool_file.is_damage(error):
            self._db.close()
            try:
                self._db = spool_file.rebuilt(self._path, self._inode)
                self._adopt()
            except sqlite3.Error as second:
                raise SpoolError(f"spool: {error}; and no new one: {second}") from second
            raise _RebuiltError(f"spool: {error}; it was put aside") from error
        if self._db.in_transaction:
            self._db.execute("ROLLBACK")
        raise SpoolError(f"spool: {error}") from error

    def _follow(self) -> None:
        """Go over to the file that another process began after putting a damaged one aside."""
        if spool_file.inode_of(self._path) != self._inode:
            self._db.close()
            self._db = spool_file.opened(self._path)
            self._adopt()

    def _adopt(self) -> None:
        self._inode = spool_file.inode_of(self._path)
        self.stream_id = str(self._db.execute("SELECT value FROM facts WHERE name = 'stream_id'").fetchone()[0])

    def _age(self, db: sqlite3.Connection) -> int:
        """Move the running clock on, now and then drop what is too old, and return the clock."""
        facts = dict(db.execute("SELECT name, value FROM facts WHERE name IN ('running_s', 'clock_at')").fetchall())
        running_s, passed_s = int(facts["running_s"]), int(time.time()) - int(facts["clock_at"])
        if 0 <= passed_s < _STEP_S:
            return running_s
        running_s += min(max(0, passed_s), _STEP_MAX_S)
        now = {"running_s": running_s, "clock_at": int(time.time())}
        db.executemany("INSERT OR REPLACE INTO facts VALUES (?, ?)", [(name, str(at)) for name, at in now.items()])
        db.execute("UPDATE items SET born_s = ? WHERE born_s < 0", (running_s,))
        for kind, age_s in ((WINDOW, self._limits.window_age_s), (EVENT, self._limits.event_age_s)):
            gone = db.execute("DELETE FROM items WHERE kind = ? AND born_s < ?", (kind, running_s - age_s)).rowcount
            _count(db, f"dropped_{kind}s", gone)
        db.execute("DELETE FROM rejected WHERE born_s < ?", (running_s - self._limits.event_age_s,))
        return running_s

    def _bound(self, db: sqlite3.Connection) -> None:
        if not self._over(db):
            return
        while self._over(db) and _merge_oldest(db):
            pass
        for kind in (WINDOW, EVENT):
            while self._over(db) and (gone := _drop_oldest(db, kind)):
                _count(db, f"dropped_{kind}s", gone)

    def _over(self, db: sqlite3.Connection) -> bool:
        counts = dict(db.execute("SELECT name, value FROM counts WHERE name IN ('rows', 'bytes')").fetchall())
        return bool(counts["rows"] > self._limits.rows or counts["bytes"] > self._limits.bytes)


def _count(db: sqlite3.Connection, name: str, amount: int) -> None:
    db.execute("UPDATE counts SET value = value + ? WHERE name = ?", (amount, name))


def _merge_oldest(db: sqlite3.Connection) -> int:
    """Merge neighbours among the older half of the unsent windows; return how many rows went."""
    rows = db.execute(
        "SELECT seq, body, born_s FROM items WHERE kind = ?"
        " AND seq > (SELECT value FROM counts WHERE name = 'sent_through') ORDER BY seq",
        (WINDOW,),
    ).fetchall()
    older = rows[: max(2, len(rows) // 2)]
    merged = 0
    for (first_seq, first, _), (seq, second, born_s) in zip(older[::2], older[1::2], strict=False):
        both = merge_windows(json.loads(first), json.loads(second))
        if both is not None:
            text = json.dumps(both, separators=(",", ":"))
            db.execute("DELETE FROM items WHERE seq IN (?, ?)", (first_seq, seq))
            # The later seq keeps the stream growing and was never sent.
            db.execute(
                "INSERT INTO items (seq, kind, size, body, born_s) VALUES (?, ?, ?, ?, ?)",
                (seq, WINDOW, len(text), text, born_s),
            )
            merged += 1
    _count(db, "merged_windows", merged)
    return merged


def _drop_oldest(db: sqlite3.Connection, kind: str) -> int:
    return db.execute(
        "DELETE FROM items WHERE seq IN (SELECT seq FROM items WHERE kind = ? ORDER BY seq LIMIT 64)", (kind,)
    ).rowcount
