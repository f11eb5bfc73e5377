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
"""

from __future__ import annotations

from typing import Annotated

import attrs
import msgspec
from msgspec import Meta, Raw, Struct

from infergate.api.events import DELTA, FAIL, PASS, Reader, Verdict
from infergate.api.objects import NULL, read
from infergate.api.repeats import Repeats, text_of
from infergate.api.usage import NO_USAGE, Usage, settled, usage_of
from infergate.errors import GatewayError

_Count = Annotated[int, Meta(ge=0, le=2**53)]


class Counts(Struct, gc=False):
    """A ``usage`` of Anthropic's. The tokens of a prompt stand in three places: those that were
    read anew, those that came out of a cache, and those that were put into one."""

    input_tokens: _Count | None = None
    cache_read_input_tokens: _Count | None = None
    cache_creation_input_tokens: _Count | None = None
    output_tokens: _Count | None = None

    @property
    def prompt(self) -> int | None:
        """All of the prompt's tokens; None where nothing is said of them."""
        said = (self.input_tokens, self.cache_read_input_tokens, self.cache_creation_input_tokens)
        return None if said == (None, None, None) else sum(count or 0 for count in said)

    @property
    def usage(self) -> Usage:
        prompt, completion = self.prompt, self.output_tokens
        if prompt is None and completion is None:
            return NO_USAGE
        return usage_of(prompt or 0, completion or 0, self.cache_read_input_tokens or 0)


class _Delta(Struct, gc=False):
    text: str | None = None
    thinking: str | None = None
    partial_json: str | None = None


class _Message(Struct, gc=False):
    model: str | None = None
    usage: Raw = NULL


class _Event(Struct, gc=False):
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
    """A ``usage``; None where it is null or makes no sense."""
    return read(_counts, member)


@attrs.define(eq=False)
class MessageReader:
    """Reads one stream of ``/v1/messages``; a `Scanner` calls `hear` with each event, in order.
    Nothing that a backend sends makes it raise: an event that cannot be read passes as it is, and
    says nothing."""

    tokens: int = attrs.field(default=0, init=False)
    """Deltas of text, of thinking, or of a tool's input."""
    model: str | None = attrs.field(default=None, init=False)
    finished: bool = attrs.field(default=False, init=False)

    # The prompt's tokens out of `message_start`, and what a later `message_delta` says of them. The
    # former's `output_tokens` is a placeholder, so that only the latter's counts.
    _counts: Counts = attrs.field(factory=Counts, init=False)
    _heard: bool = attrs.field(default=False, init=False)
    repeats: Repeats = attrs.field(factory=lambda: Repeats(_TEXT), init=False)

    end_is_certain = True

    @property
    def done_is_an_end(self) -> bool:
        return self.finished

    def usage(self, prompt_estimate: int) -> Usage:
        counts = self._counts
        if not self._heard:
            return NO_USAGE
        cached = counts.cache_read_input_tokens or 0
        return settled(counts.prompt, counts.output_tokens, prompt_estimate, self.tokens, cached)

    def hear(self, data: bytes, name: bytes) -> Verdict:
        """See `Reader`. A delta that brings a token is `DELTA`: another one like it is counted and
        not read."""
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
        message = read(_message, raw)
        if message is not None:
            self.model = self.model or message.model
            self._hear_counts(message.usage, start=True)

    def _hear_counts(self, raw: Raw, *, start: bool) -> None:
        """Take the counts of a usage, one by one: a later one that leaves a count out, as most do
        with those of the prompt, does not undo it."""
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
    return before if count is None else count


def error_event(error: GatewayError, reader: Reader | None) -> bytes:
    """The last event of a stream that fails."""
    return b"event: error\ndata: %b\n\n" % msgspec.json.encode(error.anthropic())
