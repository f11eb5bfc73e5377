"""A request's head, and the head that a client sends again and again.

On one connection nearly every head is the one before it, byte for byte but for the digits of
``Content-Length``: that is how every SDK asks. Such a repetition need not be judged anew, since
equal bytes have the same verdict, and what follows from them, such as who asks, is the same too.

Where each head differs, most often an id is new in each, in the value of one field:

    POST /v1/chat/completions HTTP/1.1      a repetition (`Kept`)      equal, but for the digits
    Authorization: Bearer sk-1234           a variation (`Pattern`)    only values differ, and not
    Content-Length: 277                                                of fields that frame it
    X-Request-ID: 3f2a

Of a variation those values are judged, and what follows from fields that are as they were
(`Head.of_fields`) is known.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias, TypeVar

from msgspec import Struct

MAX_LENGTH_DIGITS = 18
"""Digits of a Content-Length: the most that stay below 2**63 in every reader."""

MAX_KEPT = 4096
"""Bytes of a head that is kept to compare the next one with. No SDK sends as many; above it would
be memory that an idle connection holds for nothing."""

_DIGITS = re.compile(rb"[0-9]{1,%d}" % MAX_LENGTH_DIGITS)

TEXT = rb"[\t -~\x80-\xff]"
"""A character of a field's value (RFC 9110, 5.5): field-vchar, SP and HTAB; no control byte."""

_VALUE = re.compile(rb"%b*" % TEXT)

_FRAMING = frozenset({b"connection", b"expect", b"host", b"transfer-encoding"})
"""Fields by which a head is judged, with ``Content-Length``: where one differs, all is."""

T = TypeVar("T")

Fields: TypeAlias = dict[bytes, list[bytes]]
"""Names in lower case, each with its values in order, without the whitespace around them."""

Found: TypeAlias = dict[Callable[..., Any], tuple[list[Any], Any]]
"""By the function of `Head.of_fields`, the values that it was last called with, and what it
returned."""


class Head(Struct):
    """A request's head, as `Parser.next` gives it; to be read, and changed by the parser alone.

    `target` is in origin form, or ``*``. `length` is that of the body in bytes, None where it is
    chunked. `keep_alive` says whether the client lets the connection go on, `expects_continue`
    whether it waits for ``100 Continue`` before it sends its body. `found` is one for all heads of
    a connection, but for long ones.
    """

    method: bytes
    target: bytes
    version: bytes
    fields: Fields = {}
    length: int | None = 0
    keep_alive: bool = False
    expects_continue: bool = False
    found: Found = {}
    _known: dict[Callable[..., Any], Any] = {}

    def derived(self, function: Callable[[Head], T]) -> T:
        """Return ``function(self)``, which is called once for a head and all its repetitions on one
        connection; they share what it returned, which nobody changes.

        For what follows from these bytes and nothing else, such as the credentials that stand in
        them, and not for what also depends on the body or its length, on the clock, on a setting
        that a reload changes, or on whether a key is good at present. What it returns is kept as
        long as the connection is open, and so ought to be no larger than a head is.

        `function` is one of a module, not made for the call. What it raises, this raises, and keeps
        nothing. Called by the request, and by any that has a request in hand.
        """
        known: T
        try:
            known = self._known[function]
        except KeyError:
            known = self._known[function] = function(self)
        return known

    def of_fields(self, names: Sequence[bytes], function: Callable[[Fields], T]) -> T:
        """Return what `function` makes of the fields with these `names`, which are always the same
        ones: called once for as long as those stay as they are on one connection, whatever else
        differs from head to head.

        `function` is given no other field, so that it cannot depend on one. All that is said of
        `derived` holds here.
        """
        known: T
        try:
            known = self._known[function]
        except KeyError:
            values = [self.fields.get(name) for name in names]
            found = self.found.get(function)
            if found is None or found[0] != values:
                some = {name: value for name, value in zip(names, values, strict=True) if value}
                found = self.found[function] = values, function(some)
            known = self._known[function] = found[1]
        return known


class Kept(Struct):
    """A head that was accepted, to know its repetitions by. `keep` makes one, `Parser` asks it.

    `_start` is the head up to the digits of its ``Content-Length``, `_rest` what comes behind them;
    of a head without one `_start` is all of it.
    """

    _head: Head
    _start: bytes
    _rest: bytes

    def repetition(self, data: bytes, at: int) -> tuple[Head, int] | None:
        """Return the head at offset `at` of `data` and the offset of its end, where it is this one
        again; None for any other, and for one that is not whole. Raises nothing."""
        if not data.startswith(self._start, at):
            return None
        at += len(self._start)
        if not self._rest:
            return self._head, at
        digits = _DIGITS.match(data, at)
        if digits is None or not data.startswith(self._rest, digits.end()):
            return None
        return self._of_length(digits[0]), digits.end() + len(self._rest)

    def _of_length(self, digits: bytes) -> Head:
        """Return the head whose ``Content-Length`` is `digits`, and which shares all else with the
        last one; it is the last one from now on. Called by `repetition`."""
        head = self._head
        if head.fields[b"content-length"][0] != digits:
            fields = head.fields | {b"content-length": [digits]}
            head = self._head = Head(
                *(head.method, head.target, head.version, fields, int(digits), head.keep_alive),
                found=head.found,
                _known=head._known,
            )
        return head


class Pattern(Struct):
    """The last head that was accepted, to judge the next one by where only values differ, as with
    an ``X-Request-ID`` of its own. `Parser` makes one and asks it.

    `_lines` are those of the head, its request line and the two empty ones behind it included.
    """

    _head: Head
    _lines: list[bytes]

    def variation(self, raw: bytes) -> Head | None:
        """Return the head whose bytes are `raw`, where it has the lines of the last one, but for
        the values of some fields that have no part in how it is judged, and the digits of its
        ``Content-Length``; it is the last one from now on. None for any other, which may be good
        too. Raises nothing.

        A line that is as it was is as good as it was, and of one that differs all that can be at
        fault is its value.
        """
        lines = raw.split(b"\r\n")
        if len(lines) != len(self._lines) or lines[0] != self._lines[0]:
            return None
        head = self._head
        fields, length = head.fields.copy(), head.length
        for was, line in zip(self._lines, lines, strict=True):
            if line == was:
                continue
            spelt, colon, value = line.partition(b":")
            name = spelt.lower()
            # Another name, or one that is spelt in another way, is for the grammar to judge.
            if not colon or not was.startswith(spelt + colon):
                return None
            if name in _FRAMING or len(fields[name]) != 1:
                return None
            value = value.strip(b" \t")
            if not (_DIGITS if name == b"content-length" else _VALUE).fullmatch(value):
                return None
            fields[name] = [value]
            if name == b"content-length":
                length = int(value)
        self._lines = lines
        self._head = head = Head(
            *(head.method, head.target, head.version, fields, length, head.keep_alive),
            found=head.found,
        )
        return head


def keep(head: Head, raw: bytes, room: int) -> Kept | None:
    """Return what to know the repetitions of `head` by, or None where it is not worth it: no other
    head follows it on the connection, or it is longer than `MAX_KEPT`.

    `raw` are its bytes, and `head` what they were found to be; `room` is how many a head may have,
    so that a repetition with more digits has room too. Called by `Parser` with each head that it
    has accepted. Raises nothing.
    """
    if not _is_worth_it(head, raw) or len(raw) + MAX_LENGTH_DIGITS > room:
        return None
    lengths = head.fields.get(b"content-length")
    if lengths is None:
        return Kept(head, raw, b"")
    start = raw.index(lengths[0], raw.lower().index(b"\r\ncontent-length:"))
    return Kept(head, raw[:start], raw[start + len(lengths[0]) :])


def pattern(head: Head, raw: bytes) -> Pattern | None:
    """Return what to judge heads by that differ from `head` in values, or None where none is kept
    for its repetitions either. Called by `Parser` with a head that it has accepted, where the one
    before it was another. Raises nothing."""
    return Pattern(head, raw.split(b"\r\n")) if _is_worth_it(head, raw) else None


def _is_worth_it(head: Head, raw: bytes) -> bool:
    """Return whether to keep anything of a head: it is short, another one can follow on its
    connection, and it expects nothing, since whether it does depends on its length. Called by
    `keep` and `pattern`."""
    short = len(raw) + MAX_LENGTH_DIGITS <= MAX_KEPT
    return short and head.keep_alive and b"expect" not in head.fields
