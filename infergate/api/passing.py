"""Header fields that an operator lets through: from the client to the backend, and back.

`FORWARD_HEADERS` and `RETURN_HEADERS` name them, as in ``x-session-id, x-tenant``. When the
settings are read, `parse_forwarded` and `parse_returned` check these lists; for each request the
worker picks the named fields with `forwarded`, and for each response with `returned`. Names are in
lower case here, as the parsers of both sides give them out.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping

_NAME = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")

_VALUE = re.compile(rb"[\t\x20-\x7e\x80-\xff]+")

_NEVER = frozenset(
    {
        # Credentials and cookies are one party's own.
        *("authorization", "proxy-authorization", "x-api-key", "api-key", "cookie", "set-cookie"),
        *("www-authenticate", "proxy-authenticate", "authentication-info"),
        # Of one connection, and of how its messages are framed (RFC 9110, 7.6.1).
        *("connection", "keep-alive", "proxy-connection", "te", "trailer", "transfer-encoding"),
        *("upgrade", "host", "expect", "content-length", "content-encoding", "accept-encoding"),
        # The gateway says these itself.
        *("content-type", "x-request-id", "request-id"),
    }
)

_NEVER_BACK = frozenset({"date", "retry-after", "retry-after-ms", "x-should-retry"})
"""What the gateway says itself to clients, or passes back without being told, beside `_NEVER`."""

_OWN = (b"accept", b"traceparent", b"tracestate")
"""What every request to the backend says of itself."""


def parse_forwarded(text: str) -> tuple[bytes, ...]:
    """Check the value of `FORWARD_HEADERS`, and return the names in it, in lower case.

    Called when the settings are read. Raises `ValueError`, in words for the operator, for what is
    no name of a header field and for a field that never goes on, such as ``authorization``.
    """
    return _parse(text, lambda name: name in _NEVER)


def parse_returned(text: str) -> tuple[bytes, ...]:
    """Check the value of `RETURN_HEADERS`, and return the names in it, in lower case.

    Called when the settings are read. Raises `ValueError` as `parse_forwarded` does, and for the
    fields that the gateway says itself to its clients, such as ``retry-after``, and those of CORS.
    """
    return _parse(
        text,
        lambda name: name in _NEVER | _NEVER_BACK or name.startswith("access-control-"),
    )


def _parse(text: str, never: Callable[[str], bool]) -> tuple[bytes, ...]:
    """Return the names in a comma-separated list, each once and in lower case.

    `never` is asked of each name whether it may never pass. Raises `ValueError` for what is no name
    of a header field (RFC 9110, 5.6.2), and for one that may never pass. For the two functions
    above.
    """
    names = [name.strip().lower() for name in text.split(",")]
    for name in names:
        if not _NAME.fullmatch(name):
            raise ValueError("must be comma-separated names of header fields")
        if never(name):
            raise ValueError(
                "must not name credentials, cookies, hop-by-hop or framing fields, nor what the "
                f"gateway says itself, such as {name}"
            )
    return tuple(name.encode("ascii") for name in dict.fromkeys(names))


def forwarded(fields: Mapping[bytes, list[bytes]], names: Iterable[bytes]) -> bytes:
    """Return those of a request's fields that `names` lists, each once, as lines with the names
    capitalized (``X-Session-Id: 7``) for the backend. Called by the worker for each request.

    Left out is what goes on as the gateway judges it to be, whatever the settings name (`_OWN`).
    """
    lines = [
        b"%b: %b\r\n" % (name.title(), value)
        for name in dict.fromkeys(names)
        if name in fields and name not in _OWN
        for value in fields[name]
    ]
    return b"".join(lines)


def returned(
    fields: Mapping[bytes, list[bytes]], names: Iterable[bytes], said: Iterable[bytes]
) -> list[tuple[bytes, bytes]]:
    """Return the lines of a response's fields that `names` lists, for the client's answer.

    `fields` are the backend's. Left out are values with bytes that no field may have (RFC 9110,
    5.5) and fields that the gateway has `said` itself. Called by the worker once the response's
    head is here, and for replies of a type that passes unread, with the fields that their operation
    keeps.
    """
    own = {name.lower() for name in said}
    return [
        (name.title(), value)
        for name in names
        if name in fields and name not in own
        for value in fields[name]
        if _VALUE.fullmatch(value)
    ]
