"""The one origin behind the gateway: how to connect to it, its pool, and an agent for it."""

from __future__ import annotations

from typing import Any, cast

import attrs
from twisted.internet.abstract import isIPAddress, isIPv6Address
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import (
    HostnameEndpoint,
    TCP4ClientEndpoint,
    TCP6ClientEndpoint,
    wrapClientTLS,
)
from twisted.internet.error import (
    ConnectError,
    ConnectingCancelledError,
    DNSLookupError,
    TimeoutError,  # noqa: A004  # Twisted's: the connect deadline
)
from twisted.internet.interfaces import (
    IAddress,
    IHandshakeListener,
    IProtocol,
    IProtocolFactory,
    IStreamClientEndpoint,
)
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.internet.ssl import optionsForClientTLS
from twisted.python.failure import Failure
from twisted.web.client import URI
from twisted.web.http_headers import Headers
from twisted.web.iweb import IAgent, IBodyProducer, IResponse
from zope.interface import implementer

from infergate.backend.connection import Connection, Message
from infergate.reactor.deadlines import NEVER, Deadlines
from infergate.reactor.epoll import turn_of

IDLE_CONNECTION = 2.0
"""Seconds a pooled connection is kept: llama.cpp and uvicorn close theirs after 5, and a POST on
one that was just closed fails and must not be sent again."""

POOLED_CONNECTIONS = 1024


@implementer(IStreamClientEndpoint)
@attrs.frozen
class _Within:
    """An endpoint that gives up in time, the name lookup and the TLS handshake included."""

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


@implementer(IHandshakeListener)
class _Handshake(Protocol):
    """Stands in for `protocol` until the TLS handshake is over, so that a connection whose
    handshake hangs or fails is one that was never made: nothing was sent on it.

    `secured` fires with `protocol` once it is connected. `ConnectError`: the handshake failed, or
    the connection ended within it. Cancelling it closes the connection.
    """

    def __init__(self, protocol: IProtocol) -> None:
        self._protocol = protocol
        self.secured: Deferred[IProtocol] = Deferred(self._cancelled)

    def handshakeCompleted(self) -> None:
        transport: Any = self.transport
        protocol = transport.wrappedProtocol = self._protocol
        protocol.makeConnection(transport)
        self.secured.callback(protocol)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        if not self.secured.called:
            self.secured.errback(ConnectError(string=reason.getErrorMessage()))

    def _cancelled(self, secured: Deferred[IProtocol]) -> None:
        transport: Any = self.transport
        secured.errback(ConnectingCancelledError(transport.getPeer()))
        transport.abortConnection()


@attrs.define(eq=False)
class _Handshakes(Factory):
    """Puts a `_Handshake` before each protocol of `factory`."""

    factory: IProtocolFactory
    noisy = False

    def buildProtocol(self, addr: IAddress | None) -> _Handshake:
        return _Handshake(cast(IProtocol, self.factory.buildProtocol(cast(IAddress, addr))))


@implementer(IStreamClientEndpoint)
@attrs.frozen
class _Secured:
    """An endpoint for TLS that has connected when the handshake is over; Twisted's has before it
    begins."""

    endpoint: IStreamClientEndpoint
    options: Any
    clock: Any

    def connect(self, factory: IProtocolFactory) -> Deferred[Any]:
        connecting: Deferred[Any] = wrapClientTLS(self.options, self.endpoint, self.clock).connect(
            cast(IProtocolFactory, _Handshakes(factory))
        )
        return connecting.addCallback(lambda handshake: handshake.secured)


class Pool:
    """Connections that idle, the one used last on top.

    It gives out none that is stale: a request on it would fail, or, worse, be answered with what
    was sent before it.
    """

    def __init__(self, deadlines: Deadlines) -> None:
        self._deadlines = deadlines
        self.deadline = NEVER  # of the one that idles longest
        self._idle: dict[Connection, float] = {}  # until when

    def take(self) -> Connection | None:
        while self._idle:
            connection, _ = self._idle.popitem()
            if connection.usable:
                return connection
            connection.abort()
        return None

    def put(self, connection: Connection) -> None:
        """Keep a connection for the next request, for a while."""
        if len(self._idle) == POOLED_CONNECTIONS:
            connection.abort()
            return
        until = self._idle[connection] = self._deadlines.now() + IDLE_CONNECTION
        if self.deadline == NEVER:
            self.deadline = until
            self._deadlines.watch(self)

    def remove(self, connection: Connection) -> None:
        """A connection is gone; it may be none of those that idle."""
        self._idle.pop(connection, None)

    def close(self) -> None:
        for connection in list(self._idle):
            connection.abort()

    def expired(self) -> None:
        now = self._deadlines.now()
        for connection, until in list(self._idle.items()):
            if until > now:
                self.deadline = until
                return
            del self._idle[connection]
            connection.abort()
        self._deadlines.forget(self)


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
        endpoint = _Secured(endpoint, optionsForClientTLS(host), reactor)
    return _Within(endpoint, connect_timeout, reactor)


@implementer(IAgent)
class OriginAgent:
    """An agent for one origin, over one pool: Twisted's parses the URL of each request anew.

    On a `reactor` whose turns are `shorten`ed, a request of a crowded turn waits for its end.
    """

    def __init__(
        self,
        url: str,
        endpoint: IStreamClientEndpoint,
        deadlines: Deadlines,
        reactor: object = None,
    ) -> None:
        self.pool = Pool(deadlines)
        self._reactor = reactor
        self._endpoint = endpoint
        self._factory = Factory.forProtocol(lambda: Connection(self.pool.put, self.pool.remove))
        self._factory.noisy = False  # it would log each connection
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
        message = Message(method, target, self._host, headers or Headers(), bodyProducer)
        turn = turn_of(self._reactor)
        if turn is None or not turn.crowded:
            return self._send(message)
        due: Deferred[None] = Deferred()
        # A request that is cancelled meanwhile has been answered, and is not sent.
        turn.at_end.append(lambda: None if due.called else due.callback(None))
        return due.addCallback(lambda _: self._send(message))

    def _send(self, message: Message) -> Deferred[IResponse]:
        """Write a request now. Only now is a connection looked at and taken: what came on it
        meanwhile would be taken for the answer."""
        connection = self.pool.take()
        if connection is not None:
            return connection.request(message)
        connecting: Deferred[Any] = self._endpoint.connect(self._factory)
        return connecting.addCallback(Connection.request, message)
