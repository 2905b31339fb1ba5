"""Heat on its way from the machine's sensors to a window: what was read while it lasted, and nothing that was not."""

import json
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, cast

import pytest

from agents.capture import HeatLog, TelemetrySender
from agents.link import DeviceClient
from agents.protocol.v1 import ExposureWindow, TelemetryReply
from agents.sdk.merging import merge_windows
from agents.sdk.spool import WINDOW, Spool

START = datetime(2026, 5, 1, 12, tzinfo=UTC)


def at(seconds: float) -> datetime:
    return START + timedelta(seconds=seconds)


def window(start_s: float, stop_s: float, **more: Any) -> dict[str, Any]:
    return {
        "content_digest": "c" * 64,
        "started_at": at(start_s).isoformat(),
        "ended_at": at(stop_s).isoformat(),
        "distance_m": 1.0,
        "duration_s": stop_s - start_s,
        "decisions": 10,
        "energy_j": None,
        "counts": {},
        "latency_p50_ms": 1.0,
        "latency_p99_ms": 2.0,
    } | more


def log(*readings: tuple[float, float | None, bool | None]) -> HeatLog:
    found = HeatLog()
    for seconds, temperature_c, throttled in readings:
        found.note(at(seconds), temperature_c, throttled)
    return found


def test_a_window_has_the_hottest_reading_of_its_time_and_the_seconds_it_was_slowed() -> None:
    heat = log((0, 50.0, False), (10, 71.5, True), (20, 60.0, True), (30, 90.0, False))
    assert heat.between(at(5), at(25)) == (71.5, 15.0)
    assert heat.between(at(20), at(29)) == (60.0, 9.0)
    assert heat.between(at(30), at(40)) == (90.0, 0.0)


def test_what_nobody_read_is_not_known() -> None:
    assert HeatLog().between(at(0), at(10)) == (None, None)
    heat = log((0, 50.0, None))
    assert heat.between(at(-10), at(-1)) == (None, None)
    assert heat.between(at(21), at(40)) == (None, None)  # a reading speaks for 20 s at most
    assert heat.between(at(0), at(10)) == (50.0, None)
    assert log((0, None, None), (1, 4000.0, None)).between(at(0), at(10)) == (None, None)


def test_a_clock_set_back_starts_anew() -> None:
    heat = log((100, 80.0, False), (0, 40.0, False))
    assert heat.between(at(0), at(200)) == (40.0, 0.0)


def test_readings_are_bounded() -> None:
    heat = HeatLog()
    for i in range(2000):
        heat.note(at(10 * i), 50.0, throttled=False)
    assert heat.between(at(0), at(100)) == (None, None)
    assert heat.between(at(19_900), at(20_000))[0] == 50.0


def test_what_the_application_says_itself_stands() -> None:
    said = ExposureWindow.model_validate({"seq": 1, **window(0, 10, temperature_max_c=33.0)})
    assert log((0, 90.0, True)).added_to(said) is said


class Server:
    """Takes what would be posted."""

    def __init__(self) -> None:
        self.bodies: list[dict[str, Any]] = []

    async def post(self, _path: str, body: bytes, _reply: type[TelemetryReply], **_: bool) -> TelemetryReply:
        self.bodies.append(json.loads(body))
        seq = self.bodies[-1]["windows"][-1]["seq"]
        return TelemetryReply(acknowledged_seq=seq, accepted=1, duplicates=0, next_batch_s=1.0)


@pytest.mark.parametrize("known", [True, False])
async def test_windows_take_heat_along_when_they_are_sent(tmp_path: Path, known: bool) -> None:
    spool, server = Spool(tmp_path / "spool.db"), Server()
    spool.put(WINDOW, window(0, 10))
    heat = log((2, 64.25, True)) if known else HeatLog()
    await TelemetrySender(cast("DeviceClient", server), spool, heat).send_once()
    [sent] = server.bodies[0]["windows"]
    if known:
        assert (sent["temperature_max_c"], sent["throttled_s"]) == (64.25, 8.0)
    else:  # as agents of the first release sent it
        assert not {"temperature_max_c", "throttled_s"} & sent.keys()
    spool.close()


def test_merging_keeps_the_hottest_and_adds_what_both_know() -> None:
    hot, cold, dumb = (
        window(0, 10, temperature_max_c=70.0, throttled_s=2.0),
        window(10, 20, temperature_max_c=40.0, throttled_s=1.5),
        window(20, 30),
    )
    both = merge_windows(hot, cold)
    assert both is not None
    assert (both["temperature_max_c"], both["throttled_s"]) == (70.0, 3.5)
    mixed = merge_windows(hot, dumb)
    assert mixed is not None
    assert (mixed["temperature_max_c"], mixed["throttled_s"]) == (70.0, None)
    assert "temperature_max_c" not in (merge_windows(dumb, dumb) or {})


def test_adding_heat_to_a_full_batch_takes_little_time() -> None:
    heat = log(*[(10.0 * i, 50.0, False) for i in range(720)])
    windows = [ExposureWindow.model_validate({"seq": i, **window(10 * i, 10 * i + 10)}) for i in range(500)]
    begun = time.perf_counter()
    for each in windows:
        heat.added_to(each)
    assert time.perf_counter() - begun < 2.0
