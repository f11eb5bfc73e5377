"""What a backend can do wrong, and what must come of it, for a plain request and a streamed one."""

from __future__ import annotations

import gzip
import itertools
import zlib
from dataclasses import dataclass, field, replace
from typing import Any

from tests.e2e.dialects import CHAT, Counts, Dialect
from tests.e2e.faulty_backend import (
    CHUNKED,
    CLOSE,
    DONE,
    ERROR,
    EVENTS,
    HALF_CLOSE,
    HOLD,
    LAST_CHUNK,
    RESET,
    ROLE,
    STOP,
    STREAM_HEAD,
    UNREAD,
    USAGE,
    WORDS,
    Script,
    chunk,
    completion,
    drip,
    event,
    head,
    pause,
    pour,
    stream,
    whole,
)

RESPONSE_TIMEOUT = 2
IDLE_TIMEOUT = 2
TOTAL_TIMEOUT = 5
MAX_RESPONSE = 200_000
MAX_EVENT = 50_000

OUTCOMES = {
    "backend_error": "backend_error",
    "backend_unavailable": "backend_unavailable",
    "gateway_timeout": "timeout",
}


@dataclass(frozen=True)
class Expected:
    """What a client gets, and what the log says of it.

    A stream is one of: `body`, all of it; `before`, what came before the gateway's error event;
    `passed_on`, what came up to and with an error event of the backend's own; `one_chunk`, a plain
    reply made into one.
    """

    status: int = 200
    code: str | None = None
    outcome: str = "ok"
    retry: str | None = None
    retry_after: str | None = None
    message: str | None = None
    body: bytes | None = None
    before: bytes | None = None
    passed_on: bytes | None = None
    one_chunk: bool = False
    usage: Counts | None = None

    @property
    def streams(self) -> bool:
        """Whether it is an event stream."""
        cut = self.status == 200 and self.code is not None
        return cut or self.body is not None or self.one_chunk


@dataclass(frozen=True)
class Fault:
    """`script` is what the backend does; `request` is what the client's request holds."""

    name: str
    script: Script
    plain: Expected
    streamed: Expected
    request: dict[str, Any] = field(default_factory=dict)
    script_of_stream: Script | None = None


def failed(status: int, code: str) -> Expected:
    """The prompt may have been worked on, so that the SDKs must not send it again."""
    return Expected(status, code, OUTCOMES[code], retry="false")


BROKEN = failed(502, "backend_error")
NO_ANSWER = failed(502, "backend_unavailable")
TOO_LATE = failed(504, "gateway_timeout")


def refused(status: int, message: str | None = None, retry_after: str | None = None) -> Expected:
    outcome = "rate_limited" if status == 429 else "client_error"
    return Expected(status, "backend_rejected", outcome, retry_after=retry_after, message=message)


def streamed(body: bytes, *usage: Any) -> Expected:
    return Expected(body=body, usage=usage or None)


def cut(before: bytes, *usage: Any) -> Expected:
    return Expected(200, "backend_error", "backend_error", before=before, usage=usage or None)


def stalled(before: bytes, *usage: Any) -> Expected:
    return Expected(200, "gateway_timeout", "timeout", before=before, usage=usage or None)


def passed_on(events: bytes) -> Expected:
    return Expected(200, "backend_error", "backend_error", passed_on=events)


def both(name: str, *script: Any, gives: Expected, **options: Any) -> Fault:
    """A fault that is the same for both."""
    return Fault(name, script, gives, gives, **options)


def pair(
    name: str, plain: Script, stream: Script, gives: Expected, then: Expected | None = None
) -> Fault:
    """A fault of any body: what it gives for a plain one, and for a stream, if that is another."""
    return Fault(name, plain, gives, then or gives, script_of_stream=stream)


def reply(name: str, *script: Any, **options: Any) -> Fault:
    """A plain answer that is no fault at all."""
    return Fault(name, script, Expected(), Expected(one_chunk=True), **options)


def events(
    name: str, *script: Any, gives: Expected, plain: Expected = BROKEN, **options: Any
) -> Fault:
    """A stream; for a plain request it is no answer, whatever it says."""
    return Fault(name, script, plain, gives, **options)


JSON = b"Content-Type: application/json"
OPENAI_ERROR = b'{"error": {"message": "too long", "type": "invalid_request_error", "code": 400}}'
PAGE = b"<html><pre>Traceback (most recent call last): secret</pre></html>"
REPORTED = (3, 2, 5, "backend")
SAID = CHAT.said
COUNTED = CHAT.counted


def with_status(status: int, gives: Expected, *fields: bytes, said: bytes = OPENAI_ERROR) -> Fault:
    kind = b"text/html" if said == PAGE else b"application/json"
    answer = whole(said, *fields, status=b"%d Whatever" % status, kind=kind)
    name = f"status {status}" + (" with a page" if said == PAGE else "")
    return both(name, answer, gives=gives)


CONNECTIONS = [
    both("reset, request unread", UNREAD, RESET, gives=NO_ANSWER),
    both("reset, request read", RESET, gives=NO_ANSWER),
    both("closed, request unread", UNREAD, CLOSE, gives=NO_ANSWER),
    both("half closed, request unread", UNREAD, HALF_CLOSE, gives=NO_ANSWER),
    both("closed, request read", CLOSE, gives=NO_ANSWER),
    both("closed in the status line", b"HTTP/1.1 20", CLOSE, gives=BROKEN),
    both("reset in the status line", b"HTTP/1.1 20", pause(0.1), RESET, gives=BROKEN),
    both("closed after the status line", b"HTTP/1.1 200 OK\r\n", CLOSE, gives=BROKEN),
    both("closed in a field", b"HTTP/1.1 200 OK\r\nContent-Ty", CLOSE, gives=BROKEN),
    both("reset in the head", b"HTTP/1.1 200 OK\r\nA: b\r\n", pause(0.1), RESET, gives=BROKEN),
    both("silence", HOLD, gives=TOO_LATE),
    both("silence after half a head", b"HTTP/1.1 200 OK\r\nA: ", HOLD, gives=TOO_LATE),
    both(
        "a head a byte at a time",
        drip([b"HTTP/1.1 200 OK\r\nA: "[at : at + 1] or b"x" for at in range(999)], 0.05),
        gives=TOO_LATE,
    ),
    both(
        "interim answers without end",
        drip(itertools.repeat(head(b"102 Processing")), 0.1),
        gives=TOO_LATE,
    ),
]


def heads(d: Dialect) -> list[Fault]:
    """What can be wrong with the head of an answer."""
    size = b"Content-Length: %d" % len(d.good)
    return [
        both("no HTTP at all", b"SSH-2.0-OpenSSH_9.2\r\n", HOLD, gives=BROKEN),
        both("HTTP/0.9", d.good, CLOSE, gives=BROKEN),
        both("a version of its own", whole(d.good).replace(b"HTTP/1.1", b"ICY"), gives=BROKEN),
        both("no status", b"HTTP/1.1\r\n\r\n", HOLD, gives=BROKEN),
        both("a status in words", b"HTTP/1.1 OK OK\r\n\r\n", HOLD, gives=BROKEN),
        both("an empty line first", b"\r\n" + whole(d.good), HOLD, gives=BROKEN),
        both("a field line of 1 MiB", head(b"200 OK", b"A: " + b"x" * 2**20), HOLD, gives=BROKEN),
        both("a field without a colon", head(b"200 OK", b"Content-Type"), HOLD, gives=BROKEN),
        both("a fold first", head(b"200 OK", b" folded: x"), HOLD, gives=BROKEN),
        both("lengths in conflict", whole(d.good, b"Content-Length: 5"), gives=BROKEN),
        both("a negative length", head(b"200 OK", b"Content-Length: -1") + d.good, gives=BROKEN),
        both("a length in words", head(b"200 OK", b"Content-Length: ten") + d.good, gives=BROKEN),
        both("a signed length", head(b"200 OK", b"Content-Length: +9") + d.good, gives=BROKEN),
        both("an endless length", head(b"200 OK", b"Content-Length: " + b"9" * 5001), gives=BROKEN),
        both("coded gzip", head(b"200 OK", b"Transfer-Encoding: gzip") + d.good, gives=BROKEN),
        both("coded twice", head(b"200 OK", b"Transfer-Encoding: gzip, chunked"), gives=BROKEN),
        reply("5,000 fields", whole(d.good, *(b"A%d: b" % n for n in range(5000)))),
        reply("NUL in a field", whole(d.good, b"A: \0b", b"Retry-After: \0")),
        reply("bytes in a cookie", whole(d.good, b"Set-Cookie: a=\xff\xfe; expires=\xff")),
        both("bytes in a field's name", whole(d.good, b"\xff: \xff"), gives=BROKEN),
        reply("the length twice", whole(d.good, size)),
        reply("a reason left out", whole(d.good, status=b"200")),
        reply("HTTP/1.0 until it closes", head(version=b"HTTP/1.0") + d.good, CLOSE),
        reply("a line feed as line end", whole(d.good).replace(b"\r\n", b"\n")),
        reply("interim answers", head(b"100 Continue") + head(b"103 Early Hints") + whole(d.good)),
        reply("a page by its type", whole(d.good, kind=b"text/html")),
        reply("no type", head(b"200 OK", size) + d.good),
        reply(
            "chunks with extras",
            head(b"200 OK", CHUNKED) + b"%x;a=b\r\n%b\r\n0\r\nA: b\r\n\r\n" % (len(d.good), d.good),
        ),
    ]


STATUSES = [
    *(with_status(status, BROKEN) for status in (99, 201, 202, 206, 300, 401, 402, 403, 405)),
    *(with_status(status, BROKEN) for status in (406, 408, 410, 418, 426, 500, 502, 504, 999)),
    both("status 101", head(b"101 Switching Protocols"), CLOSE, gives=BROKEN),
    both("status 204", head(b"204 No Content"), gives=BROKEN),
    both("status 304", head(b"304 Not Modified"), gives=BROKEN),
    *(
        with_status(status, BROKEN, b"Location: http://of-the-backend-host/secret")
        for status in (301, 302, 303, 307, 308)
    ),
    with_status(503, replace(BROKEN, retry=None, retry_after="7"), b"Retry-After: 7"),
    *(
        with_status(status, refused(status, "too long"))
        for status in (400, 404, 409, 413, 415, 422)
    ),
    with_status(429, refused(429, "too long", "17"), b"Retry-After: 17"),
    with_status(501, refused(501, "too long")),
    *(with_status(status, refused(status), said=PAGE) for status in (400, 404, 429)),
    with_status(500, BROKEN, said=PAGE),
    both("status 400, empty", whole(b"", status=b"400 Bad Request"), gives=refused(400)),
    both(
        "status 422, 1 MB",
        whole(b'{"detail": "%b"}' % (b"x" * 10**6), status=b"422 Unprocessable"),
        gives=refused(422),
    ),
    both(
        "status 400, cut short",
        head(b"400 Bad Request", b"Content-Length: 99") + b'{"error": "tw',
        CLOSE,
        gives=refused(400),
    ),
    both(
        "status 429, date",
        whole(OPENAI_ERROR, b"Retry-After: Fri, 31 Dec 2027 23:59:59 GMT", status=b"429 Slow"),
        gives=refused(429, None, "Fri, 31 Dec 2027 23:59:59 GMT"),
    ),
]

JSON_HEAD = head(b"200 OK", JSON, CHUNKED)
LONG = b"Content-Length: 9999"


def framing(d: Dialect) -> list[Fault]:
    """What can be wrong with where a body ends."""
    begun = STREAM_HEAD + chunk(d.opening) + chunk(d.words)
    return [
        pair(
            "length too long, closed",
            (head(b"200 OK", LONG) + d.good, CLOSE),
            (head(b"200 OK", LONG, EVENTS) + d.said, CLOSE),
            BROKEN,
            cut(d.said, *d.counted),
        ),
        pair(
            "length too long, reset",
            (head(b"200 OK", LONG) + d.good, pause(0.1), RESET),
            (head(b"200 OK", LONG, EVENTS), pause(0.1), RESET),
            BROKEN,
        ),
        pair(
            "length too long, stalled",
            (head(b"200 OK", LONG) + d.good, HOLD),
            (head(b"200 OK", LONG, EVENTS) + d.said + d.stop, HOLD),
            TOO_LATE,
            stalled(d.said + d.stop, *d.counted),
        ),
        pair(
            "length too short",
            (head(b"200 OK", b"Content-Length: %d" % (len(d.good) - 9)) + d.good,),
            (
                head(b"200 OK", EVENTS, b"Content-Length: %d" % (len(d.opening) + 9))
                + d.said
                + d.end,
            ),
            BROKEN,
            cut(d.opening),
        ),
        pair(
            "a broken chunk size",
            (JSON_HEAD + chunk(d.good[:9]) + b"zz\r\n", HOLD),
            (begun + b"zz\r\n", HOLD),
            BROKEN,
            cut(d.said, *d.counted),
        ),
        pair(
            "a broken chunk size at once",
            (JSON_HEAD + b"\r\n", HOLD),
            (STREAM_HEAD + b"\r\n", HOLD),
            BROKEN,
        ),
        pair(
            "a negative chunk size",
            (JSON_HEAD + b"-5\r\n" + d.good, HOLD),
            (STREAM_HEAD + b"-5\r\n" + d.opening, HOLD),
            BROKEN,
        ),
        pair(
            "an endless chunk size",
            (JSON_HEAD + b"f" * 2000, HOLD),
            (STREAM_HEAD + b"f" * 2000, HOLD),
            BROKEN,
        ),
        pair(
            "a chunk longer than its size",
            (JSON_HEAD + b"5\r\n" + d.good, HOLD),
            (STREAM_HEAD + chunk(d.opening) + b"5\r\n" + d.words, HOLD),
            BROKEN,
            cut(d.opening),
        ),
        pair(
            "a chunk cut short",
            (JSON_HEAD + chunk(d.good)[:-20], CLOSE),
            (begun + chunk(d.stop)[:20], CLOSE),
            BROKEN,
            cut(d.said, *d.counted),
        ),
        pair(
            "the last chunk missing",
            (JSON_HEAD + chunk(d.good), CLOSE),
            (begun + chunk(d.stop), CLOSE),
            BROKEN,
            cut(d.said + d.stop, *d.counted),
        ),
        pair(
            "reset in the body",
            (JSON_HEAD + chunk(d.good[:99]), pause(0.1), RESET),
            (begun, pause(0.1), RESET),
            BROKEN,
            cut(d.said, *d.counted),
        ),
        pair(
            "stalled in the body",
            (JSON_HEAD + chunk(d.good[:99]), HOLD),
            (begun, HOLD),
            TOO_LATE,
            stalled(d.said, *d.counted),
        ),
        pair(
            "too slow, never silent",
            (JSON_HEAD, drip([chunk(b" ")] * 999, 0.3)),
            (STREAM_HEAD + chunk(d.opening), drip([chunk(b": still here\n\n")] * 999, 0.3)),
            TOO_LATE,
            Expected(200, "gateway_timeout", "timeout"),
        ),
        both("an empty body", whole(b""), gives=BROKEN),
        both("an empty body in chunks", JSON_HEAD + LAST_CHUNK, gives=BROKEN),
        events("an empty stream", stream(), gives=BROKEN),
    ]


def bodies(d: Dialect) -> list[Fault]:
    """What can be wrong with a plain reply."""
    return [
        both("a page", whole(PAGE, kind=b"text/html"), gives=BROKEN),
        both("text", whole(b"Hello there", kind=b"text/plain"), gives=BROKEN),
        both("half of the JSON", whole(d.good[:-9]), gives=BROKEN),
        both("JSON twice", whole(d.good + d.good), gives=BROKEN),
        both("an array", whole(b"[" + d.good + b"]"), gives=BROKEN),
        both("a string", whole(b'"Hello"'), gives=BROKEN),
        both("a number", whole(b"5"), gives=BROKEN),
        both("null", whole(b"null"), gives=BROKEN),
        both("{}", whole(b"{}"), gives=BROKEN),
        both("an error under 200", whole(OPENAI_ERROR), gives=BROKEN),
        both("NaN", whole(d.good.replace(b": 3", b": NaN")), gives=BROKEN),
        both("Infinity", whole(d.good.replace(b": 3", b": -Infinity")), gives=BROKEN),
        both("bytes that are no UTF-8", whole(d.good.replace(b"Hello", b"\xff\xfe")), gives=BROKEN),
        both("half a surrogate", whole(d.good.replace(b"Hello", b"\xed\xa0\x80")), gives=BROKEN),
        both("UTF-16", whole(d.good.decode().encode("utf-16")), gives=BROKEN),
        both("a byte order mark", whole(b"\xef\xbb\xbf" + d.good), gives=BROKEN),
        both("nested too deep", whole(d.good[:-1] + b', "x": ' + b"[" * 99999), gives=BROKEN),
        both(
            "declared too large",
            head(b"200 OK", JSON, b"Content-Length: %d" % (MAX_RESPONSE + 1)),
            HOLD,
            gives=BROKEN,
        ),
        both(
            "too large",
            head(b"200 OK", JSON, CHUNKED),
            pour(chunk(b" " * 50_000)),
            gives=BROKEN,
        ),
        both("too large, until it closes", head(b"200 OK", JSON), pour(b" " * 9999), gives=BROKEN),
        both("gzip", whole(gzip.compress(d.good), b"Content-Encoding: gzip"), gives=BROKEN),
        both("deflate", whole(zlib.compress(d.good), b"Content-Encoding: deflate"), gives=BROKEN),
        both(
            "a gzip bomb",
            whole(gzip.compress(bytes(50_000_000)), b"Content-Encoding: GZip"),
            gives=BROKEN,
        ),
        both(
            "a refusal in gzip",
            whole(gzip.compress(OPENAI_ERROR), b"Content-Encoding: gzip", status=b"400 Bad"),
            gives=BROKEN,
        ),
        reply("no content coding", whole(d.good, b"Content-Encoding: identity")),
        reply(
            "fields that are no client's",
            whole(
                d.good,
                b"Set-Cookie: secret=1",
                b"Server: secret",
                b"X-Powered-By: secret",
                b"Proxy-Authenticate: secret",
                b"Keep-Alive: timeout=99",
                b"Upgrade: h2c",
                b"Trailer: secret",
                b"X-Request-ID: secret",
                b"Content-Encoding: identity",
                b"Access-Control-Allow-Origin: *",
            ),
        ),
    ]


CHAT_BODIES = [
    both("an error beside choices", whole(completion(error={"message": "no"})), gives=BROKEN),
    both("an error as text", whole(completion(error="no")), gives=BROKEN),
    reply(
        "members left out", whole(completion(id=..., object=..., created=..., model=..., usage=...))
    ),
]


def streams(d: Dialect) -> list[Fault]:
    """What can be wrong with a stream."""
    begun, big = STREAM_HEAD + chunk(d.opening) + chunk(d.words), d.large(MAX_EVENT)
    return [
        events("cut in an event", begun + chunk(d.stop[:20]) + LAST_CHUNK, gives=cut(d.said)),
        events("cut between events", begun + LAST_CHUNK, gives=cut(d.said, *d.counted)),
        events("closed between events", begun, CLOSE, gives=cut(d.said)),
        events("closed in an event", begun + chunk(d.stop[:20]), CLOSE, gives=cut(d.said)),
        events(
            "reset in an event", begun + chunk(d.stop[:9]), pause(0.1), RESET, gives=cut(d.said)
        ),
        events(
            "cut in the first event", STREAM_HEAD + chunk(d.opening[:9]) + LAST_CHUNK, gives=BROKEN
        ),
        events("reset before the first event", STREAM_HEAD, pause(0.1), RESET, gives=BROKEN),
        events("stalled before the first event", STREAM_HEAD, HOLD, gives=TOO_LATE, plain=TOO_LATE),
        events(
            "stalled in the first event",
            STREAM_HEAD + chunk(d.opening[:9]),
            HOLD,
            gives=TOO_LATE,
            plain=TOO_LATE,
        ),
        events(
            "stalled in an event",
            begun + chunk(d.stop[:9]),
            HOLD,
            gives=stalled(d.said),
            plain=TOO_LATE,
        ),
        events("only comments", stream(b": hello\n\n", b": hello\n\n"), gives=BROKEN),
        events(
            "comments without end",
            STREAM_HEAD,
            drip(itertools.repeat(chunk(b": %b\n\n" % (b"x" * 9999))), 0.1),
            gives=Expected(200, "gateway_timeout", "timeout"),
        ),
        events(
            "one comment without end",
            STREAM_HEAD + chunk(d.opening) + chunk(b":"),
            pour(chunk(b"x" * 999)),
            gives=cut(d.opening),
        ),
        events("an error event first", stream(d.error, d.end), gives=BROKEN),
        events("an error of code 500 first", stream(ERROR, d.end), gives=BROKEN),
        events(
            "an error of code 400 first",
            stream(b"data: " + OPENAI_ERROR + b"\n\n", d.end),
            gives=refused(400, "too long"),
        ),
        events("an error event", stream(d.said, d.error), gives=passed_on(d.said + d.error)),
        events(
            "an error event and more",
            begun + chunk(d.error),
            drip(itertools.repeat(chunk(d.words * 50)), 0.02),
            gives=passed_on(d.said + d.error),
        ),
        events(
            "an error event and silence",
            begun + chunk(d.error),
            HOLD,
            gives=passed_on(d.said + d.error),
            plain=TOO_LATE,
        ),
        events(
            "an error event and a reset",
            begun + chunk(d.error),
            pause(0.1),
            RESET,
            gives=passed_on(d.said + d.error),
        ),
        events(
            "an error by its event field",
            stream(d.said, b"event: error\ndata: out of memory\n\n", d.end),
            gives=passed_on(d.said + b"event: error\ndata: out of memory\n\n"),
        ),
        events(
            "an event too large",
            STREAM_HEAD + chunk(d.opening) + chunk(big) + chunk(d.stop + d.end) + LAST_CHUNK,
            gives=cut(d.opening),
        ),
        events(
            "an event too large, in pieces",
            STREAM_HEAD + chunk(d.opening),
            drip([chunk(big[n : n + 9999]) for n in range(0, len(big), 9999)], 0.05),
            LAST_CHUNK,
            gives=cut(d.opening),
        ),
        events("a first event too large", stream(big, d.stop, d.end), gives=BROKEN),
        events(
            "no JSON in an event",
            stream(d.said, b"data: hello\n\n", d.stop, d.end),
            gives=streamed(d.said + b"data: hello\n\n" + d.stop + d.end),
        ),
        events(
            "no UTF-8 in an event",
            stream(b"data: \xff\xfe\n\n", d.stop, d.end),
            gives=streamed(b"data: \xff\xfe\n\n" + d.stop + d.end),
        ),
        events(
            "an event nested deep",
            stream(b"data: " + b"[" * 20000 + b"\n\n", d.stop, d.end),
            gives=streamed(b"data: " + b"[" * 20000 + b"\n\n" + d.stop + d.end),
        ),
        events(
            "a byte order mark in a stream",
            stream(b"\xef\xbb\xbf" + d.said, d.stop, d.end),
            gives=streamed(b"\xef\xbb\xbf" + d.said + d.stop + d.end),
        ),
        events(
            "a stream in gzip",
            whole(gzip.compress(d.said + d.stop + d.end), EVENTS, b"Content-Encoding: gzip"),
            gives=BROKEN,
        ),
        events(
            "a stream after interim answers",
            head(b"100 Continue") + head(b"102 Processing") + stream(d.said, d.stop, d.end),
            gives=streamed(d.said + d.stop + d.end),
        ),
        events(
            "a stream with its length",
            whole(d.said + d.stop + d.end, kind=b"text/event-stream"),
            gives=streamed(d.said + d.stop + d.end),
        ),
        events(
            "a stream and bytes after it",
            stream(d.said, d.stop, d.end) + stream(d.words, d.end),
            gives=streamed(d.said + d.stop + d.end),
        ),
        events(
            "a stream by another name",
            whole(d.said + d.stop + d.end, kind=b"text/plain"),
            gives=streamed(d.said + d.stop + d.end),
        ),
    ]


def done_ends(d: Dialect) -> list[Fault]:
    """Where ``[DONE]`` ends a stream, or a proper end after all choices have theirs."""
    begun = STREAM_HEAD + chunk(d.opening) + chunk(d.words)
    return [
        events(
            "no [DONE]", stream(d.opening, d.words, d.stop), gives=streamed(d.said + d.stop + DONE)
        ),
        events(
            "no [DONE], HTTP/1.0, closed",
            head(b"200 OK", EVENTS, version=b"HTTP/1.0") + d.said + d.stop,
            CLOSE,
            gives=cut(d.said + d.stop),
        ),
        events(
            "no [DONE], no length, closed",
            head(b"200 OK", EVENTS) + d.said + d.stop,
            CLOSE,
            gives=cut(d.said + d.stop),
        ),
        events(
            "[DONE], HTTP/1.0, closed",
            head(b"200 OK", EVENTS, version=b"HTTP/1.0") + d.said + d.stop + DONE,
            CLOSE,
            gives=streamed(d.said + d.stop + DONE),
        ),
        events(
            "[DONE] and no last chunk",
            begun + chunk(d.stop + DONE),
            CLOSE,
            gives=streamed(d.said + d.stop + DONE),
        ),
        events(
            "[DONE] and never an end",
            begun + chunk(d.stop + DONE),
            HOLD,
            gives=streamed(d.said + d.stop + DONE),
            plain=TOO_LATE,
        ),
        events(
            "[DONE] and then more",
            stream(d.said, d.stop, DONE, d.said, d.error),
            gives=streamed(d.said + d.stop + DONE),
        ),
        events(
            "[DONE] and then more without end",
            begun + chunk(d.stop + DONE),
            drip(itertools.repeat(chunk(d.words * 50)), 0.02),
            gives=streamed(d.said + d.stop + DONE),
        ),
        events("[DONE] alone", stream(DONE), gives=streamed(DONE)),
        events(
            "[DONE] without its blank line",
            stream(d.said, d.stop, b"data: [DONE]\n"),
            gives=streamed(d.said + d.stop + DONE),
        ),
        events("half a [DONE]", stream(d.said, d.stop, b"data: [DO"), gives=cut(d.said + d.stop)),
        events(
            "[DONE] unfinished, nothing finished",
            stream(d.said, b"data: [DONE]"),
            gives=cut(d.said),
        ),
        events(
            "an error event and [DONE]",
            stream(d.said, d.error, DONE),
            gives=passed_on(d.said + d.error),
        ),
    ]


def certain_ends(d: Dialect) -> list[Fault]:
    """Where an event of its own ends a stream, and nothing else does."""
    begun = STREAM_HEAD + chunk(d.opening) + chunk(d.words)
    whole_stream = d.said + d.stop + d.end
    return [
        events("no end", stream(d.said, d.stop), gives=cut(d.said + d.stop, *d.counted)),
        events("[DONE] in place of the end", stream(d.said, DONE), gives=cut(d.said, *d.counted)),
        events(
            "no end, HTTP/1.0, closed",
            head(b"200 OK", EVENTS, version=b"HTTP/1.0") + d.said + d.stop,
            CLOSE,
            gives=cut(d.said + d.stop),
        ),
        events(
            "the end, HTTP/1.0, closed",
            head(b"200 OK", EVENTS, version=b"HTTP/1.0") + whole_stream,
            CLOSE,
            gives=streamed(whole_stream, *REPORTED),
        ),
        events("the end", stream(d.said, d.stop, d.end), gives=streamed(whole_stream, *REPORTED)),
        events(
            "the end and no last chunk",
            begun + chunk(d.stop + d.end),
            CLOSE,
            gives=streamed(whole_stream, *REPORTED),
        ),
        events(
            "the end and a reset",
            begun + chunk(d.stop + d.end),
            pause(0.1),
            RESET,
            gives=streamed(whole_stream, *REPORTED),
        ),
        events(
            "the end and never an end of the body",
            begun + chunk(d.stop + d.end),
            HOLD,
            gives=streamed(whole_stream, *REPORTED),
            plain=TOO_LATE,
        ),
        events(
            "the end and [DONE]",
            stream(d.said, d.stop, d.end, DONE),
            gives=streamed(whole_stream + DONE, *REPORTED),
        ),
        events(
            "the end and an error",
            stream(d.said, d.stop, d.end, d.error),
            gives=passed_on(whole_stream + d.error),
        ),
        events("the end alone", stream(d.end), gives=streamed(d.end)),
        events(
            "the end without its blank line",
            stream(d.said, d.stop, d.end[:-1]),
            gives=Expected(200, "backend_error", "backend_error"),
        ),
        events("half an end", stream(d.said, d.stop, d.end[:9]), gives=cut(d.said + d.stop)),
    ]


CHAT_STREAMS = [
    events(
        "no [DONE] after the usage",
        stream(ROLE, WORDS, STOP, USAGE),
        gives=streamed(SAID + STOP + DONE, *REPORTED),
    ),
    events(
        "a first event too large, after the usage",
        stream(USAGE, CHAT.large(MAX_EVENT), STOP, DONE),
        gives=BROKEN,
    ),
    events(
        "NaN in an event",
        stream(b'data: {"choices": NaN}\n\n', STOP, DONE),
        gives=streamed(b'data: {"choices": NaN}\n\n' + STOP + DONE),
    ),
    events(
        "usage unasked",
        stream(SAID, STOP, USAGE, DONE),
        gives=streamed(SAID + STOP + DONE, *REPORTED),
    ),
    events(
        "usage asked for",
        stream(SAID, STOP, USAGE, DONE),
        gives=streamed(SAID + STOP + USAGE + DONE, *REPORTED),
        request={"stream_options": {"include_usage": True}},
    ),
    events(
        "usage beside the last choice",
        stream(
            SAID,
            event(
                choices=[{"index": 0, "delta": {}, "finish_reason": "stop"}],
                usage={"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5},
            ),
            DONE,
        ),
        gives=streamed(
            SAID
            + event(
                choices=[{"index": 0, "delta": {}, "finish_reason": "stop"}],
                usage={"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5},
            )
            + DONE,
            *REPORTED,
        ),
    ),
    events(
        "usage in every event, then a reset",
        STREAM_HEAD
        + chunk(
            event(
                choices=[{"index": 0, "delta": {"content": "a"}}],
                usage={"prompt_tokens": 7, "completion_tokens": 1, "total_tokens": 8},
            )
        ),
        pause(0.1),
        RESET,
        gives=cut(
            event(
                choices=[{"index": 0, "delta": {"content": "a"}}],
                usage={"prompt_tokens": 7, "completion_tokens": 1, "total_tokens": 8},
            ),
            7,
            1,
            8,
            "backend",
        ),
    ),
    events(
        "usage that is no usage",
        stream(SAID, STOP, event(choices=[], usage="many"), DONE),
        gives=streamed(SAID + STOP + event(choices=[], usage="many") + DONE, *COUNTED),
    ),
]


def odd_events(d: Dialect) -> list[Fault]:
    """Whatever the grammar of event streams allows passes, however it is split."""
    whole_stream = (
        b": a comment\n\nid: 7\nevent: message\n%bdata: {\ndata: }\n\nretry: 5\n\n"
        b": between\n\n%b%b%b" % (d.opening, d.words, d.stop, d.end)
    )
    faults = []
    for ends in (b"\n", b"\r\n", b"\r"):
        odd = whole_stream.replace(b"\n", ends)
        faults += [
            events(f"odd events, lines ended by {ends!r}", stream(odd), gives=streamed(odd)),
            events(
                f"odd events, lines ended by {ends!r}, byte by byte",
                STREAM_HEAD,
                drip([chunk(odd[n : n + 1]) for n in range(len(odd))], 0),
                LAST_CHUNK,
                gives=streamed(odd),
            ),
        ]
    return faults


def faults_of(d: Dialect) -> list[Fault]:
    """The whole table of one operation."""
    wrong = [both(name, whole(body), gives=BROKEN) for name, body in d.wrong.items()]
    own = [*CHAT_BODIES, *CHAT_STREAMS] if d is CHAT else []
    ends = certain_ends(d) if d.end_is_certain else done_ends(d)
    parts = (heads(d), framing(d), bodies(d), wrong, streams(d), ends, odd_events(d), own)
    return [*CONNECTIONS, *STATUSES, *itertools.chain(*parts)]
