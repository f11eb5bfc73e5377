"""One exchange with the backend: its phases and its deadlines.

A `Call` is what the worker holds of a request to the backend. It waits for the response's head,
reads the body, watches how long each of these takes and writes down in the request's record when
what has come. The bytes on the wire are `connection`'s, what is sent is `client`'s.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum, auto
from io import BytesIO
from typing import Any, cast

import attrs
from treq.content import collect
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IPushProducer
from twisted.python.failure import Failure
from twisted.web.client import ResponseFailed, ResponseNeverReceived
from zope.interface import implementer

from infergate.backend.causes import late_error, name_error, nothing_sent
from infergate.backend.connection import Response
from infergate.errors import BrokenReply, release
from infergate.reactor.deadlines import NEVER, Deadlines
from infergate.telemetry.record import Record

END_OF_BODY = 1.0
"""Seconds the backend gets, after the last event, to end its body as it should. The client does not
wait for it."""


TOO_LARGE = "The backend's answer is larger than MAX_RESPONSE_BYTES allows."

PATIENCE = 60.0
"""Seconds without a sign of life of the backend after which it is asked how it is, where nothing
limits how long its answer may take to begin: a slow model is told from a dead one by that."""


@attrs.frozen
class Timeouts:
    """Time limits in seconds: until the answer begins (None: for as long as the backend says that
    it is well), between two chunks of it, for all. They are `BACKEND_TIMEOUT`,
    `STREAM_IDLE_TIMEOUT` and `REQUEST_TIMEOUT` of the settings. The endpoint has the deadline for
    connecting."""

    response: float | None = None
    idle: float = 60
    total: float = 600


class Phase(Enum):
    """Where an exchange stands; the table is in `Call`."""

    NEW = auto()
    ASKING = auto()
    ANSWERED = auto()
    READING = auto()
    ENDING = auto()
    OVER = auto()


# An attribute of an enumeration takes six times as long as a name of the module, and each chunk of
# a stream asks for one.
NEW, ASKING, ANSWERED, READING, ENDING, OVER = Phase


@implementer(IPushProducer)
class Call:
    """One exchange with the backend, on behalf of the request of `record`.

    A worker has `Backend.send` call `head`; then it calls `read` or `read_all`, or `discard`.
    `read` hands over each chunk as it comes, and its bytes are the collector's, which calls
    `touch`. Beside that a call is the push producer of the client's connection: while that holds a
    stream up, the backend is not read.

    `well` asks whether the backend is well, where there is a route to ask; it never fails.

    ========  =======================================  =============================  ============
    phase     deadline                                 when it passes                 next
    ========  =======================================  =============================  ============
    new       none                                                                    asking
    asking    `response` after the first `head`, or    `well` is asked where there    answered,
              `PATIENCE` after the last sign of life   is no `response`; else the     over
                                                       attempt is cancelled, `head`
                                                       raises
    answered  the same; a stream's first event has     `well` is asked the same way;  reading,
              not come                                 else the connection is         over
                                                       closed, `read` raises
    reading   `idle` after the last chunk; none while  the connection is closed,      ending, over
              the client holds the stream up           `read` raises
    ending    `END_OF_BODY` after `finish`             the connection is closed,      over
                                                       nobody is told
    over      none                                                                    asking again
    ========  =======================================  =============================  ============

    `total`, from the first byte of the client's request, bounds asking, answered and reading. What
    a deadline raises is `GatewayTimeout`.
    """

    def __init__(
        self,
        deadlines: Deadlines,
        timeouts: Timeouts,
        record: Record,
        well: Callable[[], Deferred[bool]] | None = None,
    ) -> None:
        """Make a call that is new, and has no deadline yet; `Backend.call` does this."""
        self.deadline = NEVER
        self._well = well
        self._deadlines = deadlines
        self._now = deadlines.now
        self._timeouts = timeouts
        self._record = record
        # When the time for all of the exchange is up.
        self._end = record.opened + timeouts.total
        self._phase = NEW
        # While asking: the attempt under way.
        self._attempt: Deferred[Any] | None = None
        # From answered on.
        self._response: Response | None = None
        # What `read` waits for.
        self._done: Deferred[None] | None = None
        self.heard = 0.0
        """When the backend showed the last sign of life. The collector of a stream that has begun
        sets it with each chunk, and of any other calls `touch`."""
        # Whether the client holds the stream up, in any phase.
        self._held = False
        # The setting whose time has passed, once one has.
        self._passed: str | None = None

    # For the worker.

    async def head(self, attempt: Callable[[], Deferred[Any]], retries: int) -> Response:
        """Return the response to a request, once its head is here. Called by `Backend.send`.

        `attempt` sends the request. It is called up to `retries` times more, where not a byte of
        the request can have reached the backend; all attempts together have the time of one.

        Raises `BackendUnavailable` where there was no answer, with `prompt_sent` false where
        nothing can have reached the backend; `BackendError` where the answer is broken, or
        compressed; `GatewayTimeout`; whatever `attempt` raises of its own.
        """
        record = self._record
        record.backend_began = self.heard = self._now()
        while True:
            self._enter(ASKING)
            self._attempt = attempt()
            try:
                response: Response = await self._attempt
                break
            except Exception as error:
                self._enter(OVER)
                # Another attempt may last long.
                release(error)
                # None of these errors may be in a local variable: it would hold itself in memory.
                if self._passed is not None:
                    sent = isinstance(error, (ResponseNeverReceived, ResponseFailed))
                    raise late_error(self._passed, prompt_sent=sent) from error
                if retries and nothing_sent(error):
                    retries -= 1
                elif name_error(error) is error:
                    raise
                else:
                    raise name_error(error) from error
            finally:
                self._attempt = None
        self._response = response
        self.heard = self._now()
        record.backend_head, record.backend_status = self.heard, response.code
        if response.code >= 300:
            # A refusal has begun with its head, also of a stream.
            record.answer_began = self.heard
        self._enter(ANSWERED)
        return response

    async def read(self, collector: Callable[[bytes], None]) -> None:
        """Hand each chunk of the body to `collector` as it comes; return at its end, or after
        `finish`.

        Called once, after `head`, by the relay or by `read_all`. Raises what `collector` raises,
        which ends the exchange; `BackendError` where the body is broken or cut short;
        `GatewayTimeout`. Cancelling closes the connection.
        """
        response = self._response
        assert response is not None
        done = self._done = Deferred(lambda _: self.discard())
        collect(response, collector).addBoth(self._ended)
        if self._held:
            self.pauseProducing()
        try:
            await done
        finally:
            self._done = None
            if self._record.backend_ended is None:
                self._record.backend_ended = self._now()

    async def read_all(self, limit: int) -> bytes:
        """Return the whole body of at most `limit` bytes, which is the caller's from then on.

        Raises `BrokenReply` where it is longer, else as `read`. Called for plain replies, refusals
        and documents.
        """
        assert self._response is not None
        whole = self._response.whole()
        if whole is None:
            return await self._collect(limit)
        # All of it came with the head.
        self._record.answer_began = self._record.backend_ended = self.heard
        self._enter(OVER)
        if len(whole) > limit:
            raise BrokenReply(TOO_LARGE)
        return whole

    async def _collect(self, limit: int) -> bytes:
        """Return the same of a body that is still to come, or that is broken. For `read_all`."""
        self.refuse_longer(limit)
        # BytesIO gives out what it holds without a copy.
        body = BytesIO()

        def keep(chunk: bytes) -> None:
            """Add a chunk to the body. Raises `BrokenReply` above the limit."""
            body.write(chunk)
            if body.tell() > limit:
                raise BrokenReply(TOO_LARGE)
            self.touch()

        # With its head a plain answer has begun.
        self.touch()
        await self.read(keep)
        return body.getvalue()

    def refuse_longer(self, limit: int) -> None:
        """Raise `BrokenReply` where the head declares a body of more than `limit` bytes, of which
        none is then read: the exchange is discarded. Called after `head`, for a body that is still
        to come, by `read_all` and by the relay."""
        assert self._response is not None
        length = self._response.length
        # An unknown length is not an int.
        if isinstance(length, int) and length > limit:
            self.discard()
            raise BrokenReply(TOO_LARGE)

    @property
    def framed(self) -> bool:
        """Whether the body says where it ends. One that does not ends where the connection does, be
        it whole or not, and `collect` takes that for the right end. The relay asks it of a stream.
        """
        assert self._response is not None
        head = self._response.head
        return head.chunked or head.length is not None

    def touch(self, *, begun: bool = True) -> None:
        """Note that a chunk has come: the idle deadline starts anew. Called by the collector of
        `read`.

        The deadline itself is moved only when it passes, so that a chunk costs no more than this.
        `begun` is false for as long as a stream has brought nothing but comments.
        """
        self.heard = self._now()
        if begun and self._phase is ANSWERED:
            self._record.answer_began = self.heard
            self._enter(READING)

    def finish(self) -> None:
        """End the reading: all that matters has come. `read` returns now, and the body ends in its
        own time, so that its connection can be used again. Called by the relay after the last
        event; does nothing where nobody reads."""
        if self._done is None:
            return
        if self._held:
            self.resumeProducing()
        self.heard = self._now()
        self._stop_reading(ENDING)

    def discard(self) -> None:
        """Give the exchange up: close the connection, whatever of the response has come. Called by
        who has no use for the body, such as one of a refusal; may be called again."""
        self._enter(OVER)
        if self._response is not None:
            self._response.loseConnection()

    # For the client's connection.

    def pauseProducing(self) -> None:
        """Read no more of the backend, since the client does not keep up. Called by the client's
        connection (`server.flow`), in any phase."""
        self._held = True
        if self._phase is READING:
            self._move_deadline()
        if self._response is not None:
            self._response.pauseProducing()

    def resumeProducing(self) -> None:
        """Read on, since the client takes bytes again; the backend has all of its idle time before
        it."""
        self._held = False
        self.heard = self._now()
        if self._phase is READING:
            self._move_deadline()
        if self._response is not None:
            self._response.resumeProducing()

    stopProducing = discard

    # For the sweep of deadlines.

    def expired(self) -> None:
        """Act as the table says where the deadline has passed; called by `Deadlines`.

        A chunk that came since has only been noted in `heard`: then the deadline is moved, and that
        is all.
        """
        self._move_deadline()
        now = self._now()
        if self.deadline > now:
            return
        if self._well is not None and self._patient and now < self._end:
            self.deadline = self._end
            self._well().addCallback(self._told, now)
        else:
            self._give_up()

    @property
    def _patient(self) -> bool:
        """Whether the answer may take for as long as the backend is well: there is no `response`
        limit, and nothing of the answer has come yet. For `expired` and `_told`."""
        waiting = self._phase in (ASKING, ANSWERED)
        return waiting and self._timeouts.response is None

    def _told(self, well: bool, asked: float) -> None:
        """Wait on, or give up: the backend has said how it is (`well`), or has not answered.

        Called when the question of `expired` is answered, which was put at the time `asked`.
        Another sign of life since then is worth as much as a good answer. Does nothing where the
        exchange went on meanwhile.
        """
        if not self._patient:
            return
        if well or self.heard > asked:
            self.heard = max(self.heard, self._now() if well else 0)
            self._move_deadline()
        else:
            self._give_up()

    def _give_up(self) -> None:
        """End the exchange because its time is up: whoever waits gets a `GatewayTimeout` that names
        the setting, and the connection is closed. For `expired` and `_told`."""
        phase = self._phase
        self._passed = "STREAM_IDLE_TIMEOUT" if phase is READING else "BACKEND_TIMEOUT"
        if self._now() >= self._end:
            self._passed = "REQUEST_TIMEOUT"
        self._enter(OVER)
        if phase is ASKING:
            assert self._attempt is not None
            self._attempt.cancel()
        elif self._done is not None:
            self._stop_reading(OVER, late_error(self._passed))
        self.discard()

    # The phases.

    def _enter(self, phase: Phase) -> None:
        """Change the phase, and watch its deadline; the one place that does."""
        self._phase = phase
        if phase is OVER:
            self.deadline = NEVER
            self._deadlines.forget(self)
        elif phase is not ANSWERED:
            # That of `ASKING` stays for `ANSWERED`, and is moved, if it is to be, when it passes.
            self._move_deadline()
            self._deadlines.watch(self)

    def _move_deadline(self) -> None:
        """Set the deadline of the phase, as the table has it."""
        phase, limit = self._phase, self._timeouts.response
        if phase is READING:
            due = self._end if self._held else self.heard + self._timeouts.idle
        elif phase is ENDING:
            self.deadline = self.heard + END_OF_BODY
            return
        elif limit is None:
            due = self.heard + PATIENCE
        else:
            due = (self._record.backend_began or 0) + limit
        self.deadline = due if due < self._end else self._end

    def _stop_reading(self, phase: Phase, error: BaseException | None = None) -> None:
        """Have `read` return now, or raise `error`, and enter `phase`. There must be a `read` under
        way."""
        done = self._done
        assert done is not None
        self._enter(phase)
        if error is None:
            done.callback(None)
        else:
            done.errback(error)

    def _ended(self, result: Any) -> None:
        """Note that the body has ended, or its connection; called by treq's `collect`, whose
        `result` is a `Failure` where it was cut short or the collector has raised."""
        if self._done is None or self._done.called:
            self._enter(OVER)
        elif isinstance(result, Failure):
            self._stop_reading(OVER, name_error(cast(Exception, result.value)))
        else:
            self._stop_reading(OVER)
