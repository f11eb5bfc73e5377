"""Requests written from the grammar of RFC 9110 and RFC 9112, and what is to become of each.

A vector is read under `LIMITS`, which are small so that what exceeds them is small too.
"""

from __future__ import annotations

from collections.abc import Iterable

import attrs

from infergate.errors import GatewayError
from infergate.server.head import Head
from infergate.server.parser import END, Limits, Parser

LIMITS = Limits(target=60, head=400, fields=8, body=64)


@attrs.frozen
class Vector:
    """`requests` of `raw` are whole and good; then comes a refusal with `status`, or where that
    is None, nothing that is wrong yet."""

    name: str
    section: str
    raw: bytes
    requests: int
    status: int | None


@attrs.frozen
class Reading:
    """What a parser made of a stream: the requests that are whole, with their bodies; what it
    gave of one that is not; the status of its refusal; and its last `head`."""

    requests: list[tuple[Head, bytes]]
    rest: bytes
    status: int | None
    head: Head | None


class Forgetful(Parser):
    """A parser that judges every head anew."""

    def restart(self) -> None:
        super().restart()
        self._kept = self._pattern = None


def read(pieces: Iterable[bytes], limits: Limits = LIMITS, kind: type[Parser] = Parser) -> Reading:
    """Feed `pieces` to a parser as a server would that answers each request at once."""
    parser = kind(limits)
    requests: list[tuple[Head, bytes]] = []
    body: list[bytes] = []
    status = None
    try:
        for piece in pieces:
            parser.receive(piece)
            while (event := parser.next()) is not None:
                if event is END:
                    assert parser.head is not None
                    requests.append((parser.head, b"".join(body)))
                    body.clear()
                    parser.restart()
                elif isinstance(event, bytes):
                    body.append(event)
    except GatewayError as error:
        status = error.status
    return Reading(requests, b"".join(body), status, parser.head)


VECTORS: list[Vector] = []

REST = b"\r\n\r\n"
"""What makes the beginning of a head, of the line before a chunk, or of trailers whole."""


def accept(section: str, name: str, raw: bytes, requests: int = 1) -> None:
    VECTORS.append(Vector(name, f"RFC {section}", raw, requests, None))


def refuse(section: str, name: str, raw: bytes, status: int = 400, after: int = 0) -> None:
    VECTORS.append(Vector(name, f"RFC {section}", raw, after, status))


def refuse_whole(section: str, name: str, raw: bytes, status: int = 400) -> None:
    """`raw` is wrong already, and is judged when it is whole."""
    wait(section, f"{name}, not whole yet", raw)
    refuse(section, name, raw + REST, status)


def wait(section: str, name: str, raw: bytes) -> None:
    VECTORS.append(Vector(name, f"RFC {section}", raw, 0, None))


def head(line: bytes, *fields: bytes) -> bytes:
    return b"\r\n".join((line, *fields)) + b"\r\n\r\n"


def get(*fields: bytes) -> bytes:
    return head(b"GET / HTTP/1.1", b"Host: a", *fields)


def post(*fields: bytes) -> bytes:
    return head(b"POST / HTTP/1.1", b"Host: a", *fields)


def line(text: bytes) -> bytes:
    return head(text, b"Host: a")


def host(value: bytes) -> bytes:
    return head(b"GET / HTTP/1.1", b"Host:" + value)


def old(*fields: bytes) -> bytes:
    return head(b"POST / HTTP/1.0", *fields)


def chunked(body: bytes) -> bytes:
    return post(b"Transfer-Encoding: chunked") + body


def sized(value: bytes) -> bytes:
    return post(b"Content-Length:" + value)


def coded(value: bytes) -> bytes:
    return post(b"Transfer-Encoding:" + value)


# --- Request line -----------------------------------------------------------------------------

for method in (b"GET", b"HEAD", b"POST", b"PUT", b"DELETE", b"PATCH", b"OPTIONS"):
    accept("9110 9.1", f"method {method.decode()}", line(method + b" / HTTP/1.1"))
for method in (b"CONNECT", b"TRACE", b"BREW", b"get", b"PROPFIND", b"M-SEARCH", b"!#$%&'*+-.^_`|~"):
    refuse("9110 9.1", f"method {method.decode()}", line(method + b" / HTTP/1.1"), 501)
refuse("9110 9.3.6", "authority form", line(b"CONNECT a:80 HTTP/1.1"), 501)
refuse_whole("9112 3", "method that is too long", b"A" * 33, 501)
wait("9112 3", "method as long as it may be", b"A" * 32)
for name, bad in {
    "quoted": b'"GET"',
    "with a slash": b"GET/",
    "with a colon": b"GET:",
    "with NUL": b"G\0ET",
    "with an obs-text byte": b"G\xc9T",
    "with brackets": b"(GET)",
}.items():
    refuse("9110 5.6.2", f"method {name}", bad + REST)
refuse("9112 3", "method left out", line(b" / HTTP/1.1"))
refuse("9112 2.2", "whitespace before the request line", b" GET / HTTP/1.1\r\n")
refuse("9112 3", "two spaces before the target", line(b"GET  / HTTP/1.1"))
refuse("9112 3", "two spaces after the target", line(b"GET /  HTTP/1.1"))
refuse("9112 3", "space after the version", line(b"GET / HTTP/1.1 "))
refuse("9112 3", "tab for a space", line(b"GET\t/ HTTP/1.1"))
refuse("9112 3", "vertical tab for a space", line(b"GET\x0b/ HTTP/1.1"))
refuse("9112 3", "no-break space for a space", line(b"GET\xa0/ HTTP/1.1"))
refuse("9112 3", "space in the target", line(b"GET /a b HTTP/1.1"))
refuse("9112 3", "a fourth part", line(b"GET / HTTP/1.1 x"))
refuse_whole("9112 3", "HTTP/0.9", b"GET /\r\n")
refuse("9112 3", "no target", line(b"GET HTTP/1.1"))
refuse_whole("9112 3", "method alone", b"GET\r\n")
accept("9112 3", "what is no request line in the body", sized(b"4") + b"GET ")

for version in (b"1.2", b"0.9", b"2.0", b"3.0", b"1.9", b"0.0"):
    refuse("9110 15.6.6", f"version {version.decode()}", line(b"GET / HTTP/" + version), 505)
refuse("9113 3.4", "preface of HTTP/2", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505)
for version in (
    *(b"http/1.1", b"Http/1.1", b"HTTP/1", b"HTTP/1.", b"HTTP/.1", b"HTTP/01.1", b"HTTP/1.01"),
    *(
        b"HTTP/1.1.1",
        b"HTTP/11.1",
        b"HTTP/1,1",
        b"HTTP/-1.1",
        b"HTTP/1.x",
        b"HTTP 1.1",
        b"HTTP/ 1.1",
    ),
    *(b"HTTPS/1.1", b"ICE/1.0", b"SIP/2.0", b"/1.1", b"1.1", b"HTTP/1.1\0", b"HTTP/\xb9.1"),
):
    refuse("9112 2.3", f"version {version!r}", line(b"GET / " + version))

accept("9112 3.2.1", "path and query", line(b"GET /a/b?c=d&e HTTP/1.1"))
accept("9112 3.2.1", "escapes", line(b"GET /%20%0d%0A%00 HTTP/1.1"))
accept("9112 3.2.1", "empty segments", line(b"GET //a// HTTP/1.1"))
accept("9112 3.2.1", "target as long as it may be", line(b"GET /" + b"a" * 59 + b" HTTP/1.1"))
refuse("9112 3", "target too long", line(b"GET /" + b"a" * 60 + b" HTTP/1.1"), 414)
refuse("9112 3.2", "fragment", line(b"GET /a#b HTTP/1.1"))
refuse("9112 3.2", "no leading slash", line(b"GET a HTTP/1.1"))
refuse("9112 3.2", "query alone", line(b"GET ?a HTTP/1.1"))
refuse("9112 3.2", "backslash first", line(b"GET \\a HTTP/1.1"))
refuse("9112 3.2.3", "authority form for GET", line(b"GET a:80 HTTP/1.1"))
accept("9112 3.2.4", "asterisk form", line(b"OPTIONS * HTTP/1.1"))
refuse("9112 3.2.4", "asterisk form with a query", line(b"OPTIONS *?a HTTP/1.1"))
refuse("9112 3.2.4", "asterisk form for GET", line(b"GET * HTTP/1.1"))
for byte in (0x00, 0x01, 0x09, 0x0B, 0x1F, 0x7F, 0x80, 0xA0, 0xFF):
    refuse("3986 2", f"byte {byte:02x} in the target", line(b"GET /a%cb HTTP/1.1" % byte))
accept("9112 3.2.2", "absolute form", line(b"GET http://a/b HTTP/1.1"))
accept("9112 3.2.2", "absolute form in capitals", line(b"GET HTTP://A HTTP/1.1"))
accept("9112 3.2.2", "absolute form, query alone", line(b"GET https://a?b HTTP/1.1"))
accept("9112 3.2.2", "absolute form without Host", head(b"GET http://a/ HTTP/1.0"))
refuse("9112 3.2.2", "absolute form of another host", line(b"GET http://b/ HTTP/1.1"))
refuse("9112 3.2.2", "absolute form of another port", line(b"GET http://a:8/ HTTP/1.1"))
refuse("9110 4.2.4", "absolute form with a user", line(b"GET http://u@a/ HTTP/1.1"))
refuse("9110 4.2.1", "absolute form of no host", line(b"GET http:///a HTTP/1.1"))
refuse("9112 3.2.2", "absolute form of another scheme", line(b"GET ftp://a/ HTTP/1.1"))
refuse("9112 3.2.2", "absolute form with a fragment", line(b"GET http://a/#b HTTP/1.1"))
refuse("9112 3.2.2", "absolute form without slashes", line(b"GET http:a HTTP/1.1"))

# --- Line ends --------------------------------------------------------------------------------

accept("9112 2.2", "one empty line first", b"\r\n" + get())
accept("9112 2.2", "one empty line before each", b"\r\n" + get() + b"\r\n" + get(), 2)
wait("9112 2.2", "an empty line alone", b"\r\n")
wait("9112 2.2", "half an empty line", b"\r")
refuse("9112 2.2", "two empty lines first", b"\r\n\r\n" + get())
refuse("9112 2.2", "LF first", b"\n")
refuse("9112 2.2", "CR first", b"\rG")
refuse("9112 2.2", "two CR first", b"\r\r")
refuse_whole("9112 2.2", "LF ends the request line", b"GET / HTTP/1.1\n")
refuse_whole("9112 2.2", "CR ends the request line", b"GET / HTTP/1.1\rH")
refuse_whole("9112 2.2", "CR CR LF ends the request line", b"GET / HTTP/1.1\r\r\n")
refuse_whole("9112 2.2", "LF in the method", b"GE\nT")
refuse_whole("9112 2.2", "LF in the target", b"GET /\n")
refuse_whole("9112 2.2", "CR in the target", b"GET /\r")
refuse_whole("9112 2.2", "LF ends a field", b"GET / HTTP/1.1\r\nHost: a\n")
refuse_whole("9112 2.2", "CR ends a field", b"GET / HTTP/1.1\r\nHost: a\rX")
refuse_whole("9112 2.2", "CR CR LF ends a field", b"GET / HTTP/1.1\r\nHost: a\r\r\n")
refuse_whole("9112 2.2", "LF ends an empty field", b"GET / HTTP/1.1\r\nX:\n")
refuse_whole("9112 2.2", "CR in a name", b"GET / HTTP/1.1\r\nHo\rst: a\r\n")
refuse_whole("9112 2.2", "LF in a name", b"GET / HTTP/1.1\r\nHo\nst: a\r\n")
refuse("9112 2.2", "LF ends the head, on sight", b"GET / HTTP/1.1\r\nHost: a\r\n\n")
refuse_whole("9112 2.2", "CR ends the head", b"GET / HTTP/1.1\r\nHost: a\r\n\rX")
refuse_whole("9112 2.2", "LF CR", b"GET / HTTP/1.1\r\nHost: a\n\r")

# --- Fields -----------------------------------------------------------------------------------

accept("9112 5", "no whitespace around the value", get(b"X:y"))
accept("9112 5", "whitespace around the value", get(b"X: \t y \t "))
accept("9112 5", "empty value", get(b"X:"))
accept("9112 5", "value of whitespace", get(b"X: \t "))
accept("9110 5.5", "tab within a value", get(b"X: a\tb"))
accept("9110 5.5", "colon in a value", get(b"X: a:b: c"))
accept("9110 5.5", "obs-text in a value", get(b"X: \x80\xff caf\xc3\xa9"))
accept("9110 5.1", "every token character in a name", get(b"!#$%&'*+-.^_`|~09azAZ: x"))
accept("9110 5.1", "names in any case", head(b"GET / HTTP/1.1", b"hOsT: a", b"CONTENT-LENGTH: 0"))
accept("9110 5.3", "a field twice", get(b"X: a", b"x: b"))
accept("9110 5.4", "as many fields as there may be", get(*[b"X: y"] * 7))
refuse("6585 5", "one field too many", get(*[b"X: y"] * 8), 431)
accept("6585 5", "a head as long as it may be", get(b"X:" + b"y" * (400 - len(get(b"X:")))))
refuse("6585 5", "a head too long", get(b"X:" + b"y" * (401 - len(get(b"X:")))), 431)
refuse("6585 5", "a head too long, on sight", b"GET / HTTP/1.1\r\nX:" + b"y" * 400, 431)
refuse("6585 5", "a name too long, on sight", b"GET / HTTP/1.1\r\n" + b"y" * 400, 431)
refuse("9112 5.1", "space before the colon", get(b"X : y"))
refuse("9112 5.1", "tab before the colon", get(b"X\t: y"))
refuse("9112 5.1", "space before the colon of Content-Length", post(b"Content-Length : 0"))
refuse("9112 5", "empty name", get(b": y"))
refuse("9112 5", "no colon", get(b"X"))
refuse("9112 5.2", "folded value", get(b"X: a", b" b"))
refuse("9112 5.2", "value folded with a tab", get(b"X: a", b"\tb"))
refuse("9112 5.2", "folded Transfer-Encoding", post(b"Transfer-Encoding:", b" chunked"))
refuse("9112 2.2", "whitespace before the first field", b"GET / HTTP/1.1\r\n Host: a\r\n\r\n")
refuse("9112 2.2", "line of whitespace", b"GET / HTTP/1.1\r\n \r\nHost: a\r\n\r\n")
for text in (b"X Y", b"X(Y)", b"X/Y", b"X@Y", b'"X"', b"X[", b"X\\", b"X;", b"X,Y", b"{X}", b"X=Y"):
    refuse("9110 5.1", f"name {text!r}", get(text + b": z"))
for byte in (0x00, 0x01, 0x0B, 0x1F, 0x7F, 0x80, 0xC5, 0xFF):
    refuse("9110 5.1", f"byte {byte:02x} in a name", get(b"X%cY: z" % byte))
for byte in (0x00, 0x01, 0x07, 0x08, 0x0B, 0x0C, 0x0E, 0x1B, 0x1F, 0x7F):
    refuse("9110 5.5", f"byte {byte:02x} in a value", get(b"X: y%cz" % byte))
for text in (
    *(b"Content_Length", b"Transfer_Encoding", b"TRANSFER_ENCODING", b"Transfer__Encoding"),
    *(b"Host_", b"_Host", b"Content-_Length", b"Authorization_", b"X_Forwarded_For"),
    *(b"X_Request-ID", b"Expect_", b"_Connection_"),
):
    refuse("3875 4.1.18", f"name {text!r}", get(text + b": 0"))
accept("9110 5.1", "underscores that double nothing", get(b"My_Own_Field: 0", b"X_Y: 0"))

# --- Host -------------------------------------------------------------------------------------

for text in (
    *(b"a", b" example.com", b"example.com:8080", b"example.com.", b"127.0.0.1", b"127.0.0.1:1"),
    *(b"[::1]", b"[::1]:80", b"[2001:db8::1]", b"[::ffff:1.2.3.4]:65535", b"a:", b"under_score"),
    *(b"xn--bcher-kva.example", b"%41.example", b"a-b~c!$&'()*+;=d"),
):
    accept("9110 7.2", f"Host {text!r}", host(text))
for text in (
    *(b"", b" ", b":80", b"a b", b"a,b", b"a, b", b"u@a", b"a/b", b"a?b", b"a#b", b"a\\b"),
    *(b"http://a", b"a:b", b"a:-1", b"a:80:80", b"a:123456", b"a: 80", b"a%", b"a%4", b"a%zz"),
    *(b"[::1", b"::1", b"[]", b"[1.2.3.4]", b"[::g]", b"[::1]a", b"[::1%25eth0]", b"[v1.a]"),
    *(b"caf\xc3\xa9", b'"a"', b"<a>", b"a|b", b"a^b", b"{a}"),
):
    refuse("9112 3.2", f"Host {text!r}", host(text))
refuse("9112 3.2", "no Host", head(b"GET / HTTP/1.1"))
refuse("9112 3.2", "no Host among others", head(b"GET / HTTP/1.1", b"X-Host: a"))
refuse("9112 3.2", "two Hosts", get(b"Host: b"))
refuse("9112 3.2", "the same Host twice", get(b"Host: a"))
accept("9112 3.2", "no Host in HTTP/1.0", old())
refuse("9112 3.2", "two Hosts in HTTP/1.0", old(b"Host: a", b"Host: a"))
refuse("9112 3.2", "no valid Host in HTTP/1.0", old(b"Host: a b"))

# --- Content-Length ---------------------------------------------------------------------------

accept("9112 6.3", "no body", post())
accept("9110 8.6", "a body", sized(b" 5") + b"hello")
accept("9110 8.6", "a body of nothing", sized(b"0"))
accept("9110 8.6", "leading zeros", sized(b"\t005 ") + b"hello")
accept("9110 9.3.1", "a body with GET", get(b"Content-Length: 2") + b"{}")
accept(
    "9110 9.3.2", "a body with HEAD", line(b"HEAD / HTTP/1.1")[:-2] + b"Content-Length: 1\r\n\r\nx"
)
accept("9112 6.3", "a body in HTTP/1.0", old(b"Content-Length: 1") + b"x")
accept("9112 6.3", "any byte in a body", sized(b"8") + b"\0\r\n\r\n\xff\n\r")
wait("9112 6.3", "a body too short", sized(b"5") + b"hell")
wait("9112 6.3", "eighteen digits", sized(b"9" * 18))
refuse("9110 8.6", "nineteen digits", sized(b"9" * 19), 413)
refuse("9110 8.6", "three hundred digits", sized(b"9" * 300), 413)
for text in (
    *(
        b"",
        b" ",
        b"+5",
        b"-5",
        b"-0",
        b"0x5",
        b"5h",
        b"5.0",
        b"5e0",
        b"5_0",
        b"5 5",
        b"5,5",
        b"5, 5",
    ),
    *(b",5", b"5;", b'"5"', b"\xb2", b"\xd9\xa5", b"5\xa0", b"five", b"0o5", b"5\t5"),
):
    refuse("9110 8.6", f"Content-Length {text!r}", sized(text))
refuse("9112 6.3", "two lengths", post(b"Content-Length: 1", b"Content-Length: 2"))
refuse("9112 6.3", "the same length twice", post(b"Content-Length: 1", b"Content-Length: 1"))
refuse("9112 6.3", "two lengths in two cases", post(b"Content-Length: 0", b"content-length: 0"))

# --- Transfer-Encoding ------------------------------------------------------------------------

for text in (b" chunked", b"chunked", b" Chunked", b"\tCHUNKED\t"):
    accept("9112 7", f"Transfer-Encoding {text!r}", coded(text) + b"0\r\n\r\n")
for text in (b"gzip", b"identity", b"xchunked", b"gzip, chunked", b"gzip , deflate", b"chunked-"):
    refuse("9112 6.1", f"Transfer-Encoding {text!r}", coded(text), 501)
for text in (
    *(
        b"",
        b" ",
        b",",
        b"chunked,",
        b",chunked",
        b"chunked, chunked",
        b"chunked, gzip",
        b"chunked;a",
    ),
    *(b'"chunked"', b"chunked gzip", b"chunked\xa0", b"\xffchunked", b"gzip;q=1", b"chunked;"),
):
    refuse("9112 6.3", f"Transfer-Encoding {text!r}", coded(text))
TE = b"Transfer-Encoding: chunked"
refuse("9112 6.1", "two codings", post(TE, b"Transfer-Encoding: gzip"))
refuse("9112 6.1", "chunked twice", post(TE, TE))
refuse("9112 6.1", "chunked and a length", post(TE, b"Content-Length: 5"))
refuse("9112 6.1", "a length and chunked", post(b"Content-Length: 0", TE))
refuse(
    "9112 6.1", "another coding and a length", post(b"Transfer-Encoding: x", b"Content-Length: 5")
)
refuse("9112 6.1", "chunked in HTTP/1.0", old(TE))
refuse("9112 6.1", "another coding in HTTP/1.0", old(b"Transfer-Encoding: gzip"))

# --- Chunks -----------------------------------------------------------------------------------

LAST = b"0\r\n\r\n"
accept("9112 7.1", "no chunk", chunked(LAST))
accept("9112 7.1", "two chunks", chunked(b"5\r\nhello\r\n6\r\n world\r\n" + LAST))
accept(
    "9112 7.1", "sizes in either case", chunked(b"a\r\n0123456789\r\nA\r\n0123456789\r\n" + LAST)
)
accept("9112 7.1", "leading zeros of a size", chunked(b"0000000000000001\r\nx\r\n" + LAST))
accept("9112 7.1", "last chunk of many zeros", chunked(b"0000\r\n\r\n"))
accept("9112 7.1", "line ends in a chunk", chunked(b"5\r\n\r\n0\r\n\r\n" + LAST))
accept("9112 7.1", "a body as large as it may be", chunked(b"40\r\n" + b"x" * 64 + b"\r\n" + LAST))
refuse_whole("9112 7.1", "a chunk too large", chunked(b"41"), 413)
refuse_whole("9112 7.1", "too large a sum", chunked(b"40\r\n" + b"x" * 64 + b"\r\n1"), 413)
refuse_whole("9112 7.1", "sixteen digits", chunked(b"f" * 16), 413)
refuse_whole("9112 7.1", "seventeen digits", chunked(b"0" * 17))
for text in (
    *(b" 5", b"+5", b"-5", b"0x5", b"5_", b"5.", b"g", b"5 x", b"\t5", b"\r\n", b"\n", b";a"),
    *(b"\xb25", b'"5"', b"5,", b"5=a", b"\0", b"5\0"),
):
    refuse("9112 7.1", f"size {text!r}", chunked(text + REST))
refuse("9112 7.1.1", "whitespace after a size", chunked(b"5 \r\nhello\r\n" + LAST))
refuse("9112 7.1", "LF after a size, on sight", chunked(b"5\n"))
refuse_whole("9112 7.1", "CR after a size", chunked(b"5\rh"))
refuse("9112 7.1", "CR CR LF after a size", chunked(b"5\r\r\n"))
refuse("9112 7.1", "more data than the size", chunked(b"5\r\nhello!"))
refuse("9112 7.1", "less data than the size", chunked(b"5\r\nhell\r\n" + LAST))
refuse("9112 7.1", "LF after the data, on sight", chunked(b"5\r\nhello\n"))
refuse("9112 7.1", "CR after the data, on sight", chunked(b"5\r\nhello\r0"))
refuse("9112 7.1", "nothing after the data", chunked(b"5\r\nhello0\r\n\r\n"))
wait("9112 7.1", "no last chunk", chunked(b"5\r\nhello\r\n"))
wait("9112 7.1", "no end of the last chunk", chunked(b"0\r\n"))
for text in (
    b";a",
    b";a=b",
    b";a=b;c",
    b' ; a = "b"',
    b"\t;\ta\t=\tb",
    b';a="\\"\t\x80;\\\\"',
    b';a=""',
):
    accept(
        "9112 7.1.1",
        f"extension {text!r}",
        chunked(b"1" + text + b"\r\nx\r\n0" + text + b"\r\n\r\n"),
    )
for text in (
    *(b";", b";a=", b";=b", b";a;", b";a b", b';a="b', b';a="b"c', b";a=b=c", b";a[", b';a="\\"'),
    *(b";a ", b";a=b ", b";\xe9", b";;a", b";a,b"),
):
    refuse("9112 7.1.1", f"extension {text!r}", chunked(b"1" + text + b"\r\nx\r\n" + LAST))
for text in (b";a\n", b";a\rb", b";a=\0", b';a="\r\n', b';a="\n"', b";a=\x7f"):
    refuse("9112 7.1.1", f"extension {text!r}, cut short", chunked(b"1" + text + REST))

# --- Trailers ---------------------------------------------------------------------------------


def trailers(*fields: bytes) -> bytes:
    return chunked(b"1\r\nx\r\n0\r\n" + b"".join(field + b"\r\n" for field in fields) + b"\r\n")


accept("9112 7.1.2", "a trailer", trailers(b"X-Checksum: 1"))
accept("9112 7.1.2", "trailers", trailers(b"A: 1", b"B:", b"C: \xff"))
accept("9112 7.1.2", "as many trailers as there may be", trailers(*[b"A: 1"] * 8))
refuse("6585 5", "one trailer too many", trailers(*[b"A: 1"] * 9), 431)
refuse("6585 5", "trailers too long, on sight", chunked(b"0\r\nA:" + b"x" * 400), 431)
for text in (
    *(b"Content-Length: 0", b"Transfer-Encoding: chunked", b"Host: a", b"Authorization: b"),
    *(b"content-type: text/plain", b"Content-Encoding: gzip", b"Connection: close", b"Expect: x"),
    *(b"TE: x", b"Trailer: x", b"X-Forwarded-For: a", b"X-Request-ID: a", b"Content_Length: 0"),
):
    refuse("9110 6.5.1", f"trailer {text!r}", trailers(text))
for text in (b"A : b", b": b", b"A", b" A: b", b"A: b\0", b"A: b\rc", b"A: b\nc", b"A: b\r\n c"):
    refuse("9112 7.1.2", f"trailer {text!r}", trailers(text))
refuse("9112 7.1.2", "LF ends the trailers, on sight", chunked(b"0\r\n\n"))
refuse_whole("9112 7.1.2", "CR ends the trailers", chunked(b"0\r\n\rX"))
refuse_whole("9112 7.1.2", "LF ends a trailer", chunked(b"0\r\nA: b\n"))

# --- Expect -----------------------------------------------------------------------------------

accept("9110 10.1.1", "100-continue", post(b"Expect: 100-continue", b"Content-Length: 1") + b"x")
accept("9110 10.1.1", "100-continue in any case", post(b"expect: 100-Continue"))
accept("9110 10.1.1", "any expectation in HTTP/1.0", old(b"Expect: a miracle"))
for text in (b"", b"200-ok", b"100-continue, x", b"100-continue;a", b"100-continue-", b"100"):
    refuse("9110 10.1.1", f"Expect {text!r}", post(b"Expect: " + text), 417)
refuse("9110 10.1.1", "two expectations", post(*[b"Expect: 100-continue"] * 2), 417)

# --- One after another ------------------------------------------------------------------------

accept("9112 9.3.2", "three requests", get() + sized(b"2") + b"{}" + get(), 3)
accept("9112 9.3.2", "after a chunked body", chunked(b"1\r\nx\r\n" + LAST) + get(), 2)
accept("9112 9.3.2", "after trailers", trailers(b"A: b") + get(), 2)
accept("9112 9.3.2", "the beginning of another", get() + b"GET / HT")
refuse("9112 9.3.2", "good, then bad", get() + head(b"GET / HTTP/1.1"), after=1)
refuse("9112 9.3.2", "more data than the length", sized(b"1") + b"x}" + get(), after=1)
refuse("9112 9.3.2", "garbage after the end", get() + b"\0", after=1)
