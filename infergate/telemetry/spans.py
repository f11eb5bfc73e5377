"""One record into its spans, as messages of OTLP: our part of a trace.

A server span by OpenTelemetry's HTTP conventions, and within it, where the backend was called, a
client span by those for generative AI. Needs the extra ``otlp``; imported only where traces are
pushed.
"""

from __future__ import annotations

from collections.abc import Iterator

from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status

from infergate.telemetry.metrics import METHODS, gen_ai_operation
from infergate.telemetry.otlp import Value, attributes
from infergate.telemetry.tracing import Ended

FAILURES = frozenset(
    {"backend_error", "backend_unavailable", "timeout", "internal_error", "overloaded", "shutdown"}
)
"""Outcomes that are an error of the server's, whatever status had been sent by then. What a client
did wrong is none, and neither is that it left."""


def spans(ended: Ended, backend: tuple[str, int] | None) -> Iterator[bytes]:
    """The serialized spans of an exchange; `backend` is the backend's host and port."""
    yield _server_span(ended).SerializeToString()
    if ended.record.backend_began is not None:
        yield _client_span(ended, backend).SerializeToString()


def _server_span(ended: Ended) -> Span:
    record = ended.record
    method = record.method if record.method in METHODS else "_OTHER"
    known: dict[str, Value | None] = {
        "http.request.method": method,
        "http.request.method_original": record.method if method == "_OTHER" else None,
        "http.route": record.route if record.route != "other" else None,
        "url.path": record.path,
        "url.scheme": record.scheme,
        "client.address": record.client,
        "http.response.status_code": record.status,
        "infergate.request_id": record.request_id,
        "infergate.caller": record.caller,
        "infergate.outcome": record.outcome,
    }
    name = method if method != "_OTHER" else "HTTP"
    span = _span(ended, Span.SPAN_KIND_SERVER, known)
    span.name = f"{name} {record.route}" if record.route != "other" else name
    span.span_id = bytes.fromhex(record.span_id or "")
    if record.trace is not None:
        span.parent_span_id = bytes.fromhex(record.trace.parent_id)
    span.start_time_unix_nano = ended.at(record.opened)
    span.end_time_unix_nano = ended.at(record.closed or record.opened)
    return span


def _client_span(ended: Ended, backend: tuple[str, int] | None) -> Span:
    record, usage = ended.record, ended.record.usage
    assert record.backend_began is not None
    operation = None if record.operation is None else gen_ai_operation(record.operation)
    counted = operation is not None and usage.source != "none"
    host, port = backend or (None, None)
    known: dict[str, Value | None] = {
        "gen_ai.operation.name": operation,
        "gen_ai.provider.name": None if operation is None else "openai",
        "gen_ai.request.model": record.model,
        "gen_ai.usage.input_tokens": usage.prompt_tokens if counted else None,
        "gen_ai.usage.output_tokens": usage.completion_tokens if counted else None,
        "http.response.status_code": record.backend_status,
        "server.address": host,
        "server.port": port,
    }
    span = _span(ended, Span.SPAN_KIND_CLIENT, known)
    span.name = " ".join(filter(None, (operation or record.method, record.model)))
    span.span_id = bytes.fromhex(record.backend_span_id or "")
    span.parent_span_id = bytes.fromhex(record.span_id or "")
    span.start_time_unix_nano = ended.at(record.backend_began)
    end = record.backend_ended or record.closed or record.backend_began
    span.end_time_unix_nano = ended.at(end)
    for name, at in (
        ("first_byte", record.backend_head),
        ("first_token", record.first_token),
        ("end", end),
    ):
        if at is not None:
            span.events.add(name=name, time_unix_nano=ended.at(at))
    return span


def _span(ended: Ended, kind: Span.SpanKind.ValueType, known: dict[str, Value | None]) -> Span:
    """What both spans have in common."""
    record = ended.record
    failed = record.outcome in FAILURES or (record.status or 0) >= 500
    if failed:
        known["error.type"] = record.error
    span = Span(
        trace_id=bytes.fromhex(record.trace_id or ""),
        kind=kind,
        attributes=attributes({name: value for name, value in known.items() if value is not None}),
    )
    if record.trace is not None and record.trace.tracestate is not None:
        span.trace_state = record.trace.tracestate.decode("ascii")
    if failed:
        span.status.code = Status.STATUS_CODE_ERROR
    return span
