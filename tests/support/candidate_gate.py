"""The gate of the reference workload over real simulations: scenario by scenario, wave by wave, and all at once."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

from control_plane.evaluation.domain import (
    CaseResult,
    CaseStatus,
    GateDecision,
    PairedSuite,
    PlannedScenario,
    Side,
    Verdict,
    decide_gate,
    parse_policy,
    stopping,
)
from flows.steps.shards import waves_of
from flows.workloads.kit import noise
from flows.workloads.kit.bundle import Policy
from flows.workloads.kit.suites import Entry
from flows.workloads.kit.types import Json
from flows.workloads.warehouse_amr.rollout import outcomes
from flows.workloads.warehouse_amr.scenario import Scenario, from_json
from flows.workloads.warehouse_amr.scenarios import suite_scenarios
from flows.workloads.warehouse_amr.world import SIMULATOR
from tests.support.candidates import SPEC
from tests.unit.evidence.worlds import beginning

RULES = parse_policy(SPEC["gate"])
SUITES = tuple(name for name, plan in SPEC["suites"].items() if plan["kind"] != "reproduction")
WAVE = int(SPEC["shard_scenarios"])
Suites = dict[str, list[Entry]]
Results = dict[str, list[Json]]


def suites_of(held_out: Sequence[tuple[str, Scenario]], seed: int) -> Suites:
    """Draw the workload's suites afresh for one seed."""
    made = {}
    for name in SUITES:
        plan = SPEC["suites"][name]
        own = noise.seed_of("suites", int(plan["seed"]), seed)
        made[name] = suite_scenarios(plan["kind"], int(plan["scenarios"]), own, held_out)
    return made


def driven(policy: Policy, suites: Suites) -> Results:
    """Drive every scenario of all suites."""
    found = {}
    for name, entries in suites.items():
        scenarios = [from_json(entry.params, entry.id) for entry in entries]
        found[name] = [outcome.metrics() for outcome in outcomes(scenarios, policy)]
    return found


def paired(suites: Suites, candidate: Results, champion: Results) -> list[PairedSuite]:
    return [
        PairedSuite(
            name,
            SPEC["suites"][name]["kind"],
            tuple(PlannedScenario(entry.id, entry.cluster, tuple(entry.tags)) for entry in entries),
            _side("candidate", entries, candidate[name]),
            _side("champion", entries, champion[name]),
        )
        for name, entries in suites.items()
    ]


def _side(model: str, entries: Sequence[Entry], metrics: Sequence[Json]) -> Side:
    results = tuple(
        CaseResult(entry.id, entry.cluster, CaseStatus.OK, {name: float(value) for name, value in row.items()})
        for entry, row in zip(entries, metrics, strict=True)
    )
    return Side(model, SIMULATOR, "suite", results)


@dataclass(frozen=True)
class Judged:
    """What one way of asking came to. `used` scenarios were driven by both sides; `caught` of them sufficed to fail."""

    verdict: Verdict
    used: dict[str, int]
    caught: int | None
    by: tuple[str, ...]
    guard_failed: bool

    @property
    def total(self) -> int:
        return sum(self.used.values())


def fixed(evidence: Sequence[PairedSuite]) -> Judged:
    """Drive everything, then ask once."""
    said = decide_gate(RULES, evidence)
    used = {suite.suite: len(suite.scenarios) for suite in evidence}
    return Judged(said.verdict, used, None, _failing(said), _guard(said))


def by_wave(evidence: Sequence[PairedSuite]) -> Judged:
    """Ask after every wave, as the flow does with one worker for each side."""
    return _sequential(evidence, _waves)


def by_scenario(evidence: Sequence[PairedSuite]) -> Judged:
    """Ask after every scenario: what the rules could save if simulations came one by one."""
    return _sequential(evidence, lambda size: list(range(size + 1)))


def _waves(size: int) -> list[int]:
    looks = [max(stop for _, stop in wave) for wave in waves_of(list(range(size)), WAVE, 1)]
    return [0, *(min(look, size) for look in looks)]


def _sequential(evidence: Sequence[PairedSuite], looks_of: Callable[[int], list[int]]) -> Judged:
    kept: list[PairedSuite] = []
    for suite in evidence:
        looks = looks_of(len(suite.scenarios))
        seen = looks[_first(looks, partial(_enough, kept, suite))]
        kept.append(beginning(suite, seen))
        if stopping(RULES, kept)[-1].final:
            break
    said = decide_gate(RULES, kept)
    used = {suite.suite: len(suite.candidate.results) for suite in kept}
    caught = _caught(kept, looks_of) if said.verdict is Verdict.FAIL else None
    return Judged(said.verdict, used, caught, _failing(said), _guard(said))


def _first(looks: Sequence[int], holds: Callable[[int], bool]) -> int:
    """Find the first look from which on it holds (the last look if never): what is decided stays decided."""
    low, high = 0, len(looks) - 1
    while low < high:
        middle = (low + high) // 2
        if holds(looks[middle]):
            high = middle
        else:
            low = middle + 1
    return low


def _caught(kept: Sequence[PairedSuite], looks_of: Callable[[int], list[int]]) -> int:
    """Count the scenarios after which the gate could say that it fails."""
    before, known = 0, list[PairedSuite]()
    for suite in kept:
        seen = len(suite.candidate.results)
        looks = [look for look in looks_of(len(suite.scenarios)) if look <= seen]
        if _fails(known, suite, seen):
            return before + looks[_first(looks, partial(_fails, known, suite))]
        known.append(suite)
        before += seen
    return before


def _enough(kept: Sequence[PairedSuite], suite: PairedSuite, seen: int) -> bool:
    return stopping(RULES, [*kept, beginning(suite, seen)])[-1].enough


def _fails(kept: Sequence[PairedSuite], suite: PairedSuite, seen: int) -> bool:
    return decide_gate(RULES, [*kept, beginning(suite, seen)]).verdict is Verdict.FAIL


def _failing(said: GateDecision) -> tuple[str, ...]:
    return tuple(f"{part.suite} {part.rule}" for part in said.parts if part.verdict is Verdict.FAIL)


def _guard(said: GateDecision) -> bool:
    """Say whether something other than a claim has failed."""
    return any(part.verdict is Verdict.FAIL and part.rule != "improves" for part in said.parts)
