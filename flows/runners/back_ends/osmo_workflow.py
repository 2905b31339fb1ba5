"""An OSMO workflow of one task for an order, and what one's status says of its order: pure functions.

Written from OSMO's documentation and source (6.3 and 6.4); no OSMO was there to run it against.
"""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import yaml

from flows.runners.back_ends.interface import BackEndError, Order
from flows.runners.back_ends.kubernetes_job import LABEL, legal_name
from flows.runners.back_ends.launch import Launch
from flows.steps.orders import Phase, Seen

TASK = "order"
MIB = 1 << 20
PHASES = {"PENDING": Phase.WAITING, "WAITING": Phase.WAITING, "RUNNING": Phase.RUNNING}
TEMPLATE = re.compile(r"\{\{|\{%|\{#|\$\(")
STOPPED = {"FAILED_EXEC_TIMEOUT", "FAILED_QUEUE_TIMEOUT", "FAILED_SUBMISSION"}


@dataclass(frozen=True, slots=True)
class WorkflowSettings:
    """What a pool's workflows have in common.

    `credential` is a generic credential of OSMO that holds the control plane's token under `credential_key`: OSMO puts
    it into the task's environment by itself and masks it in logs. `queue_s` is how long a task may wait for a node.
    """

    pool: str
    image: str
    credential: str
    credential_key: str = "token"
    platform: str | None = None
    priority: str = "NORMAL"
    storage_gib: int = 20
    memory_gib: int = 4
    queue_s: int = 86400


def workflow_of(order: Order, launch: Launch, settings: WorkflowSettings) -> str:
    """Return the specification of an order's workflow, as YAML.

    Raises:
        BackEndError: a value would be read as a template.
    """
    name = legal_name(order.name)
    task = {
        "name": TASK,
        "image": order.image or settings.image,
        "command": launch.argv(order),
        "environment": launch.environment(),
        "credentials": {settings.credential: {"FLEETLOOP_TOKEN": settings.credential_key}},
        "resource": "default",
    }
    timeout = {"exec_timeout": f"{math.ceil(order.limit_s)}s", "queue_timeout": f"{settings.queue_s}s"}
    workflow = {
        "name": name,
        "labels": {LABEL: name},
        "timeout": timeout,
        "resources": {"default": _resources(order, settings)},
        "tasks": [task],
    }
    text = yaml.safe_dump({"version": 2, "workflow": workflow}, sort_keys=False)
    if found := TEMPLATE.search(text):
        raise BackEndError(f"OSMO or Kubernetes would put something in the place of {found[0]!r} in {order.name}")
    return text


def _resources(order: Order, settings: WorkflowSettings) -> dict[str, Any]:
    resources = {
        "cpu": math.ceil(order.cpus),
        "memory": _memory(order, settings),
        "storage": f"{settings.storage_gib}Gi",
        "gpu": math.ceil(order.gpus),
        "platform": settings.platform,
    }
    return {name: amount for name, amount in resources.items() if amount}


def _memory(order: Order, settings: WorkflowSettings) -> str:
    return f"{math.ceil(order.memory_bytes / MIB)}Mi" if order.memory_bytes else f"{settings.memory_gib}Gi"


def order_of(workflow_id: str) -> str:
    """Return the legal name of the order that a workflow runs: OSMO adds a number to the name that was asked for."""
    return re.sub(r"-\d+$", "", workflow_id)


def seen_of(told: Mapping[str, Any]) -> Seen:
    """Read an entry of OSMO's list; a status it does not have yet is taken for one that ended."""
    status = str(told.get("status"))
    phase = PHASES.get(status, Phase.STOPPED if status in STOPPED else Phase.GONE)
    return Seen(phase, f"OSMO says {status} of {told.get('name')}")
