"""A Kubernetes Job for an order, and what one says of its order: pure functions over manifests.

Written against batch/v1 and core/v1 as of Kubernetes 1.29 to 1.37.
"""

import hashlib
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from flows.runners.back_ends.interface import Order
from flows.runners.back_ends.launch import Launch
from flows.steps.orders import Phase, Seen

Object = Mapping[str, Any]
LABEL = "fleetloop-order"
"""The label of an order's Job and of its pod; without a prefix, as Kubernetes has it for what is its user's own."""
ORDER, KEY = "fleetloop-order-name", "fleetloop-job-key"
"""Annotations with the real names: labels may not hold them."""
QUEUE_LABEL = "kueue.x-k8s.io/queue-name"
CONTAINER = "order"
GIB = 1 << 30
OVERDUE_S = 5.0
"""How long past its deletion's grace a pod may be listed before its node counts as lost."""
NEVER_STARTS = {"InvalidImageName", "ErrImageNeverPull"}
ENDED = ("Succeeded", "Failed")


@dataclass(frozen=True, slots=True)
class JobSettings:
    """What a cluster's Jobs have in common.

    `token_secret` is mounted where the launch's `token_file` lies, under that file's name. `grace_s` is what a wrapper
    that is told to leave has for saying so, `node_lost_s` how long a node may be unreachable before its pods are given
    up, `keep_s` how long an ended Job is kept. `queue` is one of Kueue's. `run_as` is a user's and group's number.
    `memory_gib` is what a job has that states none, None for no bound. `scratch_gib` bounds what a job writes,
    `shm_gib` is its shared memory (counted as memory), `cache_claim` names a PersistentVolumeClaim that keeps what
    jobs read.
    """

    image: str
    token_secret: str
    queue: str | None = None
    priority_class: str | None = None
    service_account: str | None = None
    runtime_class: str | None = None
    pull_secrets: tuple[str, ...] = ()
    node_selector: Mapping[str, str] = field(default_factory=dict)
    tolerations: tuple[Object, ...] = ()
    gpu_resource: str = "nvidia.com/gpu"
    memory_gib: float | None = None
    scratch_gib: float = 20.0
    shm_gib: float | None = None
    cache_claim: str | None = None
    run_as: int = 10001
    grace_s: int = 60
    node_lost_s: int = 30
    keep_s: int = 86400


def legal_name(order: str) -> str:
    """Return a name for an order that is legal as a DNS label and as a label's value; the same for the same order.

    What can be read of the order's key stands first; the hash tells orders apart whose keys read alike.
    """
    readable = re.sub(r"[^a-z0-9]+", "-", order.lower())[:24].strip("-")
    digest = hashlib.sha256(order.encode()).hexdigest()[:20]
    return "-".join(filter(None, ["fl", readable, digest]))


def job_of(order: Order, launch: Launch, settings: JobSettings) -> dict[str, Any]:
    """Return the Job of an order. Neither the control plane's token nor the cluster's is in it."""
    name = legal_name(order.name)
    labels = {LABEL: name, "app.kubernetes.io/managed-by": "fleetloop"}
    notes = {ORDER: order.name, KEY: order.key}
    queued = {QUEUE_LABEL: settings.queue} if settings.queue else {}
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": name, "labels": labels | queued, "annotations": notes},
        "spec": {
            "backoffLimit": 0,  # the ledger counts attempts, and each is an order of its own
            "completions": 1,
            "parallelism": 1,
            "ttlSecondsAfterFinished": settings.keep_s,
            **({"suspend": True} if settings.queue else {}),
            "template": {"metadata": {"labels": labels, "annotations": notes}, "spec": _pod(order, launch, settings)},
        },
    }


def _pod(order: Order, launch: Launch, settings: JobSettings) -> dict[str, Any]:
    asked = {
        "priorityClassName": settings.priority_class,
        "serviceAccountName": settings.service_account,
        "runtimeClassName": settings.runtime_class,
        "nodeSelector": dict(settings.node_selector),
        "imagePullSecrets": [{"name": name} for name in settings.pull_secrets],
    }
    return {
        "restartPolicy": "Never",
        # Of the pod, not of the Job: a Job's runs while its pod waits for a node, and a pod's from its node on.
        "activeDeadlineSeconds": math.ceil(order.limit_s),
        "terminationGracePeriodSeconds": settings.grace_s,
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "securityContext": _nobody_special(settings.run_as),
        "tolerations": [*_leave_lost_nodes(settings.node_lost_s), *map(dict, settings.tolerations)],
        "containers": [_container(order, launch, settings)],
        "volumes": [each for each, _ in _volumes(launch, settings)],
        **{name: value for name, value in asked.items() if value},
    }


def _nobody_special(run_as: int) -> dict[str, Any]:
    return {
        "runAsNonRoot": True,
        "runAsUser": run_as,
        "runAsGroup": run_as,
        "fsGroup": run_as,
        "seccompProfile": {"type": "RuntimeDefault"},
    }


def _leave_lost_nodes(after_s: int) -> list[dict[str, Any]]:
    kinds = ("not-ready", "unreachable")
    each = {"operator": "Exists", "effect": "NoExecute", "tolerationSeconds": after_s}
    return [{"key": f"node.kubernetes.io/{kind}"} | each for kind in kinds]


def _container(order: Order, launch: Launch, settings: JobSettings) -> dict[str, Any]:
    resources = _resources(order, settings)
    return {
        "name": CONTAINER,
        "image": order.image or settings.image,
        "command": [escaped(word) for word in launch.argv(order)],
        "env": [{"name": name, "value": escaped(value)} for name, value in launch.environment().items()],
        "workingDir": str(launch.home),
        "resources": {"requests": resources, "limits": resources},
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        },
        "volumeMounts": [{"name": each["name"], **mount} for each, mount in _volumes(launch, settings)],
    }


def escaped(value: str) -> str:
    """Return a value that Kubernetes takes as it is: it would put a variable in the place of $(NAME)."""
    return value.replace("$", "$$")


def _resources(order: Order, settings: JobSettings) -> dict[str, str]:
    """Return what an order holds; asked for is what it may have, so that nothing else on its node slows or ends it."""
    asked = {
        "cpu": f"{math.ceil(order.cpus * 1000)}m",
        "memory": str(order.memory_bytes or _bytes(settings.memory_gib or 0)),
        settings.gpu_resource: str(math.ceil(order.gpus)) if order.gpus else "",
    }
    return {name: amount for name, amount in asked.items() if amount not in ("", "0")}


def _volumes(launch: Launch, settings: JobSettings) -> list[tuple[dict[str, Any], dict[str, Any]]]:
    """Return a pod's volumes, each with where it is mounted."""
    scratch = {"sizeLimit": _bytes(settings.scratch_gib)}
    found: list[tuple[dict[str, Any], dict[str, Any]]] = [
        ({"name": "home", "emptyDir": scratch}, {"mountPath": str(launch.home)}),
        ({"name": "tmp", "emptyDir": scratch}, {"mountPath": "/tmp"}),  # noqa: S108 - the pod's own
    ]
    if launch.token_file:
        # Group-readable, for the file is root's and the group is the pod's own (fsGroup).
        secret = {"secretName": settings.token_secret, "defaultMode": 0o440, "items": _only(launch.token_file.name)}
        mount = {"mountPath": str(launch.token_file.parent), "readOnly": True}
        found.append(({"name": "token", "secret": secret}, mount))
    if settings.cache_claim:
        claim = {"claimName": settings.cache_claim}
        found.append(({"name": "cache", "persistentVolumeClaim": claim}, {"mountPath": str(launch.home / "cache")}))
    if settings.shm_gib:
        memory = {"medium": "Memory", "sizeLimit": _bytes(settings.shm_gib)}
        found.append(({"name": "shm", "emptyDir": memory}, {"mountPath": "/dev/shm"}))  # noqa: S108 - the pod's own
    return found


def _bytes(gib: float) -> str:
    return str(math.ceil(gib * GIB))


def _only(name: str) -> list[dict[str, str]]:
    return [{"key": name, "path": name}]


def seen_of(job: Object, pods: Sequence[Object], now: datetime) -> Seen:
    """Say how an order stands, from its Job and its pods at one instant of the cluster's clock."""
    pod = max(pods, key=lambda each: str(each["metadata"].get("creationTimestamp")), default=None)
    if pod is not None and pod.get("status", {}).get("phase") not in ENDED:
        return _seen_by_pod(pod, now)  # a Job may be called failed while its pod still has its grace
    conditions = _conditions(job)
    for ended in ("Failed", "Complete"):
        if ended in conditions:
            return _over(pod, f"Job {ended}{_why(conditions[ended])}")
    if pod is not None:
        return _over(pod, "")
    if job["metadata"].get("deletionTimestamp"):
        return Seen(Phase.GONE, "Kubernetes says its Job is being deleted")
    if job.get("spec", {}).get("suspend"):
        queue = job["metadata"].get("labels", {}).get(QUEUE_LABEL, "")
        return Seen(Phase.WAITING, f"Kubernetes says suspended: waits to be admitted from queue {queue or '(none)'}")
    return Seen(
        Phase.WAITING, f"Kubernetes has made no pod for Job {job['metadata'].get('name')} yet; its events say why"
    )


def _seen_by_pod(pod: Object, now: datetime) -> Seen:
    phase, because = pod.get("status", {}).get("phase", "Pending"), "pod " + _said_of(pod)
    leaves = pod["metadata"].get("deletionTimestamp")
    if leaves and (now - datetime.fromisoformat(leaves)).total_seconds() > OVERDUE_S:
        return Seen(Phase.GONE, f"Kubernetes says {because}, and its node does not end it")
    if phase == "Pending" and not leaves:
        reason = _waits_for(pod)
        return Seen(Phase.STOPPED if reason in NEVER_STARTS else Phase.WAITING, f"Kubernetes says {because}")
    return Seen(Phase.RUNNING, f"Kubernetes says {because}")  # in its grace it may still say a word to the ledger


def _over(pod: Object | None, because: str) -> Seen:
    words = [because, f"pod {_said_of(pod)}" if pod else ""]
    bound = ("DeadlineExceeded" in because) or (pod is not None and _reasons(pod) & {"DeadlineExceeded", "OOMKilled"})
    return Seen(Phase.STOPPED if bound else Phase.GONE, "Kubernetes says " + ", ".join(filter(None, words)))


def _said_of(pod: Object) -> str:
    """Return what Kubernetes says of a pod, as a phrase: its phase, why, and on which node."""
    status, conditions = pod.get("status", {}), _conditions(pod)
    said = [status.get("phase", "Pending")]
    said += [f"{status['reason']}: {status.get('message', '')}"] if status.get("reason") else []
    said += [f"being disrupted{_why(conditions['DisruptionTarget'])}"] if "DisruptionTarget" in conditions else []
    said += [_last(pod), _waits_for(pod), _unscheduled(pod)]
    node = pod.get("spec", {}).get("nodeName")
    return ", ".join(filter(None, [*said, f"on {node}" if node else ""]))[:500]


def _last(pod: Object) -> str:
    ended = [each["state"]["terminated"] for each in _containers(pod) if "terminated" in each.get("state", {})]
    return ", ".join(f"{each.get('reason', 'ended')} (exit {each.get('exitCode')})" for each in ended)


def _waits_for(pod: Object) -> str:
    waiting = [each["state"]["waiting"].get("reason", "") for each in _containers(pod) if _is_waiting(each)]
    return waiting[0] if waiting else ""


def _is_waiting(container: Object) -> bool:
    return "waiting" in container.get("state", {})


def _unscheduled(pod: Object) -> str:
    """Return why no node takes a pod, if none does."""
    listed = pod.get("status", {}).get("conditions") or []
    found = [each for each in listed if each.get("type") == "PodScheduled" and each.get("status") == "False"]
    return f"not scheduled{_why(found[0])}" if found else ""


def _reasons(pod: Object) -> set[str]:
    ended = {each.get("state", {}).get("terminated", {}).get("reason", "") for each in _containers(pod)}
    return ended | {str(pod.get("status", {}).get("reason"))}


def _containers(pod: Object) -> list[Object]:
    return list(pod.get("status", {}).get("containerStatuses") or [])


def _conditions(item: Object) -> dict[str, Object]:
    listed = item.get("status", {}).get("conditions") or []
    return {each["type"]: each for each in listed if each.get("status") == "True"}


def _why(condition: Object) -> str:
    reason, message = condition.get("reason", ""), condition.get("message", "")
    return f" ({': '.join(filter(None, [reason, message]))})" if reason or message else ""
