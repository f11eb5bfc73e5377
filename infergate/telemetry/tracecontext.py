"""W3C Trace Context: which trace a request belongs to, as the header fields of its client say.

https://www.w3.org/TR/trace-context/
"""

from __future__ import annotations

import re

import attrs

_TRACEPARENT = re.compile(rb"(?!ff)([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?")
_MEMBER = re.compile(
    rb"(?:[a-z0-9][a-z0-9_*/@-]{0,255})="
    rb"[\x20-\x2b\x2d-\x3c\x3e-\x7e]{0,255}[\x21-\x2b\x2d-\x3c\x3e-\x7e]"
)

MAX_MEMBERS = 32
"""Members of a ``tracestate`` (3.3.1.1)."""

SAMPLED = 0x01
"""The flag of a trace that its caller records (3.2.2.5.1)."""


@attrs.frozen
class TraceContext:
    """A trace that a client has begun: its id, the id of the span that this request is a child of,
    whether it is recorded, both in hexadecimal digits; and both header fields as they came."""

    trace_id: str
    parent_id: str
    sampled: bool
    traceparent: bytes
    tracestate: bytes | None


def read_trace(fields: dict[bytes, list[bytes]]) -> TraceContext | None:
    """Return the context in the header fields of a request, their names in lower case.

    None where there is none, or where it is broken: malformed, given twice, of version ``ff``, or
    with an id of zeros (3.2.2). Then a new trace begins here, and none of it is passed on. Called
    for each request that brings a ``traceparent``; raises nothing. A good one has a version, the
    ids of a trace and of the caller's span, and flags:

        00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01
    """
    values = fields.get(b"traceparent")
    if values is None or len(values) != 1:
        return None
    match = _TRACEPARENT.fullmatch(values[0])
    if match is None:
        return None
    version, trace_id, parent_id, flags, rest = match.groups()
    # Version 00 ends with its flags; a later one may go on (3.2.4).
    if (version == b"00" and rest is not None) or not trace_id.strip(b"0"):
        return None
    if not parent_id.strip(b"0"):
        return None
    return TraceContext(
        trace_id.decode("ascii"),
        parent_id.decode("ascii"),
        bool(int(flags, 16) & SAMPLED),
        values[0],
        _tracestate(fields.get(b"tracestate", [])),
    )


def _tracestate(values: list[bytes]) -> bytes | None:
    """Return the state of a trace, its fields joined (RFC 9110, 5.3), such as
    ``vendor=a1,other=b2``; None where it is broken or empty. A broken state costs the state alone,
    not the trace. Called by `read_trace`."""
    members = [member.strip(b" \t") for member in b",".join(values).split(b",")]
    members = [member for member in members if member]
    if not members or len(members) > MAX_MEMBERS or not all(map(_MEMBER.fullmatch, members)):
        return None
    return b",".join(values)


def backend_fields(trace: TraceContext | None, ours: bytes | None = None) -> bytes:
    """Return the lines of the header fields that go to the backend: the client's context as it
    came, or with the line `ours` our own ``traceparent`` and the client's state. Empty where there
    is neither. Called by the worker for each call of the backend."""
    if trace is None:
        return ours or b""
    lines = ours or b"Traceparent: %b\r\n" % trace.traceparent
    if trace.tracestate is not None:
        lines += b"Tracestate: %b\r\n" % trace.tracestate
    return lines
