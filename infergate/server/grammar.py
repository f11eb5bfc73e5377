"""What a request's head may say, and how it says where the body ends.

The grammar is that of RFC 9110 and RFC 9112. Where they let a server choose, this one refuses:
whatever two readers could frame in two ways is an error here.

`Parser` finds where a head ends, and has it read in this order, which is that in which faults are
told:

    request_line    method, target and version, or what is wrong with the line
    read_fields     the header fields, each a token, a colon and a value
    refuse_doubles  no field has the name of another, written with ``_``
    judge           what they say together: the version, the host, the framing

The trailers of a body in chunks are fields too.
"""

from __future__ import annotations

import re
from functools import lru_cache
from ipaddress import IPv6Address

from infergate.errors import (
    BadRequest,
    BodyTooLarge,
    ExpectationFailed,
    HeadersTooLarge,
    NotImplementedMethod,
    URITooLong,
    VersionNotSupported,
)
from infergate.server.head import MAX_LENGTH_DIGITS, TEXT, Fields, Head

MAX_METHOD = 32
"""Bytes of a method: every registered one is shorter, and a longer one need not be read to
its end to be known as not implemented."""

_METHODS = frozenset((b"GET", b"HEAD", b"POST", b"PUT", b"DELETE", b"PATCH", b"OPTIONS"))

RESERVED = frozenset(
    b"authorization connection content-encoding content-length content-range content-type cookie"
    b" expect forwarded host keep-alive max-forwards origin proxy-authorization proxy-connection"
    b" range request-id te trailer transfer-encoding upgrade via x-forwarded-for"
    b" x-forwarded-host x-forwarded-proto x-real-ip x-request-id".split()
)
"""Fields that frame, route, authenticate or describe a request."""

TOKEN = rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]"  # RFC 9110, 5.6.2

# RFC 9112, 3: exactly one SP between the three parts, and 2.3: the version in capitals.
_LINE = re.compile(rb"(%b{1,%d}) ([!-~]+) (HTTP/[0-9]\.[0-9])\r\n" % (TOKEN, MAX_METHOD))
# As much of it as a line that is at fault may have: tells a method or a target that is too long
# from what is no request line at all.
_OPEN_LINE = re.compile(rb"(%b*)(?: ([!-~]*))?" % TOKEN)

# RFC 9112, 5 and 5.1: a token, the colon right after it; 5.2: no line folding; 2.2: no bare CR
# and no bare LF.
_SECTION = re.compile(rb"((?:%b+:%b*\r\n)*)\r\n" % (TOKEN, TEXT))

# RFC 9110, 7.2: uri-host [ ":" port ], the uri-host by RFC 3986, 3.2.2. It may be neither empty
# (RFC 9110, 4.2.1) nor hold a comma, which is how two Host fields look once they are joined.
_HOST = re.compile(
    rb"(?:\[([0-9A-Fa-f:.]+)\]|(?:[A-Za-z0-9\-._~!$&'()*+;=]|%[0-9A-Fa-f]{2})+)(?::[0-9]{0,5})?"
)
_ABSOLUTE = re.compile(rb"https?://([^/?#]*)([/?][^#]*)?", re.IGNORECASE)
_CODINGS = re.compile(rb"%b+(?:[ \t]*,[ \t]*%b+)*" % (TOKEN, TOKEN))


def request_line(raw: bytes, target_room: int) -> tuple[Head, int]:
    """Return a head that knows no more than its request line, and the offset at which the fields
    begin. `raw` is a head, or as much of it as there is room for.

    Raises `NotImplementedMethod` for a method above `MAX_METHOD` bytes, `URITooLong` for a target
    above `target_room`, `HeadersTooLarge` where the line does not end within `raw`, and
    `BadRequest` for what is no request line. Called by `Parser`.
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


def read_fields(raw: bytes, room: int) -> Fields:
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
    fields: Fields = {}
    for line in lines:
        name, _, value = line.partition(b":")
        fields.setdefault(name.lower(), []).append(value.strip(b" \t"))
    return fields


def judge(head: Head) -> None:
    """Refuse a head that is well-formed and yet none for this server; say in it how it is framed.

    Called by `Parser` last. Sets `length`, `keep_alive`, `expects_continue`, and
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


def refuse_doubles(fields: Fields) -> None:
    """Raise `BadRequest` for a field whose name is that of a reserved one, written with ``_``.

    RFC 9110, 5.1 has no names that are alike, but what reads headers as variables (RFC 3875,
    4.1.18) has: ``Content_Length`` is ``Content-Length`` there. Called with the fields of a head
    that holds a ``_`` anywhere, and with those of trailers.
    """
    for name in fields:
        if b"_" in name and re.sub(rb"[-_]+", b"-", name).strip(b"-") in RESERVED:
            raise BadRequest("A header field has the name of another, written with '_'.")


def _host(fields: Fields, *, required: bool) -> bytes | None:
    """Return the value of the one valid ``Host`` (RFC 9112, 3.2), None where there is none and none
    is `required`, as in HTTP/1.0. Raises `BadRequest` for several, for one that is no host, and
    where there must be one. Called by `judge`."""
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
    `judge` for a target that does not begin with ``/``, or holds ``#``.
    """
    match = _ABSOLUTE.fullmatch(target)
    if match is None or not _is_host(match[1]):
        raise BadRequest("The request target is malformed.")
    if host is not None and match[1].lower() != host.lower():
        raise BadRequest("The request target and the Host header name different hosts.")
    path = match[2] or b""
    return path if path.startswith(b"/") else b"/" + path


def _length(fields: Fields, modern: bool) -> int | None:
    """Return the body's length in bytes, None where it is chunked (RFC 9112, 6.3).

    `modern` says that the version is HTTP/1.1. Raises `BadRequest` for a length that is malformed,
    repeated, or beside a ``Transfer-Encoding``, and for the latter in HTTP/1.0; `BodyTooLarge` for
    more digits than `MAX_LENGTH_DIGITS`; and what `_check_coding` does. Called by `judge`.
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


def _options(fields: Fields) -> list[bytes]:
    """Return the options of ``Connection`` in lower case, such as ``close``: one list, however many
    fields it is spread over (RFC 9110, 7.6.1). Called by `judge`."""
    return _members(b",".join(fields.get(b"connection", ())).lower())


def _members(value: bytes) -> list[bytes]:
    """Return the members of a comma-separated list, without the blanks around them."""
    return [member.strip(b" \t") for member in value.split(b",")]
