"""One stolen key more than everything the control plane holds: nothing runs that simulation and people did not sign."""

from collections.abc import AsyncIterator

import httpx
import pytest

from agents.link import BlobStore, Identity
from agents.protocol.v1 import DeploymentPhase as P
from agents.sdk import StateDir
from agents.update import Slots
from tests.agent.bundles import files, release
from tests.agent.server import Door
from tests.agent.test_agent_process import enrolled, reported, running, speak, until
from tests.support.attacks import Device, HostileServer
from tests.support.thieves import ATTEMPTS, THEFTS, Thief, World, after_the_theft, tries


@pytest.fixture
def server(door: tuple[Door, str]) -> HostileServer:
    door[0].behind = HostileServer(url=door[1], life_s=5 * 86400.0)
    return door[0].behind


@pytest.fixture
async def device(
    server: HostileServer, identity: Identity, http: httpx.AsyncClient, state: StateDir
) -> AsyncIterator[Device]:
    device = Device(http, state, server)
    yield device
    await device.close()


@pytest.mark.parametrize("stolen", list(THEFTS))
async def test_e55_with_one_stolen_key_nothing_gets_in(device: Device, server: HostileServer, stolen: str) -> None:
    thief = Thief(await World.honest(server, device), THEFTS[stolen])
    for name in ATTEMPTS:
        assert await tries(thief, name), name
    await device.restart()
    assert await tries(thief, "arbitrary")
    after_the_theft(server)
    await device.installs(release(server, 500, files(500.0)))


async def test_e55_only_with_gate_trainer_and_people_he_gets_in(device: Device, server: HostileServer) -> None:
    """What stops the others is the missing signatures: with all of them the same attempt is a release."""
    thief = Thief(await World.honest(server, device), THEFTS["gate"] | {"trainer", "ada", "bo"})
    with pytest.raises(AssertionError, match="the attacker got in"):
        await thrice(thief, "arbitrary")


async def thrice(thief: Thief, name: str) -> None:
    for _ in range(3):
        await tries(thief, name)


async def test_e54_a_director_who_lies_about_the_stage_gets_what_people_approved(
    device: Device, server: HostileServer
) -> None:
    """The limit of it: a thief of the director chooses which devices get an approved release, and how many."""
    world = await World.honest(server, device)
    built = world.releases["narrow"]
    server.order = built.order.model_copy(update={"stage_fraction": 1.0})
    await device.withstands("not_approved")
    server.order = built.order.model_copy(update={"stage_fraction": 0.1})
    for _ in range(10):
        await device.live(1)
    assert device.runs == built.order.counter


def test_e55_an_agent_in_a_process_of_its_own_lets_no_thief_in(server: HostileServer, state: StateDir) -> None:
    """The same against the real program, with the gate's key and every online one in the thief's hands."""
    enrolled(server, state)
    slots = Slots(state, BlobStore(state.blobs))
    good = release(server, 2, files(2.0))
    server.order = good.order
    with running("run", "--state-dir", str(state.root)):
        until(lambda: speak(state) and reported(server, P.COMMITTED))
        thief = Thief(World(server, None, {"running": good, "older": good}, {}), THEFTS["gate"])  # type: ignore[arg-type]  # the device is a process here
        for name in ("arbitrary", "old_content_in_a_new_release", "policy_among_releases"):
            with thief.at_work():
                server.order = ATTEMPTS[name](thief)
                until(lambda: refused(server, thief.counter))
                active = slots.running()
                assert active is not None
                assert (active.counter, slots.intact(active)) == (2, True)
        after_the_theft(server)
        server.order = release(server, 500, files(500.0)).order
        until(lambda: speak(state) and reported(server, P.COMMITTED) and last_counter(server) == 500, seconds=40)


def refused(server: HostileServer, counter: int) -> bool:
    last = server.check_ins[-1].deployment
    return last is not None and last.counter == counter and last.phase is P.REFUSED


def last_counter(server: HostileServer) -> int:
    active = server.check_ins[-1].active
    return active.counter if active is not None else 0
