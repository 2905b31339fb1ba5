"""Eight bad candidates of the reference workload, really trained and really driven: what stops each, and how soon.

Per seed a first model is trained and driven in the field, a second learns from its incidents, and eight more are made
with one thing wrong each. All drive the suites of workload.yaml. The gate judges them against the second model wave by
wave (as the flow does), scenario by scenario, and after everything. Missions at the three sites become canaries: drawn
with replacement, forty rollouts for each candidate and seed. `sequential.py` asks what stopping saves with drawn
outcomes, many times over; here outcomes are real and few.

`python -m tests.proofs.evidence_candidates [--seeds N]`; the table goes to docs/explanation/candidates.md.
"""

import argparse
import json
import multiprocessing
import statistics
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from control_plane.evaluation.domain import Verdict
from flows.workloads.kit import noise
from flows.workloads.kit.bundle import Policy
from flows.workloads.kit.types import Json
from flows.workloads.warehouse_amr.policy import to_onnx
from flows.workloads.warehouse_amr.rollout import outcomes
from flows.workloads.warehouse_amr.scenario import from_json
from tests.support.candidate_canary import HORIZON_KM, Missions, Run, missions, rollout
from tests.support.candidate_gate import (
    SUITES,
    Judged,
    Results,
    Suites,
    by_scenario,
    by_wave,
    driven,
    fixed,
    paired,
    suites_of,
)
from tests.support.candidates import EQUAL, SPEC, V1, WRONG, make, sites

Line = dict[str, Any]
SEEDS, PROCESSES = 5, 2
MORE_MISSIONS = 150  # beside those of the field suite, of which a canary is made too
ROLLOUTS, EQUAL_ROLLOUTS = 40, 200  # for each candidate and seed
SHARE, ALPHA, SURE = 0.40, 0.05, 0.9
CHAMPION = "v2"
BETTER = "v2 against v1"
DOCS = Path(__file__).parents[2] / "docs" / "explanation" / "candidates.md"


@dataclass(frozen=True)
class Shown:
    """All that one model did: in the suites, and in missions beyond them."""

    suites: Results
    more: list[Json]


@dataclass(frozen=True)
class Case:
    """One candidate of one seed, judged in every way."""

    seed: int
    name: str
    waves: Judged
    singles: Judged
    whole: Judged
    incidents: tuple[int, int]  # in all missions at the sites: the candidate's, and those of what it is compared with
    runs: tuple[Run, ...] = ()

    @property
    def halted(self) -> float:
        """The share of rollouts that were halted."""
        return sum(run.halted_km is not None for run in self.runs) / max(len(self.runs), 1)

    @property
    def stopped(self) -> bool:
        """A gate that is merely not convinced does not count: it must have said that the candidate fails."""
        return self.waves.verdict is Verdict.FAIL or self.halted >= SURE

    def way(self, name: str) -> Judged:
        return {"waves": self.waves, "singles": self.singles}[name]

    @property
    def ways(self) -> tuple[Judged, ...]:
        return self.waves, self.singles, self.whole

    @property
    def passes(self) -> bool:
        return any(way.verdict is Verdict.PASS for way in self.ways)

    @property
    def agrees(self) -> bool:
        """Whether every way of asking lets the same through; a way that says less for certain is no disagreement."""
        return len({way.verdict is Verdict.PASS for way in self.ways}) == 1


# --- one seed, in pieces for the pool -------------------------------------------------------------------------------


@dataclass(frozen=True)
class World:
    """One seed's models as ONNX, and what they are to drive."""

    seed: int
    models: dict[str, bytes]
    suites: Suites


def school(seed: int) -> World:
    made = make(seed)
    models = {name: to_onnx(network) for name, network in ({CHAMPION: made.champion} | made.models).items()}
    return World(seed, models, suites_of(made.held_out, seed))


def show(model: bytes, world_suites: Suites, seed: int) -> Shown:
    policy = Policy(model)
    more = outcomes(sites(MORE_MISSIONS, "canary", seed), policy)
    return Shown(driven(policy, world_suites), [outcome.metrics() for outcome in more])


def judge(seed: int, name: str, suites: Suites, candidate: Shown, champion: Shown) -> Case:
    evidence = paired(suites, candidate.suites, champion.suites)
    ways = by_wave(evidence), by_scenario(evidence), fixed(evidence)
    incidents = _incidents(candidate), _incidents(champion)
    if name == BETTER:
        return Case(seed, name, *ways, incidents)
    return Case(seed, name, *ways, incidents, _rollouts(name, seed, suites, (candidate, champion), ROLLOUTS))


def _incidents(shown: Shown) -> int:
    return sum(int(row["incident"]) for row in (*shown.suites["field"], *shown.more))


def judge_equal(seed: int, suites: Suites, champion: Shown) -> tuple[Run, ...]:
    """Canaries and controls of one and the same model: whatever is halted is halted wrongly."""
    return _rollouts(CHAMPION, seed, suites, (champion, champion), EQUAL_ROLLOUTS)


def _rollouts(name: str, seed: int, suites: Suites, arms: tuple[Shown, Shown], count: int) -> tuple[Run, ...]:
    rng = noise.stream("rollouts", name, seed)
    canary, control = (_missions(suites, shown, seed) for shown in arms)
    return tuple(rollout(canary, control, rng) for _ in range(count))


def _missions(suites: Suites, shown: Shown, seed: int) -> Missions:
    scenarios = [from_json(entry.params, entry.id) for entry in suites["field"]]
    more = sites(MORE_MISSIONS, "canary", seed)
    return missions([*scenarios, *more], [*shown.suites["field"], *shown.more])


# --- all seeds ------------------------------------------------------------------------------------------------------


def measure(seeds: Sequence[int]) -> tuple[list[Case], list[Run]]:
    """Train, drive and judge with two processes; gives every case, and the rollouts of equal models."""
    begun = time.monotonic()
    with ProcessPoolExecutor(PROCESSES, multiprocessing.get_context("spawn")) as pool:
        worlds: dict[Future[World], int] = {pool.submit(school, seed): seed for seed in seeds}
        shows: dict[Future[Shown], tuple[World, str]] = {}
        for ready in as_completed(worlds):
            world = ready.result()
            _say(begun, f"seed {world.seed}: {len(world.models)} models trained")
            shows |= {
                pool.submit(show, model, world.suites, world.seed): (world, n) for n, model in world.models.items()
            }
        seen: dict[int, dict[str, Shown]] = {}
        for done in as_completed(shows):
            world, name = shows[done]
            seen.setdefault(world.seed, {})[name] = done.result()
            _say(begun, f"seed {world.seed}: {name} has driven")
        known = {world.seed: world for world, _ in shows.values()}
        return _judged(pool, known, seen)


def _judged(
    pool: ProcessPoolExecutor, worlds: dict[int, World], seen: dict[int, dict[str, Shown]]
) -> tuple[list[Case], list[Run]]:
    cases, equals = [], []
    for seed, shown in sorted(seen.items()):
        suites, champion = worlds[seed].suites, shown[CHAMPION]
        cases.append(pool.submit(judge, seed, BETTER, suites, champion, shown[V1]))
        cases += [pool.submit(judge, seed, name, suites, shown[name], champion) for name in (*WRONG, EQUAL)]
        equals.append(pool.submit(judge_equal, seed, suites, champion))
    return [case.result() for case in cases], [run for equal in equals for run in equal.result()]


def _say(begun: float, what: str) -> None:
    print(f"{time.monotonic() - begun:6.0f} s  {what}", file=sys.stderr, flush=True)


def run(seeds: int = SEEDS) -> Iterator[Line]:
    cases, equals = measure(range(1, seeds + 1))
    table = _table(cases)
    print("\n".join(table), file=sys.stderr, flush=True)
    found = list(lines(cases, equals))
    if seeds >= SEEDS:
        DOCS.write_text(page(table, found, seeds))
    yield from found


# --- what is claimed ------------------------------------------------------------------------------------------------


def lines(cases: Sequence[Case], equals: Sequence[Run]) -> Iterator[Line]:
    for name in WRONG:
        yield _stopped(name, _of(cases, name))
    through = [f"{case.name} (seed {case.seed})" for case in cases if case.name in WRONG and case.passes]
    yield _line("none of the eight passes the gate", "0 in any way of asking", not through, passed=len(through))
    better, equal = _of(cases, BETTER), _of(cases, EQUAL)
    passed = sum(case.waves.verdict is Verdict.PASS for case in better)
    yield _line(BETTER + " passes the gate", "in every seed", passed == len(better), passed=passed, seeds=len(better))
    harmful = sum(case.waves.guard_failed or case.whole.guard_failed for case in equal)
    said = Counter(str(case.waves.verdict) for case in equal)
    yield _line("an equal model is never called harmful", "0 failed guards", harmful == 0, guards=harmful, **said)
    halts = sum(run.halted_km is not None for run in equals)
    false = round(halts / len(equals), 4)
    bound = f"at most {ALPHA:.0%} halted within {HORIZON_KM:g} canary-km"
    yield _line("canaries of an equal model", bound, false <= ALPHA, false_halts=false, rollouts=len(equals))
    yield from _shares(cases)
    differ = [f"{case.name} (seed {case.seed})" for case in cases if not case.agrees]
    words = "stopping early lets through what the whole suites let through"
    yield _line(words, "equal in every case", not differ, cases=len(cases), differ=len(differ), which=differ)


def _stopped(name: str, found: Sequence[Case]) -> Line:
    stopped = sum(case.stopped for case in found)
    figures: Line = {
        "stopped": stopped,
        "seeds": len(found),
        "times_the_incidents": _times(found),
        "gate_failed": sum(case.waves.verdict is Verdict.FAIL for case in found),
        "gate_failed_whole": sum(case.whole.verdict is Verdict.FAIL for case in found),
        "gate_by": dict(Counter(case.waves.by[0] for case in found if case.waves.by)),
        "scenarios_until_failed": _median([case.singles.caught for case in found]),
        "simulations_share": round(_share(found, "waves"), 3),
        "canaries_halted": round(statistics.mean(case.halted for case in found), 3),
        "least_halted": min(case.halted for case in found),
        "canary_km_median": _km(found, 50),
        "canary_km_p90": _km(found, 90),
    }
    bound = f"every seed: the gate fails it, or {SURE:.0%} of canaries are halted within {HORIZON_KM:g} km"
    return _line(f"{name} is stopped", bound, stopped == len(found), **figures)


def _shares(cases: Sequence[Case]) -> Iterator[Line]:
    """Both sides count, in both ways of asking: candidate and champion drive every scenario that is asked for."""
    judged = [case for case in cases if case.name != EQUAL]
    equal = _of(cases, EQUAL)
    for words, way in (("asked after every scenario", "singles"), ("asked after every wave", "waves")):
        share = round(_share(judged, way), 3)
        suites = {name: round(_suite_share(judged, way, name), 3) for name in SUITES}
        used = sum(2 * case.way(way).total for case in judged)
        more = {"simulations": used, "an_equal_model": round(_share(equal, way), 3)}
        yield _line(
            f"simulations of the gate, {words}",
            f"at most {SHARE:.0%} of what the fixed-size gate needs",
            share <= SHARE,
            share=share,
            **suites,
            **more,
        )


def _share(cases: Sequence[Case], way: str) -> float:
    return sum(case.way(way).total for case in cases) / sum(case.whole.total for case in cases)


def _suite_share(cases: Sequence[Case], way: str, suite: str) -> float:
    return sum(case.way(way).used.get(suite, 0) for case in cases) / sum(case.whole.used[suite] for case in cases)


def _of(cases: Sequence[Case], name: str) -> list[Case]:
    return [case for case in cases if case.name == name]


def _line(what: str, bound: str, ok: bool, **figures: Any) -> Line:
    return {"proof": f"candidates: {what}", "ok": bool(ok), "bound": bound, "figures": figures}


def _times(found: Sequence[Case]) -> float:
    """Say how bad they are: incidents at the sites, as a multiple of what they are compared with."""
    ours, theirs = (sum(case.incidents[side] for case in found) for side in (0, 1))
    return round(ours / max(theirs, 1), 2)


def _median(values: Sequence[int | None]) -> float | None:
    known = [value for value in values if value is not None]
    return statistics.median(known) if known else None


def _km(found: Sequence[Case], percent: int) -> float | None:
    """Give a percentile over all rollouts; one that was never halted counts as endless, and None says so."""
    km = [np.inf if run.halted_km is None else run.halted_km for case in found for run in case.runs]
    value = float(np.percentile(km, percent, method="higher"))
    return round(value, 1) if np.isfinite(value) else None


# --- the document ---------------------------------------------------------------------------------------------------


COLUMNS = (
    "candidate",
    "incidents",
    "gate",
    "by",
    "scenarios",
    "simulations",
    "canaries halted",
    "km, half",
    "km, 9 of 10",
)


def _table(cases: Sequence[Case]) -> list[str]:
    rows = [_row(name, _of(cases, name)) for name in (*WRONG, BETTER, EQUAL)]
    return ["| " + " | ".join(cells) + " |" for cells in (COLUMNS, ["---"] * len(COLUMNS), *rows)]


def _row(name: str, found: Sequence[Case]) -> list[str]:
    verdicts = _counted([str(case.waves.verdict) for case in found])
    by = _counted([case.waves.by[0] for case in found if case.waves.by])
    until = _median([case.singles.caught for case in found])
    scenarios = "-" if until is None else f"{until:g}"
    gate = [name, f"{_times(found):g} times", verdicts, by or "-", scenarios, f"{_share(found, 'waves'):.0%}"]
    if not found[0].runs:
        return [*gate, "-", "-", "-"]
    far = [_km(found, percent) for percent in (50, 90)]
    over = [f"over {HORIZON_KM:g}" if km is None else f"{km:g}" for km in far]
    return [*gate, f"{statistics.mean(case.halted for case in found):.0%}", *over]


def _counted(words: Sequence[str]) -> str:
    return ", ".join(f"{word} {count}" for word, count in Counter(words).most_common())


def page(table: Sequence[str], found: Sequence[Line], seeds: int) -> str:
    size = sum(int(SPEC["suites"][name]["scenarios"]) for name in SUITES)
    text = [
        "# Candidates that must not get through",
        "",
        "Made by `make prove ARGS=evidence`, from fixed seeds. Eight candidates of the reference workload have one",
        f"thing wrong each; with {seeds} seeds all were trained, simulated and judged against the second model, v2.",
        "",
        "- *Incidents*: how bad each is at the sites, as a multiple of v2's (of v1's for v2) in the same missions.",
        "- *Gate* and *by*: how many seeds, and the first part that failed. Whoever does not pass goes nowhere;",
        "  *inconclusive* says that no harm was shown.",
        f"- *Scenarios*: after how many of {size}, driven by both, the gate could say fail (median, asked after each).",
        "- *Simulations*: the share of the fixed-size gate's that the flow uses, asking wave by wave.",
        f"- *Canaries halted*: within {HORIZON_KM:g} canary-km, and after how many kilometres half and nine in ten of",
        "  the rollouts are. A quarter of every site's robots are canaries; rollouts are drawn with replacement from",
        "  missions that were really driven.",
        "",
        *table,
        "",
        "## What holds",
        "",
        "| claim | bound | holds | figures |",
        "|---|---|---|---|",
        *(_claim(line) for line in found if not (line["ok"] and line["proof"].endswith("is stopped"))),
    ]
    return "\n".join(text) + "\n"


def _claim(line: Line) -> str:
    figures = ", ".join(f"{name.replace('_', ' ')} {value}" for name, value in line["figures"].items())
    what = line["proof"].removeprefix("candidates: ")
    return f"| {what} | {line['bound']} | {'yes' if line['ok'] else '**no**'} | {figures} |"


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="What stops eight bad candidates, and how soon.")
    parser.add_argument("--seeds", type=int, default=SEEDS)
    started = time.monotonic()
    for each in run(parser.parse_args().seeds):
        print(json.dumps(each | {"seconds": round(time.monotonic() - started, 1)}), flush=True)
