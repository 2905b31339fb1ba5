"""Who may do what, written down once. A route that is not here fails the tests, and so does one that lets others in.

Letters: v viewer, o operator, a approver, p pipeline, x admin. What a route does beyond its door (whose review, which
state) is its slice's to test.
"""

OWN_WAYS = ("/device/", "/objects/")
"""Devices prove themselves by keys, objects by signed addresses; both have tests of their own."""

PUBLIC = frozenset(
    {
        "GET /api/openapi.json",
        "GET /healthz",
        "GET /readyz",
        "GET /static/{name}",
        "GET /login",
        "POST /login",
        "GET /login/oidc",
        "GET /login/oidc/back",
    }
)

_TABLE = """
voapx GET /
px    POST /api/v1/artifacts
px    GET /api/v1/artifacts/{sha256}
px    POST /api/v1/artifacts/{sha256}/parts
px    POST /api/v1/artifacts/{sha256}/parts/join
oapx  POST /api/v1/attestations
voapx GET /api/v1/attestations/{digest}
voapx GET /api/v1/audit
voapx GET /api/v1/audit/check
voapx GET /api/v1/baselines
voapx GET /api/v1/clusters
voapx GET /api/v1/clusters/{name}/meters
x     PUT /api/v1/clusters/{name}
voapx GET /api/v1/datasets
px    POST /api/v1/datasets
voapx GET /api/v1/datasets/{digest}
voapx GET /api/v1/denied-keys
ox    PUT /api/v1/denied-keys/{key_sha256}
voapx GET /api/v1/device-classes
x     PUT /api/v1/device-classes/{name}
voapx GET /api/v1/device-statements
voapx GET /api/v1/device-statements/{sha256}
voapx GET /api/v1/devices
voapx GET /api/v1/devices/summary
voapx GET /api/v1/devices/{device_id}
ox    PATCH /api/v1/devices/{device_id}
voapx GET /api/v1/devices/{device_id}/explanation
voapx GET /api/v1/enrolment-conflicts
ox    POST /api/v1/enrolment-conflicts/{conflict_id}/decision
ox    POST /api/v1/enrolment-tokens
voapx GET /api/v1/evaluations
px    POST /api/v1/evaluations
voapx GET /api/v1/evaluations/{evaluation_id}
voapx GET /api/v1/evaluations/{evaluation_id}/cases
px    POST /api/v1/evaluations/{evaluation_id}/results
voapx GET /api/v1/events
voapx GET /api/v1/exposure
voapx GET /api/v1/gates
px    POST /api/v1/gates
voapx POST /api/v1/gates/backtest
voapx POST /api/v1/gates/plan
px    POST /api/v1/gates/stop
voapx GET /api/v1/gates/{gate_id}
voapx POST /api/v1/gates/{gate_id}/replay
voapx GET /api/v1/gates/{gate_id}/replays
px    PUT /api/v1/gates/{gate_id}/replays
voapx GET /api/v1/jobs
px    POST /api/v1/jobs
voapx GET /api/v1/jobs/{key}
px    POST /api/v1/jobs/{key}/attempts
opx   POST /api/v1/jobs/{key}/cancel
voapx GET /api/v1/jobs/{key}/explanation
px    POST /api/v1/jobs/{key}/finish
voapx GET /api/v1/jobs/{key}/meters
px    POST /api/v1/jobs/{key}/renew
voapx GET /api/v1/ledger
voapx GET /api/v1/ledger/versions
voapx GET /api/v1/lineage/{kind}/{name}
voapx GET /api/v1/lineage/{kind}/{name}/export
voapx GET /api/v1/models
voapx GET /api/v1/models/{name}
px    PUT /api/v1/models/{name}
voapx GET /api/v1/models/{name}/coverage
voapx GET /api/v1/models/{name}/prediction
voapx GET /api/v1/models/{name}/rate
voapx GET /api/v1/models/{name}/scenarios
px    PUT /api/v1/models/{name}/scenarios/{source}
ax    POST /api/v1/models/{name}/scenarios/{source}/wishes
voapx GET /api/v1/models/{name}/versions
px    POST /api/v1/models/{name}/versions
x     GET /api/v1/people
x     POST /api/v1/people
x     PATCH /api/v1/people/{name}
voapx GET /api/v1/pipelines
voapx GET /api/v1/pipelines/{name}
x     PUT /api/v1/pipelines/{name}
opx   POST /api/v1/pipelines/{name}/runs
voapx GET /api/v1/recordings
voapx GET /api/v1/recordings/{sha256}
voapx GET /api/v1/releases
px    POST /api/v1/releases
voapx GET /api/v1/releases/{digest}
voapx GET /api/v1/releases/{digest}/manifest
voapx GET /api/v1/reviews
voapx GET /api/v1/reviews/{review_id}
ax    POST /api/v1/reviews/{review_id}/answers
voapx GET /api/v1/rollouts
opx   POST /api/v1/rollouts
voapx POST /api/v1/rollouts/plan
voapx GET /api/v1/rollouts/{rollout_id}
voapx GET /api/v1/rollouts/{rollout_id}/decisions
voapx GET /api/v1/rollouts/{rollout_id}/deployments
voapx GET /api/v1/rollouts/{rollout_id}/explanation
voapx POST /api/v1/rollouts/{rollout_id}/replay
voapx GET /api/v1/rollouts/{rollout_id}/tally
ox    POST /api/v1/rollouts/{rollout_id}/wishes
voapx GET /api/v1/runs
voapx GET /api/v1/runs/{run_id}
ox    POST /api/v1/runs/{run_id}/cancel
px    POST /api/v1/runs/{run_id}/finish
px    POST /api/v1/runs/{run_id}/heartbeat
px    PUT /api/v1/runs/{run_id}/steps/{name}
voapx GET /api/v1/suites
px    POST /api/v1/suites
x     GET /api/v1/tokens
x     POST /api/v1/tokens
x     DELETE /api/v1/tokens/{name}
voapx GET /api/v1/trainings
px    POST /api/v1/trainings
voapx GET /api/v1/trainings/{key}
px    POST /api/v1/trainings/{key}/finish
voapx GET /api/v1/trust
voapx GET /api/v1/trust/metadata/{role}
x     POST /api/v1/trust/offline
x     POST /api/v1/trust/resume
voapx GET /api/v1/trust/revocations
ox    POST /api/v1/trust/revocations
voapx GET /api/v1/versions/{content_digest}
x     GET /api/v1/webhooks
x     POST /api/v1/webhooks
x     GET /api/v1/webhooks/{webhook_id}
x     PATCH /api/v1/webhooks/{webhook_id}
x     DELETE /api/v1/webhooks/{webhook_id}
x     GET /api/v1/webhooks/{webhook_id}/deliveries
x     POST /api/v1/webhooks/{webhook_id}/secret
x     POST /api/v1/webhooks/{webhook_id}/test
voapx GET /api/v1/whoami
voapx GET /audit
voapx GET /audit.jsonl
voapx GET /evaluations
voapx GET /events
voapx GET /events/{number}
voapx GET /fleet
ox    GET /fleet/actions
ox    POST /fleet/actions
voapx GET /fleet/actions/{bulk_id}
voapx GET /fleet/plan
voapx POST /fleet/views
voapx POST /fleet/views/{view_id}/remove
voapx GET /fleet/{device_id}
voapx GET /fleet/{device_id}/plots.json
voapx GET /fleet/{device_id}/series.json
voapx GET /recordings/{sha256}/file
voapx GET /recordings/{sha256}/open/{viewer}
voapx GET /recordings/{sha256}/replay.json
voapx GET /gates/{gate_id}
voapx GET /gates/{gate_id}/replays/{suite}/{scenario}
voapx GET /gates/{gate_id}/replays/{suite}/{scenario}/{side}.json
voapx GET /ledger
voapx GET /lineage/{kind}/{name}
voapx GET /lineage/{kind}/{name}/export
voapx GET /models
voapx GET /models/{name}
voapx GET /recordings/{sha256}
voapx GET /releases/{digest}
oax   POST /releases/{digest}/signature
voapx GET /releases/{digest}/statement.json
ax    POST /reviews/{review_id}
voapx GET /compare
voapx GET /find
voapx GET /live
voapx GET /reviews
voapx GET /gates/{gate_id}/path.json
voapx GET /rollouts/{rollout_id}/evidence.json
voapx GET /rollouts/new
ox    POST /rollouts/new
voapx GET /rollouts
voapx GET /rollouts/{rollout_id}
ox    POST /rollouts/{rollout_id}/wishes
voapx GET /runs
voapx GET /runs/{run_id}
x     GET /settings/tokens
x     POST /settings/tokens
x     POST /settings/tokens/{name}/revoke
voapx GET /versions/{digest}
voapx GET /{path:page}
voapx POST /logout
voapx GET /settings
voapx POST /settings/password
x     GET /settings/people
x     POST /settings/people
x     POST /settings/people/{name}
x     GET /settings/webhooks
x     POST /settings/webhooks
x     GET /settings/webhooks/{webhook_id}
x     POST /settings/webhooks/{webhook_id}
x     POST /settings/webhooks/{webhook_id}/test
x     GET /settings/installation
"""
RULES = {name: letters for letters, name in (line.split(maxsplit=1) for line in _TABLE.strip().splitlines())}
