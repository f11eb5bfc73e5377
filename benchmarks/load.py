"""The clients: plain requests one after the other, or streams, on raw asyncio protocols.

Prints one JSON object. Times are in milliseconds, and are those a client sees; what a gateway
adds is the difference from the same without one.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import re
import time
from array import array
from collections.abc import Sequence
from typing import Any, cast

import uvloop

from benchmarks.question import question
from benchmarks.targets import allow_many_files

_STAMPS = re.compile(rb"@(\d{16})").findall
_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
_LAST = b"\r\n0\r\n\r\n"


def _now() -> int:
    """Microseconds on the clock that the backend's stamps are from."""
    return time.monotonic_ns() // 1000


class Plain(asyncio.Protocol):
    """One connection: the next request as soon as the last was answered."""

    def __init__(self, request: bytes, results: Results) -> None:
        self._request = request
        self._results = results
        self._buffer = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._send()

    def _send(self) -> None:
        self._sent = _now()
        self._transport.write(self._request)

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        head = self._buffer.find(b"\r\n\r\n")
        if head < 0:
            return
        length = _LENGTH.search(self._buffer, 0, head + 2)
        if length:
            whole = len(self._buffer) >= head + 4 + int(length[1])
        else:
            whole = self._buffer.endswith(_LAST)
        if whole:
            self._results.waits.append(_now() - self._sent)
            if self._buffer[9:12] != b"200":
                self._results.fail(self._buffer)
            self._buffer = b""
            self._send()

    def connection_lost(self, reason: Exception | None) -> None:
        self._results.fail(b"the connection was closed")


class Stream(asyncio.Protocol):
    """One connection with one stream."""

    def __init__(self, request: bytes, results: Results, stamped: bool) -> None:
        self._request = request
        self._results = results
        self._stamped = stamped
        self._began = _now()
        self._tail = b""
        self._first = True

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
        # A gateway may cut a stamp in two, never the "@", so this is the count.
        count = data.count(b"@")
        if self._first and count:
            self._first = False
            results.waits.append(now - self._began)
        results.chunks += count
        if results.window[0] <= now < results.window[1]:
            results.in_window += count
        if self._stamped:
            for stamp in _STAMPS(data):
                results.delays.append(now - int(stamp))
        self._tail = (self._tail + data[-7:])[-7:]
        if self._tail == _LAST:
            if self._first:
                results.fail(data)
            self._transport.close()
            self._finish()

    def _finish(self) -> None:
        self._results.left -= 1
        self._request = b""
        if not self._results.left:
            self._results.done.set()

    def connection_lost(self, reason: Exception | None) -> None:
        if self._request:
            self._results.fail(repr(reason or "the stream was cut short").encode())
            self._finish()


class Results:
    """What all clients of one run saw."""

    def __init__(self, streams: int = 0) -> None:
        self.waits = array("q")
        self.delays = array("q")
        self.chunks = 0
        self.window = (0, 0)
        self.in_window = 0
        self.left = streams
        self.done = asyncio.Event()
        self.failures = 0
        self.failure = ""
        self.over = False

    def fail(self, data: bytes) -> None:
        if not self.over:
            self.failures += 1
            self.failure = self.failure or data[:300].decode("latin-1")

    def failed(self) -> dict[str, Any]:
        return {"failures": self.failures, "failure": self.failure}


async def plain(port: int, connections: int, seconds: float) -> dict[str, Any]:
    """As many requests as are answered in `seconds`."""
    results = Results()
    loop = asyncio.get_running_loop()
    message = question(port)
    began = time.monotonic()
    for _ in range(connections):
        await loop.create_connection(lambda: Plain(message, results), "127.0.0.1", port)
    await asyncio.sleep(seconds)
    results.over = True
    waits = sorted(results.waits)
    return {
        "requests": len(waits),
        "per_second": len(waits) / (time.monotonic() - began),
        **_percentiles("wait", waits),
        **results.failed(),
    }


async def streams(port: int, count: int, interval: int, seconds: float) -> dict[str, Any]:
    """`count` streams that last `seconds` each, begun 1,000 a second.

    The rate is that of the time in which all of them should run. An interval of 0 is flat out:
    the streams have no end, and are cut off.
    """
    flat = interval == 0
    results = Results(count)
    chunks = 1_000_000_000 if flat else round(seconds * 1000 / interval)
    message = question(port, f"@{chunks}x{interval}", stream=True)
    began = _now()
    ramp = count * 1000
    results.window = (began + ramp + 500_000, began + round(seconds * 1e6))
    connecting: list[asyncio.Task[None]] = []
    for number in range(count):
        if (early := began + number * 1000 - _now()) > 0:
            await asyncio.sleep(early / 1e6)
        client = Stream(message, results, stamped=not flat)
        connecting.append(asyncio.create_task(client.connect(port)))
    limit = seconds if flat else 2 * seconds + 5
    try:
        await asyncio.wait_for(results.done.wait(), began / 1e6 + limit - time.monotonic())
    except asyncio.TimeoutError:
        results.over = True
    window = (results.window[1] - results.window[0]) / 1e6
    return {
        "chunks": results.chunks,
        "per_second": results.in_window / window,
        "of_ideal": None if flat else results.in_window / (count * window * 1000 / interval),
        "unfinished": 0 if flat else results.left,
        **_percentiles("first", sorted(results.waits)),
        **_percentiles("chunk", sorted(results.delays)),
        **results.failed(),
    }


def _percentiles(name: str, values: Sequence[int]) -> dict[str, float]:
    """In milliseconds, of sorted microseconds."""
    if not values:
        return {}
    return {
        f"{name}_p50_ms": values[len(values) // 2] / 1000,
        f"{name}_p99_ms": values[len(values) * 99 // 100] / 1000,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("port", type=int)
    parser.add_argument("seconds", type=float)
    parser.add_argument("--connections", type=int, help="plain requests")
    parser.add_argument("--streams", type=int)
    parser.add_argument("--interval", type=int, default=0, help="milliseconds; 0: flat out")
    options = parser.parse_args()
    allow_many_files()
    gc.disable()
    if options.connections:
        run = plain(options.port, options.connections, options.seconds)
    else:
        run = streams(options.port, options.streams, options.interval, options.seconds)
    print(json.dumps(uvloop.run(run)))


if __name__ == "__main__":
    main()
