"""The events of a streamed ``/v1/messages``.

    event: message_start
    data: {"type":"message_start","message":{"model":"qwen","usage":{"input_tokens":9,...},...}}

    event: content_block_delta
    data: {"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":" hi"}}

    event: message_delta
    data: {"type":"message_delta","delta":{"stop_reason":"end_turn"},"usage":{"output_tokens":3}}

    event: message_stop
    data: {"type":"message_stop"}

The prompt's tokens are said at the start, those of the answer at the end. A delta counts as a token
where it brings text, thinking or a tool's input, and not where it brings a signature. Only
``message_stop`` ends a stream well; ``error`` ends it as a failure, wherever it comes.

The parts of an event (its delta, message, usage) are decoded apart from it: one of an unexpected
type says nothing, and does not cost the rest of the event. `Raw` is the text of a value in JSON
that nobody has read yet.

A function here whose docstring names no error raises none, whatever it is given.
"""

from __future__ import annotations

from functools import partial

import msgspec
from msgspec import Raw, Struct, field

from infergate.api.events import DELTA, FAIL, PASS, Reader, Verdict
from infergate.api.objects import NULL, read
from infergate.api.repeats import Repeats, text_of
from infergate.api.usage import NO_USAGE, Count, Usage, settled, usage_of
from infergate.errors import GatewayError


class Counts(Struct, gc=False):
    """The counts in a ``usage`` of Anthropic's, each None where it is not said. The tokens of a
    prompt stand in three places: those that were read anew, those that came out of a cache, and
    those that were put into one. Made by `read_counts`, for plain replies and streams alike."""

    input_tokens: Count | None = None
    cache_read_input_tokens: Count | None = None
    cache_creation_input_tokens: Count | None = None
    output_tokens: Count | None = None

    @property
    def prompt(self) -> int | None:
        """All of the prompt's tokens: the sum of the three counts, of which those that are not said
        are 0; None where nothing is said of any. Asked by `usage`, and by `MessageReader`."""
        said = (self.input_tokens, self.cache_read_input_tokens, self.cache_creation_input_tokens)
        return None if said == (None, None, None) else sum(count or 0 for count in said)

    @property
    def usage(self) -> Usage:
        """The same tokens as a `Usage` whose source is the backend; `NO_USAGE` where no count is
        said. A count of the prompt or of the answer that alone is missing is 0. Asked by
        `anthropic.shape`, for a plain reply."""
        prompt, completion = self.prompt, self.output_tokens
        if prompt is None and completion is None:
            return NO_USAGE
        return usage_of(prompt or 0, completion or 0, self.cache_read_input_tokens or 0)


class _Delta(Struct, gc=False):
    """Of the ``delta`` in a ``content_block_delta``, what brings a token."""

    text: str | None = None
    thinking: str | None = None
    partial_json: str | None = None


class _Message(Struct, gc=False):
    """Of the ``message`` in a ``message_start``, what is recorded."""

    model: str | None = None
    usage: Raw = NULL


class _Event(Struct, gc=False):
    """Of an event's data, what decides something; all else is skipped unread."""

    type: str | None = None
    delta: Raw = NULL
    message: Raw = NULL
    usage: Raw = NULL
    error: Raw = NULL


_event = msgspec.json.Decoder(_Event)
_delta = msgspec.json.Decoder(_Delta)
_message = msgspec.json.Decoder(_Message)
_counts = msgspec.json.Decoder(Counts)

_TEXT = text_of(b"text|thinking")


def read_counts(member: Raw) -> Counts | None:
    """Return the counts of a ``usage`` member; None where it is null, no object, or has a count
    that is none, such as -1. Called for plain replies by `anthropic.shape`, and for streams by
    `MessageReader`. Raises nothing."""
    return read(_counts, member)


class MessageReader(Struct, eq=False):
    """Reads one stream of ``/v1/messages``, and knows its tokens, its model and whether it is
    whole: a `Reader`.

    The operation makes one for each stream; a `Scanner` calls `hear` with each event, in order, and
    the relay asks for `usage` in the end, also where the stream was cut. Nothing that a backend
    sends makes it raise: an event that cannot be read passes as it is, and says nothing.
    """

    tokens: int = 0
    """Deltas of text, of thinking, or of a tool's input."""
    model: str | None = None
    finished: bool = False

    # The prompt's tokens out of `message_start`, and what a later `message_delta` says of them. The
    # former's `output_tokens` is a placeholder, so that only the latter's counts.
    _counts: Counts = field(default_factory=Counts)
    _heard: bool = False
    repeats: Repeats = field(default_factory=partial(Repeats, _TEXT))

    end_is_certain = True

    @property
    def done_is_an_end(self) -> bool:
        """Whether ``[DONE]`` would end the stream well: only after ``message_stop``. Asked by the
        `Scanner` when ``[DONE]`` comes, and at the stream's end."""
        return self.finished

    def usage(self, prompt_estimate: int) -> Usage:
        """Return the tokens of the stream so far; `NO_USAGE` where no event has come. A count that
        the backend has not said is replaced: the prompt's by `prompt_estimate`, that of the answer
        by the deltas that were counted here. Called by the relay when the stream is over."""
        counts = self._counts
        if not self._heard:
            return NO_USAGE
        cached = counts.cache_read_input_tokens or 0
        return settled(counts.prompt, counts.output_tokens, prompt_estimate, self.tokens, cached)

    def hear(self, data: bytes, name: bytes) -> Verdict:
        """Learn what one event says, and return what becomes of it: `FAIL` for an error, `DELTA`
        for a delta that brings a token (another one like it is counted and not read), `PASS` for
        all else. See `Reader` for `data` and `name`."""
        self._heard = True
        said = read(_event, data)
        if said is None:
            return FAIL if name == b"error" else PASS
        if said.type == "error" or name == b"error" or (not said.type and said.error != NULL):
            return FAIL
        if said.type == "content_block_delta":
            delta = read(_delta, said.delta)
            if delta is not None and (delta.text or delta.thinking or delta.partial_json):
                self.tokens += 1
                return DELTA
        elif said.type == "message_start":
            self._hear_start(said.message)
        elif said.type == "message_delta":
            self._hear_counts(said.usage, start=False)
        elif said.type == "message_stop":
            self.finished = True
        return PASS

    def _hear_start(self, raw: Raw) -> None:
        """Keep the model and the prompt's tokens out of the ``message`` of a ``message_start``;
        ignore one that cannot be read. Called by `hear`."""
        message = read(_message, raw)
        if message is not None:
            self.model = self.model or message.model
            self._hear_counts(message.usage, start=True)

    def _hear_counts(self, raw: Raw, *, start: bool) -> None:
        """Take the counts of a usage, one by one: a later one that leaves a count out, as most do
        with those of the prompt, does not undo it. With `start` the usage is that of a
        ``message_start``, whose ``output_tokens`` is a placeholder and is not taken. A usage that
        cannot be read changes nothing. Called by `hear` and `_hear_start`."""
        counts = read_counts(raw)
        if counts is None:
            return
        known = self._counts
        if counts.prompt is not None:
            known.input_tokens = _later(counts.input_tokens, known.input_tokens)
            known.cache_read_input_tokens = _later(
                counts.cache_read_input_tokens, known.cache_read_input_tokens
            )
            known.cache_creation_input_tokens = _later(
                counts.cache_creation_input_tokens, known.cache_creation_input_tokens
            )
        if not start:
            known.output_tokens = _later(counts.output_tokens, known.output_tokens)


def _later(count: int | None, before: int | None) -> int | None:
    """Return `count`, or where an event left it out (None) the count that was known `before`.
    Called by `MessageReader._hear_counts` for each count."""
    return before if count is None else count


def error_event(error: GatewayError, reader: Reader | None) -> bytes:
    """Return the last event of a stream that fails with `error`, in Anthropic's form, as bytes of
    one whole event. Called as the operation's `error_event` when a stream that has begun fails, and
    raises nothing; `reader` has nothing to add.

        event: error
        data: {"type":"error","error":{"type":"api_error","message":"...","code":"backend_error"}}
    """
    return b"event: error\ndata: %b\n\n" % msgspec.json.encode(error.anthropic())
