"""Owns what the simulated robots of both workloads share: finding them, switching models, windows, events, clips.

The *field* of the reference workloads is itself a simulation. Distances, durations and log times are field time;
`started_at`, `ended_at` and `at` are the wall clock, because that is when the fleet hears of it.
"""

import argparse
import signal
import sys
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from types import FrameType

import numpy as np

from agents.sdk import ActiveModel, Event, NotEnrolledError, Recorder, Robot, SpoolError, Window
from flows.workloads.kit.bundle import Policy
from flows.workloads.kit.layouts import ENCODING, Topic
from flows.workloads.kit.types import Json, WorkloadError

Metadata = Mapping[str, Mapping[str, str]]

SCAN_S = 1.0
TRIAL_DECISIONS = 50  # after so many finite, timely answers the application vouches for a model
LATE_MS = 100.0  # a decision later than this misses the control step
LOG_AGE_NS = 120 * 10**9  # log times start this far back, so that accelerated missions never end in the future


def options(description: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--root", type=Path, required=True, help="folder of the devices' state directories")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--rate", type=float, default=None, help="at most this many times real time")
    parser.add_argument("--dock-s", type=float, default=3.0, help="field seconds at the dock between missions")
    parser.add_argument("--window-missions", type=int, default=5, help="missions in an exposure window")
    parser.add_argument("--clips-per-minute", type=float, default=6.0, help="recordings per robot and wall minute")
    parser.add_argument("--sample-share", type=float, default=0.05, help="share of missions with a random clip")
    return parser.parse_args()


def say(message: str) -> None:
    sys.stderr.write(f"{message}\n")
    sys.stderr.flush()


class Stop:
    """Becomes true when the process is asked to end."""

    def __init__(self) -> None:
        self.asked = False
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._ask)

    def _ask(self, _number: int, _frame: FrameType | None) -> None:
        self.asked = True


class Pace:
    """Keeps field time from running faster than `rate` times the wall clock. After a delay it does not rush."""

    def __init__(self, rate: float | None, step_s: float) -> None:
        self._step_s = step_s / rate if rate else 0.0
        self._due = time.monotonic()

    def wait(self) -> None:
        if not self._step_s:
            return
        self._due += self._step_s
        left = self._due - time.monotonic()
        if left > 0:
            time.sleep(left)
        elif left < -1.0:
            self._due = time.monotonic()


class Homes:
    """Finds robots: every folder under the root that holds a device.json, looked for again every second."""

    def __init__(self, root: Path) -> None:
        self._root, self._known, self._due = root, set[Path](), 0.0

    def fresh(self) -> Iterator[Robot]:
        if time.monotonic() < self._due:
            return
        self._due = time.monotonic() + SCAN_S
        for device in sorted(self._root.glob("*/device.json")):
            if device.parent in self._known:
                continue
            try:
                robot = Robot(device.parent)
            except (NotEnrolledError, OSError, ValueError, KeyError) as error:
                say(f"{device.parent}: not ready: {error}")
                continue
            self._known.add(device.parent)
            yield robot


class Models:
    """The models that robots run now, one session for all robots that run the same bytes."""

    def __init__(self) -> None:
        self._loaded: dict[str, Policy] = {}

    def get(self, active: ActiveModel) -> Policy:
        if active.content_digest not in self._loaded:
            self._loaded[active.content_digest] = Policy.load(active.path)
        return self._loaded[active.content_digest]

    def keep(self, digests: set[str]) -> None:
        self._loaded = {digest: policy for digest, policy in self._loaded.items() if digest in digests}


@dataclass
class _Exposure:
    """What was done since the last window."""

    started_at: datetime
    distance_m: float = 0.0
    duration_s: float = 0.0
    decisions: int = 0
    missions: int = 0
    counts: Counter[str] = field(default_factory=Counter)
    latency_ms: list[float] = field(default_factory=list)

    def window(self, digest: str) -> Window:
        p50, p99 = np.percentile(self.latency_ms, [50, 99]) if self.latency_ms else (0.0, 0.0)
        return Window(
            content_digest=digest,
            started_at=self.started_at,
            ended_at=datetime.now(UTC),
            distance_m=self.distance_m,
            duration_s=self.duration_s,
            decisions=self.decisions,
            energy_j=None,  # nothing here measures it
            counts=dict(self.counts),
            latency_p50_ms=float(p50),
            latency_p99_ms=float(p99),
        )


class FieldRobot:
    """One simulated robot's dealings with its agent: which model to run, and telling what happened."""

    def __init__(self, robot: Robot, topics: Mapping[str, Topic], settings: argparse.Namespace) -> None:
        self.robot, self.missions, self.digest = robot, 0, ""
        self.policy: Policy | None = None
        self.recorder: Recorder = robot.recorder(pre_roll_s=8.0, post_roll_s=0.0)
        for name, topic in topics.items():
            self.recorder.add_channel(name, topic.schema_name, encoding=ENCODING, schema=topic.layout)
        self._settings = settings
        self._path: Path | None = None  # of the bundle last looked at: the same bytes released again are a new trial
        self._exposure = _Exposure(datetime.now(UTC))
        self._vouch_in = 0
        self._clips, self._clips_at = max(settings.clips_per_minute, 1.0), time.monotonic()
        self._log_ns = 0

    def dock(self, models: Models) -> bool:
        """Between missions: the only place where another model is taken up. True if there is one to drive with."""
        active = self.robot.active_model()
        if active is None:
            self._switch("", None)
        elif active.path != self._path:
            self._take(active, models)
        self._path = active.path if active else None
        return self.policy is not None

    def _take(self, active: ActiveModel, models: Models) -> None:
        try:
            policy = models.get(active)
        except WorkloadError as error:
            self.fail(active.content_digest, str(error))
            return
        self._switch(active.content_digest, policy)
        self._vouch_in = TRIAL_DECISIONS

    def _switch(self, digest: str, policy: Policy | None) -> None:
        if digest != self.digest:
            self.flush()
        self.digest, self.policy = digest, policy

    def fail(self, digest: str, reason: str) -> None:
        """This model cannot drive: say so, stand still, and do not try it again."""
        self.robot.report_health(digest, ok=False, reason=reason)
        self._switch("", None)

    def depart(self) -> None:
        self.recorder.reset()
        self.robot.set_motion(safe_to_switch=False)
        self.missions += 1
        self._log_ns = time.time_ns() - LOG_AGE_NS

    def arrive(self, distance_m: float, duration_s: float) -> None:
        exposure = self._exposure
        exposure.distance_m += distance_m
        exposure.duration_s += duration_s
        exposure.missions += 1
        if exposure.missions >= self._settings.window_missions:
            self.flush()
        self.robot.set_motion(safe_to_switch=True)

    def decided(self, latency_ms: float) -> None:
        self._exposure.decisions += 1
        self._exposure.latency_ms.append(latency_ms)
        if self._vouch_in:
            self._vouch_in -= 1
            if self._vouch_in == 0:
                self._vouch()

    def _vouch(self) -> None:
        late = float(np.median(self._exposure.latency_ms[-TRIAL_DECISIONS:]))
        if late > LATE_MS:
            self.robot.report_health(self.digest, ok=False, reason=f"decisions take {late:.0f} ms")
        else:
            self.robot.report_health(self.digest, ok=True)

    def write(self, step: int, step_s: float, payloads: Mapping[str, bytes]) -> None:
        for topic, payload in payloads.items():
            self.recorder.write(topic, self.log_time_ns(step, step_s), payload)

    def log_time_ns(self, step: int, step_s: float) -> int:
        """Return when a step of this mission was, on the clock of its recordings: nanoseconds since the epoch."""
        return self._log_ns + round(step * step_s * 1e9)

    def event(self, kind: str, details: Json, metadata: Metadata) -> None:
        """Report an event with the recording that led to it; `metadata` are named records about where it was."""
        self._exposure.counts[kind] += 1
        event_id = f"{self.robot.device_id}.{time.time_ns():x}.{self.missions}"[-64:].lstrip("._:-")
        digests = self.clip(kind, event_id, metadata)
        event = Event(
            kind,
            self.digest,
            datetime.now(UTC),
            {"mission": self.missions, **details},
            recording_sha256=digests[0] if digests else None,
            event_id=event_id,
        )
        try:
            self.robot.report_event(event)
        except (SpoolError, ValueError) as error:
            say(f"{self.robot.device_id}: event not stored: {error}")

    def clip(self, kind: str, event_id: str | None, metadata: Metadata) -> list[str]:
        """Put the last eight seconds into the outbox, unless this robot has recorded enough for now."""
        now, rate = time.monotonic(), self._settings.clips_per_minute
        self._clips = min(max(rate, 1.0), self._clips + (now - self._clips_at) * rate / 60)
        self._clips_at = now
        if self._clips < 1:
            return []
        self._clips -= 1
        trigger = {"kind": kind, "event_id": event_id or ""}
        self.recorder.trigger(kind, event_id, self.digest, {"trigger": trigger, **metadata})
        return self.recorder.flush()

    def flush(self) -> None:
        """Report the exposure so far, if there was any."""
        exposure, self._exposure = self._exposure, _Exposure(datetime.now(UTC))
        if not exposure.decisions or not self.digest:
            return
        try:
            self.robot.report_window(exposure.window(self.digest))
        except (SpoolError, ValueError) as error:
            say(f"{self.robot.device_id}: window not stored: {error}")

    def close(self) -> None:
        self.flush()
        self.robot.set_motion(safe_to_switch=True)
        self.robot.close()
