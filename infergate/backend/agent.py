"""The one origin behind the gateway: a pool of connections to it, and an agent over that.

An origin is scheme, host and port of a URL; an agent is what Twisted calls an object whose
`request` sends a request and fires with its response (`IAgent`). The idle connections of keep-alive
are the pool's, which closes each after `IDLE_CONNECTION` seconds.
"""

from __future__ import annotations

from collections import OrderedDict
from functools import partial
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IStreamClientEndpoint
from twisted.internet.protocol import Factory
from twisted.web.client import URI
from twisted.web.http_headers import Headers
from twisted.web.iweb import IAgent, IBodyProducer
from zope.interface import implementer

from infergate.backend.connection import Connection, Message
from infergate.reactor.deadlines import NEVER, Deadlines
from infergate.reactor.epoll import iteration_of

IDLE_CONNECTION = 2.0
"""Seconds a pooled connection is kept: llama.cpp and uvicorn close theirs after 5, and a POST on
one that was just closed fails and must not be sent again."""

POOLED_CONNECTIONS = 1024
"""Idle connections that are kept at the most; one more is closed."""

SETTLING = 0.25
"""Seconds that a connection must have stayed open after a body of no declared length, as a stream
has, before it is given out again. llama.cpp closes it at once without having said so, and a request
that was sent on it meanwhile would be lost. Others keep it open, and with short streams to open a
new one for each is half of what a stream costs."""

TRUSTED = 100
"""Connections that must have stayed open for `SETTLING`, one after the other, before the next ones
are given out at once: the backend is one that keeps them. That ends where it closes any, and where
none has idled for so long that another backend may stand there by now, and no close would tell."""


class Pool:
    """Idle connections to one origin, the one used last on top.

    The agent calls `take` when it has a request to write; a connection calls `put` when its
    exchange is over and it may be used again, and `remove` when it is gone. `close` closes all.
    """

    def __init__(self, deadlines: Deadlines) -> None:
        """Make an empty pool, watched by `deadlines` only while it holds a connection."""
        self._deadlines = deadlines
        # The time until which the connection that has idled longest is kept.
        self.deadline = NEVER
        # Connections that may be given out, each with the time until which it is kept.
        self._idle: dict[Connection, float] = {}
        # Connections that may be about to close, in order of the time at which they are `_idle`.
        self._settling: OrderedDict[Connection, float] = OrderedDict()
        # How many have stayed open since the last that did not.
        self._stayed = 0
        self._last_put = -IDLE_CONNECTION

    def take(self) -> Connection | None:
        """Take out a connection to write a request to now, and return it; None where a new one is
        needed. Called by `OriginAgent` when it has a request to write.

        One on which something has come since its last response is dropped: that would be taken for
        the next response, or is the end of the connection.
        """
        if self._settling:
            self._settle()
        while self._idle:
            connection, _ = self._idle.popitem()
            if connection.usable:
                return connection
            self._stayed = 0
            connection.abort()
        return None

    def put(self, connection: Connection) -> None:
        """Keep an idle connection for `IDLE_CONNECTION`, to be given out again at once, or where it
        may be about to close after `SETTLING`, but for a backend that is `TRUSTED`.

        The connection calls this when its exchange is over. Where the pool is full it is closed
        instead.
        """
        if len(self._idle) + len(self._settling) == POOLED_CONNECTIONS:
            connection.abort()
            return
        now = self._deadlines.now()
        if now - self._last_put >= IDLE_CONNECTION:
            self._stayed = 0
        self._last_put = now
        if connection.may_close and self._stayed < TRUSTED:
            self._settling[connection] = now + SETTLING
        else:
            self._idle[connection] = now + IDLE_CONNECTION
        if self.deadline == NEVER:
            self.deadline = now + IDLE_CONNECTION
            self._deadlines.watch(self)

    def remove(self, connection: Connection) -> None:
        """Forget a connection that is gone, whether it was idle or not; called by each connection
        once. One that was not closed here was closed by the backend."""
        if not connection.aborted:
            self._stayed = 0
        self._idle.pop(connection, None)
        self._settling.pop(connection, None)

    def close(self) -> None:
        """Close every idle connection. Called once, at the end of the process; those with an
        exchange on them are not the pool's."""
        for connection in (*self._idle, *self._settling):
            connection.abort()

    def expired(self) -> None:
        """Close the connections that have idled too long; the sweep of deadlines calls this.

        The next deadline is that of the connection that has idled longest; there is none once the
        pool is empty.
        """
        self._settle()
        now = self._deadlines.now()
        for connection in [one for one, until in self._idle.items() if until <= now]:
            del self._idle[connection]
            connection.abort()
        if self._idle or self._settling:
            self.deadline = min(self._idle.values(), default=now + IDLE_CONNECTION - SETTLING)
        else:
            self._deadlines.forget(self)

    def _settle(self) -> None:
        """Let those be given out that have stayed open for `SETTLING`: move them to the idle ones,
        for as long as they would be kept had they been there all along. For `take` and `expired`.
        """
        now = self._deadlines.now()
        while self._settling:
            connection, settled = next(iter(self._settling.items()))
            if settled > now:
                return
            del self._settling[connection]
            self._stayed += 1
            self._idle[connection] = settled - SETTLING + IDLE_CONNECTION


@implementer(IAgent)
class OriginAgent:
    """An agent for the origin of `url`, over one pool; Twisted's own parses each request's URL and
    makes an endpoint for it.

    `endpoint` is how to connect, `OriginClient` calls `request`. Where `reactor` was given to
    `reactor.epoll.shorten`, a request that is made in a crowded event loop iteration is written at
    the end of that iteration, with the others of its kind.
    """

    def __init__(
        self,
        url: str,
        endpoint: IStreamClientEndpoint,
        deadlines: Deadlines,
        reactor: object = None,
    ) -> None:
        """Make an agent with an empty pool; nothing is connected before the first request."""
        self.pool = Pool(deadlines)
        self._endpoint = endpoint
        self._iteration = iteration_of(reactor)
        self._factory = Factory.forProtocol(lambda: Connection(self.pool.put, self.pool.remove))
        # Else Twisted would log each connection.
        self._factory.noisy = False
        uri = URI.fromBytes(url.encode("ascii"))
        self._host = uri.netloc
        self._origin = b"%b://%b" % (uri.scheme, uri.netloc)

    def request(
        self,
        method: bytes,
        uri: bytes,
        headers: Headers | None = None,
        bodyProducer: IBodyProducer | None = None,
    ) -> Deferred[Any]:
        """Send a request for an absolute `uri` of the origin, which must be ASCII and good.

        Fires with the `Response` once its head is here, its body still to come. Fails with the
        errors of the endpoint where nothing was sent, and with those of `Connection.request`.
        Cancelling before the request is written keeps it from the backend, and later closes its
        connection.
        """
        target = uri.removeprefix(self._origin)
        message = Message(method, target, self._host, headers or Headers(), bodyProducer)
        iteration = self._iteration
        if iteration is not None and iteration.crowded:
            iteration.at_end.append(partial(self._write, message))
        else:
            self._write(message)
        return message.answered

    def _write(self, message: Message) -> None:
        """Write a request to an idle connection or a new one, unless it was cancelled meanwhile.
        The connection is chosen in the same instant, so that nothing can come on it between the
        look and the request. For `request`."""
        if message.answered.called:
            return
        connection = self.pool.take()
        if connection is not None:
            connection.request(message)
        else:
            connecting: Deferred[Any] = self._endpoint.connect(self._factory)
            message.give_up = connecting.cancel
            connecting.addCallback(Connection.request, message).addErrback(message.fail)
