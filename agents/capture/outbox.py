"""The outbox on disk and the memory of what became of each recording. It sends nothing."""

import sqlite3
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from pydantic import ValidationError

from agents.capture.triggers import Waiting
from agents.protocol.v1 import RecordingAnnounce, strict_json
from agents.sdk.files import read_bounded
from agents.sdk.spool_file import is_damage

KEPT: Final = "kept"
UPLOADED: Final = "uploaded"
DECLINED: Final = "declined"
DROPPED: Final = "dropped"
REJECTED: Final = "rejected"
_SIDECAR_BYTES: Final = 64 << 10
_MEMORY_ROWS: Final = 20_000
_ORPHAN_AGE_S: Final = 3600.0
# One step of the running clock: a clock that jumps, or a device that slept, makes nothing older than this.
_STEP_MAX_S: Final = 3600.0
_STEP_S: Final = 60.0
_SCHEMA: Final = (
    """CREATE TABLE IF NOT EXISTS recordings (
      sha256 TEXT PRIMARY KEY, kind TEXT NOT NULL, state TEXT NOT NULL, reason TEXT NOT NULL, at REAL NOT NULL
    ) WITHOUT ROWID""",
    """CREATE TABLE IF NOT EXISTS stay (
      sha256 TEXT PRIMARY KEY, born_s REAL NOT NULL, tries INTEGER NOT NULL, again_s REAL NOT NULL
    ) WITHOUT ROWID""",
    "CREATE TABLE IF NOT EXISTS clock (one INTEGER PRIMARY KEY, running_s REAL NOT NULL, at REAL NOT NULL)",
    "INSERT OR IGNORE INTO clock VALUES (1, 0, 0)",
)


class Outbox:
    """`declined` and `rejected` are states of their own, never counted as uploaded.

    *Declined*: the server does not want it; it is never sent. *Rejected*: the server refused the request; the file
    stays and is tried again as the policy says. A damaged memory is forgotten: the server answers HAVE to what it has.
    """

    def __init__(self, directory: Path, memory: Path) -> None:
        self._directory = directory
        memory.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        try:
            self._db = _opened(memory)
        except sqlite3.DatabaseError as error:
            if not is_damage(error):
                raise
            for suffix in ("-wal", "-shm", ""):
                memory.with_name(memory.name + suffix).unlink(missing_ok=True)
            self._db = _opened(memory)

    def close(self) -> None:
        self._db.close()

    def waiting(self) -> dict[str, tuple[Waiting, RecordingAnnounce]]:
        """Return every whole recording in the outbox; sweep what no crash should leave for ever."""
        found = {}
        running_s = self._running_s()
        for path in self._files():
            if path.suffix == ".json" and not path.name.startswith("."):
                read = self._sidecar(path, running_s)
                if read is None:
                    self.remove(path.stem)
                else:
                    found[path.stem] = read
            elif path.suffix == ".tmp" or not path.with_suffix(".json").exists():
                _sweep(path)
        return found

    def path(self, sha256: str) -> Path:
        return self._directory / f"{sha256}.mcap"

    def state(self, sha256: str) -> str | None:
        row = self._db.execute("SELECT state FROM recordings WHERE sha256 = ?", (sha256,)).fetchone()
        return None if row is None else str(row[0])

    def remember(self, sha256: str, kind: str, state: str, reason: str = "") -> None:
        """Note what became of a recording; the time of its first state counts for rate limits."""
        self._db.execute(
            "INSERT INTO recordings VALUES (?, ?, ?, ?, ?)"
            " ON CONFLICT (sha256) DO UPDATE SET state = excluded.state, reason = excluded.reason",
            (sha256, kind, state, reason[:200], time.time()),
        )

    def rejected(self, sha256: str, kind: str, reason: str, retry_s: float) -> int:
        """Note a refusal, to be tried again after `retry_s`; return how many there were."""
        self.remember(sha256, kind, REJECTED, reason)
        again_s = self._running_s() + retry_s
        self._db.execute("UPDATE stay SET tries = tries + 1, again_s = ? WHERE sha256 = ?", (again_s, sha256))
        row = self._db.execute("SELECT tries FROM stay WHERE sha256 = ?", (sha256,)).fetchone()
        return int(row[0]) if row else 1

    def is_due(self, sha256: str) -> bool:
        """Tell whether a rejected recording may be tried again."""
        row = self._db.execute("SELECT again_s FROM stay WHERE sha256 = ?", (sha256,)).fetchone()
        return row is None or float(row[0]) <= self._running_s()

    def reasons(self) -> dict[str, str]:
        """Return why each recording that was refused or declined lately was."""
        found = self._db.execute(
            "SELECT sha256, state || ': ' || reason FROM recordings WHERE state IN (?, ?) ORDER BY at DESC LIMIT 20",
            (REJECTED, DECLINED),
        )
        return dict(found.fetchall())

    def remove(self, sha256: str) -> None:
        self._db.execute("DELETE FROM stay WHERE sha256 = ?", (sha256,))
        # The sidecar first: a file without one is no recording and is swept.
        self.path(sha256).with_suffix(".json").unlink(missing_ok=True)
        self.path(sha256).unlink(missing_ok=True)

    def kept_ages_s(self) -> dict[str, list[float]]:
        """Return the age of every recording accepted in the last hour, by kind; forget the very old."""
        now = time.time()
        self._db.execute(
            "DELETE FROM recordings WHERE at < (SELECT at FROM recordings ORDER BY at DESC LIMIT 1 OFFSET ?)",
            (_MEMORY_ROWS,),
        )
        ages: dict[str, list[float]] = {}
        for kind, at in self._db.execute(
            "SELECT kind, at FROM recordings WHERE at > ? AND state != ?", (now - 3600, DROPPED)
        ).fetchall():
            ages.setdefault(kind, []).append(max(0.0, now - at))
        return ages

    def counts(self) -> dict[str, int]:
        return dict(self._db.execute("SELECT state, count(*) FROM recordings GROUP BY state").fetchall())

    def _files(self) -> Iterator[Path]:
        try:
            yield from list(self._directory.iterdir())
        except FileNotFoundError:
            return

    def _running_s(self) -> float:
        """Move on and return the clock that ages recordings: seconds in which somebody looked."""
        running_s, at = self._db.execute("SELECT running_s, at FROM clock").fetchone()
        passed_s = time.time() - at
        if 0 <= passed_s < _STEP_S:
            return float(running_s)
        running_s += min(max(0.0, passed_s), _STEP_MAX_S)
        self._db.execute("UPDATE clock SET running_s = ?, at = ?", (running_s, time.time()))
        return float(running_s)

    def _age_s(self, sha256: str, running_s: float) -> float:
        self._db.execute("INSERT OR IGNORE INTO stay VALUES (?, ?, 0, 0)", (sha256, running_s))
        (born_s,) = self._db.execute("SELECT born_s FROM stay WHERE sha256 = ?", (sha256,)).fetchone()
        return max(0.0, running_s - float(born_s))

    def _sidecar(self, path: Path, running_s: float) -> tuple[Waiting, RecordingAnnounce] | None:
        try:
            announce = RecordingAnnounce.model_validate(
                strict_json(read_bounded(path, _SIDECAR_BYTES) or b"", _SIDECAR_BYTES)
            )
            file = self.path(announce.sha256).stat()
        except (ValueError, ValidationError, OSError):
            return None
        if announce.sha256 != path.stem or file.st_size != announce.size_bytes:
            return None
        of_event, age_s = announce.event_id is not None, self._age_s(announce.sha256, running_s)
        waiting = Waiting(
            announce.sha256, announce.trigger, announce.size_bytes, file.st_mtime, of_event=of_event, age_s=age_s
        )
        return waiting, announce


def _opened(memory: Path) -> sqlite3.Connection:
    db = sqlite3.connect(memory, timeout=5.0, isolation_level=None, check_same_thread=False)
    try:
        # A lost row means one more announcement, which the server answers with HAVE: NORMAL is enough here.
        db.execute("PRAGMA journal_mode = WAL")
        db.execute("PRAGMA synchronous = NORMAL")
        db.execute("PRAGMA cache_size = -64")
        for statement in _SCHEMA:
            db.execute(statement)
    except BaseException:
        db.close()
        raise
    return db


def _sweep(path: Path) -> None:
    try:
        if time.time() - path.stat().st_mtime > _ORPHAN_AGE_S:
            path.unlink()
    except OSError:
        return
