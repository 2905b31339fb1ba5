"""Stand-in for Kubernetes, the half behind its API: Jobs and their pods, nodes, a queue of Kueue, and their clocks.

Not Kubernetes: written from its documentation, for the fields and rules that the back end relies on. No API server
could be had where this was written. Pods are real processes of this machine; no images, no walls between them.
"""

import re
import secrets
import threading
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tests.clusters.stand_in_nodes import Nodes

Object = dict[str, Any]
QUEUE_LABEL = "kueue.x-k8s.io/queue-name"
NODE_MONITOR_GRACE_S = 1.0
"""After which silence a node counts as not ready: 50 s in a real cluster."""


def stamp(at: float | None = None) -> str:
    return datetime.fromtimestamp(time.time() if at is None else at, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def instant(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()


@dataclass
class Controllers:
    """All that is kept, under one lock; `tick` does whatever is due."""

    folder: Path
    nodes: Nodes = field(default_factory=Nodes)
    secrets: dict[str, dict[str, str]] = field(default_factory=dict)
    jobs: dict[str, Object] = field(default_factory=dict)
    pods: dict[str, Object] = field(default_factory=dict)
    quota_cpus: float = 2.0
    """What Kueue admits at once."""
    version: int = 1
    lost_at: dict[str, float] = field(default_factory=dict)
    ended_at: dict[str, float] = field(default_factory=dict)
    lock: threading.RLock = field(default_factory=threading.RLock)

    def tick(self) -> None:
        with self.lock:
            for job in list(self.jobs.values()):
                self._reconcile(job)
            for pod in list(self.pods.values()):
                self._sync(pod)

    def changed(self, item: Object) -> None:
        self.version += 1
        item["metadata"]["resourceVersion"] = str(self.version)

    # Jobs

    def create(self, job: Object) -> Object:
        meta = job["metadata"]
        meta |= {"uid": secrets.token_hex(16), "creationTimestamp": stamp(), "generation": 1}
        job["status"] = {}
        if job["spec"].get("suspend"):
            condition(job, "Suspended", "JobSuspended", "Job suspended")
        self.jobs[meta["name"]] = job
        self.changed(job)
        return job

    def delete(self, job: Object, policy: str = "Background") -> None:
        """Delete a Job: in the foreground it stays until its pods have ended, else they are told to leave after it."""
        job["metadata"].setdefault("deletionTimestamp", stamp())
        if policy == "Foreground":
            job["metadata"]["finalizers"] = ["foregroundDeletion"]
        else:
            del self.jobs[job["metadata"]["name"]]
        for pod in self.pods_of(job) if policy != "Orphan" else ():
            self.delete_pod(pod)
        self.changed(job)

    def pods_of(self, job: Object) -> list[Object]:
        name = job["metadata"]["name"]
        return [pod for pod in self.pods.values() if pod["metadata"]["ownerReferences"][0]["name"] == name]

    def _reconcile(self, job: Object) -> None:
        pods, name = self.pods_of(job), job["metadata"]["name"]
        if "deletionTimestamp" in job["metadata"]:
            for pod in pods:
                self.delete_pod(pod)
            if not pods:
                del self.jobs[name]
        elif finished(job):
            if time.time() > self.ended_at[name] + job["spec"].get("ttlSecondsAfterFinished", 1e12):
                self.delete(job)
        elif job["spec"].get("suspend"):
            for pod in pods:
                self.delete_pod(pod)
            if not pods and self._may_enter(job):
                self._resume(job)
        elif pods or job["status"].get("failed"):
            self._conclude(job, pods)
        else:
            self._make_pod(job)

    def _may_enter(self, job: Object) -> bool:
        """Do Kueue's part: admit a Job of a queue while the quota lasts."""
        if QUEUE_LABEL not in job["metadata"]["labels"]:
            return False
        live = [each for each in self.jobs.values() if not finished(each) and not each["spec"].get("suspend")]
        return sum(map(cpus_of, [*live, job])) <= self.quota_cpus + 1e-9

    def _resume(self, job: Object) -> None:
        job["spec"]["suspend"] = False
        job["status"] |= {"startTime": stamp(), "conditions": []}
        self.changed(job)

    def suspend(self, job: Object) -> None:
        """Do what Kueue does to a Job that it pre-empts."""
        job["spec"]["suspend"] = True
        job["status"].pop("startTime", None)
        condition(job, "Suspended", "JobSuspended", "Job suspended")
        self.changed(job)

    def _conclude(self, job: Object, pods: list[Object]) -> None:
        phases = {pod["status"]["phase"] for pod in pods if "deletionTimestamp" not in pod["metadata"]}
        if "Succeeded" in phases:
            condition(job, "Complete", "CompletionsReached", "Reached expected number of succeeded pods")
        elif "Failed" in phases or (job["status"].get("failed") and not pods):
            condition(job, "Failed", "BackoffLimitExceeded", "Job has reached the specified backoff limit")
        else:
            return
        self.ended_at[job["metadata"]["name"]] = time.time()
        self.changed(job)

    def _make_pod(self, job: Object) -> None:
        template, name = job["spec"]["template"], job["metadata"]["name"]
        pod_name = f"{name}-{secrets.token_hex(3)[:5]}"
        owner = {"apiVersion": "batch/v1", "kind": "Job", "name": name, "uid": job["metadata"]["uid"]}
        labels = template["metadata"].get("labels", {}) | {"batch.kubernetes.io/job-name": name}
        meta = {"name": pod_name, "labels": labels, "ownerReferences": [owner], "creationTimestamp": stamp()}
        status = {"phase": "Pending", "conditions": []}
        pod = {"metadata": meta, "spec": dict(template["spec"]), "status": status}
        job["status"].setdefault("startTime", stamp())
        self.pods[pod_name] = pod
        self.changed(pod)

    # Pods

    def delete_pod(self, pod: Object) -> None:
        """Tell a pod to leave; it has its grace for that."""
        if "deletionTimestamp" in pod["metadata"]:
            return
        grace_s = pod["spec"].get("terminationGracePeriodSeconds", 30)
        pod["metadata"] |= {"deletionTimestamp": stamp(time.time() + grace_s), "deletionGracePeriodSeconds": grace_s}
        if pod["metadata"]["name"] in self.nodes.placed and not self._on_lost_node(pod):
            self.nodes.tell_to_leave(pod["metadata"]["name"])
        self.changed(pod)

    def disrupt(self, pod: Object, reason: str, message: str) -> None:
        condition(pod, "DisruptionTarget", reason, message)
        self.delete_pod(pod)

    def preempt(self, pid: int) -> None:
        """Let a pod of a higher priority want the CPU of the pod that a process belongs to, for three seconds."""
        with self.lock:
            pod = self.pods[self.nodes.name_of(pid)]
            self.disrupt(pod, "PreemptionByScheduler", "preempted by a pod of a higher priority")
            node = pod["spec"]["nodeName"]
            self.nodes.start(f"high-{node}", node, 1.0, ["sleep", "3"], {}, self.folder / "high.log")

    def lose_node(self, pid: int) -> None:
        with self.lock:
            self.lost_at[self.nodes.lose(pid)] = time.time()

    def _on_lost_node(self, pod: Object) -> bool:
        return pod["spec"].get("nodeName") in self.lost_at

    def _sync(self, pod: Object) -> None:
        name = pod["metadata"]["name"]
        if self._on_lost_node(pod):
            self._evict_from_lost_node(pod)
        elif name in self.nodes.placed:
            self._sync_started(pod)
        elif "deletionTimestamp" in pod["metadata"]:
            self._remove(pod)
        elif pod["status"]["phase"] == "Pending":
            self._schedule(pod)

    def _evict_from_lost_node(self, pod: Object) -> None:
        """Do the taint manager's part; nobody on the node ever says that the pod has ended, so it stays listed."""
        bears_s = [each["tolerationSeconds"] for each in pod["spec"].get("tolerations", ()) if _bears_loss(each)]
        after_s = NODE_MONITOR_GRACE_S + (bears_s[0] if bears_s else 300)
        lives = pod["status"]["phase"] == "Running" and "deletionTimestamp" not in pod["metadata"]
        if lives and time.time() > self.lost_at[pod["spec"]["nodeName"]] + after_s:
            self.disrupt(pod, "DeletionByTaintManager", "Taint manager: deleting due to NoExecute taint")

    def _sync_started(self, pod: Object) -> None:
        name, status = pod["metadata"]["name"], pod["status"]
        code = self.nodes.exit_code(name)
        if status["phase"] == "Running" and code is None:
            self._bound(pod)
        elif status["phase"] == "Running":
            self._ended(pod, code or 0)
        if code is not None and "deletionTimestamp" in pod["metadata"]:
            self._remove(pod)

    def _bound(self, pod: Object) -> None:
        """End a pod whose deadline or whose grace is over."""
        name, now, limit_s = pod["metadata"]["name"], time.time(), pod["spec"].get("activeDeadlineSeconds", 1e12)
        if now > instant(pod["status"]["startTime"]) + limit_s:
            pod["status"] |= {"reason": "DeadlineExceeded", "message": "Pod was active longer than its deadline"}
            self.nodes.kill(name)
        if "deletionTimestamp" in pod["metadata"] and now >= instant(pod["metadata"]["deletionTimestamp"]):
            self.nodes.kill(name)

    def _ended(self, pod: Object, code: int) -> None:
        reason = "Completed" if code == 0 else "Error"
        pod["status"]["phase"] = "Succeeded" if code == 0 else "Failed"
        set_container(pod, {"terminated": {"exitCode": code, "reason": reason}})
        self.changed(pod)

    def _remove(self, pod: Object) -> None:
        """Forget a pod that was deleted; its Job counts it as failed if it was to go on."""
        name = pod["metadata"]["name"]
        self.nodes.forget(name)
        del self.pods[name]
        job = self.jobs.get(pod["metadata"]["ownerReferences"][0]["name"])
        if job is not None and not job["spec"].get("suspend") and "deletionTimestamp" not in job["metadata"]:
            job["status"]["failed"] = job["status"].get("failed", 0) + 1

    def _schedule(self, pod: Object) -> None:
        cpus = cpus_of({"spec": {"template": pod}})
        node = self.nodes.free(cpus)
        if node is None:
            condition(pod, "PodScheduled", "Unschedulable", "0/2 nodes are available: Insufficient cpu.", "False")
        elif self._mount(pod):
            pod["spec"]["nodeName"] = node
            self._start(pod, node, cpus)
        else:  # the kubelet tries again and again, and says why in events only
            set_container(pod, {"waiting": {"reason": "ContainerCreating"}})
        self.changed(pod)

    def _mount(self, pod: Object) -> bool:
        [container] = pod["spec"]["containers"]
        paths = {each["name"]: Path(each["mountPath"]) for each in container["volumeMounts"]}
        for volume in pod["spec"]["volumes"]:
            path, secret = paths[volume["name"]], volume.get("secret")
            if secret and secret["secretName"] not in self.secrets:
                return False
            path.mkdir(parents=True, exist_ok=True)
            for item in secret["items"] if secret else ():
                (path / item["path"]).write_text(self.secrets[secret["secretName"]][item["key"]])
        return True

    def _start(self, pod: Object, node: str, cpus: float) -> None:
        [container] = pod["spec"]["containers"]
        env = {each["name"]: each["value"] for each in container["env"]}
        words = [expanded(word, env) for word in container["command"]]
        name = pod["metadata"]["name"]
        values = {key: expanded(value, env) for key, value in env.items()}
        self.nodes.start(name, node, cpus, words, values, self.log_of(pod))
        pod["status"] |= {"phase": "Running", "startTime": stamp(), "conditions": []}
        set_container(pod, {"running": {"startedAt": stamp()}})

    def log_of(self, pod: Object) -> Path:
        return self.folder / f"{pod['metadata']['name']}.log"


def condition(item: Object, kind: str, reason: str, message: str, status: str = "True") -> None:
    listed = [each for each in item["status"].get("conditions", []) if each["type"] != kind]
    new = {"type": kind, "status": status, "reason": reason, "message": message, "lastTransitionTime": stamp()}
    item["status"]["conditions"] = [*listed, new]


def finished(job: Object) -> bool:
    return any(each["type"] in ("Complete", "Failed") for each in job["status"].get("conditions", ()))


def set_container(pod: Object, state: Object) -> None:
    [container] = pod["spec"]["containers"]
    pod["status"]["containerStatuses"] = [{"name": container["name"], "image": container["image"], "state": state}]


def cpus_of(job: Object) -> float:
    [container] = job["spec"]["template"]["spec"]["containers"]
    asked = str(container["resources"]["requests"]["cpu"])
    return float(asked[:-1]) / 1000 if asked.endswith("m") else float(asked)


def expanded(text: str, env: dict[str, str]) -> str:
    """Put variables in the place of $(NAME), as Kubernetes does; $$ is a dollar."""

    def one(found: re.Match[str]) -> str:
        return "$" if found[0] == "$$" else env.get(found[1], found[0])

    return re.sub(r"\$\$|\$\(([A-Za-z_][A-Za-z0-9_]*)\)", one, text)


def _bears_loss(toleration: Object) -> bool:
    return toleration.get("key") == "node.kubernetes.io/unreachable" and "tolerationSeconds" in toleration
