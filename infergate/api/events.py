"""The events of a stream: whole ones go on, and a reader says what they mean.

Bytes in, bytes and facts out: a `Scanner` passes on whole events the moment they are whole and
holds back what is not, so that whatever the gateway adds stands between two events. It changes no
byte. What an event says is for a `Reader` to tell, one for each kind of stream.

The grammar is that of the HTML standard, section 9.2.6, "Interpreting an event stream". An event is
some lines and the empty line that ends it:

    event: message_stop
    data: {"type":"message_stop"}

A line ends in LF, CR or CRLF; one that begins with a colon is a comment, and backends send such to
keep a connection alive.

A function here whose docstring names no error raises none, however the bytes are cut and whatever
they say.
"""

from __future__ import annotations

import re
from enum import Enum, auto
from typing import Protocol

from msgspec import Struct, field

from infergate.api.repeats import Repeats
from infergate.api.screening import fit_to_show
from infergate.api.usage import Usage

MAX_OPENING = 64
"""Bytes at the beginning of a body by which an event stream is told from anything else."""

LOOKS = 4
"""Times in a read that the rest of it is looked at for events that repeat: a look may be in vain,
and takes as long as the rest is."""

_CR, _LF = b"\r\n"
_BOM = b"\xef\xbb\xbf"
# A line's end, then an empty line. The lookahead keeps a CRLF from being read as two ends.
_EVENT_END = re.compile(rb"(\r\n|\n|\r(?!\n))(?:\r\n?|\n)")
_BLANK = re.compile(rb"[\r\n]+")
# Where all lines end in LF: an event, or empty lines.
_PART = re.compile(rb"(?:[^\n]+\n)+\n|\n+")

_DONE = b"[DONE]"
# OpenAI's SDKs take for an end whatever begins so, others what is so but for blanks around.
_MAY_BE_DONE = re.compile(rb"[ \t\r\n]*\[DONE\]")


_USUAL_BEGINNINGS = (b"data: ", b"event: ")

# A comment or one of the fields of the grammar, after what may stand before the first of them.
_BEGINS = re.compile(rb"(?:\xef\xbb\xbf)?[\r\n]*(?::|(?:data|event|id|retry)[:\r\n])")
_MAY_BEGIN = re.compile(
    rb"(?:\xef?|\xef\xbb|(?:\xef\xbb\xbf)?[\r\n]*"
    rb"(?:d|da|dat|data|e|ev|eve|even|event|i|id|r|re|ret|retr|retry)?)"
)


def begins_as_events(data: bytes) -> bool | None:
    """Return whether a body that begins with `data` is an event stream, whatever its media type
    says; None where that cannot be told yet, which `MAX_OPENING` bytes always settle. No JSON
    begins as one. Called by the relay for a body that is not declared to be a stream, with all that
    has come of it, and by ``infergate check``. Raises nothing."""
    if _BEGINS.match(data):
        return True
    return None if len(data) < MAX_OPENING and _MAY_BEGIN.fullmatch(data) else False


class EventTooLarge(Exception):
    """One event of the stream is larger than the limit. Raised by `Scanner.feed` alone; the relay
    makes an error for the client of it."""


class Verdict(Enum):
    """What becomes of an event."""

    PASS = auto()
    """It is for the client."""
    DROP = auto()
    """It is not: the client did not ask for it."""
    FAIL = auto()
    """It is an error of the backend's own, and the last event that counts."""
    DELTA = auto()
    """It is for the client, and all that the reader did was to count one token. It would do the
    same, at any time, with the same event that has another text in it."""


PASS, DROP, FAIL, DELTA = Verdict


class Reader(Protocol):
    """Learns from the events of one stream. A `Scanner` calls `hear` with each event, in order, and
    never after the stream's end or an error; the properties may be asked at any time."""

    repeats: Repeats
    """By this the scanner knows a delta that repeats, which it does not hand over."""
    tokens: int
    """Events, or deltas in them, that brought something of the answer. The scanner counts those
    that repeat."""
    model: str | None
    """The model that the stream names, once it has."""

    def hear(self, data: bytes, name: bytes) -> Verdict:
        """Learn what an event says, and return what becomes of it. Takes its data, its lines joined
        by line feeds, and its type, which is ``b""`` for one that names none. Raises nothing."""

    @property
    def finished(self) -> bool:
        """Whether the answer is whole, so that a stream that ends here ends well."""

    @property
    def done_is_an_end(self) -> bool:
        """Whether ``[DONE]`` would end the stream well."""

    @property
    def end_is_certain(self) -> bool:
        """Whether `finished` is said by an event of its own, after which nothing can be missing:
        the body need not end properly, and its end need not be waited for."""

    def usage(self, prompt_estimate: int) -> Usage:
        """Return the backend's counts; where it gave none, what was counted here, the prompt's
        tokens being `prompt_estimate`. Called by the relay when the stream is over, also where it
        was cut."""


class Scanner(Struct, eq=False):
    """One stream of events, from its first byte to its last.

    `Relay` calls `feed` with the bytes of each read of the body and writes what it gives out; after
    the last one `complete` says whether the stream was whole. ``infergate check`` reads a stream in
    the same way. `limit` is the size in bytes, up to the empty line that ends it, of the largest
    event let through. Only bytes of an event that is not whole are kept, no more than `limit` of
    them once `feed` has returned.
    """

    limit: int
    reader: Reader

    heard: int = 0
    """Whole events that were taken apart: those that repeat are not among them, and a block of
    comments is none."""
    done: bool = False
    """``data: [DONE]`` was given out. Nothing comes after it."""
    ended: bool = False
    """The backend said ``[DONE]``, in this or another spelling that some client takes for it. Only
    the exact one is given out, and nothing after any."""
    error: bytes | None = None
    """The data of the event in which the backend reported an error. Nothing is given out after
    it, ``[DONE]`` neither."""
    over: bool = False
    """Nothing that still comes is given out: the backend said ``[DONE]``, or reported an error."""
    error_shown: bool = False
    """That event was given out: it is fit to be shown."""
    ready: bytes = b""
    """After `EventTooLarge`: the whole events that stood before the fault in the same piece."""

    tail: bytes = b""
    """Of the CRLF that ended the last event, the half that has not come yet; for those who read no
    further."""

    _held: bytearray = field(default_factory=bytearray)
    _opening: bool = True
    # Between the two halves of a CRLF that ends an event: what to give out for the second.
    _half: bytes | None = None
    _between_events: bool = False

    @property
    def certain(self) -> bool:
        """Whether the event that ends the answer has come, and no error after it; always False for
        streams whose end no event of its own says (`Reader.end_is_certain`). Asked by the relay
        where reading the body failed: an answer that is whole is none the worse for it."""
        return self.error is None and self.reader.end_is_certain and self.reader.finished

    @property
    def pending(self) -> int:
        """Bytes held of an event that is not whole yet. Asked by the tests alone."""
        return len(self._held)

    def complete(self, *, framed: bool = True) -> bool:
        """Return whether a body that ends here is a success: the answer is whole, and nothing that
        came after it was cut short. A body that is not `framed` ends where its connection does,
        which may be anywhere: of that one only an event that says so is the end. Called once the
        body has ended, by the relay and by ``infergate check``. Raises nothing."""
        if self.error is not None:
            return False
        if self.certain:
            return True
        if self.ended:
            return self.reader.done_is_an_end
        rest = bytes(self._held).strip()
        # At the end of a body ``data: [DONE]`` will do: its empty line is often forgotten.
        at_an_end = _is_done(*_read_fields(rest.splitlines())) if rest else framed
        return at_an_end and self.reader.finished

    def feed(self, data: bytes) -> bytes:
        """Take the next bytes of the body, and return what may go to the client now: whole events
        and what stands between them, ``b""`` where nothing is whole yet or all of it is to be
        dropped. Called with the bytes of each read, however they are cut.

        Raises `EventTooLarge`, and nothing else whatever comes in; `ready` then holds what was
        whole before the fault.
        """
        if self._between_events or self._begins_as_usual(data):
            # Nearly every read is one event, or several, each whole. These need not be held.
            out = self._pass_whole(data)
            if out is not None:
                return out
        return self._assemble(data)

    def _begins_as_usual(self, data: bytes) -> bool:
        """Return whether `data` are the first bytes of the stream, and no byte order mark: then
        they are like those of any other read. Asked by `feed`."""
        if self._opening and not self._held and data.startswith(_USUAL_BEGINNINGS):
            self._opening, self._between_events = False, True
            return True
        return False

    def _pass_whole(self, events: bytes) -> bytes | None:
        """Return what goes on of nothing but whole events, the lines of which end in line feeds
        alone; None where they may be anything else, and nothing has been learnt of them. The short
        way of `feed`, and of `_cut` for the events that are whole: nearly every read of a stream
        ends here, most as an event like the one before it (see `repeats`)."""
        if len(events) > self.limit:
            return None
        reader = self.reader
        if count := reader.repeats.count(events):
            # Most reads of most streams end here.
            reader.tokens += count
            return events
        data = _data_alone(events)
        if data is not None:
            return events if self._hear(data, b"", events) else b""
        if not events.endswith(b"\n\n") or _CR in events or events[0] == _LF:
            return None
        return self._pass_each(events)

    def _pass_each(self, events: bytes) -> bytes:
        """Return what goes on of whole events of different kinds, whose lines end in line feeds
        alone. Behind the first event of a stream, or before its last ones, most often stand many
        that repeat: these are counted all at once, and all others are taken apart. For
        `_pass_whole`."""
        repeats = self.reader.repeats
        out: list[bytes] = []
        at = 0
        for _ in range(LOOKS):
            end = repeats.last_end(events, at)
            if count := repeats.count(run := events[at:end]):
                self.reader.tokens += count
                out.append(run)
                at = end
                break
            part = _PART.match(events, at)
            if part is None:
                break
            at = part.end()
            if self._take(part[0]):
                out.append(part[0])
            if self.over:
                break
        out += filter(self._take, _PART.findall(events, at))
        return b"".join(out)

    def _assemble(self, data: bytes) -> bytes:
        """Return the same as `feed`, for whatever comes, in time linear in it: bytes that are part
        of an event are held, and those that make events whole are looked at from where the search
        for an end left off. Raises `EventTooLarge`."""
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
        if self.over:
            held.clear()
        # Of a stream that is over nothing more is taken.
        self._between_events = not held and self._half is None and not self.over
        if len(held) > self.limit:
            self.ready = b"".join(out)
            raise EventTooLarge
        return b"".join(out)

    def _cut(self, seek: int, out: list[bytes]) -> int:
        """Append to `out` what may be given out of the bytes held, and return how many of these are
        dealt with, for `_assemble` to drop. `seek` is the place before which no event ends. Called
        by `_assemble`."""
        held, start = self._held, 0
        whole = b"" if self.over else bytes(held[: held.rfind(b"\n\n", seek) + 2])
        passed = self._pass_whole(whole) if len(whole) > 1 else None
        if passed is not None:
            out.append(passed)
            start = len(whole)
        while not self.over:
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
            kept = self._take(event)
            if kept:
                out.append(event)
            if start == len(held) and event.endswith(b"\r"):
                self._half = b"\n" if kept else b""
                self.tail = self._half if event.endswith(b"\r\n\r") else b""
        return start

    def _take(self, event: bytes) -> bool:
        """Learn what a whole event says, its empty line included; return whether it is for the
        client. The two forms in which nearly all backends send are told by how they begin, one line
        of data, or a line with the type before it; any other is read field by field. A block of
        comments is for the client, and no event. Called for each event that `_pass_whole` or `_cut`
        has taken out of the stream."""
        if self.over:
            return False
        reader = self.reader
        if reader.repeats.count(event):
            reader.tokens += 1
            return True
        data = _data_alone(event)
        if data is not None:
            return self._hear(data, b"", event)
        lines = [line for line in event.splitlines() if line]
        if len(lines) == 2 and event.startswith(b"event: ") and lines[1].startswith(b"data: "):
            return self._hear(lines[1][6:], lines[0][7:], event)
        lines = [line for line in lines if not line.startswith(b":")]
        return self._hear(*_read_fields(lines), event) if lines else True

    def _hear(self, data: bytes, name: bytes, event: bytes) -> bool:
        """Note an event, and learn what it says by its data and its type; return whether it is for
        the client. `event` is the text of it, for `repeats` to compare with those to come.
        ``[DONE]`` ends the stream, and is given out where it is spelled just so and the reader's
        `done_is_an_end` says that it ends the stream well. Called for each event that is not
        counted as a repeat."""
        self.heard += 1
        if data[:1] != b"{" and _is_done(data, name):
            self.ended = True
            self._end()
            # Behind an answer that is not whole it would make one of half an answer.
            self.done = data == _DONE and self.reader.done_is_an_end
            return self.done
        verdict = self.reader.hear(data, name)
        # A CR at the end may be the first half of a CRLF.
        if verdict is DELTA and not event.endswith(b"\r"):
            self.reader.repeats.learn(event)
        return verdict in (PASS, DELTA) or self._is_shown(data, verdict)

    def _is_shown(self, data: bytes, verdict: Verdict) -> bool:
        """Return whether an event that is not simply passed on is given out: an error is, if it is
        fit to be shown, and it ends the stream here; one that the client did not ask for is not.
        Called by `_hear` for `DROP` and `FAIL`."""
        if verdict is FAIL:
            self.error = data
            self._end()
            self.error_shown = fit_to_show(data)
            return self.error_shown
        return False

    def _end(self) -> None:
        """Take nothing more of this stream. Called by `_hear` and `_is_shown`, once ``[DONE]`` or
        an error has come; what still comes is thrown away."""
        # Whatever still comes goes the long way, on which it is thrown away.
        self.over, self._between_events = True, False


def _data_alone(event: bytes) -> bytes | None:
    """Return the data of one event that is of one line, as nearly all are; None for anything else:
    of ``data: {...}`` and two line feeds that is ``{...}``. An event whose line end is not LF is
    anything else. Called for each event that is no repeat, before anything else is tried."""
    last = len(event) - 2
    if event.startswith(b"data: ") and event.find(_LF) == last and event[-1] == _LF:
        return event[6:last] if _CR not in event else None
    return None


def _is_done(data: bytes, name: bytes) -> bool:
    """Return whether some client takes an event of this data and type for the stream's end, as it
    takes ``data: [DONE]``. Called by the `Scanner` for data that is no object, and for what a body
    ends with."""
    return name != b"error" and _MAY_BE_DONE.match(data) is not None


def _read_fields(lines: list[bytes]) -> tuple[bytes, bytes]:
    """Return the data of an event, its lines joined by line feeds, and its type, ``b""`` where it
    names none. `lines` are those of the event without its line ends; fields of other names are
    ignored, as the standard says, but for the ``error: {...}`` in which llama.cpp once put its
    errors, whose type is ``error``; that type, once said, stays. Called by the `Scanner` for an
    event of an unusual form, and for what a body ends with."""
    data, event_type = [], b""
    for line in lines:
        name, _, value = line.partition(b":")
        value = value.removeprefix(b" ")
        if name == b"data":
            data.append(value)
        elif name == b"event":
            event_type = value if event_type != b"error" else event_type
        elif name == b"error" and value.startswith(b"{"):
            event_type = b"error"
    return b"\n".join(data), event_type
