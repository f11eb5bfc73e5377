"""When something is pushed to a collector: metrics regularly, spans soon after they ended, and what
is left at the stop.

What a collector does not take is lost: it is the data that a collector which hangs may cost, and
nothing else. A pusher holds a bounded number of exchanges, has one push under way at a time, and
makes what it pushes in slices.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from itertools import chain

from twisted.internet.defer import CancelledError, Deferred, DeferredList, succeed
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.internet.task import LoopingCall
from twisted.logger import Logger
from twisted.python.failure import Failure

from infergate.telemetry.collector import Collector
from infergate.telemetry.slices import in_slices
from infergate.telemetry.tracing import Ended

INTERVAL = 60.0
"""Seconds between two pushes of metrics, OpenTelemetry's own default."""

LAST_PUSH = 1.0
"""Seconds for the push at the stop, which the process waits for."""

_log = Logger(namespace="infergate")


class MetricsPusher:
    """Pushes the metrics to a collector, each `interval` seconds.

    `parts` makes them, one short part after the other, and `message` a body out of those. `start`
    is called once, then `stop` once, which pushes a last time and fires within `LAST_PUSH` seconds,
    whatever the collector does.
    """

    def __init__(
        self,
        collector: Collector,
        clock: IReactorTime,
        parts: Callable[[], Iterator[bytes]],
        message: Callable[[list[bytes]], bytes],
        interval: float = INTERVAL,
    ) -> None:
        self._collector = collector
        self._clock = clock
        self._parts = parts
        self._message = message
        self._interval = interval
        self._pushing: Deferred[bool] = succeed(True)
        self._loop = LoopingCall(self._push)
        self._loop.clock = clock

    def start(self) -> None:
        self._loop.start(self._interval, now=False)

    def stop(self) -> Deferred[None]:
        if self._loop.running:
            self._loop.stop()
        self._pushing.cancel()
        return self._push(LAST_PUSH)

    def _push(self, seconds: float | None = None) -> Deferred[None]:
        self._pushing = push_parts(
            self._parts(), self._collector, self._clock, self._message, seconds
        )
        return self._pushing.addCallback(lambda _: None)


class SpanPusher:
    """Pushes spans to a collector, in batches, so many seconds after the first of each ended.

    `add` is called with each exchange that is recorded; `parts` makes its spans, `message` the body
    of a push. At most `queue` exchanges wait: while the collector hangs, those that end are lost.
    `start` and `stop` are as for `MetricsPusher`.
    """

    def __init__(
        self,
        collector: Collector,
        clock: IReactorTime,
        parts: Callable[[Ended], Iterator[bytes]],
        message: Callable[[list[bytes]], bytes],
        *,
        delay: float = 5.0,
        queue: int = 2048,
        batch: int = 512,
    ) -> None:
        self._collector = collector
        self._clock = clock
        self._parts = parts
        self._message = message
        self._delay = delay
        self._room = queue
        self._batch = batch
        self._waiting: deque[Ended] = deque()
        self._timer: IDelayedCall | None = None
        self._pushing: Deferred[bool] | None = None
        self._stopping = False

    def add(self, ended: Ended) -> None:
        """Have an exchange pushed. The timer begins with the first that waits, so that none waits
        longer than `delay`; a whole batch waits for nothing but the push before it."""
        if len(self._waiting) >= self._room:
            return
        self._waiting.append(ended)
        if self._pushing is not None:
            return
        if len(self._waiting) >= self._batch:
            self._push()
        elif self._timer is None:
            self._timer = self._clock.callLater(self._delay, self._push)

    def start(self) -> None:
        """Nothing is to be done before the first exchange has ended."""

    def stop(self) -> Deferred[None]:
        return Deferred.fromCoroutine(self._stop())

    async def _stop(self) -> None:
        """What is under way has half of the time, what waits the rest."""
        ends = self._clock.seconds() + LAST_PUSH
        self._stopping = True
        if self._pushing is not None:
            over: Deferred[None] = Deferred()
            self._pushing.addCallback(lambda _: over.callback(None))
            patience = self._clock.callLater(LAST_PUSH / 2, self._pushing.cancel)
            await over
            if patience.active():
                patience.cancel()
        await self._push_next(len(self._waiting), ends - self._clock.seconds())

    def _push(self) -> None:
        """Push what waits, batch after batch."""
        self._pushing = self._push_next(self._batch)
        self._pushing.addCallback(self._pushed)

    def _pushed(self, _: bool) -> None:
        self._pushing = None
        if self._stopping:
            return
        if len(self._waiting) >= self._batch:
            self._push()
        elif self._waiting and self._timer is None:
            self._timer = self._clock.callLater(self._delay, self._push)

    def _push_next(self, count: int, seconds: float | None = None) -> Deferred[bool]:
        if self._timer is not None and self._timer.active():
            self._timer.cancel()
        self._timer = None
        if not self._waiting:
            return succeed(True)
        batch = [self._waiting.popleft() for _ in range(min(count, len(self._waiting)))]
        parts = chain.from_iterable(map(self._parts, batch))
        return push_parts(parts, self._collector, self._clock, self._message, seconds)


class Pushers:
    """All that pushes, as one: what is left goes out at the same time, and the process waits for
    the slowest of them, not for each in turn."""

    def __init__(self, pushers: Sequence[MetricsPusher | SpanPusher]) -> None:
        self._pushers = pushers

    def start(self) -> None:
        for pusher in self._pushers:
            pusher.start()

    def stop(self) -> Deferred[None]:
        return DeferredList([pusher.stop() for pusher in self._pushers]).addCallback(lambda _: None)


def push_parts(
    parts: Iterator[bytes],
    collector: Collector,
    clock: IReactorTime,
    message: Callable[[list[bytes]], bytes],
    seconds: float | None,
) -> Deferred[bool]:
    """Make a message of parts, in slices, and push it; empty parts are none. Never fails."""

    def push(made: list[bytes]) -> Deferred[bool]:
        return collector.push(message([part for part in made if part]), seconds)

    def failed(failure: Failure) -> bool:
        if not failure.check(CancelledError):
            _log.failure("What is to be pushed could not be made", failure)
        return False

    return in_slices(parts, clock).addCallback(push).addErrback(failed)
