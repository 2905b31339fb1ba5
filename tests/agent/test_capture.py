import re
from datetime import UTC, datetime, timedelta

import pytest

from agents.capture import Bounds, CaptureRule, CaptureRules, Outbox, RecordingSender, TelemetrySender
from agents.capture.triggers import Waiting, choose
from agents.link import DeviceClient, Uploader
from agents.protocol.v1 import sha256_hex
from agents.sdk import Event, Recorder, Robot, StateDir, Window
from agents.sdk.spool import EVENT, Spool
from tests.agent.server import FleetServer

DIGEST = "a" * 64
NOW = datetime(2026, 11, 21, tzinfo=UTC)


@pytest.fixture
def spool(state: StateDir, client: DeviceClient) -> Spool:
    return Spool(state.spool)


@pytest.fixture
def telemetry(spool: Spool, client: DeviceClient) -> TelemetrySender:
    return TelemetrySender(client, spool)


@pytest.fixture
def robot(state: StateDir, client: DeviceClient) -> Robot:
    return Robot(state.root)


@pytest.fixture
def outbox(state: StateDir) -> Outbox:
    return Outbox(state.outbox, state.private / "capture.db")


@pytest.fixture
def recordings(client: DeviceClient, outbox: Outbox) -> RecordingSender:
    return RecordingSender(Uploader(client), outbox)


def driven() -> Window:
    return Window(DIGEST, NOW, NOW + timedelta(seconds=10), 10.0, 10.0, 100, 5.0, {}, 1.0, 2.0)


def record(robot: Robot, kind: str = "collision", number: int = 0) -> str:
    recorder: Recorder = robot.recorder()
    recorder.add_channel("/scan", "Scan")
    recorder.write("/scan", 1_790_000_000 * 10**9 + number, b"{}")
    recorder.trigger(kind, f"e-{number}", DIGEST)
    return recorder.flush()[0]


async def test_telemetry_is_forgotten_when_the_server_has_it(
    server: FleetServer, robot: Robot, telemetry: TelemetrySender, spool: Spool
) -> None:
    event_id = robot.report_event(Event("collision", DIGEST, NOW, {"v": 1}))
    await telemetry.send_once()
    assert [each.event_id for each in server.batches[0].events] == [event_id]
    assert spool.counts()["rows"] == 0
    await telemetry.send_once()
    assert len(server.batches) == 1


async def test_windows_wait_for_the_pace_and_an_event_does_not(
    server: FleetServer, robot: Robot, telemetry: TelemetrySender
) -> None:
    server.next_batch_s = 300.0
    robot.report_window(driven())
    await telemetry.look()
    for _ in range(3):
        robot.report_window(driven())
        assert await telemetry.look() <= 2.0
    assert [len(batch.windows) for batch in server.batches] == [1]
    robot.report_event(Event("collision", DIGEST, NOW))
    await telemetry.look()
    assert [(len(batch.windows), len(batch.events)) for batch in server.batches] == [(1, 0), (3, 1)]


async def test_an_event_waits_while_the_server_does_not_take_it(
    server: FleetServer, robot: Robot, telemetry: TelemetrySender
) -> None:
    robot.report_event(Event("collision", DIGEST, NOW))
    server.faults.add("500")
    await telemetry.look()
    tried = len(server.requests)
    await telemetry.look()
    assert len(server.requests) == tried


async def test_a_lost_answer_makes_a_duplicate_not_a_loss(
    server: FleetServer, robot: Robot, telemetry: TelemetrySender, spool: Spool
) -> None:
    robot.report_event(Event("collision", DIGEST, NOW))
    server.faults.add("lose_answer")
    await telemetry.send_once()
    assert spool.counts()["rows"] == 1
    server.faults.clear()
    robot.report_event(Event("stuck", DIGEST, NOW))
    await telemetry.send_once()
    assert spool.counts()["rows"] == 0
    assert len(server.seen) == 2


@pytest.mark.parametrize("fault", ["500", "ack_nothing", "duplicate_key", "nan", "gzip"])
async def test_nothing_is_forgotten_without_a_good_acknowledgement(
    server: FleetServer, robot: Robot, telemetry: TelemetrySender, spool: Spool, fault: str
) -> None:
    robot.report_event(Event("collision", DIGEST, NOW))
    server.faults.add(fault)
    wait_s = await telemetry.send_once()
    assert spool.counts()["rows"] == 1
    assert wait_s > 0.09
    assert telemetry.last_error


async def test_one_bad_item_does_not_hold_up_the_rest(
    server: FleetServer, robot: Robot, telemetry: TelemetrySender, spool: Spool
) -> None:
    for number in range(20):
        robot.report_event(Event("stuck", DIGEST, NOW, {"poison": 1} if number == 7 else {"n": number}))
    for _ in range(30):
        await telemetry.send_once()
    assert spool.counts()["rows"] == 0
    assert spool.counts()["rejected_items"] == 1
    assert len(server.seen) == 19


async def test_an_item_the_wire_no_longer_knows_is_given_up(telemetry: TelemetrySender, spool: Spool) -> None:
    spool.put(EVENT, {"kind": "written by a newer sdk"})
    await telemetry.send_once()
    assert spool.counts()["rejected_items"] == 1


@pytest.mark.parametrize("where", ["relative", "absolute"])
async def test_a_recording_is_announced_uploaded_and_completed(
    server: FleetServer, robot: Robot, recordings: RecordingSender, state: StateDir, where: str
) -> None:
    server.faults.add(where)
    sha256 = record(robot)
    await recordings.send_once()
    assert sha256_hex(server.uploads[sha256]) == sha256
    put = server.requests[-2].headers
    assert put["content-length"] == str(len(server.uploads[sha256]))
    assert ("fleetloop-signature" in put) is (where == "relative"), "nobody else gets our signature"
    assert list(state.outbox.iterdir()) == []


async def test_what_is_declined_is_never_uploaded_and_not_called_uploaded(
    server: FleetServer, robot: Robot, recordings: RecordingSender, outbox: Outbox
) -> None:
    server.recording_state = "declined"
    sha256 = record(robot)
    await recordings.send_once()
    assert server.uploads == {}
    assert outbox.counts() == {"declined": 1}
    # The same recording once more, and a server that would take it now: it stays declined.
    server.recording_state = "wanted"
    assert record(robot) == sha256
    await recordings.send_once()
    assert server.announced == [sha256]
    assert outbox.waiting() == {}


async def test_what_the_server_has_is_not_sent_again(
    server: FleetServer, robot: Robot, recordings: RecordingSender, outbox: Outbox
) -> None:
    server.recording_state = "have"
    record(robot)
    await recordings.send_once()
    assert server.uploads == {}
    assert outbox.counts() == {"uploaded": 1}


async def test_a_recording_waits_while_the_server_is_away_and_across_restarts(
    server: FleetServer, robot: Robot, recordings: RecordingSender, state: StateDir, client: DeviceClient
) -> None:
    sha256 = record(robot)
    server.faults.add("500")
    await recordings.send_once()
    assert recordings.waiting_files == 1
    server.faults.clear()
    again = RecordingSender(Uploader(client), Outbox(state.outbox, state.private / "capture.db"))
    await again.send_once()
    assert sha256 in server.uploads


async def test_a_file_without_its_sidecar_is_no_recording(
    server: FleetServer, recordings: RecordingSender, state: StateDir
) -> None:
    state.outbox.mkdir()
    (state.outbox / f"{DIGEST}.mcap").write_bytes(b"half")
    (state.outbox / f"{'b' * 64}.json").write_bytes(b"{}")
    await recordings.send_once()
    assert server.announced == []
    assert [path.name for path in state.outbox.iterdir()] == [f"{DIGEST}.mcap"]


async def test_rules_and_bounds_are_applied_and_counted(
    server: FleetServer, robot: Robot, client: DeviceClient, outbox: Outbox
) -> None:
    rules = CaptureRules({"collision": CaptureRule(90), "noise": CaptureRule(keep=False)}, CaptureRule(10, 2))
    sender = RecordingSender(Uploader(client), outbox, rules, Bounds(files=3))
    kinds = ["stuck", "noise", "stuck", "stuck", "collision", "collision"]
    sent = {record(robot, kind, number): kind for number, kind in enumerate(kinds)}
    await sender.send_once()
    assert [sent[sha256] for sha256 in server.announced] == ["collision", "collision", "stuck"]
    assert sender.dropped == 3
    assert outbox.counts() == {"dropped": 3, "uploaded": 3}


def waiting(number: int, kind: str = "stuck", size_bytes: int = 10) -> Waiting:
    return Waiting(f"{number:064x}", kind, size_bytes, float(number))


def test_the_first_of_an_hour_are_kept_and_the_hour_passes() -> None:
    rules = CaptureRules({"stuck": CaptureRule(max_per_hour=2)})
    several = [waiting(number) for number in range(4)]
    assert len(choose(several, {"stuck": [10.0]}, rules, Bounds()).send) == 1
    assert len(choose(several, {"stuck": [4000.0]}, rules, Bounds()).send) == 2


def test_the_least_important_goes_first_when_the_outbox_is_full() -> None:
    rules = CaptureRules({"collision": CaptureRule(priority=90)})
    choice = choose([waiting(1), waiting(2), waiting(3, "collision")], {}, rules, Bounds(bytes=25))
    assert [each.order for each in choice.send] == [3.0, 1.0]
    assert choice.drop == {f"{2:064x}": "outbox_full"}


async def test_telemetry_begins_a_trace_that_is_wanted_where_something_happened(
    server: FleetServer, robot: Robot, telemetry: TelemetrySender
) -> None:
    """`https://www.w3.org/TR/trace-context/`: version, trace, span, flags; the last bit wants it kept."""
    robot.report_window(driven())
    await telemetry.send_once()
    robot.report_event(Event("collision", DIGEST, NOW))
    await telemetry.send_once()
    quiet, loud = (r.headers["traceparent"] for r in server.requests if r.path.endswith("/telemetry"))
    assert re.fullmatch("00-[0-9a-f]{32}-[0-9a-f]{16}-00", quiet)
    assert re.fullmatch("00-[0-9a-f]{32}-[0-9a-f]{16}-01", loud)
    assert quiet[3:35] != loud[3:35]
