"""Weeks without a server, files that break, networks that cost money: what happened still gets home, in order."""

import os
import sqlite3
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest

from agents.capture import Bounds, CaptureRules, Courtesy, Now, Outbox, RecordingSender, Retry, TelemetrySender
from agents.capture.courtesy import why_wait
from agents.capture.triggers import Waiting, choose
from agents.link import DeviceClient, Uploader
from agents.link.identity import load_key
from agents.main.doctor import examine
from agents.sdk import Event, Recorder, Robot, StateDir, Window
from agents.sdk.spool import EVENT, REJECTED_MAX, WINDOW, Limits, Spool
from tests.agent.server import FleetServer

DIGEST = "a" * 64
START = datetime(2026, 11, 21, tzinfo=UTC)
DAY_S = 86400


class Clock:
    """The wall clock of one device, for spool, outbox and recorder."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now_s = START.timestamp()
        for module in ("sdk.spool", "capture.outbox"):
            monkeypatch.setattr(f"agents.{module}.time.time", lambda: self.now_s)

    @property
    def now(self) -> datetime:
        return datetime.fromtimestamp(self.now_s, UTC)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return Clock(monkeypatch)


@pytest.fixture
def robot(state: StateDir, client: DeviceClient) -> Robot:
    return Robot(state.root)


@pytest.fixture
def outbox(state: StateDir, client: DeviceClient) -> Outbox:
    return Outbox(state.outbox, state.private / "capture.db")


def window(start: datetime) -> Window:
    return Window(DIGEST, start, start + timedelta(minutes=10), 100.0, 600.0, 6000, 50.0, {"stuck": 1}, 1.0, 2.0)


def record(robot: Robot, number: int, *, event_id: str | None = None, kilobytes: int = 1) -> str:
    recorder: Recorder = robot.recorder()
    recorder.add_channel("/scan", "Scan")
    at_ns = 1_790_000_000 * 10**9 + number
    recorder.write("/scan", at_ns, b'"' + os.urandom(kilobytes << 10).hex().encode() + b'"')
    recorder.trigger("collision", event_id, DIGEST)
    return recorder.flush()[0]


async def test_thirty_days_offline_catch_up_in_order(
    server: FleetServer,
    state: StateDir,
    robot: Robot,
    client: DeviceClient,
    http: httpx.AsyncClient,
    outbox: Outbox,
    clock: Clock,
) -> None:
    """A window each ten minutes, two events a day with their recordings; the spool holds a tenth of it."""
    spool = Spool(state.spool, Limits(rows=500))
    nowhere = DeviceClient(http, "http://127.0.0.1:9", load_key(state), "d-7", timeout_s=5)
    away = TelemetrySender(nowhere, spool)
    robot.__dict__["_spool"] = spool
    events, clips = [], []
    for ten_minutes in range(30 * 144):
        robot.report_window(window(clock.now))
        if ten_minutes % 72 == 0:
            events.append(robot.report_event(Event("collision", DIGEST, clock.now)))
            clips.append(record(robot, ten_minutes, event_id=events[-1]))
        if ten_minutes % 720 == 0:
            await away.send_once()
            await RecordingSender(Uploader(nowhere), outbox).send_once()
            assert away.last_error
        clock.now_s += 600
    assert server.batches == []
    assert spool.counts()["merged_windows"] > 0
    telemetry = TelemetrySender(client, spool)
    recordings = RecordingSender(Uploader(client), outbox, now=lambda: Now(behind=telemetry.behind))
    order: list[str] = []
    for _ in range(20):
        await telemetry.send_once()
        order += ["batch"] * (len(server.batches) - order.count("batch"))
        await recordings.send_once()
        order += ["recording"] * (len(server.announced) - order.count("recording"))
    told = [item for batch in server.batches for item in batch.windows]
    assert sum(each.distance_m for each in told) == pytest.approx(30 * 144 * 100.0)
    assert sum(each.counts["stuck"] for each in told) == 30 * 144
    assert [each.event_id for batch in server.batches for each in batch.events] == events
    sent = [
        item.seq for batch in server.batches for item in sorted((*batch.windows, *batch.events), key=lambda i: i.seq)
    ]
    assert sent == sorted(set(sent)), "one stream, each once, in order"
    assert set(server.uploads) == set(clips)
    assert order.index("recording") >= len(server.batches) - 1, "what happened goes before what it looked like"
    counts = spool.counts()
    assert (counts["rows"], counts["dropped_windows"], counts["dropped_events"]) == (0, 0, 0)


def bodies(spool: Spool, kind: str) -> list[Any]:
    return [item.body["n"] for item in spool.take(10_000, 1 << 30) if item.kind == kind]


def test_windows_age_before_events_and_a_clock_that_jumps_makes_nothing_old(tmp_path: Path, clock: Clock) -> None:
    spool = Spool(tmp_path / "spool.db", Limits(window_age_s=10 * DAY_S, event_age_s=20 * DAY_S))
    for kind in (WINDOW, EVENT):
        spool.put(kind, {"n": 0})
    for jump_s in (3650 * DAY_S, -3650 * DAY_S, 3650 * DAY_S):
        clock.now_s += jump_s
        spool.tidy()
    assert (bodies(spool, WINDOW), bodies(spool, EVENT)) == ([0], [0])
    for hour in range(24 * 21):
        clock.now_s += 3600
        spool.tidy()
        if hour == 24 * 11:
            assert (bodies(spool, WINDOW), bodies(spool, EVENT)) == ([], [0])
    assert bodies(spool, EVENT) == []
    assert (spool.counts()["dropped_windows"], spool.counts()["dropped_events"]) == (1, 1)


def test_a_spool_of_an_earlier_version_is_taken_over(tmp_path: Path, clock: Clock) -> None:
    path = tmp_path / "spool.db"
    with sqlite3.connect(path) as db:
        db.executescript(
            "CREATE TABLE facts (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;"
            "CREATE TABLE counts (name TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID;"
            "CREATE TABLE items (seq INTEGER PRIMARY KEY AUTOINCREMENT, kind TEXT NOT NULL, size INTEGER NOT NULL,"
            " body TEXT NOT NULL);"
            "INSERT INTO facts VALUES ('stream_id', 's-old'); INSERT INTO counts VALUES ('rows', 1), ('bytes', 7),"
            " ('sent_through', 0); INSERT INTO items VALUES (41, 'event', 7, '{\"n\":1}');"
        )
    db.close()
    spool = Spool(path)
    assert spool.stream_id == "s-old"
    assert spool.put(EVENT, {"n": 2}) == 42
    assert bodies(spool, EVENT) == [1, 2]
    assert spool.counts()["rows"] == 2


async def test_what_is_refused_for_good_is_kept_with_the_reason_and_tried_again_by_a_new_agent(
    server: FleetServer, state: StateDir, robot: Robot, client: DeviceClient
) -> None:
    spool = Spool(state.spool)
    telemetry = TelemetrySender(client, spool)
    robot.report_event(Event("stuck", DIGEST, START, {"poison": 1}))
    fine = robot.report_event(Event("stuck", DIGEST, START, {"n": 1}))
    for _ in range(6):
        await telemetry.send_once()
    assert [each.event_id for batch in server.batches for each in batch.events] == [fine]
    ((item, reason),) = spool.rejected()
    assert (item.body["details"], "422" in reason) == ({"poison": 1}, True)
    assert examine(state)["spool"]["last_rejected"] == [f"event: {reason}"]
    assert spool.retry_rejected("1.0") == 1
    assert spool.retry_rejected("1.0") == 0
    for _ in range(3):
        await telemetry.send_once()
    assert len(spool.rejected()) == 1
    assert spool.retry_rejected("1.0") == 0, "the same agent says it no better"
    assert spool.retry_rejected("1.1") == 1
    assert spool.counts()["rejected_items"] == 2


def test_what_is_rejected_is_bounded(tmp_path: Path) -> None:
    spool = Spool(tmp_path / "spool.db")
    for number in range(REJECTED_MAX + 5):
        spool.reject(spool.put(EVENT, {"n": number}), "no")
    assert [item.body["n"] for item, _ in spool.rejected()] == list(range(5, REJECTED_MAX + 5))
    assert spool.counts()["rejected_items"] == REJECTED_MAX + 5


async def test_a_rejected_recording_holds_up_nobody_and_is_tried_again_as_the_policy_says(
    server: FleetServer, robot: Robot, client: DeviceClient, outbox: Outbox, state: StateDir, clock: Clock
) -> None:
    sender = RecordingSender(Uploader(client), outbox, retry=Retry(after_s=2 * 3600, tries=2))
    bad, good = record(robot, 1, event_id="e-1"), record(robot, 2)
    server.refused.add(bad)
    await sender.send_once()
    assert set(server.uploads) == {good}
    assert outbox.counts() == {"rejected": 1, "uploaded": 1}
    assert "422" in outbox.reasons()[bad]
    asked = len(server.requests)
    await sender.send_once()
    assert len(server.requests) == asked, "not before its time"
    assert (state.outbox / f"{bad}.mcap").exists()
    for _ in range(3):
        clock.now_s += 3600
        await sender.send_once()
    assert outbox.counts() == {"dropped": 1, "uploaded": 1}
    assert not (state.outbox / f"{bad}.mcap").exists()
    assert sender.dropped == 1
    # A server that comes to its senses in between gets it.
    second = record(robot, 3)
    server.refused.add(second)
    await sender.send_once()
    server.refused.clear()
    clock.now_s += 3600
    await sender.send_once()
    clock.now_s += 3600
    await sender.send_once()
    assert second in server.uploads


@pytest.mark.parametrize(
    ("now", "size", "expected"),
    [
        (Now(), 50 << 20, None),
        (Now(metered=True), 50 << 20, "metered"),
        (Now(metered=True), 100, None),
        (Now(metered=False), 50 << 20, None),
        (Now(temperature_c=86.0), 100, "hot"),
        (Now(temperature_c=85.0), 100, None),
        (Now(throttled=True), 100, "hot"),
        (Now(behind=True), 100, "telemetry_first"),
    ],
)
def test_who_waits_for_what(now: Now, size: int, expected: str | None) -> None:
    assert why_wait(size, now, Courtesy()) == expected


async def test_on_a_metered_network_the_small_goes_and_the_big_waits(
    server: FleetServer, robot: Robot, client: DeviceClient, outbox: Outbox, state: StateDir
) -> None:
    now = [Now(metered=True)]
    sender = RecordingSender(Uploader(client), outbox, courtesy=Courtesy(metered_max_bytes=50_000), now=lambda: now[0])
    telemetry = TelemetrySender(client, Spool(state.spool))
    big, small = record(robot, 1, event_id="e-1", kilobytes=200), record(robot, 2)
    robot.report_event(Event("collision", DIGEST, START))
    await telemetry.send_once()
    await sender.send_once()
    assert (set(server.uploads), dict(sender.held), sender.waiting_files) == ({small}, {"metered": 1}, 1)
    assert len(server.batches) == 1, "events do not wait"
    assert sender.last_error is None, "waiting is no failure"
    now[0] = Now(metered=False, temperature_c=99.0)
    await sender.send_once()
    assert dict(sender.held) == {"hot": 1}
    now[0] = Now(metered=False)
    await sender.send_once()
    assert set(server.uploads) == {small, big}


def test_recordings_of_events_are_given_up_last_by_age_and_by_room() -> None:
    def one(number: int, *, of_event: bool, age_s: float = 0.0) -> Waiting:
        return Waiting(f"{number:064x}", "stuck", 10, float(number), of_event=of_event, age_s=age_s)

    full = choose([one(1, of_event=False), one(2, of_event=True)], {}, CaptureRules(), Bounds(files=1))
    assert [each.order for each in full.send] == [2.0]
    assert full.drop == {f"{1:064x}": "outbox_full"}
    old = [one(1, of_event=False, age_s=31 * DAY_S), one(2, of_event=True, age_s=31 * DAY_S)]
    assert choose(old, {}, CaptureRules(), Bounds()).drop == {f"{1:064x}": "too_old"}


def test_with_no_agent_a_recording_of_an_event_displaces_one_that_shows_none(state: StateDir, robot: Robot) -> None:
    def full_recorder() -> Recorder:
        recorder = Recorder(state.outbox, {}, max_outbox_bytes=60_000, lost=lost.append)
        recorder.add_channel("/scan", "Scan")
        return recorder

    def clip(number: int, event_id: str | None) -> list[str]:
        recorder = full_recorder()
        recorder.write("/scan", 1_790_000_000 * 10**9 + number, b'"' + os.urandom(8 << 10).hex().encode() + b'"')
        recorder.trigger("collision", event_id, DIGEST)
        return recorder.flush()

    lost: list[int] = []
    plain = [clip(number, None) for number in range(20)]
    assert lost, "the outbox is full"
    before = len(lost)
    (shown,) = clip(50, "e-1")
    assert (state.outbox / f"{shown}.json").exists()
    assert not (state.outbox / f"{plain[0][0]}.mcap").exists(), "the oldest one went"
    assert len(lost) > before
    assert clip(51, None) == []


def test_a_recording_ages_only_while_the_device_runs(
    state: StateDir, robot: Robot, outbox: Outbox, clock: Clock
) -> None:
    record(robot, 1)
    clock.now_s += 3650 * DAY_S
    ((waiting, _),) = outbox.waiting().values()
    assert waiting.age_s <= 3600
    for _ in range(48):
        clock.now_s += 1800
        outbox.waiting()
    ((waiting, _),) = outbox.waiting().values()
    assert waiting.age_s == pytest.approx(DAY_S, abs=3700)


BREAKS = {
    "no database": lambda data: b"x" * len(data),
    "a torn page": lambda data: data[:4096] + os.urandom(4096) + data[8192:],
    "cut short": lambda data: data[: len(data) // 2 + 100],
}


@pytest.mark.parametrize("how", BREAKS)
def test_a_damaged_spool_is_put_aside_and_a_new_one_begun(tmp_path: Path, how: str) -> None:
    path = tmp_path / "spool.db"
    spool = Spool(path)
    for number in range(200):
        spool.put(EVENT, {"n": number, "filler": "x" * 200})
    spool.close()
    path.write_bytes(BREAKS[how](path.read_bytes()))
    again = Spool(path)
    assert again.put(EVENT, {"n": 1}) == 1
    assert again.stream_id != spool.stream_id
    assert (again.counts()["rebuilt"], again.counts()["rows"]) == (1, 1)
    assert len(list(tmp_path.glob("spool.db.damaged-*"))) == 1
    again.close()
    assert Spool(path).counts()["rebuilt"] == 1


def test_an_application_with_the_damaged_spool_open_goes_on_in_the_new_one(tmp_path: Path) -> None:
    path = tmp_path / "spool.db"
    application, agent = Spool(path), Spool(path)
    application.put(EVENT, {"n": 1})
    agent._db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    path.write_bytes(b"y" * path.stat().st_size)  # in place: both have it open
    assert application.put(EVENT, {"n": 2}) == 1
    assert [item.body["n"] for item in agent.take(10)] == [2]
    assert agent.stream_id == application.stream_id
    assert agent.counts()["rebuilt"] == 1


WRITER = """
import sys
from pathlib import Path
from agents.sdk.spool import Spool
path = Path(sys.argv[1])
sys.stdin.readline()
Spool(path).put("event", {"n": int(sys.argv[2])})
"""


def test_several_processes_that_find_it_damaged_make_one_new_file(tmp_path: Path) -> None:
    path = tmp_path / "spool.db"
    Spool(path).close()
    path.write_bytes(b"z" * 20_000)
    writers = [
        subprocess.Popen([sys.executable, "-c", WRITER, str(path), str(number)], stdin=subprocess.PIPE, text=True)
        for number in range(4)
    ]
    for writer in writers:
        assert writer.stdin is not None
        writer.stdin.write("\n")
        writer.stdin.flush()
    for writer in writers:
        writer.communicate()
        assert writer.returncode == 0
    assert sorted(bodies(Spool(path), EVENT)) == [0, 1, 2, 3]
    assert len(list(tmp_path.glob("spool.db.damaged-*"))) == 1


def test_a_damaged_memory_of_the_outbox_costs_only_the_memory(state: StateDir, robot: Robot, outbox: Outbox) -> None:
    sha256 = record(robot, 1)
    outbox.close()
    (state.private / "capture.db").write_bytes(b"z" * 10_000)
    again = Outbox(state.outbox, state.private / "capture.db")
    assert list(again.waiting()) == [sha256]
