"""The clients: ``python -m benchmarks.load '{"port": 8080, "seconds": 5, "connections": 32}'``.

With ``connections``, plain requests one after the other on each, or with ``chunks`` short streams
of so many chunks without a pause; with ``streams`` and ``interval``, that many streams at once
with one chunk each `interval` milliseconds, or without a pause (0). ``callers`` takes turns with
the keys of so many callers, with ``ids`` each head differs from the last, ``body`` makes each
prompt so many bytes longer, ``pause`` has each connection wait so many milliseconds before the next
request, on average and at random. With
``path`` the streams are in another dialect than a chat's.

Prints one JSON object. Times are in milliseconds, and as a client sees them: what a gateway adds is
the difference from the same without one.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import json
import random
import re
import sys
import time
from array import array
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import count, cycle
from typing import Any, cast

import uvloop

from benchmarks.processes import allow_many_files
from benchmarks.question import KEY, caller_key, question, stream_of, with_id

_STAMPS = re.compile(rb"@(\d{16})").findall
_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
_LAST = b"\r\n0\r\n\r\n"

# A stream each millisecond: clients come in a burst, but not all at one instant.
RAMP_MICROSECONDS = 1000
UNFINISHED_SECONDS = 5


def _now() -> int:
    """Microseconds on the clock that the backend's stamps are from."""
    return time.monotonic_ns() // 1000


@dataclass
class Results:
    """What all clients of one run saw; times in microseconds."""

    left: int = 0
    window: tuple[int, int] = (0, 0)
    waits: array[int] = field(default_factory=lambda: array("q"))
    delays: array[int] = field(default_factory=lambda: array("q"))
    chunks: int = 0
    chunks_in_window: int = 0
    failures: int = 0
    failure: str = ""
    done: asyncio.Event = field(default_factory=asyncio.Event)

    def fail(self, why: object) -> None:
        self.failures += 1
        self.failure = self.failure or str(why)[:300]

    def summary(self, wait: str, **figures: float | None) -> dict[str, Any]:
        for name, times in ((wait, sorted(self.waits)), ("chunk", sorted(self.delays))):
            if times:
                figures[f"{name}_p50_ms"] = times[len(times) // 2] / 1000
                figures[f"{name}_p99_ms"] = times[len(times) * 99 // 100] / 1000
        return {**figures, "failures": self.failures, "failure": self.failure}


class Repeated(asyncio.Protocol):
    """One connection: the next request as soon as the last was answered, whole or as a stream of
    `chunks`."""

    def __init__(
        self, requests: Iterator[bytes], results: Results, chunks: int, pause: float
    ) -> None:
        self._requests = requests
        self._results = results
        self._chunks = chunks
        self._pause = pause
        self._buffer = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._next()

    def _send(self) -> None:
        request = next(self._requests)
        self._sent = _now()
        self._transport.write(request)

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        head = self._buffer.find(b"\r\n\r\n")
        length = _LENGTH.search(self._buffer, 0, head + 2) if head > 0 else None
        if length:
            whole = len(self._buffer) >= head + 4 + int(length[1])
        else:
            whole = self._buffer.endswith(_LAST)
        if whole:
            self._results.waits.append(_now() - self._sent)
            self._results.chunks += self._chunks
            if self._buffer[9:12] != b"200" or self._buffer.count(b"@") != self._chunks:
                self._results.fail(self._buffer)
            self._buffer = b""
            self._next()

    def _next(self) -> None:
        if self._pause:
            wait = random.expovariate(1000 / self._pause)
            asyncio.get_running_loop().call_later(wait, self._send)
        else:
            self._send()

    def connection_lost(self, reason: Exception | None) -> None:
        self._results.fail(reason or "the connection was closed")


class Stream(asyncio.Protocol):
    """One connection with one stream, timed from the moment the client wants it."""

    def __init__(self, request: bytes, results: Results, *, stamped: bool) -> None:
        self._request = request
        self._results = results
        self._stamped = stamped
        self._began = _now()
        self._waiting = True
        self._tail = b""

    async def connect(self, port: int) -> None:
        try:
            await asyncio.get_running_loop().create_connection(lambda: self, "127.0.0.1", port)
        except OSError as error:
            self.connection_lost(error)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._transport.write(self._request)

    def data_received(self, data: bytes) -> None:
        now = _now()
        results = self._results
        # A gateway may cut a stamp in two, but not the "@", so this is the count.
        count = data.count(b"@")
        if self._waiting and count:
            self._waiting = False
            results.waits.append(now - self._began)
        results.chunks += count
        if results.window[0] <= now < results.window[1]:
            results.chunks_in_window += count
        if self._stamped:
            for stamp in _STAMPS(data):
                results.delays.append(now - int(stamp))
        self._tail = (self._tail + data[-7:])[-7:]
        if self._tail == _LAST:
            self._transport.close()

    def connection_lost(self, reason: Exception | None) -> None:
        if self._waiting or self._tail != _LAST:
            self._results.fail(reason or "no whole stream")
        self._results.left -= 1
        if not self._results.left:
            self._results.done.set()


async def repeated(
    port: int,
    seconds: float,
    connections: int,
    chunks: int = 0,
    callers: int = 0,
    body: int = 0,
    pause: float = 0,
    ids: bool = False,
) -> dict[str, Any]:
    """As many requests as are answered in `seconds`."""
    results = Results()
    prompt = "x" * body + (f" @{chunks}x0" if chunks else "")
    keys = [caller_key(number) for number in range(callers)] or [KEY]
    requests: Iterator[bytes] = cycle(
        [question(port, prompt, stream=chunks > 0, key=key) for key in keys]
    )
    if ids:
        requests = map(with_id, requests, count(1))
    loop = asyncio.get_running_loop()
    for _ in range(connections):
        await loop.create_connection(
            lambda: Repeated(requests, results, chunks, pause), "127.0.0.1", port
        )
    await asyncio.sleep(seconds)
    if chunks:
        return results.summary("wait", chunks=results.chunks, per_second=results.chunks / seconds)
    answered = len(results.waits)
    return results.summary("wait", requests=answered, per_second=answered / seconds)


async def streams(
    port: int, seconds: float, streams: int, interval: int, path: str = ""
) -> dict[str, Any]:
    """Streams that last `seconds` each; those without a pause have no end, and are cut off.

    The rate is that of the time in which all of them should run.
    """
    chunks = round(seconds * 1000 / interval) if interval else 1_000_000_000
    prompt = f"@{chunks}x{interval}"
    request = stream_of(path, port, prompt) if path else question(port, prompt, stream=True)
    began = _now()
    window = began + streams * RAMP_MICROSECONDS + 500_000, began + round(seconds * 1e6)
    results = Results(streams, window)
    connecting = set()
    for number in range(streams):
        if (early := began + number * RAMP_MICROSECONDS - _now()) > 0:
            await asyncio.sleep(early / 1e6)
        client = Stream(request, results, stamped=interval > 0)
        connecting.add(asyncio.create_task(client.connect(port)))
    limit = 2 * seconds + UNFINISHED_SECONDS if interval else seconds
    with contextlib.suppress(asyncio.TimeoutError):
        await asyncio.wait_for(results.done.wait(), began / 1e6 + limit - time.monotonic())
    rate = results.chunks_in_window / (window[1] - window[0]) * 1e6
    return results.summary(
        "first",
        chunks=results.chunks,
        per_second=rate,
        of_ideal=rate * interval / streams / 1000 if interval else None,
        unfinished=results.left if interval else 0,
    )


if __name__ == "__main__":
    allow_many_files()
    gc.disable()
    wanted = json.loads(sys.argv[1])
    print(json.dumps(uvloop.run((repeated if "connections" in wanted else streams)(**wanted))))
