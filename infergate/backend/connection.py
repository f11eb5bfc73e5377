"""One connection to the origin: a request out, its response in, and then the next.

Twisted's own, `HTTP11ClientProtocol`, takes a response apart line by line, hands a chunk through
eleven calls, and stops and starts reading around each body: a fifth of a request's time.
"""

from __future__ import annotations

import select
from collections.abc import Callable
from io import BytesIO
from typing import Any, cast

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.error import ConnectionDone
from twisted.internet.interfaces import (
    IConsumer,
    IProtocol,
    IPushProducer,
    ITCPTransport,
)
from twisted.internet.protocol import Protocol, connectionDone
from twisted.internet.tcp import Connection as TCPConnection
from twisted.python.failure import Failure
from twisted.web.client import (
    ResponseDone,
    ResponseFailed,
    ResponseNeverReceived,
)
from twisted.web.http import PotentialDataLoss
from twisted.web.http_headers import Headers
from twisted.web.iweb import UNKNOWN_LENGTH, IBodyProducer, IClientRequest, IResponse
from zope.interface import implementer

from infergate.backend.parser import Broken, Head, Reader
from infergate.reactor.writing import Outlet, outlet

_DONE = Failure(ResponseDone())


@implementer(IClientRequest)
class Message:
    """A request to be sent, its head already in bytes."""

    absoluteURI = None

    def __init__(
        self,
        method: bytes,
        target: bytes,
        host: bytes,
        headers: Headers,
        body: IBodyProducer | None,
    ) -> None:
        self.method = method
        self.headers = headers
        self.last = headers.hasHeader(b"Connection")
        """The connection is not to be used after it."""
        self.bodiless = body is None
        self._body = body
        lines = [b"%b %b HTTP/1.1\r\nHost: %b\r\n" % (method, target, host)]
        if body is not None:
            lines.append(b"Content-Length: %d\r\n" % body.length)
        for name, values in headers.getAllRawHeaders():
            lines += [b"%b: %b\r\n" % (name, value) for value in values]
        lines.append(b"\r\n")
        self._head = b"".join(lines)

    def whole(self) -> bytes:
        """Head and body, in one piece: two would wait for one another (RFC 896)."""
        if self._body is None:
            return self._head
        out = BytesIO()
        out.write(self._head)
        self._body.startProducing(cast(IConsumer, out))
        return out.getvalue()


@implementer(IResponse, IPushProducer)
class Response:
    """A response whose head is here, and the transport of the protocol that reads its body."""

    previousResponse: IResponse | None = None

    def __init__(
        self, connection: Connection, request: Message, head: Head, length: int | None, early: bytes
    ) -> None:
        self.request = request
        self.version = (b"HTTP", 1, head.minor)
        self.code = head.status
        self.phrase = head.reason
        self.headers = Headers(cast(Any, head.fields))
        self.length = UNKNOWN_LENGTH if length is None else length
        self._connection: Connection | None = connection
        self._early = early
        self._end: Failure | None = None
        self._protocol: IProtocol | None = None

    def setPreviousResponse(self, response: IResponse) -> None:
        self.previousResponse = response

    def deliverBody(self, protocol: IProtocol) -> None:
        protocol.makeConnection(cast(Any, self))
        end = self._end
        if self._connection is not None:
            self._protocol = protocol
            self._connection.deliver_to(protocol.dataReceived)
        early, self._early = self._early, b""
        if early:
            protocol.dataReceived(early)
        if end is not None:
            protocol.connectionLost(end)

    # To the connection.

    @property
    def claimed(self) -> bool:
        """Somebody reads the body."""
        return self._protocol is not None

    def keep(self, piece: bytes) -> None:
        """A piece that came before anybody read the body."""
        self._early += piece

    def end(self, reason: Failure) -> None:
        """No more will come; the connection may be somebody else's by now."""
        self._connection = None
        self._end = reason
        protocol, self._protocol = self._protocol, None
        if protocol is not None:
            protocol.connectionLost(reason)

    # To the protocol: its transport.

    def pauseProducing(self) -> None:
        if self._connection is not None:
            self._connection.pause()

    def resumeProducing(self) -> None:
        if self._connection is not None:
            self._connection.resume()

    def stopProducing(self) -> None:
        self.loseConnection()

    def loseConnection(self) -> None:
        if self._connection is not None:
            self._connection.abort()


class Connection(Protocol):
    """One connection to the origin, in use or idle.

    `released` is called with it when it may be used again, `lost` when it is gone.
    """

    transport: Any
    _outlet: Outlet

    def __init__(
        self, released: Callable[[Connection], None], lost: Callable[[Connection], None]
    ) -> None:
        self._released = released
        self._lost = lost
        self._closed = False
        self._paused = False
        self._request: Message | None = None
        self._reader = Reader()
        self._response: Response | None = None
        self._deliver: Callable[[bytes], None] = _nobody
        self._awaited: Deferred[IResponse] | None = None

    # To the pool.

    def request(self, request: Message) -> Deferred[IResponse]:
        """Send `request`; fires with the response when its head is here.

        Errors: `ResponseNeverReceived` where not a byte of a response came, or where it was
        cancelled, which closes the connection; else `ResponseFailed`.
        """
        self._request = request
        self._reader = Reader()
        awaited = self._awaited = Deferred(self._cancelled)
        self._outlet.write(request.whole())
        return awaited

    @property
    def usable(self) -> bool:
        """It is open, and nothing has come since the last response: that would be its end, or
        what would be taken for the next one."""
        return not (self._closed or self._readable.poll(0))

    def abort(self) -> None:
        """Close it now. A polite close waits until all of the request is out: with a backend that
        has answered, or hangs, and does not read the rest of it, for ever."""
        self._closed = True
        cast(ITCPTransport, self.transport).abortConnection()

    # From the transport.

    def connectionMade(self) -> None:
        if isinstance(self.transport, TCPConnection):
            # A wrapper of the endpoint's, which has done its work, still stands between the two.
            self.transport.protocol = self
        self._outlet = outlet(self.transport)
        self._readable = select.poll()
        self._readable.register(self.transport.fileno(), select.POLLIN)

    def dataReceived(self, data: bytes) -> None:
        request, reader = self._request, self._reader
        if request is None or self._closed:
            self.abort()
            return
        piece = reader.feed(data)
        response = self._response
        if response is not None:
            if piece:
                self._deliver(piece)
            if reader.over:
                self._finish(response)
        elif reader.head is not None:
            self._begin(request, reader.head, piece)
        elif reader.over:
            self._fail(Failure(ResponseFailed([_broken(reader)])))
            self.abort()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self._closed = True
        self._lost(self)
        if self._request is None:
            return
        response, reader = self._response, self._reader
        if response is None:
            cut = ResponseFailed([reason]) if reader.started else ResponseNeverReceived([reason])
            self._fail(Failure(cut))
        elif reader.close() and isinstance(reason.value, ConnectionDone):
            self._end(response, Failure(PotentialDataLoss()))
        else:
            self._end(response, Failure(ResponseFailed([reason])))

    # To the response.

    def deliver_to(self, receiver: Callable[[bytes], None]) -> None:
        """The body is read now."""
        self._deliver = receiver
        self.resume()

    def pause(self) -> None:
        self._paused = True
        self.transport.pauseProducing()

    def resume(self) -> None:
        if self._paused:
            self._paused = False
            self.transport.resumeProducing()

    # Inside.

    def _begin(self, request: Message, head: Head, piece: bytes) -> None:
        response = self._response = Response(self, request, head, self._reader.length, piece)
        self._deliver = response.keep
        awaited, self._awaited = self._awaited, None
        if self._reader.over:
            self._finish(response)
        if awaited is not None:
            awaited.callback(response)
        if response is self._response and not (response.claimed or self._closed):
            self.pause()

    def _finish(self, response: Response) -> None:
        """The response is whole, or broken. The connection is free before anybody is told, so
        that whoever is may use it."""
        request, reader = self._request, self._reader
        assert request is not None
        assert reader.head is not None
        reason = _DONE if reader.fault is None else Failure(ResponseFailed([_broken(reader)]))
        good = reader.fault is None and not (reader.excess or request.last or self._closed)
        self._let_go()
        if good and reader.head.keep_alive and self._known_to_be_read(request, reader.head):
            self.resume()  # whoever held it up does so no more
            self._released(self)
        else:
            self.abort()
        response.end(reason)

    def _known_to_be_read(self, request: Message, head: Head) -> bool:
        """Whether the backend has surely read all of `request`. One that refuses a request may
        never read the rest of its body, nor then what follows on the connection; only an answer
        to a body that is out says that it was read."""
        return self._outlet.empty and (request.bodiless or 200 <= head.status < 300)

    def _end(self, response: Response, reason: Failure) -> None:
        self._let_go()
        response.end(reason)

    def _let_go(self) -> None:
        """An idle connection holds nothing of its last exchange."""
        self._request = self._response = None
        self._deliver = _nobody

    def _fail(self, failure: Failure) -> None:
        self._request = None
        awaited, self._awaited = self._awaited, None
        if awaited is not None:
            awaited.errback(failure)

    def _cancelled(self, awaited: Deferred[IResponse]) -> None:
        self._awaited = None
        awaited.errback(ResponseNeverReceived([Failure(CancelledError())]))
        self.abort()


def _nobody(piece: bytes) -> None:
    """Reads the body while there is none."""


def _broken(reader: Reader) -> Failure:
    return Failure(Broken(reader.fault))
