"""One client connection: bytes to requests, and answers back.

Twisted's own `HTTPChannel` accepts what an edge must refuse, reads a whole body before anybody may
object to the head, and restarts its one timeout with every byte. `Connection` stands in its place.
It feeds `parser.Parser`, hands each request to the site's resource as soon as its *head* is
complete, and gives `twisted.web`'s own `Request` the channel it expects. All that it uses of
Twisted is public.

`phases` has the table of its phases, deadlines and what their passing does.

A plain request, call by call, from the first byte to the record:

    dataReceived      `_begin_head`: IDLE to HEAD; the time is REQUEST_TIMEOUT's and the record's
      _read           the parser gives a head, chunks, an end: HEAD to ANSWERING, by way of BODY
                      where some of the body is still to come
        Request.process     calls the site's resource, which begins to answer, now or later
    write             the pieces of an answer as they come; `write_batched` of one that is whole,
                      `write_ahead` of a head, and of what the end follows at once
    conclude          the answer is written: its record is closed, or waits until it was taken
    requestDone       the request lets go; ANSWERING to IDLE, or to QUEUED where the next is here

Bytes that come in belong to the parser until `Parser.next` gives them out, and to the `Request`
from then on. Bytes that go out belong to the outlet as soon as `write` returns, and nobody changes
them; how many of them the client has not taken is `flow.Flow`'s to know.

`Deadlines` looks at what it watches in a sweep, ten times a second, and calls `expired` of each
whose `deadline`, in seconds on the reactor's clock, has passed. A `Record` is all that is known of
one exchange, which is a request and its answer; the log and the metrics are made of it. The edge is
the factory of all connections of one port.

An exchange ends in one of four ways, each of which closes its record once: the answer is taken
(`conclude`, `_look_at_delivery`), it is refused (`_refuse`, `_stop`), it is cut (`cut`, `abort`),
or the client is gone (`connectionLost`).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol as Interface
from typing import cast

import attrs
from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionDone
from twisted.internet.interfaces import (
    IAddress,
    IHalfCloseableProtocol,
    IPushProducer,
    ISSLTransport,
    ITCPTransport,
)
from twisted.internet.protocol import Protocol
from twisted.python.failure import Failure
from zope.interface import implementer

from infergate.errors import (
    BadRequest,
    ClientGone,
    CutByShutdown,
    GatewayError,
    GatewayTimeout,
    Overloaded,
    RequestTimeout,
    ShuttingDown,
)
from infergate.reactor.deadlines import NEVER
from infergate.reactor.writing import Outlet, outlet
from infergate.server.flow import ON_THE_WAY, Flow, Transport, silence_before_end
from infergate.server.head import Head
from infergate.server.parser import END, Limits, Parser
from infergate.server.phases import (
    ANSWERING,
    BODY,
    CLOSED,
    DELIVERING,
    HEAD,
    IDLE,
    LINGERING,
    QUEUED,
    WATCHING,
    Phase,
)
from infergate.server.places import Places
from infergate.server.request import Front, Request
from infergate.telemetry.record import Record

PIPELINE_BYTES = 16384
"""Bytes of the next requests that are read while one is being answered. As long as less has come,
the socket is read on, which is how the end of the connection is noticed; more would be memory that
any client could have for nothing."""

WRITE_BUFFER = 1 << 15
"""Bytes in the transport's buffer at which the producer of an answer is paused. What the backend
has sent by then, one read at the most, is still written. It is also the size of one read from the
client: Twisted has one `bufferSize` for both."""

LINGER = 2.0
"""Seconds for which what a refused client still sends is thrown away. A socket that is closed with
unread bytes is reset, and the reset can overtake the answer (RFC 9112, 9.6)."""

PROMPT = 0.1
"""Seconds after the last byte of its request within which a client that closes its writing side
still waits for its answer. Clients that shut down their side say so in the same breath; one that
leaves later has left, and what it asked for is not worth a backend's work."""

ON_ITS_WAY = 0.5
"""Seconds for which a request counts as being on its way to an idle connection, which a drain does
not close meanwhile: the request would meet a reset, and nobody could know what became of it. They
are counted from the connection's beginning; where a drain refuses nothing, also from the drain's
beginning, and from an answer that promised to keep the connection."""

BACKEND_FIRST = 0.2
"""Seconds by which REQUEST_TIMEOUT passes later here than for the exchange with the backend, which
knows better what to answer: two sweeps."""


@attrs.frozen
class EdgeLimits:
    """What holds for each connection of a port: sizes in bytes, times in seconds; see the settings
    of the same names. Made by `compose`. A `connection_age` of 0 is none."""

    framing: Limits
    connections: int = 1000
    requests_per_connection: int = 10000
    header_timeout: float = 10
    body_timeout: float = 60
    keepalive_timeout: float = 75
    write_stall_timeout: float = 60
    request_timeout: float = 600
    connection_age: float = 0


class Listener(Front, Interface):
    """What a connection needs of the edge that it came in by: what it has to tell it, and what all
    connections share.

    `opened` and `closed` are called once each, at the beginning and the end. `queue` has
    `take_turn` called when those that asked before have had their turn.
    """

    limits: EdgeLimits
    places: Places
    draining: bool

    def opened(self, connection: Connection) -> None: ...
    def closed(self, connection: Connection) -> None: ...
    def queue(self, connection: Connection) -> None: ...


@implementer(IHalfCloseableProtocol)
class Connection(Protocol):
    """One client connection.

    To the transport it is a protocol, to `Request` a channel, to `Edge` what it counts, gives turns
    to, drains and ends. One request is under way at a time; it and the connection let go of each
    other in `requestDone` or `connectionLost`, of which each request sees exactly one.

    Twisted calls `connectionMade`, then `dataReceived` any number of times, `readConnectionLost` at
    the most once, where the client closes its side, and `connectionLost` last. What the edge calls
    may be called in any phase: what comes too late for it does nothing.

    None of the methods raises anything: what a client does wrong becomes an answer, or the end of
    its connection.
    """

    # With more than 30 attributes an object is slower to read, and larger, without slots.
    __slots__ = (
        "_ends",
        "_expected_until",
        "_flow",
        "_half_closed",
        "_heard",
        "_host",
        "_made",
        "_now",
        "_opened",
        "_outlet",
        "_parser",
        "_peer",
        "_persistent",
        "_reading_held",
        "_request",
        "_served",
        "_written",
        "above_limit",
        "deadline",
        "drained",
        "edge",
        "peer",
        "phase",
        "registerProducer",
        "secure",
        "site",
        "unregisterProducer",
        "write",
        "write_ahead",
        "write_batched",
    )
    transport: Transport  # type: ignore[assignment]
    phase: Phase
    deadline: float
    write: Callable[[bytes], None]
    write_batched: Callable[[bytes], None]
    write_ahead: Callable[[bytes], None]
    registerProducer: Callable[[IPushProducer, bool], None]
    unregisterProducer: Callable[[], None]
    drained: Callable[[], Deferred[None]]
    _peer: IAddress
    _host: IAddress
    _outlet: Outlet
    _flow: Flow

    def __init__(self, edge: Listener) -> None:
        """Make the protocol of one client connection of `edge`, which is not connected yet. Called
        by `Edge.buildProtocol`."""
        self.edge = edge
        self.site = edge
        self.peer = ""
        self.above_limit = False
        """Only probes are served here: all the places are taken. The edge says so."""
        self.secure = False
        """What `isSecure` says, once it is connected."""
        self._parser = Parser(edge.limits.framing)
        self._request: Request | None = None
        self._served = 0
        self._persistent = True
        self._now = edge.deadlines.now
        self._made = edge.deadlines.now()
        self._expected_until = self._made + ON_ITS_WAY
        """Until when a drain leaves the connection open for a request."""
        self._opened = 0.0
        """When the first byte of the present request came."""
        self._ends = NEVER
        """When its REQUEST_TIMEOUT passes."""
        self._heard = 0.0
        """When the last byte came from the client."""
        self._half_closed = False
        """The client will send nothing more, and waits for its answers."""
        self._written: tuple[Record, float] | None = None
        """The record of an answer that is written and on its way, and when its last byte was."""
        self._reading_held = False

    def _enter(self, phase: Phase) -> None:
        """Change the phase, and with it the deadline; `phases` has the table. Nothing else assigns
        `phase`.

        `Deadlines` looks at it in sweeps, so that to move it on is an assignment and no more. Where
        it comes sooner than it would have, `watch` says so. Called again in the same phase, this
        sets its deadline anew.
        """
        self.phase = phase
        limits = self.edge.limits
        if phase is ANSWERING:
            self.deadline = self._ends
        elif phase is HEAD:
            self.deadline = min(self._opened + limits.header_timeout, self._ends)
            self.edge.deadlines.watch(self)
        elif phase is BODY:
            self.deadline = min(self._now() + limits.body_timeout, self._ends)
        elif phase is IDLE:
            idle = limits.keepalive_timeout if self._served else limits.header_timeout
            self.deadline = self._expected_until if self.edge.draining else self._now() + idle
        elif self._written is not None:
            self.deadline = 0.0  # each sweep looks how far the client is
            self.edge.deadlines.watch(self)
        elif phase is LINGERING and self._request is not None:
            self.deadline = self._ends
        else:
            self.deadline = NEVER

    def expired(self) -> None:
        """Do what the passing of the present phase's deadline does, as the table in `phases` says.

        Called by `Deadlines`. Of REQUEST_TIMEOUT and that of the phase, which may pass in one
        sweep, the former is said to be the reason.
        """
        phase = self.phase
        if self._written is not None:
            self._look_at_delivery()
        elif phase is IDLE:
            if self._flow.paused:
                self._enter(IDLE)  # the client has not even taken the last answer yet
            else:
                self._close()
        elif phase is LINGERING:
            self.abort()
        elif self._now() >= self._ends:
            self._time_out()
        elif phase is HEAD:
            self._refuse(RequestTimeout("HEADER_TIMEOUT"))
        elif phase is BODY:
            assert self._request is not None
            self._request.body.fail(RequestTimeout("BODY_TIMEOUT"))
            self.deadline = self._ends

    # From the transport.

    def connectionMade(self) -> None:
        """Begin: make the outlet and the flow control of the connection, wait for a request, and
        tell the edge. Called by Twisted first of all: the transport is connected, and nothing has
        come yet."""
        edge = self.edge
        self._learn_addresses()
        if ITCPTransport.providedBy(self.transport):
            cast(ITCPTransport, self.transport).setTcpNoDelay(True)
        self.transport.bufferSize = WRITE_BUFFER
        self.secure = self.isSecure()
        self._outlet = outlet(self.transport)
        self.write, self.write_batched = self._outlet.write, self._outlet.write_batched
        self.write_ahead = self._outlet.write_ahead
        self._flow = Flow(self.transport, edge.deadlines, edge.limits.write_stall_timeout)
        self.registerProducer = self._flow.registerProducer
        self.unregisterProducer = self._flow.unregisterProducer
        self.drained = self._flow.drained
        self.transport.registerProducer(self._flow, True)
        self._enter(IDLE)
        edge.deadlines.watch(self)
        edge.opened(self)

    def dataReceived(self, data: bytes) -> None:
        """Parse what has come, as far as the phase allows; the rest waits in the parser.

        While an answer is under way what comes is the next request. It is kept unread, and from
        `PIPELINE_BYTES` on the socket is left alone until the answer is written: then the kernel
        holds the client up, and nothing grows here. Called by the transport, which owns nothing of
        `data` afterwards.
        """
        if self.phase >= LINGERING:
            return
        if self.above_limit:
            self.edge.places.heard(self)
        self._parser.receive(data)
        self._heard = self._now()
        if self.phase in (IDLE, DELIVERING) and self._parser.started:
            self._begin_head(self._heard)
        if self.phase in (HEAD, BODY):
            self._read()
        elif self._parser.buffered > PIPELINE_BYTES and not self._reading_held:
            self._reading_held = True
            self.transport.pauseProducing()

    def readConnectionLost(self) -> None:
        """Go by what it means that the client has closed its writing side, or the whole connection:
        from here they look alike. Over TLS and PROXY this is not called: there either end closes
        both directions.

        Who has closed it in mid-request has sent half of one, and gets no answer. Who has closed it
        together with the request, as ``nc`` and some HTTP/1.0 clients do, waits for the answer. Who
        closes it later is a client that has gone away, and the backend is told to stop.
        """
        self._half_closed = True
        if self.phase is WATCHING:
            self.abort()
        elif self.phase in (QUEUED, ANSWERING):
            if not self._closed_with_its_request():
                self.abort()
        elif self.phase in (HEAD, BODY):
            self.abort()
        elif self.phase is not LINGERING:
            self._close(gently=self._written is not None)
        elif self._request is None and self._written is None:
            self.transport.loseConnection()

    def _closed_with_its_request(self) -> bool:
        """Return whether the client's side was closed so soon after its last byte that the client
        waits for its answer. Where much else was to do since that byte, the kernel knows when it
        came. Called by `readConnectionLost` while a request is under way."""
        if self._now() - self._heard <= PROMPT:
            return True
        gap = silence_before_end(self.transport)
        return gap is not None and gap <= PROMPT

    def writeConnectionLost(self) -> None:
        """Do nothing: our side is closed, as `loseWriteConnection` was asked to do."""

    def connectionLost(self, reason: Failure) -> None:  # type: ignore[override]
        """Record whatever was under way, cancel its handler, and let go of everything: the last
        call, by Twisted, or by `Edge.end` at once.

        An exchange that is cut here has the outcome of a client that is gone, with
        WRITE_STALL_TIMEOUT as its cause where it was `Flow` that cut it.
        """
        left_in, edge = self.phase, self.edge
        gone = ClientGone()
        gone.cause = "WRITE_STALL_TIMEOUT" if self._flow.stalled else None
        self._conclude_written(None if reason.check(ConnectionDone) else gone)
        self._enter(CLOSED)
        edge.deadlines.forget(self)
        if self._request is not None:
            self._request.record.fail(gone)
            self._request.connectionLost(reason)
        elif left_in in (QUEUED, HEAD):
            # Part of a request came, and no more. That is an exchange too, and has its line.
            self._lone_request().connectionLost(reason)
        self._flow.end()
        edge.closed(self)

    # To the request: the channel that `twisted.web.http.Request` expects.

    def getPeer(self) -> IAddress:
        """Return where the client is, also when the connection is lost already. Called by Twisted's
        `Request`."""
        return self._peer

    def getHost(self) -> IAddress:
        return self._host

    def isSecure(self) -> bool:
        """Return whether the client speaks TLS with us, and not with a proxy before us."""
        return ISSLTransport.providedBy(self.transport)

    @property
    def paused(self) -> bool:
        """Return whether the client takes less than is ready for it; who writes a whole answer
        waits for `drained` then."""
        return self._flow.paused

    @property
    def _is_old(self) -> bool:
        """Return whether the connection is to be closed with its next answer, so that its client
        comes again, perhaps to another replica: MAX_CONNECTION_AGE."""
        age = self.edge.limits.connection_age
        return age > 0 and self._now() - self._made > age

    def settle_persistence(self, request: Request, *, framed: bool) -> bool:
        """Decide, and return, whether the connection outlives the answer that now begins; `framed`
        says whether that answer will show where it ends.

        `Request` asks once, when it writes the head, and says so in ``Connection``; what is decided
        here holds even if the gateway begins to drain while the answer is on its way. A body of
        which part is still to come ends the connection: it would be read as the next request.
        """
        self._persistent = (
            framed
            and self.phase is ANSWERING
            and request.head is not None
            and request.head.keep_alive
            and not (self._half_closed and not self._parser.buffered)
            and not self.edge.leaving
            and not self.above_limit
            and not self._is_old
            and self._served + 1 < self.edge.limits.requests_per_connection
        )
        return self._persistent

    def conclude(self, record: Record) -> None:
        """Close the record of an answer that is written, and ends with it. Called by
        `Request.finish`.

        Now, or, where much of the answer is still on its way, when the client has taken that: an
        answer that a client never took is no success, and its line in the log must not say so.
        """
        now = self._now()
        if record.bytes_out <= ON_THE_WAY or self._flow.taken:
            self.edge.conclude(record, now)
        else:
            self._written = record, now

    def requestDone(self, request: Request) -> None:
        """Go on after an answer, all of which is written: to the connection's end, or to the next
        request.

        Called by Twisted's `Request.finish`, and so by `Request.finish` behind `conclude`. The
        parser goes on behind the body of the last request, which was read to its end.
        """
        self._served += 1
        self._expected_until = 0.0
        self._request = None
        if not self._persistent:
            unread = self.phase is not ANSWERING or self._parser.buffered > 0
            self._close(gently=unread or self._written is not None)
            return
        self._parser.restart()
        if self._written is not None and not self._parser.started:
            self._enter(DELIVERING)
        else:
            self._await_request()

    def watch(self) -> None:
        """Take the answer that has begun for an event stream about the gateway itself: no deadline
        holds for it, and no drain waits for it. Called by `Request.watch`."""
        self._enter(WATCHING)

    def cut(self, *, reset: bool) -> None:
        """Close in mid-answer, called by `Request.break_off`: with a FIN, or with a `reset`.

        An answer that says where it ends shows by itself that it is not whole; one that ends where
        the connection does would not, and is reset. The handler is cancelled when the connection is
        lost.
        """
        if reset:
            self._enter(LINGERING)
            # The reset comes with the next sweep: what was written goes out before it.
            self.deadline = 0.0
            self.edge.deadlines.watch(self)
        else:
            self._close()

    # To the edge.

    @property
    def busy(self) -> bool:
        """Return whether a drain is to wait for the connection: a request is running or about to
        come, or what was written may not be out yet."""
        if self.phase is IDLE:
            return self._now() < self._expected_until
        return self.phase is not WATCHING

    def take_turn(self) -> None:
        """Serve the next request out of what has been read. Called by the edge, once after each
        `queue`; a connection that has been ended since does nothing."""
        if self.phase is QUEUED:
            self._begin_head(self._now())
            self._read()
            self._read_on()
            if self._half_closed and self.phase in (HEAD, BODY):
                self.abort()  # the rest of this request never comes

    def close_idle(self) -> None:
        """Close the connection if nothing is under way on it, or else when that is over. Called by
        the edge when it drains, for each connection."""
        if self.phase is IDLE:
            self._keep_or_close()

    def make_room(self) -> None:
        """Close the connection: another is to have the place of this one, which idles, or is above
        the limit. What it has asked meanwhile is refused with 503, so that its client tries again.
        Called by `Places`."""
        self._stop(Overloaded())

    def shut_down(self) -> None:
        """End what is under way: the gateway is shutting down, and waits no longer. Called by
        `Edge.stop_requests`.

        The client is told by a 503, or, where the backend may have begun with its request, by a 502
        that tells SDKs not to ask again.
        """
        if self.phase is WATCHING:
            self.abort()
            return
        record = self._request and self._request.record
        begun = record and record.operation is not None and record.backend_began is not None
        self._stop(CutByShutdown() if begun else ShuttingDown())

    def abort(self) -> None:
        """Reset the connection, and lose what was not sent. `connectionLost` follows, in another
        event loop iteration."""
        self.transport.abortConnection()

    # Inside.

    def _learn_addresses(self) -> None:
        """Keep where the client is and where it came to; a Unix socket's client is ``unix``. Called
        when the connection is made, and with the first byte of its first request."""
        # They are kept, since a transport that is lost does not know its own address any more.
        self._peer, self._host = self.transport.getPeer(), self.transport.getHost()
        self.peer = getattr(self._peer, "host", "unix")

    def _look_at_delivery(self) -> None:
        """Close the record of an answer that is on its way, once the client has taken it, as of
        when it was written.

        Called with each sweep of the deadlines while there is one. Until then REQUEST_TIMEOUT
        holds, after which the exchange has failed and the connection is reset. A client that is
        gone meanwhile is noticed here, if nowhere else.
        """
        if self._flow.taken:
            self._conclude_written()
            if self.phase is DELIVERING:
                self._await_request()
            elif self._half_closed:
                self.transport.loseConnection()
            else:
                self._flow.watch(LINGER)
        elif self._now() >= self._ends:
            self._conclude_written(GatewayTimeout(cause="REQUEST_TIMEOUT"))
            self.abort()
        elif self._flow.ended:
            self.abort()
        else:
            self.deadline = 0.0

    def _conclude_written(self, error: GatewayError | None = None) -> None:
        """Close the record of an answer that was written, if one is on its way: as of when it was,
        or, where it failed with `error`, as of now. The time that a client took to read a good
        answer is not the gateway's. Called by `_look_at_delivery`, when the next request begins,
        and when the connection is lost."""
        if self._written is None:
            return
        (record, at), self._written = self._written, None
        if error is not None:
            record.fail(error)
            at = self._now()
        self.edge.conclude(record, at)

    def _time_out(self) -> None:
        """End what is under way with a 504: REQUEST_TIMEOUT has passed, whoever was slow. The error
        says whether the backend has seen the prompt by then. Called by `expired`, in any phase of
        an exchange."""
        begun = self._request is not None and self._request.record.backend_began is not None
        self._stop(
            GatewayTimeout(
                "The request took longer than REQUEST_TIMEOUT allows.",
                prompt_sent=begun,
                cause="REQUEST_TIMEOUT",
            )
        )
        if self._flow.paused:  # what was written is not taken in time either
            self.abort()

    def _stop(self, error: GatewayError) -> None:
        """End what is under way with `error`, and the connection; that cancels the handler. An
        answer that has begun cannot become another one: it is broken off instead. Where nothing is
        under way the connection is closed without an answer. Called by `make_room`, `shut_down` and
        `_time_out`."""
        if self._request is not None:
            self._request.refuse(error)
            self._request.break_off()
        elif self.phase in (QUEUED, HEAD):
            self._refuse(error)
        else:
            self._close()

    def _await_request(self) -> None:
        """Go on after an answer: to the next request, where some of it has come already, else to
        IDLE.

        A request that is here waits for its turn behind all other connections that have one ready,
        so that a client that pipelines many requests does not keep the others waiting. In a drain,
        or where the client has closed its side, the connection is closed unless a request is here.
        Called when an answer is written, or taken.
        """
        if self._parser.started:
            self._enter(QUEUED)
            self.edge.queue(self)
            return
        self._read_on()
        if self._half_closed:
            self._close()
        elif self.edge.draining:
            self._keep_or_close()
        else:
            self._enter(IDLE)
            self.edge.places.idles(self)

    def _keep_or_close(self) -> None:
        """Keep the connection for a request that is likely on its way, for up to `ON_ITS_WAY`
        seconds, or close it. Called in a drain, when nothing is under way on it."""
        now = self._now()
        if not self.edge.refusing:
            self._expected_until = now + ON_ITS_WAY
        if now < self._expected_until:
            self._enter(IDLE)
        else:
            self._close()

    def _read_on(self) -> None:
        """Take more from the socket, where reading was held because much had been pipelined and
        that is less now. Called when an answer or a turn is over."""
        if self._reading_held and self._parser.buffered <= PIPELINE_BYTES:
            self._reading_held = False
            self.transport.resumeProducing()

    def _begin_head(self, now: float) -> None:
        """Begin an exchange: the first byte of a request is here, and it is this connection's turn.

        All deadlines of the exchange are counted from now, and so is what its record says it took.
        Leads from IDLE, QUEUED or DELIVERING to HEAD; `_read` follows. Called by `dataReceived` and
        `take_turn`.
        """
        if not self._opened:
            # Behind `haproxy:` the transport has the client's own addresses only now, out of the
            # PROXY header that came first.
            self._learn_addresses()
        if self._written is not None:
            # A client that asks for more has taken what it asked for before.
            self._conclude_written()
        self._opened = now
        self._ends = self._opened + self.edge.limits.request_timeout + BACKEND_FIRST
        self.edge.places.asks(self)
        self._enter(HEAD)

    def _read(self) -> None:
        """Read on in the present request, or the next one, to its end at the most. What is
        pipelined behind it waits for its turn, and for this one's answer (RFC 9112, 9.3.2).

        A request whose head came with part of its body, or with all of it, is handed on only after
        both were read: broken framing is then known before the handler has begun.

        Called in HEAD and BODY, when more has come or a turn begins. What `Parser.next` raises
        becomes an answer: by `_refuse` where there is no head, at once where the framing of a body
        breaks before the handler has begun, and else by the handler, in which `Request.read_body`
        raises it.
        """
        request, begun = self._request, None
        try:
            while (event := self._parser.next()) is not None:
                if type(event) is bytes:
                    assert request is not None
                    request.receive(event)
                elif event is END:
                    assert request is not None
                    self._enter(ANSWERING)
                    request.body.end()
                    break
                else:
                    assert isinstance(event, Head)
                    begun = request = self._request = Request(self, event, self._opened)
            if event is None and begun is not None:
                self._enter(BODY)
        except GatewayError as error:
            if request is None:
                self._refuse(error)
                return
            if begun is not None:
                self._enter(BODY)
            request.body.fail(error)
            if begun is not None and isinstance(error, BadRequest):
                self.edge.began(begun.record)
                begun.refuse(error)
                begun.finish()
                return
        if begun is not None:
            begun.process()

    def _lone_request(self) -> Request:
        """Return a request whose head never was whole, or none, to be answered and recorded: what
        is known of it is as much as the parser has understood. Called by `_refuse` and
        `connectionLost`."""
        request = self._request = Request(self, self._parser.head, self._opened)
        self.edge.began(request.record)
        return request

    def _refuse(self, error: GatewayError) -> None:
        """Answer what never became a request with `error`, and close. A page of a listed origin may
        see why, so that its developer does not have to guess. Called by `_read` for what the parser
        refuses, and by `expired` and `_stop`."""
        request = self._lone_request()
        origins = {b"origin": self._parser.refused_origins}
        request.extra_fields += self.site.origins.answer_fields(origins, b"")
        request.refuse(error)
        request.finish()

    def _close(self, *, gently: bool = False) -> None:
        """Close once what was written is out, and cut a client that does not take it.

        Where the client may still be sending, `gently` closes our side alone at first, and throws
        away what arrives, for `LINGER` seconds at the most: see there. TLS has no closing of one
        side. A connection that is closed already stays so. Called wherever an exchange or an idle
        connection ends in good order.
        """
        if self.phase is CLOSED:
            return
        quick = self.phase is IDLE or (gently and self._written is None)
        self._enter(LINGERING)
        if self.above_limit:
            self.edge.places.leaves(self)
        self._outlet.flush()
        self.transport.unregisterProducer()
        if gently and not self.isSecure():
            if not self._half_closed:
                self.transport.resumeProducing()
            self.transport.loseWriteConnection()
        else:
            self.transport.loseConnection()
        self._flow.watch(LINGER if quick else self.edge.limits.write_stall_timeout)
