"""What Prometheus and probes are told: requests by route, the installation's standing, and whether a worker turns."""

import asyncio
import json
import logging
import sys
import time
from typing import Any

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from control_plane import worker
from control_plane.kit import metrics, observability
from control_plane.kit.metrics_port import MetricsApp, database_ready
from control_plane.kit.outbox import emit
from control_plane.review import service as review
from tests.support.device import Device
from tests.support.rows import run
from tests.support.server import Server


def value(name: str, **labels: str) -> float:
    found = metrics.REGISTRY.get_sample_value(name, labels)
    return found or 0.0


async def test_requests_are_counted_by_the_route_they_were_for(server: Server) -> None:
    labels = {"surface": "api", "route": "/api/v1/devices/{device_id}"}
    before = value("fleetloop_requests_total", **labels, status="404")
    for name in ("one", "two"):
        assert (await server.call("GET", f"/devices/{name}")).status_code == 404
    assert value("fleetloop_requests_total", **labels, status="404") == before + 2
    assert value("fleetloop_request_seconds_count", **labels) >= 2


async def test_strangers_cannot_make_up_series(server: Server) -> None:
    def series() -> set[Any]:
        found = (f for f in metrics.REGISTRY.collect() if f.name == "fleetloop_requests")
        return {tuple(sample.labels.values()) for family in found for sample in family.samples}

    for path in ("/device/v1/none", "/api/v1/none", "/api/none", "/x"):
        await server.http.get(path)
    known = series()
    for number in range(20):
        for path in ("/device/v1/none", "/api/v1/none", "/api/none", "/x"):
            await server.http.get(f"{path}{number}")
            await server.http.request(f"ODD{number}", f"{path}{number}")
    assert len(series() - known) <= 4, series() - known


async def test_an_answer_says_by_which_id_the_log_knows_it(
    server: Server, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(observability._JsonLines())
    log = logging.getLogger("fleetloop.test")
    log.addHandler(handler)

    async def say(_: Any) -> bool:
        log.warning("asked")
        return True

    monkeypatch.setattr(type(server.context.database), "ready", say)
    kept = await server.http.get("/readyz", headers={"X-Request-Id": "from-the-proxy.1"})
    assert kept.headers["x-request-id"] == "from-the-proxy.1"
    assert json.loads(capsys.readouterr().err)["request_id"] == "from-the-proxy.1"
    for hostile in ("", "a b", "x" * 65, "ü".encode(), b"\xff", "a\tb"):
        made = (await server.http.get("/healthz", headers={"X-Request-Id": hostile})).headers.get_list("x-request-id")
        assert len(made) == 1
        assert len(made[0]) == 16, made
    log.removeHandler(handler)


async def test_a_worker_tells_how_the_installation_stands(server: Server, device: Device) -> None:
    assert device.seq == 0  # it is enrolled and has said nothing yet
    async with server.context.database.transaction() as session:
        await emit(session, "test.topic", {})
        await review.ask(session, "test", "flip", "x/nominal/2", "And this one?", {})
    await run(server, "update kit_outbox set created_at = now() - interval '1 hour' where topic = 'test.topic'")
    measurer = worker.Measurer(server.context)
    assert list(measurer.standing.collect()) == [], "nothing is known before anything was measured"
    assert await measurer.tick() > 0
    assert await measurer.tick() == 0, "the database is not asked at every turn"
    told = {(s.name, *s.labels.values()): s.value for f in measurer.standing.collect() for s in f.samples}
    assert told["fleetloop_outbox_pending", "test.topic"] == 1
    assert told["fleetloop_outbox_oldest_seconds", "test.topic"] == pytest.approx(3600, abs=60)
    assert told["fleetloop_reviews_open", "flip"] == 1
    assert sum(v for (name, *_), v in told.items() if name == "fleetloop_devices") == 1
    assert told["fleetloop_measured_timestamp_seconds",] == pytest.approx(time.time(), abs=60)


async def test_the_port_speaks_prometheus_and_answers_probes(server: Server) -> None:
    wrong = [""]

    async def health() -> str:
        return wrong[0]

    app = MetricsApp(health=(health,), ready=(database_ready(server.context.database),))
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://m") as http:
        text = (await http.get("/metrics")).text
        assert "fleetloop_requests" in {family.name for family in text_string_to_metric_families(text)}
        assert [(await http.get(p)).status_code for p in ("/healthz", "/readyz", "/")] == [200, 200, 404]
        wrong[0] = "no turn for 120 s: rollout"
        answer = await http.get("/healthz")
        assert (answer.status_code, answer.text) == (503, "no turn for 120 s: rollout\n")


async def test_a_worker_that_does_not_come_round_is_not_alive(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    begun, stop, wake = asyncio.Event(), asyncio.Event(), asyncio.Event()

    async def stuck() -> int:
        begun.set()
        await stop.wait()
        return 0

    monkeypatch.setattr(worker, "TURNS", {})
    loop = asyncio.create_task(worker._loop("stuck", stop, wake, server.context, stuck))
    await begun.wait()
    assert await worker._turns() == ""
    monkeypatch.setattr(worker, "STUCK_S", -1.0)
    assert "stuck" in await worker._turns()
    stop.set()
    await loop


async def test_failed_turns_are_counted_by_whose_fault_they_are(server: Server) -> None:
    stop, wake = asyncio.Event(), asyncio.Event()
    failures = iter((ValueError("broken"), ConnectionError("away")))

    async def fails() -> int:
        wake.set()
        if (error := next(failures, None)) is not None:
            raise error
        stop.set()
        return 0

    await worker._loop("fails", stop, wake, server.context, fails)
    assert value("fleetloop_tick_failures_total", loop="fails", outage="no") == 1
    assert value("fleetloop_tick_failures_total", loop="fails", outage="yes") == 1
    assert value("fleetloop_tick_timestamp_seconds", loop="fails") == pytest.approx(time.time(), abs=60)
