"""Owns the command `simulate`: one model over one shard of a suite."""

from flows.workloads.kit.bundle import Policy
from flows.workloads.kit.job import Job, progress, run
from flows.workloads.kit.suites import read_suite, result, write_results
from flows.workloads.recorded_traffic.rollout import by_policy, drive
from flows.workloads.recorded_traffic.world import SIMULATOR, from_json


def command(job: Job) -> None:
    suite = read_suite(job.input("suite", "suite.json"), SIMULATOR)
    entries = suite.scenarios[int(job.params["start"]) : int(job.params["stop"])]
    scenarios = [from_json(entry.params, f"suite.json: {entry.id}") for entry in entries]
    policy = Policy.load(job.input("model"))
    outcomes, _ = drive(scenarios, by_policy(policy))
    rows = [
        result(suite, entry, policy.sha256, outcome.metrics()) for entry, outcome in zip(entries, outcomes, strict=True)
    ]
    write_results(job.output("results", "results.jsonl"), rows)
    progress(1.0, f"{len(rows)} scenarios")


if __name__ == "__main__":
    run(command)
