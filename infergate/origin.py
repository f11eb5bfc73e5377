"""The one origin behind the gateway: how to connect to it, its pool, and an agent for it."""

from __future__ import annotations

import select
from collections.abc import Callable
from typing import Any, cast

import attrs
from twisted.internet.abstract import isIPAddress, isIPv6Address
from twisted.internet.defer import Deferred, succeed
from twisted.internet.endpoints import (
    HostnameEndpoint,
    TCP4ClientEndpoint,
    TCP6ClientEndpoint,
    wrapClientTLS,
)
from twisted.internet.error import (
    ConnectingCancelledError,
    DNSLookupError,
    TimeoutError,  # noqa: A004  # Twisted's: the connect deadline
)
from twisted.internet.interfaces import (
    IAddress,
    IProtocol,
    IProtocolFactory,
    IStreamClientEndpoint,
    ITCPTransport,
    ITransport,
)
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.ssl import optionsForClientTLS
from twisted.python.failure import Failure
from twisted.web.client import (  # type: ignore[attr-defined]  # one is not in its __all__
    URI,
    HTTP11ClientProtocol,
    HTTPConnectionPool,
)
from twisted.web.http_headers import Headers
from twisted.web.iweb import IAgent, IBodyProducer, IClientRequest, IResponse
from zope.interface import implementer

IDLE_CONNECTION = 2.0
"""Seconds a pooled connection is kept: llama.cpp and uvicorn close theirs after 5, and a POST on
one that was just closed fails and must not be sent again."""

POOLED_CONNECTIONS = 1024

MAX_HEAD = 1 << 18
"""Bytes of a response's head, and of the interim ones before it."""

TWISTED_INTERNALS = {HTTPConnectionPool: ("_factory",), HTTP11ClientProtocol: ("_parser",)}
"""Private names that are used here; a test checks each."""


@implementer(IStreamClientEndpoint)
@attrs.frozen
class _Within:
    """An endpoint that gives up in time, the name lookup included."""

    endpoint: IStreamClientEndpoint
    seconds: float
    clock: object

    def connect(self, factory: IProtocolFactory) -> Deferred[IProtocol]:
        def too_late(failure: Failure, _: float) -> Failure:
            if failure.check(ConnectingCancelledError):
                return Failure(TimeoutError())
            return Failure(DNSLookupError("the name lookup took too long"))

        attempt = self.endpoint.connect(factory)
        return attempt.addTimeout(self.seconds, self.clock, too_late)  # type: ignore[arg-type]


class _Connection(HTTP11ClientProtocol):
    """A pooled connection that takes no endless head; Twisted bounds its lines, not their number.

    The bound stands before `dataReceived` only until the head is here: the pieces of a stream
    do not pass by it.
    """

    _used = False
    _closed = False

    def connectionMade(self) -> None:
        super().connectionMade()
        # A polite close waits until all of the request is out: with a backend that has answered,
        # or hangs, and does not read the rest of it, for ever.
        cast(Any, self.transport).loseConnection = self._close

    def _close(self) -> None:
        self._closed = True
        cast(ITCPTransport, self.transport).abortConnection()

    @property
    def stale(self) -> bool:
        """No use for a further request: we have closed it, or there is something to read. From a
        connection that idles that is its end, or what is no answer to anything."""
        if not self._used:
            return False
        if self._closed:
            return True
        waiting = select.poll()
        waiting.register(cast(Any, self.transport).fileno(), select.POLLIN)
        return bool(waiting.poll(0))

    def request(self, request: Any) -> Deferred[Any]:
        self._used = True
        self._head_left = MAX_HEAD
        self.dataReceived = self._head_received  # type: ignore[method-assign]
        return super().request(request).addBoth(self._head_over).addCallback(self._settle, request)

    def _head_received(self, data: bytes) -> None:
        self._head_left -= len(data)
        if self._head_left < 0:
            self._close()
        else:
            super().dataReceived(data)  # type: ignore[no-untyped-call]

    def _head_over(self, response: Any) -> Any:
        del self.dataReceived
        return response

    def _settle(self, response: Any, request: Any) -> Any:
        """Whether the connection outlives this response; Twisted reads ``close`` alone."""
        if self._parser is not None and _closes(response.version, self._parser.connHeaders):
            request.persistent = False
        return response


def _closes(version: tuple[bytes, int, int], fields: Headers) -> bool:
    """Whether a response of this version and with these fields is its connection's last
    (RFC 9112, 9.3)."""
    values = b",".join(fields.getRawHeaders(b"Connection", ()))
    options = [option.strip().lower() for option in values.split(b",")]
    return b"close" in options or (version[1:] < (1, 1) and b"keep-alive" not in options)


class _ConnectionFactory(Factory):
    noisy = False  # it would log each connection

    def __init__(self, quiescent: Callable[[Any], None], _: str) -> None:
        self._quiescent = quiescent

    def buildProtocol(self, addr: IAddress | None) -> _Connection:
        return _Connection(self._quiescent)  # type: ignore[no-untyped-call]


class _Pool(HTTPConnectionPool):
    """Gives out no connection that is stale: a request on it would fail, or, worse, be answered
    with what was sent before it."""

    _factory = _ConnectionFactory  # type: ignore[assignment]

    def getConnection(self, key: object, endpoint: IStreamClientEndpoint) -> Deferred[Any]:
        while True:
            connecting: Deferred[Any] = super().getConnection(key, endpoint)
            connection = getattr(connecting, "result", None)
            if not (isinstance(connection, _Connection) and connection.stale):
                return connecting
            cast(ITCPTransport, connection.transport).loseConnection()


class Close(Protocol):
    def connectionMade(self) -> None:
        assert self.transport is not None
        self.transport.loseConnection()


def discard(response: IResponse) -> None:
    """Close the connection of an answer that nobody wants; left alone it would stay for ever."""
    response.deliverBody(Close())


def backend_endpoint(url: str, reactor: object, connect_timeout: float) -> IStreamClientEndpoint:
    """How to connect to `url`: TCP, with TLS for ``https``."""
    uri = URI.fromBytes(url.encode("ascii"))
    host = uri.host.decode("ascii").strip("[]")
    endpoint: IStreamClientEndpoint
    if isIPAddress(host):  # no thread for a name that needs no lookup
        endpoint = TCP4ClientEndpoint(reactor, host, uri.port, connect_timeout)
    elif isIPv6Address(host):
        endpoint = TCP6ClientEndpoint(reactor, host, uri.port, connect_timeout)
    else:
        endpoint = HostnameEndpoint(reactor, host, uri.port, connect_timeout)
    if uri.scheme == b"https":
        endpoint = wrapClientTLS(optionsForClientTLS(host), endpoint)
    return _Within(endpoint, connect_timeout, reactor)


@implementer(IClientRequest)
class _Message:
    """A request as `HTTP11ClientProtocol` takes one; its own is checked anew, header by header,
    for each send, and watches a body that is all here."""

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
        self.persistent = not headers.hasHeader(b"Connection")
        self._body = body
        lines = [b"%b %b HTTP/1.1\r\nHost: %b\r\n" % (method, target, host)]
        if body is not None:
            lines.append(b"Content-Length: %d\r\n" % body.length)
        for name, values in headers.getAllRawHeaders():
            lines += [b"%b: %b\r\n" % (name, value) for value in values]
        lines.append(b"\r\n")
        self._head = b"".join(lines)

    def writeTo(self, transport: ITransport) -> Deferred[None]:
        transport.write(self._head)
        return succeed(None) if self._body is None else self._body.startProducing(transport)

    def stopWriting(self) -> None:
        """All was written at once."""


@implementer(IAgent)
class OriginAgent:
    """An agent for one origin, over one pool: Twisted's parses the URL of each request anew."""

    def __init__(self, url: str, endpoint: IStreamClientEndpoint, reactor: object) -> None:
        self.endpoint = endpoint
        self.pool = _Pool(reactor)  # type: ignore[no-untyped-call]
        self.pool.cachedConnectionTimeout = IDLE_CONNECTION  # type: ignore[assignment]
        self.pool.maxPersistentPerHost = POOLED_CONNECTIONS
        self.pool.retryAutomatically = False
        self._host = URI.fromBytes(url.encode("ascii")).netloc
        self._targets: dict[bytes, bytes] = {}

    def request(
        self,
        method: bytes,
        uri: bytes,
        headers: Headers | None = None,
        bodyProducer: IBodyProducer | None = None,
    ) -> Deferred[IResponse]:
        """Send a request for an absolute `uri` of the origin; its body is written at once."""
        target = self._targets.get(uri)
        if target is None:
            target = self._targets[uri] = URI.fromBytes(uri).originForm
        message = _Message(method, target, self._host, headers or Headers(), bodyProducer)
        connecting = self.pool.getConnection(self._host, self.endpoint)
        return connecting.addCallback(lambda connection: connection.request(message))
