"""When something is pushed to a collector: metrics regularly, spans soon after they ended, and what
is left at the stop.

What a collector does not take is lost: it is the data that a collector which hangs may cost, and
nothing else. A pusher holds a bounded number of exchanges and has one push under way at a time.
Metrics are made in slices when they are pushed, spans some at a time when their exchanges end.

    metrics    each `interval` seconds all of them, as they are by then: what one push lost is in
               the next. A push that takes longer than that puts off the next one
    spans      each `delay` seconds what has ended by then, or at once where a push is full; what
               ends during a push waits for it, up to `queue` exchanges
    the stop   one push more of each, for `LAST_PUSH` seconds; one that is under way is given up for
               metrics, and has half of that time for spans
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence

import attrs
from twisted.internet.defer import CancelledError, Deferred, DeferredList, succeed
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import LoopingCall
from twisted.logger import Logger
from twisted.python.failure import Failure

from infergate.reactor.slices import gathered, in_slices
from infergate.telemetry.batch import Batch
from infergate.telemetry.collector import Collector
from infergate.telemetry.record import Record

INTERVAL = 60.0
"""Seconds between two pushes of metrics, OpenTelemetry's own default."""

LAST_PUSH = 1.0
"""Seconds for the push at the stop, which the process waits for."""

_log = Logger(namespace="infergate")


@attrs.define(eq=False, repr=False)
class MetricsPusher:
    """Pushes the metrics to a collector, each `interval` seconds.

    `parts` makes them, one short part after the other, and `message` a body out of those. `start`
    is called once, then `stop` once, which pushes a last time and fires within `LAST_PUSH` seconds,
    whatever the collector does.
    """

    _collector: Collector
    _clock: IReactorTime
    _parts: Callable[[], Iterator[bytes]]
    _message: Callable[[list[bytes]], bytes]
    _interval: float = INTERVAL
    _pushing: Deferred[bool] = attrs.field(factory=lambda: succeed(True), init=False)
    _loop: LoopingCall = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        """Make the timer, which `start` starts."""
        self._loop = LoopingCall(self._push)
        self._loop.clock = self._clock

    def start(self) -> None:
        """Begin to push, the first time after one interval. Called by the service when the ports
        listen."""
        self._loop.start(self._interval, now=False)

    def stop(self) -> Deferred[None]:
        """Push what has come since the last time; fires, and never fails, when that is over. The
        collector has `LAST_PUSH` seconds. A push that is under way is given up: what it says is
        said again by the last one."""
        if self._loop.running:
            self._loop.stop()
        self._pushing.cancel()
        return self._push(LAST_PUSH)

    def _push(self, seconds: float | None = None) -> Deferred[None]:
        """Push all metrics as they are now; fires, and never fails, when that is over.

        Called by the timer, which waits for it, and by `stop`. `seconds` are as for
        `Collector.push`. Where the metrics could not be made, that is logged; to be cancelled,
        which stops the making or aborts the request, needs no line.
        """

        def push(made: list[bytes]) -> Deferred[bool]:
            """Push what was made; empty parts are none."""
            return self._collector.push(self._message([part for part in made if part]), seconds)

        def failed(failure: Failure) -> bool:
            """Return False, as for a push that the collector has not taken."""
            if not failure.check(CancelledError):
                _log.failure("What is to be pushed could not be made", failure)
            return False

        making = in_slices(gathered(self._parts()), self._clock)
        self._pushing = making.addCallback(push).addErrback(failed)
        return self._pushing.addCallback(lambda _: None)


@attrs.define(eq=False, repr=False)
class SpanPusher:
    """Pushes spans to a collector, each `delay` seconds, and whenever `most` exchanges wait.

    Those that have ended come out of `batch`. `spans` makes the spans of some of them, `message`
    the body of a push, which is of `most` exchanges at most, but for the last one. At most `queue`
    exchanges wait: while the collector hangs, those that end are lost, and cost nothing. `start`
    and `stop` are as for `MetricsPusher`.
    """

    _batch: Batch
    _collector: Collector
    _clock: IReactorTime
    _spans: Callable[[Sequence[Record]], bytes]
    _message: Callable[[list[bytes]], bytes]
    _delay: float = attrs.field(default=5.0, kw_only=True)
    _queue: int = attrs.field(default=2048, kw_only=True)
    _most: int = attrs.field(default=512, kw_only=True)
    _waiting: deque[tuple[int, bytes]] = attrs.field(factory=deque, init=False)
    _count: int = attrs.field(default=0, init=False)
    _pushing: Deferred[bool] | None = attrs.field(default=None, init=False)
    _loop: LoopingCall = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        """Make the timer, which `start` starts, and be told of what ends."""
        self._loop = LoopingCall(self._tick)
        self._loop.clock = self._clock
        self._batch.tell(self._ended)

    def start(self) -> None:
        """Begin to push. Called by the service when the ports listen."""
        self._loop.start(self._delay, now=False)

    def stop(self) -> Deferred[None]:
        """Push what waits; fires, and never fails, when that is over. The collector has `LAST_PUSH`
        seconds in all."""
        return Deferred.fromCoroutine(self._stop())

    async def _stop(self) -> None:
        """Give what is under way half of the time, and what waits the rest. Called by `stop`."""
        ends = self._clock.seconds() + LAST_PUSH
        if self._loop.running:
            self._loop.stop()
        if self._pushing is not None:
            over: Deferred[None] = Deferred()
            self._pushing.addCallback(lambda _: over.callback(None))
            patience = self._clock.callLater(LAST_PUSH / 2, self._pushing.cancel)
            await over
            if patience.active():
                patience.cancel()
        await self._push_next(self._queue, ends - self._clock.seconds())

    def _ended(self, records: Sequence[Record]) -> None:
        """Make the spans of those exchanges that are recorded, as far as there is room in the
        queue. Called by the batch."""
        recorded = [record for record in records if record.sampled]
        for start in range(0, len(recorded), self._most):
            some = recorded[start : start + self._most][: self._queue - self._count]
            if some:
                self._waiting.append((len(some), self._spans(some)))
                self._count += len(some)
            if self._count >= self._most:
                self._push()

    def _tick(self) -> None:
        """Push what has ended by now. Called by the timer."""
        self._batch.settle()
        self._push()

    def _push(self) -> None:
        """Push what has waited longest, unless a push is under way. Called by the timer, and where
        enough exchanges wait."""
        if self._pushing is None and self._loop.running:
            self._pushing = self._push_next(self._most)
            self._pushing.addCallback(self._pushed)

    def _pushed(self, _: bool) -> None:
        """Go on with what has ended meanwhile: a push has ended, well or not. Called when one of
        `_push` is over."""
        self._pushing = None
        if self._count >= self._most:
            self._push()

    def _push_next(self, most: int, seconds: float | None = None) -> Deferred[bool]:
        """Push the spans of up to `most` exchanges, those that have waited longest.

        Fires with whether the collector took them, at once where nothing waits. Never fails.
        `seconds` are as for `Collector.push`. Called by `_push` and `_stop`.
        """
        taken, left = [], most
        while self._waiting and self._waiting[0][0] <= left:
            count, made = self._waiting.popleft()
            taken.append(made)
            left -= count
        self._count -= most - left
        if not taken:
            return succeed(True)
        return self._collector.push(self._message(taken), seconds)


@attrs.frozen
class Pushers:
    """All that pushes, as one: what is left goes out at the same time, and the process waits for
    the slowest of them, not for each in turn."""

    _pushers: Sequence[MetricsPusher | SpanPusher]

    def start(self) -> None:
        """Start all of them. Called by the service when the ports listen."""
        for pusher in self._pushers:
            pusher.start()

    def stop(self) -> Deferred[None]:
        """Have all of them push a last time; fires, and never fails, when the slowest is done."""
        return DeferredList([pusher.stop() for pusher in self._pushers]).addCallback(lambda _: None)
