"""The API process: composes slices, keys, database and object store into one ASGI application.

Run: `python -m control_plane.main --port 8080` (settings from FLEETLOOP_... variables). A page takes tens of
milliseconds to make, in which a device would wait: where that counts, `--serve people` and `--serve devices` are two
processes.
"""

import argparse
import asyncio
import contextlib
import gc
import logging
import os
from collections.abc import AsyncIterator, Sequence
from enum import StrEnum
from pathlib import Path

from fastapi import FastAPI

from control_plane.access.api import api as access_api
from control_plane.access.api import caller as caller_api
from control_plane.access.api import people as people_api
from control_plane.access.service import Passwords
from control_plane.audit.api import api as audit_api
from control_plane.datasets.api import api as datasets_api
from control_plane.evaluation.api import api as evaluation_api
from control_plane.exports.api import api as exports_api
from control_plane.factory.api import api as factory_api
from control_plane.fleet.api import api as fleet_api
from control_plane.fleet.device_api import device_api as fleet_device_api
from control_plane.fleet.domain import AuthMode
from control_plane.fleet.service import Callers, Identities, Quiet, Rules, Said
from control_plane.kit import clock, statistics, tls, tracing
from control_plane.kit.certificates import load_authority
from control_plane.kit.context import Context
from control_plane.kit.db import DATABASE_ERRORS, Database, Session
from control_plane.kit.errors import Invalid, Problem
from control_plane.kit.headers import SafeHeaders
from control_plane.kit.http import Request, Response, install_problems
from control_plane.kit.limits import BodyLimit
from control_plane.kit.listen import listen
from control_plane.kit.metrics import Counted, say_build
from control_plane.kit.metrics_port import MetricsApp, add_metrics_port, beat, database_ready
from control_plane.kit.object_routes import object_routes
from control_plane.kit.objects import LocalStore
from control_plane.kit.objects.opened import open_objects, unreachable_by_devices
from control_plane.kit.observability import RequestIds, log_to_stderr
from control_plane.kit.replica import Reader
from control_plane.kit.settings import Settings
from control_plane.kit.signing import BesideSigner, Keyring, load_signer
from control_plane.kit.tls import Shortcuts
from control_plane.lineage.api import api as lineage_api
from control_plane.pipelines.api import api as pipelines_api
from control_plane.registry import service as registry
from control_plane.registry.api import api as registry_api
from control_plane.registry.device_api import device_api as registry_device_api
from control_plane.review.api import api as review_api
from control_plane.rollout.api import api as rollout_api
from control_plane.rollout.device_api import QuickCheckIns
from control_plane.rollout.device_api import device_api as rollout_device_api
from control_plane.rollout.service import Board, Director, Offers, touch
from control_plane.telemetry import service as telemetry
from control_plane.telemetry.api import api as telemetry_api
from control_plane.telemetry.device_api import QuickTelemetry
from control_plane.telemetry.device_api import device_api as telemetry_device_api
from control_plane.training.api import api as training_api
from control_plane.web import CHANNEL, Pulse, web_routes
from control_plane.webhooks.api import api as webhooks_api

log = logging.getLogger("fleetloop.api")

# Device routes come first: they are called all the time, and routes are tried in order.
ROUTERS = (
    fleet_device_api,
    telemetry_device_api,
    registry_device_api,
    rollout_device_api,
    fleet_api,
    telemetry_api,
    datasets_api,
    training_api,
    registry_api,
    evaluation_api,
    rollout_api,
    pipelines_api,
    review_api,
    factory_api,
    lineage_api,
    exports_api,
    audit_api,
    access_api,
    people_api,
    caller_api,
    webhooks_api,
)
MAX_BODY_BYTES = 16 << 20
MAX_DEVICE_BODY_S = 10.0
BOARD_S = 1.5
PEOPLE_NICENESS = 5
"""Of a process for people alone: on a busy machine, devices are answered first."""
GARBAGE = 10_000, 20, 50
"""After how many objects the collector looks: a request makes some, and they are gone when it is answered."""


def open_context(settings: Settings, *, pool_size: int = 10) -> Context:
    """Open what a server process holds.

    Raises:
        Invalid: no database URL; `fleetloop up` starts an embedded one and passes its URL on.
        Refused: a private key can be read by others.
    """
    if settings.database_url is None:
        raise Invalid("FLEETLOOP_DATABASE_URL is not set; 'fleetloop up' starts an embedded PostgreSQL")
    keyring = Keyring.open(settings.keys)
    director = keyring.raw("director") if keyring.ready else load_signer(settings.keys, "director")
    authority = load_authority(
        settings.device_ca or settings.keys / "device-ca.pem", settings.trust_domain, clock.now()
    )
    database = Database(settings.database_url, pool_size=pool_size, pooled=settings.pooled)
    reader = Reader.opened(database, settings.database_replica_url, pool_size=pool_size)
    return Context(settings, database, reader, open_objects(settings), {"director": director}, keyring, authority)


class Api(FastAPI):
    """The application, and what answers the two routes that every device calls all the time in front of it."""

    shortcuts: Shortcuts


def create_app(settings: Settings, *, max_body_s: float = MAX_DEVICE_BODY_S) -> FastAPI:
    """Return the application; nothing is read or written before its lifespan begins."""
    context = open_context(settings)
    app = Api(
        title="fleetloop",
        version="1",
        summary="Control plane of the loop from field to field.",
        lifespan=_lifespan,
        docs_url=None,  # its page runs scripts from elsewhere, beside people's sessions
        redoc_url=None,
        openapi_url="/api/openapi.json",
    )
    _fill(app, context)
    for router in ROUTERS:
        app.include_router(router)
    if isinstance(context.objects, LocalStore):
        app.include_router(object_routes(context.objects))
    app.add_api_route("/healthz", _health, include_in_schema=False)
    app.add_api_route("/readyz", _ready, include_in_schema=False)
    app.include_router(web_routes())  # last: its last route answers what nobody else knows
    install_problems(app)
    app.add_middleware(SafeHeaders, free=("/device/", "/objects/"))
    app.add_middleware(BodyLimit, max_bytes=MAX_BODY_BYTES, max_seconds=max_body_s, free=("/objects/",))
    app.add_middleware(RequestIds)
    if tracing.is_on():
        app.add_middleware(tracing.Traced)
    app.add_middleware(Counted)  # outermost: what the others refuse counts too
    return app


def _fill(app: Api, context: Context) -> None:
    """Put together what the application keeps while it runs."""
    settings, state = context.settings, app.state
    rules = Rules(AuthMode(settings.device_auth), context.device_ca, settings.device_rate_per_s)
    state.context, state.identities, state.board, state.signer = context, Identities(rules), Board(), BesideSigner()
    secret = settings.proxy_secret
    state.callers = Callers(state.identities, secret.get_secret_value() if secret else None)
    state.offers, state.director = Offers(state.board), Director(context, state.board)
    state.intake = telemetry.Intake(context.database, settings.evidence_cell_s)
    state.pulse = Pulse()
    state.passwords = Passwords()
    state.trust_root = _trust_root  # the fleet hands out what the registry, which it does not know, keeps

    async def also(written: Sequence[Said]) -> None:
        told = [(said.known.id, said.known.offer.order and said.known.offer.order.rollout_id) for said in written]
        await touch(context.database, state.board, told)

    state.quiet = Quiet(context.database, state.identities, also)
    app.shortcuts = {QuickCheckIns.path: QuickCheckIns(state, context), QuickTelemetry.path: QuickTelemetry(state)}


async def _trust_root(session: Session) -> str | None:
    found = await registry.first_root(session)
    return found.decode() if found is not None else None


async def _health() -> dict[str, str]:
    return {"status": "ok"}


async def _ready(request: Request) -> Response:
    """Ready means that PostgreSQL answers; Prefect is not asked."""
    ready = await request.app.state.context.database.ready()
    return Response(
        '{"ready":true}' if ready else '{"ready":false}', 200 if ready else 503, media_type="application/json"
    )


@contextlib.asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[None]:
    context: Context = app.state.context
    _warn(context.settings)
    await context.objects.start()
    async with context.database.transaction() as session:
        await telemetry.ensure_partitions(session, clock.now())
    await _adopt_signed(context)
    works = [_listen(app), _read_ahead(app), _preload(app), app.state.signer.run(), app.state.quiet.run()]
    running = [asyncio.create_task(work) for work in [*works, beat(context.database)]]
    yield
    await app.state.intake.close()
    for task in running:
        task.cancel()
    await asyncio.gather(*running, return_exceptions=True)
    await context.objects.close()
    await context.reader.close()
    await context.database.close()


def _warn(settings: Settings) -> None:
    reason = unreachable_by_devices(settings)
    if reason is not None:
        log.warning("recordings will not come in: %s", reason)


async def _adopt_signed(context: Context) -> None:
    """Publish the first root of a new installation; the worker raises the alarm if something is wrong with it."""
    if not context.keyring.ready:
        return
    try:
        async with context.database.transaction() as session:
            await registry.adopt_signed(session, context.objects, context.keyring)
    except Problem as error:
        log.error("metadata signed offline is not published: %s", error.detail)  # noqa: TRY400 - the sentence says it


async def _listen(app: FastAPI) -> None:
    """Let NOTIFY wake this process's caches; while it cannot, nothing is answered from them alone."""
    url = app.state.context.settings.direct_url
    channels = {
        "fleetloop_rollout": lambda _: app.state.board.forget(),
        CHANNEL: app.state.pulse.hear,
        "fleetloop_device": lambda device_id: app.state.identities.forget(device_id or None),
    }
    await listen(url, channels, lambda: _hears(app, listening=True), lambda: _hears(app, listening=False))


def _hears(app: FastAPI, *, listening: bool) -> None:
    """Drop what may have changed while nobody listened."""
    app.state.quiet.listen(listening)
    app.state.identities.forget(None)
    app.state.board.forget()


async def _preload(app: FastAPI) -> None:
    """Know the devices that spoke lately before they come; what is read counts only while we hear of changes."""
    quiet: Quiet = app.state.quiet
    await quiet.hears.wait()
    with contextlib.suppress(OSError, TimeoutError, *DATABASE_ERRORS):  # then each is asked for when it comes
        found = await quiet.preload(app.state.context.settings.preload_devices)
        log.info("%d devices are in memory", found)


async def _read_ahead(app: FastAPI) -> None:
    """Read the board when it changed and before it is too old, so that few check-ins have to wait for it."""
    context: Context = app.state.context
    board: Board = app.state.board
    while True:
        with contextlib.suppress(
            OSError, TimeoutError, *DATABASE_ERRORS
        ):  # whoever needs it meanwhile hears what is wrong
            async with context.database.transaction() as session:
                await board.ahead(session, context.objects)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(BOARD_S):  # `wait_for` may lose a cancellation that comes with the event
                await board.changed.wait()


class Serve(StrEnum):
    """Who comes to this process."""

    BOTH = "both"
    PEOPLE = "people"
    DEVICES = "devices"


def listeners_of(app: FastAPI, arguments: argparse.Namespace) -> list[tls.Listener]:
    """Return who listens where: people by plain HTTP, devices by mutual TLS or through a proxy.

    Raises:
        Invalid: `--serve` and the ports do not fit each other, or what a port needs is missing.
    """
    found = [] if arguments.serve is Serve.DEVICES else [tls.plain(app, arguments.host, arguments.port)]
    devices = _device_listeners(app, arguments)
    if arguments.metrics_port is not None:
        ready = (database_ready(app.state.context.database),)
        found.append(tls.plain(MetricsApp(ready=ready), arguments.metrics_host, arguments.metrics_port))
    if devices and arguments.serve is Serve.PEOPLE:
        raise Invalid("--serve people has no port for devices; leave out --device-port and --proxied-...")
    if not devices and arguments.serve is Serve.DEVICES:
        raise Invalid("--serve devices needs --device-port, --proxied-socket or --proxied-port")
    return found + devices


def _device_listeners(app: FastAPI, arguments: argparse.Namespace) -> list[tls.Listener]:
    context: Context = app.state.context
    found = list[tls.Listener]()
    if arguments.device_port is not None:
        if context.device_ca is None:
            raise Invalid("there is no device authority to serve TLS with")
        names = [name.strip() for name in context.settings.device_names.split(",") if name.strip()]
        found.append(tls.mutual_tls(app, arguments.device_host, arguments.device_port, context.device_ca, names))
    if arguments.proxied_socket is not None:
        found.append(tls.behind_proxy(app, socket=arguments.proxied_socket))
    if arguments.proxied_port is not None:
        if context.settings.proxy_secret is None:
            raise Invalid("a proxied port needs FLEETLOOP_PROXY_SECRET; a proxied socket does not")
        found.append(tls.behind_proxy(app, host=arguments.host, port=arguments.proxied_port))
    return found


def _run_before_others() -> None:
    """Have the kernel run this process, and those it starts, whenever they can run.

    A device's check-in passes three short turns of two processes; on a machine that pages, a database or simulations
    keep busy, each of them would wait a few milliseconds for its turn.

    Raises:
        Invalid: the operating system does not let this process do that.
    """
    try:
        os.sched_setscheduler(0, os.SCHED_RR, os.sched_param(1))
    except PermissionError:
        raise Invalid("--real-time needs CAP_SYS_NICE (systemd: CPUSchedulingPolicy=rr); leave it out") from None


def _settings(serve: Serve) -> Settings:
    """Return this process's settings; one that no device comes to need know none before they come."""
    settings = Settings()
    return settings.model_copy(update={"preload_devices": 0}) if serve is Serve.PEOPLE else settings


def main() -> None:
    parser = argparse.ArgumentParser(description="fleetloop's API server")
    parser.add_argument("--serve", type=Serve, choices=tuple(Serve), default=Serve.BOTH, help="who comes here")
    parser.add_argument("--host", default="127.0.0.1", help="where people and flows come in, by plain HTTP")
    parser.add_argument("--port", type=int, default=8080)
    parser.add_argument("--device-host", default="127.0.0.1", help="where devices come in, by mutual TLS")
    parser.add_argument("--device-port", type=int, help="none if unset")
    parser.add_argument("--proxied-socket", type=Path, help="unix socket on which nginx or Envoy hands devices on")
    parser.add_argument("--proxied-port", type=int, help="the same as a port, with FLEETLOOP_PROXY_SECRET")
    add_metrics_port(parser)
    parser.add_argument("--real-time", action="store_true", help="run before everything else on a busy machine")
    arguments = parser.parse_args()
    log_to_stderr()
    say_build(f"api-{arguments.serve}")
    tracing.start("fleetloop-api")
    statistics.warm()
    if arguments.real_time:
        _run_before_others()
    elif arguments.serve is Serve.PEOPLE:
        os.nice(PEOPLE_NICENESS)
    app = create_app(_settings(arguments.serve))
    listeners = listeners_of(app, arguments)
    gc.collect()
    gc.freeze()  # what is here by now stays: nobody need look through it again
    gc.set_threshold(*GARBAGE)
    with asyncio.Runner(loop_factory=listeners[0].config.get_loop_factory()) as runner:
        runner.run(tls.serve(app, listeners, app.state.pulse.close))


if __name__ == "__main__":
    main()
