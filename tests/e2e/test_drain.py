"""SIGTERM: what runs may end, nothing new begins, and the process goes when it said it would."""

from __future__ import annotations

import itertools
import signal
import socket
import time
from concurrent.futures import ThreadPoolExecutor

from twisted.python import log
from twisted.trial.unittest import SynchronousTestCase

from tests.e2e.faulty_backend import (
    DONE,
    HOLD,
    LAST_CHUNK,
    ROLE,
    STOP,
    STREAM_HEAD,
    FaultyBackend,
    Script,
    chunk,
    completion,
    delta,
    drip,
    pause,
    pour,
    whole,
)
from tests.e2e.harness import OFF, Process, gateway, get, post, wait_for
from tests.e2e.wire import Answer, ask, receive, send

skip = OFF

STREAMS = 200
WORD = delta(content="word ")
ENDLESS: Script = (STREAM_HEAD + chunk(ROLE), drip(itertools.repeat(chunk(WORD)), 0.1))


class DrainTests(SynchronousTestCase):
    def begin(self, *script: object, limit: float, **settings: str) -> Process:
        self.backend = FaultyBackend(script)  # type: ignore[arg-type]
        self.addCleanup(self.backend.stop)
        settings = {"BACKEND_URL": self.backend.url, "DRAIN_TIMEOUT": str(limit), **settings}
        self.gateway = gateway(settings)
        self.addCleanup(self.gateway.kill)
        return self.gateway

    def running(self, count: int, *, stream: bool = True) -> list[socket.socket]:
        """Connections on which so many requests have reached the backend, and begun."""
        clients = [send(self.gateway.port, f"running.{n}", stream=stream) for n in range(count)]
        for number in range(count):
            exchange = self.backend.exchange(f"running.{number}", 60)
            wait_for(lambda e=exchange: e.sent or not stream, 60, "the stream to begin")
        return clients

    def signalled(self) -> float:
        self.gateway.send_signal(signal.SIGTERM)
        return time.monotonic()

    def assert_gone(self, since: float, within: float) -> None:
        """It ended in time, by the signal that ended it, and with nothing bad in its log."""
        status = self.gateway.process.wait(60)
        took = time.monotonic() - since
        log.msg(f"{self.id()}: gone after {took:.2f} s")
        self.assertEqual(status, 0)
        self.assertLess(took, within)
        self.assertEqual(self.gateway.complaints(), [])

    def test_streams_within_the_limit(self) -> None:
        """No running stream is cut, probes are told at once, and the end does not wait longer
        than for the last stream."""
        self.begin(
            STREAM_HEAD + chunk(ROLE),
            drip([chunk(WORD)] * 30, 0.1),
            chunk(STOP + DONE) + LAST_CHUNK,
            limit=30,
        )
        idle = send(self.gateway.port, "idle", body=b"{}")
        self.assertEqual(receive(idle, close=False).status, 400)
        clients = self.running(STREAMS)
        with ThreadPoolExecutor(STREAMS) as pool:
            answers = pool.map(lambda client: receive(client, 60), clients)
            ping = max(self.ping() for _ in range(5))
            since = self.signalled()
            wait_for(self.drains, 5, "the drain to begin")
            took = time.monotonic() - since
            log.msg(
                f"{self.id()}: /readyz told after {took * 1000:.1f} ms, ping {ping * 1000:.1f} ms"
            )
            self.assertLess(took, 0.1 + ping)
            self.assertEqual(receive(idle, 2).ended, "fin")
            self.assert_refuses_new_ones()
            whole_stream = ROLE + WORD * 30 + STOP + DONE
            for answer in answers:
                self.assertEqual((answer.status, answer.ended), (200, "last_chunk"))
                self.assertEqual(answer.body, whole_stream)
        self.assert_gone(time.monotonic(), 2)
        self.assertEqual(self.outcomes("running"), {"ok"})

    def drains(self) -> bool:
        """Whether a probe is told so. One whose connection was idle at that very moment finds it
        closed, and asks again."""
        try:
            return get(f"{self.gateway.url}/readyz")[0] == 503
        except OSError:
            return False

    def ping(self) -> float:
        """Seconds for an answer, on a machine that does other things too."""
        began = time.monotonic()
        get(f"{self.gateway.url}/healthz")
        return time.monotonic() - began

    def assert_refuses_new_ones(self) -> None:
        self.assertEqual(get(f"{self.gateway.url}/healthz")[::2], (200, b'{"status":"ok"}'))
        self.assertEqual(get(f"{self.gateway.url}/readyz")[::2], (503, b'{"status":"draining"}'))
        answer = ask(self.gateway.port, "new", stream=True)
        self.assertEqual((answer.status, answer.code), (503, "shutting_down"))
        self.assertEqual(answer.fields["connection"], "close")
        self.assertGreaterEqual(int(answer.fields["retry-after"]), 1)
        self.assertEqual(get(f"{self.gateway.url}/v1/models")[0], 503)
        self.assertEqual(self.gateway.request_line("new")["outcome"], "shutdown")

    def outcomes(self, prefix: str) -> set[str]:
        lines = self.gateway.requests()
        return {line["outcome"] for line in lines if line["request_id"].startswith(prefix)}

    def test_endless_streams(self) -> None:
        """What still runs at the limit gets an error event, and the process is gone soon after."""
        self.begin(*ENDLESS, limit=1)
        clients = self.running(50)
        with ThreadPoolExecutor(50) as pool:
            answers = pool.map(lambda client: receive(client, 60), clients)
            since = self.signalled()
            for answer in answers:
                self.assert_cut(answer)
        self.assert_gone(since, 1 + 2)
        self.assertEqual(self.outcomes("running"), {"shutdown"})

    def assert_cut(self, answer: Answer) -> None:
        self.assertEqual((answer.status, answer.ended), (200, "fin"))
        self.assertTrue(answer.body.startswith(ROLE))
        self.assertEqual(answer.last_event["error"]["code"], "shutting_down")
        self.assertEqual(answer.body.count(b'"error"'), 1)
        self.assertNotIn(DONE, answer.body)

    def test_clients_that_do_not_read(self) -> None:
        """A client that takes nothing does not hold the end up."""
        self.begin(STREAM_HEAD, pour(chunk(WORD * 99)), limit=1)
        for client in self.running(5):
            self.addCleanup(client.close)
        time.sleep(1)
        self.assert_gone(self.signalled(), 1 + 2)
        self.assertEqual(self.outcomes("running"), {"shutdown"})

    def test_plain_requests(self) -> None:
        """A plain request that the backend works on at the limit gets a 502 that says not to ask
        again."""
        self.begin(HOLD, limit=1)
        clients = self.running(10, stream=False)
        since = self.signalled()
        for client in clients:
            answer = receive(client, 10)
            self.assertEqual((answer.status, answer.code), (502, "shutting_down"))
            self.assertEqual((answer.ended, answer.fields["x-should-retry"]), ("length", "false"))
        self.assert_gone(since, 1 + 2)
        self.assertEqual(self.outcomes("running"), {"shutdown"})

    def test_plain_requests_within_the_limit(self) -> None:
        """One that ends before has its answer."""
        self.begin(pause(1), whole(completion()), limit=10)
        (client,) = self.running(1, stream=False)
        self.signalled()
        answer = receive(client, 10)
        self.assertEqual((answer.status, answer.fields["connection"]), (200, "close"))
        self.assert_gone(time.monotonic(), 2)

    def test_half_a_request(self) -> None:
        """A request that has only begun to arrive does not hold the end up, and is answered."""
        self.begin(limit=1)
        clients = []
        for request in (b"POST /v1/chat/com", post({"stream": True})[:-5]):
            clients.append(socket.create_connection(("127.0.0.1", self.gateway.port)))
            clients[-1].sendall(request)
        time.sleep(0.2)
        since = self.signalled()
        for client in clients:
            answer = receive(client, 10)
            self.assertEqual((answer.status, answer.code), (503, "shutting_down"))
        self.assert_gone(since, 1 + 2)

    def test_second_signal(self) -> None:
        """A second signal ends it now, however much time it had left."""
        self.begin(*ENDLESS, limit=60)
        for client in self.running(5):
            self.addCleanup(client.close)
        self.signalled()
        wait_for(self.drains, 5, "the drain to begin")
        self.gateway.send_signal(signal.SIGTERM)
        since = time.monotonic()
        self.assertEqual(self.gateway.process.wait(10), 0)
        self.assertLess(time.monotonic() - since, 1)
        self.assertEqual(self.gateway.complaints(), [])

    def test_nothing_to_wait_for(self) -> None:
        """With nothing under way it ends at once, also where clients keep connections open."""
        self.begin(whole(completion()), limit=60)
        client = send(self.gateway.port, "before")
        self.addCleanup(client.close)
        self.assertEqual(receive(client, close=False).status, 200)
        self.assert_gone(self.signalled(), 2)
