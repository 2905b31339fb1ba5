"""Which fields of each thing stand in its table."""

from control_plane.cli.output import View

ARTIFACT = View("sha256", ("sha256", "size_bytes"))
AUDIT = View("seq", ("seq", "at", "actor", "action", "subject", "because"), ("hash",))
BASELINE = View("device_class", ("device_class", "site", "content_digest", "counter", "since"), ("release",))
CASE = View("scenario", ("scenario", "seed", "status", "metrics"), ("cluster", "evidence_sha256", "job_key"))
CLUSTER = View(
    "name",
    ("name", "backend", "slots", "usd_per_hour", "watts", "note"),
    ("cpus", "gpus", "memory_bytes", "speed", "queue_s", "usd_per_gpu_hour", "gpu_watts", "usd_per_kwh", "exporters"),
)
CONTEXT = View("name", ("name", "current", "url", "token"))
DATASET = View("digest", ("digest", "name", "clips", "holdout", "created_at"), ("created_by",))
DECISION = View("number", ("number", "at", "phase", "stage", "because"))
DELIVERY = View("id", ("id", "topic", "state", "attempts", "status", "note", "created_at"), ("elapsed_ms", "next_at"))
DEPLOYMENT = View(
    "device_id",
    ("device_id", "site", "device_class", "phase", "standing", "reason"),
    ("offered_content", "active_content", "detail", "seen_at", "attempts"),
)
DEVICE = View(
    "id",
    ("id", "serial", "site", "device_class", "state", "active_content", "active_counter", "last_seen_at"),
    ("active_release", "agent_version", "enrolled_at", "certificate_expires_at", "counter_floor"),
)
DEVICE_CLASS = View("name", ("name", "title", "safe_state"), ("facts",))
ENROLMENT = View("token", ("token", "device_class", "site", "serial", "expires_at"))
EVALUATION = View("id", ("id", "suite_name", "content_digest", "done", "scenarios", "created_at"), ("means", "suite"))
EVENT = View(
    "event_id", ("number", "kind", "device_id", "site", "at"), ("event_id", "device_class", "content_digest", "details")
)
FLEET = View("device_class", ("device_class", "site", "active_content", "devices"))
GATE = View(
    "id", ("id", "model", "candidate", "champion", "verdict", "because"), ("attempt", "created_at", "evidence_sha256")
)
GATE_PART = View("suite", ("suite", "rule", "metric", "verdict", "because"))
GATE_PLAN = View("suite", ("suite", "rule", "metric", "planned", "needed", "typical", "power", "enough", "because"))
GATE_REPLAY = View("gate", ("gate", "same", "stored_verdict", "verdict", "same_code", "differences"))
JOB = View(
    "key",
    ("key", "kind", "subject", "state", "progress", "wall_s", "usd", "failure"),
    ("cluster", "run_id", "attempt", "note", "started_at", "finished_at"),
)
BILL = View(
    "content_digest",
    (
        "model", "version", "content_digest", "usd", "energy_j", "episodes", "usd_per_1000_episodes",
        "usd_until_promoted", "prevented", "usd_per_prevented",
    ),
    (
        "training_usd", "simulation_usd", "gate_usd", "data_usd", "training_energy_j", "energy_j_per_1000_episodes",
        "energy_j_until_promoted", "energy_j_per_prevented",
    ),
)  # fmt: skip
MODEL_BILL = View(
    "model",
    (
        "model", "versions", "promoted", "episodes", "usd", "energy_j", "usd_per_1000_episodes", "usd_per_promoted",
    ),
)  # fmt: skip
LEDGER = View("name", ("name", "jobs", "wall_s", "cpu_s", "usd", "energy_j", "energy_is_estimate"))
MODEL = View("name", ("name", "title", "exposure", "created_at"))
PIPELINE = View("name", ("name", "flow", "model", "enabled", "last_run_at"), ("trigger", "params", "event_cursor"))
RECORDING = View(
    "sha256", ("sha256", "device_id", "site", "trigger", "size_bytes", "started_at"), ("event_id", "state", "reason")
)
RELEASE = View(
    "digest",
    ("digest", "model", "version", "counter", "device_classes", "signed_by", "created_at"),
    ("content_digest", "reason", "waits_for", "way_back_of", "approved_by"),
)
REVIEW = View("id", ("id", "kind", "state", "question", "needed", "asked_at"), ("subject", "asked_by"))
ROLLOUT = View(
    "id",
    ("id", "model", "phase", "stage", "override_reason", "because"),
    ("release", "gate_id", "gate_verdict", "created_by", "created_at", "finished_at"),
)
RUN = View(
    "id",
    ("id", "pipeline", "state", "attempt", "because", "requested_at"),
    ("requested_by", "finished_at", "orchestrator_id", "failure"),
)
SCENARIO = View("source", ("source", "state", "failures", "seeds", "guilty", "because"))
SUITE = View("digest", ("digest", "name", "kind", "model", "scenarios", "version"), ("simulator", "created_at"))
TALLY = View("site", ("site", "device_class", "standing", "devices"))
CALLER = View("name", ("name", "role", "may"))
PERSON = View("name", ("name", "role", "active", "provider", "last_seen_at"))
TOKEN = View("name", ("name", "role", "created_at", "revoked_at", "last_used_at"))
TOKEN_MADE = View("token", ("name", "role", "token"))
TRAINING = View("key", ("key", "model", "state", "seed", "created_at", "finished_at"), ("dataset", "parent", "run_id"))
USE = View(
    "attempt",
    ("asked", "attempt", "node", "gpu_ids", "energy_j", "busy", "covered", "estimate_j", "note"),
    ("began_at", "ended_at"),
)
VERSION = View(
    "content_digest",
    ("version", "label", "content_digest", "parent", "dataset", "created_at"),
    ("model", "training", "created_by"),
)
WEBHOOK = View("id", ("id", "name", "topics", "active", "failures", "because"), ("url", "created_by", "created_at"))
WEBHOOK_MADE = View("secret", ("webhook", "secret"))
