"""HTTP/1.1 requests out of bytes, and nothing ambiguous among them.

Bytes go in by `Parser.receive`, events come out of `Parser.next`; there is no socket and no
clock. Whatever two readers could frame in two ways is refused.

How a stream is cut into pieces never changes what becomes of it: a head, the line before a chunk,
and trailers are judged once, when they are whole or have no room left. Until then only the first
byte of a request is looked at.

The grammar is that of RFC 9110 and RFC 9112. Where they let a server choose, this one refuses.

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
from functools import lru_cache
from ipaddress import IPv6Address
from typing import Final, TypeAlias

from msgspec import Struct

from infergate.errors import (
    BadRequest,
    BodyTooLarge,
    ClientError,
    ExpectationFailed,
    HeadersTooLarge,
    NotImplementedMethod,
    URITooLong,
    VersionNotSupported,
)
from infergate.server.head import (
    MAX_KEPT,
    MAX_LENGTH_DIGITS,
    TEXT,
    Found,
    Head,
    Kept,
    Pattern,
    keep,
    pattern,
)

MAX_METHOD = 32
"""Bytes of a method: every registered one is shorter, and a longer one need not be read to
its end to be known as not implemented."""

MAX_CHUNK_DIGITS = 16
"""Hexadecimal digits of a chunk's size: the most that stay below 2**64 in every reader."""

MAX_CHUNK_EXTENSIONS = 4096
"""Bytes of chunk extensions in one body. None has a meaning here, and a client that sends many
wants the server to work for nothing (RFC 9112, 7.1.1)."""

MAX_UNLIKE = 8
"""Heads in a row, none of which is the one before it, after which none is kept any more on a
connection: its client puts something else into each, such as an id, and to keep them costs 1.5 % of
a plain request."""

# What may have come before the first byte of a request.
_NOTHING = (b"", b"\r", b"\r\n")

_METHODS = frozenset((b"GET", b"HEAD", b"POST", b"PUT", b"DELETE", b"PATCH", b"OPTIONS"))

_RESERVED = frozenset(
    b"authorization connection content-encoding content-length content-range content-type cookie"
    b" expect forwarded host keep-alive max-forwards origin proxy-authorization proxy-connection"
    b" range request-id te trailer transfer-encoding upgrade via x-forwarded-for"
    b" x-forwarded-host x-forwarded-proto x-real-ip x-request-id".split()
)
"""Fields that frame, route, authenticate or describe a request."""

_TOKEN = rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]"  # RFC 9110, 5.6.2

# RFC 9112, 3: exactly one SP between the three parts, and 2.3: the version in capitals.
_LINE = re.compile(rb"(%b{1,%d}) ([!-~]+) (HTTP/[0-9]\.[0-9])\r\n" % (_TOKEN, MAX_METHOD))
# As much of it as a line that is at fault may have: tells a method or a target that is too long
# from what is no request line at all.
_OPEN_LINE = re.compile(rb"(%b*)(?: ([!-~]*))?" % _TOKEN)

# The end of a head or of trailers. A client that ends its lines with bare LF has sent all that it
# has to send as well: its head is whole, and refused, in place of waited for until the deadline.
_EMPTY_LINE = re.compile(rb"\n\r?\n")

_ORIGIN = re.compile(rb"(?i)\norigin:[ \t]*([!-~]+)[ \t]*(?=\r?\n)")

# RFC 9112, 5 and 5.1: a token, the colon right after it; 5.2: no line folding; 2.2: no bare CR
# and no bare LF.
_SECTION = re.compile(rb"((?:%b+:%b*\r\n)*)\r\n" % (_TOKEN, TEXT))

# RFC 9112, 7.1 and 7.1.1, with the quoted-string of RFC 9110, 5.6.4. The CRLF before a size is the
# end of the data before it, or of the head.
_SIZE = rb"\r\n([0-9A-Fa-f]{1,%d})" % MAX_CHUNK_DIGITS
_CHUNK = re.compile(
    _SIZE
    + rb'((?:[ \t]*;[ \t]*%b+(?:[ \t]*=[ \t]*(?:%b+|"(?:[\t !#-\[\]-~\x80-\xff]|\\%b)*"))?)*)\r\n'
    % (_TOKEN, _TOKEN, TEXT)
)
_PLAIN_CHUNK = re.compile(_SIZE + rb"\r\n")
# Bytes that the line before a chunk may have, with the CRLF before it.
_CHUNK_LINE = 2 + MAX_CHUNK_DIGITS + MAX_CHUNK_EXTENSIONS + 2

# RFC 9110, 7.2: uri-host [ ":" port ], the uri-host by RFC 3986, 3.2.2. It may be neither empty
# (RFC 9110, 4.2.1) nor hold a comma, which is how two Host fields look once they are joined.
_HOST = re.compile(
    rb"(?:\[([0-9A-Fa-f:.]+)\]|(?:[A-Za-z0-9\-._~!$&'()*+;=]|%[0-9A-Fa-f]{2})+)(?::[0-9]{0,5})?"
)
_ABSOLUTE = re.compile(rb"https?://([^/?#]*)([/?][^#]*)?", re.IGNORECASE)
_CODINGS = re.compile(rb"%b+(?:[ \t]*,[ \t]*%b+)*" % (_TOKEN, _TOKEN))


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
        fault, then the room, the fields, and what they say together. Raises what `_request_line`,
        `_fields`, `_refuse_doubles` and `_judge` do, `BadRequest` for a first byte that begins no
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
        if not _OPEN_LINE.match(first)[1]:  # type: ignore[index]
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
        head, line_end = _request_line(raw, limits.target)
        self.head = head
        if size > limits.head:
            raise HeadersTooLarge
        head.fields = _fields(raw[line_end:], limits.fields)
        if b"_" in raw:
            _refuse_doubles(head.fields)
        _judge(head)
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
        fields = _fields(self._data[self._at + 2 : end], self._limits.fields)
        self._at = end
        _refuse_doubles(fields)
        if not _RESERVED.isdisjoint(fields):  # RFC 9110, 6.5.1
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


def _request_line(raw: bytes, target_room: int) -> tuple[Head, int]:
    """Return a head that knows no more than its request line, and the offset at which the fields
    begin. `raw` is a head, or as much of it as there is room for.

    Raises `NotImplementedMethod` for a method above `MAX_METHOD` bytes, `URITooLong` for a target
    above `target_room`, `HeadersTooLarge` where the line does not end within `raw`, and
    `BadRequest` for what is no request line. Called by `Parser._read_head`.
    """
    line = _LINE.match(raw)
    method, target = (line or _OPEN_LINE.match(raw)).group(1, 2)  # type: ignore[union-attr]
    if len(method) > MAX_METHOD:  # RFC 9112, 3
        raise NotImplementedMethod
    if target is not None and len(target) > target_room:  # RFC 9112, 3
        raise URITooLong
    if line is not None:
        return Head(line[1], line[2], line[3]), line.end()
    if b"\n" not in raw:
        raise HeadersTooLarge
    raise BadRequest("The request line is malformed.")


def _fields(raw: bytes, room: int) -> dict[bytes, list[bytes]]:
    """Return the fields of a section that ends with an empty line, `room` of them at the most:
    their names in lower case, each with its values in order.

    For a head and for trailers. Raises `BadRequest` where any line is no field, as with a blank
    before the colon or a bare LF, and `HeadersTooLarge` for more fields than `room`.
    """
    section = _SECTION.fullmatch(raw)
    if section is None:
        raise BadRequest("A header field is malformed.")
    lines = section[1].split(b"\r\n")[:-1]
    if len(lines) > room:
        raise HeadersTooLarge("The request has too many header fields.")
    fields: dict[bytes, list[bytes]] = {}
    for line in lines:
        name, _, value = line.partition(b":")
        fields.setdefault(name.lower(), []).append(value.strip(b" \t"))
    return fields


def _judge(head: Head) -> None:
    """Refuse a head that is well-formed and yet none for this server; say in it how it is framed.

    Called by `Parser._read_head` last. Sets `length`, `keep_alive`, `expects_continue`, and
    `target` to its origin form. Raises `VersionNotSupported`, `NotImplementedMethod`,
    `ExpectationFailed`, and what `_host`, `_origin_form` and `_length` do.
    """
    fields = head.fields
    modern = head.version == b"HTTP/1.1"
    if not modern and head.version != b"HTTP/1.0":  # RFC 9110, 15.6.6
        raise VersionNotSupported
    # RFC 9110, 9.1. CONNECT and TRACE are for proxies and for finding faults (9.3.6, 9.3.8).
    if head.method not in _METHODS:
        raise NotImplementedMethod
    host = _host(fields, required=modern)
    asks_server = head.target == b"*" and head.method == b"OPTIONS"  # RFC 9112, 3.2.4
    if not asks_server and (not head.target.startswith(b"/") or b"#" in head.target):
        head.target = _origin_form(head.target, host)
    head.length = _length(fields, modern)
    # RFC 9112, 9.3. HTTP/1.0 could ask for "keep-alive" (RFC 9112, C.2.2), which proxies pass
    # on that do not understand it: it is not given.
    head.keep_alive = modern and b"close" not in _options(fields)
    expectations = fields.get(b"expect")
    if expectations and modern:  # RFC 9110, 10.1.1: ignored in HTTP/1.0
        if [value.lower() for value in expectations] != [b"100-continue"]:
            raise ExpectationFailed
        head.expects_continue = head.length != 0


def _refuse_doubles(fields: dict[bytes, list[bytes]]) -> None:
    """Raise `BadRequest` for a field whose name is that of a reserved one, written with ``_``.

    RFC 9110, 5.1 has no names that are alike, but what reads headers as variables (RFC 3875,
    4.1.18) has: ``Content_Length`` is ``Content-Length`` there. Called with the fields of a head
    that holds a ``_`` anywhere, and with those of trailers.
    """
    for name in fields:
        if b"_" in name and re.sub(rb"[-_]+", b"-", name).strip(b"-") in _RESERVED:
            raise BadRequest("A header field has the name of another, written with '_'.")


def _host(fields: dict[bytes, list[bytes]], *, required: bool) -> bytes | None:
    """Return the value of the one valid ``Host`` (RFC 9112, 3.2), None where there is none and none
    is `required`, as in HTTP/1.0. Raises `BadRequest` for several, for one that is no host, and
    where there must be one. Called by `_judge`."""
    hosts = fields.get(b"host", [])
    if len(hosts) == 1:
        if not _is_host(hosts[0]):
            raise BadRequest("The Host header is not a host.")
        return hosts[0]
    if hosts or required:
        raise BadRequest("The request must have exactly one Host header.")
    return None


@lru_cache(64)
def _is_host(value: bytes) -> bool:
    """Return whether it is ``gate.example``, ``192.0.2.7:8080`` or ``[2001:db8::1]:8080``; the port
    may be left out, or empty behind its colon. Kept, since clients call the gateway by few names.
    Called for ``Host`` and for the authority of a target. Raises nothing."""
    match = _HOST.fullmatch(value)
    if match is None:
        return False
    if match[1]:
        try:
            IPv6Address(match[1].decode("ascii"))
        except ValueError:
            return False
    return True


def _origin_form(target: bytes, host: bytes | None) -> bytes:
    """Return the target ``/path?query`` of a target in absolute form,
    ``http://gate.example/path?query``, which a server must take too (RFC 9112, 3.2.2).

    Raises `BadRequest` for any other form: the authority form is for CONNECT. The authority of the
    absolute one must be valid and, 3.2, the Host that came with it (None where none did). Called by
    `_judge` for a target that does not begin with ``/``, or holds ``#``.
    """
    match = _ABSOLUTE.fullmatch(target)
    if match is None or not _is_host(match[1]):
        raise BadRequest("The request target is malformed.")
    if host is not None and match[1].lower() != host.lower():
        raise BadRequest("The request target and the Host header name different hosts.")
    path = match[2] or b""
    return path if path.startswith(b"/") else b"/" + path


def _length(fields: dict[bytes, list[bytes]], modern: bool) -> int | None:
    """Return the body's length in bytes, None where it is chunked (RFC 9112, 6.3).

    `modern` says that the version is HTTP/1.1. Raises `BadRequest` for a length that is malformed,
    repeated, or beside a ``Transfer-Encoding``, and for the latter in HTTP/1.0; `BodyTooLarge` for
    more digits than `MAX_LENGTH_DIGITS`; and what `_check_coding` does. Called by `_judge`.
    """
    lengths = fields.get(b"content-length")
    codings = fields.get(b"transfer-encoding")
    if codings is not None:
        if not modern or lengths or len(codings) > 1:  # RFC 9112, 6.1: what smuggles requests
            raise BadRequest("The request says in more than one way how its body is framed.")
        _check_coding(codings[0].lower())
        return None
    if lengths is None:
        return 0
    # RFC 9110, 8.6: 1*DIGIT. A repeated or listed value may be taken or refused: it is refused.
    if len(lengths) > 1 or not lengths[0].isdigit():
        raise BadRequest("The Content-Length header is malformed.")
    if len(lengths[0]) > MAX_LENGTH_DIGITS:
        raise BodyTooLarge
    return int(lengths[0])


def _check_coding(value: bytes) -> None:
    """Let through ``chunked`` alone; `value` is that of ``Transfer-Encoding``, in lower case.

    Raises `NotImplementedMethod` (501) for ``gzip, chunked``, which is understood and not
    implemented, and `BadRequest` for ``chunked, gzip``, which says nothing of where the body ends.
    Called by `_length`.
    """
    if value == b"chunked":
        return
    # RFC 9112, 6.1: 501 for a coding that is not understood, but 6.3 and 7: 400 where chunked
    # is not the last, or there twice.
    if _CODINGS.fullmatch(value) and b"chunked" not in _members(value)[:-1]:
        raise NotImplementedMethod("The transfer coding is not implemented.")
    raise BadRequest("The Transfer-Encoding header is malformed.")


def _options(fields: dict[bytes, list[bytes]]) -> list[bytes]:
    """Return the options of ``Connection`` in lower case, such as ``close``: one list, however many
    fields it is spread over (RFC 9110, 7.6.1). Called by `_judge`."""
    return _members(b",".join(fields.get(b"connection", ())).lower())


def _members(value: bytes) -> list[bytes]:
    """Return the members of a comma-separated list, without the blanks around them."""
    return [member.strip(b" \t") for member in value.split(b",")]
