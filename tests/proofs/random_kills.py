"""SIGKILL at random moments of agents that update all the time, against a server that always has a newer release.

Most agents are forked from a warm process, so that a thousand take minutes: the whole agent with its real loops, but
python-tuf in the agent's own process and a qualifier that only looks whether the model is there. Some are the whole
program with its helper processes, started as a person starts it.
"""

import asyncio
import logging
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any, Final

from agents.link import Identity, new_http
from agents.main.agent import Agent
from agents.main.parts import Shared
from agents.protocol.v1 import DeploymentPhase, ReleaseOrder
from agents.sdk import StateDir
from agents.sdk.signals import Signals
from tests.agent.bundles import files, release
from tests.agent.server import FleetServer
from tests.support.updates import NO_TLS, Broken, Fleet, InProcess, Says, last_act

_DEVICES: Final = 6
_WHOLE: Final = 2
_RELEASES: Final = 400
_CONTENTS: Final = 5
_SETTLED: Final = {DeploymentPhase.COMMITTED, DeploymentPhase.REVERTED, DeploymentPhase.REFUSED}


class AlwaysNewer(dict[str, ReleaseOrder | None]):
    """Orders each device the release after the one it is done with."""

    def __init__(self, server: FleetServer, orders: list[ReleaseOrder]) -> None:
        super().__init__()
        self._server, self._orders = server, orders

    def get(self, key: str, default: Any = None) -> Any:
        last = self._server.by_device.get(key)
        report = last.deployment if last else None
        if report is None:
            return self._orders[0] if last is None or last.active is None else self._after(last.active.counter)
        return self._after(report.counter if report.phase in _SETTLED else report.counter - 1)

    def _after(self, counter: int) -> ReleaseOrder:
        return self._orders[min(counter, len(self._orders) - 1)]


class Victim:
    """One device's disk and the agent on it, killed and started again."""

    def __init__(self, fleet: Fleet, state: StateDir, source: random.Random, *, whole: bool) -> None:
        self.state, self._fleet, self._source, self._whole = state, fleet, source, whole
        self._pid, self._until_s = 0, 0.0
        self._signals = Signals(state.signals)
        self._ran: str | None = None
        self.kills = 0
        self.contents: Counter[str] = Counter()
        self.broken: Counter[str] = Counter()

    def step(self) -> None:
        self._speak()
        if self._pid == 0:
            self._start()
        elif time.monotonic() >= self._until_s:
            self.kill()
            self._judge()

    def kill(self) -> None:
        if self._pid:
            os.kill(self._pid, signal.SIGKILL)
            status = os.waitstatus_to_exitcode(os.waitpid(self._pid, 0)[1])
            self._pid, self.kills = 0, self.kills + 1
            if status != -signal.SIGKILL:
                self.broken["died_by_itself"] += 1

    def _start(self) -> None:
        if self._whole:
            command = [sys.executable, "-m", "agents.main", "run", "--state-dir", str(self.state.root)]
            self._pid = _detached(command)
            self._until_s = time.monotonic() + self._source.uniform(0.5, 6.0)
            return
        # Most of an update is over in half a second; the rest of it waits for the application's word.
        life_s = self._source.uniform(0.02, 0.6) if self._source.random() < 0.7 else self._source.uniform(0.02, 2.0)
        self._pid = os.fork()
        if self._pid == 0:
            with last_act():
                logging.disable()
                asyncio.run(_agent(self.state))
        self._until_s = time.monotonic() + life_s

    def _judge(self) -> None:
        try:
            runs = self._fleet.runs(self.state)
        except Broken as broken:
            self.broken[broken.kind] += 1
            return
        if runs is None and self._ran is not None:
            self.broken["no_model"] += 1
        if runs is not None and runs != self._ran:
            self.contents[runs] += 1
        self._ran = runs

    def _speak(self) -> None:
        """Be the application: it says how what is active runs, until it has said it of this very model."""
        active, said = self.state.read_active(), self._signals.health()
        if active is not None and (said is None or said.content_digest != active[1].content_digest):
            # One release in four does badly: going back must survive kills too.
            self._signals.put_health(active[1].content_digest, ok=active[1].release_counter % 4 != 0, reason="said so")


def _detached(command: list[str]) -> int:
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    process.returncode = 0  # reaped by whoever kills it, so the object need not
    return process.pid


async def _agent(state: StateDir) -> None:
    identity = Identity.load(state)
    assert identity is not None
    shared = Shared(new_http(tls=NO_TLS), Says(), InProcess())  # type: ignore[arg-type]  # the same, in this process
    await Agent(state, identity, shared).run()


def _fleet(folder: Path) -> tuple[Fleet, list[StateDir]]:
    fleet = Fleet()
    server = fleet.server
    contents = [files(float(number)) for number in range(1, _CONTENTS + 1)]
    publish, server.publish = server.publish, lambda: None  # type: ignore[method-assign]  # once, when all are there
    built = [fleet.knows(release(server, n, contents[n % _CONTENTS]), contents[n % _CONTENTS])
             for n in range(1, _RELEASES + 1)]  # fmt: skip
    server.publish = publish  # type: ignore[method-assign]  # the real one again
    server.orders = AlwaysNewer(server, [each.order for each in built])
    states = [fleet.enrolled(folder / f"d{number}", str(number)) for number in range(_DEVICES + _WHOLE)]
    for state in states:
        (state.private / "agent.json").write_text('{"download": {"disk_reserve_bytes": 0}}')
    return fleet, states


def random_kills(folder: Path, kills: int, whole: int) -> dict[str, Any]:
    """Kill agents until so many kills are done, `whole` of them of the whole program; return the proof's line."""
    source, begun = random.Random(7), time.monotonic()
    fleet, states = _fleet(folder)
    victims = [Victim(fleet, state, source, whole=False) for state in states[:_DEVICES]]
    programs = [Victim(fleet, state, source, whole=True) for state in states[_DEVICES:]] if whole else []
    try:
        with fleet.serving():
            _until(victims, kills - whole)
            _until(programs, whole)
            ends = _all_end_well(victims + programs)
    finally:
        for victim in victims + programs:
            victim.kill()
        fleet.close()
    bad = sum((victim.broken for victim in victims + programs), Counter[str]())
    done = sum(victim.kills for victim in victims + programs)
    figures = {
        "kills": done,
        "of_the_whole_program": sum(victim.kills for victim in programs),
        "switches_seen": sum(sum(victim.contents.values()) for victim in victims + programs),
        "seconds": round(time.monotonic() - begun, 1),
    } | {kind: bad.get(kind, 0) for kind in ("unbootable", "unverified", "mixed", "no_model", "died_by_itself")}
    ok = not bad and done >= kills and ends and figures["switches_seen"] >= done // 20
    return {"proof": "power: random kills", "ok": ok, "figures": figures, "bound": "0 of every failure"}


def _until(victims: list[Victim], kills: int) -> None:
    give_up_s = time.monotonic() + 60 + kills
    while sum(victim.kills for victim in victims) < kills:
        if time.monotonic() > give_up_s:
            raise RuntimeError("the kills take too long")
        for victim in victims:
            victim.step()
        time.sleep(0.005)
    for victim in victims:
        victim.kill()
        victim._judge()


def _all_end_well(victims: list[Victim], within_s: float = 60.0) -> bool:
    """Leave all agents alone until each has moved on to another content once more."""
    for victim in victims:
        victim._start()
        victim._until_s = float("inf")
    before = {id(victim): sum(victim.contents.values()) for victim in victims}
    end_s = time.monotonic() + within_s
    while time.monotonic() < end_s:
        for victim in victims:
            victim._speak()
            victim._judge()
        if all(sum(victim.contents.values()) > before[id(victim)] for victim in victims):
            return True
        time.sleep(0.02)
    return False
