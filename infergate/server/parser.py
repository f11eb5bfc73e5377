"""HTTP/1.1 requests out of bytes, and nothing ambiguous among them.

Bytes go in by `Parser.receive`, events come out of `Parser.next`; there is no socket and no
clock. Whatever two readers could frame in two ways is refused. What a head may say is judged in
`grammar`.

How a stream is cut into pieces never changes what becomes of it: a head, the line before a chunk,
and trailers are judged once, when they are whole or have no room left. Until then only the first
byte of a request is looked at.

A request with a chunked body, which `next` gives as a `Head`, ``b"Hello,"``, ``b" you!"`` and `END`
(chunks without an extension that have come together are given as one):

    POST /v1/chat/completions HTTP/1.1          the request line: method, target, version
    Host: gate.example                          a field line: name, colon, value
    Transfer-Encoding: chunked
                                                the empty line that ends the head
    6                                           the size of a chunk, in hexadecimal digits
    Hello,                                      its data, and a line end that is none of it
    5;name=value                                another, with an extension, which is ignored
     you!
    0                                           the last chunk, of no bytes
                                                the trailers, which are field lines, and their end

The parser is a step that is taken with each `next`. The steps, what each gives, and what it leads
to:

    _read_head      the `Head`                  _read_body, _read_chunks, or without a body _finish
    _read_body      what has come of it         _finish, when all has
    _read_chunks    what has come of them       _read_trailers, behind the last one
    _read_trailers  `END`                       _wait
    _finish         `END`                       _wait
    _wait           None                        _read_head, when `restart` is called

A head that is the last one again is not judged again, and one that differs in the value of a field
is judged by that value: `head` has why that is the same.

A step that needs more bytes gives None, and is taken again when these have come. What is received
is kept in one `bytes`; what stands in it before an offset has been given out.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from enum import Enum
from typing import Final, TypeAlias

from msgspec import Struct

from infergate.errors import (
    BadRequest,
    BodyTooLarge,
    ClientError,
    HeadersTooLarge,
)
from infergate.server.grammar import (
    RESERVED,
    TOKEN,
    judge,
    read_fields,
    refuse_doubles,
    request_line,
)
from infergate.server.head import (
    MAX_KEPT,
    TEXT,
    Found,
    Head,
    Kept,
    Pattern,
    keep,
    pattern,
)

MAX_CHUNK_DIGITS = 16
"""Hexadecimal digits of a chunk's size: the most that stay below 2**64 in every reader."""

MAX_CHUNK_EXTENSIONS = 4096
"""Bytes of chunk extensions in one body. None has a meaning here, and a client that sends many
wants the server to work for nothing (RFC 9112, 7.1.1)."""

MAX_UNLIKE = 8
"""Heads in a row, none of which is the one before it, after which none is kept any more on a
connection: its client puts something else into each, such as an id, and to keep them costs 1.5 % of
a plain request."""

# What a request line begins with.
_FIRST = re.compile(TOKEN)

# What may have come before the first byte of a request.
_NOTHING = (b"", b"\r", b"\r\n")

# The end of a head or of trailers. A client that ends its lines with bare LF has sent all that it
# has to send as well: its head is whole, and refused, in place of waited for until the deadline.
_EMPTY_LINE = re.compile(rb"\n\r?\n")

_ORIGIN = re.compile(rb"(?i)\norigin:[ \t]*([!-~]+)[ \t]*(?=\r?\n)")

# RFC 9112, 7.1 and 7.1.1, with the quoted-string of RFC 9110, 5.6.4. The CRLF before a size is the
# end of the data before it, or of the head.
_SIZE = rb"\r\n([0-9A-Fa-f]{1,%d})" % MAX_CHUNK_DIGITS
_CHUNK = re.compile(
    _SIZE
    + rb'((?:[ \t]*;[ \t]*%b+(?:[ \t]*=[ \t]*(?:%b+|"(?:[\t !#-\[\]-~\x80-\xff]|\\%b)*"))?)*)\r\n'
    % (TOKEN, TOKEN, TEXT)
)
_PLAIN_CHUNK = re.compile(_SIZE + rb"\r\n")
# Bytes that the line before a chunk may have, with the CRLF before it.
_CHUNK_LINE = 2 + MAX_CHUNK_DIGITS + MAX_CHUNK_EXTENSIONS + 2


class Limits(Struct, frozen=True):
    """What a request may be, in bytes: its target, its whole head, its body; and how many fields
    its head may have. The trailers of a chunked body may be what a head may be. Made by `compose`
    out of the settings."""

    target: int = 8000
    head: int = 16384
    fields: int = 100
    body: int = 33554432


class End(Enum):
    """The kind of `END`, which `Parser.next` gives when the request is whole."""

    END = "end"


END: Final = End.END

Event: TypeAlias = Head | bytes | End | None


class Parser:
    """The requests of one connection, one after the other.

    The connection calls `receive` with what has arrived, then `next` until that gives None, and
    `restart` when the request is answered and the next one may be read. What is received meanwhile
    waits here; the parser sets it no bound, the connection does, by reading no more.

    `head` is that of the request being read, once `next` gave it. Where a request is refused
    after its request line was understood, `head` is what is known of it: method, target and
    version, and its fields where the whole head could be read.
    """

    def __init__(self, limits: Limits) -> None:
        """Begin before the first request of a connection. `limits` hold for each of its
        requests."""
        self._limits = limits
        self._data = b""
        self._at = 0
        """What stands before this offset is consumed."""
        self._kept: Kept | None = None
        """The last head, if the next one may be the same."""
        self._unlike = 0
        """Heads in a row that were not the one before them."""
        self._pattern: Pattern | None = None
        """The last head, where the one before it was another."""
        self._found: Found = {}
        """What was found in some of the fields of the heads so far (`Head.of_fields`)."""
        self._refusal: tuple[type[ClientError], str] | None = None
        self.refused_origins: list[bytes] = []
        """What ``Origin`` says in a head that was refused before its fields were read: a page is
        to see why it was."""
        self.restart()

    def restart(self) -> None:
        """Go on to the next request; what was received of it already is kept. Called by the
        connection when the request before it is answered, and when the parser is made."""
        self.head: Head | None = None
        self._step: Callable[[Parser], Event] = Parser._read_head
        self._line_skipped = False
        self._searched = 0
        """Bytes from `_at` on in which there is no end of a head or of trailers."""
        self._left = 0
        """Bytes that the body, or the chunk, still has."""
        self._body = 0
        """Bytes that the chunks so far have declared."""
        self._extensions = 0

    @property
    def started(self) -> bool:
        """Return whether a byte of the request has arrived; an empty line before it is none. Asked
        by the connection, which begins an exchange by it."""
        return (
            self._step is not Parser._read_head
            or self._data[self._at : self._at + 3] not in _NOTHING
        )

    @property
    def buffered(self) -> int:
        """Return how many bytes were received and not yet given out."""
        return len(self._data) - self._at

    def receive(self, data: bytes) -> None:
        """Take what the connection brought, for `next` to give out. Raises nothing, whatever it is;
        a parser that has refused takes nothing more. Where all before it was given out, nothing is
        copied. Called by the connection with what comes, in any phase before its last answer."""
        if self._refusal is None:
            kept = self._data[self._at :]
            self._data = kept + data if kept else data
            self._at = 0

    def next(self) -> Event:
        """Return the next of: a `Head`, bytes of its body, `END`. None means that more bytes are
        needed, or after `END`, that `restart` is.

        Raises a `ClientError`, and the same again ever after, for what no request may be. A
        declared length over the limit is not refused here, since who asks comes before how much; a
        chunked body is, by the chunk that would take it over.
        """
        if self._refusal is not None:
            kind, message = self._refusal
            raise kind(message)
        try:
            return self._step(self)
        except ClientError as error:
            # Not the error itself: its traceback leads back here, a cycle for each refusal.
            self._refusal = type(error), error.message
            if self._step is Parser._read_head and (self.head is None or not self.head.fields):
                start, stop = self._at, self._at + self._limits.head
                # What is behind the head is its body, or the next request.
                if end := _EMPTY_LINE.search(self._data, start, stop):
                    stop = end.end()
                self.refused_origins = _ORIGIN.findall(self._data, start, stop)
            self._data, self._at = b"", 0
            raise

    def _read_head(self) -> Event:
        """Return the head, when its empty line has come, or more bytes than a head may have; None
        until then.

        A head that is the last one again was judged with that, and of one that differs from it in
        values only these are judged. What is wrong with any other is found from its beginning to
        its end: the request line first, so that `head` is known where something behind that is at
        fault, then the room, the fields, and what they say together. Raises what `request_line`,
        `read_fields`, `refuse_doubles` and `judge` do, `BadRequest` for a first byte that begins no
        request line, and `HeadersTooLarge`.
        """
        limits = self._limits
        # RFC 9112, 2.2: at least one empty line before a request line is to be ignored. One is.
        if not self._line_skipped and self._data.startswith(b"\r\n", self._at):
            self._at += 2
            self._line_skipped = True
        start = self._at
        if self._kept is not None:
            repetition = self._kept.repetition(self._data, start)
            if repetition is not None:
                self._unlike = 0
                return self._begin_body(*repetition)
        first = self._data[start : start + 1]
        if not first or (first == b"\r" and not self._line_skipped and self.buffered == 1):
            return None
        # The one byte that is looked at before the head is whole. A client that speaks TLS to a
        # plain port sends its first record, 0x16 first of all, and waits: for HEADER_TIMEOUT.
        if not _FIRST.match(first):
            raise BadRequest("The request line is malformed.")
        end = self._end_of_section(limits.head)
        if end is None:
            return None
        raw = self._data[start : min(end, start + limits.head)]
        head = self._head_of(raw, end - start)
        self._unlike += 1
        self._kept = keep(head, raw, limits.head) if self._unlike <= MAX_UNLIKE else None
        return self._begin_body(head, end)

    def _head_of(self, raw: bytes, size: int) -> Head:
        """Return the head whose bytes are `raw`, or of whose `size` bytes these are all that there
        is room for. Called by `_read_head`, which says in which order what is wrong with it is
        found and what that raises."""
        limits = self._limits
        # A longer one would be kept, as the last, by way of its value.
        if self._pattern is not None and size <= min(limits.head, MAX_KEPT):
            variation = self._pattern.variation(raw)
            if variation is not None:
                return variation
        head, line_end = request_line(raw, limits.target)
        self.head = head
        if size > limits.head:
            raise HeadersTooLarge
        head.fields = read_fields(raw[line_end:], limits.fields)
        if b"_" in raw:
            refuse_doubles(head.fields)
        judge(head)
        if size <= MAX_KEPT:
            head.found = self._found
        self._pattern = pattern(head, raw) if self._unlike else None
        return head

    def _begin_body(self, head: Head, end: int) -> Head:
        """Go on to the body behind `head`, which ends at the offset `end`, and return the head.
        Called by `_read_head`."""
        self.head = head
        self._at = end
        self._searched = 0
        if head.length is None:
            # The line end of the head is also the one before the first chunk's size.
            self._at -= 2
            self._step = Parser._read_chunks
        else:
            self._left = head.length
            self._step = Parser._read_body if head.length else Parser._finish
        return head

    def _end_of_section(self, room: int) -> int | None:
        """Return where the field lines end, an empty line included, or an offset beyond the room
        (in bytes) that they have; None where more bytes are needed to tell.

        For a head and for trailers. What was searched before is not searched again. Called by
        `_read_head` and `_read_trailers`. Raises nothing.
        """
        stop = self._at + room
        found = _EMPTY_LINE.search(self._data, self._at + max(0, self._searched - 2), stop)
        if found is not None:
            self._searched = 0
            return found.end()
        self._searched = self.buffered
        return stop + 1 if len(self._data) >= stop else None

    def _read_body(self) -> Event:
        """Return what has come of a body whose length was declared, None where nothing has; the
        bytes behind it are the next request's. Raises nothing."""
        chunk = self._take()
        if not self._left:
            self._step = Parser._finish
        return chunk or None

    def _read_chunks(self) -> Event:
        """Return the data of all chunks that have arrived, as one: a body in one-byte chunks is not
        to cost an event for each of its bytes. None where no data has; behind the last chunk what
        `_read_trailers` returns.

        Only lines that are nothing but a size are read here, such as ``\\r\\n1f4\\r\\n``. At any
        other this gives out what it has, and `_read_chunk_line` judges that line, in this call or
        in the next. Raises what that does.
        """
        chunks: list[bytes] = []
        while True:
            if self._left:
                if data := self._take():
                    chunks.append(data)
                if self._left:
                    break
            line = _PLAIN_CHUNK.match(self._data, self._at)
            size = int(line[1], 16) if line is not None else 0
            if line is None or not 0 < size <= self._limits.body - self._body:
                break
            self._at, self._left = line.end(), size
            self._body += size
        if chunks:
            return chunks[0] if len(chunks) == 1 else b"".join(chunks)
        return None if self._left else self._read_chunk_line()

    def _read_chunk_line(self) -> Event:
        """Read the line before a chunk, where it is not plain and good: it may have extensions, be
        the last, be at fault, or not be whole yet.

        Returns what comes behind it, as `next` does. Raises `BadRequest` for a line at fault or too
        many extensions, `BodyTooLarge` for a chunk that would take the body above its limit, and
        what `_read_trailers` does.
        """
        data, at = self._data, self._at
        end = data.find(b"\n", at + 2, at + _CHUNK_LINE) + 1
        line = _CHUNK.fullmatch(data, at, end) if end else None
        if line is None:
            if not b"\r\n".startswith(data[at : at + 2]):  # RFC 9112, 7.1
                raise BadRequest("A chunk of the body is not as long as it says.")
            if end or self.buffered >= _CHUNK_LINE:
                raise BadRequest("A chunk of the body is malformed.")
            return None
        size = int(line[1], 16)
        if size > self._limits.body - self._body:
            raise BodyTooLarge
        self._extensions += len(line[2])
        if self._extensions > MAX_CHUNK_EXTENSIONS:
            raise BadRequest("A chunk of the body is malformed.")
        self._at, self._left = end, size
        self._body += size
        if size:
            return self._read_chunks()
        # Trailers end with an empty line; without any, the line end before them is its beginning.
        self._at -= 2
        self._step = Parser._read_trailers
        return self._read_trailers()

    def _read_trailers(self) -> Event:
        """Judge the fields behind a chunked body, and drop them; return `END`, or None where more
        bytes are needed.

        They may be as much as a head, and none may be of those that frame or route a request: a
        reader that adds them to the head would be told something else than this one was. Raises
        `HeadersTooLarge` and `BadRequest`.
        """
        room = self._limits.head + 2
        end = self._end_of_section(room)
        if end is None:
            return None
        if end - self._at > room:
            raise HeadersTooLarge
        fields = read_fields(self._data[self._at + 2 : end], self._limits.fields)
        self._at = end
        refuse_doubles(fields)
        if not RESERVED.isdisjoint(fields):  # RFC 9110, 6.5.1
            raise BadRequest("A trailer field may not be sent as one.")
        # RFC 9112, 7.1.2: the others may be dropped, and nothing here would read them.
        return self._finish()

    def _finish(self) -> Event:
        """Return `END`, and wait for `restart`."""
        self._step = Parser._wait
        return END

    def _wait(self) -> Event:
        """Return None: the request is whole, and what is behind it is the next one's."""
        return None

    def _take(self) -> bytes:
        """Return what has arrived of the body or the chunk, and count it off: all that was
        received, uncopied, where nothing else is in it. Called by `_read_body` and
        `_read_chunks`."""
        data = self._data[self._at : self._at + self._left]
        self._at += len(data)
        self._left -= len(data)
        return data
