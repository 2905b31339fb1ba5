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

import httpx

from flows.runners.back_ends.interface import LOG_BYTES, BackEndError, Order
from flows.runners.back_ends.launch import Launch
from flows.steps.orders import Phase, Seen

TIMEOUT_S = 30.0
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
        self._launch, self._settings = launch, settings
        # No proxy of this machine's environment: the token must reach the cluster and nobody else.
        self._http = httpx.Client(base_url=settings.address, timeout=TIMEOUT_S, trust_env=False)

    def submit(self, order: Order) -> None:
        answer = self._ask("POST", "/api/jobs/", json=job_of(order, self._launch))
        if answer.is_success or self._find(order.name) is not None:
            return
        raise BackEndError(f"Ray refuses {order.name}: {answer.status_code} {_last_line(answer.text)}")

    def see(self, names: Collection[str]) -> Mapping[str, Seen]:
        found = {name: self._find(name) for name in names}
        return {name: seen_of(told) for name, told in found.items() if told is not None}

    def _find(self, name: str) -> dict[str, Any] | None:
        answer = self._ask("GET", _path(name))
        if answer.status_code == NOT_FOUND:
            return None
        if not answer.is_success:
            raise BackEndError(f"Ray does not tell of {name}: {answer.status_code} {_last_line(answer.text)}")
        return _read(answer)

    def cancel(self, name: str) -> None:
        if self._find(name) is not None:
            self._ask("POST", f"{_path(name)}/stop")

    def logs(self, name: str) -> str:
        answer = self._ask("GET", f"{_path(name)}/logs")
        if answer.status_code == NOT_FOUND:
            return ""
        if not answer.is_success:
            raise BackEndError(f"Ray has no logs of {name}: {answer.status_code} {_last_line(answer.text)}")
        return str(_read(answer).get("logs") or "")[-LOG_BYTES:]

    def close(self) -> None:
        self._http.close()

    def _ask(self, method: str, path: str, **values: Any) -> httpx.Response:
        try:
            return self._http.request(method, path, headers=self._headers(), **values)
        except (httpx.HTTPError, httpx.InvalidURL, OSError, ValueError) as error:
            raise BackEndError(f"Ray at {self._settings.address}: {type(error).__name__}: {error}") from error

    def _headers(self) -> dict[str, str]:
        file = self._settings.auth_token_file
        return {"Authorization": f"Bearer {file.read_text().strip()}"} if file else {}


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
    return Seen(PHASES.get(status, Phase.GONE), f"Ray says {status}: {_last_line(message)}")


def _read(answer: httpx.Response) -> dict[str, Any]:
    """Return an answer's object; whatever else came, a proxy may have said it in Ray's place."""
    try:
        told = answer.json()
    except ValueError:
        told = None
    if not isinstance(told, dict):
        raise BackEndError(f"not an answer of Ray: {_last_line(answer.text)}")
    return told


def _path(name: str) -> str:
    return f"/api/jobs/{quote(name, safe='')}"


def _last_line(text: str) -> str:
    lines = text.strip().splitlines()
    return lines[-1][-300:] if lines else ""
