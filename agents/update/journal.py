"""The update's memory: one row per decision, written and synced before anything is done about it.

The last row is the truth. A journal that cannot be read is put aside and rebuilt from the active link, with its
counter as the floor: the device keeps its model and never takes an older release.
"""

import contextlib
import sqlite3
from datetime import datetime, timezone
from pathlib import Path
from typing import Final

from pydantic import TypeAdapter, ValidationError

from agents.sdk.files import sync_directory
from agents.update.machine import Slot, State

_ROWS_KEPT: Final = 500
_STATE: Final = TypeAdapter(State)


class Journal:
    """`recovered` says why an earlier journal was put aside, if it was."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.recovered: str | None = None
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        try:
            self._db = _opened(path)
            self._state = self._last()
        except sqlite3.OperationalError as error:
            # Locked, or the disk is full: that passes, and the journal is not to blame.
            raise OSError(f"{path} cannot be opened now: {error}") from error
        except (sqlite3.DatabaseError, ValidationError) as error:
            self.recovered = str(error)[:200]
            with contextlib.suppress(AttributeError):
                self._db.close()
            self._put_aside()
            self._db, self._state = _opened(path), None

    def read(self, running: Slot | None) -> State:
        """Return the last state; without one, what the link alone tells."""
        if self._state is not None:
            return self._state
        return State(active=running, floor=running.counter if running else 0)

    def write(self, state: State, because: str) -> None:
        """Make a decision durable; when this returns, a power cut cannot take it back.

        Raises:
            OSError: it could not be written; nothing may be done about it then.
        """
        now = datetime.now(timezone.utc).isoformat()
        text = _STATE.dump_json(state).decode()
        try:
            with self._db:
                self._db.execute(
                    "INSERT INTO entries (at, phase, reason, because, state) VALUES (?, ?, ?, ?, ?)",
                    (now, state.phase.value, state.reason, because, text),
                )
                self._db.execute("DELETE FROM entries WHERE id <= (SELECT max(id) FROM entries) - ?", (_ROWS_KEPT,))
        except sqlite3.Error as error:
            raise OSError(f"the journal cannot be written: {error}") from error
        self._state = state

    def close(self) -> None:
        self._db.close()

    def _last(self) -> State | None:
        row = self._db.execute("SELECT state FROM entries ORDER BY id DESC LIMIT 1").fetchone()
        return None if row is None else _STATE.validate_json(row[0])

    def _put_aside(self) -> None:
        for suffix in ("", "-wal", "-shm"):
            damaged = self._path.with_name(self._path.name + suffix)
            with contextlib.suppress(FileNotFoundError):
                damaged.replace(damaged.with_name(f"{damaged.name}.damaged"))


def peek(path: Path) -> tuple[State | None, list[dict[str, str | None]]]:
    """Return state and last decisions without changing anything, for people who look while the agent runs.

    Raises:
        OSError: there is a journal, and it cannot be read.
    """
    if not path.exists():
        return None, []
    try:
        with contextlib.closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=2.0)) as db:
            row = db.execute("SELECT state FROM entries ORDER BY id DESC LIMIT 1").fetchone()
            return (_STATE.validate_json(row[0]) if row else None), _tail(db, 20)
    except (sqlite3.Error, ValidationError) as error:
        raise OSError(f"{path} cannot be read: {str(error)[:200]}") from error


def _tail(db: sqlite3.Connection, rows: int) -> list[dict[str, str | None]]:
    found = db.execute("SELECT at, phase, reason, because FROM entries ORDER BY id DESC LIMIT ?", (rows,)).fetchall()
    return [dict(zip(("at", "phase", "reason", "because"), each, strict=True)) for each in found]


def _opened(path: Path) -> sqlite3.Connection:
    new = not path.exists()
    # The shell writes from worker threads, one at a time.
    db = sqlite3.connect(path, timeout=5.0, check_same_thread=False)
    try:
        db.execute("PRAGMA journal_mode = WAL")
        db.execute("PRAGMA synchronous = FULL")
        db.execute("PRAGMA cache_size = -128")
        db.execute(
            "CREATE TABLE IF NOT EXISTS entries (id INTEGER PRIMARY KEY AUTOINCREMENT, at TEXT NOT NULL,"
            " phase TEXT NOT NULL, reason TEXT, because TEXT NOT NULL, state TEXT NOT NULL)"
        )
        db.commit()
    except BaseException:
        db.close()
        raise
    if new:
        sync_directory(path.parent)
    return db
