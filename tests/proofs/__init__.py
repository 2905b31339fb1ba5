"""Long proofs of what we claim: `make prove [ARGS=name]` prints a JSON line for every figure.

| name | what it proves |
|---|---|
| `errors` | error rates and power of gate and canary, by simulation |
| `loop` | the whole demo, with three seeds |
| `crash` | kill -9 of every process in mid-loop: nothing lost, nothing counted twice, no finished shard repeated |
| `real` | the loop on recorded human traffic (needs FLEETLOOP_TRAFFIC_DATA=DIR) |
| `evidence` | how often gate and rollout are wrong, and that they hold under fire: every module evidence_*.py here |
| `device` | what a device survives: every module device_*.py here |

Lines are {"proof", "figure", "unit", "bound", "ok", "seconds"}; the last run's are kept in docs/reference/claims.jsonl,
from which the README's table is made.
"""
