"""What Jobs of Kubernetes say of orders and orders of them, against Kubernetes' own schemas."""

import json
import re
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath
from typing import Any

import kubernetes_validate
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from flows.runners.back_ends.interface import Order
from flows.runners.back_ends.kubernetes_job import (
    KEY,
    LABEL,
    ORDER,
    QUEUE_LABEL,
    JobSettings,
    escaped,
    job_of,
    legal_name,
    seen_of,
)
from flows.runners.back_ends.launch import Launch
from flows.steps.orders import Phase, order_name
from tests.clusters.kubernetes_controllers import expanded

ROOT = Path(__file__).parents[3]
VERSIONS = sorted({each for each in kubernetes_validate.utils.all_versions() if int(each.split(".")[1]) >= 29})
NOW = datetime(2026, 11, 27, 12, 0, 0, tzinfo=UTC)
DNS_LABEL = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")
KEYS = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9_.:-]{0,199}", fullmatch=True)
HOSTILE = "Sim:Wärme/../$(PATH)\n--%{{x}}" + "x" * 300
LAUNCH = Launch(
    "http://host", PurePosixPath("/run/fleetloop/token"), PurePosixPath("/fleetloop"), "python3", {"A": "1"}
)
BARE = JobSettings("trainer:7", "fleetloop-token")
FULL = JobSettings(
    "trainer:7",
    "fleetloop-token",
    queue="robots",
    priority_class="low",
    service_account="jobs",
    runtime_class="nvidia",
    pull_secrets=("registry",),
    shm_gib=0.5,
    cache_claim="inputs",
    node_selector={"nvidia.com/gpu.product": "H100"},
    tolerations=({"key": "gpu", "operator": "Exists", "effect": "NoSchedule"},),
)


def order_of(key: str = "sim:1", **values: Any) -> Order:
    name = order_name(key, NOW, 1, 1)
    given_ = {"cpus": 2, "gpus": 0, "memory_bytes": 0, "limit_s": 600} | values
    return Order(name=name, key=key, asked=1, attempt=1, **given_)


def test_the_schemas_reach_from_1_29_on() -> None:
    assert {"1.29.0", "1.34.0"} <= set(VERSIONS)


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("settings", [BARE, FULL], ids=["bare", "full"])
def test_jobs_are_what_kubernetes_takes(version: str, settings: JobSettings) -> None:
    big = order_of(gpus=0.5, memory_bytes=5 << 30, image="ghcr.io/robots/sim@sha256:" + "0" * 64)
    for order in (order_of(), big):
        kubernetes_validate.validate(job_of(order, LAUNCH, settings), version, strict=True)


def test_the_schemas_refuse_what_is_wrong() -> None:
    job = job_of(order_of(), LAUNCH, BARE)
    job["spec"]["template"]["spec"]["containers"][0]["gpus"] = 1
    with pytest.raises(kubernetes_validate.ValidationError, match="gpus"):
        kubernetes_validate.validate(job, "1.34", strict=True)


@given(KEYS)
def test_whatever_the_key_names_are_legal_and_the_real_ones_are_kept(key: str) -> None:
    job = job_of(order_of(key), LAUNCH, BARE)
    name = job["metadata"]["name"]
    assert DNS_LABEL.fullmatch(name)
    assert len(name) <= 63 - len("-abcde")  # pods are called after their Job
    assert name[0].isalpha()
    assert job["metadata"]["labels"][LABEL] == name == job["spec"]["template"]["metadata"]["labels"][LABEL]
    assert job["metadata"]["annotations"] == {ORDER: order_name(key, NOW, 1, 1), KEY: key}


@given(st.sets(st.one_of(KEYS, st.text()), min_size=2, max_size=20))
def test_orders_have_names_of_their_own(keys: set[str]) -> None:
    assert len({legal_name(key) for key in keys}) == len(keys)
    assert all(DNS_LABEL.fullmatch(legal_name(key)) for key in keys)


def test_a_hostile_name_is_made_legal() -> None:
    assert re.fullmatch(r"fl-sim-w-rme-path-x-x{7}-[0-9a-f]{20}", legal_name(HOSTILE))


@given(st.text(alphabet="$()A_ b"))
def test_values_reach_a_command_as_they_were_given(value: str) -> None:
    assert expanded(escaped(value), {"A": "replaced"}) == value


def test_no_token_is_in_a_job_and_no_variable_holds_one() -> None:
    job = job_of(order_of(), LAUNCH, FULL)
    pod = job["spec"]["template"]["spec"]
    [container] = pod["containers"]
    assert {each["name"]: each["value"] for each in container["env"]} == {
        "A": "1",
        "FLEETLOOP_TOKEN_FILE": "/run/fleetloop/token",
        "FLEETLOOP_SERVER": "http://host",
        "FLEETLOOP_HOME": "/fleetloop",
    }
    assert all("valueFrom" not in each for each in container["env"])
    assert "envFrom" not in container
    [secret] = [each["secret"] for each in pod["volumes"] if "secret" in each]
    assert secret == {
        "secretName": "fleetloop-token", "defaultMode": 0o440, "items": [{"key": "token", "path": "token"}],
    }  # fmt: skip
    [mount] = [each for each in container["volumeMounts"] if each["name"] == "token"]
    assert (mount["mountPath"], mount["readOnly"]) == ("/run/fleetloop", True)


def test_a_job_may_nothing_and_runs_once() -> None:
    job = job_of(order_of(), LAUNCH, BARE)
    spec, pod = job["spec"], job["spec"]["template"]["spec"]
    assert (spec["backoffLimit"], pod["restartPolicy"], "suspend" in spec) == (0, "Never", False)
    assert (pod["activeDeadlineSeconds"], pod["terminationGracePeriodSeconds"]) == (600, 60)
    assert "activeDeadlineSeconds" not in spec  # it would run while the pod waits for a node
    assert pod["automountServiceAccountToken"] is False
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    [container] = pod["containers"]
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert {each["mountPath"] for each in container["volumeMounts"]} >= {"/fleetloop", "/tmp"}  # noqa: S108 - the pod's own


def test_pods_are_let_into_namespaces_with_the_restricted_standard() -> None:
    pod = job_of(order_of(), LAUNCH, FULL)["spec"]["template"]["spec"]
    taken = {"configMap", "csi", "downwardAPI", "emptyDir", "ephemeral", "persistentVolumeClaim", "projected", "secret"}
    assert {kind for each in pod["volumes"] for kind in each if kind != "name"} <= taken
    assert not {"hostNetwork", "hostPID", "hostIPC"} & set(pod)
    [container] = pod["containers"]
    mounts = {each["name"]: each["mountPath"] for each in container["volumeMounts"]}
    assert (mounts["cache"], mounts["shm"]) == ("/fleetloop/cache", "/dev/shm")  # noqa: S108 - the pod's own
    assert mounts.keys() == {each["name"] for each in pod["volumes"]}


def test_what_is_asked_for_is_what_is_held() -> None:
    order = order_of(cpus=1.5, gpus=0.5, memory_bytes=3 << 30)
    [container] = job_of(order, LAUNCH, FULL)["spec"]["template"]["spec"]["containers"]
    held = {"cpu": "1500m", "memory": str(3 << 30), "nvidia.com/gpu": "1"}
    assert container["resources"] == {"requests": held, "limits": held}
    [container] = job_of(order_of(), LAUNCH, BARE)["spec"]["template"]["spec"]["containers"]
    assert container["resources"]["limits"] == {"cpu": "2000m"}
    [container] = job_of(order_of(), LAUNCH, replace(BARE, memory_gib=4))["spec"]["template"]["spec"]["containers"]
    assert container["resources"]["limits"] == {"cpu": "2000m", "memory": str(4 << 30)}


def test_a_queue_holds_the_job_back_until_it_is_admitted() -> None:
    job = job_of(order_of(), LAUNCH, FULL)
    assert job["metadata"]["labels"][QUEUE_LABEL] == "robots"
    assert job["spec"]["suspend"] is True


def test_an_orders_own_image_comes_before_the_clusters() -> None:
    images = [
        job_of(order, LAUNCH, BARE)["spec"]["template"]["spec"]["containers"][0]["image"]
        for order in (order_of(), replace(order_of(), image="mine:1"))
    ]
    assert images == ["trainer:7", "mine:1"]


def job_said(*conditions: tuple[str, str], **spec: Any) -> dict[str, Any]:
    listed = [{"type": kind, "status": "True", "reason": reason} for kind, reason in conditions]
    return {
        "metadata": {"name": "fl-x", "labels": {QUEUE_LABEL: "robots"}},
        "spec": spec,
        "status": {"conditions": listed},
    }


def pod_said(
    phase: str, *, reason: str = "", state: Any = None, leaves: str = "", condition: Any = None
) -> dict[str, Any]:
    meta = {"creationTimestamp": "2026-11-27T11:00:00Z"} | ({"deletionTimestamp": leaves} if leaves else {})
    states = [{"state": state}] if state else []
    return {"metadata": meta, "spec": {"nodeName": "n1"}, "status": {
        "phase": phase, "reason": reason, "containerStatuses": states, "conditions": [condition] if condition else [],
    }}  # fmt: skip


FAILED = job_said(("Failed", "BackoffLimitExceeded"))
DISRUPTED = {"type": "DisruptionTarget", "status": "True", "reason": "PreemptionByScheduler"}
UNSCHEDULED = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "Insufficient cpu"}


def died(reason: str, code: int = 137) -> Any:
    return {"terminated": {"exitCode": code, "reason": reason}}


@pytest.mark.parametrize(
    ("job", "pods", "phase", "because"),
    [
        (job_said(), [], Phase.WAITING, "made no pod for Job fl-x yet"),
        (job_said(suspend=True), [], Phase.WAITING, "admitted from queue robots"),
        (job_said(), [pod_said("Pending", condition=UNSCHEDULED)], Phase.WAITING, "Unschedulable: Insufficient cpu"),
        (
            job_said(),
            [pod_said("Pending", state={"waiting": {"reason": "ImagePullBackOff"}})],
            Phase.WAITING,
            "BackOff",
        ),
        (
            job_said(),
            [pod_said("Pending", state={"waiting": {"reason": "InvalidImageName"}})],
            Phase.STOPPED,
            "Invalid",
        ),
        (job_said(), [pod_said("Running")], Phase.RUNNING, "pod Running, on n1"),
        (job_said(("Complete", "CompletionsReached")), [pod_said("Succeeded")], Phase.GONE, "Job Complete"),
        (FAILED, [pod_said("Failed", state=died("Error", 1))], Phase.GONE, r"Error \(exit 1\)"),
        (FAILED, [pod_said("Failed", state=died("OOMKilled"))], Phase.STOPPED, "OOMKilled"),
        (FAILED, [pod_said("Failed", reason="Evicted")], Phase.GONE, "Evicted"),
        (FAILED, [pod_said("Failed", reason="DeadlineExceeded")], Phase.STOPPED, "DeadlineExceeded"),
        (job_said(("Failed", "DeadlineExceeded")), [], Phase.STOPPED, "DeadlineExceeded"),
        (FAILED, [], Phase.GONE, "BackoffLimitExceeded"),
        # Told to leave: while its grace lasts its wrapper may still write to the ledger, whatever the Job says.
        (
            FAILED,
            [pod_said("Running", leaves="2026-11-27T12:00:30Z", condition=DISRUPTED)],
            Phase.RUNNING,
            "PreemptionBySched",
        ),
        (job_said(), [pod_said("Running", leaves="2026-11-27T11:59:58Z")], Phase.RUNNING, "Running"),
        (job_said(), [pod_said("Running", leaves="2026-11-27T11:59:50Z")], Phase.GONE, "its node does not end it"),
        (job_said(), [pod_said("Pending", leaves="2026-11-27T12:00:30Z")], Phase.RUNNING, "Pending"),
        (job_said(), [{"metadata": {}}], Phase.WAITING, "Pending"),
        ({"metadata": {"deletionTimestamp": "2026-11-27T11:59:50Z"}}, [], Phase.GONE, "being deleted"),
    ],
)
def test_what_kubernetes_says_is_read(job: Any, pods: list[Any], phase: Phase, because: str) -> None:
    seen = seen_of(job, pods, NOW)
    assert seen.phase is phase, seen
    assert re.search(because, seen.because), seen


def test_the_latest_pod_counts() -> None:
    old, new = pod_said("Failed"), pod_said("Running")
    new["metadata"]["creationTimestamp"] = "2026-11-27T11:30:00Z"
    assert seen_of(job_said(), [new, old], NOW).phase is Phase.RUNNING


@pytest.mark.parametrize("version", VERSIONS)
def test_the_runners_rights_are_what_kubernetes_takes(version: str) -> None:
    items = list(yaml.safe_load_all((ROOT / "infra" / "kubernetes" / "runner-rbac.yaml").read_text()))
    assert [each["kind"] for each in items] == ["ServiceAccount", "Role", "RoleBinding"]
    for each in items:
        kubernetes_validate.validate(each, version, strict=True)
    assert "*" not in json.dumps(items)
