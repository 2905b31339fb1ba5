"""Every online key is lost, with devices that saw it and devices that slept: the drill of docs/runbooks/key-loss.md."""

import json
import shutil
from pathlib import Path
from typing import Any, Final

import httpx
import pytest
from pydantic import SecretStr

from agents.link import Enrolment, enrol, new_http
from agents.protocol.v1 import DIRECTOR_PAYLOAD, seal_envelope
from agents.protocol.v1.admission import bundle_bytes
from agents.protocol.v1.statement import PROVENANCE, TEST_RESULT
from agents.sdk import StateDir
from agents.update import DirectorCheck, RefusedError, SignedByAll, Target
from agents.update.trust import read_release
from control_plane.kit.signing import Signer, read_signer
from control_plane.registry.schemas import ReleaseItem
from control_plane.registry.service import KeyPlan
from tests.database.test_attestations import PEOPLE, baseline, gated, person, seen, trained, work
from tests.database.test_keys_cli import keys
from tests.support.attacks import Device
from tests.support.device import CLASS, new_token
from tests.support.live import Live, serve
from tests.support.registry import release
from tests.support.trust import gate_result, provenance, sealed
from tests.support.tuf import forget_tokens, make_home

NAMES: Final = ("awake", "asleep", "wiped")
LOST: Final = ("releases", "revocations", "snapshot", "timestamp", "director", "gate", "trainer")


async def appears(live: Live, http: httpx.AsyncClient, folder: Path, serial: str) -> Device:
    """Enrol a device as the agent does, with a real trust root and an empty cache."""
    await live.server.ok("PUT", f"/device-classes/{CLASS}", json={"title": "Cart"})
    token = await new_token(live.server)
    wish = Enrolment(server=live.url, token=SecretStr(token), serial=serial, device_class=CLASS, site="north")
    state = StateDir(folder)
    await enrol(http, state, wish)
    return Device(http, state, None)  # type: ignore[arg-type]  # the server is the real one


async def reaches(device: Device, counter: int) -> None:
    for _ in range(20):
        if device.runs == counter:
            return
        await device.live(1)
    raise AssertionError(f"{device.loop.state.phase} {device.words[-4:]}")


async def reconnected(device: Device, url: str) -> None:
    """Wake a device up; its server has another port than before."""
    path = device.state.private / "identity.json"
    plain = json.loads(path.read_text())
    path.write_text(path.read_text().replace(plain["server"], url))
    await device.restart()


def old_words_count_for_nothing(device: Device, old: dict[str, Signer], made: ReleaseItem, manifest: bytes) -> None:
    """A thief of the old keys orders, and vouches for, a release: by policy alone, whatever TUF would say."""
    director = DirectorCheck("d", device.anchor.director_keys)
    with pytest.raises(RefusedError) as refused:
        director.accept(seal_envelope(DIRECTOR_PAYLOAD, b"{}", [old["director"].private]), "n")
    assert refused.value.reason == "bad_signature"
    target = Target(made.digest, len(manifest), made.counter)
    release = read_release(manifest, target, CLASS)
    said = [
        sealed(PROVENANCE, release.content_digest, provenance(), old["trainer"].private),
        sealed(TEST_RESULT, release.content_digest, gate_result(device_class=CLASS), old["gate"].private),
    ]
    with pytest.raises(RefusedError) as refused:
        SignedByAll(device.trust, CLASS).judge(target, release, bundle_bytes(said), device.anchor.now())
    assert refused.value.reason == "no_provenance"


async def a_release(live: Live, tmp_path: Path, scale: float) -> dict[str, Any]:
    version = await trained(live, tmp_path, scale)
    await gated(live, version, set())
    await baseline(live, tmp_path, version)
    return version


async def old_gates_do_not_let_a_new_release_out(live: Live, version: dict[str, Any]) -> None:
    made = await release(live.server, version["content_digest"])
    await work(live)
    item = await seen(live, made["digest"])
    assert item.published_revision is None
    assert "no provenance" in item.waits_for


async def test_j102_the_fleet_recovers_whether_it_watched_or_slept(database_url: str, tmp_path: Path) -> None:
    people = {name: person(tmp_path, name).public_hex for name in PEOPLE}
    home = tmp_path / "home"
    make_home(home, KeyPlan(approvers=people, approval_threshold=2, warned_threshold=3))
    online = home / "keys" / "online"
    async with new_http() as http:
        async with serve(database_url, home) as live:
            first = await a_release(live, tmp_path, 2.0)
            awake, asleep, wiped = [await appears(live, http, tmp_path / name, name) for name in NAMES]
            for device in (awake, asleep, wiped):
                await reaches(device, 1)
        await forget_tokens(database_url)
        old = {role: read_signer(online / f"{role}.pem") for role in ("director", "gate", "trainer")}
        shutil.rmtree(online)
        for role in LOST:
            keys(home, "rotate", role)
        assert {path.stem for path in online.glob("*.pem")} == {f"{role}-2" for role in LOST}
        shutil.copy(online / "trainer-2.pem", online / "trainer.pem")  # where this test's trainer looks for it
        async with serve(database_url, home) as live:
            assert (await live.server.ok("GET", "/trust"))["alarms"] == []
            await reconnected(awake, live.url)
            await awake.live(3)
            assert awake.check_ins.last_error is None, "the new director is heard"
            assert awake.runs == 1, "what ran goes on"
            item = ReleaseItem.model_validate((await live.server.ok("GET", "/releases"))[0])
            manifest = (await live.server.call("GET", f"/releases/{item.digest}/manifest")).content
            old_words_count_for_nothing(awake, old, item, manifest)
            await old_gates_do_not_let_a_new_release_out(live, first)
            second = await a_release(live, tmp_path, 3.0)
            shutil.rmtree(wiped.anchor.cache)
            for device in (asleep, wiped):
                await reconnected(device, live.url)
            new = await appears(live, http, tmp_path / "new", "new")
            for device in (awake, asleep, wiped, new):
                await reaches(device, 3)
                slot = device.slots.running()
                assert slot is not None
                assert slot.content_digest == second["content_digest"]
                await device.close()
