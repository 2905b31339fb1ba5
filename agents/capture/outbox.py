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

KEPT: Final = "kept"
UPLOADED: Final = "uploaded"
DECLINED: Final = "declined"
DROPPED: Final = "dropped"
_SIDECAR_BYTES: Final = 64 << 10
_MEMORY_ROWS: Final = 20_000
_ORPHAN_AGE_S: Final = 3600.0


class Outbox:
    """`declined` is a state of its own: such a recording is never uploaded, and never counted as uploaded."""

    def __init__(self, directory: Path, memory: Path) -> None:
        self._directory = directory
        memory.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._db = sqlite3.connect(memory, timeout=5.0, isolation_level=None, check_same_thread=False)
        # A lost row means one more announcement, which the server answers with HAVE: NORMAL is enough here.
        self._db.execute("PRAGMA journal_mode = WAL")
        self._db.execute("PRAGMA synchronous = NORMAL")
        self._db.execute("PRAGMA cache_size = -64")
        self._db.execute(
            "CREATE TABLE IF NOT EXISTS recordings (sha256 TEXT PRIMARY KEY, kind TEXT NOT NULL, state TEXT NOT NULL,"
            " reason TEXT NOT NULL, at REAL NOT NULL) WITHOUT ROWID"
        )

    def close(self) -> None:
        self._db.close()

    def waiting(self) -> dict[str, tuple[Waiting, RecordingAnnounce]]:
        """Return every whole recording in the outbox; sweep what no crash should leave for ever."""
        found = {}
        for path in self._files():
            if path.suffix == ".json" and not path.name.startswith("."):
                read = self._sidecar(path)
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

    def remove(self, sha256: str) -> None:
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

    def _sidecar(self, path: Path) -> tuple[Waiting, RecordingAnnounce] | None:
        try:
            announce = RecordingAnnounce.model_validate(
                strict_json(read_bounded(path, _SIDECAR_BYTES) or b"", _SIDECAR_BYTES)
            )
            file = self.path(announce.sha256).stat()
        except (ValueError, ValidationError, OSError):
            return None
        if announce.sha256 != path.stem or file.st_size != announce.size_bytes:
            return None
        return Waiting(announce.sha256, announce.trigger, announce.size_bytes, file.st_mtime), announce


def _sweep(path: Path) -> None:
    try:
        if time.time() - path.stat().st_mtime > _ORPHAN_AGE_S:
            path.unlink()
    except OSError:
        return
