"""One stolen key each, beside every online key, the object store and the network: what a device lets in.

python -m tests.proofs.device_trust
"""

import asyncio
import json
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from pydantic import SecretStr

from agents.link import Enrolment, enrol, new_http
from agents.sdk import StateDir
from tests.agent.bundles import files, release
from tests.agent.server import served
from tests.support.attacks import Device, HostileServer
from tests.support.thieves import ATTEMPTS, THEFTS, Thief, World, after_the_theft, tries

Line = dict[str, Any]
_HELD: Final = {
    "director": "the director's key",
    "releases": "the keys of director, releases, revocations, snapshot and timestamp",
    "gate": "the gate's key and all that is online",
    "trainer": "the trainer's key and all that is online",
    "approver": "one approver's key and all that is online",
}


def run() -> Iterator[Line]:
    for stolen, words in _HELD.items():
        with tempfile.TemporaryDirectory() as folder:
            yield asyncio.run(_theft(stolen, words, Path(folder)))


async def _theft(stolen: str, words: str, folder: Path) -> Line:
    server = HostileServer(life_s=5 * 86400.0)
    with served(server) as server.url:
        async with new_http() as http:
            device = await enrolled(server, http, folder)
            thief = Thief(await World.honest(server, device), THEFTS[stolen])
            installed = [name for name in ATTEMPTS if await _gets_in(thief, name)]
            after_the_theft(server)
            await device.installs(release(server, 500, files(500.0)))
            await device.close()
    figures = {"attempts": len(ATTEMPTS), "installed": len(installed), "recovered": True}
    return {
        "proof": f"a thief with {words} installs nothing",
        "ok": not installed,
        "figures": figures,
        "bound": "0 installed",
    }


async def enrolled(server: HostileServer, http: Any, folder: Path) -> Device:
    wish = Enrolment(server=server.url, token=SecretStr("t" * 20), serial="7", device_class="test", site="hall")
    state = StateDir(folder)
    await enrol(http, state, wish)
    return Device(http, state, server)


async def _gets_in(thief: Thief, name: str) -> bool:
    try:
        await tries(thief, name)
    except AssertionError as error:
        print(f"{name}: {error}")
        return True
    return False


if __name__ == "__main__":
    for line in run():
        print(json.dumps(line))
