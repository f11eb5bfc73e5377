"""The model server that all targets share: it computes nothing, and costs little.

A user message with ``@NxT`` asks for a stream of N chunks, one each T milliseconds (T = 0: each
chunk a write of its own, as fast as the reader takes them), in the dialect of its path; any other
is answered with one plain completion. Each chunk's text is ``@`` and the microsecond of
`time.monotonic` at which it was written, which no gateway may change, so that the reader can tell
how long it took.
"""

from __future__ import annotations

import asyncio
import re
import sys
import time
from dataclasses import dataclass
from typing import cast

import uvloop

from benchmarks.processes import allow_many_files
from benchmarks.replies import END, ENDS, FINISH, HEAD, PLAIN, USAGE, chunk, delta

_STREAM = re.compile(rb"@(\d+)x(\d+)")
_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)


class Pacer:
    """Streams by the millisecond at which their next chunk is due.

    One timer for all: a timer for each would be most of the backend's work. A chunk that was
    written late does not put off the next one, so the ideal rate holds.
    """

    def __init__(self) -> None:
        self._due: dict[int, list[Stream]] = {}
        self._next = 0
        self._running = False

    def add(self, stream: Stream) -> None:
        now = time.monotonic_ns() // 1_000_000
        if not self._running:
            self._running = True
            self._next = now
            self._tick()
        self._due.setdefault(now + stream.interval, []).append(stream)

    def _tick(self) -> None:
        now = time.monotonic_ns() // 1_000_000
        for at in range(self._next, now + 1):
            for stream in self._due.pop(at, ()):
                if stream.step():
                    self._due.setdefault(at + stream.interval, []).append(stream)
        self._next = now + 1
        asyncio.get_running_loop().call_later(0.001, self._tick)


@dataclass(slots=True)
class Stream:
    """One reply: `left` chunks more, and then its end."""

    transport: asyncio.Transport
    left: int
    interval: int
    usage: bool
    path: str

    def step(self) -> bool:
        """Write what is next; whether there is more."""
        if self.transport.is_closing():
            return False
        if self.left:
            self.left -= 1
            now = time.monotonic_ns() // 1000
            self.transport.write(delta(self.path, now) if self.path in ENDS else chunk(now))
            return True
        chat_end = FINISH + (USAGE if self.usage else b"") + END
        self.transport.write(ENDS.get(self.path, chat_end))
        return False


class Backend(asyncio.Protocol):
    """One connection: requests one after the other, kept alive."""

    def __init__(self, pacer: Pacer) -> None:
        self._pacer = pacer
        self._buffer = b""
        self._flat: Stream | None = None
        self._next: asyncio.Handle | None = None
        self._paused = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        while size := _request_size(self._buffer):
            request, self._buffer = self._buffer[:size], self._buffer[size:]
            self._answer(request)

    def _answer(self, request: bytes) -> None:
        wanted = _STREAM.search(request)
        if wanted is None:
            self._transport.write(PLAIN)
            return
        usage = b"include_usage" in request
        path = request.split(b" ", 2)[1].decode()
        stream = Stream(self._transport, int(wanted[1]), int(wanted[2]), usage, path)
        self._transport.write(HEAD)
        if stream.interval:
            stream.step()
            self._pacer.add(stream)
        else:
            self._flat = stream
            self._run_flat()

    def _run_flat(self) -> None:
        # One chunk a turn of the loop: uvloop would join several in one system call.
        self._next = None
        if self._flat is not None and not self._paused:
            if self._flat.step():
                self._next = asyncio.get_running_loop().call_soon(self._run_flat)
            else:
                self._flat = None

    def pause_writing(self) -> None:
        self._paused = True

    def resume_writing(self) -> None:
        self._paused = False
        if self._next is None:
            self._run_flat()

    def connection_lost(self, reason: Exception | None) -> None:
        self._flat = None


def _request_size(buffer: bytes) -> int:
    """Bytes of the first whole request in `buffer`, 0 where there is none."""
    head = buffer.find(b"\r\n\r\n") + 4
    if head < 4:
        return 0
    length = _LENGTH.search(buffer, 0, head)
    size = head + int(length[1]) if length else head
    return size if len(buffer) >= size else 0


async def main(port: int) -> None:
    loop = asyncio.get_running_loop()
    pacer = Pacer()
    server = await loop.create_server(lambda: Backend(pacer), "127.0.0.1", port, backlog=4096)
    await server.serve_forever()


if __name__ == "__main__":
    allow_many_files()
    uvloop.run(main(int(sys.argv[1])))
