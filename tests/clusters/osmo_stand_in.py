"""Stand-in for NVIDIA OSMO's service: the calls that the back end makes, as OSMO's documentation and source have them.

Not OSMO: no OSMO could be had where this was written. Tasks are real processes of this machine on two nodes; there are
no images, no data transfers and no pools but one.
"""

import re
import secrets
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from tests.clusters.stand_in_http import Refusals, Reply, Request, served, ticking
from tests.clusters.stand_in_nodes import Nodes

POOL = "robots"
GRACE_S = 5.0
HEARTBEAT_S = 2.0
"""After which silence of a node its tasks are given up."""
ALIVE = ("PENDING", "WAITING", "RUNNING")
LABEL = re.compile(r"(?P<key>[^=]+)=(?:\((?P<many>[^()]+)\)|(?P<one>[^()]+))")
TIME = re.compile(r"(\d+)([smhd])")
UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
WORKFLOW = {"name", "pool", "labels", "timeout", "resources", "tasks", "groups"}
TASK = {"name", "image", "lead", "command", "args", "environment", "credentials", "inputs", "outputs", "files"} | {
    "resource", "volumeMounts", "exitActions", "checkpoint", "privileged", "hostNetwork",
}  # fmt: skip


@dataclass
class Workflow:
    name: str
    spec: dict[str, Any]
    submitted_at: float
    status: str = "PENDING"
    started_at: float | None = None
    leaves_at: float | None = None
    node: str | None = None
    then: str = ""

    @property
    def task(self) -> dict[str, Any]:
        [task] = self.spec["tasks"]
        found: dict[str, Any] = task
        return found


@dataclass
class Osmo:
    """The stand-in as tests know it: one account's access token, and the credentials that it has set."""

    address: str
    folder: Path
    token_file: Path
    nodes: Nodes = field(default_factory=Nodes)
    workflows: dict[str, Workflow] = field(default_factory=dict)
    credentials: dict[str, dict[str, str]] = field(default_factory=dict)
    short: set[str] = field(default_factory=set)
    refusals: Refusals = field(default_factory=Refusals)
    knows_labels: bool = True
    """Services before 6.4 do not, and list whatever else fits."""
    asked: list[str] = field(default_factory=list)
    lost_at: dict[str, float] = field(default_factory=dict)
    lock: threading.RLock = field(default_factory=threading.RLock)

    def answer(self, request: Request) -> Reply:
        with self.lock:
            self.asked.append(f"{request.method} {request.path}")
            return self.refusals.next_for(request) or self._route(request)

    def _route(self, request: Request) -> Reply:
        if request.path == "/api/auth/jwt/access_token":
            return self._sign_in(request)
        if request.token not in self.short:
            return Reply(401, {"message": "Jwt is missing or expired"})
        if request.method == "POST" and request.path.startswith("/api/pool/"):
            return self._submit(request)
        if request.path == "/api/workflow":
            return self._list(request.query)
        found = re.fullmatch(r"/api/workflow/([^/]+)/(cancel|logs)", request.path)
        workflow = self.workflows.get(found[1]) if found else None
        if found is None or workflow is None:
            return Reply(404, {"message": f"{request.path} is not found", "error_code": "NOT_FOUND"})
        return self._cancel(workflow) if found[2] == "cancel" else self._logs(workflow, request.query)

    def _sign_in(self, request: Request) -> Reply:
        if request.json()["token"] != self.token_file.read_text():
            return Reply(400, {"message": "Access Token is invalid", "error_code": "USER"})
        token = secrets.token_hex(16)
        self.short.add(token)
        return Reply(200, {"token": token, "expires_at": time.time() + 600, "error": None})

    def _submit(self, request: Request) -> Reply:
        if request.path != f"/api/pool/{POOL}/workflow":
            return Reply(403, {"message": "the pool is not yours", "error_code": "USER"})
        spec = yaml.safe_load(request.json()["file"])["workflow"]
        wrong = self._wrong(spec)
        if wrong:
            return Reply(400, {"message": wrong, "error_code": "USAGE"})
        name = f"{spec['name']}-{1 + sum(each.spec['name'] == spec['name'] for each in self.workflows.values())}"
        self.workflows[name] = Workflow(name, spec, time.time())
        return Reply(200, {"name": name, "overview": f"{self.address}/workflows/{name}", "warnings": []})

    def _wrong(self, spec: dict[str, Any]) -> str:
        """Say what the documented specification does not have, or does not have so."""
        unknown = set(spec) - WORKFLOW | {key for task in spec["tasks"] for key in set(task) - TASK}
        if unknown:
            return f"extra fields not permitted: {sorted(unknown)}"
        if not all(TIME.fullmatch(each) for each in spec.get("timeout", {}).values()):
            return f"timeout must be <integer><unit>: {spec['timeout']}"
        sizes = [str(spec["resources"]["default"][key]) for key in ("memory", "storage")]
        if not all(re.fullmatch(r"\d+(Ki|Mi|Gi|Ti)", each) for each in sizes):
            return f"resources are in binary units: {sizes}"
        missing = set(spec["tasks"][0].get("credentials", {})) - set(self.credentials)
        return f"Credential {sorted(missing)} does not exist" if missing else ""

    def _list(self, query: dict[str, str]) -> Reply:
        label = LABEL.fullmatch(query.get("label", "none=none"))
        assert label is not None, query
        wanted = (label["many"] or label["one"]).split("|")
        fitting = [
            each
            for each in sorted(self.workflows.values(), key=lambda one: -one.submitted_at)
            if (not self.knows_labels or each.spec["labels"].get(label["key"]) in wanted)
            and query.get("name", "") in each.name
        ]
        start, limit = int(query.get("offset", 0)), int(query.get("limit", 20))
        page = fitting[start : start + limit]
        entries = [{"name": each.name, "status": each.status, "pool": POOL} for each in page]
        return Reply(200, {"workflows": entries, "more_entries": len(fitting) > start + limit})

    def _cancel(self, workflow: Workflow) -> Reply:
        if workflow.status not in ALIVE:
            return Reply(400, {"message": f"Workflow {workflow.name} is already finished.", "error_code": "USER"})
        self.end(workflow, "FAILED_CANCELED")
        return Reply(200, {"name": workflow.name})

    def _logs(self, workflow: Workflow, query: dict[str, str]) -> Reply:
        file = self.folder / f"{workflow.name}.log"
        lines = file.read_bytes().splitlines(keepends=True) if file.exists() else []
        head = f"2026/11/27 12:00:00 [{query['task_name']}] ".encode()
        return Reply(200, b"".join(head + line for line in lines[-int(query["last_n_lines"]) :]))

    def end(self, workflow: Workflow, then: str) -> None:
        """Tell a workflow's task to leave; after its grace it is killed."""
        if workflow.status == "RUNNING":
            workflow.then, workflow.leaves_at = then, time.time() + GRACE_S
            self.nodes.tell_to_leave(workflow.name)
        else:
            workflow.status = then

    def preempt(self, pid: int) -> None:
        """Let a workflow of a higher priority want the CPU of the task that a process belongs to, for three seconds."""
        with self.lock:
            workflow = self.workflows[self.nodes.name_of(pid)]
            self.end(workflow, "FAILED_PREEMPTED")
            node = workflow.node or ""
            self.nodes.start(f"high-{node}", node, 1.0, ["sleep", "3"], {}, self.folder / "high.log")

    def lose_node(self, pid: int) -> None:
        with self.lock:
            self.lost_at[self.nodes.lose(pid)] = time.time()

    def tick(self) -> None:
        with self.lock:
            for workflow in self.workflows.values():
                if workflow.status in ("PENDING", "WAITING"):
                    self._schedule(workflow)
                elif workflow.status == "RUNNING":
                    self._watch(workflow)

    def _schedule(self, workflow: Workflow) -> None:
        cpus = float(workflow.spec["resources"]["default"]["cpu"])
        node = self.nodes.free(cpus)
        if node is None:
            return
        task, env = workflow.task, dict(workflow.task["environment"])
        for name, keys in task.get("credentials", {}).items():
            env |= {variable: self.credentials[name][key] for variable, key in keys.items()}
        log = self.folder / f"{workflow.name}.log"
        self.nodes.start(workflow.name, node, cpus, [*task["command"], *task.get("args", ())], env, log)
        workflow.status, workflow.node, workflow.started_at = "RUNNING", node, time.time()

    def _watch(self, workflow: Workflow) -> None:
        now, name = time.time(), workflow.name
        if workflow.node in self.lost_at:
            if now > self.lost_at[workflow.node] + HEARTBEAT_S:
                workflow.status = "FAILED_BACKEND_ERROR"
            return
        code = self.nodes.exit_code(name)
        if code is not None:
            workflow.status = workflow.then or ("COMPLETED" if code == 0 else "FAILED")
        elif workflow.leaves_at and now > workflow.leaves_at:
            self.nodes.kill(name)
        elif now > (workflow.started_at or now) + _seconds(workflow.spec["timeout"]["exec_timeout"]):
            workflow.then = "FAILED_EXEC_TIMEOUT"
            self.nodes.kill(name)


def _seconds(text: str) -> int:
    found = TIME.fullmatch(text)
    assert found is not None, text
    return int(found[1]) * UNITS[found[2]]


@contextmanager
def osmo_stand_in(folder: Path) -> Iterator[Osmo]:
    made = Osmo("", folder, folder / "access-token")
    made.token_file.write_text(secrets.token_hex(16))
    try:
        with served(made.answer) as address, ticking(made.tick):
            made.address = address
            yield made
    finally:
        made.nodes.close()
