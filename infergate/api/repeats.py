"""A short cut for streams: nearly every event is the one before it with another text.

Most events of a stream differ in one word and in nothing else. That can be told from the bytes
around the word, without parsing the event, so the `Scanner` (module `events`) counts an event that
repeats here, and hands only the others to the `Reader` of its dialect.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from io import BytesIO
from operator import itemgetter

import msgspec
from msgspec import Struct

_ZERO = b"0"[0]

MAX_DIGITS = 15
"""Digits of a number that is not left to the parser."""

_string = msgspec.json.Decoder(str).decode
_NUMBER = re.compile(rb'"sequence_number": ?([0-9]+)')


def text_of(members: bytes) -> re.Pattern[bytes]:
    """Return a pattern that finds the text of a delta in an event: a string in which nothing is
    escaped, of a member whose name is one of `members`, separated by ``|``. The text is group 1.

    The modules that read streams call it once, when they are imported. In valid JSON a quote that
    no backslash precedes ends a string, so with ``delta`` this finds ``"delta":"word"`` in
    ``{"type":"response.output_text.delta","delta":"word"}``, and the text can neither begin nor end
    anywhere else.
    """
    return re.compile(rb'"(?:%b)": ?"([^"\\\x00-\x1f]+)"' % members)


class Repeats(Struct, eq=False):
    """Tells events that differ from the last one that was learnt in their text alone, or in their
    text and their ``sequence_number``.

    A `Reader` makes one for its stream, with what finds the text (`text_of`). Its `Scanner` calls
    `learn` with a whole event, from its first line to its empty one, of which the reader says that
    all of its kind do the same; and `count` with all that comes before it takes that apart.

    Of ``data: {"delta":"word","sequence_number":7}`` this keeps what stands before both,
    ``data: {"delta":"``, between them, ``,"sequence_number":``, and after them, ``}`` and the line
    ends. The name of the number can be nothing but a name, as that of the text.
    """

    text: re.Pattern[bytes]
    numbered: bool = False
    """Whether the event to be learnt has a ``sequence_number``. The reader says so."""

    _before: bytes = b""
    _after: bytes = b""
    # The bytes of both; less than none before anything is learnt.
    _around: int = -1
    # Empty where only the text may differ.
    _between: bytes = b""
    _number_first: bool = False
    # The highest number so far.
    _digits: bytes = b""
    # Of several events: the lines that hold a text, what takes it out of such a line, and all that
    # stands between two texts.
    _lines: slice = slice(0)
    _cut_out: Callable[[bytes], bytes] = bytes
    _apart: bytes = b""

    @property
    def number(self) -> int:
        """The highest ``sequence_number`` of an event that was counted; -1 before there was one.
        The reader of a stream of responses asks for it."""
        return int(self._digits or b"-1")

    def count(self, events: bytes) -> int:
        """Return how many events these are, where each is the one that was learnt but for its text;
        0 where anything else is among them, or where several have numbers that differ too.

        `events` are whole, each with its empty line; the `Scanner` calls this with one event or
        with all that came at once. Nothing but the texts is read as JSON, and nothing is raised:
        what is not surely a repetition is 0, and is then taken apart as any event.
        """
        inner = events.removeprefix(self._before).removesuffix(self._after)
        if len(inner) + self._around != len(events):
            return 0
        said, repeated, digits = inner, 1, b""
        if self._between:
            # A quote ends such a text, and no number holds one.
            if self._number_first:
                rest, _, said = inner.rpartition(b'"')
                digits = rest.removesuffix(self._between)
            else:
                said, _, rest = inner.partition(b'"')
                digits = rest.removeprefix(self._between)
            # No number in JSON begins with a needless 0.
            if not digits.isdigit() or len(digits) > MAX_DIGITS or digits[0] == _ZERO:
                return 0
        elif len(inner) > self._around:
            # Several: their texts with what stands between two are all of it, or they are no such
            # events.
            texts = [*map(self._cut_out, [*BytesIO(events)][self._lines])]
            if self._apart.join(texts) != inner or not all(texts):
                return 0
            said, repeated = b" ".join(texts), len(texts)
        if not said:
            return 0
        try:
            # Between two quotes they are one string, whatever is escaped in it: none of them holds
            # a quote of its own, or ends within a character.
            _string(b'"%b"' % said)
        except ValueError:
            return 0
        # Numbers without needless zeros: the longer one is the higher.
        if digits and (len(digits), digits) > (len(self._digits), self._digits):
            self._digits = digits
        return repeated

    def last_end(self, events: bytes, start: int) -> int:
        """Return where the last of `events` ends that may be a repeat, of those from `start` on; 0
        where none can be. Called by the `Scanner`, which then asks `count` for all up to there."""
        if self._around < 0:
            return 0
        found = events.rfind(self._after, start)
        return 0 if found < 0 else found + len(self._after)

    def learn(self, event: bytes) -> None:
        """Take `event` for the one that others are compared with, where its text is found; else
        keep the one that was learnt before.

        Called by the `Scanner` where the reader said `DELTA`. An event that has nothing but an
        escaped text of its own teaches nothing new.
        """
        if self._around >= 0 and event.startswith(self._before) and event.endswith(self._after):
            return
        text = self.text.search(event)
        number = _NUMBER.search(event) if self.numbered else None
        if text is None:
            return
        first, last = text, text
        self._between = b""
        if number is not None:
            self._number_first = number.start() < text.start()
            first, last = (number, text) if self._number_first else (text, number)
            # Without the quote that ends the text, or begins it.
            self._between = event[first.end(1) : last.start(1)].strip(b'"')
        self._before, self._after = before, after = event[: first.start(1)], event[last.end(1) :]
        self._around = len(before) + len(after)
        self._apart = after + before
        self._lines = slice(before.count(b"\n"), None, len(BytesIO(event).readlines()))
        start, behind = len(before) - before.rfind(b"\n") - 1, after.find(b"\n") + 1
        self._cut_out = itemgetter(slice(start, -behind))
