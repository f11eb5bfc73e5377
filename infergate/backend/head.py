"""A response's head: what it says, and the head that a backend sends again and again.

A line that is not to the grammar of RFC 9112 breaks it, and one that says in two ways how its body
is framed is the last of its connection. What servers are known to do besides is taken: a bare LF
ends a line, a reason phrase may be missing, a value may hold any byte.

A backend begins each response of a connection with the same bytes, but for the digits of its
length. Such a head is judged the first time only: see `LastHead`.
"""

from __future__ import annotations

import re
from typing import Final

from msgspec import Struct
from msgspec.structs import replace

MAX_REPEATED: Final = 4096
"""Bytes of a head that is kept for as long as its connection is."""

MAX_DIGITS: Final = 18
"""Digits of a length; no more fit into 63 bits."""

# RFC 9112, 4
_STATUS_LINE = re.compile(rb"HTTP/1\.([0-9]) ([0-9]{3})(?: ([^\r\n]*))?\r?\n")
# RFC 9110, 5.6.2
_TOKEN = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
# RFC 9110, 8.6
_LENGTH = re.compile(rb"[0-9]{1,%d}" % MAX_DIGITS)
# The one line of a head that differs where the next one is the same.
_LENGTH_LINE = re.compile(rb"(?i:\ncontent-length:)[ \t]*([0-9]{1,%d})[ \t]*\r?\n" % MAX_DIGITS)

_BODILESS = frozenset((204, 304))
"""Statuses whose responses never have a body (RFC 9112, 6.3)."""

_Fields = dict[bytes, list[bytes]]


class Broken(ValueError):
    """What came is no response; says why, in words that quote nothing of it. Raised by `parse_head`
    and within the `Reader`, whose `fault` it becomes; of that the connection makes one for
    `ResponseFailed`."""


class Head(Struct, frozen=True):
    """A response's head: the names of its `fields` in lower case, with their values in order, but
    for ``Content-Length``.

    The body is in chunks where `chunked`, else of `length` bytes, else (None) it ends where the
    connection does. `keep_alive`: the connection may be used again (RFC 9112, 9.3). `coded`: the
    body is compressed or the like. `media_type` is what it is declared to be, in lower case and
    without parameters, such as ``application/json``; ``b""`` where nothing is declared.
    """

    minor: int
    status: int
    reason: bytes
    fields: _Fields
    chunked: bool
    length: int | None
    keep_alive: bool
    coded: bool
    media_type: bytes


def parse_head(lines: bytes) -> Head:
    """Return the head of a response out of all of its lines, the empty one included; raises
    `Broken`.

    ``b"HTTP/1.1 200 OK\\r\\nContent-Length: 2\\r\\n\\r\\n"`` is a head of status 200 and length 2.
    Called by `Reader` for each response and each interim one before it, but for those whose head is
    the last one again.
    """
    line = _STATUS_LINE.match(lines)
    if line is None:
        raise Broken("its status line is malformed")
    minor, status = int(line[1]), int(line[2])
    fields: _Fields = {}
    for field in lines[line.end() :].split(b"\n")[:-2]:
        name, colon, value = field.partition(b":")
        # RFC 9112, 5 and 5.2: no whitespace before the colon, and no folded lines.
        if not colon or not _TOKEN.fullmatch(name):
            raise Broken("a field of its head is malformed")
        fields.setdefault(name.lower(), []).append(value.strip(b" \t\r"))
    bodiless = status in _BODILESS
    chunked = not bodiless and _chunked(fields)
    length = 0 if bodiless else None if chunked else _length(fields)
    keep_alive = _keep_alive(minor, fields, bodiless=bodiless)
    fields.pop(b"content-length", None)
    codings = b",".join(fields.get(b"content-encoding", ())).strip().lower()
    coded = codings not in (b"", b"identity")
    media_type = fields.get(b"content-type", [b""])[0].partition(b";")[0].strip().lower()
    reason = line[3] or b""
    return Head(minor, status, reason, fields, chunked, length, keep_alive, coded, media_type)


def _chunked(fields: _Fields) -> bool:
    """Return whether the body is in chunks; raises `Broken` for any other coding, since none was
    asked for. For `parse_head`."""
    codings = fields.get(b"transfer-encoding")
    if codings is None:
        return False
    if [coding.lower() for coding in codings] != [b"chunked"]:
        raise Broken("its transfer coding is not implemented")
    return True


def _length(fields: _Fields) -> int | None:
    """Return the declared length in bytes, None where there is none; raises `Broken` for one that
    makes no sense. For `parse_head`."""
    values = fields.get(b"content-length")
    if values is None:
        return None
    # RFC 9110, 8.6: the same length again, in one field or several, may be taken for one.
    lengths = {value.strip(b" \t") for value in b",".join(values).split(b",")}
    length = lengths.pop()
    if lengths or not _LENGTH.fullmatch(length):
        raise Broken("its length is malformed")
    return int(length)


def _keep_alive(minor: int, fields: _Fields, *, bodiless: bool) -> bool:
    """Return whether the connection may be used again after this response; `bodiless` where its
    status says that it has no body. For `parse_head`."""
    coded, sized = b"transfer-encoding" in fields, b"content-length" in fields
    # Chunks beside a length, or from HTTP/1.0, are how responses are smuggled (RFC 9112, 6.1);
    # and nobody knows what follows a response that announces a body it may not have.
    if (coded and (sized or not minor)) or (bodiless and (coded or sized)):
        return False
    if minor and b"connection" not in fields:
        return True
    values = b",".join(fields.get(b"connection", ()))
    options = [option.strip().lower() for option in values.split(b",")]
    return b"close" not in options and (minor > 0 or b"keep-alive" in options)


class LastHead:
    """The head of a connection's last response, with which the next one most likely begins too.

    What is the same byte for byte, but for the digits of its length, would be judged the same: so
    it is not judged again, and shares all but the length with the last one. A connection makes one
    of these for all of its readers, which call `again` with what they read first, and `keep` with
    each head that they judge.
    """

    __slots__ = ("_after", "_before", "_head")

    def __init__(self) -> None:
        """Begin with no head."""
        self._head: Head | None = None
        # Its bytes up to the digits of its length, and those behind them; all and none where it
        # has no length.
        self._before = self._after = b""

    def again(self, data: bytes) -> tuple[Head, bytes] | None:
        """Return the head with which `data` begins, and the bytes behind it, where that is the last
        head again; None where it is another, or not whole. Called by `Reader`."""
        head, start = self._head, len(self._before)
        if head is None or not data.startswith(self._before):
            return None
        if head.length is None:
            return head, data[start:]
        after = self._after
        end = data.find(after, start, start + MAX_DIGITS + len(after))
        digits = data[start:end]
        if end < 0 or not digits.isdigit():
            return None
        return replace(head, length=int(digits)), data[end + len(after) :]

    def keep(self, lines: bytes, head: Head) -> None:
        """Keep `head`, which all these `lines` are. One that is large, or the last of its
        connection, is not kept, nor one whose length stands there twice. Called by `Reader`."""
        self._head = None
        if len(lines) > MAX_REPEATED or not head.keep_alive:
            return
        if head.length is None:
            self._head, self._before = head, lines
        elif lines.lower().count(b"content-length") == 1 and (line := _LENGTH_LINE.search(lines)):
            self._head = head
            self._before, self._after = lines[: line.start(1)], lines[line.end(1) :]
