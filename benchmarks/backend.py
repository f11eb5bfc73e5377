"""The model server that all targets share: it computes nothing, and is never the limit.

A user message with ``@NxT`` asks for a stream of N chunks, one each T milliseconds (T = 0: each
chunk a write of its own, as fast as the reader takes them); any other is answered with one plain
completion. Each chunk's text is ``@`` and the microsecond of `time.monotonic` at which it was
written, which no gateway may change, so that the reader can tell how long it took.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import re
import time
from typing import cast

import uvloop

from benchmarks.targets import allow_many_files

_STREAM = re.compile(rb"@(\d+)x(\d+)")
_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
_CHUNKED = re.compile(rb"\r\ntransfer-encoding: *chunked", re.IGNORECASE)
_LAST = b"\r\n0\r\n\r\n"
_USAGE = {"prompt_tokens": 40, "completion_tokens": 60, "total_tokens": 100}


def _plain() -> bytes:
    text = "An answer of about as many words as a short one has. " * 4
    choice = {
        "index": 0,
        "message": {"role": "assistant", "content": text},
        "finish_reason": "stop",
    }
    body = json.dumps(
        {
            "id": "chatcmpl-1",
            "object": "chat.completion",
            "created": 1700000000,
            "model": "bench",
            "choices": [choice],
            "usage": _USAGE,
        }
    ).encode()
    head = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: "
    return f"{head}{len(body)}\r\n\r\n".encode() + body


def _chunk(choices: list[object], **members: object) -> bytes:
    """One event, as an HTTP chunk."""
    event = json.dumps(
        {
            "id": "chatcmpl-1",
            "object": "chat.completion.chunk",
            "created": 1700000000,
            "model": "bench",
            "choices": choices,
            **members,
        }
    )
    return _frame(f"data: {event}\n\n".encode())


def _frame(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


_PLAIN = _plain()
_HEAD = (
    b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nCache-Control: no-cache\r\n"
    b"Transfer-Encoding: chunked\r\n\r\n"
)
_BEFORE, _AFTER = _chunk(
    [{"index": 0, "delta": {"content": "@" + 16 * "0"}, "finish_reason": None}]
).split(16 * b"0")
_FINISH = _chunk([{"index": 0, "delta": {}, "finish_reason": "stop"}])
_USAGE_CHUNK = _chunk([], usage=_USAGE)
_END = _frame(b"data: [DONE]\n\n") + b"0\r\n\r\n"


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


class Stream:
    """One reply of `left` chunks more, and then its end."""

    __slots__ = ("interval", "left", "transport", "usage")

    def __init__(self, transport: asyncio.Transport, left: int, interval: int, usage: bool) -> None:
        self.transport = transport
        self.left = left
        self.interval = interval
        self.usage = usage

    def step(self) -> bool:
        """Write what is next; whether there is more."""
        if self.transport.is_closing():
            return False
        if self.left:
            self.left -= 1
            now = b"%016d" % (time.monotonic_ns() // 1000)
            self.transport.write(_BEFORE + now + _AFTER)
            return True
        self.transport.write(_FINISH + (_USAGE_CHUNK if self.usage else b"") + _END)
        return False


class Backend(asyncio.Protocol):
    """One connection: requests one after the other, kept alive."""

    def __init__(self, pacer: Pacer) -> None:
        self._pacer = pacer
        self._buffer = b""
        self._flat: Stream | None = None
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
            self._transport.write(_PLAIN)
            return
        usage = b"include_usage" in request
        stream = Stream(self._transport, int(wanted[1]), int(wanted[2]), usage)
        self._transport.write(_HEAD)
        if stream.interval:
            stream.step()
            self._pacer.add(stream)
        else:
            self._flat = stream
            self._run_flat()

    def _run_flat(self) -> None:
        # One chunk a turn of the loop: uvloop would join several in one system call.
        if self._flat is not None and not self._paused:
            if self._flat.step():
                asyncio.get_running_loop().call_soon(self._run_flat)
            else:
                self._flat = None

    def pause_writing(self) -> None:
        self._paused = self._flat is not None

    def resume_writing(self) -> None:
        self._paused = False
        self._run_flat()

    def connection_lost(self, reason: Exception | None) -> None:
        self._flat = None


def _request_size(buffer: bytes) -> int:
    """Bytes of the first whole request in `buffer`, 0 where there is none."""
    head = buffer.find(b"\r\n\r\n") + 4
    if head < 4:
        return 0
    if length := _LENGTH.search(buffer, 0, head):
        size = head + int(length[1])
    elif _CHUNKED.search(buffer, 0, head):
        last = buffer.find(_LAST, head - 2)
        return last + len(_LAST) if last > 0 else 0
    else:
        size = head
    return size if len(buffer) >= size else 0


async def main(port: int) -> None:
    loop = asyncio.get_running_loop()
    pacer = Pacer()
    server = await loop.create_server(lambda: Backend(pacer), "127.0.0.1", port, backlog=4096)
    await server.serve_forever()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("port", type=int)
    allow_many_files()
    uvloop.run(main(parser.parse_args().port))
