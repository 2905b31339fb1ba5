"""Traces by OpenTelemetry where a collector is configured; otherwise nothing of this does anything, or imports it.

On with `OTEL_EXPORTER_OTLP_ENDPOINT` (or `..._TRACES_ENDPOINT`) and the extra `otel`. What goes from process to process
is a W3C `traceparent` (https://www.w3.org/TR/trace-context/) and nothing else: baggage and tracestate are strangers'
words, which nobody here reads or hands on.
"""

import logging
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from contextvars import ContextVar
from typing import Any, Final, NamedTuple

from control_plane.kit.limits import App
from control_plane.kit.routes import route_of

HEADER: Final = b"traceparent"
VARIABLE: Final = "TRACEPARENT"
PRIVATE: Final = (
    "OTEL_EXPORTER_OTLP_HEADERS",
    "OTEL_EXPORTER_OTLP_TRACES_HEADERS",
    "BAGGAGE",
    "TRACESTATE",
)
"""Variables that commands of jobs are not told: a collector's password, and what others attached to a trace."""
_SHAPE: Final = re.compile(r"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?")
_MAX: Final = 128
_log = logging.getLogger(__name__)
_current: ContextVar[str] = ContextVar("traceparent", default="")


class Parent(NamedTuple):
    """What a traceparent says: both ids in hex, and whether whoever began the trace wants it kept."""

    trace_id: str
    span_id: str
    is_sampled: bool


def read_traceparent(said: str | bytes | None) -> Parent | None:
    """Return what a traceparent says; None for one that is malformed, too long, all zeros or of version ff."""
    if not said or len(said) > _MAX:
        return None
    found = _SHAPE.fullmatch(said.decode("latin-1") if isinstance(said, bytes) else said)
    if found is None:
        return None
    version, trace_id, span_id, flags, more = found.groups()
    if version == "ff" or (version == "00" and more) or not trace_id.strip("0") or not span_id.strip("0"):
        return None
    return Parent(trace_id, span_id, bool(int(flags, 16) & 1))


class _Tracing:
    """What a process has of OpenTelemetry; `tracer` is None where it has nothing."""

    def __init__(self) -> None:
        self.tracer: Any = None
        self.provider: Any = None


_ours: Final = _Tracing()


def start(service: str, environment: Mapping[str, str] = os.environ) -> bool:
    """Begin to trace if the environment says where to; return whether it does."""
    wanted = environment.get("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT") or environment.get("OTEL_EXPORTER_OTLP_ENDPOINT")
    if not wanted or environment.get("OTEL_SDK_DISABLED", "").lower() == "true" or _ours.tracer is not None:
        return _ours.tracer is not None
    try:
        from control_plane.kit import otel  # noqa: PLC0415 - an extra
    except ImportError as error:
        _log.warning("OTEL_EXPORTER_OTLP_ENDPOINT is set, but %s: pip install 'fleetloop[otel]'", error)
        return False
    _ours.provider = otel.provider(service)
    _ours.tracer = _ours.provider.get_tracer("fleetloop")
    return True


def stop() -> None:
    """Send what is still to be sent, and trace no more."""
    if _ours.provider is not None:
        _ours.provider.shutdown()
    _ours.tracer = _ours.provider = None


def is_on() -> bool:
    return _ours.tracer is not None


def header() -> str | None:
    """Return the traceparent of what this task or thread does now; None if that is not traced."""
    return _current.get() or None


def headers() -> dict[str, str]:
    """Return what a request to another of our processes carries."""
    now = _current.get()
    return {"traceparent": now} if now else {}


def trace_id() -> str:
    """Return the id of the trace that this belongs to, "" if to none."""
    return _current.get()[3:35]


def is_sampled(sent: Iterable[tuple[bytes, bytes]]) -> bool:
    """Say whether a request's headers ask for it to be traced."""
    parent = read_traceparent(next((value for name, value in sent if name == HEADER), None))
    return parent is not None and parent.is_sampled


def span(
    name: str, *, parent: str | bytes | None = None, kind: str = "internal", **attributes: str | float
) -> AbstractContextManager[Any]:
    """Trace a block as a part of `parent`, else of what this task or thread does now; without tracing do nothing.

    Attributes are ids and numbers: no tokens, no queries, no words of strangers. What is raised goes on; of it the kind
    is noted. Dots in their names are written as two underscores.
    """
    return nullcontext() if _ours.tracer is None else _span(name, parent, kind, attributes)


@contextmanager
def _span(name: str, parent: str | bytes | None, kind: str, attributes: Mapping[str, Any]) -> Iterator[Any]:
    from control_plane.kit import otel  # noqa: PLC0415 - it is there, or there would be no tracer

    above = read_traceparent(parent) or read_traceparent(_current.get())
    made = otel.begin(_ours.tracer, name, above, kind, {k.replace("__", "."): v for k, v in attributes.items()})
    token = _current.set(otel.traceparent_of(made))
    try:
        yield made
    except BaseException as error:
        otel.failed(made, error)
        raise
    finally:
        _current.reset(token)
        made.end()


class Traced:
    """ASGI middleware: a span for each request, named by its route; put in only where there is a tracer."""

    untraced = ("/healthz", "/readyz", "/static/")

    def __init__(self, app: App) -> None:
        self.app = app

    async def __call__(self, scope: Mapping[str, Any], receive: Any, send: Any) -> None:
        if scope["type"] != "http" or scope["path"].startswith(self.untraced):
            await self.app(scope, receive, send)
            return
        parent = next((value for name, value in scope["headers"] if name == HEADER), None)
        method = scope["method"] if scope["method"] in {"GET", "PUT", "POST", "PATCH", "DELETE", "HEAD"} else "OTHER"
        with span(method, parent=parent, kind="server", http__request__method=method) as made:

            async def noting(message: dict[str, Any]) -> None:
                if message["type"] == "http.response.start" and made is not None:
                    route = route_of(scope)
                    made.update_name(f"{method} {route}")
                    made.set_attribute("http.route", route)
                    made.set_attribute("http.response.status_code", message["status"])
                await send(message)

            await self.app(scope, receive, noting)
