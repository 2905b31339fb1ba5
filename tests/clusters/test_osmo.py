"""OSMO's back end against the stand-in: what the conformance suite does not come to, most of it going wrong."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import Any

import pytest
import yaml

from flows.runners.back_ends.interface import BackEndError
from flows.runners.back_ends.kubernetes_job import LABEL, legal_name
from flows.runners.back_ends.launch import Launch
from flows.runners.back_ends.osmo import OsmoBackEnd, ServiceSettings
from flows.runners.back_ends.osmo_workflow import PHASES, WorkflowSettings, order_of, seen_of, workflow_of
from flows.steps.orders import Phase
from tests.clusters import back_end as of
from tests.clusters.back_end import TOKEN, launch_of, phase_of, reaches
from tests.clusters.osmo_stand_in import POOL, Osmo
from tests.clusters.processes import until
from tests.clusters.stand_in_http import Reply

Make = Callable[..., OsmoBackEnd]
LAUNCH = Launch("http://host", None, PurePosixPath("/tmp/fleetloop"), "python3", {"A": "1"})  # noqa: S108 - a task's own
SETTINGS = WorkflowSettings(POOL, "stand-in:1", "fleetloop")
ORDER = of.order_of()


@pytest.fixture
def make(osmo: Osmo, tmp_path: Path) -> Iterator[Make]:
    osmo.credentials["fleetloop"] = {"token": TOKEN}
    opened: list[OsmoBackEnd] = []

    def one(script: str = "exec sleep 60", **changes: Any) -> OsmoBackEnd:
        launch = replace(launch_of(tmp_path, script), token_file=None)
        service = ServiceSettings(osmo.address, osmo.token_file)
        opened.append(OsmoBackEnd(launch, replace(SETTINGS, **changes), service))
        return opened[-1]

    yield one
    for each in opened:
        each.close()


def test_what_osmo_is_asked() -> None:
    order = replace(ORDER, cpus=1.5, gpus=0.5, memory_bytes=(3 << 30) + 1, image="mine:1", limit_s=60.5)
    asked = yaml.safe_load(workflow_of(order, LAUNCH, replace(SETTINGS, platform="dgx-a100")))["workflow"]
    name = legal_name(order.name)
    assert (asked["name"], asked["labels"]) == (name, {LABEL: name})
    assert asked["timeout"] == {"exec_timeout": "61s", "queue_timeout": "86400s"}
    assert asked["resources"]["default"] == {
        "cpu": 2, "memory": "3073Mi", "storage": "20Gi", "gpu": 1, "platform": "dgx-a100",
    }  # fmt: skip
    [task] = asked["tasks"]
    assert task["image"] == "mine:1"
    assert task["command"] == ["python3", "-m", "flows.runners.wrapper", order.key, order.name]
    assert task["credentials"] == {"fleetloop": {"FLEETLOOP_TOKEN": "token"}}
    assert task["environment"] == {
        "A": "1", "FLEETLOOP_SERVER": "http://host", "FLEETLOOP_HOME": str(LAUNCH.home),
    }  # fmt: skip
    [plain] = yaml.safe_load(workflow_of(ORDER, LAUNCH, SETTINGS))["workflow"]["tasks"]
    assert plain["image"] == "stand-in:1"


@pytest.mark.parametrize("value", ["{{ x }}", "{% if %}", "a{#", "$(HOME)"])
def test_what_would_be_read_as_a_template_is_refused(value: str) -> None:
    with pytest.raises(BackEndError, match="would put something in the place of"):
        workflow_of(ORDER, replace(LAUNCH, env={"A": value}), SETTINGS)


@pytest.mark.parametrize(("status", "phase"), [
    *PHASES.items(),
    ("COMPLETED", Phase.GONE), ("FAILED", Phase.GONE), ("FAILED_PREEMPTED", Phase.GONE), ("FAILED_EVICTED", Phase.GONE),
    ("FAILED_CANCELED", Phase.GONE), ("FAILED_BACKEND_ERROR", Phase.GONE), ("FAILED_IMAGE_PULL", Phase.GONE),
    ("FAILED_EXEC_TIMEOUT", Phase.STOPPED), ("FAILED_QUEUE_TIMEOUT", Phase.STOPPED),
    ("FAILED_SUBMISSION", Phase.STOPPED), ("SOMETHING_NEW", Phase.GONE),
])  # fmt: skip
def test_what_osmo_says_is_read(status: str, phase: Phase) -> None:
    assert seen_of({"name": "w-1", "status": status}).phase is phase


def test_a_workflows_number_is_not_part_of_its_orders_name() -> None:
    assert order_of(f"{legal_name(ORDER.name)}-12") == legal_name(ORDER.name)


def test_a_second_submission_starts_nothing(osmo: Osmo, make: Make) -> None:
    for back_end in (make(), make()):
        back_end.submit(ORDER)
    assert len(osmo.workflows) == 1


def test_of_two_workflows_the_living_one_counts(osmo: Osmo, make: Make) -> None:
    """Two runners that submit at once may both find none."""
    back_end = make()
    back_end.submit(ORDER)
    reaches(back_end, ORDER, Phase.RUNNING)
    with osmo.lock:
        [first] = osmo.workflows.values()
        later = replace(first, name=f"{first.spec['name']}-2", status="FAILED", submitted_at=first.submitted_at + 1)
        osmo.workflows[later.name] = later
    assert phase_of(back_end, ORDER) is Phase.RUNNING
    back_end.cancel(ORDER.name)
    reaches(back_end, ORDER, Phase.GONE)
    assert first.status == "FAILED_CANCELED"


def test_the_token_reaches_the_task_by_osmos_own_store(osmo: Osmo, make: Make) -> None:
    back_end = make('echo "$FLEETLOOP_TOKEN"')
    back_end.submit(ORDER)
    reaches(back_end, ORDER, Phase.GONE)
    assert back_end.logs(ORDER.name).strip().endswith(TOKEN)
    [workflow] = osmo.workflows.values()
    assert TOKEN not in yaml.safe_dump(workflow.spec)


def test_the_access_token_is_exchanged_once_and_again_when_it_must_be(osmo: Osmo, make: Make) -> None:
    back_end = make()
    for _ in range(3):
        assert back_end.see([ORDER.name]) == {}
    exchange = "POST /api/auth/jwt/access_token"
    assert osmo.asked.count(exchange) == 1
    osmo.short.clear()
    assert back_end.see([ORDER.name]) == {}
    assert osmo.asked.count(exchange) == 2
    osmo.short.clear()
    osmo.token_file.write_text("another")
    osmo.refusals.order("POST", "access_token", Reply(401, {"message": "Access Token has expired"}))
    with pytest.raises(BackEndError, match=r"OSMO refuses a token: 401 Access Token has expired .*auth_token_file"):
        back_end.see([ORDER.name])
    osmo.token_file.unlink()
    with pytest.raises(BackEndError, match="the access token of OSMO"):
        back_end.see([ORDER.name])


def test_many_orders_are_looked_for_together(osmo: Osmo, make: Make) -> None:
    back_end, orders = make(), [of.order_of(f"job-{number}", cpus=9) for number in range(120)]
    for order in orders:
        back_end.submit(order)
    osmo.asked.clear()
    assert len(back_end.see([order.name for order in orders])) == 120
    assert osmo.asked == ["GET /api/workflow"] * 3


def test_a_service_that_knows_no_labels_is_understood(osmo: Osmo, make: Make) -> None:
    osmo.knows_labels = False
    back_end, other = make(), of.order_of("other", cpus=9)
    back_end.submit(other)
    assert back_end.see([ORDER.name]) == {}
    back_end.submit(ORDER)
    back_end.submit(ORDER)
    assert len(osmo.workflows) == 2
    third = of.order_of("third", cpus=9)
    back_end.submit(third)
    assert back_end.see([ORDER.name, other.name]).keys() == {ORDER.name, other.name}


def test_what_osmo_does_not_take_is_told(osmo: Osmo, make: Make) -> None:
    with pytest.raises(BackEndError, match=r"403 the pool is not yours .*role that may submit"):
        make(pool="theirs").submit(ORDER)
    with pytest.raises(BackEndError, match=r"400 Credential \['absent'\] does not exist"):
        make(credential="absent").submit(ORDER)
    osmo.refusals.order("GET", "/api/workflow", Reply(429, {"detail": "slow down"}))
    with pytest.raises(BackEndError, match=r"429 slow down .*asked again"):
        make().see([ORDER.name])
    osmo.refusals.order("GET", "/api/workflow", Reply(502, b"<html>\nbad gateway"))
    with pytest.raises(BackEndError, match="502 bad gateway"):
        make().see([ORDER.name])
    osmo.refusals.order("GET", "/api/workflow", Reply(200, b"<html>a page to sign in</html>"))
    with pytest.raises(BackEndError, match="not an answer of the cluster"):
        make().see([ORDER.name])


def test_over_its_time_is_a_bound_of_the_clusters(make: Make) -> None:
    back_end, order = make(), replace(ORDER, limit_s=1)
    back_end.submit(order)
    assert "FAILED_EXEC_TIMEOUT" in reaches(back_end, order, Phase.STOPPED)


def test_cancelling_what_waits_or_is_not_there(osmo: Osmo, make: Make) -> None:
    back_end, waits = make(), replace(ORDER, cpus=9)
    back_end.cancel("nobody.0.1.1")
    assert back_end.logs("nobody.0.1.1") == ""
    back_end.submit(waits)
    assert back_end.logs(waits.name) == ""
    back_end.cancel(waits.name)
    assert phase_of(back_end, waits) is Phase.GONE
    back_end.cancel(waits.name)
    assert osmo.asked.count(f"POST /api/workflow/{legal_name(waits.name)}-1/cancel") == 1
    until(lambda: not osmo.nodes.placed, 5, "it never ran")
