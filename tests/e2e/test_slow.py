"""Clients that are slow on purpose are closed in time, and the others do not notice them.

`INFERGATE_SLOW_CONNECTIONS` is how many there are; 100 by default.
"""

from __future__ import annotations

import contextlib
import http.client
import os
import selectors
import socket
import time
from collections import Counter
from contextlib import ExitStack

from twisted.trial.unittest import SynchronousTestCase

from tests.e2e.harness import OFF, Process, gateway, post, running

skip = OFF

CONNECTIONS = int(os.environ.get("INFERGATE_SLOW_CONNECTIONS", "100"))
DEADLINE = 2.0
"""Seconds of each deadline of the gateway's."""

GRACE = 2.0
"""Seconds after its deadline in which a slow connection must be closed."""

TRICKLE = 0.3
"""Seconds between two bytes of each slow client."""

BEARABLE = 0.25
"""Seconds in which 99 of 100 good requests are answered meanwhile."""

HEAD = b"POST /v1/chat/completions HTTP/1.1\r\nHost: test\r\nX-Slow: "
BODY = post({"padding": "x" * 200})[:-200]


class SlowClients:
    """Connections that begin as `beginnings` say, and go on with a byte at a time."""

    def __init__(self, stack: ExitStack, port: int, beginnings: list[bytes], piece: bytes) -> None:
        self._piece = piece
        self._selector = stack.enter_context(selectors.DefaultSelector())
        self.open: dict[socket.socket, bytes] = {}
        self.statuses: Counter[bytes] = Counter()
        self.last_closed = 0.0
        for beginning in beginnings:
            connection = stack.enter_context(socket.create_connection(("127.0.0.1", port), 10))
            connection.setblocking(False)
            connection.sendall(beginning)
            self.open[connection] = b""
            self._selector.register(connection, selectors.EVENT_READ)
        self._next = time.monotonic() + TRICKLE

    def step(self) -> None:
        """Send what is due, and see who has been closed."""
        if time.monotonic() >= self._next:
            self._next += TRICKLE
            for connection in self.open:
                with contextlib.suppress(OSError):  # the reading finds out
                    connection.send(self._piece)
        for key, _ in self._selector.select(0):
            connection = key.fileobj
            assert isinstance(connection, socket.socket)
            try:
                data = connection.recv(65536)
            except ConnectionError:
                data = b""
            self.open[connection] += data
            if not data:
                self._selector.unregister(connection)
                self.statuses[self.open.pop(connection)[9:12]] += 1
                self.last_closed = time.monotonic()


class SlowTests(SynchronousTestCase):
    served: Process

    def attacked(self, beginnings: list[bytes], piece: bytes) -> SlowClients:
        """Slow clients until the last is closed, and good requests meanwhile."""
        settings = {
            "HEADER_TIMEOUT": str(DEADLINE),
            "BODY_TIMEOUT": str(DEADLINE),
            "KEEPALIVE_TIMEOUT": str(DEADLINE),
        }
        self.served = gateway(settings)
        with running(self.served), ExitStack() as stack:
            began = time.monotonic()
            slow = SlowClients(stack, self.served.port, beginnings, piece)
            good = http.client.HTTPConnection("127.0.0.1", self.served.port, timeout=10)
            latencies = []
            body = b'{"messages": [{"role": "user", "content": "hello"}]}'
            while slow.open and time.monotonic() < began + DEADLINE + GRACE + 1:
                asked = time.monotonic()
                good.request(
                    "POST", "/v1/chat/completions", body, {"Content-Type": "application/json"}
                )
                response = good.getresponse()
                response.read()
                self.assertEqual(response.status, 200)
                latencies.append(time.monotonic() - asked)
                slow.step()
                time.sleep(0.01)
            good.close()
            self.assertEqual(len(slow.open), 0, "still open")
            self.assertLessEqual(slow.last_closed - began, DEADLINE + GRACE)
            self.assertLess(sorted(latencies)[len(latencies) * 99 // 100], BEARABLE)
            self.assertEqual(self.served.complaints(), [])
        return slow

    def test_heads(self) -> None:
        """Heads that come a byte at a time are a 408 each, at their deadline."""
        slow = self.attacked([HEAD] * CONNECTIONS, b"x")
        self.assertEqual(slow.statuses, {b"408": CONNECTIONS})

    def test_bodies(self) -> None:
        """Bodies that come a byte at a time are a 408 each, declared or in chunks."""
        chunked = post(b"").replace(b"Content-Length: 0", b"Transfer-Encoding: chunked")
        slow = self.attacked([BODY, chunked + b"fff\r\n"] * (CONNECTIONS // 2), b" ")
        self.assertEqual(slow.statuses, {b"408": CONNECTIONS})

    def test_idle(self) -> None:
        """Connections on which nothing comes are closed, before a request and after one."""
        asked = b"GET /healthz HTTP/1.1\r\nHost: test\r\n\r\n"
        slow = self.attacked([b"", asked] * (CONNECTIONS // 2), b"")
        self.assertEqual(slow.statuses, {b"": CONNECTIONS // 2, b"200": CONNECTIONS // 2})
