"""Two small files by which the application tells the agent what only it knows: motion and the model's health.

A signal says what is true now and may be overwritten at any time, so it is not fsynced: after a power cut the
application starts again and says it again.
"""

import time
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path

from agents.protocol.v1 import canonical_json, strict_json
from agents.sdk.files import read_bounded, write_whole

_MAX_BYTES = 4096


@dataclass(frozen=True)
class Motion:
    safe_to_switch: bool
    age_s: float


@dataclass(frozen=True)
class Health:
    content_digest: str
    ok: bool
    reason: str


class Signals:
    """The signal files of one state directory, from either side."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._motion = directory / "motion.json"
        self._health = directory / "health.json"

    def put_motion(self, *, safe_to_switch: bool) -> None:
        self._put(self._motion, {"safe_to_switch": safe_to_switch})

    def put_health(self, content_digest: str, *, ok: bool, reason: str) -> None:
        self._put(self._health, {"content_digest": content_digest, "ok": ok, "reason": reason[:300]})

    def motion(self) -> Motion | None:
        """Return the last word on motion; None if the application never gave one."""
        value = _read(self._motion)
        safe = value.get("safe_to_switch")
        return Motion(safe, _age_s(self._motion)) if isinstance(safe, bool) else None

    def health(self) -> Health | None:
        value = _read(self._health)
        ok = value.get("ok")
        if not isinstance(ok, bool):
            return None
        return Health(str(value.get("content_digest", "")), ok, str(value.get("reason", "")))

    def forget_health(self) -> None:
        """Drop what was said about earlier models, so that a trial hears only what comes after it began."""
        self._health.unlink(missing_ok=True)

    def _put(self, path: Path, value: dict[str, object]) -> None:
        self._directory.mkdir(parents=True, exist_ok=True)
        stamped = {**value, "at": datetime.now(timezone.utc).isoformat()}
        write_whole(path, canonical_json(stamped), durable=False)


def _read(path: Path) -> dict[str, object]:
    try:
        value = strict_json(read_bounded(path, _MAX_BYTES) or b"{}", _MAX_BYTES)
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}


def _age_s(path: Path) -> float:
    # Both are the wall clock, so a clock step shows as a wrong age once; the next report repairs it.
    try:
        return max(0.0, time.time() - path.stat().st_mtime)
    except OSError:
        return 0.0
