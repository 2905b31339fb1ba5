"""Owns the command `scenarios`: which recorded vehicles, from which moments, in which cars, make a suite."""

from collections.abc import Iterable, Sequence

from flows.workloads.kit import noise
from flows.workloads.kit.job import Job, run
from flows.workloads.kit.recordings import read_all
from flows.workloads.kit.suites import Entry, Suite, metric_definition
from flows.workloads.kit.types import WorkloadError
from flows.workloads.recorded_traffic import judge
from flows.workloads.recorded_traffic.cases import in_groups
from flows.workloads.recorded_traffic.groups import HELD_OUT, HELD_OUT_HOME
from flows.workloads.recorded_traffic.recordings import clip
from flows.workloads.recorded_traffic.relabel import every_start, vary
from flows.workloads.recorded_traffic.world import SIMULATOR, Scenario, to_json

WORKLOAD = "recorded_traffic"


def suite_scenarios(kind: str, count: int, seed: int, incidents: Sequence[tuple[str, Scenario]] = ()) -> list[Entry]:
    """The scenarios of a suite, each with its cluster: the recorded vehicle, or the incident it was varied from."""
    if kind == "regression":
        return _varied(count, seed, incidents)
    if kind not in ("nominal", "field"):
        raise WorkloadError(f"kind of suite {kind!r} is unknown")
    return _held_out(kind, HELD_OUT_HOME if kind == "nominal" else HELD_OUT, count, seed)


def _held_out(kind: str, groups: Iterable[str], count: int, seed: int) -> list[Entry]:
    """Starts of vehicles that no model learned from; without noise to repeat them with, never more than there are."""
    starts = [start for case in in_groups(groups) for start in every_start(case.name)]
    if not starts:
        raise WorkloadError(f"no recording of {sorted(groups)} in the data folder")
    order = noise.stream(WORKLOAD, kind, seed).permutation(len(starts))[:count]
    return [_entry(f"{kind}-{i:05d}", starts[index].case, starts[index], seed) for i, index in enumerate(order)]


def _varied(count: int, seed: int, incidents: Sequence[tuple[str, Scenario]]) -> list[Entry]:
    if not incidents:
        raise WorkloadError("a regression suite needs recordings of incidents, and none was given")
    entries = []
    for i in range(count):
        cluster, scenario = incidents[i % len(incidents)]
        one = noise.seed_of(WORKLOAD, "regression", seed, cluster, i // len(incidents))
        entries.append(_entry(f"regression-{i:05d}", cluster, vary(scenario, one), one))
    return entries


def _entry(name: str, cluster: str, scenario: Scenario, seed: int) -> Entry:
    return Entry(name, seed, cluster, scenario.tags, to_json(scenario))


def command(job: Job) -> None:
    kind = str(job.params["kind"])
    clips, _ = read_all(job.recordings() if kind == "regression" else [], clip)
    incidents = [(one.cluster, one.scenario) for one in clips if one.is_incident]
    entries = suite_scenarios(kind, int(job.params["scenarios"]), job.seed, incidents)
    metrics = metric_definition(judge.DEFINITION, judge.__file__)
    suite = Suite(WORKLOAD, str(job.params["suite"]), kind, SIMULATOR, entries, metrics)
    suite.write(job.output("suite", "suite.json"))


if __name__ == "__main__":
    run(command)
