"""Grafana's dashboard of an installation, made from a list of what each panel asks Prometheus."""

from typing import Any, NamedTuple

WIDE, TALL, ACROSS = 12, 8, 24


class Panel(NamedTuple):
    """`asks` are (expression, legend); `unit` is one of Grafana's."""

    title: str
    unit: str
    asks: tuple[tuple[str, str], ...]
    told: str = ""


def quantile(share: float, metric: str, where: str = "", by: str = "") -> str:
    return f"histogram_quantile({share}, sum by (le{by}) (rate({metric}_bucket{{{where}}}[$__rate_interval])))"


CHECK_IN = 'route="/device/v1/check-in"'
ERRORS = 'sum by (surface) (rate(fleetloop_requests_total{status=~"5.."}[$__rate_interval]))'
PANELS = (
    Panel(
        "Devices by health",
        "short",
        (("sum by (health) (max by (site, device_class, health) (fleetloop_devices))", "{{health}}"),),
    ),
    Panel("Rollouts by phase", "short", (("max by (phase) (fleetloop_rollouts)", "{{phase}}"),)),
    Panel(
        "Runs under way and failed",
        "short",
        (
            ('sum by (state) (max by (pipeline, state) (fleetloop_runs{state!~"done|cancelled"}))', "{{state}}"),
            ("max by (pipeline) (fleetloop_run_newest_failed)", "newest of {{pipeline}} failed"),
        ),
    ),
    Panel("What waits for people", "s", (("max by (kind) (fleetloop_review_oldest_seconds)", "oldest {{kind}}"),)),
    Panel(
        "Requests", "reqps", (("sum by (surface) (rate(fleetloop_requests_total[$__rate_interval]))", "{{surface}}"),)
    ),
    Panel("Requests that fail (5xx)", "reqps", ((ERRORS, "{{surface}}"),)),
    Panel(
        "Check-ins: seconds until the answer",
        "s",
        (
            (quantile(0.5, "fleetloop_request_seconds", CHECK_IN), "p50"),
            (quantile(0.99, "fleetloop_request_seconds", CHECK_IN), "p99"),
        ),
    ),
    Panel(
        "Pages and API: p95 until the answer",
        "s",
        ((quantile(0.95, "fleetloop_request_seconds", 'surface=~"page|api"', ", surface"), "{{surface}}"),),
    ),
    Panel(
        "Event loop lag, p99",
        "s",
        ((quantile(0.99, "fleetloop_event_loop_lag_seconds", "", ", instance"), "{{instance}}"),),
        "By how much a process is late to turn to what is due.",
    ),
    Panel(
        "Database connections",
        "short",
        (
            ("fleetloop_database_connections_in_use", "{{instance}} in use"),
            ("fleetloop_database_connections_limit", "{{instance}} limit"),
        ),
    ),
    Panel(
        "Wide reads, by who answers",
        "reqps",
        (("sum by (database) (rate(fleetloop_wide_reads_total[5m]))", "{{database}}"),),
        "With a replica only; the primary where that is away or behind.",
    ),
    Panel(
        "Reconcilers: since the last success",
        "s",
        (("time() - max by (loop) (fleetloop_tick_timestamp_seconds)", "{{loop}}"),),
    ),
    Panel("Outbox: age of the oldest", "s", (("max by (topic) (fleetloop_outbox_oldest_seconds)", "{{topic}}"),)),
    Panel(
        "Trust: until what is signed ends",
        "s",
        (("min by (role) (fleetloop_trust_expires_timestamp_seconds) - time()", "{{role}}"),),
    ),
    Panel(
        "Jobs by state",
        "short",
        (("sum by (cluster, state) (max by (cluster, state) (fleetloop_jobs))", "{{cluster}} {{state}}"),),
    ),
    Panel(
        "Jobs: wait until they begin",
        "s",
        (
            ("max by (cluster) (fleetloop_jobs_queue_seconds)", "{{cluster}} mean"),
            ("max by (cluster) (fleetloop_jobs_queue_oldest_seconds)", "{{cluster}} oldest waiting"),
        ),
    ),
    Panel(
        "Jobs: wall time per hour",
        "s",
        (("sum by (kind) (max by (cluster, kind) (delta(fleetloop_jobs_wall_seconds[1h])))", "{{kind}}"),),
        "What the jobs that ended in an hour had taken.",
    ),
    Panel(
        "Jobs: energy and price per hour",
        "short",
        (
            (
                "sum by (cluster) (max by (cluster, kind) (delta(fleetloop_jobs_energy_joules[1h]))) / 3.6e6",
                "{{cluster}} kWh",
            ),
            ("sum by (cluster) (max by (cluster, kind) (delta(fleetloop_jobs_cost_dollars[1h])))", "{{cluster}} USD"),
        ),
    ),
    Panel(
        "Exporters: since the last answer",
        "s",
        (("min by (cluster, exporter) (fleetloop_exporter_silent_seconds)", "{{cluster}} {{exporter}}"),),
    ),
    Panel("Memory", "bytes", (('process_resident_memory_bytes{job="fleetloop"}', "{{program}}"),)),
)


def dashboard() -> dict[str, Any]:
    """Return the dashboard as Grafana imports it; it asks for the data source when it is opened."""
    source = {"name": "datasource", "label": "Prometheus", "type": "datasource", "query": "prometheus"}
    return {
        "uid": "fleetloop",
        "title": "fleetloop",
        "schemaVersion": 39,
        "tags": ["fleetloop"],
        "time": {"from": "now-6h", "to": "now"},
        "refresh": "30s",
        "templating": {"list": [source]},
        "panels": [_panel(number, panel) for number, panel in enumerate(PANELS)],
    }


def _panel(number: int, panel: Panel) -> dict[str, Any]:
    across = ACROSS // WIDE
    source = {"type": "prometheus", "uid": "${datasource}"}
    return {
        "id": number + 1,
        "type": "timeseries",
        "title": panel.title,
        "description": panel.told,
        "datasource": source,
        "gridPos": {"x": number % across * WIDE, "y": number // across * TALL, "w": WIDE, "h": TALL},
        "fieldConfig": {"defaults": {"unit": panel.unit, "min": 0}, "overrides": []},
        "targets": [
            {"refId": chr(65 + place), "datasource": source, "expr": expression, "legendFormat": legend}
            for place, (expression, legend) in enumerate(panel.asks)
        ],
    }
