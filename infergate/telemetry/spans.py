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
all fields that are the same, of both spans of a request, are written once and kept, by the values
that they are made of: one look-up finds them. What is made for each request is appended to the
parts of many, which are joined once. As objects of the protobuf library, the two spans take 65 us
in place of 2.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from math import floor
from struct import Struct
from typing import Any

from infergate.telemetry.metrics import METHODS, METRIC_NAMES
from infergate.telemetry.otlp import ELEMENT, Value, attribute, field, varint
from infergate.telemetry.record import Record
from infergate.telemetry.tracecontext import TraceContext

# The fields of a `Span`, by their tags: number and wire type.
_STATE, _NAME, _ATTRIBUTE = b"\x1a", b"\x2a", b"\x4a"
# Those of its ids, each with its length, 16 or 8.
_ITS_TRACE, _ITS_ID, _ITS_PARENT = b"\x0a\x10", b"\x12\x08", b"\x22\x08"
_SERVER, _CLIENT = b"\x30\x02", b"\x30\x03"
_FAILED = b"\x7a\x02\x18\x02"

# Its start and its end, each behind its tag, in nanoseconds since 1970.
_TIMES = Struct("<cQcQ")
_START, _END = b"\x39", b"\x41"

# Of an `Event`, which is a field of a `Span`, all bytes before its timestamp.
_FIRST_BYTE = b"\x5a\x15\x12\x0afirst_byte\x09"
_FIRST_TOKEN = b"\x5a\x16\x12\x0bfirst_token\x09"
_LAST = b"\x5a\x0e\x12\x03end\x09"

# The start, the end and the events of a client span: where the backend did not answer, where it
# did, and where it streamed.
_CALLED, _ANSWERED = Struct("<cQcQ8sQ"), Struct("<cQcQ15sQ8sQ")
_STREAMED = Struct("<cQcQ15sQ16sQ8sQ")

# The size of a server span's ids and timestamps, and that of a client span's ids, with their tags
# but for the one in the shared fields.
_SERVER_SIZE, _CLIENT_SIZE = 18 + 8 + _TIMES.size, 18 + 8 + 10


def _beginning(size: int) -> bytes:
    """Return all bytes of a span of this size that stand before the id of its trace. Called for
    either span where it is not in `_BEGINNINGS`."""
    return ELEMENT + varint(size) + _ITS_TRACE


LONG = 2048
"""The size from which on a span's beginning is made anew: few are as long."""

_BEGINNINGS = [_beginning(size) for size in range(LONG)]


FAILURES = frozenset(
    {"backend_error", "backend_unavailable", "timeout", "internal_error", "overloaded", "shutdown"}
)
"""Outcomes that are an error of the server's, whatever status had been sent by then. What a client
did wrong is none, and neither is that it left."""

KEPT = 1024
"""Kinds of exchanges whose shared fields are kept."""

_Kind = tuple[Any, ...]
# The fields of a server span and those of a client span that all exchanges of a kind share, each
# behind its size; both end with the tag of the id that follows.
_Shared = tuple[int, bytes, int, bytes]


def spans(records: Sequence[Record], backend: tuple[str, int] | None) -> bytes:
    """Return the serialized spans of exchanges: of each one span, or two where the backend was
    called.

    `backend` is the backend's host and port, None where there is none. Called by `SpanPusher` with
    some exchanges that have ended. The tracer has given each record its ids.
    """
    kept = _kept(backend)
    parts: list[bytes] = []
    for record in records:
        # All that the shared fields are made of. An attrgetter takes three times as long.
        kind = (
            record.scheme,
            record.method,
            record.route,
            record.path,
            record.status,
            record.outcome,
            record.error,
            record.client,
            record.caller,
            record.operation,
            record.model,
            record.backend_status,
        )
        size, fields, client_size, client_fields = kept.get(kind) or _share(kind, kept, backend)
        _server_span(parts, record, size, fields)
        if record.backend_began is not None:
            _client_span(parts, record, record.backend_began, client_size, client_fields)
    return b"".join(parts)


@lru_cache(1)
def _kept(backend: tuple[str, int] | None) -> dict[_Kind, _Shared]:
    """Return what is kept from one batch for the next; all of a process are for one backend. Called
    by `spans`."""
    return {}


def _share(kind: _Kind, kept: dict[_Kind, _Shared], backend: tuple[str, int] | None) -> _Shared:
    """Make the fields that all exchanges of a kind share, and keep them. Called by `spans` for a
    kind that is not kept.

    A path or a method that clients make up is not worth keeping, and has no end.
    """
    scheme, method, route, path, status, outcome, error, client, caller = kind[:9]
    operation, model, backend_status = kind[9:]
    server = (
        _server_fields(scheme, method, route, path, status, outcome, error)
        + _attributes({"client.address": client, "infergate.caller": caller})
        + _ITS_ID
    )
    called = _client_fields(
        operation, model, backend_status, method, status, outcome, error, backend
    )
    called += _ITS_PARENT
    shared = len(server), server, len(called), called
    if path == route and method in METHODS:
        if len(kept) >= KEPT:
            kept.clear()
        kept[kind] = shared
    return shared


def _server_span(parts: list[bytes], record: Record, size: int, fields: bytes) -> None:
    """Append the span of the request as the client saw it to the parts of a message. Its shared
    `fields` are of this size. Called by `spans`."""
    ids, epoch, closed = record.ids, record.epoch, record.closed
    assert ids is not None
    assert closed is not None
    trace_id, span_id, _ = ids
    request_id = record.request_id.encode()
    before_id = _before_request_id(len(request_id))
    size += _SERVER_SIZE + len(before_id) + len(request_id)
    if record.trace is not None:
        above = _above(record.trace)
        size += len(above)
        fields = above + fields
    parts += (
        _BEGINNINGS[size] if size < LONG else _beginning(size),
        trace_id,
        fields,
        span_id,
        before_id,
        request_id,
        _TIMES.pack(_START, epoch + floor(record.opened * 1e9), _END, epoch + floor(closed * 1e9)),
    )


def _client_span(
    parts: list[bytes], record: Record, began: float, size: int, fields: bytes
) -> None:
    """Append the span of the call of the backend, which `began` in seconds on the record's clock,
    to the parts of a message. Its shared `fields` are of this size.

    The last event is the end of the answer, which may come before the client has it. Called by
    `spans`, where the backend was called.
    """
    ids, epoch, ended = record.ids, record.epoch, record.backend_ended
    assert ids is not None
    assert ended is not None
    trace_id, parent_id, span_id = ids
    head, usage, trace = record.backend_head, record.usage, record.trace
    start, end = epoch + floor(began * 1e9), epoch + floor(ended * 1e9)
    if head is None:
        rest = _CALLED.pack(_START, start, _END, end, _LAST, end)
    elif record.first_token is None:
        first = epoch + floor(head * 1e9)
        rest = _ANSWERED.pack(_START, start, _END, end, _FIRST_BYTE, first, _LAST, end)
    else:
        first, token = epoch + floor(head * 1e9), epoch + floor(record.first_token * 1e9)
        rest = _STREAMED.pack(
            _START, start, _END, end, _FIRST_BYTE, first, _FIRST_TOKEN, token, _LAST, end
        )
    if usage.source != "none" and record.operation is not None:
        rest += _input_tokens(usage.prompt_tokens) + _output_tokens(usage.completion_tokens)
    if trace is not None and trace.tracestate is not None:
        rest += field(_STATE, trace.tracestate)
    size += _CLIENT_SIZE + len(rest)
    parts += (
        _BEGINNINGS[size] if size < LONG else _beginning(size),
        trace_id,
        fields,
        parent_id,
        _ITS_ID,
        span_id,
        rest,
    )


def _above(trace: TraceContext) -> bytes:
    """Return the fields of the client's span, which is above ours, and of the state that it sent.
    Called by `_server_span`."""
    parent = _ITS_PARENT + bytes.fromhex(trace.parent_id)
    return parent if trace.tracestate is None else parent + field(_STATE, trace.tracestate)


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
    without end. Called by `_share`.
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
def _before_request_id(length: int) -> bytes:
    """Return all bytes of the attribute of a request's id that stand before the id, which has so
    many bytes. Called by `_server_span`."""
    return _attributes({"infergate.request_id": "x" * length})[:-length]


def _client_fields(
    operation: str | None,
    model: str | None,
    backend_status: int | None,
    method: str | None,
    status: int | None,
    outcome: str,
    error: str | None,
    backend: tuple[str, int] | None,
) -> bytes:
    """Return the fields of a client span that are the same for many calls.

    What is no operation, such as the list of models, is named by its method. Called by
    `_share`.
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


def _tokens(name: str) -> Callable[[int], bytes]:
    """Return what makes an attribute of a number of tokens. Called once for each name."""

    @lru_cache(2048)
    def tokens(number: int) -> bytes:
        """Return the attribute. Called by `_client_span`."""
        return _attributes({name: number})

    return tokens


_input_tokens = _tokens("gen_ai.usage.input_tokens")
_output_tokens = _tokens("gen_ai.usage.output_tokens")
