"""Owns where scenarios come from (sites, nominal traffic, variations of an incident) and the command `scenarios`."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from flows.workloads.kit import noise
from flows.workloads.kit.job import Job, run
from flows.workloads.kit.recordings import read_all
from flows.workloads.kit.suites import Entry, Suite, metric_definition
from flows.workloads.kit.types import Rng, WorkloadError
from flows.workloads.warehouse_amr import judge, recordings
from flows.workloads.warehouse_amr.scenario import OPENINGS, Mover, Scenario, to_json
from flows.workloads.warehouse_amr.world import MOVERS, SIMULATOR

Range = tuple[float, float]
WET: Range = (0.11, 0.18)
WORKLOAD = "warehouse_amr"
FROM_INCIDENTS = ("regression", "reproduction")


@dataclass(frozen=True)
class Site:
    """What a site's missions are drawn from."""

    name: str
    aisle_width_m: Range = (2.6, 3.6)
    opening_width_m: Range = (1.8, 3.4)
    pallets: int = 3
    friction: Range = (0.6, 0.9)
    wet_share: float = 0.0
    step_out_share: float = 0.0  # at each corner
    forklift_share: float = 0.0  # of those who step out


NOMINAL = Site("nominal")
SITES = {
    site.name: site
    for site in (
        Site("hall", (2.8, 3.6), (2.0, 3.4), pallets=2, step_out_share=0.03),
        Site("annex", (2.6, 3.2), (2.0, 3.0), friction=(0.5, 0.8), wet_share=0.05, step_out_share=0.08),
        Site(
            "cold_store",
            (2.6, 3.4),
            (2.2, 3.4),
            friction=(0.5, 0.8),
            wet_share=0.6,
            step_out_share=0.20,
            forklift_share=0.3,
        ),
    )
}


def draw(site: Site, seed: int) -> Scenario:
    """Draw one mission. The same site and seed give the same mission."""
    rng = noise.stream(WORKLOAD, "scenario", site.name, seed)
    width = _within(rng, site.aisle_width_m)
    centres = tuple(round(x + float(rng.uniform(-1, 1)), 3) for x in (6.0, 12.0, 18.0))
    widths = tuple(_within(rng, site.opening_width_m) for _ in range(OPENINGS))
    turn = int(rng.integers(2, 4)) if rng.random() < 0.35 else 0
    ways = _Ways(width, centres, widths, turn)
    movers = [_ordinary(ways, rng) for _ in range(int(rng.integers(0, 3)))]
    movers += _step_outs(site, ways, rng)
    return Scenario(
        site=site.name,
        seed=seed,
        aisle_width_m=width,
        opening_x_m=centres,
        opening_width_m=widths,
        pallets=_pallets(site, ways, rng),
        turn_opening=turn,
        turn_side=_side(rng),
        friction=_within(rng, WET if rng.random() < site.wet_share else site.friction),
        payload_kg=_within(rng, (0.0, 60.0)),
        range_noise_m=_within(rng, (0.005, 0.03)),
        dropout=_within(rng, (0.0, 0.03)),
        start_y_m=0.0,
        movers=tuple(movers[:MOVERS]),
    )


@dataclass(frozen=True)
class _Ways:
    width_m: float
    centres_m: tuple[float, ...]
    widths_m: tuple[float, ...]
    turn: int

    def racks(self) -> list[tuple[float, float]]:
        """The stretches of aisle between openings."""
        edges = [-1.0]
        for centre, width in zip(self.centres_m, self.widths_m, strict=True):
            edges += [centre - width / 2, centre + width / 2]
        edges.append(24.0)
        return list(zip(edges[::2], edges[1::2], strict=True))


def _within(rng: Rng, bounds: Range) -> float:
    return round(float(rng.uniform(*bounds)), 4)


def _side(rng: Rng) -> int:
    return int(rng.choice([-1, 1]))


def _pallets(site: Site, ways: _Ways, rng: Rng) -> tuple[tuple[float, float, float, float], ...]:
    pallets = []
    for _ in range(int(rng.integers(0, site.pallets + 1))):
        start, stop = ways.racks()[int(rng.integers(0, 4))]
        if stop - start < 2.2:
            continue
        x, half_width = _within(rng, (start + 0.9, stop - 0.9)), _within(rng, (0.15, 0.4))
        y = round(_side(rng) * (ways.width_m / 2 - half_width), 4)
        if x >= 2.5:
            pallets.append((x, y, _within(rng, (0.3, 0.6)), half_width))
    return tuple(pallets)


def _ordinary(ways: _Ways, rng: Rng) -> Mover:
    """Traffic that the first model has seen: people along the aisle, early crossings, people at a rack."""
    kind, side = int(rng.integers(0, 3)), _side(rng)
    if kind == 0:
        oncoming = rng.random() < 0.6
        x = _within(rng, (10, 22) if oncoming else (4, 8))
        pace = (-1.3, -0.6) if oncoming else (0.4, 1.0)
        y = round(side * _within(rng, (0.8, ways.width_m / 2 - 0.35)), 4)
        return Mover("along", x, y, vx_mps=_within(rng, pace), walk_s=60.0)
    if kind == 1:
        centre, speed = ways.centres_m[int(rng.integers(0, OPENINGS))], _within(rng, (0.6, 1.1))
        return Mover(
            "crossing",
            round(centre + _within(rng, (-0.3, 0.3)), 4),
            round(side * (ways.width_m / 2 + _within(rng, (0.0, 0.4))), 4),
            vx_mps=_within(rng, (-0.1, 0.1)),
            vy_mps=-side * speed,
            trigger_m=round(max(0.0, centre - _within(rng, (6.5, 9.5))), 4),
            walk_s=round((ways.width_m + 9) / speed, 3),
        )
    y = round(side * (ways.width_m / 2 - _within(rng, (0.25, 0.45))), 4)
    return Mover("standing", _within(rng, (4, 20)), y)


def _step_outs(site: Site, ways: _Ways, rng: Rng) -> list[Mover]:
    """What only the field has: someone at a corner who steps out late, but visibly and avoidably."""
    corners = range(ways.turn or OPENINGS)
    return [_step_out(site, ways, corner, rng) for corner in corners if rng.random() < site.step_out_share]


def _step_out(site: Site, ways: _Ways, corner: int, rng: Rng) -> Mover:
    side, speed, inside = _side(rng), _within(rng, (1.0, 1.8)), _within(rng, (0.2, 0.8))
    reach = ways.width_m / 2 + inside
    x = round(ways.centres_m[corner] + _within(rng, (-0.25, 0.25)) * ways.widths_m[corner], 4)
    lead_m = max(reach / speed * _within(rng, (1.0, 1.4)), 1.9) + _within(rng, (0.0, 0.8))
    forklift, pauses = rng.random() < site.forklift_share, rng.random() < 0.2
    return Mover(
        "forklift" if forklift else "step_out",
        x,
        round(side * reach, 4),
        vx_mps=_within(rng, (-0.2, 0.2)),
        vy_mps=-side * speed,
        radius_m=0.55 if forklift else 0.3,
        trigger_m=round(max(0.5, x - lead_m), 4),
        walk_s=round((ways.width_m + inside + 9) / speed, 3),
        pause_at_s=round((reach + _within(rng, (-0.5, 0.3))) / speed, 3),
        pause_s=_within(rng, (2.0, 4.0)) if pauses else 0.0,
    )


def vary(scenario: Scenario, seed: int) -> Scenario:
    """Give the same situation a little differently: speeds, timing, start, floor, and its noise."""
    rng = noise.stream(WORKLOAD, "vary", seed)
    return replace(
        scenario,
        seed=seed,
        friction=round(scenario.friction * float(rng.uniform(0.9, 1.1)), 4),
        start_y_m=_within(rng, (-0.2, 0.2)),
        movers=tuple(_vary_mover(mover, rng) for mover in scenario.movers),
    )


def _vary_mover(mover: Mover, rng: Rng) -> Mover:
    pace, shift = float(rng.uniform(0.85, 1.15)), float(rng.uniform(-0.5, 0.5))
    return replace(
        mover,
        vx_mps=round(mover.vx_mps * pace, 4),
        vy_mps=round(mover.vy_mps * pace, 4),
        trigger_m=round(max(0.0, mover.trigger_m + shift), 4),
    )


def suite_scenarios(
    kind: str, count: int, seed: int, incidents: Sequence[tuple[str, Scenario]] = (), repeat: int = 1
) -> list[Entry]:
    """The scenarios of a suite, each with its cluster. `repeat`: with how many seeds an incident is driven again."""
    if kind in FROM_INCIDENTS and not incidents:
        raise WorkloadError(f"a {kind} suite needs recordings of incidents, and none was given")
    if kind == "regression":
        return _varied(count, seed, incidents)
    if kind == "reproduction":
        return _again(count, seed, incidents, repeat)
    if kind not in ("nominal", "field", "holdout"):
        raise WorkloadError(f"kind of suite {kind!r} is unknown")
    sites = [NOMINAL] if kind == "nominal" else list(SITES.values())
    drawn = [draw(sites[i % len(sites)], noise.seed_of(WORKLOAD, kind, seed, i)) for i in range(count)]
    return [_entry(f"{kind}-{i:05d}", f"{kind}-{i:05d}", scenario) for i, scenario in enumerate(drawn)]


def _varied(count: int, seed: int, incidents: Sequence[tuple[str, Scenario]]) -> list[Entry]:
    """Incidents in varied form, as many of each as it takes; those of one incident stand together.

    A cluster speaks once it is complete, so that a suite in rounds over all incidents would be mute until its end.
    """
    rounds, more = divmod(count, len(incidents))
    entries: list[Entry] = []
    for place, (cluster, scenario) in enumerate(incidents):
        for turn in range(rounds + (place < more)):
            varied = vary(scenario, noise.seed_of(WORKLOAD, "regression", seed, cluster, turn))
            entries.append(_entry(f"regression-{len(entries):05d}", cluster, varied, source=cluster))
    return entries


def _again(count: int, seed: int, incidents: Sequence[tuple[str, Scenario]], repeat: int) -> list[Entry]:
    """Incidents as they were, each with several seeds of its noise, as many as there is room for."""
    entries: list[Entry] = []
    for cluster, scenario in incidents[: max(1, count // repeat)]:
        for turn in range(repeat):
            again = scenario.with_seed(noise.seed_of(WORKLOAD, "reproduction", seed, cluster, turn))
            entries.append(_entry(f"reproduction-{len(entries):05d}", cluster, again, source=cluster, repeats=cluster))
    return entries


def _entry(name: str, cluster: str, scenario: Scenario, *, source: str = "", repeats: str = "") -> Entry:
    return Entry(name, scenario.seed, cluster, scenario.tags, to_json(scenario), source, repeats)


def command(job: Job) -> None:
    kind = str(job.params["kind"])
    clips, _ = read_all(job.recordings() if kind in FROM_INCIDENTS else [], recordings.incident)
    found = [(clip.cluster, clip.scenario) for clip in clips if clip.is_incident]
    entries = suite_scenarios(kind, int(job.params["scenarios"]), job.seed, found, int(job.params.get("repeat", 1)))
    metrics = metric_definition(judge.DEFINITION, judge.__file__)
    Suite(WORKLOAD, str(job.params["suite"]), kind, SIMULATOR, entries, metrics).write(
        job.output("suite", "suite.json")
    )


if __name__ == "__main__":
    run(command)
