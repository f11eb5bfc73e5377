"""All client connections of one listener: their limits, whose turn it is, and how they end."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionAborted
from twisted.internet.interfaces import IAddress
from twisted.python.failure import Failure
from twisted.web.resource import IResource
from twisted.web.server import Site

from infergate.reactor.deadlines import Deadlines
from infergate.server.addresses import Networks
from infergate.server.connection import Connection, EdgeLimits
from infergate.server.origins import NO_ORIGINS, Origins
from infergate.server.places import Places
from infergate.telemetry.record import Record

SHARE = 8
"""Requests that are served in one event loop iteration out of what all clients have pipelined: some
three milliseconds' worth."""


class Edge(Site):
    """The factory of the connections in front of one resource.

    `tap` listens with it, and Twisted calls `buildProtocol` for each client. `began` and `ended`
    are called with the record of each exchange, once each; in place of `ended` `forgotten`, where
    it turns out to be none that is accounted for. At the end the service calls `drain`,
    then `stop_requests` when it has waited long enough, then `abort`; `end` does it all at once.
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
        forgotten: Callable[[Record], None] = lambda record: None,
        trusted_proxies: Networks = (),
        error_format: str = "code",
        origins: Origins = NO_ORIGINS,
    ) -> None:
        super().__init__(resource)  # type: ignore[no-untyped-call]
        self.limits = limits
        self.max_body = limits.framing.body
        self.deadlines = deadlines
        self.began = began
        self.ended = ended
        self.forgotten = forgotten
        self.trusted_proxies = trusted_proxies
        self.error_format = error_format
        self.origins = origins
        self.connections: set[Connection] = set()
        self.places = Places(limits.connections, deadlines.soon)
        self.draining = self.refusing = False
        """A drain has begun, and whether what is new is refused in it."""
        self.leaving = False
        """A drain will follow. Requests are served as ever, and probes of readiness say no."""
        self._emptied: Deferred[None] | None = None
        self._awaited: set[Connection] = set()
        self._queue: deque[Connection] = deque()
        self._serving = False

    # To Twisted.

    def acceptableProtocols(self) -> list[bytes]:
        """HTTP/1.1 alone: over TLS, `Site` would offer HTTP/2 where `h2` is installed."""
        return [b"http/1.1"]

    def buildProtocol(self, addr: IAddress | None) -> Connection:  # type: ignore[override]
        return Connection(self)

    def startFactory(self) -> None:
        """`Site` would open an access log and tick each second for its date."""

    def stopFactory(self) -> None:
        """See `startFactory`."""

    def log(self, request: object) -> None:
        """Not here: `ended` sees also what never finished."""

    # To the connections.

    def opened(self, connection: Connection) -> None:
        """Count a connection in, by `connectionMade`."""
        self.connections.add(connection)
        self.places.opened(connection)

    def closed(self, connection: Connection) -> None:
        """Count a connection out, by `connectionLost`."""
        self.connections.discard(connection)
        self._awaited.discard(connection)
        self.places.closed(connection)
        self._check_emptied()

    def conclude(self, record: Record, at: float) -> None:
        """Close the record of an exchange that ended at `at`; once is enough."""
        if record.close(at):
            self.ended(record)

    def forget(self, record: Record, at: float) -> None:
        """Close a record that neither the log nor a metric is to know."""
        if record.close(at):
            self.forgotten(record)

    def queue(self, connection: Connection) -> None:
        """Let `connection`, on which more requests have arrived, serve its next one in its turn.

        Each event loop iteration serves `SHARE` requests, one of each connection that waits, and
        again: then the sockets are looked at, so that nobody waits for what others have pipelined.
        """
        self._queue.append(connection)
        if not self._serving:
            self._serving = True
            self.deadlines.soon(self._serve_queue)

    def _serve_queue(self) -> None:
        """Let `SHARE` of those that wait have their turn; the rest follows in the next
        iteration."""
        try:
            for _ in range(SHARE):
                if self._queue:
                    self._queue.popleft().take_turn()
        finally:
            self._serving = bool(self._queue)
            if self._serving:
                self.deadlines.soon(self._serve_queue)

    # To the service.

    def drain(self, *, refusing: bool = True) -> Deferred[None]:
        """Close what is idle, let the running requests end; fires when none is left.

        The port may stay open meanwhile, for probes: whoever comes after this call does not count.
        Where it is closed already, nobody comes any more, and nothing need be refused: each
        connection closes with its next answer.
        """
        self.leaving = self.draining = True
        self.refusing = refusing
        for connection in list(self.connections):
            connection.close_idle()
        self._awaited = set(self.connections)
        self._emptied = Deferred()
        emptied = self._emptied
        self._check_emptied()
        return emptied

    def stop_requests(self) -> None:
        """End every running exchange, and tell its client that the gateway is shutting down."""
        for connection in list(self.connections):
            connection.shut_down()

    def abort(self) -> None:
        """Reset every connection that is left."""
        for connection in list(self.connections):
            connection.abort()

    def end(self) -> None:
        """End everything within this call: every exchange has its line before the process goes."""
        self.stop_requests()
        for connection in list(self.connections):
            connection.connectionLost(Failure(ConnectionAborted()))

    def _check_emptied(self) -> None:
        if self._emptied is not None and not any(c.busy for c in self._awaited):
            emptied, self._emptied = self._emptied, None
            emptied.callback(None)
