"""All client connections of one listener: their limits, whose turn it is, and how they end.

An exchange is a request and its answer, and its `Record` all that is known of it afterwards. A
drain is the end of a process in good order: what runs may end, and nothing new begins. A turn is
the serving of one request out of several that a client has pipelined.
"""

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
    """The factory of the connections in front of one resource, and the owner of what they share.

    `tap` listens with it, and Twisted calls `buildProtocol` for each client. `began` and `ended`
    are called with the record of each exchange, once each; in place of `ended` `forgotten`, where
    it turns out to be none that is accounted for. At the end the service calls `drain`, then
    `stop_requests` when it has waited long enough, then `abort`; `end` does it all at once.

    None of its methods raises anything of its own.
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
        """Make the factory of the connections of one port, in front of `resource`, a `Routes`.
        Called by `compose`, once for each port. `trusted_proxies`, `error_format` and `origins` are
        as the settings TRUSTED_PROXIES, ERROR_FORMAT and CORS_ORIGINS say; of the callbacks the
        class's docstring tells."""
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
        """Return the protocol of a new client connection; Twisted connects it."""
        return Connection(self)

    def startFactory(self) -> None:
        """Do nothing: `Site` would open an access log and tick each second for its date."""

    def stopFactory(self) -> None:
        """Do nothing; see `startFactory`."""

    def log(self, request: object) -> None:
        """Do nothing, where `Site` would write a line for a request that has finished: `ended` sees
        also what never finished."""

    # To the connections.

    def opened(self, connection: Connection) -> None:
        """Count a connection in, and give it a place if there is one. Called by
        `Connection.connectionMade`."""
        self.connections.add(connection)
        self.places.opened(connection)

    def closed(self, connection: Connection) -> None:
        """Count a connection out. Called by `Connection.connectionLost`; the last one that a drain
        waits for ends the drain."""
        self.connections.discard(connection)
        self._awaited.discard(connection)
        self.places.closed(connection)
        self._check_emptied()

    def conclude(self, record: Record, at: float) -> None:
        """Close the record of an exchange that ended at `at`, in seconds on the reactor's clock,
        and hand it to `ended`. Called by the connection or the request, whichever knows the end
        first: where the record was closed before, nothing happens."""
        if record.close(at):
            self.ended(record)

    def forget(self, record: Record, at: float) -> None:
        """Close a record that neither the log nor a metric is to know, and hand it to `forgotten`.
        Called by `Request.watch`, for an event stream about the gateway itself."""
        if record.close(at):
            self.forgotten(record)

    def queue(self, connection: Connection) -> None:
        """Let `connection`, on which more requests have arrived, serve its next one in its turn, by
        its `take_turn`.

        Each event loop iteration serves `SHARE` requests, one of each connection that waits, and
        again: then the sockets are looked at, so that nobody waits for what others have pipelined.
        Called by a connection when its answer is over.
        """
        self._queue.append(connection)
        if not self._serving:
            self._serving = True
            self.deadlines.soon(self._serve_queue)

    def _serve_queue(self) -> None:
        """Let `SHARE` of those that wait have their turn; the rest follows in the next iteration.

        Called by the reactor while somebody waits. Also where a turn raises, which the reactor
        logs, the others keep theirs.
        """
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
        """Close what is idle and let the running requests end; the Deferred fires with None when
        none is left, and never fails. Called by the service, twice: once for the drain, and, when
        that has ended, for what came meanwhile.

        The port may stay open meanwhile, for probes: whoever comes after this call does not count.
        Where it is closed already (`refusing` is false), nobody comes any more, and nothing need be
        refused: each connection closes with its next answer.
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
        """End every running exchange, and tell its client that the gateway is shutting down: by a
        503 or a 502, or by breaking off an answer that has begun. Called by the service when
        `DRAIN_TIMEOUT` has passed, and by `end`."""
        for connection in list(self.connections):
            connection.shut_down()

    def abort(self) -> None:
        """Reset every connection that is left; each is lost in the next event loop iteration.
        Called by the service last of all."""
        for connection in list(self.connections):
            connection.abort()

    def end(self) -> None:
        """End everything within this call: every exchange has its line before the process goes.
        Called at a second SIGTERM or SIGINT, after which there is no event loop iteration in which
        a connection could be lost."""
        self.stop_requests()
        for connection in list(self.connections):
            connection.connectionLost(Failure(ConnectionAborted()))

    def _check_emptied(self) -> None:
        """Fire the Deferred of `drain` where none of the connections that it waits for is busy.
        Called by `drain`, and whenever a connection is closed."""
        if self._emptied is not None and not any(c.busy for c in self._awaited):
            emptied, self._emptied = self._emptied, None
            emptied.callback(None)
