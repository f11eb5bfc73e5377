"""One record into its spans, as messages of OTLP: our part of a trace.

A server span by OpenTelemetry's HTTP conventions, and within it, where the backend was called, a
client span by those for generative AI. Needs the extra ``otlp``; imported only where traces are
pushed.

    the client's span                 its id is in the client's traceparent
      POST /v1/chat/completions       ours, SERVER: from the first byte in to the end of the answer
        chat qwen2.5-7b               ours, CLIENT: from the call of the backend to its last byte
          first_byte, first_token, end    events of that span
          the backend's spans         the backend is told the id of the span above

A message of protobuf is a row of fields, in any order: a tag, which holds the number of the field
and how it is written, and a value. Of a `Span` (opentelemetry/proto/trace/v1/trace.proto) the name
is field 5, bytes with their length before them, and so the tag ``5 << 3 | 2``, 0x2a; the start is
field 7, a fixed number of 64 bits, ``7 << 3 | 1``, 0x39.

Most bytes of a span are those of the last one: requests for one model that end alike differ in
their ids, their timestamps and their tokens alone. So the messages are written byte for byte, and
all fields that are the same are written once and kept, by the values that they are made of. As
objects of the protobuf library, the two spans of a request take 65 us in place of 3.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import lru_cache
from struct import Struct

from infergate.telemetry.metrics import METHODS, METRIC_NAMES
from infergate.telemetry.otlp import ELEMENT, Value, attribute, field, varint
from infergate.telemetry.record import Record
from infergate.telemetry.tracecontext import TraceContext

# The fields of a `Span`, by their tags: number and wire type.
_STATE, _PARENT_ID, _NAME, _ATTRIBUTE = b"\x1a", b"\x22", b"\x2a", b"\x4a"
_SERVER, _CLIENT = b"\x30\x02", b"\x30\x03"
_FAILED = b"\x7a\x02\x18\x02"

# Its start and its end, each behind its tag, in nanoseconds since 1970.
_TIMES = Struct("<cQcQ")
_START, _END = b"\x39", b"\x41"

# Of an `Event`, which is a field of a `Span`, all bytes before its timestamp.
_FIRST_BYTE = b"\x5a\x15\x12\x0afirst_byte\x09"
_FIRST_TOKEN = b"\x5a\x16\x12\x0bfirst_token\x09"
_LAST = b"\x5a\x0e\x12\x03end\x09"
_TIME = Struct("<Q")

FAILURES = frozenset(
    {"backend_error", "backend_unavailable", "timeout", "internal_error", "overloaded", "shutdown"}
)
"""Outcomes that are an error of the server's, whatever status had been sent by then. What a client
did wrong is none, and neither is that it left."""

TOGETHER = 16
"""Exchanges whose spans are made in one step of a push: some 0.1 ms."""


def spans(records: Sequence[Record], backend: tuple[str, int] | None) -> Iterator[bytes]:
    """Yield the serialized spans of exchanges, those of `TOGETHER` at a time: of each one span, or
    two where the backend was called.

    `backend` is the backend's host and port, None where there is none. Called by `SpanPusher` when
    a batch is pushed. The tracer has given each record its ids.
    """
    for start in range(0, len(records), TOGETHER):
        made: list[bytes] = []
        for record in records[start : start + TOGETHER]:
            span = _server_span(record)
            made += (ELEMENT, varint(len(span)), span)
            if record.backend_began is not None:
                span = _client_span(record, record.backend_began, backend)
                made += (ELEMENT, varint(len(span)), span)
        yield b"".join(made)


def _server_span(record: Record) -> bytes:
    """Return the span of the request as the client saw it. Called by `spans`."""
    trace, epoch, request_id = record.trace, record.epoch, record.request_id.encode("ascii")
    assert record.ids is not None
    assert record.closed is not None
    trace_id, span_id, _ = record.ids
    # A path or a method that clients make up is not worth keeping, and has no end.
    bounded = record.path == record.route and record.method in METHODS
    shared = _server_fields if bounded else _server_fields.__wrapped__
    return b"".join(
        (
            b"\x0a\x10",
            trace_id,
            b"\x12\x08",
            span_id,
            b"" if trace is None else _above(trace),
            _TIMES.pack(
                _START, epoch + int(record.opened * 1e9), _END, epoch + int(record.closed * 1e9)
            ),
            shared(
                record.scheme,
                record.method,
                record.route,
                record.path,
                record.status,
                record.outcome,
                record.error,
            ),
            _client_caller_and(record.client, record.caller, len(request_id)),
            request_id,
        )
    )


def _client_span(record: Record, began: float, backend: tuple[str, int] | None) -> bytes:
    """Return the span of the call of the backend, which `began` in seconds on the record's clock.

    The last event is the end of the answer, which may come before the client has it. Called by
    `spans`, where the backend was called.
    """
    epoch, usage, ended = record.epoch, record.usage, record.backend_ended
    assert record.ids is not None
    assert ended is not None
    trace_id, parent_id, span_id = record.ids
    end = epoch + int(ended * 1e9)
    parts = [
        b"\x0a\x10",
        trace_id,
        b"\x12\x08",
        span_id,
        b"\x22\x08",
        parent_id,
        _TIMES.pack(_START, epoch + int(began * 1e9), _END, end),
        _client_fields(
            record.operation,
            record.method,
            record.model,
            record.backend_status,
            record.status,
            record.outcome,
            record.error,
            backend,
        ),
    ]
    if usage.source != "none" and record.operation is not None:
        prompt, completion = varint(usage.prompt_tokens), varint(usage.completion_tokens)
        parts += (_INPUT_TOKENS[len(prompt)], prompt, _OUTPUT_TOKENS[len(completion)], completion)
    if record.trace is not None and record.trace.tracestate is not None:
        parts.append(field(_STATE, record.trace.tracestate))
    if record.backend_head is not None:
        parts += _FIRST_BYTE, _TIME.pack(epoch + int(record.backend_head * 1e9))
    if record.first_token is not None:
        parts += _FIRST_TOKEN, _TIME.pack(epoch + int(record.first_token * 1e9))
    parts += _LAST, _TIME.pack(end)
    return b"".join(parts)


def _above(trace: TraceContext) -> bytes:
    """Return the fields of the client's span, which is above ours, and of the state that it sent.
    Called by `_server_span`."""
    parent = field(_PARENT_ID, bytes.fromhex(trace.parent_id))
    return parent if trace.tracestate is None else parent + field(_STATE, trace.tracestate)


@lru_cache(1024)
def _server_fields(
    scheme: str,
    method: str | None,
    route: str,
    path: str | None,
    status: int | None,
    outcome: str,
    error: str | None,
) -> bytes:
    """Return the fields of a server span that are the same for many requests.

    Of an unknown method the name says no more than ``HTTP``, since clients could make up names
    without end. Called by `_server_span`.
    """
    known: dict[str, Value | None] = {
        "http.request.method": method if method in METHODS else "_OTHER",
        "http.request.method_original": None if method in METHODS else method,
        "http.route": None if route == "other" else route,
        "http.response.status_code": status or 0,
        "url.scheme": scheme,
        "url.path": path,
        "infergate.outcome": outcome,
    }
    name = (method or "") if method in METHODS else "HTTP"
    name = name if route == "other" else f"{name} {route}"
    return _SERVER + _named(name, known) + _ended(status, outcome, error)


@lru_cache(1024)
def _client_caller_and(client: str, caller: str | None, length: int) -> bytes:
    """Return the attributes of whom a request is from, and all bytes of the attribute of its id
    that stand before the id, which has so many bytes. Called by `_server_span`."""
    request_id = "x" * length
    known = {"client.address": client, "infergate.caller": caller}
    return _attributes({**known, "infergate.request_id": request_id}).removesuffix(
        request_id.encode("ascii")
    )


@lru_cache(1024)
def _client_fields(
    operation: str | None,
    method: str | None,
    model: str | None,
    backend_status: int | None,
    status: int | None,
    outcome: str,
    error: str | None,
    backend: tuple[str, int] | None,
) -> bytes:
    """Return the fields of a client span that are the same for many calls.

    What is no operation, such as the list of models, is named by its method. Called by
    `_client_span`.
    """
    name = (method or "") if operation is None else METRIC_NAMES[operation]
    host, port = backend or (None, None)
    known: dict[str, Value | None] = {
        "gen_ai.operation.name": None if operation is None else name,
        "gen_ai.provider.name": None if operation is None else "openai",
        "gen_ai.request.model": model,
        "http.response.status_code": backend_status,
        "server.address": host,
        "server.port": port,
    }
    name = name if model is None else f"{name} {model}"
    return _CLIENT + _named(name, known) + _ended(status, outcome, error)


def _named(name: str, known: dict[str, Value | None]) -> bytes:
    """Return the fields of a span's name and its attributes. Called for either span."""
    return field(_NAME, name.encode("utf-8", "replace")) + _attributes(known)


def _ended(status: int | None, outcome: str, error: str | None) -> bytes:
    """Return the attribute and the status of a span whose exchange was an error of the server's;
    nothing for any other. Called for either span."""
    if outcome not in FAILURES and (status or 0) < 500:
        return b""
    return _attributes({"error.type": error}) + _FAILED


def _attributes(known: dict[str, Value | None]) -> bytes:
    """Return the fields of attributes, without those whose value is None. Called for either
    span."""
    return b"".join(
        field(_ATTRIBUTE, attribute(name, value))
        for name, value in known.items()
        if value is not None
    )


def _before_tokens(name: str) -> list[bytes]:
    """Return all bytes of an attribute that stand before its value, a number: by how many bytes
    the number is written with, of which there are nine at most. Called once for each name."""
    return [b""] + [_attributes({name: 1 << 7 * (length - 1)})[:-length] for length in range(1, 10)]


_INPUT_TOKENS = _before_tokens("gen_ai.usage.input_tokens")
_OUTPUT_TOKENS = _before_tokens("gen_ai.usage.output_tokens")
