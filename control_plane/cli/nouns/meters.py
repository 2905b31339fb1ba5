"""What exporters measured, as lines for people; a dash is not measured, which is not 0."""

from collections.abc import Iterator

from control_plane.factory.schemas import ClusterMeters, FiguresItem, SpreadItem


def meter_lines(found: ClusterMeters) -> Iterator[str]:
    """Give what a cluster did, and below it how its exporters stand."""
    yield f"{found.cluster}, {found.starts_at:%Y-%m-%d %H:%M} to {found.ends_at:%H:%M} UTC"
    for words, said in _figures(found.total):
        yield f"  {words:<22}{said}"
    for each in found.exporters:
        share = _share(each.uptime)
        yield f"  {each.kind} {each.url}: up {share}{f', {each.error}' if each.error else ''}"
    if not found.exporters:
        yield "  no exporter is stated: fleetloop clusters put NAME ... --exporter KIND=URL"


def _figures(total: FiguresItem) -> Iterator[tuple[str, str]]:
    yield "tokens per second", _number(total.tokens_per_s)
    yield "tokens per joule", _number(total.tokens_per_j)
    yield "joules per token", _number(total.j_per_token)
    yield "USD per million tokens", _number(total.usd_per_million_tokens)
    yield "power of GPUs", f"{_number(total.power_w)} W ({total.gpus} seen)"
    yield (
        "energy",
        f"{_number(total.energy_j)} J (GPUs {_number(total.gpu_energy_j)}, CPUs {_number(total.cpu_energy_j)})",
    )
    yield "busy", f"GPUs {_share(total.gpu_busy)}, CPUs {_share(total.cpu_busy)}"
    yield "wait in queue", f"{_number(total.queue_s)} s"
    yield "time to first token", _spread(total.first_token)
    yield "between tokens", _spread(total.between_tokens)


def _spread(held: SpreadItem | None) -> str:
    if held is None:
        return "-"
    said = ((words, getattr(held, words)) for words in ("p50", "p95", "p99"))
    return ", ".join(
        f"{words} {'over ' * (q is not None and q.is_bound)}{_number(q and q.value)} s" for words, q in said
    )


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.4g}"


def _share(value: float | None) -> str:
    return "-" if value is None else f"{value:.1%}"
