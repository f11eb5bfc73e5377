"""A small document over HTTP, bounded in size and time."""

from __future__ import annotations

from collections.abc import Callable

from treq.client import HTTPClient
from treq.content import collect
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.web.iweb import IAgent

from infergate.backend import NoCookies, Plain, discard

MAX_BYTES = 1 << 20
DEADLINE = 10.0
"""Seconds for all of it."""


def fetcher(agent: IAgent, url: str, clock: IReactorTime) -> Callable[[], Deferred[bytes]]:
    """A function that gets `url`; its Deferred fails for anything but a 200 of at most
    `MAX_BYTES` within `DEADLINE`."""
    client = HTTPClient(Plain(agent), NoCookies())

    async def fetch() -> bytes:
        response = await client.get(url, unbuffered=True, allow_redirects=False)
        if response.code != 200:
            discard(response)
            raise ValueError(f"status {response.code}")
        pieces: list[bytes] = []

        def keep(piece: bytes) -> None:
            pieces.append(piece)
            if sum(map(len, pieces)) > MAX_BYTES:
                raise ValueError("too large")

        await collect(response, keep)
        return b"".join(pieces)

    return lambda: Deferred.fromCoroutine(fetch()).addTimeout(DEADLINE, clock)
