"""One check-in after another, with a director that lies."""

from pathlib import Path

import pytest

from agents.link import DeviceClient, Identity
from agents.link.identity import root_path
from agents.main.check_in import CheckIns
from agents.platform import PlatformFacts, jetson
from agents.protocol.v1 import DeploymentPhase as P
from agents.sdk import StateDir
from agents.update import Anchor, DirectorCheck, UpdateLoop
from tests.agent.bundles import files, release
from tests.agent.server import FleetServer
from tests.agent.test_update_crash import Bench
from tests.support.trust import id_of


@pytest.fixture
def update(state: StateDir, client: DeviceClient, server: FleetServer) -> UpdateLoop:
    return Bench(state, client, server).process()


@pytest.fixture
def check_ins(
    client: DeviceClient, identity: Identity, update: UpdateLoop, server: FleetServer, state: StateDir, tmp_path: Path
) -> CheckIns:
    keys = {id_of(server.director): server.director.public_key()}
    director = DirectorCheck(identity.device_id, lambda: keys)
    facts, anchor = PlatformFacts(tmp_path).now, Anchor(root_path(state).parent)
    return CheckIns(client, director, update, lambda: {"rows": 3.0}, facts, anchor, boot_id="b-1")


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        ("wrong_nonce", "wrong_nonce"),
        ("wrong_key", "bad_signature"),
        ("wrong_type", "bad_signature"),
        ("other_device", "other_device"),
        ("expired", "expired"),
        ("duplicate_key", "stands twice"),
        ("nan", "NaN"),
        ("giant", "more than"),
        ("gzip", "encoded"),
        ("500", "503"),
    ],
)
async def test_an_answer_that_must_not_be_believed_orders_nothing(
    server: FleetServer, check_ins: CheckIns, update: UpdateLoop, fault: str, words: str
) -> None:
    server.order = release(server, 1, files()).order
    server.faults.add(fault)
    assert await check_ins.once() >= 0.1
    await update.advance()
    assert words in (check_ins.last_error or "")
    assert update.state.phase is P.IDLE
    server.faults.clear()
    await check_ins.once()
    await update.advance()
    assert check_ins.last_error is None
    assert update.state.phase is P.DOWNLOADING
    await update.close()


async def test_a_replayed_answer_orders_nothing(server: FleetServer, check_ins: CheckIns, update: UpdateLoop) -> None:
    await check_ins.once()
    server.faults.add("replay")
    await check_ins.once()
    await check_ins.once()
    assert "wrong_nonce" in (check_ins.last_error or "")
    assert server.check_ins[-1].platform["manifests_refused"] == 1
    await update.close()


async def test_a_clock_that_is_years_off_changes_nothing(
    server: FleetServer, check_ins: CheckIns, update: UpdateLoop
) -> None:
    server.faults.add("old_clock")
    server.order = release(server, 1, files()).order
    await check_ins.once()
    await update.advance()
    assert update.state.phase is P.DOWNLOADING
    await update.close()


async def test_a_check_in_says_who_how_far_and_what_waits(
    server: FleetServer, check_ins: CheckIns, update: UpdateLoop
) -> None:
    await check_ins.once()
    await check_ins.once()
    first, second = server.check_ins
    assert (first.boot_id, first.seq, second.seq) == ("b-1", 1, 2)
    assert first.nonce != second.nonce
    assert second.spool == {"rows": 3.0}
    assert second.platform["cpu_count"] >= 1
    await update.close()


def test_a_jetson_shows_what_it_has_and_nothing_else_does(tmp_path: Path) -> None:
    assert jetson.read(tmp_path) == {}
    rail = tmp_path / "sys/bus/i2c/drivers/ina3221/1-0040/hwmon/hwmon3"
    zone = tmp_path / "sys/class/thermal/thermal_zone0"
    for folder in (rail, zone, tmp_path / "etc"):
        folder.mkdir(parents=True)
    (tmp_path / "etc/nv_tegra_release").write_text("# R36 (release), REVISION: 4.3\n")
    for name, value in {"in1_label": "VDD_IN", "in1_input": "5000", "curr1_input": "1200"}.items():
        (rail / name).write_text(value)
    (zone / "type").write_text("cpu-thermal\n")
    (zone / "temp").write_text("48500\n")
    facts = jetson.read(tmp_path)
    assert facts["power_w"] == pytest.approx(6.0)
    assert facts["temp_cpu_c"] == 48.5
    assert "power_mode" not in facts
