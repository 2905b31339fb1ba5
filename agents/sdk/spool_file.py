"""The spool's file: its tables, how it is opened by several processes, and what happens when it is damaged."""

import contextlib
import fcntl
import os
import sqlite3
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from agents.sdk.files import sync_directory

_SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS facts (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS counts (name TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS items (
  seq INTEGER PRIMARY KEY AUTOINCREMENT, kind TEXT NOT NULL, size INTEGER NOT NULL, body TEXT NOT NULL,
  born_s INTEGER NOT NULL DEFAULT -1);
CREATE TABLE IF NOT EXISTS rejected (
  seq INTEGER PRIMARY KEY, kind TEXT NOT NULL, size INTEGER NOT NULL, body TEXT NOT NULL, reason TEXT NOT NULL,
  born_s INTEGER NOT NULL, tries INTEGER NOT NULL);
CREATE TRIGGER IF NOT EXISTS item_in AFTER INSERT ON items BEGIN
  UPDATE counts SET value = value + 1 WHERE name = 'rows';
  UPDATE counts SET value = value + new.size WHERE name = 'bytes'; END;
CREATE TRIGGER IF NOT EXISTS item_out AFTER DELETE ON items BEGIN
  UPDATE counts SET value = value - 1 WHERE name = 'rows';
  UPDATE counts SET value = value - old.size WHERE name = 'bytes'; END;
"""
_COUNTERS: Final = (
    "rows", "bytes", "sent_through", "merged_windows", "dropped_windows", "dropped_events", "dropped_recordings",
    "rejected_items", "rebuilt",
)  # fmt: skip
_FACTS: Final = {"running_s": "0", "clock_at": "0", "agent_version": ""}
_DAMAGED_KEPT: Final = 2


def is_damage(error: sqlite3.Error) -> bool:
    """Tell a file that is no database any more from what passes: locks, a full disk, an I/O error."""
    # Its subclasses are about statements and circumstances.
    return type(error) is sqlite3.DatabaseError


def opened(path: Path) -> sqlite3.Connection:
    """Open or make the spool; a damaged one is put aside first, and the new one counts it.

    Raises:
        sqlite3.Error: not now.
    """
    try:
        return _opened(path, rebuilt=0)
    except sqlite3.DatabaseError as error:
        if not is_damage(error):
            raise
    return rebuilt(path, inode_of(path))


def rebuilt(path: Path, damaged_inode: int | None) -> sqlite3.Connection:
    """Put the damaged file aside, unless another process did so already, and open a fresh one."""
    with _only_one(path):
        again = int(inode_of(path) == damaged_inode)
        if again:
            _put_aside(path)
        return _opened(path, rebuilt=again)


def inode_of(path: Path) -> int | None:
    try:
        return path.stat().st_ino
    except OSError:
        return None


def _opened(path: Path, *, rebuilt: int) -> sqlite3.Connection:
    new = not path.exists()
    # SQLite would keep it from the group; agent and application may be two users with one umask. Its log follows it.
    os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666))
    # The agent and the application may create it at the same moment: whoever finds it locked tries again.
    for attempt in range(50):
        db = sqlite3.connect(path, timeout=2.0, isolation_level=None, check_same_thread=False)
        try:
            _prepare(db, rebuilt)
        except sqlite3.OperationalError:
            db.close()
            if attempt == 49:
                raise
            time.sleep(0.02)
        except BaseException:
            db.close()
            raise
        else:
            break
    if new:
        sync_directory(path.parent)
    return db


def _prepare(db: sqlite3.Connection, rebuilt: int) -> None:
    db.execute("PRAGMA journal_mode = WAL")
    db.execute("PRAGMA synchronous = FULL")
    db.execute("PRAGMA cache_size = -256")
    db.execute("PRAGMA journal_size_limit = 4194304")
    (verdict,) = db.execute("PRAGMA quick_check(1)").fetchone()
    if verdict != "ok":
        raise sqlite3.DatabaseError(str(verdict))
    if db.execute("SELECT count(*) FROM sqlite_master WHERE name = 'rejected'").fetchone()[0]:
        return
    db.execute("BEGIN IMMEDIATE")
    for statement in _statements(_SCHEMA):
        db.execute(statement)
    if not db.execute("SELECT count(*) FROM pragma_table_info('items') WHERE name = 'born_s'").fetchone()[0]:
        db.execute("ALTER TABLE items ADD COLUMN born_s INTEGER NOT NULL DEFAULT -1")
    db.executemany("INSERT OR IGNORE INTO counts VALUES (?, 0)", [(name,) for name in _COUNTERS])
    facts = {**_FACTS, "stream_id": f"s-{uuid.uuid4().hex}"}
    db.executemany("INSERT OR IGNORE INTO facts VALUES (?, ?)", list(facts.items()))
    db.execute("UPDATE counts SET value = value + ? WHERE name = 'rebuilt'", (rebuilt,))
    db.execute("COMMIT")


def _statements(script: str) -> Iterator[str]:
    # executescript would commit the transaction that makes creation atomic.
    pending = ""
    for line in script.splitlines():
        pending += line + "\n"
        if sqlite3.complete_statement(pending):
            yield pending
            pending = ""


@contextlib.contextmanager
def _only_one(path: Path) -> Iterator[None]:
    lock = os.open(path.with_name(f".{path.name}.lock"), os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o666)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
    finally:
        os.close(lock)


def _put_aside(path: Path) -> None:
    """Keep the newest damaged files for people; the log goes with its file, a new one must not read it."""
    stamp = time.time_ns()
    for suffix in ("-wal", "-shm", ""):
        with contextlib.suppress(FileNotFoundError):
            path.with_name(path.name + suffix).replace(path.with_name(f"{path.name}.damaged-{stamp}{suffix}"))
    kept = sorted(each for each in path.parent.glob(f"{path.name}.damaged-*") if each.name[-4:] not in {"-wal", "-shm"})
    for old in kept[:-_DAMAGED_KEPT]:
        for suffix in ("-wal", "-shm", ""):
            old.with_name(old.name + suffix).unlink(missing_ok=True)
