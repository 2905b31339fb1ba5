"""One trace from a device's telemetry to the command of a job: through server, outbox, run, flow and wrapper."""

import asyncio
import itertools
import json
import logging
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from agents.link.client import new_traceparent
from control_plane import worker
from control_plane.client import Client
from control_plane.factory.schemas import ClusterPut, JobItem
from control_plane.kit import observability, outbox, tracing
from control_plane.kit.roles import Role
from control_plane.pipelines.reconcile import tick
from flows.runners.loop import Do, run_flow
from flows.runners.session import RunSession
from flows.runners.workload import Command
from tests.support.collector import Collector, collecting
from tests.support.device import enrol, event
from tests.support.live import Live, serve
from tests.support.orchestrator import FakeOrchestrator
from tests.support.registry import put_model
from tests.support.rows import select

pytest.importorskip("opentelemetry.sdk", reason="OpenTelemetry is not here: pip install 'fleetloop[otel]'")
WRITE = (
    "import os, json, pathlib; wanted = ('TRACE', 'OTEL', 'BAGGAGE');"
    "kept = {k: v for k, v in os.environ.items() if k.startswith(wanted)};"
    "pathlib.Path('outputs/env.json').write_text(json.dumps(kept))"
)


@pytest.fixture
def collector(monkeypatch: pytest.MonkeyPatch) -> Iterator[Collector]:
    with collecting() as made:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", made.url)
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_HEADERS", "authorization=secret")
        monkeypatch.setenv("BAGGAGE", "who=me")
        assert tracing.start("fleetloop-test")
        yield made
        tracing.stop()


def body(run: RunSession, do: Do) -> dict[str, Any]:
    command = Command(run=["python", "-c", WRITE], timeout_s=30)
    job: JobItem = do("look", lambda: run.run_job("look", command, {}, {}))
    assert job.outputs is not None
    return {"env": job.outputs["env.json"].sha256}


async def asked_for(live: Live, traceparent: str) -> dict[str, Any]:
    """Let a device tell of a collision, and return what the orchestrator is then asked for."""
    server, orchestrator = live.server, FakeOrchestrator()
    await put_model(server)
    pipeline = {"flow": "loop", "model": "times", "params": {"workload": "warehouse_amr"}, "trigger": {"min_events": 1}}
    await server.ok("PUT", "/pipelines/p", json=pipeline)
    device = await enrol(server)
    batch = {"stream_id": "s1", "windows": [], "events": [event(0)]}
    sent = await device.send("POST", "telemetry", json.dumps(batch).encode(), traceparent=traceparent, baggage="a=b")
    assert sent.is_success, sent.text
    for _ in range(2):  # one turn asks for the run, the next hands it over
        await tick(server.context, orchestrator)
    await outbox.dispatch(server.context.database, worker.handlers_of(server.context))
    [asked] = orchestrator.submitted.values()
    return asked


async def test_one_trace_from_a_device_to_a_jobs_command(
    database_url: str, tmp_path: Path, collector: Collector, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent = new_traceparent(sampled=True)
    trace_id, device_span = sent[3:35], sent[36:52]
    async with serve(database_url, tmp_path / "server") as live:
        client = live.client()
        await asyncio.to_thread(client.put_cluster, "local", ClusterPut(backend="local", usd_per_hour=1, watts=1))
        asked = await asked_for(live, sent)
        assert asked["traceparent"][3:35] == trace_id
        monkeypatch.setenv("FLEETLOOP_TOKEN", live.server.tokens[Role.PIPELINE])
        monkeypatch.setenv("FLEETLOOP_HOME", str(tmp_path / "runner"))
        result = await asyncio.to_thread(
            run_flow, body, asked["run_id"], asked["attempt"], asked["params"], live.url, None, asked["traceparent"]
        )
        env = await asyncio.to_thread(read_output, client, result["env"], tmp_path / "env.json")
        [job] = await select(live.server, "select traceparent from factory_job")
        client.close()
    tracing.stop()
    request = collector.one("POST /device/v1/telemetry", trace_id)
    assert request.parent_span_id.hex() == device_span
    assert collector.one("outbox telemetry.traced", trace_id).parent_span_id == request.span_id
    chain = ["POST /device/v1/telemetry", "pipeline ask", "run submit", "run", "step look", "POST /api/v1/jobs", "job"]
    spans = [collector.one(name, trace_id) for name in chain]
    for above, below in itertools.pairwise(spans):
        assert below.parent_span_id == above.span_id, (above.name, below.name)
    wrapper = spans[-1]
    assert job["traceparent"][36:52] == spans[-2].span_id.hex()
    assert env == {"TRACEPARENT": f"00-{trace_id}-{wrapper.span_id.hex()}-01"} | {
        "OTEL_EXPORTER_OTLP_ENDPOINT": collector.url
    }, "a command hears of its trace, and of no password and no baggage"
    finish = collector.one("POST /api/v1/jobs/{key}/finish", trace_id)
    assert finish.parent_span_id == wrapper.span_id
    assert collector.services == {"fleetloop-test"}


def read_output(client: Client, sha256: str, path: Path) -> Any:
    client.download(sha256, path)
    return json.loads(path.read_text())


@pytest.mark.parametrize(
    "hostile", ["", "00", "x" * 5000, f"00-{'0' * 32}-{'1' * 16}-01", f"00-{'a' * 32}-{'0' * 16}-01", "ff-" + "a" * 52]
)
async def test_hostile_traceparents_begin_a_trace_of_our_own(
    database_url: str, tmp_path: Path, collector: Collector, hostile: str
) -> None:
    async with serve(database_url, tmp_path) as live:
        assert (await live.server.http.get("/api/openapi.json", headers={"traceparent": hostile})).is_success
    tracing.stop()
    [span] = [span for span in collector.spans if span.name == "GET /api/openapi.json"]
    assert span.parent_span_id == b""


async def test_what_a_device_does_not_want_kept_is_not_sent(
    database_url: str, tmp_path: Path, collector: Collector
) -> None:
    sent = new_traceparent(sampled=False)
    async with serve(database_url, tmp_path) as live:
        asked = await asked_for(live, sent)
    tracing.stop()
    assert asked["traceparent"][3:35] == sent[3:35]
    assert sent[3:35] not in {span.trace_id.hex() for span in collector.spans}


async def test_log_lines_name_the_trace(
    database_url: str, tmp_path: Path, collector: Collector, capsys: pytest.CaptureFixture[str]
) -> None:
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(observability._JsonLines())
    log = logging.getLogger("fleetloop.test")
    log.addHandler(handler)
    with tracing.span("block") as span:
        log.warning("said")
    log.removeHandler(handler)
    assert json.loads(capsys.readouterr().err)["trace_id"] == f"{span.get_span_context().trace_id:032x}"
    assert tracing.trace_id() == ""


async def test_an_error_is_noted_by_its_kind_alone(collector: Collector) -> None:
    with pytest.raises(ValueError, match="password"), tracing.span("block", run__id="r1"):
        raise ValueError("the password is secret")
    tracing.stop()
    [span] = collector.spans
    assert (span.status.code, span.status.message) == (2, "ValueError")
    assert b"secret" not in span.SerializeToString()
    assert {each.key for each in span.attributes} == {"run.id", "error.type"}


async def test_a_collector_that_is_away_holds_nobody_up(
    database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:1")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TIMEOUT", "0.1")
    logging.getLogger("opentelemetry").setLevel(logging.CRITICAL)
    assert tracing.start("fleetloop-test")
    try:
        async with serve(database_url, tmp_path) as live, httpx.AsyncClient() as http:
            for _ in range(50):
                assert (await http.get(f"{live.url}/api/openapi.json")).is_success
    finally:
        tracing.stop()
