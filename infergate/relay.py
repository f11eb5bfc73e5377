"""A stream on its way through, event by whole event.

What becomes of a chunk that the backend sends, once a stream is in its stride:

    Call.read               treq's `collect` hands it to the relay
    Relay._relay_events     the scanner is fed
    Scanner.feed            gives out what has become whole, all of it or less a usage chunk
    Reader.hear             learns from each event: tokens, usage, the end
    Request.write           frames it for the client, at once

Flow control goes the other way: `Call` is the push producer of the client's connection, so a client
that reads slowly pauses the backend, and the idle deadline with it.

How a stream ends, and what the client sees of it:

    the backend                               the client, and the record
    ends well                                 the same bytes; ok
    ends well, but for its ``[DONE]``         that is added; ok
    fails before the first event              an answer with a status of its own: 4xx, 5xx
    ends with an error event                  that event, or one in its place where it is not to
                                              be shown, and a cut; error
    stops, is cut, or takes too long          an error event, and a cut; error
    goes on after what ends it                nothing more; ok

The `Scanner` takes the bytes of the stream apart into whole events, and has its `Reader`, one for
each operation, say what each of them means. A `Call` is the exchange with the backend; `Deadlines`
calls `expired` of what it watches once its `deadline`, in seconds on the reactor's clock, has
passed.

Where the client leaves, the request cancels the worker, and with it `Relay.run`: the backend's
connection is closed, and what was counted so far is what the request has used.
"""

from __future__ import annotations

from io import BytesIO

from infergate.api.events import EventTooLarge, Scanner, begins_as_events
from infergate.api.refusals import first_event_refusal
from infergate.backend.call import END_OF_BODY, Call
from infergate.errors import BackendFailure, BrokenReply
from infergate.reactor.deadlines import NEVER, Deadlines
from infergate.server.request import EVENT_STREAM, Request

KEEPALIVE = b": keep-alive\n\n"

STREAM_LINES = (
    b"Cache-Control: no-cache",
    # nginx, unless told so, holds a stream back until it has a buffer full.
    b"X-Accel-Buffering: no",
)
"""Header fields of every stream of events, as lines."""

MODEL_NAME = 256
"""Characters of a model's name in logs and labels."""

HELD_COMMENTS = 65536
"""Bytes of comments that wait for the first event."""


class Pulse:
    """Send keep-alive comments: one to a streaming client after each `interval` seconds of silence.

    The first one commits the status, if nothing else has by then. The worker makes a pulse when the
    request goes out, the relay calls `postpone` whenever it has written, and the worker calls
    `stop` however the exchange ends.
    """

    def __init__(self, request: Request, deadlines: Deadlines, interval: float) -> None:
        """Begin the first interval, in seconds. Called by `BackendWorker.answer` for each stream,
        where comments are to be sent."""
        self._request = request
        self._deadlines = deadlines
        self._interval = interval
        self.deadline = NEVER
        self.postpone()
        deadlines.watch(self)

    def postpone(self) -> None:
        """Begin the interval anew. `Relay` calls this each time the client has been sent
        something."""
        self.deadline = self._deadlines.now() + self._interval

    def stop(self) -> None:
        """Send no more comments. `BackendWorker.answer` calls this at its end, whatever that is;
        more than once does no harm."""
        self._deadlines.forget(self)

    def expired(self) -> None:
        """Send one comment, and the head of the answer before it where that is still to come.
        Called by `Deadlines` after `interval` seconds of silence.

        A client that does not take what it was sent already gets no comment, which would only wait
        behind that.
        """
        request = self._request
        if not request.startedWriting:
            request.begin(200, EVENT_STREAM, lines=STREAM_LINES)
        if request.channel is not None and not request.channel.paused:
            request.write(KEEPALIVE)
        self.postpone()


class Relay:
    """Passes on each event of one stream the moment it is whole, and judges its end.

    What is judged, in this order: an error of the backend's own, which it may have told the client
    already; an answer that is not whole; a good answer whose end, ``[DONE]``, the backend left out.
    The first two leave the client with an error event and a connection that is cut, so that nobody
    can take the answer for whole.

    The status is committed by the first whole event: comments before it wait, so that a
    failure before it still has its true status.

    A body that is not declared to be a stream may be one all the same: where `max_plain` is given,
    it is looked at before it is passed on, and what is no stream is collected, up to that many
    bytes. The worker calls `run`, once.
    """

    def __init__(
        self,
        request: Request,
        call: Call,
        scanner: Scanner,
        pulse: Pulse | None,
        deadlines: Deadlines,
        content_type: bytes = EVENT_STREAM,
        *,
        stream_end: bytes,
        prompt_estimate: int = 0,
        max_plain: int | None = None,
    ) -> None:
        """Make the relay of one stream, from `call`, whose head has come, to `request`.

        `pulse` is None where a client that waits is sent no comments; `content_type` is what it is
        told, `stream_end` what ends a good stream of the operation (``data: [DONE]``), b"" for
        nothing; `prompt_estimate` counts as the prompt's tokens where the stream does not say them,
        and `max_plain` is in bytes, None where the body is declared to be a stream. Called by
        `BackendWorker`.
        """
        self._request = request
        self._record = request.record
        self._call = call
        self._scanner = scanner
        self._pulse = pulse
        self._now = deadlines.now
        self._deadlines = deadlines
        self.deadline = NEVER
        self._may_end_early = scanner.reader.end_is_certain
        self._content_type = content_type
        self._stream_end = stream_end
        self._prompt_estimate = prompt_estimate
        self._max_plain = max_plain
        # Of a body that is not declared to be a stream: the beginning by which that cannot be told
        # yet, and all of one that is none.
        self._opening = b""
        self._plain: BytesIO | None = None
        self._held = b""
        # The answer has begun and its first token come, and no pulse is to be kept: all that is
        # left to do is to write.
        self._steady = False
        self._over = False

    async def run(self) -> bytes | None:
        """Relay the whole stream and return None, or return the whole body (bytes, now the
        caller's) where it turned out to be no stream.

        Called once, by `BackendWorker`. However it ends, the record has the usage and the model
        that the stream named by then, but for the usage of a stream that began with an error. An
        error event that the client was shown is no exception here: the record says that the
        exchange failed, and the connection is cut.

        Raises `BrokenReply` where the stream was cut short, ended with an error that was not shown,
        or is larger than allowed; `BackendRejected` or `BackendError` where its first event is an
        error; and what `Call.read` does (`BackendError`, `GatewayTimeout`). Cancelled where the
        client leaves, which closes the backend's connection.
        """
        request, scanner = self._request, self._scanner
        assert request.channel is not None
        request.channel.registerProducer(self._call, True)
        try:
            if self._max_plain is None:
                await self._call.read(self._relay_events)
            else:
                self._call.refuse_longer(self._max_plain)
                await self._call.read(self._look)
        except BackendFailure:
            # An answer that has ended with an event of its own is whole, however its body ends.
            if not scanner.certain:
                raise
        finally:
            self._end()
        if self._opening or self._plain is not None:
            return self._opening if self._plain is None else self._plain.getvalue()
        if scanner.error_shown:
            self._record.fail(BrokenReply("The backend ended its stream with an error."))
            request.break_off()
        elif scanner.error is not None:
            raise BrokenReply("The backend ended its stream with an error.")
        elif not scanner.complete(framed=self._call.framed):
            raise BrokenReply("The backend's stream was cut short.")
        elif self._stream_end and not scanner.done:
            self._send(self._stream_end)
        if request.channel is not None and request.channel.paused:
            await request.drained()
        return None

    def _end(self) -> None:
        """Take nothing more of the body, and write down what the stream said. Called by `run` when
        the reading has ended, in whatever way."""
        record, reader = self._record, self._scanner.reader
        self._over = True
        self._deadlines.forget(self)
        # Also where the stream was cut or the client left: the tokens were made.
        if not self._failed_at_once():
            record.usage = reader.usage(self._prompt_estimate)
        if record.model is None and reader.model is not None:
            record.model = reader.model[:MODEL_NAME]
        if self._request.channel is not None:
            self._request.channel.unregisterProducer()

    def _look(self, data: bytes) -> None:
        """Take the next bytes of a body that is not declared to be a stream, and go by what they
        show it to be. Called by `Call.read` with each chunk.

        A stream is relayed from its first byte on. What is no stream is collected for `run` to
        return. As long as the first bytes leave that open, they are kept. Raises what `_keep` and
        `_relay_events` do, which ends the reading.
        """
        if self._over:
            return
        if self._max_plain is None:
            self._relay_events(data)
        elif self._plain is not None:
            self._keep(data)
        else:
            self._opening += data
            is_stream = begins_as_events(self._opening)
            self._call.touch(begun=is_stream is False)
            if is_stream is None:
                return
            data, self._opening = self._opening, b""
            if is_stream:
                self._max_plain = None
                self._relay_events(data)
            else:
                self._plain = BytesIO()
                self._keep(data)

    def _keep(self, data: bytes) -> None:
        """Collect a chunk of a body that turned out to be no stream; raises `BrokenReply` where it
        grows above `max_plain` bytes. Called by `_look`."""
        assert self._plain is not None
        assert self._max_plain is not None
        self._call.touch()
        self._plain.write(data)
        if self._plain.tell() > self._max_plain:
            raise BrokenReply("The backend's answer is larger than MAX_RESPONSE_BYTES allows.")

    def _relay_events(self, data: bytes) -> None:
        """Write to the client what has become whole with the chunk `data`.

        Called by `Call.read`, through treq's `collect`, with each chunk of a stream, and by
        `_look`. A chunk may hold half an event or twenty; what is not whole yet waits in the
        scanner.

        Raises `BrokenReply` for an event above `MAX_EVENT_BYTES`, after the whole ones before it
        were written, and the error of `first_event_refusal` where the first event is an error and
        no status was sent. Either ends the reading: `Call.read` raises it.
        """
        if self._over:
            return
        scanner = self._scanner
        try:
            ready = scanner.feed(data)
        except EventTooLarge as error:
            if scanner.ready:
                self._send(scanner.ready)
            raise BrokenReply(
                "An event of the backend's stream is larger than MAX_EVENT_BYTES allows."
            ) from error
        last = scanner.over or (self._may_end_early and scanner.reader.finished)
        if self._steady:
            self._call.heard = self._now()
            self._request.write(ready, last=last)
        else:
            self._call.touch(begun=scanner.heard > 0)
            if scanner.error is not None and self._failed_at_once():
                raise first_event_refusal(scanner.error)
            if ready:
                self._send(ready, last=last)
            if self._record.first_token is None and scanner.reader.tokens:
                self._record.first_token = self._now()
            begun = self._request.startedWriting and self._record.first_token is not None
            self._steady = bool(begun) and self._pulse is None
        if last:
            self._look_for_the_end()

    def _look_for_the_end(self) -> None:
        """End the reading where nothing that still comes is given out, called when that may be so.

        After ``[DONE]`` or an error that is at once. Where the event that ends the answer has come
        but no ``[DONE]``, the body gets `END_OF_BODY` seconds to end by itself, so that its
        connection can be used again.
        """
        scanner = self._scanner
        if scanner.over:
            if scanner.tail:
                self._send(scanner.tail)
            self._call.finish()
        elif scanner.reader.finished and self.deadline is NEVER:
            self.deadline = self._now() + END_OF_BODY
            self._deadlines.watch(self)

    def expired(self) -> None:
        """End the reading: the answer is whole, and its body goes on all the same. Called by
        `Deadlines` `END_OF_BODY` seconds after the answer has ended."""
        self._call.finish()

    def _failed_at_once(self) -> bool:
        """Return whether the stream's first event is an error, and no status has been sent: the
        answer can then still be a refusal with a status of its own. Asked by `_relay_events`, and
        by `run` at the end."""
        scanner = self._scanner
        return scanner.error is not None and scanner.heard == 1 and not self._request.startedWriting

    def _send(self, events: bytes, *, last: bool = False) -> None:
        """Write whole `events` to the client, with the answer's head before the first of them.

        Comments that come before the first event are held back, as long as they are less than
        `HELD_COMMENTS` bytes, and go out with it. `last` says that nothing is to follow, so that
        the end of the answer may go out in one packet with it. Called by `_relay_events`,
        `_look_for_the_end` and `run`.
        """
        request = self._request
        if not request.startedWriting:
            if not self._scanner.heard and len(self._held) < HELD_COMMENTS:
                self._held += events
                return
            request.begin(200, self._content_type, lines=STREAM_LINES)
        request.write(self._held + events, last=last)
        self._held = b""
        if self._pulse is not None:
            self._pulse.postpone()
