"""What a person at the device sees and does, and two processes that never harm each other; all with the real agent."""

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from agents.main.notify import watchdog_period_s, watched
from agents.main.page import LoopbackPage
from agents.protocol.v1 import DeploymentPhase as P
from agents.protocol.v1 import sha256_hex
from agents.protocol.v1.trust import Revocations
from agents.sdk import Event, Robot, StateDir
from tests.agent.bundles import Built, files, release
from tests.agent.server import FleetServer
from tests.agent.test_agent_process import command, enrolled, reported, running, speak, until

RUN = ("run", "--state-dir")


def settle(server: FleetServer, state: StateDir, **settings: Any) -> Built:
    """Enrol, and write what the operator sets; the first release is ordered."""
    enrolled(server, state)
    (state.private / "agent.json").write_text(json.dumps({"download": {"disk_reserve_bytes": 0}, **settings}))
    built = release(server, 1, files(1.0))
    server.order = built.order
    return built


def last(server: FleetServer) -> Any:
    check_in = server.by_device["d-7"]
    assert check_in.deployment is not None
    return check_in.deployment


def port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


def test_a_device_waits_for_its_safe_state_and_says_for_what(server: FleetServer, state: StateDir) -> None:
    settle(server, state, safe_state="battery >= 50")
    robot = Robot(state.root)
    with running(*RUN, str(state.root)):
        until(lambda: speak(state) and reported(server, P.COMMITTED))
        built = release(server, 2, files(2.0))
        server.order = built.order.model_copy(update={"safe_state": "docked and temperature_c < 70"})
        heat = {"name": "hall robot", "watts": 20, "joules_per_decision": 1, "temperature_c": 81.5}
        (state.root / "simulated.json").write_text(json.dumps(heat))
        robot.set_motion(True, docked=False, battery_percent=18)

        def waits() -> bool:
            robot.set_motion(True, docked=False, battery_percent=18)
            return last(server).reason == "waiting_safe_state" and "hot" in last(server).detail

        until(waits, 40)
        assert last(server).phase is P.ARMED
        assert last(server).detail == "battery 18 < 50 %; not docked; hot: 81.5 >= 70 °C"
        status = command("status", "--state-dir", str(state.root))
        assert status.returncode == 0
        assert "battery 18 < 50 %" in status.stdout
        assert "hot: 81.5 >= 70 °C" in status.stdout
        told = json.loads(command("status", "--json", "--state-dir", str(state.root)).stdout)
        assert (told["phase"], told["agent"]) == ("armed (waiting_safe_state)", "runs")
        words = command("explain", "--state-dir", str(state.root)).stdout
        assert "Before a switch the order asks for: docked and temperature_c < 70" in words
        assert "now missing: not docked; hot: 81.5 >= 70 °C" in words
        doctor = json.loads(command("doctor", "--state-dir", str(state.root)).stdout)
        assert doctor["waits_for"].startswith("a safe state: battery 18 < 50 %")
        assert doctor["now"]["safe_state"]["this device (agent.json)"]["missing"] == ["battery 18 < 50 %"]
        (state.root / "simulated.json").write_text(json.dumps({**heat, "temperature_c": 40.0}))
        robot.set_motion(True, docked=True, battery_percent=80)
        until(lambda: speak(state) and reported(server, P.COMMITTED) and last(server).counter == 2, 40)


def test_both_slots_are_shown_and_a_damaged_one_is_named(server: FleetServer, state: StateDir) -> None:
    first = settle(server, state)
    second = release(server, 2, files(2.0))
    with running(*RUN, str(state.root)):
        until(lambda: speak(state) and reported(server, P.COMMITTED))
        server.order = second.order
        until(lambda: speak(state) and reported(server, P.COMMITTED) and last(server).counter == 2)
    shown = command("slots", "--json", "--state-dir", str(state.root))
    assert shown.returncode == 0
    found = {each["role"]: each for each in json.loads(shown.stdout)}
    assert {role: (each["counter"], each["content_digest"], each["verified"]) for role, each in found.items()} == {
        "active": (2, second.content_digest, True),
        "fallback": (1, first.content_digest, True),
    }
    robot = Robot(state.root)
    model = robot.active_model()
    assert model is not None
    weights = model.path / "model.onnx"
    weights.chmod(0o644)
    weights.unlink()
    weights.write_bytes(b"something else")
    damaged = command("slots", "--state-dir", str(state.root))
    assert damaged.returncode == 1
    assert "DAMAGED: model.onnx" in damaged.stdout
    assert "verified" in damaged.stdout


def test_a_revoked_release_is_left_within_one_check_in(server: FleetServer, state: StateDir) -> None:
    first = settle(server, state)
    with running(*RUN, str(state.root)):
        until(lambda: speak(state) and reported(server, P.COMMITTED))
        second = release(server, 2, files(2.0))
        server.order = second.order
        until(lambda: speak(state) and reported(server, P.COMMITTED) and last(server).counter == 2)
        server.period_s = 6.0
        heard = len(server.check_ins)
        until(lambda: len(server.check_ins) > heard + 1)
        server.revocations = Revocations(content_digests=(second.content_digest,))
        server.publish()
        robot = Robot(state.root)

        def left() -> bool:
            model = robot.active_model()
            return model is not None and model.content_digest == first.content_digest

        # The next check-in names the newer revision; a second one would come after twice the period.
        until(left, 1.75 * server.period_s)
        until(lambda: last(server).reason == "revoked", 10)
        assert last(server).phase is P.REVERTED
    words = command("explain", "--state-dir", str(state.root)).stdout
    assert "the release was revoked" in words


def test_a_model_that_turns_out_bad_after_its_trial_is_left(server: FleetServer, state: StateDir) -> None:
    first = settle(server, state)
    with running(*RUN, str(state.root)):
        until(lambda: speak(state) and reported(server, P.COMMITTED))
        second = release(server, 2, files(2.0))
        server.order = second.order
        until(lambda: speak(state) and reported(server, P.COMMITTED) and last(server).counter == 2)
        Robot(state.root).report_health(second.content_digest, ok=False, reason="it turns in circles")
        until(lambda: reported(server, P.REVERTED), 15)
        assert (last(server).reason, last(server).detail) == ("unhealthy_later", "it turns in circles")
        assert server.by_device["d-7"].active is not None
        assert server.by_device["d-7"].active.content_digest == first.content_digest
        model = Robot(state.root).active_model()
        assert model is not None
        assert model.content_digest == first.content_digest


APPLICATION = """
import sys, time
from datetime import datetime, timezone
from pathlib import Path
from agents.sdk import Event, Robot
robot = Robot(Path(sys.argv[1]))
while True:
    model = robot.active_model()
    if model is not None:
        assert (model.path / "contract.json").read_bytes()
        robot.report_health(model.content_digest, ok=True)
        robot.set_motion(True, speed_m_s=0.0)
        event = robot.report_event(Event("stuck", model.content_digest, datetime.now(timezone.utc)))
        print(event, model.release_counter, flush=True)
    time.sleep(0.02)
"""


def test_kill_9_of_the_agent_never_disturbs_the_application(server: FleetServer, state: StateDir) -> None:
    settle(server, state)
    with running(*RUN, str(state.root)) as agent, subprocess.Popen(
        [sys.executable, "-c", APPLICATION, str(state.root)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as application:  # fmt: skip
        assert application.stdout is not None
        lines: list[str] = []
        reader = threading.Thread(target=lambda: lines.extend(application.stdout or ()), daemon=True)
        reader.start()
        until(lambda: reported(server, P.COMMITTED))
        agent.kill()
        agent.wait(10)
        before = len(lines)
        until(lambda: len(lines) > before + 20, 10)
        for counter in (2, 3, 4):
            server.order = release(server, counter, files(float(counter))).order
            with running(*RUN, str(state.root)) as again:
                time.sleep(0.6)
                again.kill()
        with running(*RUN, str(state.root)):
            until(lambda: reported(server, P.COMMITTED) and last(server).counter == 4, 30)
            until(lambda: lines and lines[-1].split()[1] == "4")
            assert application.poll() is None, "it never noticed more than a new model"
            application.kill()
            application.wait(10)
            reader.join(10)
            said = {line.split()[0] for line in lines if line.endswith("\n")}
            until(lambda: said <= {each.event_id for batch in server.batches for each in batch.events}, 20)


def test_kill_9_of_the_application_never_disturbs_the_agent(server: FleetServer, state: StateDir) -> None:
    settle(server, state, trial={"deadline_s": 2.0})
    with running(*RUN, str(state.root)) as agent:
        until(lambda: speak(state) and reported(server, P.COMMITTED))
        for _ in range(3):
            application = subprocess.Popen([sys.executable, "-c", APPLICATION, str(state.root)], stdout=subprocess.PIPE)
            with application:
                assert application.stdout is not None
                application.stdout.readline()
                application.kill()
        # Nobody is there to say how the next model runs: the trial ends as it must, with the model before.
        server.order = release(server, 2, files(2.0)).order
        until(lambda: reported(server, P.REVERTED), 20)
        assert last(server).reason == "no_health_report"
        assert agent.poll() is None
        assert server.by_device["d-7"].active is not None
        assert server.by_device["d-7"].active.counter == 1


def test_the_page_shows_the_status_and_metrics_on_loopback_only(server: FleetServer, state: StateDir) -> None:
    number = port()
    settle(server, state, status={"port": number})
    with running(*RUN, str(state.root)):
        until(lambda: speak(state) and reported(server, P.COMMITTED))
        page = fetched(number, "/")
        assert "<th>phase</th><td>committed</td>" in page
        metrics = fetched(number, "/metrics").splitlines()
        assert 'fleetloop_agent_phase{phase="committed"} 1' in metrics
        assert "fleetloop_agent_active_counter 1" in metrics
        assert 'fleetloop_agent_failing{part="check_in_error"} 0' in metrics
        with pytest.raises(urllib.error.HTTPError, match="403"):
            fetched(number, "/", host="evil.example")
        with pytest.raises(urllib.error.HTTPError, match="404"):
            fetched(number, "/etc/passwd")
        others = [each[4][0] for each in socket.getaddrinfo(socket.gethostname(), None, socket.AF_INET)]
        for address in {str(each) for each in others} - {"127.0.0.1", "127.0.1.1"}:
            with pytest.raises(OSError, match="refused"):
                socket.create_connection((address, number), 2).close()


def fetched(number: int, path: str, host: str = "localhost") -> str:
    request = urllib.request.Request(f"http://127.0.0.1:{number}{path}", headers={"Host": host})
    with urllib.request.urlopen(request, timeout=5) as answer:  # noqa: S310  loopback
        text: str = answer.read().decode()
    return text


async def test_the_page_escapes_what_it_shows_and_bounds_its_visitors() -> None:
    number = port()
    serving = asyncio.ensure_future(LoopbackPage(number, lambda: {"a": "<script>x</script>"}, dict).run())
    await asyncio.sleep(0.1)

    async def ask(data: bytes) -> bytes:
        reader, writer = await asyncio.open_connection("127.0.0.1", number)
        writer.write(data)
        try:
            return await asyncio.wait_for(reader.read(), 8)
        except ConnectionResetError:
            return b""
        finally:
            writer.close()

    shown = await ask(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
    assert b"&lt;script&gt;" in shown
    assert b"<script>" not in shown
    assert b"405" in (await ask(b"POST / HTTP/1.1\r\nHost: localhost\r\n\r\n")).splitlines()[0]
    assert await ask(b"GET / HTTP/1.1\r\nX: " + b"x" * 9000) == b"", "too long a request gets no answer"
    assert await ask(b"\xff\xfe\r\n\r\n") != b"", "nonsense gets a refusal"
    slow = [await asyncio.open_connection("127.0.0.1", number) for _ in range(20)]
    began = time.monotonic()
    for reader, writer in slow:
        assert await asyncio.wait_for(reader.read(), 8) == b""
        writer.close()
    assert time.monotonic() - began < 7, "who says nothing is let go"
    assert b"200" in (await ask(b"GET / HTTP/1.1\r\nHost: 127.0.0.1:1\r\n\r\n")).splitlines()[0]
    serving.cancel()


def test_a_taken_port_costs_the_page_and_not_the_agent(server: FleetServer, state: StateDir) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        settle(server, state, status={"port": taken.getsockname()[1]})
        with running(*RUN, str(state.root)):
            until(lambda: speak(state) and reported(server, P.COMMITTED))


def test_systemd_hears_that_the_agent_is_ready_alive_and_stopping(server: FleetServer, state: StateDir) -> None:
    enrolled(server, state)
    path = state.root / "notify"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(path))
        manager.settimeout(15)
        environment = {**os.environ, "NOTIFY_SOCKET": str(path), "WATCHDOG_USEC": "600000"}
        environment.pop("WATCHDOG_PID", None)
        with subprocess.Popen(
            [sys.executable, "-m", "agents.main", *RUN, str(state.root)], env=environment, stderr=subprocess.DEVNULL
        ) as agent:
            assert manager.recv(100) == b"READY=1"
            began = time.monotonic()
            assert [manager.recv(100) for _ in range(5)] == [b"WATCHDOG=1"] * 5
            assert time.monotonic() - began < 3
            agent.send_signal(signal.SIGTERM)
            heard = manager.recv(100)
            while heard == b"WATCHDOG=1":
                heard = manager.recv(100)
            assert heard == b"STOPPING=1"
            assert agent.wait(15) == 0


async def test_a_loop_that_hangs_falls_silent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "notify"))
        manager.setblocking(False)
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
        monkeypatch.setenv("WATCHDOG_USEC", "150000")
        monkeypatch.delenv("WATCHDOG_PID", raising=False)
        assert watchdog_period_s() == pytest.approx(0.05)

        async def hangs() -> None:
            await asyncio.sleep(0.2)
            while True:
                try:
                    manager.recv(100)
                except BlockingIOError:
                    break
            time.sleep(0.5)  # noqa: ASYNC251  the fault
            with pytest.raises(BlockingIOError):
                manager.recv(100)

        await watched(hangs())
    monkeypatch.setenv("WATCHDOG_PID", "1")
    assert watchdog_period_s() is None, "another process is watched"


def test_a_mistake_in_the_settings_is_said_and_nothing_starts(server: FleetServer, state: StateDir) -> None:
    settle(server, state, safe_state="docked and batery > 3")
    done = command(*RUN, str(state.root))
    assert done.returncode == 1
    assert "'batery' is no term" in done.stderr
    assert "Traceback" not in done.stderr


def test_exit_statuses_tell_what_went_wrong(tmp_path: Path, server: FleetServer, state: StateDir) -> None:
    missing = str(tmp_path / "nowhere")
    assert [command(name, "--state-dir", missing).returncode for name in ("status", "doctor", "explain", "slots")] == [
        3
    ] * 4
    assert command("status").returncode == 2
    assert command(*RUN, str(tmp_path)).returncode == 3
    blank = command("explain", "--state-dir", str(tmp_path))
    assert (blank.returncode, "not enrolled" in blank.stdout) == (0, True)
    for name in ("run", "enrol", "status", "doctor", "explain", "slots", "host"):
        assert f"fleetloop-agent {name} " in command(name, "--help").stdout


def test_status_counts_what_has_not_got_home(server: FleetServer, state: StateDir) -> None:
    built = settle(server, state)
    robot = Robot(state.root)
    for _ in range(3):
        robot.report_event(Event("stuck", built.content_digest, datetime.now(UTC)))
    told = json.loads(command("status", "--json", "--state-dir", str(state.root)).stdout)
    assert told["to be sent"] == "3 windows and events, 0 recordings"
    assert told["agent"] == "does not run"


def test_a_root_that_is_not_the_pinned_one_is_not_taken(server: FleetServer, state: StateDir) -> None:
    server.publish()
    arguments = [
        "enrol", "--server", server.url, "--token", "t" * 20, "--state-dir", str(state.root), "--serial", "7",
        "--device-class", "test", "--site", "hall", "--trust-root-sha256",
    ]  # fmt: skip
    refused = command(*arguments, "0" * 64)
    assert refused.returncode != 0
    assert "root of trust" in refused.stderr
    assert not (state.private / "identity.json").exists()
    assert command(*arguments, sha256_hex(server.tuf.root)).returncode == 0
