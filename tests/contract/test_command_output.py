"""What representative commands print in every format, from answers that never change. To write the files anew:

FLEETLOOP_GOLDEN=write python -m pytest tests/contract/test_command_output.py
"""

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from control_plane.cli import connection
from tests.support.cli import fleetloop

GOLDEN = Path(__file__).parent / "golden" / "cli"
AT = "2026-01-02T03:04:05Z"
DIGEST = "ab" * 32
DEVICE: dict[str, Any] = {
    "id": "dev_1", "serial": "sn-1", "device_class": "cart", "site": "north", "labels": {"cell": "a"},
    "state": "active", "agent_version": "1.2", "enrolled_at": AT, "key_sha256": DIGEST,
    "certificate_expires_at": AT, "last_seen_at": AT, "counter_floor": 3, "active_release": DIGEST,
    "active_content": DIGEST, "active_counter": 3, "deployment": None, "platform": {}, "spool": {},
}  # fmt: skip
OTHER = DEVICE | {"id": "dev_22", "serial": "東京-2", "site": "hall [red]two[/red]", "last_seen_at": None}
RUN: dict[str, Any] = {
    "id": "run_1", "pipeline": "cart", "flow": "loop", "params": {"seed": 1}, "because": "90 new incidents",
    "requested_by": "worker", "requested_at": AT, "state": "failed", "attempt": 1, "orchestrator_id": None,
    "submitted_at": AT, "heartbeat_at": AT, "finished_at": AT, "result": {}, "failure": "the suite is too small",
    "steps": {"curate": {"state": "done", "started_at": AT, "seconds": 1.5, "compute_s": None, "note": "12 clips"}},
}  # fmt: skip
JOB: dict[str, Any] = {
    "key": "train-1", "kind": "train", "cluster": "local", "run_id": "run_1", "subject": DIGEST, "state": "done",
    "spec": {"command": ["python", "-m", "train"], "timeout_s": 60}, "asked": 1, "attempt": 1, "created_at": AT,
    "holder": None, "held_s": 0, "silent_s": 0, "cancel_reason": None, "placement": None,
    "started_at": AT, "finished_at": AT, "progress": 1, "note": "", "outputs": {}, "failure": None, "wall_s": 61.25,
    "cpu_s": 60, "gpu_s": 0, "usd": 0.0017, "energy_j": 915.0, "energy_is_estimate": True,
}  # fmt: skip
REVIEW: dict[str, Any] = {
    "id": "rev_1", "kind": "approve", "subject": DIGEST, "question": "May it be rolled out? " + "It is long. " * 20,
    "evidence": {}, "needed": 2, "state": "open", "asked_by": "pipeline", "asked_at": AT, "answers": [],
}  # fmt: skip
LINE = {"name": "train", "jobs": 2, "wall_s": 61.25, "cpu_s": 60, "usd": 0.0017, "energy_j": 915.0}
EDGE: dict[str, Any] = {
    "source": {"kind": "rollout", "name": "roll_1"}, "target": {"kind": "device", "name": "dev_1"}, "relation": "runs",
    "at": AT,
}  # fmt: skip
LINEAGE: dict[str, Any] = {
    "root": EDGE["target"], "truncated": False, "deeper": True,
    "edges": [EDGE, EDGE | {"source": {"kind": "release", "name": DIGEST}, "target": EDGE["source"]}],
}  # fmt: skip
ANSWERS: dict[str, Any] = {
    "/lineage/device/dev_1": LINEAGE,
    "/devices": {"items": [DEVICE, OTHER], "next": None},
    "/devices/dev_1": DEVICE,
    "/devices/dev_1/explanation": {"subject": "dev_1", "lines": ["It runs cart 3.", "It waits for [battery >= 30]."]},
    "/runs/run_1": RUN,
    "/jobs": {"items": [JOB], "next": None},
    "/reviews": {"items": [REVIEW], "next": None},
    "/ledger": {"by": "kind", "lines": [LINE | {"energy_is_estimate": True}]},
}
FORMATS = ("table", "wide", "json", "yaml", "name")
COMMANDS = {
    **{f"devices list -o {how}": 0 for how in FORMATS},
    **{f"devices get dev_1 -o {how}": 0 for how in FORMATS},
    **{f"runs get run_1 -o {how}": 0 for how in FORMATS},
    **{f"reviews list -o {how}": 0 for how in ("table", "wide")},
    **{f"devices explain dev_1 -o {how}": 0 for how in ("table", "json", "name")},
    **{f"lineage get device dev_1 -o {how}": 0 for how in FORMATS},
    "lineage get planet x": 2,
    **{f"tokens create ada --role approver --dry-run -o {how}": 0 for how in ("table", "json", "yaml")},
    "ledger": 0,
    "runs logs run_1": 1,
    "runs cancel run_1 --reason wrong --dry-run": 0,
    "rollouts halt roll_1 --reason late --dry-run --json": 0,
    "devices get nothing": 3,
    "devices get nothing -o json": 3,
}


def answer(request: httpx.Request) -> httpx.Response:
    assert request.method == "GET", "a rehearsal sends nothing"
    path = request.url.path.removeprefix("/api/v1")
    if path in ANSWERS:
        return httpx.Response(200, json=ANSWERS[path])
    return httpx.Response(404, json={"code": "not_found", "detail": f"there is no {path}\nat all"})


@pytest.fixture(autouse=True)
def canned(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("FLEETLOOP_SERVER", "http://fleetloop.test")
    monkeypatch.setenv("FLEETLOOP_TOKEN", "fl_test")
    made = connection.client("viewer")
    made.http.close()
    made.http = httpx.Client(transport=httpx.MockTransport(answer))
    with monkeypatch.context() as open_still:
        open_still.setattr(connection, "close", lambda: None)  # one test runs several commands
        yield
    connection.close()


@pytest.mark.parametrize("typed", COMMANDS)
def test_output_is_as_it_was(typed: str) -> None:
    ended = fleetloop(*typed.split())
    assert ended.status == COMMANDS[typed]
    assert "\x1b" not in ended.out + ended.err
    text = f"$ fleetloop {typed}\n{ended.out}{ended.err}"
    kept = GOLDEN / f"{typed.replace(' ', '_')}.txt"
    if os.environ.get("FLEETLOOP_GOLDEN") == "write":
        kept.parent.mkdir(parents=True, exist_ok=True)
        kept.write_text(text)
    assert text == kept.read_text()


def test_json_is_the_same_by_both_names_and_the_noun_alone_lists() -> None:
    listed = fleetloop("devices", "list", "-o", "json").out
    assert fleetloop("devices", "--json").out == listed
    assert [json.loads(line)["id"] for line in listed.splitlines()] == ["dev_1", "dev_22"]
    assert fleetloop("devices", "dev_1", "--json").out == listed.splitlines()[0] + "\n"


def test_nothing_is_cut_off_in_a_pipe(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    assert REVIEW["question"].strip() in fleetloop("reviews").out
    assert DIGEST in fleetloop("devices", "list", "-o", "wide").out
