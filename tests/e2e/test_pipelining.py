"""Clients that pipeline as fast as they can do not hold up the others."""

from __future__ import annotations

import http.client
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor

from twisted.trial.unittest import SynchronousTestCase

from tests.e2e.harness import OFF, Process, chat, gateway, mock, running

skip = OFF

CONNECTIONS = 60
SECONDS = 10.0
BEARABLE = 0.05
"""Seconds in which 99 of 100 probes are answered meanwhile."""

FLOOD = """
import selectors, socket, sys
port, count = int(sys.argv[1]), int(sys.argv[2])
burst = b"GET / HTTP/1.1\\r\\nHost:a\\r\\n\\r\\n" * 2520
selector = selectors.DefaultSelector()
for _ in range(count):
    connection = socket.create_connection(("127.0.0.1", port))
    connection.setblocking(False)
    selector.register(connection, selectors.EVENT_READ | selectors.EVENT_WRITE, [burst])
print("begun", flush=True)
while True:
    for key, events in selector.select():
        if events & selectors.EVENT_READ:
            key.fileobj.recv(1 << 20)
        if events & selectors.EVENT_WRITE:
            sent = key.fileobj.send(key.data[0])
            key.data[0] = key.data[0][sent:] or burst
"""
"""A process of its own, so that what it costs to flood is not measured as the gateway's."""


class PipeliningTests(SynchronousTestCase):
    def probe(self, served: Process, seconds: float) -> list[float]:
        """Latencies of `/healthz`, asked again and again, less what the process had to wait for a
        CPU meanwhile."""
        connection = http.client.HTTPConnection("127.0.0.1", served.port, timeout=30)
        latencies = []
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            in_line, asked = served.seconds_in_line(), time.monotonic()
            connection.request("GET", "/healthz")
            response = connection.getresponse()
            response.read()
            self.assertEqual(response.status, 200)
            waited = time.monotonic() - asked
            latencies.append(waited - (served.seconds_in_line() - in_line))
            time.sleep(0.01)
        connection.close()
        return sorted(latencies)

    def test_others_are_served_beside_clients_that_pipeline_all_they_can(self) -> None:
        """Beside 60 connections that pipeline without end, 99 of 100 probes are answered within
        50 ms, and requests that their backend answers in time get their answer."""
        backend = mock("--delay=0.5")
        with running(backend):
            served = gateway({"BACKEND_URL": backend.url, "BACKEND_TIMEOUT": "1.5"})
            with running(served), ThreadPoolExecutor(4) as pool:
                flood = subprocess.Popen(
                    [sys.executable, "-c", FLOOD, str(served.port), str(CONNECTIONS)],
                    stdout=subprocess.PIPE,
                )
                try:
                    assert flood.stdout is not None
                    self.assertEqual(flood.stdout.readline(), b"begun\n")
                    time.sleep(1)
                    asked = [pool.submit(chat, served.url, {}) for _ in range(16)]
                    latencies = self.probe(served, SECONDS)
                    statuses = [each.result()[0] for each in asked]
                finally:
                    flood.kill()
                    flood.wait()
                    flood.stdout.close()
        self.assertEqual(statuses, [200] * 16)
        p99 = latencies[len(latencies) * 99 // 100]
        self.assertLess(p99, BEARABLE, f"of {len(latencies)} probes the slowest {latencies[-5:]}")
