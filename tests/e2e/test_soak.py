"""Good, bad and faulty traffic, mixed and for long: nothing is left behind.

`INFERGATE_SOAK_SECONDS` is how long it lasts: 30 by default, 300 for a full run, which says
how the memory went on standard output.
"""

from __future__ import annotations

import os
import random
import re
import socket
import struct
import sys
import time
import uuid
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from statistics import linear_regression

from twisted.trial.unittest import SynchronousTestCase

from tests.e2e.harness import OFF, Process, gateway, get, mock, post, running, wait_for
from tests.e2e.wire import Answer, receive

skip = OFF

SECONDS = float(os.environ.get("INFERGATE_SOAK_SECONDS", "30"))
WARM_UP = SECONDS / 3
"""Seconds in which all the memory is taken that such traffic ever needs at once."""

CLIENTS = 16
WARM_UP_CLIENTS = 3 * CLIENTS
PAUSE = 0.02
"""Seconds each client waits between two exchanges: a soak is long and not hard."""

SLOPE = 1 << 20
"""Bytes an hour by which the memory may grow for ever."""

NOISE = 2 << 20
"""Bytes that may come and go: the interpreter takes and gives back memory by the MiB."""

KEY = "Authorization: Bearer key"


class Client:
    """One thread of traffic; `expected` are the outcomes of its exchanges by request id."""

    def __init__(self, port: int, seed: int) -> None:
        self._port = port
        self._random = random.Random(seed)
        self.expected: dict[str, str] = {}
        self._kinds: list[Callable[[], None]] = [
            *[self.good] * 6,
            self.refused,
            self.faulty,
            self.faulty,
            self.broken,
            self.pipelined,
            self.leaves_before_the_answer,
            self.leaves_in_the_body,
            self.leaves_in_the_stream,
            self.reads_nothing,
        ]

    def run(self, until: float) -> None:
        while time.monotonic() < until:
            self._random.choice(self._kinds)()
            time.sleep(PAUSE)

    def good(self) -> None:
        stream = self._random.random() < 0.5
        words = f"{uuid.uuid4()} " * self._random.randint(1, 50)
        answer = self.answered("ok", KEY, prompt=words, stream=stream)
        assert answer.status == 200 and answer.ended in ("length", "last_chunk"), answer
        assert words.split()[0].encode() in answer.body, answer

    def refused(self) -> None:
        fields, members, status, outcome = self._random.choice(
            [
                ([KEY], {"n": 0}, 400, "client_error"),
                ([KEY], {"messages": 5}, 400, "client_error"),
                ([KEY, "Content-Encoding: gzip"], {}, 415, "client_error"),
                ([], {}, 401, "unauthorized"),
                (["Authorization: Bearer no"], {}, 401, "unauthorized"),
                ([KEY], {"mock": {"status": 400}}, 400, "client_error"),
                ([KEY], {"mock": {"status": 429, "retry_after": 1}}, 429, "rate_limited"),
            ]
        )
        answer = self.answered(outcome, *fields, **members)
        assert answer.status == status, answer

    def faulty(self) -> None:
        script, outcome = self._random.choice(
            [
                ({"status": 500}, "backend_error"),
                ({"fail": "garbage"}, "backend_error"),
                ({"fail": "html"}, "backend_error"),
                ({"fail": "redirect"}, "backend_error"),
                ({"fail": "cut_json"}, "backend_error"),
                ({"fail": "reset", "fail_after": 0}, "backend_unavailable"),
                ({"fail": "close", "fail_after": 0}, "backend_unavailable"),
                ({"fail": "close", "fail_after": 1}, "backend_error"),
                ({"fail": "stall", "fail_after": 1}, "timeout"),
                ({"delay": 3}, "timeout"),
                ({"gzip": True}, "backend_error"),
            ]
        )
        self.answered(outcome, KEY, stream=self._random.random() < 0.5, mock=script)

    def broken(self) -> None:
        request = self._random.choice(
            [
                b"\0\1\2\3\r\n\r\n",
                b"GET / HTTP/1.1\r\n\r\n",
                b"GET /" + b"x" * 9000 + b" HTTP/1.1\r\nHost: test\r\n\r\n",
                post({}, "Transfer-Encoding: chunked"),
                post({}, KEY).replace(b"Content-Length: ", b"Content-Length: 9999999"),
                b"\r\nPRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
            ]
        )
        with self.connected() as connection:
            connection.sendall(request)
            answer = receive(connection, 10)
        assert answer.status >= 400, answer
        self.expected[answer.fields["x-request-id"]] = (
            "unauthorized" if answer.status == 401 else "client_error"
        )

    def pipelined(self) -> None:
        requests = [self.request("ok", KEY, stream=bool(n % 2)) for n in range(4)]
        with self.connected() as connection:
            connection.sendall(b"".join(requests))
            data = b""
            while data.count(b"HTTP/1.1 200 OK") < 4 or not data.endswith(b"0\r\n\r\n"):
                piece = connection.recv(65536)
                assert piece, data
                data += piece

    def leaves_before_the_answer(self) -> None:
        with self.connected() as connection:
            connection.sendall(self.request("client_disconnected", KEY, mock={"delay": 1.5}))
            # Who closes within 0.1 s of what the gateway has read, which may be late on a busy
            # machine, may only have closed its writing side, and gets its answer.
            time.sleep(0.6)

    def leaves_in_the_body(self) -> None:
        with self.connected() as connection:
            connection.sendall(self.request("client_disconnected", KEY)[:-7])
            time.sleep(0.02)

    def leaves_in_the_stream(self) -> None:
        script = {"chunks": 100, "chunk_delay": 0.05}
        with self.connected() as connection:
            connection.sendall(self.request("client_disconnected", KEY, stream=True, mock=script))
            assert connection.recv(10) == b"HTTP/1.1 2"
            if self._random.random() < 0.5:
                linger = struct.pack("ii", 1, 0)
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)

    def reads_nothing(self) -> None:
        script = {"chunks": 40_000}  # more than the kernel takes on behalf of a small window
        with socket.socket() as connection:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            connection.connect(("127.0.0.1", self._port))
            connection.sendall(self.request("client_disconnected", KEY, stream=True, mock=script))
            time.sleep(0.3)

    def connected(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self._port), 10)

    def request(
        self, outcome: str, *fields: str, prompt: str = "hello", **members: object
    ) -> bytes:
        request_id = str(uuid.uuid4())
        self.expected[request_id] = outcome
        members.setdefault("messages", [{"role": "user", "content": prompt}])
        return post(members, f"X-Request-ID: {request_id}", *fields)

    def answered(self, outcome: str, *fields: str, **members: object) -> Answer:
        with self.connected() as connection:
            connection.sendall(self.request(outcome, *fields, **members))  # type: ignore[arg-type]
            return receive(connection, 10)


def traffic(
    served: Process, clients: int, seconds: float
) -> tuple[list[Client], list[tuple[float, int]]]:
    """Clients that have run, and the memory meanwhile, by the second."""
    began = time.monotonic()
    crowd = [Client(served.port, seed) for seed in range(clients)]
    samples = []
    with ThreadPoolExecutor(clients) as pool:
        ended = [pool.submit(client.run, began + seconds) for client in crowd]
        while not all(future.done() for future in ended):
            time.sleep(0.25)
            samples.append((time.monotonic() - began, served.memory()))
        for future in ended:
            future.result()
    return crowd, samples


class SoakTests(SynchronousTestCase):
    def test_soak(self) -> None:
        """After much good, bad and faulty traffic no memory, file or request is left over."""
        backend = mock()
        with running(backend):
            settings = {
                "BACKEND_URL": backend.url,
                "BACKEND_TIMEOUT": "2",
                "STREAM_IDLE_TIMEOUT": "1",
                "API_KEYS": "key",
            }
            served = gateway(settings)
            with running(served):
                self.soak(served)

    def soak(self, served: Process) -> None:
        self.assertEqual(get(served.url + "/healthz")[0], 200)  # all of it runs
        files = served.open_files()
        clients = traffic(served, WARM_UP_CLIENTS, WARM_UP)[0]
        more, samples = traffic(served, CLIENTS, SECONDS - WARM_UP)
        clients += more
        expected = {name: value for client in clients for name, value in client.expected.items()}
        slope, _ = linear_regression(*zip(*samples, strict=True))
        sys.stdout.write(
            f"{len(expected)} exchanges, {samples[-1][1] / 2**20:.1f} MiB, "
            f"{slope * 3600 / 2**20:+.2f} MiB an hour "
        )
        lasted = samples[-1][0]
        self.assertLess(slope * lasted, SLOPE * lasted / 3600 + NOISE)
        wait_for(lambda: served.open_files() <= files, 10, "the files to be closed")
        self.assertEqual(served.complaints(), [])
        lines = [line for line in served.requests() if line["path"] != "/healthz"]
        self.assertEqual(Counter(line["request_id"] for line in lines), Counter(expected.keys()))
        wrong = [line for line in lines if line["outcome"] != expected[line["request_id"]]]
        self.assertEqual(wrong, [])
        text = get(served.url + "/metrics", {"Authorization": "Bearer key"})[2].decode()
        gauges = dict(re.findall(r"^(infergate_\w+_in_flight) (\S+)$", text, re.MULTILINE))
        this_one = {"infergate_requests_in_flight": "1.0", "infergate_streams_in_flight": "0.0"}
        self.assertEqual(gauges, this_one)
