"""What a cluster's exporters measured, as the ledger's page shows it."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from urllib.parse import urlsplit

from markupsafe import Markup

from control_plane.factory.schemas import ClusterMeters, ExporterItem, FiguresItem, SpreadItem
from control_plane.web.charts import Track, tracks
from control_plane.web.render import NONE, energy, money


@dataclass(frozen=True, slots=True)
class ExporterLine:
    """One exporter in words; of its URL the machine, for the rest is nobody's but the admin's."""

    host: str
    kind: str
    answered: str
    last: str
    error: str


@dataclass(frozen=True, slots=True)
class MeteredCluster:
    name: str
    facts: Sequence[tuple[str, str]]
    pictures: Sequence[tuple[str, Markup]]
    exporters: Sequence[ExporterLine]


def metered_of(found: ClusterMeters) -> MeteredCluster:
    return MeteredCluster(found.cluster, facts_of(found.total), _pictures(found), list(map(_line, found.exporters)))


def facts_of(total: FiguresItem) -> list[tuple[str, str]]:
    """Return what was measured in words and figures; what was not is left out, but for the heads of the list."""
    planned = [
        ("Tokens", _number(total.tokens_per_s, "per second")),
        ("Tokens per joule", _number(total.tokens_per_j)),
        ("Joules per token", _number(total.j_per_token, "J")),
        ("A million tokens", "" if total.usd_per_million_tokens is None else money(total.usd_per_million_tokens)),
        ("GPUs", f"{total.gpus} seen, {_number(total.power_w, 'W')}" if total.gpus else ""),
        ("GPUs busy", _share(total.gpu_busy)),
        ("Processors busy", _share(total.cpu_busy)),
        ("Energy", "" if total.energy_j is None else energy(total.energy_j)),
        ("Wait in the queue", _number(total.queue_s, "s")),
        ("To the first token", _spread(total.first_token)),
        ("Between tokens", _spread(total.between_tokens)),
    ]
    said = [(words, figure) for words, figure in planned if figure]
    return said or [("Measured", NONE)]


def _pictures(found: ClusterMeters) -> list[tuple[str, Markup]]:
    planned = (
        ("Power of GPUs", "W", [point.power_w for point in found.points], "s1"),
        ("Tokens per second", "", [point.tokens_per_s for point in found.points], "s2"),
    )
    step = timedelta(seconds=found.step_s)
    return [
        (words, tracks(f"{words} on {found.cluster}", found.starts_at, step, [Track(words, values, colour)], unit))
        for words, unit, values, colour in planned
        if any(value is not None for value in values)
    ]


def _line(exporter: ExporterItem) -> ExporterLine:
    last = f"{exporter.answered_at:%Y-%m-%d %H:%M} UTC" if exporter.answered_at else "never"
    return ExporterLine(
        urlsplit(exporter.url).netloc, exporter.kind, _share(exporter.uptime) or NONE, last, exporter.error
    )


def _number(value: float | None, unit: str = "") -> str:
    return "" if value is None else f"{value:.3g} {unit}".strip()


def _share(value: float | None) -> str:
    return "" if value is None else f"{value:.0%}"


def _spread(held: SpreadItem | None) -> str:
    if held is None:
        return ""
    said = ((words, getattr(held, words)) for words in ("p50", "p95", "p99"))
    return ", ".join(f"{words} {'over ' * q.is_bound}{q.value:.3g} s" for words, q in said if q is not None)
