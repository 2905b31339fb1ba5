"""Suites and results as a workload writes them."""

import json
from typing import Any

from agents.protocol.v1 import digest_of
from tests.support.registry import upload
from tests.support.server import Server

SIMULATOR = "sim-1"


async def make_suite(server: Server, size: int = 40, name: str = "nominal", **changes: Any) -> dict[str, Any]:
    body = {
        "schema": "fleetloop.suite/v1",
        "workload": "test",
        "suite": name,
        "kind": "nominal",
        "simulator": SIMULATOR,
        "scenarios": [{"id": f"s{n}", "seed": n, "cluster": "", "tags": ["easy"]} for n in range(size)],
    } | changes
    file = await upload(server, json.dumps(body).encode())
    suite: dict[str, Any] = await server.ok("POST", "/suites", json={"model": "times", "file": file})
    return suite


def line(model_sha256: str, number: int, incident: float = 0.0, **changes: Any) -> dict[str, Any]:
    plain = {
        "suite": "nominal",
        "scenario": f"s{number}",
        "seed": number,
        "cluster": "",
        "model_sha256": model_sha256,
        "simulator": SIMULATOR,
        "status": "ok",
        "metrics": {"incident": incident},
    } | changes
    return plain | {"evidence_sha256": digest_of(plain)}


def onnx_of(version: dict[str, Any]) -> str:
    return next(str(f["sha256"]) for f in version["content"]["files"] if f["path"] == "model.onnx")


async def add(server: Server, evaluation: str, lines: list[dict[str, Any]]) -> Any:
    file = await upload(server, b"\n".join(json.dumps(item).encode() for item in lines))
    body = {"job_key": "job", "file": file}
    return await server.call("POST", f"/evaluations/{evaluation}/results", json=body)


async def evaluate(
    server: Server, version: dict[str, Any], suite: dict[str, Any], incidents: set[int], upto: int | None = None
) -> dict[str, Any]:
    """Evaluate a version over the first `upto` scenarios, with incidents in these."""
    body = {"content_digest": version["content_digest"], "suite": suite["digest"]}
    made = await server.ok("POST", "/evaluations", json=body)
    numbers = range(suite["scenarios"] if upto is None else upto)
    answer = await add(server, made["id"], [line(onnx_of(version), n, float(n in incidents)) for n in numbers])
    assert answer.status_code == 201, answer.text
    evaluation: dict[str, Any] = answer.json()
    return evaluation


async def judge(
    server: Server, candidate: dict[str, Any], champion: dict[str, Any] | None, *suites: dict[str, Any], **more: Any
) -> dict[str, Any]:
    body = {
        **more,
        "model": "times",
        "candidate": candidate["content_digest"],
        "champion": champion["content_digest"] if champion else None,
        "suites": [suite["digest"] for suite in suites],
    }
    gate: dict[str, Any] = await server.ok("POST", "/gates", json=body)
    return gate
