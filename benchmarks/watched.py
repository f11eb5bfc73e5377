"""A gateway in front of `benchmarks.hostile`, and single requests to it."""

from __future__ import annotations

import http.client
import socket
from contextlib import suppress

from benchmarks.processes import Server
from benchmarks.question import KEY

PATIENCE = 120
"""Seconds that an answer may take."""

CHAT = "/v1/chat/completions"


class Watched:
    """A gateway with everything on, in front of `benchmarks.hostile`."""

    def __init__(self, port: int, backend: int, server: Server) -> None:
        self.port = port
        self.server = server
        self._backend = backend

    def prepare(self, reply: bytes, kind: str = "application/json") -> None:
        """What the backend answers from now on."""
        prepare(self._backend, reply, kind)

    def post(self, body: bytes, **headers: str) -> int:
        """The status with which a chat request is answered; 0 where there was no whole answer."""
        fields = {"Content-Type": "application/json", "Authorization": f"Bearer {KEY}"}
        return _post(self.port, CHAT, body, fields | headers)

    def send(self, request: bytes) -> int:
        """The status with which a request in bytes is answered."""
        with socket.create_connection(("127.0.0.1", self.port), PATIENCE) as connection:
            with suppress(ConnectionError):  # where it is refused before its end
                connection.sendall(request)
            reply = http.client.HTTPResponse(connection)
            try:
                reply.begin()
            except (http.client.HTTPException, ConnectionError):
                return 0
            return _read(reply)

    def get(self, path: str) -> int:
        return _request(self.port, "GET", path, None, {"Authorization": f"Bearer {KEY}"})


def prepare(backend: int, reply: bytes, kind: str = "application/json") -> None:
    """What the backend on this port answers from now on."""
    _post(backend, "/next", reply, {"Content-Type": kind})


def _post(port: int, path: str, body: bytes, headers: dict[str, str]) -> int:
    return _request(port, "POST", path, body, headers)


def _request(port: int, method: str, path: str, body: bytes | None, headers: dict[str, str]) -> int:
    connection = http.client.HTTPConnection("127.0.0.1", port, PATIENCE)
    try:
        connection.request(method, path, body, headers)
        return _read(connection.getresponse())
    except (http.client.HTTPException, ConnectionError):
        return 0
    finally:
        connection.close()


def _read(reply: http.client.HTTPResponse) -> int:
    """The status of a reply that is whole, else 0."""
    try:
        while reply.read(1 << 20):
            pass
        return reply.status
    except (http.client.HTTPException, ConnectionError):
        return 0
