"""HTTP/1.1 responses out of bytes: the origin's side of what `server.parser` is for clients.

Bytes go into `Reader.feed`, and what they bring of the body comes out at once; there is no socket
and no clock. A response's head is judged once, when it is whole: a line that is not to the grammar
of RFC 9112 breaks it, and one that says in two ways how its body is framed is the last of its
connection. What servers are known to do besides is taken: a bare LF ends a line of the head, a
reason phrase may be missing, a value may hold any byte.

A backend begins each response of a connection with the same bytes, but for the digits of its
length. Such a head is judged the first time only: see `LastHead`.
"""

from __future__ import annotations

import re
from typing import Final

from msgspec import Struct
from msgspec.structs import replace

MAX_HEAD: Final = 1 << 18
"""Bytes of a response's head with the interim ones before it."""

MAX_TRAILERS: Final = 16384
"""Bytes of the fields after a body in chunks."""

MAX_REPEATED: Final = 4096
"""Bytes of a head that is kept for as long as its connection is."""

MAX_DIGITS: Final = 18
"""Digits of a length; no more fit into 63 bits."""

MAX_SIZE_LINE: Final = 1024
"""Bytes of the line that says how large a chunk is: its extensions have no meaning here."""

_HEAD_END = re.compile(rb"\n\r?\n")
# RFC 9112, 4
_STATUS_LINE = re.compile(rb"HTTP/1\.([0-9]) ([0-9]{3})(?: ([^\r\n]*))?\r?\n")
# RFC 9110, 5.6.2
_TOKEN = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
# RFC 9110, 8.6
_LENGTH = re.compile(rb"[0-9]{1,%d}" % MAX_DIGITS)
# The one line of a head that differs where the next one is the same.
_LENGTH_LINE = re.compile(rb"(?i:\ncontent-length:)[ \t]*([0-9]{1,%d})[ \t]*\r?\n" % MAX_DIGITS)
# RFC 9112, 7.1
_SIZE_LINE = re.compile(rb"([0-9A-Fa-f]{1,15})(?:[ \t]*;[^\r\n]*)?\r\n")

_SIZE_LINES = {b"%x\r\n" % size: size + 2 for size in range(1, 1024)}
"""The bytes of a chunk's data with the CRLF behind it, by its size line as nearly all servers write
it."""

_NEXT_SIZES = {b"\r\n" + line: left - 2 for line, left in _SIZE_LINES.items()}
"""The bytes of a chunk's data alone, by the CRLF behind the chunk before and its own size line."""

_WHOLE_CHUNKS = {len(line) + left: line for line, left in _SIZE_LINES.items()}
"""The size line with which a read begins that is one whole chunk, by the length of the read."""

_LAST_CHUNK = b"0\r\n\r\n"
"""The end of a body in chunks as nearly all servers write it, without trailers."""

_BODILESS = frozenset((204, 304))
"""Statuses whose responses never have a body (RFC 9112, 6.3)."""

_Fields = dict[bytes, list[bytes]]


class Broken(ValueError):
    """What came is no response; says why, in words that quote nothing of it. What is raised in this
    module becomes the `Reader.fault`; of that the connection makes one for `ResponseFailed`."""


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


class Reader:
    """Reads one response. The connection makes one for each request, with the `LastHead` of all its
    responses, calls `feed` with whatever comes until `over`, and `close` where the connection ends
    before that.

    `head` is there as soon as all of it is. `over` is set once nothing more can come: then
    `fault` says what is wrong with the response, if anything is, and `excess` whether bytes came
    that are none of it. `started` says that any byte came at all.
    """

    def __init__(self, last: LastHead | None = None) -> None:
        """Make a reader for one response, which begins with its head; `last` is that of the
        response before it on this connection."""
        self._last = last or LastHead()
        self.head: Head | None = None
        self.started = False
        self.over = False
        self.fault: str | None = None
        self.excess = False
        # The method that reads what comes next: the head, then the body as it is framed.
        self._step = Reader._read_head
        # The lines of a head that is not whole yet, and how many bytes may still come before
        # the body.
        self._lines = bytearray()
        self._room = MAX_HEAD
        # Bytes of the body that are still to come; of a body in chunks those of the chunk under
        # way, with the CRLF that ends it.
        self._left = 0
        # The beginning of a chunk's size line, of its CRLF or of the trailers, which can only
        # be read with what comes next.
        self._held = b""

    def feed(self, data: bytes) -> bytes:
        """Read `data`, and return what it brings of the body, chunks without their framing; ``b""``
        for a part of the head. Never raises: see `over` and `fault`. Called by the connection with
        each read of its socket."""
        try:
            return self._step(self, data)
        except Broken as error:
            self._break(str(error))
            return b""

    def close(self) -> bool:
        """Note that the connection has ended, and return whether the body was to end with it. Else
        it was cut short, which is a `fault`."""
        self.over = True
        if self._step is Reader._read_rest:
            return True
        self.fault = self.fault or "it was cut short"
        return False

    def _read_head(self, data: bytes) -> bytes:
        """Read up to an empty line, which may have begun with what came before, and return what
        follows of the body. Interim responses (1xx) are passed over. Raises `Broken`, as every step
        may."""
        if not self.started:
            self.started = True
            if again := self._last.again(data):
                return self._begin_body(*again)
        lines = self._lines
        start = max(len(lines) - 2, 0)
        lines += data
        while end := _HEAD_END.search(lines, start):
            self._take_room(end.end())
            whole = bytes(lines[: end.end()])
            head = parse_head(whole)
            del lines[: end.end()]
            if not 100 <= head.status < 200:
                self._last.keep(whole, head)
                self._lines = bytearray()
                return self._begin_body(head, bytes(lines))
            if head.status == 101:
                raise Broken("it switches to another protocol")
            start = 0
            self._room -= end.end()
        self._take_room(len(lines))
        # What is no HTTP at all, such as a TLS alert, may never come to the end of a head.
        if lines[:7] != b"HTTP/1."[: len(lines)]:
            raise Broken("its status line is malformed")
        return b""

    def _take_room(self, size: int) -> None:
        """Raise `Broken` where so many bytes of a head are more than may come. For `_read_head`."""
        if size > self._room:
            raise Broken("its head is too large")

    def _begin_body(self, head: Head, rest: bytes) -> bytes:
        """Set the step that reads the body, as the head says, and read with it the `rest`, which
        came behind the head. For `_read_head`."""
        self.head = head
        if head.chunked:
            self._step = Reader._read_chunks
        elif head.length is None:
            self._step = Reader._read_rest
        else:
            self._left = head.length
            self._step = Reader._read_sized
        return self._step(self, rest)

    def _read_rest(self, data: bytes) -> bytes:
        """Return all of `data`: the body ends where the connection does."""
        return data

    def _read_sized(self, data: bytes) -> bytes:
        """Return what `data` brings of a body of a known length; what follows it is `excess`."""
        left = self._left = self._left - len(data)
        if left <= 0:
            self.over = True
            if left:
                self.excess = True
                return data[:left]
        return data

    def _read_chunks(self, data: bytes) -> bytes:
        """Return what `data` brings of a body in chunks. Nearly every read of a stream is one of
        them, whole."""
        if not self._left and not self._held and (line := _WHOLE_CHUNKS.get(len(data))):
            chunk = data.removeprefix(line).removesuffix(b"\r\n")
            if len(line) + len(chunk) + 2 == len(data):
                return chunk
        return self._read_many_chunks(data)

    def _read_many_chunks(self, data: bytes) -> bytes:
        """Return the same where `data` holds many chunks, or a part of one.

        Each turn of the loop reads a size line, unless `left` says that the last chunk is still
        under way, then the chunk's data, then its CRLF. `5\\r\\nhel` gives `hel` and leaves 4: `lo`
        and the CRLF. The chunks of a stream are of nearly one size: as long as as many bytes as
        the last time, `width`, are a CRLF and the next size line, a turn within that turn takes one
        chunk. For `_read_chunks`.
        """
        if self._held:
            data, self._held = self._held + data, b""
        chunks: list[bytes] = []
        # Names of their own, since each chunk asks for both.
        add, next_size = chunks.append, _NEXT_SIZES.get
        at, left, size, width = 0, self._left, len(data), 0
        while at < size:
            if not left:
                start = data.find(b"\n", at) + 1
                left = _SIZE_LINES.get(data[at:start]) or self._read_size_line(data, at)
                if not left:
                    break
                at, width = start, start - at + 2
            end = at + left - 2
            while following := next_size(data[end : (behind := end + width)]):
                add(data[at:end])
                at, end = behind, behind + following
            after = data[end : end + 2]
            add(data[at:end])
            if after == b"\r\n":
                at, left = end + 2, 0
            elif after in (b"", b"\r"):
                left = end + 2 - at - len(chunks[-1])
                self._held = after
                break
            else:
                self._break("a chunk of its body is not as long as it says")
                break
        self._left = left
        return b"".join(chunks)

    def _read_size_line(self, data: bytes, at: int) -> int:
        """Read a size line that is written in another way than most, is not whole, or is the last.

        Returns the bytes of the chunk's data with the CRLF behind it; 0 where none can be read now:
        the line is kept for the next read, or was the last, or is malformed, which ends the
        reading. For `_read_many_chunks`.
        """
        if data.startswith(_LAST_CHUNK, at):
            self.over = True
            self.excess = at + len(_LAST_CHUNK) < len(data)
            return 0
        line = _SIZE_LINE.match(data, at)
        if line is None or line.end() - at > MAX_SIZE_LINE:
            if b"\n" in data[at:] or len(data) - at > MAX_SIZE_LINE:
                self._break("a chunk of its body is malformed")
            else:
                self._held = data[at:]
            return 0
        size = int(line[1], 16)
        if size:
            return size + 2
        self._step = Reader._read_trailers
        # The end of this line and an empty one would be a whole trailer section.
        self._held = b"\r\n"
        self._read_trailers(data[line.end() :])
        return 0

    def _read_trailers(self, data: bytes) -> bytes:
        """Read the fields after the last chunk, up to an empty line; nobody reads them further.
        Returns ``b""``, as there is no more of the body."""
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
        """Read nothing more, and say with `fault` why. For `feed`, and for the steps that read
        chunks."""
        self.over = True
        self.fault = fault
