"""OpenTelemetry's own part of `kit.tracing`: imported only where traces are sent."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

from opentelemetry import trace
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace import NonRecordingSpan, SpanContext, SpanKind, StatusCode, TraceFlags

from control_plane.kit.observability import our_version

if TYPE_CHECKING:
    from control_plane.kit.tracing import Parent

KINDS: Final = {
    "internal": SpanKind.INTERNAL,
    "server": SpanKind.SERVER,
    "consumer": SpanKind.CONSUMER,
    "producer": SpanKind.PRODUCER,
}


def provider(service: str) -> TracerProvider:
    """Return what makes and sends spans; collector, sampler and names are OTEL_... variables, as everywhere.

    Spans are sent by a thread in batches; while the collector is away they are dropped, and nothing waits.
    """
    resource = Resource.create({"service.name": service, "service.version": our_version()})
    made = TracerProvider(resource=resource)
    made.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    return made


def begin(tracer: trace.Tracer, name: str, parent: "Parent | None", kind: str, attributes: Mapping[str, Any]) -> Any:
    context = None
    if parent is not None:
        flags = TraceFlags(TraceFlags.SAMPLED if parent.is_sampled else TraceFlags.DEFAULT)
        remote = SpanContext(int(parent.trace_id, 16), int(parent.span_id, 16), is_remote=True, trace_flags=flags)
        context = trace.set_span_in_context(NonRecordingSpan(remote))
    return tracer.start_span(name, context=context, kind=KINDS[kind], attributes=dict(attributes))


def traceparent_of(span: Any) -> str:
    held = span.get_span_context()
    return f"00-{held.trace_id:032x}-{held.span_id:016x}-{int(held.trace_flags):02x}"


def failed(span: Any, error: BaseException) -> None:
    """Note the kind of an error; its words may hold what others should not read."""
    span.set_status(StatusCode.ERROR, type(error).__name__)
    span.set_attribute("error.type", type(error).__name__)
