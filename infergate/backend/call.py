"""One exchange with the backend: four deadlines, and a name for each failure."""

from __future__ import annotations

from collections.abc import Callable
from io import BytesIO
from typing import cast

import attrs
from treq.content import collect
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.error import (
    ConnectError,
    DNSLookupError,
    TCPTimedOutError,
    TimeoutError,  # noqa: A004  # Twisted's: the connect deadline
)
from twisted.internet.interfaces import IPushProducer
from twisted.internet.protocol import Protocol
from twisted.python.failure import Failure
from twisted.web.client import (
    ResponseFailed,
    ResponseNeverReceived,
)
from twisted.web.iweb import UNKNOWN_LENGTH, IResponse
from zope.interface import implementer

from infergate.backend.agent import discard
from infergate.errors import BackendError, BackendUnavailable, GatewayTimeout, release
from infergate.reactor.deadlines import NEVER, Deadlines
from infergate.telemetry.record import Record

END_OF_BODY = 1.0
"""Seconds the backend gets, after the last event, to end its body as it should. The client does not
wait for it."""

_SENT = (ResponseNeverReceived, ResponseFailed)
"""What fails once a byte of the request may be out; all else fails before."""


@attrs.frozen
class Timeouts:
    """Seconds: to connect, until the response's head, between two pieces of its body, for all."""

    connect: float = 5
    response: float = 60
    idle: float = 60
    total: float = 600


@implementer(IPushProducer)
class Call:
    """One exchange with the backend under its deadlines.

    The push producer of the client's connection: while the client holds the stream up, the
    backend is paused and its idle deadline stands still. To `collect` it is the response.
    """

    def __init__(self, deadlines: Deadlines, timeouts: Timeouts, record: Record) -> None:
        self._deadlines = deadlines
        self._now = deadlines.now
        self._timeouts = timeouts
        self._record = record
        self._ends = record.opened + timeouts.total
        self.deadline = NEVER
        self._attempt: Deferred[IResponse] | None = None
        self._response: IResponse | None = None
        self._body: Protocol | None = None
        self._done: Deferred[None] | None = None
        self._heard = float("-inf")
        self._paused = False
        self._timed_out = False

    @property
    def framed(self) -> bool:
        """Whether the body says where it ends. One that does not ends where the connection does,
        be it whole or not, and `collect` takes that for the right end."""
        response = self._response
        assert response is not None
        return response.length is not UNKNOWN_LENGTH or response.headers.hasHeader(
            b"Transfer-Encoding"
        )

    async def head(self, attempt: Callable[[], Deferred[IResponse]]) -> IResponse:
        """The response to one attempt, once its head is here."""
        if self._record.backend_began is None:
            self._record.backend_began = self._now()
            self._expect(self._timeouts.response)
        self._deadlines.watch(self)
        self._attempt = attempt()
        try:
            self._response = await self._unless_cancelled(self._attempt)
        except Exception as error:
            self.close()
            release(error)  # a next attempt may last long
            if self._timed_out:
                raise GatewayTimeout(prompt_sent=isinstance(error, _SENT)) from error
            if _named(error) is error:
                raise
            raise _named(error) from error
        finally:
            self._attempt = None
        return self._response

    def _unless_cancelled(self, attempt: Deferred[IResponse]) -> Deferred[IResponse]:
        """The outcome of `attempt`; cancelling is one too, whatever the attempt calls it: a name
        lookup, for one, says that it has failed, and the request would be tried again."""

        def cancel(outcome: Deferred[IResponse]) -> None:
            outcome.errback(CancelledError())
            attempt.cancel()

        def failed(failure: Failure) -> None:
            if not outcome.called:
                outcome.errback(failure)

        outcome: Deferred[IResponse] = Deferred(cancel)
        attempt.addCallbacks(outcome.callback, failed)
        return outcome

    async def read(self, collector: Callable[[bytes], None]) -> None:
        """Hand each piece of the body to `collector` as it comes; an exception of its own ends
        the exchange and is raised here."""
        self._expect(self._timeouts.idle)
        self._done = Deferred(lambda _: self._abort())
        collect(cast(IResponse, self), collector).addBoth(self._ended)
        try:
            await self._done
        finally:
            self._done = None  # the two hold one another
            if self._record.backend_ended is None:
                self._record.backend_ended = self._now()

    async def read_all(self, limit: int) -> bytes:
        """The whole body, `limit` bytes at the most; `BackendError` above."""
        assert self._response is not None
        body = BytesIO()  # which gives what it holds without a copy

        def keep(piece: bytes) -> None:
            body.write(piece)
            if body.tell() > limit:
                raise BackendError("The backend's answer is too large.")
            self.touch()

        # An unknown length is not an int.
        if isinstance(self._response.length, int) and self._response.length > limit:
            self.discard()
            raise BackendError("The backend's answer is too large.")
        await self.read(keep)
        return body.getvalue()

    def touch(self) -> None:
        """A piece has come: the idle deadline starts anew. It learns of that when it passes, so
        that a piece costs no more than this."""
        self._heard = self._now()

    def finish(self) -> None:
        """All that matters has come: `read` ends now, the body in its own time."""
        if self._done is not None and not self._done.called:
            if self._paused:
                self.resumeProducing()
            self._ends = self._now() + END_OF_BODY
            self.deadline = self._ends
            self._done.callback(None)

    def discard(self) -> None:
        """Close an answer whose body is not wanted."""
        self.close()
        if self._response is not None:
            discard(self._response)

    def close(self) -> None:
        self._deadlines.forget(self)

    # To `collect`: the response.

    @property
    def length(self) -> object:
        assert self._response is not None
        return self._response.length

    def deliverBody(self, protocol: Protocol) -> None:
        assert self._response is not None
        self._body = protocol
        self._response.deliverBody(protocol)
        if self._paused:
            self.pauseProducing()

    # To the client's connection: the producer.

    def pauseProducing(self) -> None:
        self._paused = True
        self.deadline = self._ends
        if self._body is not None and self._body.transport is not None:
            cast(IPushProducer, self._body.transport).pauseProducing()

    def resumeProducing(self) -> None:
        self._paused = False
        self._expect(self._timeouts.idle)
        if self._body is not None and self._body.transport is not None:
            cast(IPushProducer, self._body.transport).resumeProducing()

    def stopProducing(self) -> None:
        self._abort()

    # Inside.

    def _expect(self, seconds: float) -> None:
        self.deadline = min(self._now() + seconds, self._ends)

    def expired(self) -> None:
        due = min(self._heard + self._timeouts.idle, self._ends)
        if due > self._now() and not self._paused:
            self.deadline = due
            return
        self._timed_out = True
        if self._attempt is not None:
            self._attempt.cancel()
            return
        self._abort()
        if self._done is not None and not self._done.called:
            self._done.errback(GatewayTimeout("The backend stopped sending, or took too long."))

    def _abort(self) -> None:
        self.close()
        if self._body is not None and self._body.transport is not None:
            self._body.transport.loseConnection()

    def _ended(self, result: object) -> None:
        self.close()
        self._body = None
        if self._done is None or self._done.called:
            return
        if isinstance(result, Failure):
            self._done.errback(_named(result.value))
        else:
            self._done.callback(None)


def _named(error: BaseException | None) -> BaseException:
    """What a failure of Twisted's client is to the gateway's clients.

    Before its head every failure is that there was no answer, unless part of one had come.
    """
    if isinstance(error, (TCPTimedOutError, TimeoutError)):
        return GatewayTimeout("The backend took too long to connect to.", prompt_sent=False)
    if isinstance(error, (ConnectError, DNSLookupError)):
        return BackendUnavailable(prompt_sent=False)
    if isinstance(error, ResponseNeverReceived):
        return BackendUnavailable("The backend closed the connection without an answer.")
    if isinstance(error, ResponseFailed):
        return BackendError("The backend's answer is broken or was cut short.")
    assert error is not None
    return error
