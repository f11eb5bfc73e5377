"""What is known afterwards, pushed to a collector by OTLP over HTTP, from the reactor itself.

The exporters of OpenTelemetry's SDK send from a thread, under time-outs of their own: the process
could not end before they had passed. Here a push is a request like any other, and is cancelled
when its time is up.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from gzip import compress
from itertools import chain

from twisted.internet.defer import CancelledError, Deferred, DeferredList, succeed
from twisted.internet.interfaces import IConsumer, IDelayedCall, IReactorTime
from twisted.internet.protocol import Protocol
from twisted.internet.task import LoopingCall
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.web.http_headers import Headers
from twisted.web.iweb import IAgent, IBodyProducer, IResponse
from zope.interface import implementer

from infergate import __version__
from infergate.telemetry.slices import in_slices
from infergate.telemetry.tracing import Ended

INTERVAL = 60.0
"""Seconds between two pushes of metrics, OpenTelemetry's own default."""

TIMEOUT = 10.0
"""Seconds that a collector gets for one push, OpenTelemetry's own default."""

LARGE = 1024
"""Bytes from which on a message is compressed, where that was asked for."""

LAST_PUSH = 1.0
"""Seconds for the push at the stop, which the process waits for."""

_log = Logger(namespace="infergate")


class Collector:
    """One endpoint of a collector, for one signal.

    `agent` sends the body of a request at once. `headers` go with each request; their values are
    secrets. A push gets `timeout` seconds.
    """

    def __init__(
        self,
        agent: IAgent,
        clock: IReactorTime,
        url: str,
        headers: Mapping[str, str] | None = None,
        *,
        timeout: float = TIMEOUT,
        gzip: bool = False,
    ) -> None:
        self._timeout = timeout
        self._gzip = gzip
        self._agent = agent
        self._clock = clock
        self._url = url.encode("ascii")
        self._headers = {
            "Content-Type": "application/x-protobuf",
            "User-Agent": f"infergate/{__version__}",
            **(headers or {}),
        }
        self._reached = True

    def push(self, message: bytes, seconds: float | None = None) -> Deferred[bool]:
        """Send a message of protobuf's; fires with whether the collector took it.

        Never fails, and has fired after so many seconds. Cancelled, the request is aborted. The log
        has one line when the collector begins to refuse, and one when it takes something again.
        """
        headers = Headers({name: [value] for name, value in self._headers.items()})
        if self._gzip and len(message) >= LARGE:
            message = compress(message, compresslevel=1)
            headers.setRawHeaders("Content-Encoding", ["gzip"])
        request = self._agent.request(b"POST", self._url, headers, _Body(message))
        request.addTimeout(self._timeout if seconds is None else seconds, self._clock)
        return request.addCallbacks(self._answered, self._failed)

    def _answered(self, response: IResponse) -> bool:
        response.deliverBody(_Unread())
        if response.code == 200:
            return self._say(None)
        return self._say(f"it answered with status {response.code}")

    def _failed(self, failure: Failure) -> bool:
        if failure.check(CancelledError):
            return False
        # The class alone: the text may hold the URL, and the URL a password.
        return self._say(type(failure.value).__name__)

    def _say(self, fault: str | None) -> bool:
        reached = fault is None
        if reached != self._reached:
            self._reached = reached
            if reached:
                _log.info("The OTLP collector takes what is pushed again")
            else:
                _log.warn("The OTLP collector does not take what is pushed: {why}", why=fault)
        return reached


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


@implementer(IBodyProducer)
class _Body:
    """The body of a push, written at once."""

    def __init__(self, body: bytes) -> None:
        self.length = len(body)
        self._body = body

    def startProducing(self, consumer: IConsumer) -> Deferred[None]:
        consumer.write(self._body)
        return succeed(None)

    def pauseProducing(self) -> None:
        """Nothing is left to hold back."""

    resumeProducing = stopProducing = pauseProducing


class _Unread(Protocol):
    """Closes the connection of an answer whose status says enough."""

    def connectionMade(self) -> None:
        assert self.transport is not None
        self.transport.loseConnection()
