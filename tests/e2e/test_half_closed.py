"""Clients that close their writing side, on real sockets."""

from __future__ import annotations

import socket
import time
from contextlib import ExitStack

from tests.e2e.harness import OFF, Process, SharedProcesses, gateway, mock, post, raw, wait_for
from tests.e2e.wire import receive

skip = OFF

ANSWER_SECONDS = 0.6


class HalfClosedTests(SharedProcesses):
    gateway: Process

    @classmethod
    def start(cls, stack: ExitStack) -> None:
        backend = mock(f"--delay={ANSWER_SECONDS}")
        stack.callback(backend.kill)
        cls.gateway = gateway({"BACKEND_URL": backend.url})
        stack.callback(cls.gateway.kill)

    def shut(self, request: bytes, after: float = 0.0) -> socket.socket:
        connection = socket.create_connection(("127.0.0.1", self.gateway.port), 10)
        connection.sendall(request)
        time.sleep(after)
        connection.shutdown(socket.SHUT_WR)
        return connection

    def test_answer_comes_to_who_shuts_with_the_request(self) -> None:
        """Plain and streamed, HTTP/1.1 and HTTP/1.0."""
        for stream in (False, True):
            for version in (b"HTTP/1.1", b"HTTP/1.0"):
                request = post({"stream": stream}).replace(b"HTTP/1.1", version)
                connection = self.shut(request)
                with connection:
                    answer = receive(connection, close=False)
                    self.assertEqual(answer.status, 200)
                    self.assertIn(answer.ended, ("length", "last_chunk", "fin"))
                    self.assertIn(b"[DONE]" if stream else b"choices", answer.body)
                    self.assertEqual(connection.recv(1), b"")  # an orderly end

    def test_who_shuts_later_has_left(self) -> None:
        """After 0.3 s the end is that of the client, and its line says so."""
        with self.shut(post({}, "X-Request-ID: late"), 0.3) as connection:
            line = self.gateway.request_line("late", ANSWER_SECONDS - 0.1)
            self.assertEqual((line["status"], line["outcome"]), (499, "client_disconnected"))
            self.assertRaises(ConnectionError, connection.recv, 1)

    def test_probe_of_who_shuts(self) -> None:
        """What is answered at once is answered to these too."""
        request = b"GET /healthz HTTP/1.0\r\n\r\n"
        answer, closed = raw(self.gateway.port, request, shut=True)
        self.assertTrue(answer.startswith(b"HTTP/1.1 200 OK\r\n"), answer)
        self.assertTrue(closed)

    def test_who_shuts_and_leaves_before_it_has_its_reply(self) -> None:
        """A client that is gone with much of a long reply on its way has left at once."""
        long = {"messages": [{"role": "user", "content": "x" * 300_000}]}
        with self.shut(post(long, "X-Request-ID: gone")):
            time.sleep(2 * ANSWER_SECONDS)
        line = self.gateway.request_line("gone", 1)
        self.assertEqual((line["status"], line["outcome"]), (200, "client_disconnected"))

    def test_connections_do_not_stay(self) -> None:
        """None of these connections is left in the gateway."""
        before = self.gateway.open_files()
        for size in (None, -5, 20):
            for _ in range(20):
                self.shut(post({})[:size]).close()
        wait_for(lambda: self.gateway.open_files() <= before + 20, 10, "their end")
        self.assertEqual(self.gateway.complaints(), [])
