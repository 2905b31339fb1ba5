"""One scrape, read: the text of an exporter becomes measures in our units, by source.

Nothing of it is believed further than it goes: values that are none (NaN, infinite, DCGM's blanks) are dropped, labels
may be missing, the same GPU may be told of once for each of its instances and users, and a time stamp may be old.
"""

import hashlib
import math
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from prometheus_client.metrics_core import Metric
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.samples import Sample

from control_plane.factory.domain.exporters import GPU_KINDS, OF_A_GPU, RULES, ExporterKind, Form, Measure, Name, Rule
from control_plane.factory.domain.histograms import Histogram

STALE_S: Final = 300.0
"""Older than that a value is not believed, and over a longer gap nothing is counted; as Prometheus has it."""
MAX_SERIES: Final = 5000
MAX_SOURCES: Final = 64
BLANKS: Final = frozenset(float(base + step) for base in (2**47, 0x7FFFFFFFFFFFFFF0, 0x7FFFFFF0) for step in range(8))
"""What DCGM says where it knows nothing (blank, not found, not supported): in floats, 64-bit and 32-bit numbers."""
PLAIN: Final = re.compile(r"[A-Za-z0-9_.:/-]{1,80}")
SLICES: Final = re.compile(r"([1-9])g\.")


class Series(NamedTuple):
    """What of one measure is counted on its own: falls are seen here, and only here."""

    measure: Measure
    source: str
    name: str


@dataclass(frozen=True, slots=True)
class Reading:
    """What a scrape said. `source` is a GPU's UUID, "" for a server or a machine; `places`: its machine and number."""

    at_s: float
    started_at_s: float | None = None
    counters: Mapping[Series, float] = field(default_factory=dict)
    gauges: Mapping[tuple[Measure, str], float] = field(default_factory=dict)
    histograms: Mapping[Series, Histogram] = field(default_factory=dict)
    places: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    dropped: int = 0


class UnreadableError(ValueError):
    """What came is no exposition, or more than one exporter should say; the sentence says what."""


def read(text: str, kind: ExporterKind, at_s: float) -> Reading:
    """Read an exposition (Prometheus text format 0.0.4).

    Raises:
        UnreadableError: it is none, has too many series of what we count, or nothing that this kind of exporter says.
    """
    gathered = _Gathered(kind, at_s)
    try:
        for sample in _samples(text_string_to_metric_families(text)):
            gathered.take(sample)
    except UnreadableError:
        raise
    except (ValueError, KeyError, IndexError, RecursionError) as error:
        raise UnreadableError(f"this is not Prometheus' text format: {str(error)[:200]}") from error
    return gathered.reading()


def _samples(families: Iterable[Metric]) -> Iterator[Sample]:
    for family in families:
        yield from family.samples


class _Found(NamedTuple):
    labels: Mapping[str, str]
    value: float


class _Gathered:
    """Samples by rule and by which of its names they have."""

    def __init__(self, kind: ExporterKind, at_s: float) -> None:
        self._kind, self._at_s = kind, at_s
        self._held: dict[Rule, dict[int, list[tuple[Sample, float]]]] = defaultdict(lambda: defaultdict(list))
        self._dropped = self._number = 0
        self._answers = False
        self._known: dict[str, list[tuple[Rule, int, Name]]] = {}

    def take(self, sample: Sample) -> None:
        self._answers = True
        for rule, place, name in self._rules(sample.name):
            if any(sample.labels.get(label) not in values for label, values in name.only):
                continue
            if self._is_none(sample):
                self._dropped += 1
                continue
            self._number += 1
            if self._number > MAX_SERIES:
                raise UnreadableError(f"more than {MAX_SERIES} series; is this one exporter, and no Prometheus?")
            self._held[rule][place].append((sample, name.scale))

    def _rules(self, said: str) -> list[tuple[Rule, int, Name]]:
        found = self._known.get(said)
        if found is None:
            found = self._known[said] = [
                (rule, place, name)
                for rule in RULES[self._kind]
                for place, name in enumerate(rule.names)
                if any(name.pattern.fullmatch(each) for each in _names(said, rule.form))
            ]
        return found

    def _is_none(self, sample: Sample) -> bool:
        if not math.isfinite(sample.value) or sample.value < 0:
            return True
        if sample.timestamp is not None and self._at_s - float(sample.timestamp) > STALE_S:
            return True
        return self._kind is ExporterKind.DCGM and float(sample.value) in BLANKS

    def reading(self) -> Reading:
        if not self._answers:
            raise UnreadableError("the answer holds no metric at all")
        counters: dict[Series, float] = {}
        gauges: dict[tuple[Measure, str], float] = {}
        histograms: dict[Series, Histogram] = {}
        for rule, by_name in self._held.items():
            if rule.form is Form.HISTOGRAM:
                histograms |= _histograms(rule, by_name)
            elif rule.measure in OF_A_GPU and self._kind in GPU_KINDS:
                said = self._of_gpus(rule, by_name)
                if rule.form is Form.COUNTER:
                    counters |= {Series(rule.measure, source, ""): value for source, value in said.items()}
                else:
                    gauges |= {(rule.measure, source): value for source, value in said.items()}
            elif rule.form is Form.COUNTER:
                counters |= _counters(rule, by_name)
            else:
                gauges[rule.measure, ""] = _gauge_of(rule, by_name)
        started = _started(gauges, self._at_s)
        return Reading(self._at_s, started, counters, gauges, histograms, self._places(), self._dropped)

    def _of_gpus(self, rule: Rule, by_name: Mapping[int, list[tuple[Sample, float]]]) -> dict[str, float]:
        """Return one value for each GPU, by the first of the rule's names that tells of it."""
        found: dict[str, float] = {}
        for place in sorted(by_name):
            parts = defaultdict[str, list[_Found]](list)
            for sample, scale in by_name[place]:
                source = source_of(sample.labels)
                if source is None:
                    self._dropped += 1
                elif source not in found:
                    parts[source].append(_Found(sample.labels, sample.value * scale))
            for source, said in parts.items():
                found[source] = _busy(said) if rule.measure is Measure.BUSY else max(one.value for one in said)
        if len(found) > MAX_SOURCES:
            raise UnreadableError(f"more than {MAX_SOURCES} GPUs in one exporter")
        return found

    def _places(self) -> dict[str, tuple[str, str]]:
        found = {}
        for rule, by_name in self._held.items():
            if rule.measure not in OF_A_GPU or self._kind not in GPU_KINDS:
                continue
            for sample, _ in (pair for pairs in by_name.values() for pair in pairs):
                source = source_of(sample.labels)
                if source is not None:
                    node, number = sample.labels.get("Hostname", ""), sample.labels.get("gpu", "")
                    found[source] = (_plain(node) if node else "", _plain(number) if number else "")
        return found


def source_of(labels: Mapping[str, str]) -> str | None:
    """Return by what a GPU is known: its UUID, else its machine and number; None if neither is said."""
    uuid = labels.get("UUID") or labels.get("gpu_uuid")
    if uuid:
        return _plain(uuid)
    number = labels.get("gpu") or labels.get("device")
    return _plain(f"{labels.get('Hostname', '')}/{number}") if number else None


def _plain(words: str) -> str:
    """Return a label's value, or what stands for one that is long or strange: it becomes a key in our database."""
    return words if PLAIN.fullmatch(words) else hashlib.sha256(words.encode("utf-8", "replace")).hexdigest()[:16]


def _busy(said: Iterable[_Found]) -> float:
    """Return how busy a GPU is: of one cut into instances (MIG), the mean of those that there are, by their slices.

    An instance that several containers share is told of once for each of them.
    """
    instances: dict[str, tuple[float, float]] = {}
    for one in said:
        name, profile = one.labels.get("GPU_I_ID", ""), SLICES.match(one.labels.get("GPU_I_PROFILE", ""))
        slices = float(profile.group(1)) if profile else 1.0
        _, before = instances.get(name, (slices, 0.0))
        instances[name] = slices, max(before, min(one.value, 1.0))
    cut = {name: held for name, held in instances.items() if name}
    held = list((cut or instances).values())
    return sum(slices * busy for slices, busy in held) / sum(slices for slices, _ in held)


def _counters(rule: Rule, by_name: Mapping[int, list[tuple[Sample, float]]]) -> dict[Series, float]:
    return {
        Series(rule.measure, "", _identity(sample)): sample.value * scale for sample, scale in by_name[min(by_name)]
    }


def _gauge_of(rule: Rule, by_name: Mapping[int, list[tuple[Sample, float]]]) -> float:
    """Return what a server says: added up over its parts, but for when it started, which is the latest."""
    values = [sample.value * scale for sample, scale in by_name[min(by_name)]]
    if rule.measure is Measure.STARTED_AT:
        return max(values)
    return min(values) if rule.measure is Measure.AGE_S else sum(values)


def _started(gauges: Mapping[tuple[Measure, str], float], at_s: float) -> float | None:
    age_s, started = gauges.get((Measure.AGE_S, "")), gauges.get((Measure.STARTED_AT, ""))
    return started if started is not None else None if age_s is None else at_s - age_s


def _names(said: str, form: Form) -> tuple[str, ...]:
    """Return by which names a sample may be known: the parser ends every counter with `_total`, as OpenMetrics does."""
    if form is Form.HISTOGRAM:
        return (_stem(said),)
    return (said, said.removesuffix("_total")) if form is Form.COUNTER else (said,)


def _stem(name: str) -> str:
    """Return a histogram's name without what its series add; "" for what is no part of one."""
    stem, _, part = name.rpartition("_")
    return stem if part in {"bucket", "sum", "count"} else ""


def _identity(sample: Sample, without: str = "") -> str:
    """Return a short name of a series: the same as long as its name and labels are."""
    labels = sorted((name, value) for name, value in sample.labels.items() if name != without)
    return hashlib.sha256(repr((_stem(sample.name) if without else sample.name, labels)).encode()).hexdigest()[:16]


def _histograms(rule: Rule, by_name: Mapping[int, list[tuple[Sample, float]]]) -> dict[Series, Histogram]:
    """Return histograms by their labels; one without a last, infinite bound is none, as far as quantiles go."""
    buckets, sums = defaultdict[str, dict[float, float]](dict), defaultdict[str, float](float)
    for sample, scale in by_name[min(by_name)]:
        key = _identity(sample, without="le")
        if sample.name.endswith("_sum"):
            sums[key] = sample.value * scale
        elif sample.name.endswith("_bucket"):
            bound = _bound(sample.labels.get("le", ""))
            if bound is not None:  # "1" and "1.0" are one bound, which exporters write as they like
                buckets[key][bound * scale] = sample.value
    return {
        Series(rule.measure, "", key): Histogram(held, sums[key]) for key, held in buckets.items() if math.inf in held
    }


def _bound(words: str) -> float | None:
    try:
        bound = float(words)
    except ValueError:
        return None
    return None if math.isnan(bound) else bound
