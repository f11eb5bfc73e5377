"""The one origin behind the gateway: how to connect to it, its pool, and an agent for it."""

from __future__ import annotations

from typing import Any

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
    ConnectingCancelledError,
    DNSLookupError,
    TimeoutError,  # noqa: A004  # Twisted's: the connect deadline
)
from twisted.internet.interfaces import IProtocol, IProtocolFactory, IStreamClientEndpoint
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.ssl import optionsForClientTLS
from twisted.python.failure import Failure
from twisted.web.client import URI
from twisted.web.http_headers import Headers
from twisted.web.iweb import IAgent, IBodyProducer, IResponse
from zope.interface import implementer

from infergate.backend.connection import Connection, Message
from infergate.reactor.deadlines import NEVER, Deadlines

IDLE_CONNECTION = 2.0
"""Seconds a pooled connection is kept: llama.cpp and uvicorn close theirs after 5, and a POST on
one that was just closed fails and must not be sent again."""

POOLED_CONNECTIONS = 1024


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
        endpoint = wrapClientTLS(optionsForClientTLS(host), endpoint)
    return _Within(endpoint, connect_timeout, reactor)


@implementer(IAgent)
class OriginAgent:
    """An agent for one origin, over one pool: Twisted's parses the URL of each request anew."""

    def __init__(self, url: str, endpoint: IStreamClientEndpoint, deadlines: Deadlines) -> None:
        self.pool = Pool(deadlines)
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
        connection = self.pool.take()
        if connection is not None:
            return connection.request(message)
        connecting: Deferred[Any] = self._endpoint.connect(self._factory)
        return connecting.addCallback(Connection.request, message)
