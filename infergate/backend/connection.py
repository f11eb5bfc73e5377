"""One connection to the origin: a request out, its response in, and then the next.

Twisted's own, `HTTP11ClientProtocol`, takes a response apart line by line, hands each chunk through
eleven calls, and stops and starts reading around each body: a fifth of a request's time.

A `Message` is the request in bytes, a `Response` what its sender gets, a `Connection` the protocol
between socket and these two. The bytes that come in are read by a `parser.Reader`, one for each
response.
"""

from __future__ import annotations

import select
from collections.abc import Callable
from io import BytesIO
from typing import Any, cast

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.error import ConnectionDone
from twisted.internet.interfaces import IProtocol, IPushProducer, ITCPTransport
from twisted.internet.protocol import Protocol, connectionDone
from twisted.internet.tcp import Connection as TCPConnection
from twisted.python.failure import Failure
from twisted.web.client import ResponseDone, ResponseFailed, ResponseNeverReceived
from twisted.web.http import PotentialDataLoss
from twisted.web.http_headers import Headers
from twisted.web.iweb import UNKNOWN_LENGTH, IBodyProducer, IClientRequest, IResponse
from zope.interface import implementer

from infergate.backend.head import Broken, Head, LastHead
from infergate.backend.parser import Reader
from infergate.errors import BrokenReply
from infergate.reactor.headers import written
from infergate.reactor.writing import Outlet, outlet

COMPRESSED = "The backend sent a compressed answer, which was not asked for."


class _Done(Failure):
    """The end of a body, told to treq's collector in one step: it asks each reason whether it is
    `ResponseDone`, for which Twisted looks up the names of all the exception's classes."""

    def check(self, *errorTypes: Any) -> Any:
        """Return `ResponseDone` where that is among the types, without a look at class names."""
        return ResponseDone if ResponseDone in errorTypes else super().check(*errorTypes)  # type: ignore[no-untyped-call]


_DONE = _Done(ResponseDone())  # type: ignore[no-untyped-call]


@implementer(IClientRequest)
class Message:
    """A request to be sent, its head already in bytes, and what comes of it.

    The agent makes it, and hands it to a connection, which calls `whole` once. `answered` fires
    with the `Response` when its head is here; it may be cancelled, which calls `give_up`: that does
    nothing before there is anything to give up, and whoever has the request in hand sets it.
    `bodiless`: it has no body. `last`: it says something of the connection, which is therefore
    closed after the response.
    """

    absoluteURI = None

    def __init__(
        self,
        method: bytes,
        target: bytes,
        host: bytes,
        headers: Headers,
        body: IBodyProducer | None,
    ) -> None:
        """Write the head, by `target` in the form of a path and the fields as they are: the caller
        answers for their names and values. `body` says how long it is, and is asked for its bytes
        by `whole`."""
        self.method = method
        self.headers = headers
        self.bodiless = body is None
        self._body = body
        length = b"" if body is None else b"Content-Length: %d\r\n" % body.length
        lines = length + written(headers)
        self._head = b"%b %b HTTP/1.1\r\nHost: %b\r\n%b\r\n" % (method, target, host, lines)
        self.last = self._head.find(b"\r\nConnection: ") >= 0
        self.give_up: Callable[[], object] = _nothing
        self.answered: Deferred[Any] = Deferred(self._cancelled)

    def whole(self) -> bytes:
        """Return head and body as one string of bytes: of two small writes the second would wait
        for the acknowledgement of the first (RFC 896). Called once, by the connection, whose outlet
        owns the bytes from then on; the body's producer has let go of its own."""
        if self._body is None:
            return self._head
        out: Any = BytesIO()
        out.write(self._head)
        self._body.startProducing(out)
        whole: bytes = out.getvalue()
        return whole

    def fail(self, error: Exception | Failure) -> None:
        """Fail `answered` with `error`, unless it was cancelled before: there will be no response.
        Called by the agent and the connection."""
        if not self.answered.called:
            self.answered.errback(error)

    def _cancelled(self, _: Deferred[Any]) -> None:
        """Give the request up, whatever has become of it. Twisted calls this where `answered` is
        cancelled, and fails it with `CancelledError` unless it has failed by then."""
        self.give_up()


def _nothing() -> None:
    """Give up nothing: the request has not been sent."""


@implementer(IResponse, IPushProducer)
class Response:
    """A response whose head is here.

    Whoever waits for it calls `deliverBody` once, now or later; until then reading is paused. To
    the protocol that reads the body it is the transport: `pauseProducing`, `resumeProducing`, and
    `loseConnection` to give the body up, which do nothing once the body has ended. The
    connection calls `receive` with each chunk and `end` at the end.
    """

    previousResponse: IResponse | None = None

    def __init__(self, connection: Connection, request: Message, head: Head) -> None:
        """Make a response of a `head` that is whole; the connection does this, and reads the body
        for it."""
        self.request = request
        self.head = head
        self.code = head.status
        self.length = UNKNOWN_LENGTH if head.length is None else head.length
        self._connection: Connection | None = connection
        # What came of the body, and how it ended, before there was a protocol to read it. The
        # connection sets what came with the head.
        self.early = b""
        self._reason: Failure | None = None
        self._protocol: IProtocol | None = None

    # What Twisted asks of a response, made only for who asks: `head` is quicker.

    @property
    def version(self) -> tuple[bytes, int, int]:
        """The protocol, with its major and minor version."""
        return b"HTTP", 1, self.head.minor

    @property
    def phrase(self) -> bytes:
        """The reason phrase, which may be empty."""
        return self.head.reason

    @property
    def headers(self) -> Headers:
        """The header fields."""
        return Headers(cast(Any, self.head.fields))

    def setPreviousResponse(self, response: IResponse) -> None:
        """For who follows redirects, which the gateway does not; `IResponse` asks for it."""
        self.previousResponse = response

    def deliverBody(self, protocol: IProtocol) -> None:
        """Hand the body to `protocol`: what has come at once, the rest as it comes, then its
        `connectionLost` with `ResponseDone`, `PotentialDataLoss` or `ResponseFailed`.

        treq's `collect` calls this, for `Call.read`. `PotentialDataLoss` is the end of a body that
        declared no length, which may be whole or cut short.
        """
        transport: Any = self
        protocol.makeConnection(transport)
        reason = self._reason
        if self._connection is not None:
            self._protocol = protocol
            self._connection.resume()
        early, self.early = self.early, b""
        if early:
            protocol.dataReceived(early)
        if reason is not None:
            protocol.connectionLost(reason)

    def whole(self) -> bytes | None:
        """Return the body, now the caller's, where all of it was there before anybody read it, as
        that of most replies is; else None. `Call.read_all` calls this in place of `deliverBody`."""
        if self._reason is not _DONE:
            return None
        body, self.early = self.early, b""
        return body

    # For the connection.

    @property
    def claimed(self) -> bool:
        """Whether a protocol reads the body; where none does, the connection pauses."""
        return self._protocol is not None

    def receive(self, chunk: bytes) -> None:
        """Take a chunk of the body: hand it to the protocol that reads it, or keep it until there
        is one."""
        if self._protocol is None:
            self.early += chunk
        else:
            self._protocol.dataReceived(chunk)

    def end(self, reason: Failure) -> None:
        """End the body with `reason`. The connection may belong to another exchange by now."""
        self._connection = None
        self._reason = reason
        protocol, self._protocol = self._protocol, None
        if protocol is not None:
            protocol.connectionLost(reason)

    # For the protocol that reads the body.

    def pauseProducing(self) -> None:
        """Read no more of the body for now."""
        if self._connection is not None:
            self._connection.pause()

    def resumeProducing(self) -> None:
        """Read on."""
        if self._connection is not None:
            self._connection.resume()

    def loseConnection(self) -> None:
        """Give the body up. Nothing more of it is handed over but its end, `ResponseFailed`."""
        if self._connection is not None:
            self._connection.abort()

    stopProducing = loseConnection


class Connection(Protocol):
    """One connection to the origin, idle or with one exchange on it.

    The agent calls `request` on a new connection or one that it took from the pool. `released` is
    called with the connection when its exchange is over and it may be used again, before anybody is
    told of the end, so that whoever is told can use it at once. `lost` is called once, when the
    connection is gone. Both are the pool's.

    Nothing that the backend sends makes a method raise: a broken response fails what `request`
    returned, or ends the body with `ResponseFailed`, and closes the connection.
    """

    transport: Any
    _outlet: Outlet

    def __init__(
        self, released: Callable[[Connection], None], lost: Callable[[Connection], None]
    ) -> None:
        """Make one for a transport that is still to be connected, with what it calls of the
        pool's."""
        self._released = released
        self._lost = lost
        # Whether the backend may close it without a word: after a body of no declared length, as a
        # stream has, llama.cpp does. For the pool, of an idle connection.
        self.may_close = False
        # Whether it was closed here, also for the pool.
        self.aborted = False
        self._closed = False
        self._paused = False
        # Of the exchange under way; both are None on an idle connection.
        self._request: Message | None = None
        self._response: Response | None = None
        self._last = LastHead()
        self._reader = Reader(self._last)

    # For the agent and the pool.

    def request(self, request: Message) -> None:
        """Send `request`, whose `answered` fires with the `Response` when its head is here. Called
        by the agent, on an idle connection.

        It fails with `ResponseNeverReceived` where not a byte of a response came, or where it was
        cancelled, which closes the connection; with `BrokenReply` for a compressed response, of
        which nothing is read; else with `ResponseFailed`.
        """
        self._request = request
        self._reader = Reader(self._last)
        request.give_up = self._give_up
        self._outlet.write(request.whole())

    @property
    def usable(self) -> bool:
        """Whether it is open and nothing has come since the last response, not even to the kernel.
        The pool asks before it gives an idle connection out."""
        return not (self._closed or self._readable.poll(0))

    def abort(self) -> None:
        """Close it now. An orderly close waits until all of the request is out: for ever, with a
        backend that has answered, or hangs, and does not read the rest. `connectionLost` follows in
        a later event loop iteration."""
        self._closed = self.aborted = True
        cast(ITCPTransport, self.transport).abortConnection()

    # For the response.

    def pause(self) -> None:
        """Read no more of the backend for now."""
        self._paused = True
        self.transport.pauseProducing()

    def resume(self) -> None:
        """Read on, if reading was paused."""
        if self._paused:
            self._paused = False
            self.transport.resumeProducing()

    # For the transport.

    def connectionMade(self) -> None:
        """Begin, now that the connection is there and the TLS handshake over."""
        if isinstance(self.transport, TCPConnection):
            # The endpoint's wrapper has done its work: the socket hands what it reads to this
            # object itself.
            self.transport.protocol = self
        self._outlet = outlet(self.transport)
        self._readable = select.poll()
        self._readable.register(self.transport.fileno(), select.POLLIN)

    def dataReceived(self, data: bytes) -> None:
        """Hand `data` to the reader, and what it brings of the body to the response.

        What comes unasked, on an idle connection or after the exchange was given up, closes the
        connection.
        """
        request, reader = self._request, self._reader
        if request is None or self._closed:
            # Nothing was asked, or the exchange was given up.
            self.abort()
            return
        chunk = reader.feed(data)
        response = self._response
        if response is not None:
            if chunk:
                response.receive(chunk)
            if reader.over:
                self._finish(response)
        elif reader.head is not None:
            self._begin(request, reader.head, chunk)
        elif reader.over:
            self._fail(request, ResponseFailed([_fault(reader)]))
            self.abort()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """End the exchange under way, if there is one: the backend has closed the connection, or
        this side has. Only an orderly close can be the end of a body that has no other."""
        self._closed = True
        self._lost(self)
        request, response, reader = self._request, self._response, self._reader
        if request is None:
            return
        if response is None:
            cut = ResponseFailed([reason]) if reader.started else ResponseNeverReceived([reason])
            self._fail(request, cut)
            return
        self._request = self._response = None
        if reader.close() and isinstance(reason.value, ConnectionDone):
            response.end(Failure(PotentialDataLoss()))
        else:
            response.end(Failure(ResponseFailed([reason])))

    # The exchange.

    def _begin(self, request: Message, head: Head, chunk: bytes) -> None:
        """Make the response, now that its head is here, and give it to whoever awaits it; `chunk`
        is what came of the body with the head. Where nobody reads the body at once, reading is
        paused. For `dataReceived`."""
        if head.coded:
            # Nobody asked for it: the gateway reads what it passes on, and a small body can be huge
            # once it is decoded.
            self._fail(request, BrokenReply(COMPRESSED))
            self.abort()
            return
        response = self._response = Response(self, request, head)
        response.early = chunk
        if self._reader.over:
            self._finish(response)
        request.answered.callback(response)
        if response is self._response and not (response.claimed or self._closed):
            self.pause()

    def _finish(self, response: Response) -> None:
        """End the exchange, whose response is whole or broken, and release the connection to the
        pool or close it. For `dataReceived` and `_begin`, once the reader is over."""
        reader = self._reader
        reason = _DONE if reader.fault is None else Failure(ResponseFailed([_fault(reader)]))
        reusable = self._reusable()
        self._request = self._response = None
        if reusable:
            if self._paused:
                # By the last reader; the next one does not know.
                self.resume()
            self.may_close = response.length is UNKNOWN_LENGTH
            self._released(self)
        else:
            self.abort()
        response.end(reason)

    def _reusable(self) -> bool:
        """Return whether another request may follow the one that was answered just now.

        The backend must be known to have read the last one. One that refuses a request early may
        never read the rest of its body, nor then what follows on the connection. So only a 2xx to a
        body says that it was read, and only once the kernel holds nothing of it any more. For
        `_finish`.
        """
        request, head, reader = self._request, self._reader.head, self._reader
        assert request is not None
        assert head is not None
        if self._closed or request.last or reader.fault or reader.excess or not head.keep_alive:
            return False
        return (request.bodiless or 200 <= head.status < 300) and self._outlet.empty

    def _fail(self, request: Message, error: Exception) -> None:
        """End the exchange, whose response will not come, with `error`. For `dataReceived`,
        `connectionLost` and `_begin`."""
        self._request = None
        request.fail(error)

    def _give_up(self) -> None:
        """Close the connection, so that the backend stops working on the request: nobody waits for
        the response any more. Called by the request where it is cancelled."""
        assert self._request is not None
        self._request.fail(ResponseNeverReceived([Failure(CancelledError())]))
        self.abort()


def _fault(reader: Reader) -> Failure:
    """Return what is wrong with a response, as `ResponseFailed` takes it. For `Connection`."""
    return Failure(Broken(reader.fault))
