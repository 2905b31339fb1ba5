"""The worker process: reconcilers and the outbox, woken by NOTIFY, right on the timer alone.

Run: `python -m control_plane.worker` (settings from FLEETLOOP_... variables). Several may run side by side.
"""

import argparse
import asyncio
import contextlib
import logging
import signal
import time
from collections.abc import Awaitable, Callable
from typing import Any

from control_plane.evaluation import service as evaluation
from control_plane.exports import service as exports
from control_plane.factory import service as factory
from control_plane.factory.reconcile import Scraper
from control_plane.fleet import service as fleet
from control_plane.fleet.reconcile import Sweeper
from control_plane.kit import metrics, outbox, statistics, tls, tracing
from control_plane.kit.context import Context
from control_plane.kit.db import Session, execute, is_outage
from control_plane.kit.listen import listen
from control_plane.kit.metrics_port import MetricsApp, add_metrics_port, beat, database_ready
from control_plane.kit.observability import log_to_stderr
from control_plane.kit.repeats import Forgetter
from control_plane.kit.settings import Settings
from control_plane.main import open_context
from control_plane.pipelines import reconcile as pipelines
from control_plane.pipelines import service as pipelines_service
from control_plane.registry import service as registry
from control_plane.registry.reconcile import TrustKeeper
from control_plane.review import service as review
from control_plane.rollout import reconcile as rollout
from control_plane.rollout import service as rollout_service
from control_plane.telemetry import service as telemetry
from control_plane.telemetry.reconcile import Upkeep
from control_plane.webhooks import service as webhooks
from control_plane.webhooks.domain import Topic
from control_plane.webhooks.reconcile import Deliverer

log = logging.getLogger("fleetloop.worker")
MEASURE_S = 15.0
TURNS: dict[str, float] = {}
STUCK_S = 120.0
"""A worker none of whose reconcilers has come round for so long is not alive."""
MEASURES = (
    outbox.measures,
    fleet.measures,
    rollout_service.measures,
    pipelines_service.measures,
    review.measures,
    webhooks.measures,
    registry.measures,
    factory.measures,
)


def open_orchestrator(settings: Settings) -> pipelines.Orchestrator:
    if settings.orchestrator == "subprocess":
        return pipelines.SubprocessOrchestrator()
    if settings.orchestrator == "prefect" and settings.prefect_api_url:
        return pipelines.PrefectOrchestrator(settings.prefect_api_url)
    return pipelines.NoOrchestrator()


async def _stored(_: Session, payload: Any) -> None:
    log.debug("recording %s is stored", payload["sha256"])


async def _traced(_: Session, payload: Any) -> None:
    log.debug("events of %s are stored", payload["device"])


def handlers_of(context: Context) -> dict[str, outbox.Handler]:
    """Return what is done about each outbox topic."""
    return {
        "recording.stored": _stored,
        telemetry.TRACED: _traced,
        evaluation.DECIDED: lambda session, payload: evaluation.attest(
            session, context.objects, context.keyring, payload["gate"]
        ),
        review.CLOSED: lambda session, payload: evaluation.judge_reviewed(
            session, context.objects, payload["kind"], payload["subject"]
        ),
        registry.VOUCHED: lambda session, payload: _published(session, context, payload["digest"]),
        outbox.LINEAGE: lambda session, payload: _run_event(session, context, payload),
        **{topic.value: _told(context, topic) for topic in Topic},
    }


def _told(context: Context, topic: Topic) -> outbox.Handler:
    """Return the handler that takes one topic to the webhooks that listen to it."""
    return lambda session, payload: webhooks.fan_out(session, context.settings.public_url, topic, payload)


async def _run_event(session: Session, context: Context, payload: Any) -> None:
    url, ours = context.settings.openlineage_url, context.settings.public_url.rstrip("/")
    if url is not None:
        await webhooks.line_up(session, url, await exports.run_events(session, payload, url=ours))


async def _published(session: Session, context: Context, digest: str) -> None:
    if await registry.publish_vouched(session, context.objects, context.keyring, digest):
        await execute(session, "select pg_notify('fleetloop', ''), pg_notify('fleetloop_rollout', '')")


async def run(context: Context, stop: asyncio.Event) -> None:
    orchestrator = open_orchestrator(context.settings)
    await context.objects.start()
    wake = asyncio.Event()
    handlers, measurer = handlers_of(context), Measurer(context)
    metrics.REGISTRY.register(measurer.standing)
    loops = [
        _loop("rollout", stop, wake, context, lambda: rollout.tick(context)),
        _loop("trust", stop, wake, context, TrustKeeper(context).tick),
        _loop("fleet", stop, wake, context, Sweeper(context).tick),
        _loop("telemetry", stop, wake, context, Upkeep(context).tick),
        _loop("pipelines", stop, wake, context, lambda: pipelines.tick(context, orchestrator)),
        _loop("webhooks", stop, wake, context, Deliverer(context).tick),
        _loop("meters", stop, wake, context, Scraper(context).tick),
        _loop("repeats", stop, wake, context, Forgetter(context.database).tick),
        _loop("tidy", stop, wake, context, Forgetter(context.database, outbox.forget, outbox.KEPT).tick),
        _loop("outbox", stop, wake, context, lambda: outbox.dispatch(context.database, handlers)),
        _loop("measures", stop, wake, context, measurer.tick),
    ]
    url = context.settings.direct_url or ""
    beside = [
        asyncio.create_task(listen(url, {"fleetloop": lambda _: wake.set()}, wake.set)),
        asyncio.create_task(beat(context.database)),
    ]
    await asyncio.gather(*loops)
    for task in beside:
        task.cancel()
    await context.database.close()


class Measurer:
    """Asks the database now and then for what is told to Prometheus."""

    def __init__(self, context: Context) -> None:
        self._database = context.database
        self._due_s = 0.0
        self.standing = metrics.Standing()

    async def tick(self) -> int:
        if time.monotonic() < self._due_s:
            return 0
        self._due_s = time.monotonic() + MEASURE_S
        found = list[metrics.Measured]()
        for measures in MEASURES:
            async with self._database.transaction() as session:
                found += await measures(session)
        self.standing.hold(found, time.time())
        return len(found)


async def _loop(
    name: str, stop: asyncio.Event, wake: asyncio.Event, context: Context, tick: Callable[[], Awaitable[int]]
) -> None:
    seconds, at = metrics.TICK_S.labels(name), metrics.TICK_AT.labels(name)
    for outage in ("no", "yes"):
        metrics.TICK_FAILURES.labels(name, outage)
    while not stop.is_set():
        TURNS[name] = time.monotonic()
        try:
            with seconds.time():
                await tick()
            at.set_to_current_time()
        except Exception as error:
            metrics.TICK_FAILURES.labels(name, "yes" if is_outage(error) else "no").inc()
            if not is_outage(error):
                log.exception("%s tick failed", name)
            else:
                log.warning("%s waits for the database: %s", name, type(error).__name__)
        wake.clear()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(context.settings.tick_s):
                await wake.wait()


async def _turns() -> str:
    """Say which reconciler has not come round for too long; a failed turn is a turn."""
    late = [name for name, at in TURNS.items() if time.monotonic() - at > STUCK_S]
    return f"no turn for {STUCK_S:g} s: {', '.join(late)}" if late else ""


async def _main(arguments: argparse.Namespace) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    context = open_context(Settings(), pool_size=5)
    if arguments.metrics_port is None:
        await run(context, stop)
        return
    app = MetricsApp(health=(_turns,), ready=(database_ready(context.database),))
    listener = tls.plain(app, arguments.metrics_host, arguments.metrics_port)
    serving = asyncio.create_task(listener.serve())
    await run(context, stop)
    listener.should_exit = True
    await serving


def main() -> None:
    parser = argparse.ArgumentParser(description="fleetloop's worker")
    add_metrics_port(parser)
    arguments = parser.parse_args()
    log_to_stderr()
    metrics.say_build("worker")
    tracing.start("fleetloop-worker")
    statistics.warm()
    asyncio.run(_main(arguments))


if __name__ == "__main__":
    main()
