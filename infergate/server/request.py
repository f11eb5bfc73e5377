"""One request in hand, and every way to answer it.

`Request` is Twisted's own request, so that Klein and `twisted.web` resources can be handed it, with
another way in and another way out: the connection gives it a head that is already parsed, and the
answer is written by `begin` and `write`, without Twisted's header objects.

    a plain answer     `answer`: `begin` with the whole body, then `write` for what of a long one
                       is left, each time the client has taken the last
    a stream           `begin` without a body, `write` for each event or several, `finish`
    an error           `refuse`, before the answer has begun
    a failed stream    `refuse`, afterwards: an error event, and the connection is cut
    a feed             `watch`, then `write`: it belongs to no exchange that is accounted for

An answer's header fields come in this order: those that every answer has, ``X-Request-ID`` first;
those of `extra_fields`, which whoever checked the request has left here; those of the handler; how
the body is framed; and ``Connection: close`` where it is the last.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from typing import Protocol

from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IPushProducer
from twisted.internet.task import deferLater
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.web.http_headers import Headers
from twisted.web.resource import IResource
from twisted.web.server import Request as WebRequest

from infergate.errors import (
    ClientGone,
    GatewayError,
    HeaderList,
    InternalError,
    error_format,
)
from infergate.reactor.deadlines import Deadlines
from infergate.server.addresses import Networks, client_address
from infergate.server.body import Body
from infergate.server.facts import facts
from infergate.server.head import Head
from infergate.server.lines import UNPRINTABLE, date_line, status_line, type_line
from infergate.server.origins import Origins
from infergate.server.phases import LINGERING, Phase
from infergate.telemetry.record import Record
from infergate.telemetry.timing import server_timing

WRITE_CHUNK = 65536
"""Bytes of a whole answer that are written at once. The next ones follow when the client has taken
these, so that a slow client's answer is not copied into the transport's buffer."""

OTHERS_TURN = 1 << 20
"""Bytes after which others have their turn, however quick a client takes its answer."""

NO_CONTENT = 204

JSON = b"application/json"
EVENT_STREAM = b"text/event-stream; charset=utf-8"

_log = Logger()


class Front(Protocol):
    """What a request needs to know of the edge that it came in by: what to do with it, what all
    requests share, and who is told when its record begins and ends. `Edge` is one."""

    resource: IResource
    deadlines: Deadlines
    origins: Origins
    trusted_proxies: Networks
    error_format: str
    max_body: int
    refusing: bool
    leaving: bool

    def began(self, record: Record) -> None: ...
    def conclude(self, record: Record, at: float) -> None: ...
    def forget(self, record: Record, at: float) -> None: ...


class Channel(Protocol):
    """What a request needs of its connection: where the client is, how to write to it, and whom to
    tell that the answer begins (`settle_persistence`), is written (`conclude`) or is cut.
    `Connection` is one, and says what each does."""

    peer: str
    phase: Phase
    above_limit: bool
    secure: bool

    @property
    def paused(self) -> bool: ...
    @property
    def site(self) -> Front: ...
    @property
    def write(self) -> Callable[[bytes], None]: ...
    @property
    def write_batched(self) -> Callable[[bytes], None]: ...
    @property
    def write_ahead(self) -> Callable[[bytes], None]: ...
    @property
    def registerProducer(self) -> Callable[[IPushProducer, bool], None]: ...
    @property
    def unregisterProducer(self) -> Callable[[], None]: ...
    @property
    def drained(self) -> Callable[[], Deferred[None]]: ...
    def settle_persistence(self, request: Request, *, framed: bool) -> bool: ...
    def conclude(self, record: Record) -> None: ...
    def requestDone(self, request: Request) -> None: ...
    def watch(self) -> None: ...
    def cut(self, *, reset: bool) -> None: ...


class Request(WebRequest):
    """One request and its answer.

    The connection makes it when a head is whole, hands it the body by `receive` and `body`, and
    calls `process` once, which calls the site's resource. `head` is None where framing broke before
    there was a head; the connection then refuses the request itself.

    A handler answers with `answer` (all of it), or with `begin` and then `write` any number of
    times; whatever it raises becomes an answer by `refuse`, and `finish` is called when it has
    returned: the gateway does both. None of these raises anything where the client is gone or the
    answer was broken off: nothing is written then.

    The record is opened here. It is closed once, by `finish` when the answer is written, or by
    `connectionLost`.
    """

    # What is set in each request is quicker to set in a slot than in its dictionary.
    __slots__ = (
        "_answering",
        "_unframed",
        "body",
        "error_event",
        "extra_fields",
        "head",
        "record",
        "standing",
    )
    channel: Channel | None = None  # type: ignore[assignment]
    """None once the exchange is over, however it ended."""
    defaultContentType = None
    _whole = False
    """Twisted's own parts are made; see `complete`."""

    def __init__(self, connection: Channel, head: Head | None, opened: float) -> None:
        """Open the record of a request whose head is `head`, and whose first byte came at `opened`,
        in seconds on the reactor's clock.

        Called by `Connection` alone. Raises nothing: the head was judged by the parser, and what is
        wrong with a field that only describes the request (``traceparent``, ``X-Forwarded-For``, an
        id) makes that field count as left out.
        """
        self.channel = connection
        self.site: Front = connection.site  # type: ignore[assignment]
        self.head = head
        self.body = Body(self.site.max_body)
        self.extra_fields: list[tuple[bytes, bytes]] = []
        """Header fields that any answer to this request carries, an error too. Whoever checks the
        request, or knows something of it, adds to them before the answer begins."""
        self.standing: list[bytes] = []
        """Lines of header fields, of which the same holds, that say how the caller stands with its
        limits."""
        self.error_event: Callable[[GatewayError], bytes] = GatewayError.event
        """Makes the last event of a stream that fails; a worker sets its operation's."""
        self._answering: Deferred[None] | None = None
        self._unframed = False
        known = None if head is None else head.derived(facts)
        forwarded_for = None if head is None else head.fields.get(b"x-forwarded-for")
        request_id = known.own_id if known is not None else None
        self.record = record = Record(
            opened=opened,
            client=client_address(connection.peer, forwarded_for, self.site.trusted_proxies),
            request_id=request_id or next(_new_ids),
            scheme="https" if connection.secure else "http",
        )
        if head is None or known is None:
            return
        self.method, self.uri, self.clientproto = head.method, head.target, head.version
        self.path = known.path
        record.method = known.method
        record.path = known.path_text
        record.retry_count = known.retry_count
        if known.trace is not None:
            record.trace, record.trace_id = known.trace, known.trace.trace_id
        if b"origin" in head.fields:
            self.extra_fields += self.site.origins.answer_fields(head.fields, self.path)
        if known.anthropic:
            self.extra_fields.append((b"request-id", record.request_id.encode("ascii")))

    def complete(self) -> Request:
        """Make what a Twisted request has and an answer of the gateway's own does without: header
        objects, cookies, adapters, its path in parts. Returns the request.

        Called by `Routes` before Klein's own resource is asked, and by `notifyFinish`; where the
        exchange is over, it does nothing.
        """
        if not self._whole and self.channel is not None:
            self._whole = True
            super().__init__(self.channel, parsePOSTFormSubmission=False)  # type: ignore[no-untyped-call]
            self.prepath = []
            # Not percent-decoded: no route needs it, and nothing behind can read it in two ways.
            self.postpath = self.path.removeprefix(b"/").split(b"/")
        return self

    def notifyFinish(self) -> Deferred[None]:
        """Return a Deferred that fires with None at the answer's end, or fails with why the client
        is gone. Called by the status page's feed, and by Klein's own resource."""
        self.complete()
        return super().notifyFinish()

    @property
    def requestHeaders(self) -> Headers:
        """Return the header fields as Twisted has them, made only for who asks; `head` is
        quicker."""
        return Headers(dict(self.head.fields) if self.head is not None else {})

    @requestHeaders.setter
    def requestHeaders(self, value: Headers) -> None:
        """Ignore the value: `twisted.web` sets an empty one."""

    def getRequestHostname(self) -> bytes:
        """Return a fixed name: no route depends on it, and Klein's router, which asks, fails on
        some that clients send."""
        return b"gateway"

    @property
    def above_limit(self) -> bool:
        """Return whether it came on a connection above MAX_CONNECTIONS, where only probes are
        served."""
        return self.channel is not None and self.channel.above_limit

    # The body, as it arrives.

    def receive(self, chunk: bytes) -> None:
        """Take a chunk of the body. Called by the connection; what comes after the answer has begun
        is counted, not kept."""
        self.record.bytes_in += len(chunk)
        if not self.startedWriting:
            self.body.receive(chunk)

    def read_body(self) -> bytes | Deferred[bytes]:
        """Return the whole body, or a Deferred of it where some is still to come; it is the
        caller's. Called by a handler, once at the most.

        Only now is a client that waits for ``100 Continue`` told to go on (RFC 9110, 10.1.1).
        Raises, or has the Deferred fail with, a `GatewayError` where the body is too large
        (`BodyTooLarge`), too slow (`RequestTimeout`), or breaks its framing (`BadRequest` and
        others), and `ClientGone` where the client leaves.
        """
        if self.head is not None and self.head.expects_continue and self.body.awaited:
            assert self.channel is not None
            self.channel.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        return self.body.read()

    # The answer.

    @property
    def _writable(self) -> bool:
        """Return whether what is written now can be part of the answer: it has not ended, and was
        not broken off."""
        return self.channel is not None and self.channel.phase < LINGERING

    def begin(
        self,
        status: int,
        content_type: bytes,
        headers: HeaderList = (),
        body: bytes | None = None,
        *,
        lines: Iterable[bytes] = (),
    ) -> None:
        """Send the head of the answer, and with it `body`, where that is known.

        Called once, by `answer`, `watch` and `refuse`, and by who writes a stream. Of a long body
        only the first `WRITE_CHUNK` bytes are sent: `answer` sends the rest. Without a body `write`
        follows, in chunks to HTTP/1.1; to HTTP/1.0 the end of the connection is the end of the
        answer.

        Bytes that may not stand in a header field, in `content_type` or a value of `headers`, which
        may be the backend's, are sent as spaces. `lines` are further header fields, as they go out.
        """
        channel = self.channel
        if channel is None or channel.phase >= LINGERING:
            return
        self.startedWriting = 1
        self.code = self.record.status = status
        opening = self._opening(status, content_type, headers)
        opening += lines
        if status == NO_CONTENT:
            body = b""  # and no length either (RFC 9110, 8.6)
        elif body is not None:
            opening.append(b"Content-Length: %d" % len(body))
        elif self.clientproto == b"HTTP/1.1":
            self.chunked = 1
            opening.append(b"Transfer-Encoding: chunked")
        else:
            self._unframed = True
        if not channel.settle_persistence(self, framed=not self._unframed):
            opening.append(b"Connection: close")
        opening.append(b"\r\n")
        head = b"\r\n".join(opening)
        if body is None or self.method == b"HEAD":
            channel.write_ahead(head)
        else:
            first = body[:WRITE_CHUNK]
            self.record.bytes_out += len(first)
            channel.write_batched(head + first)

    def _opening(self, status: int, content_type: bytes, headers: HeaderList) -> list[bytes]:
        """Return the lines of an answer's head that do not depend on how its body is framed. Called
        by `begin`."""
        record = self.record
        lines = [
            status_line(status),
            b"X-Request-ID: " + record.request_id.encode("ascii"),
            date_line(),
        ]
        timing = server_timing(record) if record.operation is not None else None
        if timing is not None:
            lines.append(b"Server-Timing: " + timing)
        if status != NO_CONTENT:
            lines.append(type_line(content_type))
        lines += self.standing
        if self.extra_fields:
            lines += [b"%b: %b" % field for field in self.extra_fields]
        if headers:
            lines += [b"%b: %b" % (name, UNPRINTABLE.sub(b" ", value)) for name, value in headers]
        return lines

    def watch(self, headers: HeaderList) -> None:
        """Begin an event stream about the gateway itself, which `write` goes on with: no exchange
        that is accounted for, bounded by no deadline, and waited for by no drain. Called by
        `StatusSite`."""
        self.begin(200, EVENT_STREAM, headers)
        self.site.forget(self.record, self.site.deadlines.now())
        if self.channel is not None and self.method != b"HEAD":
            self.channel.watch()

    async def answer(
        self,
        body: bytes,
        *,
        status: int = 200,
        content_type: bytes = JSON,
        headers: HeaderList = (),
    ) -> None:
        """Send a whole answer; returns None when the last of it is out of our hands, or the client
        is gone.

        Called by a handler or a worker, once. A body above `WRITE_CHUNK` bytes goes out as fast as
        the client takes it, and others have their turn after every `OTHERS_TURN` bytes; `body` is
        held until then. To a ``HEAD`` only the head is sent.
        """
        self.begin(status, content_type, headers, body)
        if self.channel is not None and self.channel.paused:
            await self.drained()
        if self.method == b"HEAD":
            return
        for start in range(WRITE_CHUNK, len(body), WRITE_CHUNK):
            self.write(body[start : start + WRITE_CHUNK])
            await self.drained()
            if not start % OTHERS_TURN:
                await deferLater(self.site.deadlines.clock, 0)

    def write(self, data: bytes, *, last: bool = False) -> None:
        """Send a part of the body, after `begin`. Empty `data` is left out: as a chunk it would be
        the last. What is known to be the `last` part may go out together with the end that `finish`
        writes. Called by a worker, a relay, a pulse or the status feed. Raises nothing."""
        channel = self.channel
        if channel is None or channel.phase >= LINGERING or not data or self.method == b"HEAD":
            return
        self.record.bytes_out += len(data)
        send = channel.write_ahead if last else channel.write
        send(b"%x\r\n%b\r\n" % (len(data), data) if self.chunked else data)

    def drained(self) -> Deferred[None]:
        """Return a Deferred that fires with None when the client has taken enough for more to be
        written, or is gone; it never fails."""
        return succeed(None) if self.channel is None else self.channel.drained()

    def refuse(self, error: GatewayError) -> None:
        """End the exchange with `error`: the one place that turns it into an answer.

        Called with what a handler raised, and by the connection for what it refuses itself. The
        record has failed with it from then on. Where the answer has begun it can only be broken
        off, so that nobody takes it for whole.
        """
        self.record.fail(error)
        if not self._writable:
            return
        if not self.startedWriting:
            fields = self.head.fields if self.head is not None else {}
            form = error_format(self.site.error_format, self.record.path, fields)
            body = error.body(self.record.request_id, form)
            self.begin(error.status, JSON, error.headers, body)
            return
        if self.record.stream:
            self.write(self.error_event(error))
        self.break_off()

    def break_off(self) -> None:
        """Close the connection once what was written is out; that cancels the handler.

        An answer that ends where the connection does is reset in place of ended: nobody could tell
        it from a whole one. Called by `refuse`, by a relay whose client has been told the error,
        and by the connection when it has to end.
        """
        if self._writable:
            assert self.channel is not None
            self.channel.cut(reset=self._unframed)

    def answered_by(self, handler: Deferred[None]) -> None:
        """Cancel `handler` when the client leaves before it has finished: at once, where it has
        left already. Called by `Routes`, once."""
        if self.channel is None:
            handler.cancel()
        else:
            self._answering = handler

    def finish(self) -> None:
        """End the answer; the connection goes on to the next request, or closes. An answer that was
        broken off stays without its end. Called by the gateway when the handler has returned, and
        by the connection for what it refuses itself; once more does nothing."""
        channel = self.channel
        if channel is None or channel.phase >= LINGERING:
            return
        if self.chunked and self.method != b"HEAD":
            channel.write(b"0\r\n\r\n")
        # The connection may go on to the next request at once: what is to be recorded of this one
        # is recorded before.
        channel.conclude(self.record)
        if self._whole:
            # Twisted's `finish` would write the last chunk again.
            self.chunked = 0
            super().finish()  # type: ignore[no-untyped-call]
        else:
            self.finished = 1
            channel.requestDone(self)
            self.channel = None

    def connectionLost(self, reason: Failure) -> None:
        """Cancel the handler, fail the body, and close the record. Called by the connection when it
        is lost before `finish`; the reason that the record has already stays the reason."""
        self.record.fail(ClientGone())
        if self._whole:
            super().connectionLost(reason)  # type: ignore[no-untyped-call]
        self.channel = None
        answering, self._answering = self._answering, None
        if answering is not None:
            answering.cancel()
        # This request and its connection hold one another: what came of the body goes now.
        self.body.fail(ClientGone())
        self.site.conclude(self.record, self.site.deadlines.now())

    def process(self) -> None:
        """Hand the request to the site's resource, which answers it in its own time. Called by the
        connection, once, when the head is whole. What the resource raises of its own is logged, and
        answered with 500."""
        self.site.began(self.record)
        try:
            self.site.resource.render(self)
        except Exception:
            _log.failure("The resource failed", request_id=self.record.request_id)
            self.refuse(InternalError())
            self.finish()


def _make_ids() -> Iterator[str]:
    """Yield new ids without end.

    Random ones, such as `uuid.uuid4` makes (RFC 9562, 5.4), with one system call for 256: three
    hexadecimal digits follow the version, 4, and three follow the variant, here always 8.
    A `Request` whose client gave none takes the next one.
    """
    while True:
        digits = os.urandom(4096).hex()
        for at in range(0, len(digits), 32):
            one = digits[at : at + 32]
            yield f"{one[:8]}-{one[8:12]}-4{one[13:16]}-8{one[17:20]}-{one[20:]}"


_new_ids = _make_ids()
