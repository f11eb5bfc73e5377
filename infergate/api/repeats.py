"""A short cut for streams: nearly every event is the one before it with another text."""

from __future__ import annotations

import re

import attrs

_TEXT = re.compile(rb'[^"\\\x00-\x1f]+')


@attrs.define(eq=False)
class Repeats:
    """Tells whether an event differs from the last one that was learnt in its text alone.

    `member` is a pattern for the name of the member in which the text stands. In valid JSON a quote
    that no backslash precedes ends a string, so with ``delta`` this finds ``"delta":"word"`` in
    ``{"type":"response.output_text.delta","delta":"word"}``: nothing is escaped in the text, and it
    can neither begin nor end anywhere else.
    """

    member: bytes
    _before: bytes | None = attrs.field(default=None, init=False)
    _after: bytes = attrs.field(default=b"", init=False)
    _find: re.Pattern[bytes] = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self._find = re.compile(rb'"(?:%b)": ?"([^"\\\x00-\x1f]+)"' % self.member)

    def same(self, data: bytes) -> bool:
        """Whether `data` is the event that was learnt but for its text."""
        before, after = self._before, self._after
        return (
            before is not None
            and data.startswith(before)
            and data.endswith(after)
            and data.isascii()  # or else UTF-8, which is for the parser to judge
            and _TEXT.fullmatch(data, len(before), len(data) - len(after)) is not None
        )

    def learn(self, data: bytes) -> None:
        """Take `data` for the one that others are compared with."""
        text = self._find.search(data)
        self._before = None
        if text is not None:
            self._before, self._after = data[: text.start(1)], data[text.end(1) :]

    def forget(self) -> None:
        self._before = None
