"""What a process counts, under names that stay, for Prometheus (https://prometheus.io/docs/practices/naming/).

Every process has one registry. Request counts are of this process alone; what the database says of the whole
installation is measured by the workers (`Standing`), each of which says the same.
"""

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.metrics import MetricWrapperBase
from prometheus_client.process_collector import ProcessCollector
from prometheus_client.registry import Collector

from control_plane.kit.db import Session, rows
from control_plane.kit.limits import App
from control_plane.kit.observability import our_version
from control_plane.kit.routes import route_of

REGISTRY: Final = CollectorRegistry()
ProcessCollector(registry=REGISTRY)
FAST: Final = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
SLOW: Final = (0.005, 0.025, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
SURFACES: Final = (
    ("/device/", "device"),
    ("/api/", "api"),
    ("/objects/", "objects"),
    ("/static/", "static"),
    ("/healthz", "probe"),
    ("/readyz", "probe"),
)

REQUESTS: Final = Counter("fleetloop_requests", "Requests answered.", ("surface", "route", "status"), registry=REGISTRY)
REQUEST_S: Final = Histogram(
    "fleetloop_request_seconds",
    "Seconds until an answer began.",
    ("surface", "route"),
    registry=REGISTRY,
    buckets=FAST,
)
LOOP_LAG_S: Final = Histogram(
    "fleetloop_event_loop_lag_seconds",
    "Seconds by which the process was late to turn to what was due.",
    registry=REGISTRY,
    buckets=FAST,
)
CONNECTIONS: Final = Gauge(
    "fleetloop_database_connections_in_use", "Database connections that requests and ticks hold.", registry=REGISTRY
)
CONNECTIONS_MOST: Final = Gauge(
    "fleetloop_database_connections_limit", "Database connections that this process may hold.", registry=REGISTRY
)
WIDE_READS: Final = Counter(
    "fleetloop_wide_reads",
    "Reads that a replica may answer, by who did: the replica, or the primary because it was away or behind.",
    ("database",),
    registry=REGISTRY,
)
TICK_S: Final = Histogram(
    "fleetloop_tick_seconds", "Seconds of one turn of a reconciler.", ("loop",), registry=REGISTRY, buckets=SLOW
)
TICK_FAILURES: Final = Counter(
    "fleetloop_tick_failures",
    "Turns of a reconciler that failed, by whether the database was away.",
    ("loop", "outage"),
    registry=REGISTRY,
)
TICK_AT: Final = Gauge(
    "fleetloop_tick_timestamp_seconds",
    "When a turn of a reconciler last succeeded (UTC, seconds since 1970).",
    ("loop",),
    registry=REGISTRY,
)
BUILD: Final = Gauge("fleetloop_build_info", "1; the version runs here.", ("version", "role"), registry=REGISTRY)


OWN: Final[Mapping[MetricWrapperBase, tuple[str, ...]]] = {
    REQUESTS: ("surface", "route", "status"),
    REQUEST_S: ("surface", "route"),
    LOOP_LAG_S: (),
    CONNECTIONS: (),
    CONNECTIONS_MOST: (),
    WIDE_READS: ("database",),
    TICK_S: ("loop",),
    TICK_FAILURES: ("loop", "outage"),
    TICK_AT: ("loop",),
    BUILD: ("version", "role"),
}
"""What this process counts itself, with the names of its labels."""


def say_build(role: str) -> None:
    """Say which version of us this process is, and what it does."""
    BUILD.labels(our_version(), role).set(1)


@dataclass(frozen=True, slots=True)
class Family:
    """A gauge of the whole installation; a name means one thing, so that making it twice is an error."""

    known: ClassVar[dict[str, "Family"]] = {}
    name: str
    help: str
    labels: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.known.setdefault(self.name, self) is not self:
            raise ValueError(f"there are two families {self.name}")


@dataclass(frozen=True, slots=True)
class Measured:
    """Values of a family by the values of its labels."""

    family: Family
    values: Mapping[tuple[str, ...], float]


async def measure(session: Session, family: Family, statement: str) -> Measured:
    """Measure by a statement that returns the family's labels and `value`; no row is no series."""
    found = await rows(session, statement)
    return Measured(
        family, {tuple(str(line[label]) for label in family.labels): float(line["value"]) for line in found}
    )


MEASURED_AT: Final = Family(
    "fleetloop_measured_timestamp_seconds", "When this worker last asked the database for all of these."
)


def described() -> list[tuple[str, str, tuple[str, ...], str]]:
    """Return (name, kind, labels, what it is) of all that our processes tell, by name."""
    found = []
    for metric, labels in OWN.items():
        (said,) = metric.describe()
        found.append((said.name + "_total" * (said.type == "counter"), said.type, labels, said.documentation))
    found += [(each.name, "gauge", each.labels, each.help) for each in Family.known.values()]
    return sorted(found)


class Standing(Collector):
    """Gives what was measured last; before the first time it gives nothing, rather than zeros."""

    def __init__(self) -> None:
        self._held: Sequence[Measured] = ()

    def hold(self, measured: Iterable[Measured], at: float) -> None:
        """Take what was measured at an instant (seconds since 1970)."""
        self._held = (*measured, Measured(MEASURED_AT, {(): at}))

    def collect(self) -> Iterator[GaugeMetricFamily]:
        for each in self._held:
            family = GaugeMetricFamily(each.family.name, each.family.help, labels=each.family.labels)
            for labels, value in sorted(each.values.items()):
                family.add_metric(labels, value)
            yield family


class Counted:
    """ASGI middleware: counts requests and the seconds until their answers begin, by the route they were for."""

    def __init__(self, app: App) -> None:
        self.app = app

    async def __call__(self, scope: Mapping[str, Any], receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        begun = time.perf_counter()

        async def counting(message: dict[str, Any]) -> None:
            if message["type"] == "http.response.start":
                count(scope, message["status"], time.perf_counter() - begun)
            await send(message)

        await self.app(scope, receive, counting)


def count(scope: Mapping[str, Any], status: int, seconds: float) -> None:
    """Count one answer; a path that no route knows is "other", so that strangers cannot make up series."""
    surface = surface_of(scope["path"])
    route = route_of(scope)
    REQUESTS.labels(surface, route, str(status)).inc()
    REQUEST_S.labels(surface, route).observe(seconds)


def surface_of(path: str) -> str:
    """Return who comes to a path: devices, programs, or people with a browser."""
    return next((surface for prefix, surface in SURFACES if path.startswith(prefix)), "page")


class ShortcutCount:
    """Counts what is answered in front of the application; its series are looked up once."""

    __slots__ = ("_requests", "_seconds")

    def __init__(self, path: str) -> None:
        self._requests = REQUESTS.labels(surface_of(path), path, "200")
        self._seconds = REQUEST_S.labels(surface_of(path), path)

    def count(self, seconds: float) -> None:
        self._requests.inc()
        self._seconds.observe(seconds)
