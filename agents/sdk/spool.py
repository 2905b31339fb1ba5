"""The device's spool: exposure windows and field events until the server has acknowledged them.

Promises:
- when `put` returns, the item survives kill -9 and a power cut (WAL with synchronous=FULL: one fsync per call; with
  NORMAL a power cut may take back the last commits, and with them what the application was told is safe);
- one `stream_id` for the spool's life and one strictly growing `seq` (AUTOINCREMENT: never reused, even after acks);
- bounded in rows and bytes: the oldest windows are merged first (sums are kept), then windows go, events go last;
  everything lost is counted;
- what was once sent is never merged: the server may already have it under its own `seq`.

Any number of processes may open it. It does not know the network.
"""

import json
import sqlite3
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from agents.sdk.files import sync_directory
from agents.sdk.merging import merge_windows

WINDOW: Final = "window"
EVENT: Final = "event"
MAX_ITEM_BYTES: Final = 64 << 10

_SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS facts (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS counts (name TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS items (
  seq INTEGER PRIMARY KEY AUTOINCREMENT, kind TEXT NOT NULL, size INTEGER NOT NULL, body TEXT NOT NULL);
CREATE TRIGGER IF NOT EXISTS item_in AFTER INSERT ON items BEGIN
  UPDATE counts SET value = value + 1 WHERE name = 'rows';
  UPDATE counts SET value = value + new.size WHERE name = 'bytes'; END;
CREATE TRIGGER IF NOT EXISTS item_out AFTER DELETE ON items BEGIN
  UPDATE counts SET value = value - 1 WHERE name = 'rows';
  UPDATE counts SET value = value - old.size WHERE name = 'bytes'; END;
"""
_COUNTERS: Final = (
    "rows", "bytes", "sent_through", "merged_windows", "dropped_windows", "dropped_events", "dropped_recordings",
    "rejected_items",
)  # fmt: skip


class SpoolError(OSError):
    """The item could not be made durable (disk full, database locked for seconds); it was not taken."""


@dataclass(frozen=True)
class Item:
    seq: int
    kind: str
    body: dict[str, Any]


@dataclass(frozen=True)
class Limits:
    rows: int = 20_000
    bytes: int = 32 << 20


class Spool:
    def __init__(self, path: Path, limits: Limits | None = None) -> None:
        self._limits = limits or Limits()
        self._lock = threading.Lock()
        self._db = _opened(path)
        self.stream_id = str(self._db.execute("SELECT value FROM facts WHERE name = 'stream_id'").fetchone()[0])

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
        with self._transaction() as db:
            seq = db.execute("INSERT INTO items (kind, size, body) VALUES (?, ?, ?)", (kind, len(text), text)).lastrowid
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
                db.execute("UPDATE counts SET value = max(value, ?) WHERE name = 'sent_through'", (items[-1].seq,))
        return items

    def ack(self, through: int) -> None:
        """Forget everything sent up to `through`; what was never sent stays, whatever a server claims."""
        with self._transaction() as db:
            db.execute(
                "DELETE FROM items WHERE seq <= min(?, (SELECT value FROM counts WHERE name = 'sent_through'))",
                (through,),
            )

    def reject(self, seq: int) -> None:
        """Drop one item that the server will never take, and count it."""
        with self._transaction() as db:
            gone = db.execute("DELETE FROM items WHERE seq = ?", (seq,)).rowcount
            _count(db, "rejected_items", gone)

    def count(self, name: str, amount: int = 1) -> None:
        with self._transaction() as db:
            _count(db, name, amount)

    def counts(self) -> dict[str, int]:
        with self._lock:
            return dict(self._db.execute("SELECT name, value FROM counts").fetchall())

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        with self._lock:
            try:
                self._db.execute("BEGIN IMMEDIATE")
                try:
                    yield self._db
                except BaseException:
                    self._db.execute("ROLLBACK")
                    raise
                self._db.execute("COMMIT")
            except sqlite3.Error as error:
                if self._db.in_transaction:
                    self._db.execute("ROLLBACK")
                raise SpoolError(f"spool: {error}") from error

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


def _opened(path: Path) -> sqlite3.Connection:
    new = not path.exists()
    # The agent and the application may create it at the same moment: whoever finds it locked tries again.
    for attempt in range(50):
        db = sqlite3.connect(path, timeout=2.0, isolation_level=None, check_same_thread=False)
        try:
            _prepare(db)
        except sqlite3.OperationalError:
            db.close()
            if attempt == 49:
                raise
            time.sleep(0.02)
        else:
            break
    if new:
        sync_directory(path.parent)
    return db


def _prepare(db: sqlite3.Connection) -> None:
    db.execute("PRAGMA journal_mode = WAL")
    db.execute("PRAGMA synchronous = FULL")
    db.execute("PRAGMA cache_size = -256")
    db.execute("PRAGMA journal_size_limit = 4194304")
    if db.execute("SELECT count(*) FROM sqlite_master WHERE name = 'item_out'").fetchone()[0]:
        return
    db.execute("BEGIN IMMEDIATE")
    for statement in _statements(_SCHEMA):
        db.execute(statement)
    db.executemany("INSERT OR IGNORE INTO counts VALUES (?, 0)", [(name,) for name in _COUNTERS])
    db.execute("INSERT OR IGNORE INTO facts VALUES ('stream_id', ?)", (f"s-{uuid.uuid4().hex}",))
    db.execute("COMMIT")


def _statements(script: str) -> Iterator[str]:
    # executescript would commit the transaction that makes creation atomic.
    pending = ""
    for line in script.splitlines():
        pending += line + "\n"
        if sqlite3.complete_statement(pending):
            yield pending
            pending = ""


def _count(db: sqlite3.Connection, name: str, amount: int) -> None:
    db.execute("UPDATE counts SET value = value + ? WHERE name = ?", (amount, name))


def _merge_oldest(db: sqlite3.Connection) -> int:
    """Merge neighbours among the older half of the unsent windows; return how many rows went."""
    rows = db.execute(
        "SELECT seq, body FROM items WHERE kind = ? AND seq > (SELECT value FROM counts WHERE name = 'sent_through')"
        " ORDER BY seq",
        (WINDOW,),
    ).fetchall()
    older = rows[: max(2, len(rows) // 2)]
    merged = 0
    for (first_seq, first), (seq, second) in zip(older[::2], older[1::2], strict=False):
        both = merge_windows(json.loads(first), json.loads(second))
        if both is not None:
            text = json.dumps(both, separators=(",", ":"))
            db.execute("DELETE FROM items WHERE seq IN (?, ?)", (first_seq, seq))
            # The later seq keeps the stream growing and was never sent.
            db.execute("INSERT INTO items (seq, kind, size, body) VALUES (?, ?, ?, ?)", (seq, WINDOW, len(text), text))
            merged += 1
    _count(db, "merged_windows", merged)
    return merged


def _drop_oldest(db: sqlite3.Connection, kind: str) -> int:
    return db.execute(
        "DELETE FROM items WHERE seq IN (SELECT seq FROM items WHERE kind = ? ORDER BY seq LIMIT 64)", (kind,)
    ).rowcount
