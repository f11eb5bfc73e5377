"""REQUEST_TIMEOUT holds towards the client too, on real sockets."""

from __future__ import annotations

import socket
import ssl
import subprocess
import time
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from tests.e2e.harness import OFF, Process, gateway, running
from tests.e2e.wire import send

skip = OFF

LIMIT = 2.0
LATE = 1.0
"""Seconds after the limit in which a slow reader must be cut."""


def trickle(connection: socket.socket, seconds: float) -> tuple[float, int]:
    """Read 20 KB a second; how long until the server cut the connection, and the bytes by then."""
    began, taken = time.monotonic(), 0
    while (elapsed := time.monotonic() - began) < seconds:
        try:
            data = connection.recv(1000)
        except OSError:
            break
        if not data:
            break
        taken += len(data)
        time.sleep(0.05)
    return elapsed, taken


class RequestTimeoutTests(SynchronousTestCase):
    def assertCut(self, served: Process, connection: socket.socket, request_id: str) -> None:
        with connection:
            trickle(connection, LIMIT + LATE)
        line = served.request_line(request_id)
        self.assertEqual((line["status"], line["outcome"]), (200, "timeout"))
        self.assertLess(line["latency_ms"], (LIMIT + LATE) * 1000)

    def test_slow_readers_of_any_answer_are_cut_when_the_time_is_over(self) -> None:
        """Replies larger than all kernels' buffers and smaller ones, plain and streamed, on
        connections that go on and that do not."""
        served = gateway({"REQUEST_TIMEOUT": str(LIMIT)})
        with running(served):
            for size in (9_000_000, 500_000):
                for stream in (False, True):
                    for fields in ((), ("Connection: close",)):
                        name = f"{size}-{stream}-{len(fields)}"
                        connection = send(
                            served.port,
                            name,
                            *fields,
                            receive_buffer=4096,
                            messages=[{"role": "user", "content": "x" * size}],
                            stream=stream,
                        )
                        self.assertCut(served, connection, name)
            self.assertEqual(served.complaints(), [])

    def test_slow_readers_over_tls_are_cut_too(self) -> None:
        """The same with a TLS endpoint."""
        folder = Path(self.mktemp())
        folder.mkdir()
        subprocess.run(
            [
                *("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2"),
                *("-subj", "/CN=localhost", "-keyout", "key.pem", "-out", "cert.pem"),
            ],
            cwd=folder,
            check=True,
            capture_output=True,
        )
        files = {name: (folder / name).read_text() for name in ("key.pem", "cert.pem")}
        listen = "ssl:0:privateKey=key.pem:certKey=cert.pem:interface=127.0.0.1"
        served = gateway({"REQUEST_TIMEOUT": str(LIMIT), "LISTEN": listen}, files=files)
        with running(served):
            context = ssl.create_default_context(cafile=str(folder / "cert.pem"))
            bare = socket.socket()
            bare.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            bare.connect(("127.0.0.1", served.port))
            connection = context.wrap_socket(bare, server_hostname="localhost")
            body = b'{"messages":[{"role":"user","content":"%b"}]}' % (b"x" * 5_000_000)
            connection.sendall(
                b"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nX-Request-ID: tls\r\n"
                b"Content-Type: application/json\r\nContent-Length: %d\r\n\r\n%b"
                % (len(body), body)
            )
            self.assertCut(served, connection, "tls")
