"""Two small files by which the application tells the agent what only it knows: motion and the model's health.

A signal says what is true now and may be overwritten at any time, so it is not fsynced: after a power cut the
application starts again and says it again. What a dead application said last is not true for ever: see `Motion.fresh`.
"""

import math
import time
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, Final

from agents.protocol.v1 import canonical_json, strict_json
from agents.sdk.files import read_bounded, write_whole

_MAX_BYTES = 4096
FRESH_S: Final = 30.0
REPEAT_S: Final = 5.0
"""How often an unchanged word is written again, so that it stays fresh."""
CHANGE_S: Final = 1.0
"""How often a speed or a charge that changed is written."""


@dataclass(frozen=True)
class Motion:
    """The application's last word; None is not told."""

    safe_to_switch: bool
    age_s: float
    speed_m_s: float | None = None
    docked: bool | None = None
    battery_percent: float | None = None
    external_power: bool | None = None

    @property
    def fresh(self) -> bool:
        return self.age_s <= FRESH_S


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

    def put_motion(self, *, safe_to_switch: bool, **told: float | bool | None) -> None:
        self._put(self._motion, {"safe_to_switch": safe_to_switch, **told, "uptime_s": _uptime_s()})

    def put_health(self, content_digest: str, *, ok: bool, reason: str) -> None:
        self._put(self._health, {"content_digest": content_digest, "ok": ok, "reason": reason[:300]})

    def motion(self) -> Motion | None:
        """Return the last word on motion; None if the application never gave one."""
        value = _read(self._motion)
        safe = value.get("safe_to_switch")
        if not isinstance(safe, bool):
            return None
        return Motion(
            safe,
            _age_s(self._motion, value.get("uptime_s")),
            _number(value.get("speed_m_s")),
            _truth(value.get("docked")),
            _number(value.get("battery_percent")),
            _truth(value.get("external_power")),
        )

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


def _age_s(path: Path, uptime_s: object) -> float:
    """Return the greater of two ages: a clock that was set back and a restart each fool only one of them."""
    try:
        age_s = max(0.0, time.time() - path.stat().st_mtime)
    except OSError:
        return math.inf
    told_s = _number(uptime_s)
    if told_s is None:
        return age_s
    return max(age_s, _uptime_s() - told_s) if _uptime_s() >= told_s else math.inf


def _uptime_s() -> float:
    return round(time.clock_gettime(time.CLOCK_BOOTTIME), 3)


def _number(value: Any) -> float | None:
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None


def _truth(value: Any) -> bool | None:
    return value if isinstance(value, bool) else None
