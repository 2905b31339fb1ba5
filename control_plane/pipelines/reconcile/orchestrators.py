"""Adapters of the Orchestrator port: Prefect over its REST API, or a child process for each run."""

import asyncio
import json
import os
import sys
from typing import Any

import httpx

from control_plane.kit.errors import Unavailable

DEPLOYMENT = "fleetloop"
CLOSE_S = 5.0


class PrefectOrchestrator:
    """Creates flow runs of the deployment FLOW/fleetloop; imports nothing of Prefect."""

    def __init__(self, api_url: str) -> None:
        self._client = httpx.AsyncClient(base_url=api_url.rstrip("/") + "/", timeout=10)

    async def submit(self, flow: str, params: dict[str, Any], key: str) -> str:
        found = await self._call("GET", f"deployments/name/{flow}/{DEPLOYMENT}")
        body = {
            "parameters": params,
            "idempotency_key": key,
            "name": f"{params['run_id']}-{params['attempt']}",
            "state": {"type": "SCHEDULED"},
        }
        made = await self._call("POST", f"deployments/{found['id']}/create_flow_run", body)
        return str(made["id"])

    async def get(self, orchestrator_id: str) -> str | None:
        found = await self._call("GET", f"flow_runs/{orchestrator_id}", missing_ok=True)
        return None if found is None else str(found["state_type"])

    async def cancel(self, orchestrator_id: str) -> None:
        await self._call("POST", f"flow_runs/{orchestrator_id}/set_state", {"state": {"type": "CANCELLING"}})

    async def list(self) -> list[str]:
        body = {"flow_runs": {"state": {"type": {"any_": ["SCHEDULED", "PENDING", "RUNNING"]}}}, "limit": 200}
        return [str(run["id"]) for run in await self._call("POST", "flow_runs/filter", body)]

    async def close(self) -> None:
        await self._client.aclose()

    async def _call(
        self, method: str, path: str, body: dict[str, Any] | None = None, *, missing_ok: bool = False
    ) -> Any:
        try:
            answer = await self._client.request(method, path, json=body)
            if missing_ok and answer.status_code == 404:
                return None
            answer.raise_for_status()
            return answer.json() if answer.content else None
        except (httpx.HTTPError, ValueError) as error:  # a proxy in between may answer anything
            raise Unavailable(f"Prefect does not answer: {error!r}") from error


class SubprocessOrchestrator:
    """Starts `python -m flows.run` for each run: no server needed, no history kept."""

    def __init__(self, environment: dict[str, str] | None = None) -> None:
        self._environment = os.environ | (environment or {})
        self._children: dict[str, asyncio.subprocess.Process] = {}

    async def submit(self, flow: str, params: dict[str, Any], key: str) -> str:
        if key not in self._children:
            self._children[key] = await asyncio.create_subprocess_exec(
                sys.executable,
                "-m",
                "flows.run",
                flow,
                "--params",
                json.dumps(params),
                env=self._environment,
            )
        return key

    async def get(self, orchestrator_id: str) -> str | None:
        child = self._children.get(orchestrator_id)
        if child is None:
            return None
        if child.returncode is None:
            return "RUNNING"
        return "COMPLETED" if child.returncode == 0 else "FAILED"

    async def cancel(self, orchestrator_id: str) -> None:
        child = self._children.get(orchestrator_id)
        if child is not None and child.returncode is None:
            child.terminate()

    async def list(self) -> list[str]:
        return [key for key, child in self._children.items() if child.returncode is None]

    async def close(self) -> None:
        """End what still runs and see it off; who does not go when asked is killed."""
        for key in await self.list():
            await self.cancel(key)
            child = self._children[key]
            try:
                await asyncio.wait_for(child.wait(), CLOSE_S)
            except TimeoutError:
                child.kill()
                await child.wait()


class NoOrchestrator:
    """For installations where nobody starts flows: requests wait."""

    async def submit(self, flow: str, params: dict[str, Any], key: str) -> str:
        raise Unavailable(f"no orchestrator is configured, so {flow} {key} of {len(params)} parameters waits")

    async def get(self, orchestrator_id: str) -> str | None:
        del orchestrator_id
        return None

    async def cancel(self, orchestrator_id: str) -> None:
        del orchestrator_id

    async def list(self) -> list[str]:
        return []

    async def close(self) -> None:
        """Nothing is open."""
