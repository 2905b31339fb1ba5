"""Runs one flow without Prefect: `python -m flows.run loop --params '{"run_id": ..., "attempt": ..., ...}'`.

The subprocess orchestrator starts flows this way; so may any scheduler that can run a command.
"""

import argparse
import json
import sys

from control_plane.kit import tracing
from flows.runners.loop import run_flow
from flows.runners.parts import BODIES


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("flow", choices=sorted(BODIES))
    parser.add_argument("--params", required=True, type=json.loads, help="run_id, attempt, server and params as JSON")
    arguments = parser.parse_args()
    given = arguments.params
    tracing.start("fleetloop-flow")
    result = run_flow(
        BODIES[arguments.flow],
        given["run_id"],
        given["attempt"],
        given["params"],
        given["server"],
        traceparent=given.get("traceparent", ""),
    )
    tracing.stop()
    sys.stdout.write(json.dumps(result, default=str) + "\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
