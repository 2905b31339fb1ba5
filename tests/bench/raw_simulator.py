"""The ceiling of an evaluation: `python -m tests.bench.raw_simulator BUNDLE SUITE START STOP`.

Loads model and scenarios, says "ready", waits for a line, runs the workload's batched simulator loop over them with
nothing of ours around it, and says "done" with the seconds it took.
"""

import json
import sys
import time
from pathlib import Path

from flows.workloads.kit.bundle import Policy
from flows.workloads.warehouse_amr.rollout import outcomes
from flows.workloads.warehouse_amr.scenario import from_json


def main() -> None:
    bundle, suite, start, stop = sys.argv[1:]
    entries = json.loads(Path(suite).read_bytes())["scenarios"][int(start) : int(stop)]
    scenarios = [from_json(entry["params"], entry["id"]) for entry in entries]
    policy = Policy.load(Path(bundle))
    print("ready", flush=True)
    sys.stdin.readline()
    begun = time.perf_counter()
    outcomes(scenarios, policy)
    print("done", time.perf_counter() - begun, flush=True)


if __name__ == "__main__":
    main()
