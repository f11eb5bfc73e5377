"""HTTP/1.1 responses out of bytes: the origin's side of what `server.parser` is for clients.

Bytes go into `Reader.feed`, and what they bring of the body comes out at once; there is no socket
and no clock. A response's head is judged once, when it is whole, and not at all where it is the
last one of its connection again: see `head`.
"""

from __future__ import annotations

import re
from io import BytesIO
from typing import Final

from infergate.backend.head import Broken, Head, LastHead, parse_head

MAX_HEAD: Final = 1 << 18
"""Bytes of a response's head with the interim ones before it."""

MAX_TRAILERS: Final = 16384
"""Bytes of the fields after a body in chunks."""

MAX_SIZE_LINE: Final = 1024
"""Bytes of the line that says how large a chunk is: its extensions have no meaning here."""

_HEAD_END = re.compile(rb"\n\r?\n")
# RFC 9112, 7.1
_SIZE_LINE = re.compile(rb"([0-9A-Fa-f]{1,15})(?:[ \t]*;[^\r\n]*)?\r\n")

_SIZES = {b"%x\r\n" % size: size for size in range(1, 1024)}
"""The bytes of a chunk's data, by its size line as nearly all servers write it."""

_WHOLE_CHUNKS = {len(line) + size + 2: line for line, size in _SIZES.items()}
"""The size line with which a read begins that is one whole chunk, by the length of the read."""

_LAST_CHUNK = b"0\r\n\r\n"
"""The end of a body in chunks as nearly all servers write it, without trailers."""


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
        # way, without the CRLF that ends it.
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
        """Return what `data` brings of a body in chunks, where the last read ended with a whole
        chunk. Nearly every read of a stream is one of them, whole."""
        if not self._held and (line := _WHOLE_CHUNKS.get(len(data))):
            chunk = data.removeprefix(line).removesuffix(b"\r\n")
            if len(line) + len(chunk) + 2 == len(data):
                return chunk
        return self._read_many_chunks(data)

    def _read_many_chunks(self, data: bytes) -> bytes:
        """Return the same where `data` holds many chunks, or a part of one.

        Each turn of the loop reads a size line, the chunk's data, and the CRLF behind that. Of
        ``5\\r\\nhel`` it gives ``hel``; ``lo`` and the CRLF are then for `_read_cut_chunk`. For
        `_read_chunks`.
        """
        if self._held:
            data, self._held = self._held + data, b""
        body = BytesIO(data)
        chunks: list[bytes] = []
        # Names of their own, since each chunk asks for all three.
        add, take, size_of = chunks.append, body.read, _SIZES.get
        for line in body:
            size = size_of(line) or self._read_size_line(data, body.tell() - len(line))
            if not size:
                break
            add(take(size))
            end = take(2)
            if end != b"\r\n":
                self._cut_chunk(size - len(chunks[-1]), end)
                break
        return b"".join(chunks)

    def _cut_chunk(self, left: int, end: bytes) -> None:
        """Note that a read ended before the CRLF behind a chunk did: `left` bytes of its data are
        still to come, and `end` is what has come behind them. What is no part of a CRLF breaks the
        response. For `_read_many_chunks` and `_read_cut_chunk`."""
        if not b"\r\n".startswith(end):
            self._break("a chunk of its body is not as long as it says")
        self._step = Reader._read_cut_chunk
        self._left, self._held = left, end

    def _read_cut_chunk(self, data: bytes) -> bytes:
        """Return the rest of a chunk that the last read has cut, and with it what follows in `data`
        of the next ones."""
        # Only of a CRLF something may be held, and then nothing else of the chunk is left.
        data, left = self._held + data, self._left
        rest, end = data[:left], data[left : left + 2]
        if end != b"\r\n":
            self._cut_chunk(left - len(rest), end)
            return rest
        self._step, self._held = Reader._read_chunks, b""
        return rest + self._read_chunks(data[left + 2 :])

    def _read_size_line(self, data: bytes, at: int) -> int:
        """Read a size line that is written in another way than most, is not whole, or is the last.

        Returns the bytes of the chunk's data; 0 where none can be read now: the line is kept for
        the next read, or was the last, or is malformed, which ends the reading. For
        `_read_many_chunks`.
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
            return size
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
