"""A small document over HTTP, bounded in size and time."""

from __future__ import annotations

from collections.abc import Callable
from typing import cast

from treq.client import HTTPClient
from treq.content import collect
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.internet.protocol import Protocol
from twisted.web.iweb import IAgent, IResponse

from infergate.backend.agent import discard
from infergate.backend.client import NoCookies, Plain

MAX_BYTES = 1 << 20
DEADLINE = 10.0
"""Seconds for all of it."""


class _Closable:
    """A response to `collect`, whose Deferred stops nothing when it is cancelled."""

    def __init__(self, response: IResponse) -> None:
        self._response = response
        self._reader: Protocol | None = None
        self.length = response.length

    def deliverBody(self, protocol: Protocol) -> None:
        self._reader = protocol
        self._response.deliverBody(protocol)

    def close(self) -> None:
        """Lose the connection, if it is still this response's."""
        if self._reader is not None and self._reader.transport is not None:
            self._reader.transport.loseConnection()


def fetcher(agent: IAgent, url: str, clock: IReactorTime) -> Callable[[], Deferred[bytes]]:
    """A function that gets `url`; its Deferred fails for anything but a 200 of at most
    `MAX_BYTES` within `DEADLINE`."""
    client = HTTPClient(Plain(agent), NoCookies())

    async def fetch() -> bytes:
        response = await client.get(url, unbuffered=True, allow_redirects=False)
        if response.code != 200:
            discard(response)
            raise ValueError(f"status {response.code}")
        document = bytearray()

        def keep(piece: bytes) -> None:
            document.extend(piece)
            if len(document) > MAX_BYTES:
                raise ValueError("too large")

        body = _Closable(response)
        try:
            await collect(cast(IResponse, body), keep)
        finally:
            body.close()
        return bytes(document)

    return lambda: Deferred.fromCoroutine(fetch()).addTimeout(DEADLINE, clock)
