"""A request's head, and the head that a client sends again and again.

On one connection nearly every head is the one before it, byte for byte but for the digits of
``Content-Length``: that is how every SDK asks. Such a repetition need not be judged anew, since
equal bytes have the same verdict, and what follows from them, such as who asks, is the same too.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, TypeVar

from msgspec import Struct

MAX_LENGTH_DIGITS = 18
"""Digits of a Content-Length: the most that stay below 2**63 in every reader."""

MAX_KEPT = 4096
"""Bytes of a head that is kept to compare the next one with. No SDK sends as many; above it would
be memory that an idle connection holds for nothing."""

_DIGITS = re.compile(rb"[0-9]{1,%d}" % MAX_LENGTH_DIGITS)

T = TypeVar("T")


class Head(Struct):
    """A request's head, as `Parser.next` gives it; to be read, and changed by the parser alone.

    `target` is in origin form, or ``*``. `fields` has names in lower case and values in order,
    without the whitespace around them. `length` is that of the body in bytes, None where it is
    chunked. `keep_alive` says whether the client lets the connection go on, `expects_continue`
    whether it waits for ``100 Continue`` before it sends its body.
    """

    method: bytes
    target: bytes
    version: bytes
    fields: dict[bytes, list[bytes]] = {}
    length: int | None = 0
    keep_alive: bool = False
    expects_continue: bool = False
    _known: dict[Callable[[Head], Any], Any] = {}

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
                _known=head._known,
            )
        return head


def keep(head: Head, raw: bytes, room: int) -> Kept | None:
    """Return what to know the repetitions of `head` by, or None where it is not worth it: no other
    head follows it on the connection, or it is longer than `MAX_KEPT`.

    `raw` are its bytes, and `head` what they were found to be; `room` is how many a head may have,
    so that a repetition with more digits has room too. One that expects ``100 Continue`` is not
    kept: whether it does depends on its length. Called by `Parser` with each head that it has
    accepted. Raises nothing.
    """
    longest = len(raw) + MAX_LENGTH_DIGITS
    if not head.keep_alive or longest > min(room, MAX_KEPT) or b"expect" in head.fields:
        return None
    lengths = head.fields.get(b"content-length")
    if lengths is None:
        return Kept(head, raw, b"")
    start = raw.index(lengths[0], raw.lower().index(b"\r\ncontent-length:"))
    return Kept(head, raw[:start], raw[start + len(lengths[0]) :])
