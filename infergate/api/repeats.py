"""A short cut for streams: nearly every event is the one before it with another text."""

from __future__ import annotations

import re

import attrs

MAX_DIGITS = 15
"""Digits of a number that is not left to the parser."""

_NUMBER = re.compile(rb'"sequence_number": ?([0-9]+)')


def text_of(members: bytes) -> re.Pattern[bytes]:
    """Finds the text of a delta in an event: a string in which nothing is escaped, of a member
    whose name is one of `members`, separated by ``|``.

    In valid JSON a quote that no backslash precedes ends a string, so with ``delta`` this finds
    ``"delta":"word"`` in ``{"type":"response.output_text.delta","delta":"word"}``, and the text can
    neither begin nor end anywhere else.
    """
    return re.compile(rb'"(?:%b)": ?"([^"\\\x00-\x1f]+)"' % members)


@attrs.define(eq=False)
class Repeats:
    """Tells whether an event differs from the last one that was learnt in its text alone, or in its
    text and its ``sequence_number``.

    A `Reader` makes one for its stream, with what finds the text (`text_of`). Its `Scanner` calls
    `learn` with a whole event, from its first line to its empty one, of which the reader says that
    all of its kind do the same; and `same` with every other before it takes that apart.

    Of ``data: {"delta":"word","sequence_number":7}`` this keeps what stands before both,
    ``data: {"delta":"``, between them, ``","sequence_number":``, and after them, ``}`` and the line
    ends. The name of the number can be nothing but a name, as that of the text.
    """

    text: re.Pattern[bytes]
    numbered: bool = False
    """Whether the event to be learnt has a ``sequence_number``. The reader says so."""

    _before: bytes = attrs.field(default=b"", init=False)
    _after: bytes = attrs.field(default=b"", init=False)
    # The bytes of both; less than none before anything is learnt.
    _around: int = attrs.field(default=-1, init=False)
    # Empty where only the text may differ.
    _between: bytes = attrs.field(default=b"", init=False)
    _number_first: bool = attrs.field(default=False, init=False)
    _digits: bytes = attrs.field(default=b"-1", init=False)

    @property
    def number(self) -> int:
        """The ``sequence_number`` of the last event that was the same; -1 before there was one."""
        return int(self._digits)

    def same(self, event: bytes) -> bool:
        """Whether `event` is the one that was learnt but for its text and its number."""
        text = event.removeprefix(self._before).removesuffix(self._after)
        if len(text) + self._around != len(event):
            return False
        digits = self._digits
        if self._between:
            # Neither a number nor such a text can hold what stands between them.
            text, _, digits = text.partition(self._between)
            if self._number_first:
                text, digits = digits, text
            needless_0 = digits[:1] == b"0" and digits != b"0"  # and so it is no JSON
            if not digits.isdigit() or needless_0 or len(digits) > MAX_DIGITS:
                return False
        try:
            said = text.decode()
        except UnicodeDecodeError:
            return False
        # What is printable holds no control character, which would have to be escaped.
        if said and said.isprintable() and '"' not in said and "\\" not in said:
            self._digits = digits
            return True
        return False

    def learn(self, event: bytes) -> None:
        """Take `event` for the one that others are compared with, where its text is found."""
        text = self.text.search(event)
        number = _NUMBER.search(event) if self.numbered else None
        if text is None:
            return
        first, last = text, text
        self._between = b""
        if number is not None:
            self._number_first = number.start() < text.start()
            first, last = (number, text) if self._number_first else (text, number)
            self._between = event[first.end(1) : last.start(1)]
        self._before, self._after = event[: first.start(1)], event[last.end(1) :]
        self._around = len(self._before) + len(self._after)
