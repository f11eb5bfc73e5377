"""Several processes on one port, and how one of them leaves."""

from __future__ import annotations

import signal
import socket
import threading
import time
from collections import Counter

from twisted.trial.unittest import SynchronousTestCase

from tests.e2e.harness import OFF, Process, chat, gateway, get, mock, wait_for

skip = OFF


class SharedPort(SynchronousTestCase):
    def start(self, port: int, **settings: str) -> Process:
        process = Process("infergate", {"REUSE_PORT": "true", **settings}, port=port)
        self.addCleanup(process.kill)
        return process

    def test_connections_are_spread(self) -> None:
        """A thousand new connections go to two processes alike, within 10 %.

        The kernel tosses a coin for each, by a hash of its addresses: 1 in 725 thousands is further
        off (3.2 of its standard deviations, which is 16), so a second thousand may stand in for the
        first.
        """
        one = self.start(0, DEFAULT_MODEL="one")
        self.start(one.port, DEFAULT_MODEL="two")

        def fewer() -> int:
            seen = Counter(b'"one"' in get(one.url + "/v1/models")[2] for _ in range(1000))
            return min(seen[True], seen[False])

        self.assertTrue(any(fewer() >= 450 for _ in range(2)))

    def test_process_that_drains_gets_no_newcomers(self) -> None:
        """While one process lets its stream end, the other has every new connection; the stream is
        whole, and the process ends with status 0."""
        backend = mock()
        self.addCleanup(backend.kill)
        settings = {"BACKEND_URL": backend.url, "DRAIN_TIMEOUT": "20"}
        one = self.start(0, **settings)
        answers: list[tuple[int, bytes]] = []

        def stream() -> None:
            messages = [{"role": "user", "content": "a b c d e f g h"}]
            body = {"stream": True, "messages": messages, "mock": {"chunk_delay": 0.5}}
            status, _, said = chat(one.url, body)
            answers.append((status, said))

        running = threading.Thread(target=stream)
        running.start()
        wait_for(lambda: one.metrics()["infergate_streams_in_flight"] == 1, 10, "the stream")
        self.start(one.port, **settings)
        one.send_signal(signal.SIGTERM)
        time.sleep(0.5)
        for _ in range(200):
            self.assertEqual(chat(one.url, {})[0], 200)
        running.join()
        ((status, said),) = answers
        self.assertEqual((status, said.endswith(b"data: [DONE]\n\n")), (200, True))
        self.assertEqual(one.process.wait(20), 0)

    def test_wrong_endpoint(self) -> None:
        """What has no port cannot share one, and that is said at start."""
        with self.assertRaises(AssertionError) as caught:
            gateway({"REUSE_PORT": "true"}, "--listen=unix:/tmp/nowhere/never")
        self.assertIn("REUSE_PORT", str(caught.exception))


class Leaving(SynchronousTestCase):
    def test_drain_delay(self) -> None:
        """For DRAIN_DELAY seconds requests are answered as ever, while /readyz/self says no."""
        process = gateway({"DRAIN_DELAY": "2"})
        self.addCleanup(process.kill)
        self.assertEqual(get(process.url + "/readyz/self")[0], 200)
        process.send_signal(signal.SIGTERM)
        wait_for(lambda: get(process.url + "/readyz/self")[0] == 503, 2, "the probe to say no")
        self.assertEqual(chat(process.url, {})[0], 200)
        self.assertEqual(process.process.wait(10), 0)

    def test_second_signal_after_a_reload(self) -> None:
        """A second signal ends the process now, also where it has used a thread: for a reload."""
        process = gateway(
            {"DRAIN_DELAY": "30", "API_KEYS_FILE": "keys"}, files={"keys": "one:a-long-enough-key"}
        )
        self.addCleanup(process.kill)
        self.assertEqual(get(process.url + "/readyz/self")[0], 200)
        process.send_signal(signal.SIGHUP)
        wait_for(lambda: "Reloaded" in process.log_text(), 5, "the reload")
        process.send_signal(signal.SIGTERM)
        wait_for(lambda: get(process.url + "/readyz/self")[0] == 503, 2, "the probe to say no")
        process.send_signal(signal.SIGTERM)
        self.assertEqual(process.process.wait(5), 0)

    def test_connection_age(self) -> None:
        """A connection that is old enough is closed with its next answer, which says so."""
        process = gateway({"MAX_CONNECTION_AGE": "1"})
        self.addCleanup(process.kill)
        asked = b"GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n"
        with socket.create_connection(("127.0.0.1", process.port)) as connection:
            connection.settimeout(5)
            connection.sendall(asked)
            self.assertNotIn(b"Connection: close", connection.recv(4096))
            time.sleep(1.2)
            connection.sendall(asked)
            self.assertIn(b"Connection: close", connection.recv(4096))
            self.assertEqual(connection.recv(4096), b"")
