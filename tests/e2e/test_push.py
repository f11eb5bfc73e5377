"""A stop while metrics are pushed to a real socket that hangs, refuses or trickles."""

from __future__ import annotations

import contextlib
import importlib.util
import socket
import threading
import time
from unittest import skipUnless

from twisted.trial.unittest import SynchronousTestCase

from tests.e2e.harness import OFF, chat, gateway, running


class StopTests(SynchronousTestCase):
    skip = OFF

    def listener(self) -> socket.socket:
        listener = socket.create_server(("127.0.0.1", 0))
        self.addCleanup(listener.close)
        return listener

    def stop_seconds(self, port: int) -> float:
        """How long a stop takes with a collector at this port."""
        endpoint = f"http://127.0.0.1:{port}"
        served = gateway({"OTEL_EXPORTER_OTLP_ENDPOINT": endpoint})
        with running(served):
            self.assertEqual(chat(served.url, {})[0], 200)
            began = time.monotonic()
            served.stop()
            seconds = time.monotonic() - began
            self.assertEqual(served.complaints(), [])
        return seconds

    @skipUnless(importlib.util.find_spec("opentelemetry"), "needs the extra otlp")
    def test_stop_waits_for_no_collector(self) -> None:
        """Whether the collector hangs before or after it accepts, trickles or refuses, a stop takes
        under 1.5 s."""
        hangs = self.listener()
        hangs_later = self.listener()
        trickles = self.listener()

        def accept(listener: socket.socket, answer: bytes) -> None:
            with contextlib.suppress(OSError):
                connection, _ = listener.accept()
                with connection:
                    for byte in answer:
                        connection.send(bytes([byte]))
                        time.sleep(0.2)
                    time.sleep(30)

        for listener, answer in (
            (hangs_later, b""),
            (trickles, b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n" + b"x" * 100000),
        ):
            threading.Thread(target=accept, args=(listener, answer), daemon=True).start()
        with socket.create_server(("127.0.0.1", 0)) as closed:
            refuses = closed.getsockname()[1]
        for kind, port in (
            ("hangs", hangs.getsockname()[1]),
            ("hangs later", hangs_later.getsockname()[1]),
            ("trickles", trickles.getsockname()[1]),
            ("refuses", refuses),
        ):
            self.assertLess(self.stop_seconds(port), 1.5, kind)
