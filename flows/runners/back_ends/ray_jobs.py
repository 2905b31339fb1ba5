"""Ray: an order is a job of Ray's job submission API, spoken over HTTP, so that Ray itself need not be installed here.

- A submission id is the order's name; Ray refuses a second job of it, which makes submission idempotent.
- Asked for CPUs, Ray starts the job where they are, on whichever node, and not on the head.
- Ray keeps jobs in its head. A head that was started anew knows none: the ledger's lease then decides.
- Each cluster has a token of its own in a file of its own (`RAY_AUTH_TOKEN_PATH` on its nodes); it is read for every
  call, so it can be changed while we run.
"""

import shlex
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

from flows.runners.back_ends.http import Caller, last_line
from flows.runners.back_ends.interface import LOG_BYTES, BackEndError, Order
from flows.runners.back_ends.launch import Launch
from flows.steps.orders import Phase, Seen

NOT_FOUND = 404
PHASES = {"PENDING": Phase.WAITING, "RUNNING": Phase.RUNNING}


@dataclass(frozen=True, slots=True)
class RaySettings:
    """`address` is the dashboard's, e.g. http://head:8265; `auth_token_file` holds this cluster's token."""

    address: str
    auth_token_file: Path | None = None


class RayBackEnd:
    runs_images = False

    def __init__(self, launch: Launch, settings: RaySettings) -> None:
        self._launch, self._token_file = launch, settings.auth_token_file
        self._api = Caller("Ray", settings.address, self._token)

    def submit(self, order: Order) -> None:
        answer = self._api.ask("POST", "/api/jobs/", json=job_of(order, self._launch))
        if not answer.ok and self._find(order.name) is None:
            raise BackEndError(f"Ray refuses {order.name}: {answer.status} {answer.last_line}")

    def see(self, names: Collection[str]) -> Mapping[str, Seen]:
        found = {name: self._find(name) for name in names}
        return {name: seen_of(told) for name, told in found.items() if told is not None}

    def cancel(self, name: str) -> None:
        if self._find(name) is not None:
            self._api.ask("POST", f"{_path(name)}/stop")

    def logs(self, name: str) -> str:
        told = self._told(f"{_path(name)}/logs", f"has no logs of {name}")
        return str((told or {}).get("logs") or "")[-LOG_BYTES:]

    def close(self) -> None:
        self._api.close()

    def _find(self, name: str) -> dict[str, Any] | None:
        return self._told(_path(name), f"does not tell of {name}")

    def _told(self, path: str, otherwise: str) -> dict[str, Any] | None:
        """Return what Ray tells of a job, or None if it knows none."""
        answer = self._api.ask("GET", path)
        if answer.status == NOT_FOUND:
            return None
        if not answer.ok:
            raise BackEndError(f"Ray {otherwise}: {answer.status} {answer.last_line}")
        return answer.read()

    def _token(self) -> str | None:
        return self._token_file.read_text().strip() if self._token_file else None


def job_of(order: Order, launch: Launch) -> dict[str, Any]:
    """Return the body of a submission; the token is not in it, for the dashboard shows all of it."""
    return {
        "entrypoint": f"exec {shlex.join(launch.argv(order))}",
        "submission_id": order.name,
        "metadata": {"fleetloop_key": order.key},
        "runtime_env": {"env_vars": launch.environment()},
        "entrypoint_num_cpus": order.cpus,
        "entrypoint_num_gpus": order.gpus,
        "entrypoint_memory": order.memory_bytes,
    }


def seen_of(told: Mapping[str, Any]) -> Seen:
    """Read what Ray tells of a job; a status it does not have yet is taken for one that ended."""
    status, message = str(told.get("status")), str(told.get("message") or "")
    return Seen(PHASES.get(status, Phase.GONE), f"Ray says {status}: {last_line(message)}")


def _path(name: str) -> str:
    return f"/api/jobs/{quote(name, safe='')}"
