"""HTTP/1.1 responses out of bytes: the origin's side of what `framing` is for clients.

Bytes go into `Reader.feed`, and what they bring of the body comes out at once; there is no socket
and no clock. A response with a line of its head that is not to the grammar of RFC 9112 is broken,
and one that says in two ways how it is framed is its connection's last. What servers are known to
do besides is taken: a bare LF ends a line of the head, a reason phrase may be missing, a value may
hold any byte.
"""

from __future__ import annotations

import re
from typing import Final

from msgspec import Struct

MAX_HEAD: Final = 1 << 18
"""Bytes of a response's head with the interim ones before it."""

MAX_TRAILERS: Final = 16384
"""Bytes of the fields after a body in chunks."""

MAX_SIZE_LINE: Final = 1024
"""Bytes of the line that says how large a chunk is: its extensions have no meaning here."""

_HEAD_END = re.compile(rb"\n\r?\n")
_STATUS_LINE = re.compile(rb"HTTP/1\.([0-9]) ([0-9]{3})(?: ([^\r\n]*))?\r?\n")  # RFC 9112, 4
_TOKEN = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")  # RFC 9110, 5.6.2
_LENGTH = re.compile(rb"[0-9]{1,18}")  # RFC 9110, 8.6; and below 2**63
# RFC 9112, 7.1
_SIZE_LINE = re.compile(rb"([0-9A-Fa-f]{1,15})(?:[ \t]*;[^\r\n]*)?\r\n")

_BODILESS = frozenset((204, 304))  # RFC 9112, 6.3


class Broken(ValueError):
    """What came is no response; says why."""


class Head(Struct, frozen=True):
    """A response's head: the names of its `fields` in lower case, with their values in order."""

    minor: int
    status: int
    reason: bytes
    fields: dict[bytes, list[bytes]]

    @property
    def length(self) -> int | None:
        """Bytes of the body; None where it ends with its last chunk, or with the connection.
        Raises `Broken`."""
        if self.status in _BODILESS:
            return 0
        values = self.fields.get(b"content-length")
        if values is None or self.chunked:
            return None
        # RFC 9110, 8.6: the same length again, in one field or several, may be taken for one.
        lengths = {value.strip(b" \t") for value in b",".join(values).split(b",")}
        length = lengths.pop()
        if lengths or not _LENGTH.fullmatch(length):
            raise Broken("its length is malformed")
        return int(length)

    @property
    def chunked(self) -> bool:
        """Whether the body comes in chunks; raises `Broken` for any other transfer coding."""
        codings = self.fields.get(b"transfer-encoding")
        if codings is None or self.status in _BODILESS:
            return False
        if [coding.lower() for coding in codings] != [b"chunked"]:
            raise Broken("its transfer coding is not implemented")
        return True

    @property
    def keep_alive(self) -> bool:
        """Whether the connection outlives the response (RFC 9112, 9.3)."""
        fields = self.fields
        coded, sized = b"transfer-encoding" in fields, b"content-length" in fields
        if coded and (sized or not self.minor):  # RFC 9112, 6.1: what smuggles responses
            return False
        if self.status in _BODILESS and (coded or sized):  # and nobody knows what follows
            return False
        if self.minor and b"connection" not in fields:
            return True
        values = b",".join(fields.get(b"connection", ()))
        options = [option.strip().lower() for option in values.split(b",")]
        return b"close" not in options and (self.minor > 0 or b"keep-alive" in options)


class Reader:
    """One response. `head` is there as soon as all of it is, and with it the body's `length`, None
    where it is not known; `over` is set once nothing more can come.

    Then `fault` says what is wrong with the response, if anything is, and `excess` whether
    bytes came that are none of it.
    """

    def __init__(self) -> None:
        self.head: Head | None = None
        self.length: int | None = None
        self.started = False
        self.over = False
        self.fault: str | None = None
        self.excess = False
        self._step = Reader._read_head
        self._held = b""
        self._lines = bytearray()  # of a head that came in pieces,
        self._seen = 0  # of which these bytes have no end in them,
        self._judged = False  # and whose first line is a status line or not there,
        self._room = MAX_HEAD  # and to which these may come
        self._left = 0  # bytes of the body or the chunk, with a chunk's CRLF

    def feed(self, data: bytes) -> bytes:
        """What `data` brings of the body. Never raises: see `over` and `fault`."""
        try:
            return self._step(self, data)
        except Broken as error:
            self._break(str(error))
            return b""

    def close(self) -> bool:
        """The connection has ended; whether the body was to end with it. Else it was cut short,
        which is a `fault`."""
        self.over = True
        if self._step is Reader._read_rest:
            return True
        self.fault = self.fault or "it was cut short"
        return False

    def _read_head(self, data: bytes) -> bytes:
        self.started = True
        lines = self._lines
        lines += data
        while end := _HEAD_END.search(lines, max(self._seen - 2, 0)):
            size = end.end()
            self._take_room(size)
            head = _parse_head(bytes(lines[:size]))
            del lines[:size]
            self._seen = 0
            self._judged = False
            if not 100 <= head.status < 200:
                return self._begin_body(head)
            if head.status == 101:
                raise Broken("it switches to another protocol")
            self._room -= size
        self._take_room(len(lines))
        self._seen = len(lines)
        if not self._judged and b"\n" in data and b"\n" in lines:
            self._judged = True
            if not _STATUS_LINE.match(lines):
                raise Broken("its status line is malformed")
        return b""

    def _take_room(self, size: int) -> None:
        if size > self._room:
            raise Broken("its head is too large")

    def _begin_body(self, head: Head) -> bytes:
        rest, self._lines = bytes(self._lines), bytearray()
        chunked, length = head.chunked, head.length
        self.head, self.length = head, length
        if chunked:
            self._step = Reader._read_chunks
        elif length is None:
            self._step = Reader._read_rest
        else:
            self._left = length
            self._step = Reader._read_sized
        return self._step(self, rest)

    def _read_rest(self, data: bytes) -> bytes:
        return data

    def _read_sized(self, data: bytes) -> bytes:
        left = self._left = self._left - len(data)
        if left <= 0:
            self.over = True
            if left:
                self.excess = True
                return data[:left]
        return data

    def _read_chunks(self, data: bytes) -> bytes:
        if self._held:
            data, self._held = self._held + data, b""
        pieces = []
        at, left, size = 0, self._left, len(data)
        while at < size:
            if not left:
                line = _SIZE_LINE.match(data, at)
                if line is None or line.end() - at > MAX_SIZE_LINE:
                    self._hold_size_line(data[at:])
                    break
                at = line.end()
                left = int(line[1], 16) + 2
                if left == 2:
                    self._step = Reader._read_trailers
                    self._held = b"\r\n"
                    self._read_trailers(data[at:])
                    break
            end = at + left - 2
            pieces.append(data[at:end])
            after = data[end : end + 2]
            if after == b"\r\n":
                at, left = end + 2, 0
            elif after in (b"", b"\r"):
                left -= len(pieces[-1])
                self._held = after
                break
            else:
                self._break("a chunk of its body is not as long as it says")
                break
        self._left = left
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def _hold_size_line(self, line: bytes) -> None:
        if b"\n" in line or len(line) > MAX_SIZE_LINE:
            self._break("a chunk of its body is malformed")
        else:
            self._held = line

    def _read_trailers(self, data: bytes) -> bytes:
        """Up to an empty line; nobody reads them."""
        data = self._held + data
        end = data.find(b"\r\n\r\n", 0, MAX_TRAILERS) + 4
        if end >= 4:
            self.over = True
            self.excess = end < len(data)
        elif len(data) >= MAX_TRAILERS:
            self._break("its trailers are too large")
        else:
            self._held = data
        return b""

    def _break(self, fault: str) -> None:
        self.over = True
        self.fault = fault


def _parse_head(lines: bytes) -> Head:
    line = _STATUS_LINE.match(lines)
    if line is None:
        raise Broken("its status line is malformed")
    fields: dict[bytes, list[bytes]] = {}
    for field in lines[line.end() :].split(b"\n")[:-2]:
        name, colon, value = field.partition(b":")
        if not colon or not _TOKEN.fullmatch(name):  # RFC 9112, 5; 5.2: nor is it folded
            raise Broken("a field of its head is malformed")
        fields.setdefault(name.lower(), []).append(value.strip(b" \t\r"))
    return Head(int(line[1]), int(line[2]), line[3] or b"", fields)
