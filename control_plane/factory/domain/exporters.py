"""What exporters say, by kind: names of metrics in the versions that we know, and their units.

Sources: the metric lists that dcgm-exporter (`default-counters.csv`), vLLM, NIM, Dynamo, Triton and node_exporter
document. A measure has several names because versions renamed it. Of those that one source says only the first counts:
while a name is being replaced both are there, and mean the same.
"""

import re
from dataclasses import dataclass
from enum import StrEnum
from ipaddress import ip_address
from typing import Final
from urllib.parse import urlsplit

from control_plane.kit.addresses import is_never_reached

MAX_URL = 500
MAX_EXPORTERS = 64
"""Of one cluster."""


class ExporterKind(StrEnum):
    DCGM = "dcgm"
    NIM = "nim"
    DYNAMO = "dynamo"
    TRITON = "triton"
    NODE = "node"
    VLLM = "vllm"


class Measure(StrEnum):
    """What is measured, in the unit that its name ends with; `busy` is a share of 0 to 1."""

    ENERGY_J = "energy_j"
    POWER_W = "power_w"
    BUSY = "busy"
    CPU_S = "cpu_s"
    CPU_IDLE_S = "cpu_idle_s"
    TOKENS_OUT = "tokens_out"
    TOKENS_IN = "tokens_in"
    REQUESTS = "requests"
    QUEUE_S = "queue_s"
    RUNNING = "running"
    WAITING = "waiting"
    FIRST_TOKEN_S = "first_token_s"  # noqa: S105 - a token of text
    BETWEEN_TOKENS_S = "between_tokens_s"
    STARTED_AT = "started_at"
    AGE_S = "age_s"


class Form(StrEnum):
    COUNTER = "counter"
    GAUGE = "gauge"
    HISTOGRAM = "histogram"


@dataclass(frozen=True, slots=True)
class Name:
    """One name of a measure: a pattern for the whole of it, what one of its units is, which values of labels count."""

    pattern: "re.Pattern[str]"
    scale: float = 1.0
    only: tuple[tuple[str, frozenset[str]], ...] = ()


@dataclass(frozen=True, slots=True)
class Rule:
    """How a measure is read; `names` with the one that is believed first."""

    measure: Measure
    form: Form
    names: tuple[Name, ...]


def _named(*names: str, scale: float = 1.0) -> tuple[Name, ...]:
    return tuple(Name(re.compile(name), scale) for name in names)


def _counter(measure: Measure, *names: str, scale: float = 1.0) -> Rule:
    return Rule(measure, Form.COUNTER, _named(*names, scale=scale))


def _gauge(measure: Measure, *names: str, scale: float = 1.0) -> Rule:
    return Rule(measure, Form.GAUGE, _named(*names, scale=scale))


def _histogram(measure: Measure, *names: str, scale: float = 1.0) -> Rule:
    return Rule(measure, Form.HISTOGRAM, _named(*names, scale=scale))


STARTED = _gauge(Measure.STARTED_AT, "process_start_time_seconds")
IDLE = frozenset({"idle", "iowait"})


def _engine(prefix: str) -> tuple[Rule, ...]:
    """Return what vLLM says, and NIM, which is one within: the latter without the prefix in some versions."""
    return (
        _counter(Measure.TOKENS_OUT, f"{prefix}generation_tokens_total"),
        _counter(Measure.TOKENS_IN, f"{prefix}prompt_tokens_total"),
        _counter(Measure.REQUESTS, f"{prefix}request_success_total", f"{prefix}request_finish_total"),
        _gauge(Measure.RUNNING, f"{prefix}num_requests_running"),
        _gauge(Measure.WAITING, f"{prefix}num_requests_waiting"),
        _histogram(Measure.FIRST_TOKEN_S, f"{prefix}time_to_first_token_seconds"),
        _histogram(
            Measure.BETWEEN_TOKENS_S, f"{prefix}inter_token_latency_seconds", f"{prefix}time_per_output_token_seconds"
        ),
        _histogram(Measure.QUEUE_S, f"{prefix}request_queue_time_seconds"),
        STARTED,
    )


def _dynamo(name: str) -> tuple[str, str]:
    """Return a front end's names: its prefix can be set (DYN_METRICS_PREFIX); its router says some of it once more."""
    return f"[a-z0-9_]*frontend_{name}", f"(?![a-z0-9_]*router_)[a-z][a-z0-9_]*_{name}"


RULES: Final[dict[ExporterKind, tuple[Rule, ...]]] = {
    ExporterKind.DCGM: (
        _counter(Measure.ENERGY_J, "DCGM_FI_DEV_TOTAL_ENERGY_CONSUMPTION", scale=1e-3),
        _gauge(Measure.POWER_W, "DCGM_FI_DEV_POWER_USAGE", "DCGM_FI_DEV_POWER_USAGE_INSTANT"),
        Rule(
            Measure.BUSY,
            Form.GAUGE,
            (*_named("DCGM_FI_PROF_GR_ENGINE_ACTIVE"), *_named("DCGM_FI_DEV_GPU_UTIL", scale=0.01)),
        ),
    ),
    ExporterKind.VLLM: _engine("vllm:"),
    ExporterKind.NIM: _engine("(?:vllm:)?"),
    ExporterKind.DYNAMO: (
        _counter(Measure.TOKENS_OUT, *_dynamo("output_tokens_total")),
        _counter(Measure.TOKENS_IN, *_dynamo("input_sequence_tokens_sum")),
        _counter(Measure.REQUESTS, *_dynamo("requests_total")),
        _gauge(Measure.RUNNING, *_dynamo("inflight_requests")),
        _gauge(Measure.WAITING, *_dynamo("queued_requests")),
        _histogram(Measure.FIRST_TOKEN_S, *_dynamo("time_to_first_token_seconds")),
        _histogram(Measure.BETWEEN_TOKENS_S, *_dynamo("inter_token_latency_seconds")),
        _gauge(Measure.AGE_S, *_dynamo("uptime_seconds")),
        STARTED,
    ),
    ExporterKind.TRITON: (
        _counter(Measure.REQUESTS, "nv_inference_request_success"),
        _counter(Measure.QUEUE_S, "nv_inference_queue_duration_us", scale=1e-6),
        _gauge(Measure.WAITING, "nv_inference_pending_request_count"),
        _histogram(Measure.FIRST_TOKEN_S, "nv_inference_first_response_histogram_ms", scale=1e-3),
        _counter(Measure.ENERGY_J, "nv_energy_consumption"),
        _gauge(Measure.POWER_W, "nv_gpu_power_usage"),
        _gauge(Measure.BUSY, "nv_gpu_utilization"),
    ),
    ExporterKind.NODE: (
        _counter(Measure.CPU_S, "node_cpu_seconds_total"),
        Rule(Measure.CPU_IDLE_S, Form.COUNTER, (Name(re.compile("node_cpu_seconds_total"), 1.0, (("mode", IDLE),)),)),
        _counter(Measure.ENERGY_J, "node_rapl_package_joules_total"),
        _gauge(Measure.STARTED_AT, "node_boot_time_seconds"),
    ),
}
OF_A_GPU: Final = frozenset({Measure.ENERGY_J, Measure.POWER_W, Measure.BUSY})
GPU_KINDS: Final = (ExporterKind.DCGM, ExporterKind.TRITON)
"""Who tells of GPUs, with the one that is believed first where both tell of the same one."""
SERVING_KINDS: Final = (ExporterKind.DYNAMO, ExporterKind.NIM, ExporterKind.VLLM, ExporterKind.TRITON)
"""Who serves, outermost first: what a front end hands to its workers is counted by both, and counts once."""


def read_exporter_url(url: str) -> str:
    """Return the URL if an exporter may be there.

    Raises:
        ValueError: it is none, brings credentials, or names a place that nobody here connects to.
    """
    if len(url) > MAX_URL or not url.isascii() or not url.isprintable() or any(sign in url for sign in " \\"):
        raise ValueError(f"an exporter's URL has at most {MAX_URL} plain signs")
    parts = urlsplit(url)
    if parts.scheme not in {"http", "https"} or not parts.hostname or parts.port == 0:
        raise ValueError(f"{url!r} is not the http(s) address of an exporter, such as http://node1:9400/metrics")
    if parts.username is not None or parts.password is not None or parts.fragment:
        raise ValueError("an exporter's URL has neither a user nor a fragment")
    try:
        address = ip_address(parts.hostname)
    except ValueError:
        return url
    if is_never_reached(address):
        raise ValueError(f"{address} is no place for an exporter")
    return url
