"""Lines of an answer's head that are the same in many answers, each made once.

A line has no line end: `Request.begin` joins them.
"""

from __future__ import annotations

import re
from functools import lru_cache
from http import HTTPStatus
from time import time

from twisted.web.http import datetimeToString

UNPRINTABLE = re.compile(rb"[\x00-\x08\x0a-\x1f\x7f]")
"""A byte that may not stand in a header field: it is sent as a space."""

_REASONS = {status.value: status.phrase.encode("ascii") for status in HTTPStatus}


@lru_cache(64)
def status_line(status: int) -> bytes:
    """Return the first line of an answer. Called by `Request._opening`, with few statuses."""
    return b"HTTP/1.1 %d %b" % (status, _REASONS.get(status, b""))


@lru_cache(64)
def type_line(content_type: bytes) -> bytes:
    """Return the line that says what an answer's body is. Called by `Request._opening`, with one
    content type nearly always."""
    return b"Content-Type: " + UNPRINTABLE.sub(b" ", content_type)


_date_cache: tuple[int, bytes] = (0, b"")


def date_line() -> bytes:
    """Return the line of ``Date`` for an answer that begins now (RFC 9110, 6.6.1), as in ``Date:
    Sun, 06 Nov 1994 08:49:37 GMT``; formatted once a second. Called by `Request._opening`."""
    global _date_cache
    now = int(time())
    if _date_cache[0] != now:
        _date_cache = (now, b"Date: " + datetimeToString(now))
    return _date_cache[1]
