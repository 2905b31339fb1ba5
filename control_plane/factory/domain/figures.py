"""What the minutes of a cluster add up to: tokens, joules, dollars, and how long people waited.

A quotient is taken only over the time in which both its parts were measured, and is None where nothing was.
"""

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from control_plane.factory.domain.exporters import GPU_KINDS, SERVING_KINDS, ExporterKind, Measure
from control_plane.factory.domain.histograms import Histogram, Quantile, merged, quantile
from control_plane.factory.domain.increase import Amount

KWH_J = 3.6e6


@dataclass(frozen=True, slots=True)
class Line:
    """What one source of one exporter did in one step of time."""

    step: int
    kind: ExporterKind
    exporter: str
    source: str
    amount: Amount
    histograms: Mapping[Measure, Histogram] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Rates:
    """What time and energy cost. `usd_per_kwh` is on top; 0 where hours include it."""

    usd_per_hour: float = 0.0
    usd_per_gpu_hour: float = 0.0
    usd_per_kwh: float = 0.0


@dataclass(frozen=True, slots=True)
class Spread:
    """Half, 95 and 99 of a hundred were at most so much, in seconds, of `count`."""

    p50: Quantile | None
    p95: Quantile | None
    p99: Quantile | None
    count: float


@dataclass(frozen=True, slots=True)
class Figures:
    """All of one stretch of time. `gpus` were seen; `power_w` is the mean of all of them together, while measured."""

    gpus: int
    gpu_energy_j: float | None
    cpu_energy_j: float | None
    power_w: float | None
    gpu_busy: float | None
    cpu_busy: float | None
    tokens_out: float | None
    tokens_per_s: float | None
    tokens_per_j: float | None
    j_per_token: float | None
    usd: float | None
    usd_per_million_tokens: float | None
    queue_s: float | None
    first_token: Spread | None
    between_tokens: Spread | None
    queue: Spread | None
    served_by: ExporterKind | None

    @property
    def energy_j(self) -> float | None:
        """What was measured of GPUs and processors; boards, memory, fans and supplies are in neither."""
        return _plus(self.gpu_energy_j, self.cpu_energy_j)


def figures(lines: Sequence[Line], rates: Rates) -> Figures:
    """Add lines up. A GPU of which two exporters tell counts once; so do tokens that a front end hands to workers."""
    gpus, nodes, served = _gpus(lines), [line for line in lines if line.kind is ExporterKind.NODE], _served(lines)
    by_source = defaultdict[str, list[Amount]](list)
    for line in gpus:
        by_source[line.source].append(line.amount)
    gpu_j, cpu_j = _sum(line.amount.energy_j for line in gpus), _sum(line.amount.energy_j for line in nodes)
    tokens, per_j = _sum(line.amount.tokens_out for line in served), _per_joule(served, [*gpus, *nodes])
    seconds = _covered_s(served)
    usd = _usd(rates, seconds, len(by_source), served, [*gpus, *nodes])
    return Figures(
        gpus=len(by_source),
        gpu_energy_j=gpu_j,
        cpu_energy_j=cpu_j,
        power_w=_sum(_mean(amounts, "energy_j") for amounts in by_source.values()),
        gpu_busy=_share(gpus),
        cpu_busy=_share(nodes),
        tokens_out=tokens,
        tokens_per_s=tokens / seconds if tokens is not None and seconds else None,
        tokens_per_j=per_j,
        j_per_token=1 / per_j if per_j else None,
        usd=usd,
        usd_per_million_tokens=usd / tokens * 1e6 if usd is not None and tokens else None,
        queue_s=_queue_s(served),
        first_token=_spread(served, Measure.FIRST_TOKEN_S),
        between_tokens=_spread(served, Measure.BETWEEN_TOKENS_S),
        queue=_spread(served, Measure.QUEUE_S),
        served_by=served[0].kind if served else None,
    )


def _gpus(lines: Iterable[Line]) -> list[Line]:
    """Return one line for each GPU and step: that of the exporter that is believed first."""
    found: dict[tuple[int, str], Line] = {}
    for kind in GPU_KINDS:
        for line in lines:
            if line.kind is kind and line.source:
                held = found.setdefault((line.step, line.source), line)
                if held is not line and held.amount.energy_j is None and line.amount.energy_j is not None:
                    found[line.step, line.source] = line
    return list(found.values())


def _served(lines: Sequence[Line]) -> list[Line]:
    """Return the lines of the outermost kind of server that counted tokens or requests."""
    for wanted in ("tokens_out", "requests"):
        for kind in SERVING_KINDS:
            found = [line for line in lines if line.kind is kind and not line.source]
            if any(getattr(line.amount, wanted) for line in found):
                return found
    return []


def _per_joule(served: Sequence[Line], metered: Sequence[Line]) -> float | None:
    tokens, energy = _by_step(served, "tokens_out"), _by_step(metered, "energy_j")
    both = tokens.keys() & energy.keys()
    joules = math.fsum(energy[step] for step in both)
    return math.fsum(tokens[step] for step in both) / joules if joules > 0 else None


def _by_step(lines: Iterable[Line], name: str) -> dict[int, float]:
    found = defaultdict[int, float](float)
    for line in lines:
        value = getattr(line.amount, name)
        if value is not None:
            found[line.step] += value
    return dict(found)


def _covered_s(lines: Iterable[Line]) -> float:
    """Return for how long any of several was told of: servers beside each other serve at the same time."""
    longest = defaultdict[int, float](float)
    for line in lines:
        longest[line.step] = max(longest[line.step], line.amount.covered_s)
    return math.fsum(longest.values())


def _usd(rates: Rates, seconds: float, gpus: int, served: Sequence[Line], metered: Sequence[Line]) -> float | None:
    """Price the time of serving; None if a price counts GPUs and none was seen."""
    if not seconds or (rates.usd_per_gpu_hour > 0 and not gpus):
        return None
    hourly = (rates.usd_per_hour + rates.usd_per_gpu_hour * gpus) * seconds / 3600
    steps = {line.step for line in served}
    energy = _sum(line.amount.energy_j for line in metered if line.step in steps) or 0.0
    return hourly + rates.usd_per_kwh * energy / KWH_J


def _mean(amounts: Iterable[Amount], name: str) -> float | None:
    held = [(getattr(each, name), each.covered_s) for each in amounts if getattr(each, name) is not None]
    seconds = math.fsum(covered for _, covered in held)
    return math.fsum(value for value, _ in held) / seconds if seconds > 0 else None


def _share(lines: Iterable[Line]) -> float | None:
    held = [(line.amount.busy_s or 0.0, line.amount.capacity_s) for line in lines if line.amount.capacity_s]
    whole = math.fsum(capacity for _, capacity in held if capacity)
    return min(math.fsum(busy for busy, _ in held) / whole, 1.0) if whole > 0 else None


def _queue_s(served: Sequence[Line]) -> float | None:
    """Return the mean wait: of a histogram by its sum, else of counters that add waits and requests up."""
    held = merged(line.histograms[Measure.QUEUE_S] for line in served if Measure.QUEUE_S in line.histograms)
    if held.count > 0:
        return held.sum / held.count
    both = [line.amount for line in served if line.amount.queue_s is not None and line.amount.requests]
    requests = math.fsum(each.requests or 0.0 for each in both)
    return math.fsum(each.queue_s or 0.0 for each in both) / requests if requests > 0 else None


def _spread(served: Iterable[Line], measure: Measure) -> Spread | None:
    held = merged(line.histograms[measure] for line in served if measure in line.histograms)
    if held.count <= 0:
        return None
    p50, p95, p99 = (quantile(held, share) for share in (0.5, 0.95, 0.99))
    return Spread(p50, p95, p99, held.count)


def _sum(values: Iterable[float | None]) -> float | None:
    held = [value for value in values if value is not None]
    return math.fsum(held) if held else None


def _plus(*values: float | None) -> float | None:
    return _sum(values)


@dataclass(frozen=True, slots=True)
class Metered:
    """What a job's GPUs took while it had them; `covered` is the share of its time and GPUs that was measured."""

    energy_j: float
    busy: float | None
    covered: float


ENOUGH_COVERED = 0.9


def metered(minutes: Iterable[tuple[float, Amount]], began_s: float, ended_s: float, gpus: int) -> Metered:
    """Add up the minutes of a job's GPUs: (beginning of a minute, what a GPU did in it), by the part it was held.

    What is not covered is filled up with the mean of what is, so 95 % covered energy is not 5 % too low.
    """
    held = []
    for minute, amount in minutes:
        inside = max(min(ended_s, minute + 60) - max(began_s, minute), 0.0) / 60
        if inside > 0 and amount.energy_j is not None:
            held.append(amount.scaled(inside))
    wanted, covered_s = (ended_s - began_s) * gpus, math.fsum(each.covered_s for each in held)
    covered = min(covered_s / wanted, 1.0) if wanted > 0 else 0.0
    energy = math.fsum(each.energy_j or 0.0 for each in held)
    capacity = math.fsum(each.capacity_s or 0.0 for each in held)
    busy = math.fsum(each.busy_s or 0.0 for each in held) / capacity if capacity > 0 else None
    return Metered(energy / covered if covered > 0 else 0.0, busy, covered)
