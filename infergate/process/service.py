"""Start, drain, stop.

A drain is the orderly end of a process: requests that run may end, within a time limit, new ones
are refused, and the port is closed. Its order is that of `GatewayService._stop`.
"""

from __future__ import annotations

import gc
from collections.abc import Awaitable, Callable, Sequence
from typing import Protocol

import attrs
from twisted.application.service import Service
from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.defer import TimeoutError as TooLate  # that of addTimeout
from twisted.internet.interfaces import IListeningPort, IReactorTime
from twisted.internet.task import deferLater
from twisted.logger import ILogObserver, Logger
from twisted.python.components import Componentized

from infergate.backend.agent import Pool
from infergate.process.notify import Notifier
from infergate.server.edge import Edge

LAST_WORDS = 1.0
"""Seconds for what is written to those who are cut at the end of the drain, and to those who came
just before the port was closed."""

GARBAGE = 5_000
"""Objects made and not yet freed after which Python looks for garbage among them. At its default of
700 it looks while the requests of 32 clients are under way, finds nothing, and takes 3 % of the CPU
of short streams for it."""

_log = Logger(namespace="infergate")


class Part(Protocol):
    """What runs beside the ports, such as the push of metrics.

    `GatewayService` calls `start` once, when the ports listen, and `stop` once, when the last
    exchange has ended, and the process waits for its Deferred. Neither may raise or fail: that
    would keep the parts after it from their own start or stop.
    """

    def start(self) -> None: ...
    def stop(self) -> Deferred[None] | None: ...


@attrs.define(eq=False, repr=False, kw_only=True)
class GatewayService(Service):
    """Owns the ports, which listen already, and ends their connections in an orderly way.

    twistd calls `setServiceParent`, then `startService` once the reactor runs, and `stopService`
    when it is to end; the process waits for its Deferred, which never fails.

    On stop new requests are served as ever for `drain_delay` seconds, in which ``/readyz`` says no,
    so that a load balancer looks elsewhere first. Then anything new is refused, what runs gets
    `drain_timeout` seconds and is then told that it is over. The port stays open meanwhile, for
    probes; at the end `let_go` has it take what waits there, to be refused in words, and closes it.
    A `shared` port, which other processes listen on too, is let go of before the drain; then
    nothing new comes, and what is asked on the connections that there are is served.

    What `edge` serves is drained; the listener of the metrics, `metrics_edge`, answers to the end,
    since an operator wants to see a drain. The `parts` are stopped last, in the reverse order of
    their start, so that the ledger and the last push have every exchange in them.
    """

    _clock: IReactorTime
    _edge: Edge
    _metrics_edge: Edge
    _ports: Sequence[IListeningPort]
    _let_go: Callable[[], Awaitable[None]]
    _notifier: Notifier
    _observer: ILogObserver
    _drain_timeout: float
    _drain_delay: float = 0.0
    _shared: bool = False
    _pools: Sequence[Pool] = ()
    _parts: Sequence[Part] = ()
    _greeting: Sequence[str] = ()
    _warnings: Sequence[str] = ()

    def setServiceParent(self, parent: object) -> None:
        """Become part of the application, which from then on logs by `observer`.

        twistd asks the application for its observer only after the service was made, and would else
        write lines of its own form. Called by twistd, with the application.
        """
        if isinstance(parent, Componentized):
            parent.setComponent(ILogObserver, self._observer)
        super().setServiceParent(parent)  # type: ignore[no-untyped-call]

    def startService(self) -> None:
        """Log the greeting and the warnings, and start the parts.

        Called by twistd when the reactor runs; the ports listen already, and clients may be
        waiting.
        """
        super().startService()  # type: ignore[no-untyped-call]
        for line in self._greeting:
            _log.info("{line}", line=line)
        for warning in self._warnings:
            _log.warn("{warning}", warning=warning)
        for part in self._parts:
            part.start()
        # All objects that there are by now stay until the end: modules, settings, routes. A full
        # garbage collection that need not look at them takes a millisecond in place of forty, in
        # which no stream would go on.
        gc.collect()
        gc.freeze()
        gc.set_threshold(GARBAGE)

    def stopService(self) -> Deferred[None]:
        """Begin the drain; the Deferred fires when all is over, and the process ends then.

        Called by twistd when the reactor is to stop: at the first SIGTERM or SIGINT.
        """
        super().stopService()  # type: ignore[no-untyped-call]
        self._notifier.stopping()
        return Deferred.fromCoroutine(self._stop())

    async def _stop(self) -> None:
        """Drain and close, in this order: first what runs, then the ports, then what lives on
        behind them. Called once, by `stopService`."""
        self._edge.leaving = True
        if self._drain_delay:
            await deferLater(self._clock, self._drain_delay)
        if self._shared:
            await self._let_go()
        drained = self._edge.drain(refusing=not self._shared)
        if not await self._in_time(drained, self._drain_timeout):
            _log.warn("The drain timeout has passed; ending what still runs")
            self._edge.stop_requests()
        if not self._shared:
            await self._let_go()
        # For those who have been told now that it is over, and those who were accepted last.
        await self._in_time(self._edge.drain(), LAST_WORDS)
        self._edge.abort()
        self._metrics_edge.abort()
        if self._edge.connections:
            # A connection that was aborted is lost in the next event loop iteration, and has the
            # line of its request in the log then.
            await deferLater(self._clock, 0)
        for port in self._ports:
            await maybeDeferred(port.stopListening)
        for pool in self._pools:
            pool.close()
        for part in reversed(self._parts):
            await maybeDeferred(part.stop)

    async def _in_time(self, event: Deferred[None], seconds: float) -> bool:
        """Wait for `event` no longer than `seconds`, and return whether it fired by then.

        One that is late is cancelled. Raises what `event` fails with; a drain never fails. Called
        by `_stop`.
        """
        try:
            await event.addTimeout(seconds, self._clock)
        except TooLate:
            return False
        return True
