"""The events of a stream, and what they say.

Bytes in, bytes and facts out: a `Scanner` passes on whole events the moment they are whole and
holds back what is not, so that whatever the gateway adds stands between two events. It changes
no byte, and removes nothing but the usage chunk of a client that did not ask for it.

The grammar is that of the HTML standard, section 9.2.6, "Interpreting an event stream".
"""

from __future__ import annotations

import re
from typing import Any

import attrs
import msgspec
from msgspec import Raw, Struct

from infergate.api.usage import NO_USAGE, Usage, read_usage

_CR, _LF = b"\r\n"
_BOM = b"\xef\xbb\xbf"
# A line's end, then an empty line. The lookahead keeps a CRLF from being read as two ends.
_EVENT_END = re.compile(rb"(\r\n|\n|\r(?!\n))(?:\r\n?|\n)")

_DONE = b"[DONE]"
_ABSENT = Raw()
_NULL = Raw(b"null")


# Only the members that decide something: msgspec skips all others unread. `Any` where a surprise
# must not cost the rest of the chunk.
class _Delta(Struct, gc=False):
    content: Any = None
    reasoning: Any = None
    reasoning_content: Any = None
    tool_calls: Any = None
    function_call: Any = None
    refusal: Any = None


class _Choice(Struct, gc=False):
    delta: _Delta | None = None
    finish_reason: Any = None
    text: Any = None


class _Object(Struct, gc=False):
    error: Raw = _ABSENT
    object: Any = None
    usage: Raw = _ABSENT


class _Chunk(_Object, gc=False):
    choices: list[_Choice] | None = None


_chunk = msgspec.json.Decoder(_Chunk).decode
_object = msgspec.json.Decoder(_Object).decode


_BLANK = re.compile(rb"[\r\n]+")

# In valid JSON a quote that no backslash precedes ends a string: this is a member whose name ends
# so, with a text in which nothing is escaped, wherever else in a chunk it may stand.
_CONTENT = re.compile(rb'content": ?"([^"\\\x00-\x1f]+)"')
_TEXT = re.compile(rb'[^"\\\x00-\x1f]+')

# At the end of a body they will do: the last blank line is often forgotten.
_UNFINISHED_DONE = (b"data: [DONE]", b"data:[DONE]")


class EventTooLarge(Exception):
    """One event of the stream is larger than the limit."""


@attrs.define(eq=False)
class Scanner:
    """One stream of chat completion chunks, from its first byte to its last.

    `limit` is the size in bytes, up to the empty line that ends it, of the largest event let
    through. With `strip_usage`, a chunk that holds usage and no choice is taken out, whole.
    What it says is recorded all the same.
    """

    limit: int
    strip_usage: bool

    events: int = attrs.field(default=0, init=False)
    """Whole events seen; a block of comments is none."""
    done: bool = attrs.field(default=False, init=False)
    """``[DONE]`` was seen. Nothing after it is given out."""
    failed: bool = attrs.field(default=False, init=False)
    """The backend reported an error. Nothing after it is given out, ``[DONE]`` neither."""
    finished: bool = attrs.field(default=False, init=False)
    """A choice gave its ``finish_reason``."""
    tokens: int = attrs.field(default=0, init=False)
    """Deltas that brought content, reasoning, a refusal or a tool call."""
    usage: Usage | None = attrs.field(default=None, init=False)
    """The last that the backend reported."""
    ready: bytes = attrs.field(default=b"", init=False)
    """After `EventTooLarge`: the whole events that stood before the fault in the same piece."""

    tail: bytes = attrs.field(default=b"", init=False)
    """Of the CRLF that ended the last event, what is on its way still; for those who read no
    further."""

    _held: bytearray = attrs.field(factory=bytearray, init=False)
    _opening: bool = attrs.field(default=True, init=False)
    # Between the two halves of a CRLF that ends an event: what to give out for the second.
    _half: bytes | None = attrs.field(default=None, init=False)
    _between_events: bool = attrs.field(default=False, init=False)
    # What stands around the text of the last chunk, where that brought one token and nothing else.
    _around: tuple[bytes, bytes] | None = attrs.field(default=None, init=False)

    @property
    def pending(self) -> int:
        """Bytes held of an event that is not whole yet."""
        return len(self._held)

    def usage_so_far(self) -> Usage:
        """The backend's figures, or else the deltas counted here."""
        if self.usage is not None:
            return self.usage
        return Usage(0, self.tokens, self.tokens, "counted") if self.tokens else NO_USAGE

    def complete(self, *, framed: bool = True) -> bool:
        """Whether a body that ends here is a success: ``[DONE]`` came, or a ``finish_reason``
        and then nothing that was cut short. The latter holds only where the body is `framed`:
        one that ends where its connection does may have been cut anywhere."""
        if self.failed:
            return False
        rest = self._held.strip()
        ended = rest in _UNFINISHED_DONE or (framed and not rest)
        return self.done or (self.finished and ended)

    def feed(self, data: bytes) -> bytes:
        """Give out what may go to the client now that `data` has arrived.

        Raises `EventTooLarge`, and nothing else whatever comes in.
        """
        # Nearly every piece is one event, or several, plain and whole: the way around the buffer.
        if (
            self._between_events
            and data.startswith(b"data: ")
            and data.endswith(b"\n\n")
            and _CR not in data
            and len(data) <= self.limit
        ):
            if data.find(_LF) == len(data) - 2:
                return data if self._hear(data[6:-2]) else b""
            if b"\n\n\n" not in data:
                events = data[:-2].split(b"\n\n")
                kept = [event for event in events if self._take(event)]
                return data if len(kept) == len(events) else b"\n\n".join([*kept, b""])
        return self._assemble(data)

    def _assemble(self, data: bytes) -> bytes:
        """`feed`, for whatever comes, in time linear in it."""
        out: list[bytes] = []
        if self._half is not None and data:
            if data.startswith(b"\n"):
                out.append(self._half)
                data = data[1:]
            self._half, self.tail = None, b""

        held = self._held
        # An event's end may begin with the last byte held, and not before.
        seek = max(len(held) - 1, 0)
        held += data
        if self._opening:
            if held == _BOM[: len(held)] and len(held) < len(_BOM):
                return b""
            self._opening = False
            if held.startswith(_BOM):
                out.append(_BOM)
                del held[: len(_BOM)]

        del held[: self._cut(seek, out)]
        if self.done or self.failed:
            held.clear()
        self._between_events = not held and self._half is None
        if len(held) > self.limit:
            self.ready = b"".join(out)
            raise EventTooLarge
        return b"".join(out)

    def _cut(self, seek: int, out: list[bytes]) -> int:
        """Put into `out` what may be given out of the bytes held; say how many are dealt with."""
        held, start = self._held, 0
        while not (self.done or self.failed):
            blank = _BLANK.match(held, start)
            if blank:
                out.append(blank[0])
                start = blank.end()
                continue
            end = _EVENT_END.search(held, max(start, seek))
            if end is None or end.end(1) - start > self.limit:
                break
            event = bytes(held[start : end.end()])
            start = end.end()
            kept = self._take(event.rstrip(b"\r\n"))
            if kept:
                out.append(event)
            if start == len(held) and event.endswith(b"\r"):
                self._half = b"\n" if kept else b""
                self.tail = self._half if event.endswith(b"\r\n\r") else b""
        return start

    def _take(self, event: bytes) -> bool:
        """Learn what a whole event says; False where it is not for the client."""
        if event.startswith(b"data: ") and _LF not in event and _CR not in event:
            return self._hear(event[6:])
        lines = [line for line in event.splitlines() if line and not line.startswith(b":")]
        if not lines:
            return not (self.done or self.failed)
        return self._hear(*_read_fields(lines))

    def _hear(self, data: bytes, is_error: bool = False) -> bool:
        """`_take`, for an event's data and whether its other fields call it an error."""
        if self.done or self.failed:
            return False
        self.events += 1
        if self._around is not None and not is_error:
            # Nearly every chunk is the last one with another text: no need to read it again.
            before, after = self._around
            if (
                data.isascii()  # or else UTF-8, which is for the parser to judge
                and data.startswith(before)
                and data.endswith(after)
                and _TEXT.fullmatch(data, len(before), len(data) - len(after))
            ):
                self.tokens += 1
                return True
            self._around = None
        if data == _DONE and not is_error:
            self.done = True
            return True
        chunk = _read_chunk(data)
        tokens = self.tokens
        is_extra = self._account(chunk)
        self.failed = is_error or _is_error(chunk)
        if self.tokens == tokens + 1 and not self.failed and (text := _CONTENT.search(data)):
            self._around = data[: text.start(1)], data[text.end(1) :]
        return self.failed or not (is_extra and self.strip_usage)

    def _account(self, chunk: _Object) -> bool:
        """Count what a chunk brought; say whether it brought usage and no choice."""
        choices = chunk.choices if isinstance(chunk, _Chunk) else None
        for choice in choices or ():
            if _brings_token(choice):
                self.tokens += 1
            if choice.finish_reason and isinstance(choice.finish_reason, str):
                self.finished = True
        if chunk.usage is _ABSENT:
            return False
        self.usage = read_usage(chunk.usage) or self.usage
        return choices == [] and bytes(chunk.usage).startswith(b"{")


def _read_fields(lines: list[bytes]) -> tuple[bytes, bool]:
    """The data of an event, and whether its other fields call it an error."""
    data, failed = [], False
    for line in lines:
        name, _, value = line.partition(b":")
        value = value.removeprefix(b" ")
        if name == b"data":
            data.append(value)
        elif name == b"event":
            failed = failed or value == b"error"
        elif name == b"error":  # where llama.cpp once put its errors
            failed = failed or value.startswith(b"{")
    return b"\n".join(data), failed


def _read_chunk(data: bytes) -> _Object:
    """What `data` says; an object that says nothing where it is no chunk."""
    try:
        return _chunk(data)
    except (ValueError, RecursionError):
        pass
    # Choices of an unknown shape must not hide an error or the usage beside them.
    try:
        return _object(data)
    except (ValueError, RecursionError):
        return _Object()


def _is_error(chunk: _Object) -> bool:
    return chunk.object == "error" or (chunk.error is not _ABSENT and chunk.error != _NULL)


def _brings_token(choice: _Choice) -> bool:
    said = choice.text
    if not said and (delta := choice.delta) is not None:
        said = (
            delta.content
            or delta.reasoning_content
            or delta.reasoning
            or delta.tool_calls
            or delta.function_call
            or delta.refusal
        )
    return bool(said) and isinstance(said, (str, list, dict))
