"""Many agents in one process: one HTTP client, one qualifier, a directory of state directories."""

import asyncio
import logging
import random
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final

import httpx

from agents.inference import QualifierPool
from agents.link import Backoff, Identity, LinkError, enrol, new_http
from agents.link.identity import read_enrolment
from agents.main.agent import Agent, LockedError
from agents.main.parts import Shared
from agents.sdk.layout import StateDir
from agents.update import TufProcess

_SCAN_S: Final = 1.0
_log = logging.getLogger("fleetloop.agent")


async def run_one(state: StateDir) -> None:
    """Run the agent of one enrolled device until cancelled."""
    identity = Identity.load(state)
    if identity is None:
        raise FileNotFoundError(f"{state.root} is not enrolled")
    # One device's files and hashes keep two threads busy at most; each further one costs memory for good.
    asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(2))
    shared = Shared(new_http(), QualifierPool(), TufProcess())
    try:
        await Agent(state, identity, shared).run()
    finally:
        await shared.close()


async def run_host(root: Path, max_agents: int) -> None:
    """Run an agent for every state directory under `root`, also those that appear later, until cancelled."""
    tasks = dict[Path, "asyncio.Task[None]"]()
    shared = Shared(new_http(connections=max(20, max_agents)), QualifierPool(), TufProcess())
    try:
        while True:
            _bury(tasks)
            for path in await asyncio.to_thread(_state_dirs, root):
                if path not in tasks and len(tasks) < max_agents:
                    tasks[path] = asyncio.create_task(_kept_alive(StateDir(path), shared))
            await asyncio.sleep(_SCAN_S)
    finally:
        for task in tasks.values():
            task.cancel()
        await asyncio.gather(*tasks.values(), return_exceptions=True)
        await shared.close()


def _bury(tasks: dict[Path, "asyncio.Task[None]"]) -> None:
    """Tell of agents that ended by a fault of ours and let the next scan start them again: no other one suffers."""
    for path in [path for path, task in tasks.items() if task.done()]:
        _log.error("%s: failed and starts again", path.name, exc_info=tasks.pop(path).exception())


async def _kept_alive(state: StateDir, shared: Shared) -> None:
    """Enrol if needed and run; whatever ends one agent ends only that one, for a while."""
    backoff = Backoff(1.0, 60.0, random.SystemRandom())
    while True:
        try:
            identity = await _identity(state, shared.http)
            await Agent(state, identity, shared).run()
        except LinkError as error:
            wait_s = backoff.failed(error.retry_after_s)
            _log.warning("%s: %s; again in %.0f s", state.root.name, error, wait_s)
        except (OSError, ValueError, LockedError) as error:
            wait_s = backoff.failed(10.0)
            _log.warning("%s: %s; again in %.0f s", state.root.name, error, wait_s)
        await asyncio.sleep(wait_s)


async def _identity(state: StateDir, http: httpx.AsyncClient) -> Identity:
    known = Identity.load(state)
    if known is not None:
        return known
    wish = read_enrolment(state)
    if wish is None:
        raise ValueError("neither enrolled nor is there an enrolment.json")
    identity = await enrol(http, state, wish)
    _log.info("%s: enrolled as %s", state.root.name, identity.device_id)
    return identity


def _state_dirs(root: Path) -> list[Path]:
    root.mkdir(parents=True, exist_ok=True)
    return sorted(
        path
        for path in root.iterdir()
        if (path / "enrolment.json").exists() or (path / "agent" / "identity.json").exists()
    )
