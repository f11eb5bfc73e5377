"""An HTTP client on a bare socket, which sees how an answer ends and not only what it says."""

from __future__ import annotations

import json
import socket
import time
from dataclasses import dataclass
from typing import Any

from tests.e2e.harness import CHAT_PATH, post


@dataclass(frozen=True)
class Answer:
    """`ended` is how: ``length``, ``last_chunk`` (the body is whole), ``fin``, ``reset`` (the
    connection ended first), ``timeout`` (it did not)."""

    status: int
    fields: dict[str, str]
    body: bytes
    ended: str
    rest: bytes = b""

    @property
    def document(self) -> Any:
        return json.loads(self.body)

    @property
    def events(self) -> list[bytes]:
        return [event for event in self.body.split(b"\n\n") if event]

    @property
    def last_event(self) -> Any:
        """The document in the data of the last event."""
        return json.loads(self.events[-1].rpartition(b"data: ")[2])

    @property
    def code(self) -> str:
        """The code in an error's body."""
        code: str = self.document["error"]
        return code


def send(
    port: int,
    request_id: str,
    *fields: str,
    body: bytes | None = None,
    version: str = "1.1",
    seconds: float = 30.0,
    receive_buffer: int = 0,
    path: str = CHAT_PATH,
    **members: Any,
) -> socket.socket:
    """Send a request with these members, of a chat unless `path` says another; the connection, its
    answer still to come."""
    request = post(
        members if body is None else body, f"X-Request-ID: {request_id}", *fields, path=path
    )
    connection = socket.socket()
    connection.settimeout(seconds)
    if receive_buffer:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
    connection.connect(("127.0.0.1", port))
    connection.sendall(request.replace(b"HTTP/1.1", f"HTTP/{version}".encode(), 1))
    return connection


def receive(
    connection: socket.socket, seconds: float = 30.0, *, close: bool = True, taken: bytes = b""
) -> Answer:
    """Read one answer, to its end or the connection's; `taken` is what was read of it before."""
    try:
        return _Reader(connection, seconds, taken).answer()
    finally:
        if close:
            connection.close()


def ask(port: int, request_id: str, *fields: str, **options: Any) -> Answer:
    """One request and its answer."""
    return receive(send(port, request_id, *fields, **options))


class _Reader:
    def __init__(self, connection: socket.socket, seconds: float, taken: bytes) -> None:
        self._connection = connection
        self._end = time.monotonic() + seconds
        self._data = bytearray(taken)
        self._ended = ""

    def _more(self) -> bool:
        """Read on; False at the end, which `_ended` names."""
        left = self._end - time.monotonic()
        if self._ended or left <= 0:
            self._ended = self._ended or "timeout"
            return False
        self._connection.settimeout(left)
        try:
            data = self._connection.recv(1 << 18)
        except TimeoutError:
            self._ended = "timeout"
        except ConnectionError:
            self._ended = "reset"
        else:
            self._ended = "" if data else "fin"
            self._data += data
        return not self._ended

    def _take(self, size: int) -> bytes:
        taken = bytes(self._data[:size])
        del self._data[:size]
        return taken

    def _until(self, mark: bytes) -> bytes | None:
        while mark not in self._data:
            if not self._more():
                return None
        return self._take(self._data.index(mark) + len(mark))

    def answer(self) -> Answer:
        head = self._until(b"\r\n\r\n")
        if head is None:
            return Answer(0, {}, self._take(len(self._data)), self._ended)
        status, *lines = head.decode("latin-1").split("\r\n")[:-2]
        fields = {}
        for line in lines:
            name, _, value = line.partition(":")
            fields[name.lower()] = value.strip()
        if "content-length" in fields:
            body, ended = self._sized(int(fields["content-length"]))
        elif "transfer-encoding" in fields:
            body, ended = self._chunked()
        else:
            while self._more():
                pass
            body, ended = self._take(len(self._data)), self._ended
        return Answer(int(status.split()[1]), fields, body, ended, bytes(self._data))

    def _sized(self, length: int) -> tuple[bytes, str]:
        while len(self._data) < length:
            if not self._more():
                return self._take(length), self._ended
        return self._take(length), "length"

    def _chunked(self) -> tuple[bytes, str]:
        pieces = []
        while (line := self._until(b"\r\n")) is not None:
            size = int(line, 16)
            while len(self._data) < size + 2:
                if not self._more():
                    raise AssertionError(f"cut inside of a chunk: {bytes(self._data)!r}")
            piece = self._take(size + 2)
            assert piece.endswith(b"\r\n"), piece
            if not size:
                return b"".join(pieces), "last_chunk"
            pieces.append(piece[:-2])
        return b"".join(pieces), self._ended
