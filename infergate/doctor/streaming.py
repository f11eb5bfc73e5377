"""A stream of the backend's, read to its end: whether it is whole, and when its tokens come.

A `Scanner` cuts the stream into its events, and the operation's own *reader*, which it calls,
counts tokens and knows the end, both as in the gateway.
"""

from __future__ import annotations

from infergate.api.events import EventTooLarge, Scanner, begins_as_events
from infergate.api.operation import Ask, Operation
from infergate.api.refusals import read_refusal
from infergate.backend.call import Call
from infergate.doctor.asking import advice
from infergate.doctor.subject import Subject
from infergate.errors import BackendFailure, BrokenReply

SILENCE = 0.1
"""Seconds without a token from which on it shows whether a stream is held back."""

BURST = 0.003
"""Seconds between two tokens below which both were there already."""

CUT = "the backend's own log may say why; a proxy in between may cut what takes long"

SHOWN = 2048
"""Bytes that are kept of the beginning and of the end of a stream."""


class Listener:
    """Reads one stream, asked for at the time `began`, and notes when its tokens come.

    Tokens that come within `BURST` of one another are one burst; `silence` is how long none came
    before the last burst. What buffers a stream lets its first event through at the most, and all
    others when it is whole.

    `Trial` makes one and calls `listen` once; `first`, the time of the first token or 0,
    `silence` and `held_back` are to be read after that. Times are seconds of the reactor's clock.
    """

    def __init__(
        self, subject: Subject, operation: Operation, ask: Ask, call: Call, began: float
    ) -> None:
        """Read nothing yet. `ask` is the request that was sent, whose members are let go, and
        `call` the exchange with the backend, whose head is here. The operation must be one that
        streams."""
        assert operation.reader is not None
        self._scanner = Scanner(
            subject.settings.max_event_bytes, operation.reader(ask.without_members())
        )
        self.first = self.silence = 0.0
        self._burst = 0
        self._last_token = began
        self._backend, self._call = subject.backend, call
        self._opening = self._latest = b""

    async def listen(self) -> tuple[str, str] | None:
        """Read the stream to its end. Return what is wrong with it, and what to do; None where
        nothing is.

        An answer that has ended with an event of its own is whole, however its body ends. Raises no
        `BackendFailure`: a body that is cut short, late or too large is what is wrong.
        """
        try:
            await self._call.read(self._take)
        except BackendFailure as error:
            if not self._scanner.certain:
                return f"{self._backend.fault(error)}; {self._last()}", advice(error)
        return self._wrong()

    def _take(self, data: bytes) -> None:
        """Hand a chunk of the body to the scanner and note the tokens that it brought. `Call.read`
        calls it with each chunk. After the stream's end the rest of the body is not waited for.

        Raises `BrokenReply` for an event larger than `MAX_EVENT_BYTES`, which ends the exchange.
        """
        scanner = self._scanner
        if len(self._opening) < SHOWN:
            self._opening += data
        self._latest = (self._latest + data)[-SHOWN:]
        tokens = scanner.reader.tokens
        try:
            scanner.feed(data)
        except EventTooLarge:
            raise BrokenReply("an event is larger than MAX_EVENT_BYTES allows") from None
        self._call.touch(begun=scanner.heard > 0)
        if scanner.reader.tokens > tokens:
            self._count(scanner.reader.tokens - tokens, self._backend.now())
        if scanner.over:
            self._call.finish()

    def _count(self, tokens: int, now: float) -> None:
        """Note that `tokens` have come at the time `now`: with the last burst, or after a silence
        as a new one."""
        if not self.first or now - self._last_token > BURST:
            self.silence, self._burst = now - self._last_token, 0
        self.first = self.first or now
        self._burst += tokens
        self._last_token = now

    @property
    def held_back(self) -> bool:
        """Return whether most of the answer came at once, after a silence in which it was made: at
        least half of the tokens in the last burst, and `SILENCE` before it."""
        most = self._burst > 1 and 2 * self._burst >= self._scanner.reader.tokens
        return most and self.silence >= SILENCE

    def _wrong(self) -> tuple[str, str] | None:
        """Return what is wrong with a stream whose body has come to its end, and what to do, or
        None: an error of the backend's in it, a body that is no event stream, or a missing end."""
        scanner, shown = self._scanner, self._backend.shown
        if scanner.error is not None:
            said = read_refusal(scanner.error).message or scanner.error
            return f"the stream ends with an error: {shown(said)}", "the backend's own log says why"
        if not scanner.heard and begins_as_events(self._opening) is not True:
            what = "plain JSON" if self._opening.lstrip().startswith(b"{") else "no event stream"
            said = f"a stream was asked for, and {what} comes: {shown(self._opening)}"
            return said, "have the backend stream: until then clients get it all as one event"
        if not scanner.complete(framed=self._call.framed):
            return f"the stream stops without its end; {self._last()}", CUT
        return None

    def _last(self) -> str:
        """Return, as the end of a sentence, the last line that came, or that nothing did."""
        line = self._latest.rstrip().rpartition(b"\n")[2]
        return f"the last of it is {self._backend.shown(line)}" if line else "nothing came"
