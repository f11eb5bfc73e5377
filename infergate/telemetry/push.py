"""What is known afterwards, pushed to a collector by OTLP over HTTP, from the reactor itself.

The exporters of OpenTelemetry's SDK send from a thread, under time-outs of their own: the process
could not end before they had passed. Here a push is a request like any other, and is cancelled
when its time is up.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from twisted.internet.defer import CancelledError, Deferred, succeed
from twisted.internet.interfaces import IConsumer, IReactorTime
from twisted.internet.protocol import Protocol
from twisted.internet.task import LoopingCall
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.web.http_headers import Headers
from twisted.web.iweb import IAgent, IBodyProducer, IResponse
from zope.interface import implementer

from infergate import __version__

INTERVAL = 60.0
"""Seconds between two pushes of metrics, OpenTelemetry's own default."""

TIMEOUT = 10.0
"""Seconds that a collector gets for one push, OpenTelemetry's own default."""

LAST_PUSH = 1.0
"""Seconds for the push at the stop, which the process waits for."""

_log = Logger(namespace="infergate")


class Collector:
    """One endpoint of a collector, for one signal.

    `agent` sends the body of a request at once. `headers` go with each request; their values are
    secrets.
    """

    def __init__(
        self, agent: IAgent, clock: IReactorTime, url: str, headers: Mapping[str, str] | None = None
    ) -> None:
        self._agent = agent
        self._clock = clock
        self._url = url.encode("ascii")
        self._headers = {
            "Content-Type": "application/x-protobuf",
            "User-Agent": f"infergate/{__version__}",
            **(headers or {}),
        }
        self._reached = True

    def push(self, message: bytes, seconds: float) -> Deferred[bool]:
        """Send a message of protobuf's; fires with whether the collector took it.

        Never fails, and has fired after so many seconds. Cancelled, the request is aborted. The log
        has one line when the collector begins to refuse, and one when it takes something again.
        """
        headers = Headers({name: [value] for name, value in self._headers.items()})
        request = self._agent.request(b"POST", self._url, headers, _Body(message))
        request.addTimeout(seconds, self._clock)
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


class Pusher:
    """Pushes what `message` makes to a collector, each `interval` seconds.

    `start` is called once, then `stop` once, which pushes a last time and fires within
    `LAST_PUSH` seconds, whatever the collector does.
    """

    def __init__(
        self,
        collector: Collector,
        clock: IReactorTime,
        message: Callable[[], bytes],
        interval: float = INTERVAL,
    ) -> None:
        self._collector = collector
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

    def _push(self, seconds: float = TIMEOUT) -> Deferred[None]:
        self._pushing = self._collector.push(self._message(), seconds)
        return self._pushing.addCallback(lambda _: None)


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
