"""Connections that face clients: framing, limits, deadlines, flow control.

The stock `HTTPChannel` accepts what an edge must refuse, reads a whole body before anyone may
object, and restarts its one timeout with every byte; `Connection` stands in its place. It feeds
`framing.Parser`, hands each request to the site's resource as soon as its *head* is complete, and
gives `twisted.web`'s own `Request` the channel it expects. All that it uses of Twisted is public.
"""

from __future__ import annotations

import fcntl
import struct
import termios
from collections import deque
from collections.abc import Callable
from typing import Protocol as Interface
from typing import cast

import attrs
from twisted.internet.defer import Deferred, succeed
from twisted.internet.error import ConnectionAborted
from twisted.internet.interfaces import IAddress, IPushProducer, ISSLTransport, ITCPTransport
from twisted.internet.protocol import Protocol
from twisted.python.failure import Failure
from twisted.web.resource import IResource
from twisted.web.server import Site
from zope.interface import implementer

from infergate.errors import BadRequest, GatewayError, Overloaded, RequestTimeout, ShuttingDown
from infergate.reactor.deadlines import NEVER, Deadlines
from infergate.reactor.writing import Outlet, outlet
from infergate.server.addresses import Networks
from infergate.server.parser import END, Head, Limits, Parser
from infergate.server.request import Request
from infergate.telemetry.record import Record

PIPELINE_BYTES = 16384
"""How much of the next requests is read while one is being answered: enough to see the client
leave, unless it has sent more than that, and too little to be a burden."""

WRITE_BUFFER = 1 << 15
"""Bytes written and not yet taken by the kernel at which the backend is paused. What it had sent
by then, one read more, comes on top."""

LINGER = 2.0
"""Seconds in which what a refused client still sends is thrown away. A socket closed on unread
bytes is reset, and the reset can overtake the answer (RFC 9112, 9.6)."""

SHARE = 8
"""Requests that are served in one turn of the reactor out of what all clients have pipelined: some
three milliseconds' worth."""

TURN_AWAY = 4096
"""Connections above the limit that are told so; any beyond them are only closed."""


@attrs.frozen
class EdgeLimits:
    """Sizes in bytes, times in seconds; see the settings of the same names."""

    framing: Limits
    connections: int = 1000
    requests_per_connection: int = 10000
    header_timeout: float = 10
    body_timeout: float = 60
    keepalive_timeout: float = 75
    write_stall_timeout: float = 60


class _Transport(Interface):
    """What is used of a transport; TCP, TLS, UNIX and PROXY ones all have it."""

    bufferSize: int

    def write(self, data: bytes) -> None: ...
    def loseConnection(self) -> None: ...
    def abortConnection(self) -> None: ...
    def loseWriteConnection(self) -> None: ...
    def registerProducer(self, producer: object, streaming: bool) -> None: ...
    def unregisterProducer(self) -> None: ...
    def pauseProducing(self) -> None: ...
    def resumeProducing(self) -> None: ...
    def getPeer(self) -> IAddress: ...
    def getHost(self) -> IAddress: ...
    def fileno(self) -> int: ...


@implementer(IPushProducer)
class Connection(Protocol):
    """One client connection: bytes to requests, and back.

    To the transport it is a push producer, to `Request` a channel.
    """

    transport: _Transport  # type: ignore[assignment]
    _peer: IAddress
    _host: IAddress
    write: Callable[[bytes], None]
    write_soon: Callable[[bytes], None]
    _outlet: Outlet

    def __init__(self, edge: Edge) -> None:
        self.edge = edge
        self.site = edge
        self.peer = ""
        self.paused = False
        """The client takes less than is ready for it."""
        self._parser = Parser(edge.limits.framing)
        self._request: Request | None = None
        self._served = 0
        self._persistent = True
        self._opened = 0.0
        self._queued = False
        self._held = False
        self._closing = False
        self._turned_away = False
        self.deadline = NEVER
        self._producer: IPushProducer | None = None
        self._drained: Deferred[None] | None = None
        self._outstanding: tuple[int, int] | None = None
        self._after_pause = NEVER

    # From the transport.

    def connectionMade(self) -> None:
        edge = self.edge
        self._learn_addresses()
        if ITCPTransport.providedBy(self.transport):
            cast(ITCPTransport, self.transport).setTcpNoDelay(True)
        self.transport.bufferSize = WRITE_BUFFER
        self._outlet = outlet(self.transport)
        self.write, self.write_soon = self._outlet.write, self._outlet.write_soon
        self.transport.registerProducer(self, True)
        edge.connections.add(self)
        edge.deadlines.watch(self)
        if len(edge.connections) - edge.turned_away <= edge.limits.connections:
            self._expect(edge.limits.header_timeout)
            return
        self._turned_away = True
        edge.turned_away += 1
        if edge.turned_away > TURN_AWAY:
            self.transport.abortConnection()
        else:
            self._refuse(Overloaded())

    def dataReceived(self, data: bytes) -> None:
        if self._closing:
            return
        parser = self._parser
        if not parser.started and self._request is None:
            if not self._opened:
                self._learn_addresses()  # a PROXY header, now read, has others
            self._opened = self.edge.deadlines.now()
            self._expect(self.edge.limits.header_timeout)
        parser.receive(data)
        if not self._queued and (self._request is None or not self._request.complete):
            self._read()
        elif parser.buffered > PIPELINE_BYTES and not self._held:
            self._held = True
            self.transport.pauseProducing()

    def connectionLost(self, reason: Failure) -> None:  # type: ignore[override]
        edge = self.edge
        ended, self._closing = self._closing, True
        edge.deadlines.forget(self)
        edge.connections.discard(self)
        edge.turned_away -= self._turned_away
        if self._request is not None:
            self._request.connectionLost(reason)
        elif self._parser.started and not ended:
            # Part of a head came, and no more: also an exchange, and also accounted for.
            self._lone_request().connectionLost(reason)
        if self._drained is not None:
            drained, self._drained = self._drained, None
            drained.callback(None)
        edge.connection_closed()

    def pauseProducing(self) -> None:
        self._after_pause = self.deadline
        self.paused = True
        self._outstanding = self._unsent()
        self._watch_for_stall()
        if self._producer is not None:
            self._producer.pauseProducing()

    def resumeProducing(self) -> None:
        self.paused = False
        self.deadline = self._after_pause
        if self._producer is not None:
            self._producer.resumeProducing()
        if self._drained is not None:
            drained, self._drained = self._drained, None
            drained.callback(None)
        if self._request is None and not (self._closing or self._queued):
            self._await_request()

    def stopProducing(self) -> None:
        """The transport is lost; `connectionLost` says so to everyone."""

    # To the request: the channel that `twisted.web.http.Request` expects.

    def getPeer(self) -> IAddress:
        return self._peer

    def getHost(self) -> IAddress:
        return self._host

    def isSecure(self) -> bool:
        return ISSLTransport.providedBy(self.transport)

    def registerProducer(self, producer: IPushProducer, streaming: bool) -> None:
        self._producer = producer
        if self.paused:
            producer.pauseProducing()

    def unregisterProducer(self) -> None:
        self._producer = None

    def drained(self) -> Deferred[None]:
        if not self.paused:
            return succeed(None)
        if self._drained is None:
            self._drained = Deferred(self._forget_drained)
        return self._drained

    def settle_persistence(self, request: Request, *, framed: bool) -> bool:
        """Whether the connection outlives the answer that now begins."""
        self._persistent = (
            framed
            and request.head is not None
            and request.head.keep_alive
            and request.complete
            and not self.edge.draining
            and self._served + 1 < self.edge.limits.requests_per_connection
        )
        return self._persistent

    def requestDone(self, request: Request) -> None:
        self._served += 1
        self._request = None
        if not self._persistent:
            self._close(gently=not request.complete)
            return
        self._parser.restart()
        if self._parser.started:
            self._queued = True
            self._expect(NEVER)
            self.edge.queue(self)
        else:
            self._read_on()
            self._await_request()

    def take_turn(self) -> None:
        """Serve the next request out of what has been read; called by the edge's queue."""
        self._queued = False
        if not self._closing:
            self._await_request()
            self._read()
            self._read_on()

    def cut(self, *, reset: bool) -> None:
        """Close in mid-answer: with a FIN, or, on the next sweep, with a reset."""
        if reset:
            self._closing = True
            # The next sweep, paused or not; what was written goes out before it.
            self.deadline = self._after_pause = 0.0
        else:
            self._close(gently=False)

    # Draining.

    @property
    def idle(self) -> bool:
        return self._request is None and not self._parser.started

    @property
    def busy(self) -> bool:
        """A request is running, or what was written may not be out yet."""
        return self._closing or not self.idle

    def close_idle(self) -> None:
        if not self.busy:
            self._close(gently=False)
            self._expect(LINGER)  # over TLS, a peer that answers nothing must not hold up a drain

    def abort(self) -> None:
        self.transport.abortConnection()

    def stop_request(self, error: GatewayError) -> None:
        """End what is running with `error`; its handler is cancelled by the closing."""
        if self._request is not None:
            self._request.refuse(error)
            self._request.break_off()
        elif self._parser.started and not self._closing:
            self._refuse(error)
        else:
            self._close(gently=False)

    # Inside.

    def _learn_addresses(self) -> None:
        # Kept: once the connection is lost the transport no longer knows its own address.
        self._peer, self._host = self.transport.getPeer(), self.transport.getHost()
        self.peer = getattr(self._peer, "host", "unix")

    def _expect(self, seconds: float) -> None:
        """Set the next deadline; while the client takes nothing, that of the stall stands."""
        at = self.edge.deadlines.now() + seconds
        if self.paused:
            self._after_pause = at
        else:
            self.deadline = at

    def _watch_for_stall(self) -> None:
        self.deadline = self.edge.deadlines.now() + self.edge.limits.write_stall_timeout

    def _await_request(self) -> None:
        if self._parser.started:
            self._opened = self.edge.deadlines.now()
            self._expect(self.edge.limits.header_timeout)
        elif self.edge.draining:
            self._close(gently=False)
        else:
            self._expect(self.edge.limits.keepalive_timeout)

    def _read_on(self) -> None:
        """Take more from the socket, where reading was held because much had been pipelined."""
        if self._held and self._parser.buffered <= PIPELINE_BYTES:
            self._held = False
            self.transport.resumeProducing()

    def _read(self) -> None:
        """Read on in the present request, or the next one, and hand it on where it is whole. What
        is pipelined behind it waits for its turn (RFC 9112, 9.3.2)."""
        request = self._request
        begun = None
        try:
            while (event := self._parser.next()) is not None:
                if type(event) is bytes:
                    assert request is not None
                    request.receive(event)
                elif event is END:
                    assert request is not None
                    self._expect(NEVER)
                    request.complete_body()
                    break
                else:
                    assert isinstance(event, Head)
                    self._expect(self.edge.limits.body_timeout)
                    begun = request = self._request = Request(self, event, self._opened)
        except GatewayError as error:
            if request is None:
                self._refuse(error)
                return
            request.fail_body(error)
            if begun is not None and isinstance(error, BadRequest):
                self.edge.began(begun.record)
                begun.refuse(error)
                begun.finish()
                return
        if begun is not None:
            begun.process()

    def _lone_request(self) -> Request:
        """A request whose head never was whole, or none, to be answered and recorded."""
        request = self._request = Request(self, self._parser.head, self._opened)
        self.edge.began(request.record)
        return request

    def _refuse(self, error: GatewayError) -> None:
        if not self._opened:
            self._opened = self.edge.deadlines.now()
        request = self._lone_request()
        request.refuse(error)
        request.finish()

    def _close(self, *, gently: bool) -> None:
        self._closing = True
        self._outlet.flush()
        self.transport.unregisterProducer()
        if gently and not self.isSecure():
            self.transport.resumeProducing()
            self.transport.loseWriteConnection()
            self._expect(LINGER)
        else:
            self.transport.loseConnection()
            self._expect(self.edge.limits.write_stall_timeout)

    def expired(self) -> None:
        """The present deadline has passed; which one it is, the state says."""
        request = self._request
        if self.paused and self._unsent() != self._outstanding:
            self._outstanding = self._unsent()
            self._watch_for_stall()
        elif self.paused or self._closing:
            self.transport.abortConnection()
        elif request is not None:
            request.fail_body(RequestTimeout())
        elif self._parser.started:
            self._refuse(RequestTimeout())
        else:
            self._close(gently=False)

    def _unsent(self) -> tuple[int, int] | None:
        """What the client has not taken yet: where Twisted's buffer stands and what the kernel
        holds. epoll calls a socket writable only after much of the latter is gone, so that a
        slow reader can look like one that takes nothing."""
        try:
            queued = fcntl.ioctl(self.transport.fileno(), termios.TIOCOUTQ, b"\0\0\0\0")
        except (AttributeError, OSError, TypeError, ValueError):
            return None
        return getattr(self.transport, "offset", 0), struct.unpack("i", queued)[0]

    def _forget_drained(self, _: Deferred[None]) -> None:
        self._drained = None


class Edge(Site):
    """The factory of connections in front of one resource.

    `began` and `ended` are called with the record of each exchange.
    """

    noisy = False

    def __init__(
        self,
        resource: IResource,
        limits: EdgeLimits,
        deadlines: Deadlines,
        *,
        began: Callable[[Record], None],
        ended: Callable[[Record], None],
        trusted_proxies: Networks = (),
        error_format: str = "code",
    ) -> None:
        super().__init__(resource)  # type: ignore[no-untyped-call]
        self.limits = limits
        self.max_body = limits.framing.body
        self.deadlines = deadlines
        self.began = began
        self.ended = ended
        self.trusted_proxies = trusted_proxies
        self.error_format = error_format
        self.connections: set[Connection] = set()
        self.turned_away = 0
        """How many of them are above the limit, and only told so; they take no place."""
        self.draining = False
        self._emptied: Deferred[None] | None = None
        self._queue: deque[Connection] = deque()
        self._serving = False

    def acceptableProtocols(self) -> list[bytes]:
        """HTTP/1.1 alone: over TLS, `Site` would offer HTTP/2 where `h2` is installed."""
        return [b"http/1.1"]

    def buildProtocol(self, addr: IAddress | None) -> Connection:  # type: ignore[override]
        return Connection(self)

    def queue(self, connection: Connection) -> None:
        """Let `connection`, on which more requests have arrived, serve its next one in its turn.

        Each turn of the reactor serves `SHARE` requests, one of each connection that waits, and
        again: then the sockets are looked at, so that nobody waits for what others have pipelined.
        """
        self._queue.append(connection)
        if not self._serving:
            self._serving = True
            self.deadlines.soon(self._serve_queue)

    def _serve_queue(self) -> None:
        try:
            for _ in range(SHARE):
                if self._queue:
                    self._queue.popleft().take_turn()
        finally:
            self._serving = bool(self._queue)
            if self._serving:
                self.deadlines.soon(self._serve_queue)

    def startFactory(self) -> None:
        """`Site` would open an access log and tick each second for its date."""

    def stopFactory(self) -> None:
        """See `startFactory`."""

    def log(self, request: object) -> None:
        """Not here: `ended` sees also what never finished."""

    def drain(self) -> Deferred[None]:
        """Close what is idle, let the running requests end; fires when none is left.

        The port stays open meanwhile for probes; what they hold open does not count.
        """
        self.draining = True
        for connection in list(self.connections):
            connection.close_idle()
        self._emptied = Deferred()
        emptied = self._emptied
        self.connection_closed()
        return emptied

    def stop_requests(self, error: GatewayError) -> None:
        """End every running exchange with `error`."""
        for connection in list(self.connections):
            connection.stop_request(error)

    def abort(self) -> None:
        for connection in list(self.connections):
            connection.abort()

    def end(self) -> None:
        """End everything within this call: every exchange has its line before the process goes."""
        self.stop_requests(ShuttingDown())
        for connection in list(self.connections):
            connection.connectionLost(Failure(ConnectionAborted()))

    def connection_closed(self) -> None:
        if self._emptied is not None and not any(c.busy for c in self.connections):
            emptied, self._emptied = self._emptied, None
            emptied.callback(None)
