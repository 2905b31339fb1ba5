"""The agent as a process: what a person starts, what a power cut stops."""

import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from agents.link import BlobStore
from agents.protocol.v1 import DeploymentPhase as P
from agents.protocol.v1 import ExposureWindow
from agents.sdk import Event, Robot, StateDir, Window
from agents.update import Slots
from tests.agent.bundles import files, release
from tests.agent.server import FleetServer

AGENT = [sys.executable, "-m", "agents.main"]


def command(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*AGENT, *arguments], capture_output=True, text=True, timeout=30, check=False)


def enrolled(server: FleetServer, state: StateDir, serial: str = "7") -> None:
    done = command(
        "enrol", "--json", "--server", server.url, "--token", "t" * 20, "--state-dir", str(state.root),
        "--serial", serial, "--device-class", "test", "--site", "hall", "--label", "line=3",
    )  # fmt: skip
    assert json.loads(done.stdout)["device_id"] == f"d-{serial}", done.stderr
    (state.private / "agent.json").write_text('{"download": {"disk_reserve_bytes": 0}}')


@contextmanager
def running(*arguments: str) -> Iterator["subprocess.Popen[str]"]:
    with subprocess.Popen([*AGENT, *arguments], stderr=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            if process.poll() is None:
                process.terminate()
            process.communicate(timeout=15)


def until(condition: Callable[[], Any], seconds: float = 20.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.02)


def reported(server: FleetServer, phase: P, device_id: str = "d-7") -> bool:
    last = server.by_device.get(device_id)
    return last is not None and last.deployment is not None and last.deployment.phase is phase


def speak(state: StateDir) -> bool:
    """Be the application: say that what is active runs."""
    robot = Robot(state.root)
    model = robot.active_model()
    if model is not None:
        robot.report_health(model.content_digest, ok=True)
    return True


def test_from_enrolment_to_a_committed_release_and_telemetry(server: FleetServer, state: StateDir) -> None:
    enrolled(server, state)
    robot = Robot(state.root)
    assert (robot.device_id, robot.labels) == ("d-7", {"line": "3"})
    built = release(server, 1, files())
    server.order = built.order
    with running("run", "--state-dir", str(state.root)) as process:
        until(lambda: speak(state) and reported(server, P.COMMITTED))
        last = server.by_device["d-7"]
        assert last.active is not None
        assert (last.active.content_digest, last.active.counter, last.counter_floor) == (built.content_digest, 1, 1)
        assert last.deployment is not None
        assert last.deployment.qualification["latency_p99_ms"] > 0
        robot.report_event(Event("stuck", built.content_digest, last.sent_at))
        until(lambda: server.seen)
        second = command("run", "--state-dir", str(state.root))
        assert (second.returncode, "another agent" in second.stderr) == (1, True)
        doctor = json.loads(command("doctor", "--state-dir", str(state.root)).stdout)
        assert (doctor["phase"], doctor["agent_running"]) == ("committed", True)
        process.send_signal(signal.SIGTERM)
        assert process.wait(10) == 0
    assert [each.seq for each in server.check_ins] == list(range(1, len(server.check_ins) + 1))
    assert len({each.boot_id for each in server.check_ins}) == 1


def test_windows_take_the_machine_s_heat_along(server: FleetServer, state: StateDir) -> None:
    enrolled(server, state)
    declared = {"name": "cart", "watts": 12.0, "joules_per_decision": 0.5, "temperature_c": 66.5}
    (state.root / "simulated.json").write_text(json.dumps(declared))
    robot = Robot(state.root)
    with running("run", "--state-dir", str(state.root)):
        until(lambda: server.check_ins)
        time.sleep(0.5)  # the first reading comes with the start, this window after it
        now = datetime.now(UTC)
        robot.report_window(Window("c" * 64, now, now + timedelta(seconds=1), 2.0, 1.0, 10, None, {}, 1.0, 2.0))
        until(lambda: server.seen)
    [window] = server.seen.values()
    assert isinstance(window, ExposureWindow)
    assert (window.temperature_max_c, window.throttled_s) == (66.5, None)


def test_kill_9_at_any_moment_leaves_a_model_that_runs(server: FleetServer, state: StateDir) -> None:
    enrolled(server, state)
    slots = Slots(state, BlobStore(state.blobs))
    counter = 1
    server.order = release(server, counter, files(1.0)).order
    arguments = ("run", "--state-dir", str(state.root))
    with running(*arguments):
        until(lambda: speak(state) and reported(server, P.COMMITTED))
    for delay_s in (0.0, 0.2, 0.4):
        counter += 1
        server.order = release(server, counter, files(float(counter))).order
        with running(*arguments) as process:
            before = len(server.check_ins)
            until(lambda before=before: len(server.check_ins) > before)
            time.sleep(delay_s)
            process.kill()
        active = slots.running()
        assert active is not None
        assert slots.intact(active)
    with running(*arguments):
        until(lambda: speak(state) and reported(server, P.COMMITTED))
    active = slots.running()
    assert active is not None
    assert (active.counter, slots.intact(active)) == (counter, True)


def test_a_replayed_manifest_is_refused_and_what_runs_goes_on(server: FleetServer, state: StateDir) -> None:
    enrolled(server, state)
    server.order = release(server, 1, files(1.0)).order
    with running("run", "--state-dir", str(state.root)):
        until(lambda: speak(state) and reported(server, P.COMMITTED))
        server.faults.add("replay")
        until(lambda: "manifests_refused" in server.check_ins[-1].platform)
        assert server.check_ins[-1].active is not None


def test_a_host_runs_many_and_takes_up_new_ones(server: FleetServer, tmp_path: Path) -> None:
    def appears(number: int) -> StateDir:
        state = StateDir(tmp_path / f"device-{number}")
        state.root.mkdir()
        wish = {"server": server.url, "token": "t" * 20, "serial": str(number), "device_class": "test", "site": "hall"}
        state.enrolment_json.write_text(json.dumps(wish))
        return state

    server.order = release(server, 1, files()).order
    states = [appears(number) for number in range(3)]
    (tmp_path / "not-a-device").mkdir()
    broken = tmp_path / "broken"
    broken.mkdir()
    (broken / "enrolment.json").write_text("{")
    with running("host", "--root", str(tmp_path)) as process:
        until(lambda: all(state.device_json.exists() for state in states))
        states.append(appears(3))
        until(states[3].device_json.exists)
        until(
            lambda: (
                all(speak(state) for state in states) and all(reported(server, P.COMMITTED, f"d-{n}") for n in range(4))
            )
        )
        process.send_signal(signal.SIGTERM)
        assert process.wait(15) == 0


@pytest.mark.parametrize(
    ("arguments", "words", "status"),
    [
        (("run", "--state-dir", "{}"), "enrol --help", 3),
        (("enrol", "--server", "ftp://x", "--token", "t" * 20, "--state-dir", "{}", "--serial", "1",
          "--device-class", "c", "--site", "s"), "http(s)", 1),
        (("enrol", "--server", "http://127.0.0.1:9", "--token", "t" * 20, "--state-dir", "{}", "--serial", "1",
          "--device-class", "c", "--site", "s"), "127.0.0.1", 4),
        (("enrol", "--server", "http://127.0.0.1:9", "--token", "t" * 20, "--state-dir", "{}", "--serial", "1",
          "--device-class", "c", "--site", "s", "--label", "x"), "K=V", 1),
    ],
)  # fmt: skip
def test_a_mistake_gets_a_sentence_not_a_traceback(
    tmp_path: Path, arguments: tuple[str, ...], words: str, status: int
) -> None:
    done = command(*(each.format(tmp_path) for each in arguments))
    assert done.returncode == status
    assert words in done.stderr
    assert "Traceback" not in done.stderr


def test_help_shows_examples(tmp_path: Path) -> None:
    assert "fleetloop-agent host --root" in command("--help").stdout
    doctor = json.loads(command("doctor", "--state-dir", str(tmp_path)).stdout)
    assert doctor["enrolled"] is False
