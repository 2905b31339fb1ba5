"""An orchestrator that remembers what it was asked for, and a Prefect API small enough to read."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

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
    """The REST calls that are made of Prefect, as Prefect 3 answers them; `answer` overrides them all."""

    runs: dict[str, dict[str, Any]] = field(default_factory=dict)
    answer: tuple[int, bytes] | None = None

    def handle(self, path: str, body: Any) -> tuple[int, Any]:
        if path.startswith("deployments/name/"):
            return (200, {"id": "d1"}) if path == "deployments/name/loop/fleetloop" else (404, {"detail": "none"})
        if path == "deployments/d1/create_flow_run":
            made = {"id": f"404-{len(self.runs)}", "state_type": "SCHEDULED", **body}
            return 201, self.runs.setdefault(body["idempotency_key"], made)
        if path == "flow_runs/filter":
            wanted = body["flow_runs"]["state"]["type"]["any_"]
            return 200, [run for run in self.runs.values() if run["state_type"] in wanted]
        return self._run(path, body)

    def _run(self, path: str, body: Any) -> tuple[int, Any]:
        run = next((run for run in self.runs.values() if path.split("/")[1] == run["id"]), None)
        if run is None:
            return 404, {"detail": "Flow run not found"}
        if path.endswith("/set_state"):
            run["state_type"] = body["state"]["type"]
            return 201, {"status": "ACCEPT"}
        return 200, run

    @contextmanager
    def serve(self) -> Iterator[str]:
        """Answer on a free port, in a thread; give the URL of the API."""
        fake = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                data = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                if fake.answer is None:
                    status, plain = fake.handle(self.path.removeprefix("/api/"), json.loads(data or b"null"))
                    content = json.dumps(plain).encode()
                else:
                    status, content = fake.answer
                self.send_response(status)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            do_POST = do_GET  # noqa: N815 - named by http.server

            def log_message(self, *_: Any) -> None:
                """Say nothing."""

        with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
            thread = threading.Thread(target=server.serve_forever, args=(0.02,))
            thread.start()
            yield f"http://127.0.0.1:{server.server_address[1]}/api"
            server.shutdown()
            thread.join()
