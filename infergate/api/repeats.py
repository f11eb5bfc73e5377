"""A short cut for streams: nearly every event is the one before it with another text."""

from __future__ import annotations

import re

import attrs

_TEXT = re.compile(rb'[^"\\\x00-\x1f]+')
# A longer number is for the parser, and so is one with a needless 0, which is no JSON.
_DIGITS = re.compile(rb"0|[1-9][0-9]{0,14}")
_NUMBER = re.compile(rb'"sequence_number": ?([0-9]+)')


@attrs.define(eq=False)
class Repeats:
    """Tells whether an event differs from the last one that was learnt in its text alone, or in its
    text and its ``sequence_number``.

    `member` is a pattern for the name of the member in which the text stands. In valid JSON a quote
    that no backslash precedes ends a string, so with ``delta`` this finds ``"delta":"word"`` in
    ``{"type":"response.output_text.delta","delta":"word"}``: nothing is escaped in the text, and it
    can neither begin nor end anywhere else. The same goes for the number, whose name can be nothing
    but a name. Of ``{"delta":"word","sequence_number":7}`` this keeps what stands before both,
    ``{"delta":"``, between them, ``","sequence_number":``, and after them, ``}``.
    """

    member: bytes

    _before: bytes | None = attrs.field(default=None, init=False)
    _between: bytes | None = attrs.field(default=None, init=False)
    _after: bytes = attrs.field(default=b"", init=False)
    # The bytes before and after what may differ.
    _start: int = attrs.field(default=0, init=False)
    _tail: int = attrs.field(default=0, init=False)
    _number_first: bool = attrs.field(default=False, init=False)
    _digits: bytes = attrs.field(default=b"-1", init=False)
    _find: re.Pattern[bytes] = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self._find = re.compile(rb'"(?:%b)": ?"([^"\\\x00-\x1f]+)"' % self.member)

    @property
    def number(self) -> int:
        """The ``sequence_number`` of the last event that was the same; -1 before there was one."""
        return int(self._digits)

    def same(self, data: bytes) -> bool:
        """Whether `data` is the event that was learnt but for its text and its number."""
        before = self._before
        if (
            before is None
            or not data.startswith(before)
            or not data.endswith(self._after)
            or not data.isascii()  # or else UTF-8, which is for the parser to judge
        ):
            return False
        start, end, between = self._start, len(data) - self._tail, self._between
        if between is None:
            return _TEXT.fullmatch(data, start, end) is not None
        # Neither a number nor such a text can hold what stands between them.
        at = data.find(between, start, end)
        if at < 0:
            return False
        if self._number_first:
            number, start = data[start:at], at + len(between)
        else:
            number, end = data[at + len(between) : end], at
        if _DIGITS.fullmatch(number) is None or _TEXT.fullmatch(data, start, end) is None:
            return False
        self._digits = number
        return True

    def learn(self, data: bytes, *, numbered: bool = False) -> None:
        """Take `data` for the one that others are compared with; `numbered` says that it has a
        ``sequence_number``."""
        text = self._find.search(data)
        number = _NUMBER.search(data) if numbered else None
        self._before = self._between = None
        if text is None or (numbered and number is None):
            return
        holes = sorted(found.span(1) for found in (text, number) if found is not None)
        self._before, self._after = data[: holes[0][0]], data[holes[-1][1] :]
        self._start, self._tail = len(self._before), len(self._after)
        if number is not None:
            self._between = data[holes[0][1] : holes[1][0]]
            self._number_first = number.start(1) < text.start(1)

    def forget(self) -> None:
        self._before = None
