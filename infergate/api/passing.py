"""Header fields that an operator lets through: from the client to the backend, and back."""

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


def parse_forwarded(text: str) -> tuple[bytes, ...]:
    """The names in `FORWARD_HEADERS`, in lower case. Raises `ValueError` for one that never goes
    on."""
    return _parse(text, lambda name: name in _NEVER)


def parse_returned(text: str) -> tuple[bytes, ...]:
    """The same of `RETURN_HEADERS`."""
    return _parse(
        text,
        lambda name: name in _NEVER | _NEVER_BACK or name.startswith("access-control-"),
    )


def _parse(text: str, never: Callable[[str], bool]) -> tuple[bytes, ...]:
    """The names in a comma-separated list, each once and in lower case. Raises `ValueError` for
    what is no name, and for one that `never` may go on."""
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


def forwarded(
    fields: Mapping[bytes, list[bytes]], names: Iterable[bytes]
) -> dict[bytes, list[bytes]]:
    """Of a request's fields those of these names, capitalized as HTTP clients write them."""
    return {name.title(): fields[name] for name in names if name in fields}


def returned(
    fields: Mapping[bytes, list[bytes]], names: Iterable[bytes], said: Iterable[bytes]
) -> list[tuple[bytes, bytes]]:
    """Of a response's fields those of these names, but for values that no field may have (RFC
    9110, 5.5); not those that the gateway has `said`."""
    own = {name.lower() for name in said}
    return [
        (name.title(), value)
        for name in names
        if name in fields and name not in own
        for value in fields[name]
        if _VALUE.fullmatch(value)
    ]
