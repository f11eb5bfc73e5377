"""A backend on bare sockets that does to HTTP, and to a connection, whatever a test asks for.

A script is what it does with one request: bytes are sent as they are, all else is called with the
`Exchange`. The request is read first, unless the script begins with `UNREAD`; a script that comes
to its end leaves the connection to the next request. Which script a request gets, its
``X-Request-ID`` says: that is looked at without being read, so that a script can also leave the
request unread.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import re
import select
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterable
from typing import Any

Action = bytes | Callable[["Exchange"], None]
Script = Iterable[Action]

CREATED = 1_700_000_000
CONTENT = "Hello there"


class Over(Exception):
    """The connection has ended."""


class Exchange:
    """One request of the gateway, and what became of its connection."""

    def __init__(self, connection: socket.socket, head: bytes, meter: Callable[[], float]) -> None:
        self.connection = connection
        self.head = head
        self.request_id = _field(head, b"x-request-id").decode()
        self.body = b""
        self.began = time.monotonic()
        self.sent = 0
        self.closed: float | None = None
        """When the gateway was seen to have closed, on the monotonic clock."""
        self.metered = 0.0
        """What the backend's `meter` said then."""
        self.ended = threading.Event()
        self._meter = meter

    def read(self) -> None:
        """Take the request out of the socket, whole."""
        length = int(_field(self.head, b"content-length") or b"0")
        request = b""
        while len(request) < len(self.head) + length:
            request += self._receive()
        self.body = request[len(self.head) :]

    def send(self, data: bytes) -> None:
        try:
            self.connection.sendall(data)
        except OSError:
            self._gone()
        self.sent += len(data)

    def wait(self, seconds: float) -> None:
        """Let time pass; a gateway that closes meanwhile is noticed at once."""
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            readable, _, _ = select.select([self.connection], [], [], left)
            if readable:
                self._receive()

    def _receive(self) -> bytes:
        try:
            data = self.connection.recv(1 << 20)
        except OSError:
            self._gone()
        if not data:
            self._gone()
        return data

    def _gone(self) -> Any:
        self.closed, self.metered = time.monotonic(), self._meter()
        raise Over


def UNREAD(exchange: Exchange) -> None:
    """Leave the request where it is; stands first in a script."""


def CLOSE(exchange: Exchange) -> None:
    """End the connection: with a FIN, where the request was read."""
    exchange.connection.close()
    raise Over


def HALF_CLOSE(exchange: Exchange) -> None:
    """Send a FIN, whatever was left unread, and wait for the gateway to close."""
    exchange.connection.shutdown(socket.SHUT_WR)
    HOLD(exchange)


def RESET(exchange: Exchange) -> None:
    """End the connection with an RST."""
    exchange.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    exchange.connection.close()
    raise Over


def HOLD(exchange: Exchange) -> None:
    """Do nothing until the gateway closes."""
    exchange.wait(3600)


def HOLD_UNREAD(exchange: Exchange) -> None:
    """Do nothing, and read nothing, until the gateway's end is gone altogether."""
    poll = select.poll()
    poll.register(exchange.connection, select.POLLERR | select.POLLHUP | select.POLLRDHUP)
    poll.poll(3_600_000)
    exchange._gone()


def pause(seconds: float) -> Action:
    return lambda exchange: exchange.wait(seconds)


def pause_unread(seconds: float) -> Action:
    """Let time pass, and leave all that comes in the socket."""
    return lambda exchange: time.sleep(seconds)


def drip(pieces: Iterable[bytes], seconds: float) -> Action:
    """Send pieces with a pause before each, until they or the gateway have an end."""

    def run(exchange: Exchange) -> None:
        for piece in pieces:
            exchange.wait(seconds)
            exchange.send(piece)

    return run


def pour(piece: bytes, times: int | None = None) -> Action:
    """Send a piece as often and as fast as the gateway takes it; without end by default."""

    def run(exchange: Exchange) -> None:
        for _ in itertools.count() if times is None else range(times):
            exchange.send(piece)

    return run


class FaultyBackend:
    """Listens on a port of its own choice, and plays the script that `scripts` has for a request,
    or else `default`. It closes connections after `idle` seconds without a request; None: never."""

    def __init__(
        self,
        default: Script = (),
        scripts: dict[str, Script] | None = None,
        idle: float | None = None,
    ) -> None:
        self.default = default
        self.scripts = scripts or {}
        self.meter: Callable[[], float] = lambda: 0.0
        self.exchanges: dict[str, Exchange] = {}
        self.requests = 0
        self.connections = 0
        self._idle = idle
        self._open: set[socket.socket] = set()
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=1024)
        self.port: int = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def stop(self) -> None:
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for connection in list(self._open):
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def exchange(self, request_id: str, seconds: float = 10.0) -> Exchange:
        """The exchange of a request, once it has begun."""
        end = time.monotonic() + seconds
        while request_id not in self.exchanges:
            assert time.monotonic() < end, f"{request_id} never reached the backend"
            time.sleep(0.002)
        return self.exchanges[request_id]

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = self._listener.accept()
                connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                self.connections += 1
                threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        self._open.add(connection)
        try:
            while self._awaits(connection) and (head := _peek_head(connection)):
                exchange = Exchange(connection, head, self.meter)
                self.requests += 1
                self.exchanges[exchange.request_id] = exchange
                try:
                    self._play(exchange)
                finally:
                    exchange.ended.set()
        except (Over, OSError):
            pass
        finally:
            self._open.discard(connection)
            connection.close()

    def _awaits(self, connection: socket.socket) -> bool:
        """Whether something comes before this connection has idled too long."""
        return self._idle is None or bool(select.select([connection], [], [], self._idle)[0])

    def _play(self, exchange: Exchange) -> None:
        script = self.scripts.get(exchange.request_id, self.default)
        for number, action in enumerate(script):
            if number == 0 and action is not UNREAD:
                exchange.read()
            if isinstance(action, bytes):
                exchange.send(action)
            else:
                action(exchange)


def _peek_head(connection: socket.socket) -> bytes:
    """The head of the next request, left in the socket; nothing where there is none."""
    while True:
        try:
            data = connection.recv(1 << 16, socket.MSG_PEEK)
        except OSError:
            return b""
        head, end, _ = data.partition(b"\r\n\r\n")
        if end or not data:
            return head + end
        time.sleep(0.001)


def _field(head: bytes, name: bytes) -> bytes:
    match = re.search(rb"(?i)\r\n%b:[ ]*([^\r]*)" % name, head)
    return match[1] if match else b""


# What a backend says when all is well, and the parts to break it with.


def completion(**members: Any) -> bytes:
    """A chat completion; a member that is ... is left out."""
    reply = {
        "id": "chatcmpl-of-the-backend",
        "object": "chat.completion",
        "created": CREATED,
        "model": "faulty",
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": CONTENT},
                "finish_reason": "stop",
            }
        ],
        "usage": {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5},
        **members,
    }
    return json.dumps({name: value for name, value in reply.items() if value is not ...}).encode()


def head(status: bytes = b"200 OK", *fields: bytes, version: bytes = b"HTTP/1.1") -> bytes:
    return b"\r\n".join([version + b" " + status, *fields]) + b"\r\n\r\n"


def whole(
    body: bytes, *fields: bytes, status: bytes = b"200 OK", kind: bytes = b"application/json"
) -> bytes:
    """A response with the length of its body."""
    return head(status, b"Content-Type: " + kind, b"Content-Length: %d" % len(body), *fields) + body


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


LAST_CHUNK = b"0\r\n\r\n"
EVENTS = b"Content-Type: text/event-stream"
CHUNKED = b"Transfer-Encoding: chunked"
STREAM_HEAD = head(b"200 OK", EVENTS, CHUNKED)


def stream(*pieces: bytes) -> bytes:
    """A whole streamed response, one chunk a piece."""
    return STREAM_HEAD + b"".join(map(chunk, pieces)) + LAST_CHUNK


def event(**members: Any) -> bytes:
    """One chunk of a completion as an event; a member that is ... is left out."""
    document = {
        "id": "chatcmpl-of-the-backend",
        "object": "chat.completion.chunk",
        "created": CREATED,
        "model": "faulty",
        **members,
    }
    shown = {name: value for name, value in document.items() if value is not ...}
    return b"data: " + json.dumps(shown).encode() + b"\n\n"


def delta(finish_reason: str | None = None, **members: Any) -> bytes:
    choice = {"index": 0, "delta": members, "finish_reason": finish_reason}
    return event(choices=[choice])


ROLE = delta(role="assistant", content="")
WORDS = b"".join(delta(content=word) for word in ("Hello", " there"))
STOP = delta("stop")
USAGE = event(choices=[], usage={"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5})
DONE = b"data: [DONE]\n\n"
ERROR = b'data: {"error": {"message": "out of memory", "type": "server_error", "code": 500}}\n\n'
