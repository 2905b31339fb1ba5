"""Several API processes on one database, each with a memory of its own."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.support.quiet import Quiet, another_process, proxied, quiet_device
from tests.support.server import Server

Two = tuple[Quiet, Quiet]


@pytest.fixture
async def two(server: Server, tmp_path: Path) -> AsyncIterator[Two]:
    """Give one device as two processes know it."""
    async with (
        quiet_device(server, tmp_path) as first,
        another_process(server) as other,
        proxied(other, tmp_path, "second") as http,
    ):
        yield first, Quiet(other, http, first.device, first.certificate)


async def test_a_device_that_moves_between_processes_is_one_device(two: Two) -> None:
    here, there = two
    for _ in range(3):
        await here.check_in()
        await there.check_in()
    for each in (here, there, here):
        await each.flush()
    row = await here.row()
    assert (row["state"], row["last_seq"]) == ("active", here.device.seq)
    await here.check_in()
    await there.check_in()
    await there.flush()
    await here.flush()
    row = await here.row()
    assert (row["state"], row["last_seq"]) == ("active", here.device.seq)


async def test_a_clone_at_another_process_is_noticed_when_its_number_is_written(two: Two) -> None:
    here, there = two
    await here.check_in()
    message = here.message()
    assert (await here.send(message)).status_code == 200
    clone = message.model_copy(update={"nonce": "c" * 32})
    assert (await there.send(clone)).status_code == 200  # the row does not know of the first yet
    await there.flush()
    await here.flush()
    assert (await here.row())["state"] == "quarantined"
    asked = (await here.server.ok("GET", "/reviews?state=open"))["items"]
    assert [(review["kind"], review["subject"]) for review in asked] == [("device.clone", here.device.id)]
    for each in two:
        answer = await each.send(each.message())
        assert answer.status_code == 403


async def test_a_replay_to_another_process_locks_nobody_out(two: Two) -> None:
    here, there = two
    message = here.message()
    assert (await here.send(message)).status_code == 200
    await there.send(message)
    await here.flush()
    await there.flush()
    again = await there.send(message)
    assert (again.status_code, again.json()["code"]) == (409, "replayed")
    assert (await here.row())["state"] == "active"
    await here.check_in()


async def test_a_restart_at_another_process_does_not_make_the_last_boot_a_clone(two: Two) -> None:
    here, there = two
    await here.check_in()
    first, last = here.device.boot, here.device.seq
    there.device.boot, there.device.seq = "boot-2", 0
    await there.check_in()
    await here.flush()
    row = await here.row()
    assert (row["state"], row["boots"][:2]) == ("active", ["boot-2", first])
    assert row["boot_ends"][first] == [last, 0]
    await here.check_in()
    await there.check_in()
    assert (await here.row())["state"] == "active"


async def test_what_a_device_said_elsewhere_meanwhile_is_not_taken_for_old_news(two: Two) -> None:
    here, there = two
    await here.check_in()
    await there.check_in(agent_version="0.2.0")
    await here.check_in()  # quiet as far as this process knows
    await here.flush()
    await here.check_in()
    found = await here.server.ok("GET", f"/devices/{here.device.id}")
    assert (found["agent_version"], found["state"]) == ("0.1.0", "active")
