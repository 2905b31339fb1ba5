"""An orchestrator that remembers what it was asked for, and a Prefect API small enough to read."""

from dataclasses import dataclass, field
from typing import Any

import httpx

from control_plane.kit.errors import Unavailable


@dataclass
class FakeOrchestrator:
    down: bool = False
    submitted: dict[str, dict[str, Any]] = field(default_factory=dict)
    states: dict[str, str] = field(default_factory=dict)

    async def submit(self, flow: str, params: dict[str, Any], key: str) -> str:
        if self.down:
            raise Unavailable("it is down")
        self.submitted.setdefault(key, {"flow": flow, **params})
        self.states.setdefault(key, "RUNNING")
        return key

    async def get(self, orchestrator_id: str) -> str | None:
        return self.states.get(orchestrator_id)

    async def cancel(self, orchestrator_id: str) -> None:
        if orchestrator_id in self.states:
            self.states[orchestrator_id] = "CANCELLED"

    async def list(self) -> list[str]:
        return [key for key, state in self.states.items() if state == "RUNNING"]

    async def close(self) -> None:
        """Nothing is open."""


@dataclass
class FakePrefect:
    """The four REST calls that are made of Prefect, as Prefect 3 answers them."""

    runs: dict[str, dict[str, Any]] = field(default_factory=dict)
    answer: httpx.Response | None = None

    def handle(self, request: httpx.Request) -> httpx.Response:
        if self.answer is not None:
            return self.answer
        path = request.url.path.removeprefix("/api/")
        body = httpx.Response(200, content=request.content or b"null").json()
        if path.startswith("deployments/name/"):
            known = path in ("deployments/name/loop/fleetloop", "deployments/name/sleep/fleetloop")
            return httpx.Response(200, json={"id": "d1"}) if known else httpx.Response(404, json={"detail": "none"})
        if path == "deployments/d1/create_flow_run":
            key = body["idempotency_key"]
            made = self.runs.setdefault(key, {"id": f"404-{len(self.runs)}", "state_type": "SCHEDULED", **body})
            return httpx.Response(201, json=made)
        if path == "flow_runs/filter":
            wanted = body["flow_runs"]["state"]["type"]["any_"]
            return httpx.Response(200, json=[run for run in self.runs.values() if run["state_type"] in wanted])
        run = next((run for run in self.runs.values() if path.split("/")[1] == run["id"]), None)
        if run is None:
            return httpx.Response(404, json={"detail": "Flow run not found"})
        if path.endswith("/set_state"):
            run["state_type"] = body["state"]["type"]
            return httpx.Response(201, json={"status": "ACCEPT"})
        return httpx.Response(200, json=run)
