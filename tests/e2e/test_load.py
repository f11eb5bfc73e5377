"""Many at once: nobody is lost, nobody is mixed up, and what is too much is refused in order.

`INFERGATE_LOAD_SECONDS` is how long the load lasts; 5 by default.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import resource
import socket
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

from twisted.trial.unittest import SynchronousTestCase

from tests.e2e.harness import OFF, Process, chat, gateway, get, mock, post, running, wait_for
from tests.e2e.wire import receive

skip = OFF

SECONDS = float(os.environ.get("INFERGATE_LOAD_SECONDS", "5"))
AT_ONCE = 50
BURST = 60
"""Connections allowed in the burst, which is of four times as many."""

HEALTHZ = b"GET /healthz HTTP/1.1\r\nHost: test\r\n\r\n"


def said(body: bytes, stream: bool) -> str:
    """The content of a reply."""
    if not stream:
        content: str = json.loads(body)["choices"][0]["message"]["content"]
        return content
    *events, end, nothing = body.split(b"\n\n")
    assert (end, nothing) == (b"data: [DONE]", b""), body
    chunks = [json.loads(event.removeprefix(b"data: ")) for event in events]
    return "".join(chunk["choices"][0]["delta"].get("content") or "" for chunk in chunks)


def client(port: int, name: str, until: float) -> list[str]:
    """Ask and ask again on one connection, plain and streamed by turns; the ids, each of which
    had an answer of its own."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    answered = []
    while time.monotonic() < until:
        request_id = f"{name}-{len(answered)}"
        stream = len(answered) % 2 == 1
        script = {"delay": 0.01, "chunk_delay": 0.005}
        messages = [{"role": "user", "content": f"prompt of {request_id} and its end"}]
        body = json.dumps({"messages": messages, "stream": stream, "mock": script})
        fields = {"Content-Type": "application/json", "X-Request-ID": request_id}
        connection.request("POST", "/v1/chat/completions", body, fields)
        response = connection.getresponse()
        reply = response.read()
        assert response.status == 200, (response.status, reply)
        assert response.getheader("X-Request-ID") == request_id, request_id
        assert stream or json.loads(reply)["id"] == request_id, reply
        assert said(reply, stream) == f"Mock: prompt of {request_id} and its end", reply
        answered.append(request_id)
    connection.close()
    return answered


class LoadTests(SynchronousTestCase):
    def assertQuiet(self, served: Process) -> None:
        """Nothing is under way any more, and nothing was wrong."""
        idle = "infergate_requests_in_flight"
        wait_for(lambda: served.metrics()[idle] == 1, 5, "the end of what is under way")
        self.assertEqual(served.metrics()["infergate_streams_in_flight"], 0)
        self.assertEqual(served.complaints(), [])

    def test_at_once(self) -> None:
        """Fifty clients at once, plain and streamed, each get the answers to their own requests."""
        backend = mock()
        with running(backend):
            served = gateway({"BACKEND_URL": backend.url})
            with running(served), ThreadPoolExecutor(AT_ONCE) as pool:
                until = time.monotonic() + SECONDS
                clients = [pool.submit(client, served.port, f"c{n}", until) for n in range(AT_ONCE)]
                answered = Counter(name for each in clients for name in each.result())
                self.assertQuiet(served)
                lines = [line for line in served.requests() if line["path"] != "/metrics"]
                self.assertEqual(Counter(line["request_id"] for line in lines), answered)
                self.assertEqual({line["outcome"] for line in lines}, {"ok"})
                self.assertEqual({line["usage_source"] for line in lines}, {"backend"})
                self.assertGreater(len(answered), AT_ONCE * SECONDS)

    def burst(self, stack: ExitStack, port: int) -> Counter[int]:
        """Four times the connections that there is room for, each asking at once."""
        crowd = []
        for number in range(4 * BURST):
            connection = stack.enter_context(socket.create_connection(("127.0.0.1", port), 30))
            with contextlib.suppress(ConnectionError):  # refused, and the answer is there
                connection.sendall(post({"stream": number % 2 == 1}))
            crowd.append(connection)
        self.assertEqual(get(f"http://127.0.0.1:{port}/healthz")[0], 200)
        answers = [receive(connection) for connection in crowd]
        for answer in answers:
            self.assertIn(answer.ended, ("length", "last_chunk"))
            self.assertEqual("retry-after" in answer.fields, answer.status != 200)
        return Counter(answer.status for answer in answers)

    def test_burst_over_the_connections(self) -> None:
        """Of a burst of four times the connections as many as there is room for are served, all
        others get 503, and probes get through meanwhile."""
        backend = mock("--delay=2")
        with running(backend), ExitStack() as stack:
            served = gateway({"BACKEND_URL": backend.url, "MAX_CONNECTIONS": str(BURST)})
            with running(served):
                found = self.burst(stack, served.port)
                self.assertEqual(found, {200: BURST, 503: 3 * BURST})
                self.assertQuiet(served)
                outcomes = Counter(line["outcome"] for line in served.requests())
                self.assertEqual(outcomes["overloaded"], 3 * BURST)

    def test_burst_over_the_rate(self) -> None:
        """Of a burst over the rate too, those above it get 429 at once and leave their places to
        others."""
        backend = mock("--delay=0.3")
        with running(backend), ExitStack() as stack:
            settings = {"MAX_CONNECTIONS": str(BURST), "RATE_LIMIT": f"{BURST // 2}/minute"}
            served = gateway({"BACKEND_URL": backend.url, **settings})
            with running(served):
                found = self.burst(stack, served.port)
                self.assertEqual(found[200], BURST // 2)
                self.assertEqual(sum(found.values()), found[200] + found[429] + found[503])
                self.assertQuiet(served)
                outcomes = Counter(line["outcome"] for line in served.requests())
                self.assertEqual(outcomes["rate_limited"], found[429])

    def test_out_of_files(self) -> None:
        """Running out of file descriptors is survived: who is in goes on, and others can again."""
        served = gateway()
        with running(served), ExitStack() as stack:
            address = ("127.0.0.1", served.port)
            inside = stack.enter_context(socket.create_connection(address, 10))
            inside.sendall(HEALTHZ)
            self.assertEqual(receive(inside, close=False).status, 200)
            limits = (served.open_files() + 20,) * 2
            resource.prlimit(served.process.pid, resource.RLIMIT_NOFILE, limits)
            with ExitStack() as crowd:
                for _ in range(100):
                    crowd.enter_context(socket.create_connection(address, 10)).sendall(HEALTHZ)
                wait_for(lambda: served.open_files() >= limits[0] - 1, 5, "no descriptor left")
                before = served.cpu_seconds()
                time.sleep(1)
                self.assertLess(served.cpu_seconds() - before, 0.5)  # it does not spin
                inside.sendall(post({}))
                self.assertEqual(receive(inside, close=False).status, 200)
            wait_for(lambda: served.open_files() < limits[0] - 10, 5, "descriptors again")
            self.assertEqual(chat(served.url, {})[0], 200)
            self.assertQuiet(served)
