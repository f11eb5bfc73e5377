"""Responses as backends send them, and what a reader makes of them."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import pairwise

import attrs
from hypothesis import strategies as st

from infergate.backend.head import Head, LastHead
from infergate.backend.parser import Reader


@attrs.frozen
class Reading:
    """What came of a response: its body, and what the reader says when the bytes are all in.
    `to_end` says that the body was to end with the connection."""

    body: bytes
    head: Head | None
    over: bool
    fault: str | None
    excess: bool
    to_end: bool


def read(pieces: Iterable[bytes], last: LastHead | None = None) -> Reading:
    """Feed a reader until it is over, as a connection does, and close it if it is not."""
    reader, body, rest = Reader(last), b"", b""
    for piece in pieces:
        if reader.over:
            rest += piece
        else:
            body += reader.feed(piece)
    over = reader.over
    to_end = not over and reader.close()
    excess = reader.fault is None and (reader.excess or rest != b"")
    return Reading(body, reader.head, over, reader.fault, excess, to_end)


def bytewise(raw: bytes) -> list[bytes]:
    return [raw[at : at + 1] for at in range(len(raw))]


def halves(raw: bytes) -> list[bytes]:
    return [raw[: len(raw) // 2], raw[len(raw) // 2 :]]


def response(*fields: bytes, line: bytes = b"HTTP/1.1 200 OK") -> bytes:
    return b"\r\n".join((line, *fields)) + b"\r\n\r\n"


def sized(body: bytes) -> bytes:
    return response(b"Content-Length: %d" % len(body)) + body


def chunked(body: bytes) -> bytes:
    return response(b"Transfer-Encoding: chunked") + body


def only(raw: bytes) -> Head:
    """The head that `raw` is."""
    reading = read([raw])
    assert reading.head is not None, reading.fault
    return reading.head


def cut(raw: bytes, cuts: list[int]) -> list[bytes]:
    """`raw` in pieces, some of them empty, cut at places that `cuts` come to."""
    places = [0, *sorted(place % (len(raw) + 1) for place in cuts), len(raw)]
    return [raw[start:end] for start, end in pairwise(places)]


def cuts() -> st.SearchStrategy[list[int]]:
    return st.lists(st.integers(0, 400), max_size=8)


CONTINUE = response(line=b"HTTP/1.1 100 Continue")
