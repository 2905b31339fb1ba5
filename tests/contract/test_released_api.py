"""Clients of the last release work with this server, and this client with the servers of that one and of the next."""

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from control_plane.client import Calls
from control_plane.client.ask import get
from control_plane.factory.schemas import AttemptCreate, JobCreate, JobItem, JobSpec
from control_plane.kit.pages import Page
from control_plane.kit.settings import Settings
from control_plane.main import create_app
from tests.support.released import broken, promises

RELEASED = json.loads((Path(__file__).parent / "golden" / "api" / "released.json").read_text())
JOB = {
    "key": "k", "kind": "train", "cluster": "local", "run_id": None, "subject": "", "state": "done", "attempt": 1,
    "spec": {"command": ["python"], "timeout_s": 60}, "created_at": "2026-11-27T00:00:00Z", "started_at": None,
    "finished_at": None, "progress": 1, "note": "", "outputs": None, "failure": None, "wall_s": 1, "cpu_s": 1,
    "gpu_s": 0, "usd": 0, "energy_j": 0, "energy_is_estimate": True,
}  # fmt: skip


def test_what_was_released_is_still_kept(tmp_path: Path) -> None:
    app = create_app(Settings(home=tmp_path, database_url="postgresql://nobody@localhost/none"))
    assert broken(RELEASED, promises(app.openapi())) == []


def test_the_release_had_an_api() -> None:
    assert len(RELEASED["operations"]) > 100
    assert "key" in RELEASED["responses"]["JobItem"]["required"]
    assert "spec" in RELEASED["requests"]["JobCreate"]["required"]


def _require(kind: str, name: str, field: str) -> Callable[[Any], None]:
    def change(now: Any) -> None:
        now[kind][name]["required"].append(field)
        now[kind][name]["all"].append(field)

    return change


def _drop(kind: str, name: str, field: str) -> Callable[[Any], None]:
    def change(now: Any) -> None:
        for fields in now[kind][name].values():
            fields[:] = [each for each in fields if each != field]

    return change


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (
            _require("responses", "JobItem", "asked"),
            "responses: JobItem requires asked now: a control plane of the release does not say it",
        ),
        (_drop("responses", "JobItem", "key"), "responses: JobItem has no key any more: clients read it"),
        (_require("requests", "JobCreate", "owner"), "requests: JobCreate requires owner now: clients do not send it"),
        (_drop("requests", "JobCreate", "subject"), "requests: JobCreate has no subject any more: clients send it"),
        (lambda now: now["responses"].pop("JobItem"), "responses: JobItem is gone"),
        (lambda now: now["operations"].pop("GET /api/v1/jobs"), "operations: GET /api/v1/jobs is gone"),
        (
            _require("operations", "GET /api/v1/jobs", "query since"),
            "operations: GET /api/v1/jobs requires query since now: clients do not send it",
        ),
    ],
)
def test_a_broken_promise_is_told(change: Callable[[Any], None], said: str) -> None:
    now = copy.deepcopy(RELEASED)
    change(now)
    assert broken(RELEASED, now) == [said]


def test_more_may_be_said_and_asked_for() -> None:
    now = copy.deepcopy(RELEASED)
    now["responses"]["JobItem"]["all"].append("more")
    now["requests"]["JobCreate"]["all"].append("more")
    now["responses"]["Fresh"] = {"required": ["key"], "all": ["key"]}
    assert broken(RELEASED, now) == []


def test_this_client_reads_a_job_as_the_release_says_it() -> None:
    assert set(JOB) == set(RELEASED["responses"]["JobItem"]["all"])
    job = get(JobItem, "/jobs/k").read(json.dumps(JOB).encode())
    assert (job.asked, job.holder, job.held_s, job.silent_s, job.cancel_reason, job.placement) == (
        1,
        None,
        0,
        0,
        None,
        None,
    )


def test_this_client_leaves_out_what_a_later_release_says_more() -> None:
    later = JOB | {"mood": "good", "spec": JOB["spec"] | {"colour": "red"}}  # type: ignore[operator]
    page = {"items": [later], "next": None, "total": 1}
    read: Any = get(Page[JobItem], "/jobs").read(json.dumps(page).encode())
    assert read.items[0] == JobItem.model_validate(JOB)


def test_this_client_says_nothing_to_the_release_that_it_was_not_asked_to_say() -> None:
    spec = JobSpec(command=["python"], timeout_s=60)
    asked = Calls.submit_job.ask(JobCreate(key="k", kind="train", spec=spec)).content()
    taken = Calls.start_attempt.ask("k", AttemptCreate(holder="h")).content()
    for name, sent in (("JobCreate", asked), ("AttemptCreate", taken)):
        assert set(json.loads(sent or "")) <= set(RELEASED["requests"][name]["all"])
