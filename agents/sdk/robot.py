"""`Robot`: everything a robot application asks and tells. It holds no thread and no socket."""

import math
import time
import uuid
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import Any, Final

from agents.protocol.v1 import ExposureWindow, FieldEvent, strict_json
from agents.protocol.v1.safe_state import standing
from agents.sdk.files import read_bounded
from agents.sdk.layout import ActiveModel, StateDir
from agents.sdk.recorder import Recorder
from agents.sdk.shadow import ShadowTap
from agents.sdk.signals import CHANGE_S, REPEAT_S, Signals
from agents.sdk.spool import EVENT, WINDOW, Spool

_DEVICE_MAX_BYTES: Final = 64 << 10
_HEAT: Final = ("temperature_max_c", "throttled_s")


class NotEnrolledError(RuntimeError):
    """The state directory has no `device.json` yet; the agent writes it when the device is enrolled."""


@dataclass(frozen=True)
class Window:
    """What the robot did with one model since the last window; `counts` are field events by kind.

    Heat need not be said: where the machine has sensors, the agent adds what it read while the window lasted.
    """

    content_digest: str
    started_at: datetime
    ended_at: datetime
    distance_m: float
    duration_s: float
    decisions: int
    energy_j: float | None
    counts: dict[str, int]
    latency_p50_ms: float
    latency_p99_ms: float
    temperature_max_c: float | None = None
    throttled_s: float | None = None


@dataclass(frozen=True)
class Event:
    """Something that happened; give an `event_id` if you have one, otherwise it gets one."""

    kind: str
    content_digest: str
    at: datetime
    details: dict[str, Any] = field(default_factory=dict)
    recording_sha256: str | None = None
    event_id: str | None = None


class Robot:
    """One device as its application sees it.

    Raises:
        NotEnrolledError: the device is not enrolled yet.
    """

    def __init__(self, state_dir: Path) -> None:
        self._state = StateDir(Path(state_dir))
        device = _device(self._state)
        self.device_id: str = device["device_id"]
        self.site: str = device["site"]
        self.device_class: str = device["device_class"]
        self.labels: dict[str, str] = dict(device.get("labels", {}))
        self._signals = Signals(self._state.signals)
        self._turn: tuple[object, ...] = ()
        self._motion: tuple[object, ...] = ()
        self._motion_at_s = 0.0

    def active_model(self) -> ActiveModel | None:
        """Return the model to run; None while the device has none. It costs one readlink."""
        found = self._state.read_active()
        return found[1] if found else None

    def report_window(self, window: Window) -> None:
        """Store an exposure window; when this returns it survives a power cut. Costs one fsync: not for the hot loop.

        Raises:
            ValueError: a value the wire does not allow.
            SpoolError: it could not be stored.
        """
        wire = ExposureWindow.model_validate({"seq": 0, **vars(window)})
        unsaid = {name for name in _HEAT if getattr(window, name) is None}
        self._spool.put(WINDOW, wire.model_dump(mode="json", exclude={"seq", *unsaid}))

    def report_event(self, event: Event) -> str:
        """Store a field event as durably as a window and return its id; raises as `report_window` does."""
        event_id = event.event_id or f"e-{uuid.uuid4().hex}"
        wire = FieldEvent.model_validate({"seq": 0, **vars(event), "event_id": event_id})
        self._spool.put(EVENT, wire.model_dump(mode="json", exclude={"seq"}))
        return event_id

    def recorder(self, pre_roll_s: float = 6.0, post_roll_s: float = 2.0, max_bytes: int = 32 << 20) -> Recorder:
        """Return a black box for one loop of the application; the spool counts what it loses."""
        about = {"device_id": self.device_id, "site": self.site, "device_class": self.device_class}
        return Recorder(
            self._state.outbox,
            about,
            pre_roll_s=pre_roll_s,
            post_roll_s=post_roll_s,
            max_bytes=max_bytes,
            lost=lambda count: self._spool.count("dropped_recordings", count),
        )

    def shadow_tap(self, max_hz: float = 20.0) -> ShadowTap:
        """Return where decisions are left for a candidate that is tried in the shadow; see `agents.sdk.shadow`."""
        return ShadowTap(self._state.signals, max_hz)

    def set_motion(
        self,
        safe_to_switch: bool,
        *,
        speed_m_s: float | None = None,
        docked: bool | None = None,
        battery_percent: float | None = None,
        external_power: bool | None = None,
    ) -> None:
        """Say whether a model may be switched now, and what a safe state may ask for: each is optional.

        Call it as often as you like, and at least every 15 s where a rule asks for `stopped`, `docked` or `battery`:
        a word older than 30 s counts as not known. An unchanged one is written again only every 5 s.
        """
        if battery_percent is not None and not 0 <= battery_percent <= 100:
            raise ValueError(f"battery_percent is {battery_percent}, not between 0 and 100")
        if speed_m_s is not None and not math.isfinite(speed_m_s):
            raise ValueError(f"speed_m_s is {speed_m_s}")
        told = {
            "speed_m_s": speed_m_s, "docked": docked, "battery_percent": battery_percent,
            "external_power": external_power,
        }  # fmt: skip
        # Starting, stopping and docking are told at once; a speed or a charge that only changed, every second.
        turn = (safe_to_switch, standing(speed_m_s, None), docked, external_power)
        motion = (turn, speed_m_s, battery_percent)
        since_s = time.monotonic() - self._motion_at_s
        if turn == self._turn and since_s < (REPEAT_S if motion == self._motion else CHANGE_S):
            return
        self._signals.put_motion(safe_to_switch=safe_to_switch, **told)
        self._turn, self._motion, self._motion_at_s = turn, motion, time.monotonic()

    def report_health(self, content_digest: str, ok: bool, reason: str = "") -> None:
        """Say that the model runs (or does not): a release on trial is kept or sent back by this word."""
        self._signals.put_health(content_digest, ok=ok, reason=reason)

    def close(self) -> None:
        if "_spool" in vars(self):
            self._spool.close()

    @cached_property
    def _spool(self) -> Spool:
        return Spool(self._state.spool)


def _device(state: StateDir) -> dict[str, Any]:
    data = read_bounded(state.device_json, _DEVICE_MAX_BYTES)
    if data is None:
        raise NotEnrolledError(f"{state.device_json} is missing: enrol this device with `fleetloop-agent enrol`")
    value: dict[str, Any] = strict_json(data, _DEVICE_MAX_BYTES)
    return value
