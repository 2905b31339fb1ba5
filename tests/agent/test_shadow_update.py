"""An update that goes through the shadow: the real loop, journal and slots, a real application and real candidates."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from agents.inference import Demands, DeviceShadow, QualifierPool, Surroundings
from agents.link import DeviceClient
from agents.protocol.v1 import DeploymentPhase as P
from agents.sdk import StateDir
from agents.update import Policy, Slot, State, Target, UpdateLoop
from agents.update.machine import Action, Decision, Seen, decide, shadow_s
from agents.update.trust import Order
from tests.agent.bundles import Built, files, release
from tests.agent.server import FleetServer
from tests.agent.test_shadow import robot, rules
from tests.agent.test_update_crash import Bench

POLICY = Policy(shadow_s=2.5)


class ShadowBench(Bench):
    def __init__(self, state: StateDir, client: DeviceClient, server: FleetServer, pool: QualifierPool) -> None:
        super().__init__(state, client, server)
        self.pool = pool

    def agent(self, policy: Policy = POLICY, first_word_s: float = 3.0) -> UpdateLoop:
        loop = self.process(policy=policy)
        effects = loop._effects
        effects._qualifier = self.pool  # type: ignore[attr-defined] # what the protocol does not show
        around = Surroundings(Demands(wall_s=60))
        effects._shadow = DeviceShadow(self.state.signals, around, first_word_s)  # type: ignore[attr-defined] # as above
        return loop

    async def commits(self, loop: UpdateLoop, built: Built) -> None:
        await self.drive(loop, built, lambda: loop.state.phase is P.TRIAL)
        self.signals.put_health(built.content_digest, ok=True, reason="")
        await self.drive(loop, built, lambda: loop.state.phase is P.COMMITTED)


@pytest.fixture
async def bench(state: StateDir, client: DeviceClient, server: FleetServer) -> AsyncIterator[ShadowBench]:
    pool = QualifierPool(idle_s=0.2)
    yield ShadowBench(state, client, server, pool)
    await pool.close()


async def test_a_good_candidate_is_let_on_and_a_bad_one_is_not(
    bench: ShadowBench, server: FleetServer, tmp_path: Path
) -> None:
    loop = bench.agent()
    first = release(server, 1, files(2.0, contract=rules()))
    await bench.commits(loop, first)  # nothing ran here before: there is nothing to be compared with
    assert "shadow_decisions" not in loop.state.qualification
    with robot(tmp_path, digest=first.content_digest):
        second = release(server, 2, files(2.001, contract=rules()))
        await bench.drive(loop, second, lambda: loop.state.phase is P.SHADOW)
        await bench.drive(loop, second, lambda: loop.state.phase is P.TRIAL)
        assert loop.state.qualification["shadow_decisions"] >= 30
        assert loop.state.qualification["latency_p99_ms"] > 0
        bench.signals.put_health(second.content_digest, ok=True, reason="")
        await bench.drive(loop, second, lambda: loop.state.phase is P.COMMITTED)
    with robot(tmp_path, digest=second.content_digest):
        third = release(server, 3, files(2.5, contract=rules(events=[])))
        await bench.drive(loop, third, lambda: loop.state.phase is P.REFUSED)
    report = loop.report()
    assert report is not None
    assert (report.reason, report.qualification["shadow_missed"]) == ("shadow_disagrees", 0)
    running = loop.running()
    assert running is not None
    assert running.content_digest == second.content_digest
    assert (third.content_digest, 3) in loop.state.known_bad
    await loop.close()


async def test_without_evidence_it_waits_through_restarts_and_says_why(
    bench: ShadowBench, server: FleetServer, tmp_path: Path
) -> None:
    loop = bench.agent()
    first = release(server, 1, files(2.0, contract=rules()))
    await bench.commits(loop, first)
    second = release(server, 2, files(2.001, contract=rules()))
    loop._effects._shadow._first_word_s = 0.5  # type: ignore[attr-defined] # no application is there to speak
    await bench.drive(loop, second, lambda: loop.state.reason == "shadow_no_samples")
    assert loop.state.phase is P.SHADOW
    running = loop.running()
    assert running is not None
    assert running.content_digest == first.content_digest
    await loop.close()
    again = bench.agent()
    assert again.state.phase is P.SHADOW
    with robot(tmp_path, digest=first.content_digest):
        await bench.drive(again, second, lambda: again.state.phase is P.TRIAL)
    assert again.state.qualification["shadow_decisions"] >= 30
    await again.close()


async def test_withdrawing_the_order_ends_the_shadow(bench: ShadowBench, server: FleetServer, tmp_path: Path) -> None:
    loop = bench.agent(Policy(shadow_s=60))
    first = release(server, 1, files(2.0, contract=rules()))
    await bench.commits(loop, first)
    with robot(tmp_path, digest=first.content_digest):
        second = release(server, 2, files(2.001, contract=rules()))
        await bench.drive(loop, second, lambda: loop.state.phase is P.SHADOW)
        await loop.advance()
        wish = bench.signals._directory / "shadow.json"
        for _ in range(200):
            await asyncio.sleep(0 if wish.exists() else 0.05)
        assert wish.exists()
        loop.ordered(Order(None, 3600.0), bench.time_s)
        await loop.advance()
    assert loop.state.phase is P.IDLE
    assert not wish.exists()
    await loop.close()


# The rows of the table.

ACTIVE, CANDIDATE = Slot("a", "r" * 64, "c" * 64, 1), Slot("b", "s" * 64, "d" * 64, 2)
TARGET = Target("s" * 64, 100, 2)


def asked(state: State, policy: Policy = POLICY, **seen: object) -> Decision:
    world = {"order": TARGET, "order_known": True, "order_fresh": True, "link": ACTIVE.link, "staged": True, **seen}
    return decide(state, Seen(**world), policy)  # type: ignore[arg-type] # names and types are the tests' own


def at(phase: P, **more: object) -> State:
    said = {"target": TARGET, "active": ACTIVE, "candidate": CANDIDATE, **more}
    return State(phase=phase, **said)  # type: ignore[arg-type] # names and types are the tests' own


def test_the_shadow_comes_after_qualifying_only_where_it_is_asked_for() -> None:
    qualified = at(P.QUALIFYING)
    assert asked(qualified, qualified=True).state.phase is P.SHADOW
    assert asked(qualified, qualified=True).actions == (Action.SHADOW,)
    assert asked(qualified, Policy(), qualified=True).state.phase is P.ARMED
    ordered = Target(**{**vars(TARGET), "shadow_s": 60.0})
    assert asked(qualified, Policy(), qualified=True, order=ordered).state.phase is P.SHADOW
    first = at(P.QUALIFYING, active=None)
    assert asked(first, qualified=True, link=None).state.phase is P.ARMED


def test_the_longer_shadow_counts() -> None:
    ordered = Target(**{**vars(TARGET), "shadow_s": 60.0})
    assert shadow_s(TARGET, Seen(order=ordered), Policy(shadow_s=10)) == 60
    assert shadow_s(ordered, Seen(order=TARGET), Policy(shadow_s=10)) == 10
    assert shadow_s(ordered, Seen(order=None), Policy()) == 60


def test_a_shadow_never_switches() -> None:
    for seen in ({}, {"shadow_passed": True}, {"shadow_passed": False, "shadow_reason": "shadow_disagrees"}):
        assert Action.SWITCH not in asked(at(P.SHADOW), **seen).actions
    assert asked(at(P.SHADOW), shadow_passed=True).state.phase is P.ARMED


def test_a_blocked_candidate_is_remembered() -> None:
    state = asked(at(P.SHADOW), shadow_passed=False, shadow_reason="shadow_misses", shadow={"shadow_missed": 3.0}).state
    assert (state.phase, state.reason, state.candidate) == (P.REFUSED, "shadow_misses", None)
    assert (CANDIDATE.content_digest, CANDIDATE.counter) in state.known_bad
    assert state.qualification["shadow_missed"] == 3.0


def test_what_qualifying_is_at_is_told() -> None:
    state = asked(at(P.QUALIFYING), doing=("building_engine", "40% of the time allowed")).state
    assert (state.phase, state.reason, state.detail) == (P.QUALIFYING, "building_engine", "40% of the time allowed")
    assert asked(at(P.QUALIFYING), doing=("soak", ""), trouble="disk_error").state.reason == "disk_error"
    assert asked(at(P.QUALIFYING, reason="soak"), qualified=True).state.reason == "shadow_runs"


def test_a_restart_is_no_verdict_and_trouble_is_told() -> None:
    assert asked(at(P.SHADOW), just_started=True).actions == (Action.SHADOW,)
    assert asked(at(P.SHADOW), trouble="shadow_no_samples").state.reason == "shadow_no_samples"


def test_what_changes_outside_ends_a_shadow() -> None:
    assert asked(at(P.SHADOW), staged=False).state.phase is P.VERIFIED
    assert asked(at(P.SHADOW), Policy()).state.phase is P.ARMED
    assert asked(at(P.SHADOW), revoked=frozenset({CANDIDATE.content_digest})).state.phase is P.REFUSED
    assert asked(at(P.SHADOW), damaged=frozenset({ACTIVE.link})).state.phase is P.IDLE
