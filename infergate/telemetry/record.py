"""What is known of one request: the one source of its log line and of every metric.

An *exchange* is a request and its answer. An *operation* is a kind of request that a model answers,
such as ``chat``; a *probe*, such as ``/readyz``, asks how the gateway is. The *outcome* is what
became of an exchange, in one word, such as ``ok`` or ``client_error``.
"""

from __future__ import annotations

from collections.abc import Callable

import attrs

from infergate.api.usage import NO_USAGE, Usage
from infergate.errors import ClientGone, GatewayError
from infergate.telemetry.tracecontext import TraceContext


@attrs.define(eq=False)
class Record:
    """Opened with a request's first byte and closed once, however the exchange ends.

    Whoever learns something on the way writes it down here. Times are seconds on the reactor's
    clock. Nothing in a record is a prompt, a reply, a key or a token.

    `caller` is None where no key is needed; `caller_label` is its name in the metrics, which do not
    tell the people behind one key apart; `limit` is the name there of the limit that refused.
    `route` is the path where there is such a route, `operation` its name in the contract where it
    is one; `status` what the client was sent, None until then; `backend_status` what the backend
    answered, None where it did not; `error` a code; `cause` what an operator needs beside that. A
    `probe` asks how the gateway is. `admission_seconds` and `check_seconds` are what these took,
    without waiting for the body; `backend_head` is when the head of the backend's answer came,
    `answer_began` when the answer itself began, which of a stream is its first event. Once it is
    closed, `duration` is the time from the first byte in to the end of the answer,
    `first_token_seconds` that to the first token of a stream, if one came, and `backend_seconds`
    that from the call of the backend, if there was one, to the end of its answer.

    `trace` is the client's; `trace_id` is that trace, or one of our own. Where we trace, `span_id`
    is our span in it, both in hexadecimal digits; `ids` are the same two as bytes, and the id of
    the span that the backend hears of by `traceparent`, the line of the header field; `sampled`
    says whether the spans are recorded. `epoch` is the time since 1970 at which the record's clock
    was at 0, in nanoseconds; known once the exchange is accounted for.
    """

    opened: float
    client: str
    request_id: str
    scheme: str = "http"
    method: str | None = None
    path: str | None = None
    route: str = "other"
    operation: str | None = None
    caller: str | None = None
    caller_label: str | None = None
    retry_count: int | None = None
    model: str | None = None
    stream: bool = False
    status: int | None = None
    error: str | None = None
    outcome: str = "ok"
    limit: str | None = None
    cause: str | None = None
    backend_status: int | None = None
    probe: bool = False
    admission_seconds: float | None = None
    check_seconds: float | None = None
    backend_began: float | None = None
    backend_head: float | None = None
    answer_began: float | None = None
    backend_ended: float | None = None
    model_accepted: bool = False
    first_token: float | None = None
    usage: Usage = NO_USAGE
    bytes_in: int = 0
    bytes_out: int = 0
    closed: float | None = None
    duration: float = 0.0
    first_token_seconds: float | None = None
    backend_seconds: float | None = None
    trace: TraceContext | None = None
    trace_id: str | None = None
    span_id: str | None = None
    ids: tuple[bytes, bytes, bytes] | None = None
    traceparent: bytes | None = None
    sampled: bool = False
    epoch: int = 0
    endings: tuple[Callable[[Record], None], ...] = ()

    def leave_untraced(self) -> None:
        """Have no span recorded of this exchange, and so no id of one in its line; the client's
        trace stays. Called for what asks how the gateway is: by the gateway for a probe, by the
        tracer for a HEAD request."""
        self.sampled = False
        self.trace_id = None if self.trace is None else self.trace.trace_id
        self.span_id = None

    def fail(self, error: GatewayError) -> None:
        """Write down what ended the exchange. The first reason is the true one: what follows it,
        such as the connection that it cost, is a consequence, and is ignored.

        Called by whoever ends an exchange early: the request, its connection, the relay of a
        stream.
        """
        # Not the error itself is kept: its traceback leads to the prompt.
        if self.error is None:
            self.error, self.outcome, self.cause = error.code, error.outcome, error.cause
            self.limit = error.limit

    def at_end(self, ending: Callable[[Record], None]) -> None:
        """Have `ending` called once, when the exchange has been closed: by `finish`, or at once
        where it was closed before. Called by `Admission`, to give back a place and to charge
        tokens."""
        if self.closed is None:
            self.endings += (ending,)
        else:
            ending(self)

    def finish(self) -> None:
        """Call what was to be done at the end, and let go of it: a record may be kept for long.

        Called by `Accounts` once the record is closed. Raises what an ending raises; those that
        come after it are then not called.
        """
        endings, self.endings = self.endings, ()
        for ending in endings:
            ending(self)

    def close(self, now: float) -> bool:
        """End the exchange at `now`, and return True; False where it had ended before, and nothing
        is changed.

        Called by the edge. An exchange that nothing was sent for ends as if the client had left.
        """
        if self.closed is not None:
            return False
        self.closed = now
        self.duration = now - self.opened
        if self.first_token is not None:
            self.first_token_seconds = self.first_token - self.opened
        if self.backend_began is not None:
            if self.backend_ended is None:
                self.backend_ended = now
            self.backend_seconds = self.backend_ended - self.backend_began
        if self.status is None:
            self.status = ClientGone.status
            self.fail(ClientGone())
        return True
