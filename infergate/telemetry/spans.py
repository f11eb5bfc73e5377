"""One record into its spans, as messages of OTLP: our part of a trace.

A server span by OpenTelemetry's HTTP conventions, and within it, where the backend was called, a
client span by those for generative AI. The messages are written byte for byte: as objects of the
protobuf library, the two spans of a request take 65 us in place of 15. Needs the extra ``otlp``;
imported only where traces are pushed.

    the client's span                 its id is in the client's traceparent
      POST /v1/chat/completions       ours, SERVER: from the first byte in to the end of the answer
        chat qwen2.5-7b               ours, CLIENT: from the call of the backend to its last byte
          first_byte, first_token, end    events of that span
          the backend's spans         the backend is told the id of the span above

A message of protobuf is a row of fields, in any order: a tag, which holds the number of the field
and how it is written, and a value. Of a `Span` (opentelemetry/proto/trace/v1/trace.proto) the name
is field 5, bytes with their length before them, and so the tag ``5 << 3 | 2``, 0x2a; the start is
field 7, a fixed number of 64 bits, ``7 << 3 | 1``, 0x39.
"""

from __future__ import annotations

from collections.abc import Iterator
from struct import pack

from infergate.telemetry.metrics import METHODS, METRIC_NAMES
from infergate.telemetry.otlp import attribute, field, unique_attribute
from infergate.telemetry.record import Record
from infergate.telemetry.tracing import Ended

# The fields of a `Span`, by their tags: number and wire type.
_TRACE_ID, _SPAN_ID, _STATE, _PARENT_ID, _NAME = b"\x0a", b"\x12", b"\x1a", b"\x22", b"\x2a"
_START, _END, _ATTRIBUTE, _EVENT = b"\x39", b"\x41", b"\x4a", b"\x5a"
_SERVER, _CLIENT = b"\x30\x02", b"\x30\x03"
_FAILED = b"\x7a\x02\x18\x02"

# The fields of its `Event`.
_EVENT_TIME, _EVENT_NAME = b"\x09", b"\x12"

FAILURES = frozenset(
    {"backend_error", "backend_unavailable", "timeout", "internal_error", "overloaded", "shutdown"}
)
"""Outcomes that are an error of the server's, whatever status had been sent by then. What a client
did wrong is none, and neither is that it left."""


def spans(ended: Ended, backend: tuple[str, int] | None) -> Iterator[bytes]:
    """Yield the serialized spans of an exchange: one, or two where the backend was called.

    `backend` is the backend's host and port, None where there is none. Called by `SpanPusher` when
    a batch is pushed, a span at a time.
    """
    yield _server_span(ended)
    if ended.record.backend_began is not None:
        yield _client_span(ended, backend)


def _server_span(ended: Ended) -> bytes:
    """Return the span of the request as the client saw it.

    Attributes of few values are written once and kept; those that are a request's own are written
    anew. Of an unknown method the name says no more than ``HTTP``, since clients could make up
    names without end. Called by `spans`.
    """
    record = ended.record
    method = record.method if record.method in METHODS else "_OTHER"
    known = [
        attribute("http.request.method", method),
        attribute("url.scheme", record.scheme),
        attribute("http.response.status_code", record.status or 0),
        attribute("infergate.outcome", record.outcome),
        unique_attribute("client.address", record.client),
        unique_attribute("infergate.request_id", record.request_id),
    ]
    name = "HTTP" if method == "_OTHER" else method
    if record.route != "other":
        name = f"{name} {record.route}"
        known.append(attribute("http.route", record.route))
    if record.path is not None:
        known.append(unique_attribute("url.path", record.path))
    if method == "_OTHER" and record.method is not None:
        known.append(unique_attribute("http.request.method_original", record.method))
    if record.caller is not None:
        known.append(unique_attribute("infergate.caller", record.caller))
    parent = None if record.trace is None else record.trace.parent_id
    end = record.closed or record.opened
    return b"".join(
        (
            _SERVER,
            _ids(record, record.span_id, parent),
            _named(name, ended.at(record.opened), ended.at(end)),
            *_attributes(record, known),
        )
    )


def _client_span(ended: Ended, backend: tuple[str, int] | None) -> bytes:
    """Return the span of the call of the backend.

    What is no operation, such as the list of models, is named by its method. The last event is the
    end of the answer, which may come before the client has it. Called by `spans`, where the backend
    was called.
    """
    record, usage = ended.record, ended.record.usage
    assert record.backend_began is not None
    known = []
    name = record.method or ""
    if record.operation is not None:
        name = METRIC_NAMES[record.operation]
        known.append(attribute("gen_ai.operation.name", name))
        known.append(attribute("gen_ai.provider.name", "openai"))
        if usage.source != "none":
            known.append(attribute("gen_ai.usage.input_tokens", usage.prompt_tokens))
            known.append(attribute("gen_ai.usage.output_tokens", usage.completion_tokens))
    if record.model is not None:
        name = f"{name} {record.model}"
        known.append(attribute("gen_ai.request.model", record.model))
    if record.backend_status is not None:
        known.append(attribute("http.response.status_code", record.backend_status))
    if backend is not None:
        known.append(attribute("server.address", backend[0]))
        known.append(attribute("server.port", backend[1]))
    end = record.backend_ended or record.closed or record.backend_began
    events = (
        ("first_byte", record.backend_head),
        ("first_token", record.first_token),
        ("end", end),
    )
    return b"".join(
        (
            _CLIENT,
            _ids(record, record.backend_span_id, record.span_id),
            _named(name, ended.at(record.backend_began), ended.at(end)),
            *_attributes(record, known),
            *(_event(what, ended.at(at)) for what, at in events if at is not None),
        )
    )


def _ids(record: Record, span_id: str | None, parent_id: str | None) -> bytes:
    """Return the fields of the trace, the span, the span above it, and the state that a client
    sent.

    Ids come in hexadecimal digits and are written as bytes; a `parent_id` of None is a span without
    one above it. Called for either span.
    """
    ids = field(_TRACE_ID, bytes.fromhex(record.trace_id or ""))
    ids += field(_SPAN_ID, bytes.fromhex(span_id or ""))
    if parent_id is not None:
        ids += field(_PARENT_ID, bytes.fromhex(parent_id))
    if record.trace is not None and record.trace.tracestate is not None:
        ids += field(_STATE, record.trace.tracestate)
    return ids


def _named(name: str, start: int, end: int) -> bytes:
    """Return the fields of a span's name and its two timestamps, in nanoseconds since 1970: fixed
    numbers of 64 bits. Called for either span."""
    text = field(_NAME, name.encode("utf-8", "replace"))
    return text + _START + pack("<Q", start) + _END + pack("<Q", end)


def _attributes(record: Record, known: list[bytes]) -> Iterator[bytes]:
    """Yield the fields of the attributes, and of the status where the exchange was an error.

    `known` are attributes that are serialized already; an error's code is added to them. Called for
    either span.
    """
    failed = record.outcome in FAILURES or (record.status or 0) >= 500
    if failed and record.error is not None:
        known.append(attribute("error.type", record.error))
    for one in known:
        yield field(_ATTRIBUTE, one)
    if failed:
        yield _FAILED


def _event(name: str, at: int) -> bytes:
    """Return the field of an event of a span: a name and a timestamp, in nanoseconds since 1970.
    Called for the client span."""
    event = _EVENT_TIME + pack("<Q", at) + field(_EVENT_NAME, name.encode("ascii"))
    return field(_EVENT, event)
