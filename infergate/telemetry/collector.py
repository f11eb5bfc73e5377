"""One endpoint of an OTLP collector, to which messages are posted from the reactor itself.

The exporters of OpenTelemetry's SDK send from a thread, under time-outs of their own: the process
could not end before they had passed. Here a push is a request like any other, by the client that
the backend's requests go through, and is cancelled when its time is up.
"""

from __future__ import annotations

from collections.abc import Mapping
from gzip import compress

import attrs
from twisted.internet.defer import CancelledError, Deferred, succeed
from twisted.internet.interfaces import IConsumer, IReactorTime
from twisted.internet.protocol import Protocol
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.web.http_headers import Headers
from twisted.web.iweb import IAgent, IBodyProducer, IResponse
from zope.interface import implementer

from infergate import __version__

TIMEOUT = 10.0
"""Seconds that a collector gets for one push, OpenTelemetry's own default."""

LARGE = 1024
"""Bytes from which on a message is compressed, where that was asked for. Smaller ones hardly get
any smaller."""

_OURS = {"Content-Type": "application/x-protobuf", "User-Agent": f"infergate/{__version__}"}

_log = Logger(namespace="infergate")


@attrs.define(eq=False, repr=False)
class Collector:
    """One endpoint of a collector, for one signal.

    `agent` sends the body of a request at once. `headers` go with each request; their values are
    secrets. A push gets `timeout` seconds.
    """

    _agent: IAgent
    _clock: IReactorTime
    _url: str
    _headers: Mapping[str, str] = attrs.field(factory=dict)
    _timeout: float = attrs.field(default=TIMEOUT, kw_only=True)
    _gzip: bool = attrs.field(default=False, kw_only=True)
    _reached: bool = attrs.field(default=True, init=False)

    def push(self, message: bytes, seconds: float | None = None) -> Deferred[bool]:
        """Send a serialized message of protobuf's; fires with whether the collector took it (status
        200).

        Called by a pusher. Never fails, and has fired after `seconds`, or the collector's
        `timeout` where that is None. Cancelled, the request is aborted, and it fires with False.
        The log has one line when the collector begins to refuse, and one when it takes something
        again.
        """
        headers = Headers({name: [value] for name, value in {**_OURS, **self._headers}.items()})
        if self._gzip and len(message) >= LARGE:
            message = compress(message, compresslevel=1)
            headers.setRawHeaders("Content-Encoding", ["gzip"])
        request = self._agent.request(b"POST", self._url.encode("ascii"), headers, _Body(message))
        request.addTimeout(self._timeout if seconds is None else seconds, self._clock)
        return request.addCallbacks(self._answered, self._failed)

    def _answered(self, response: IResponse) -> bool:
        """Return whether an answer's status is 200; its body is not read. A callback of `push`."""
        response.deliverBody(_Unread())
        if response.code == 200:
            return self._say(None)
        return self._say(f"it answered with status {response.code}")

    def _failed(self, failure: Failure) -> bool:
        """Return False for a request that was cancelled, failed or took too long; the last two are
        logged by `_say`. An errback of `push`."""
        if failure.check(CancelledError):
            return False
        # The class alone: the text may hold the URL, and the URL a password.
        return self._say(type(failure.value).__name__)

    def _say(self, fault: str | None) -> bool:
        """Return whether the collector takes what is pushed: `fault` is None where it does, else
        the reason.

        Logs one line where it begins to refuse, and one where it no longer does. Called by both
        callbacks of `push`.
        """
        reached = fault is None
        if reached != self._reached:
            self._reached = reached
            if reached:
                _log.info("The OTLP collector takes what is pushed again")
            else:
                _log.warn("The OTLP collector does not take what is pushed: {why}", why=fault)
        return reached


@implementer(IBodyProducer)
@attrs.frozen
class _Body:
    """The body of a push, written at once."""

    _body: bytes

    @property
    def length(self) -> int:
        return len(self._body)

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
