"""The one origin: which connection a request goes out on."""

from __future__ import annotations

import os
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase
from twisted.web.iweb import IAgent, IResponse
from zope.interface.verify import verifyObject

from infergate.backend.agent import (
    IDLE_CONNECTION,
    POOLED_CONNECTIONS,
    SETTLING,
    TRUSTED,
    OriginAgent,
)
from infergate.errors import BackendUnavailable
from infergate.reactor.deadlines import Deadlines
from infergate.reactor.epoll import Iteration
from tests.unit.backend.onebackend import OneBackend
from tests.unit.inmemory import BackendPort

URL = b"http://backend:9000/v1/models"


class Pooling(OneBackend):
    def exchange(self, *headers: str, version: str = "1.1") -> None:
        done = self.read()
        self.connection.send(
            f"HTTP/{version} 200 OK\r\nContent-Length: 1\r\n".encode()
            + b"".join(f"{header}\r\n".encode() for header in headers)
            + b"\r\nx"
        )
        self.assertEqual(self.successResultOf(done), b"x")

    def test_connection_serves_one_request_after_the_other(self) -> None:
        """A connection serves one request after the other."""
        for _ in range(3):
            self.exchange()
        self.assertEqual(self.port.attempts, 1)
        self.assertEqual(len(self.connection.requests), 3)

    def test_idle_connection_is_closed_before_the_backend_closes_it(self) -> None:
        """An idle connection is closed long before the five seconds after which llama.cpp and
        uvicorn close theirs."""
        self.exchange()
        self.clock.advance(IDLE_CONNECTION - 0.1)
        self.assertFalse(self.connection.closed)
        self.clock.advance(0.2)
        self.assertTrue(self.connection.closed)
        self.assertLess(IDLE_CONNECTION, 5)
        self.exchange()
        self.assertEqual(self.port.attempts, 2)

    def test_connection_closed_by_the_backend_is_not_reused(self) -> None:
        """A connection that the backend has closed is not used again."""
        self.exchange()
        self.connection.close()
        self.exchange()
        self.assertEqual(self.port.attempts, 2)

    def test_connection_with_unread_bytes_is_not_reused(self) -> None:
        """One on which something waits to be read is not either: it is the backend's closing, or
        what would be taken for the answer to the next request."""
        reading, writing = os.pipe()
        self.addCleanup(os.close, reading)
        self.addCleanup(os.close, writing)
        self.port.descriptor = reading
        self.exchange()
        stale = self.connection
        os.write(writing, b"x")
        self.exchange()
        self.assertEqual(self.port.attempts, 2)
        self.assertTrue(stale.wire.aborted)

    def test_connection_that_sent_unasked_is_not_reused(self) -> None:
        """One that brought what nobody asked for is closed, and not used again."""
        self.exchange()
        self.connection.wire.protocol.dataReceived(b"HTTP/1.1 200 OK\r\n\r\n")
        self.exchange()
        self.assertEqual(self.port.attempts, 2)
        self.assertTrue(self.port.connections[0].wire.aborted)

    def test_connection_that_sent_more_than_its_response_is_not_reused(self) -> None:
        """One that brought more than its response is not used again either."""
        done = self.read()
        self.connection.send(
            b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nxHTTP/1.1 200 OK\r\n\r\n"
        )
        self.assertEqual(self.successResultOf(done), b"x")
        self.exchange()
        self.assertEqual(self.port.attempts, 2)

    def test_response_that_ends_its_connection_is_its_last(self) -> None:
        """A response that says so, or speaks HTTP/1.0 and does not say otherwise, is the last on
        its connection (RFC 9112, 9.3)."""
        for headers, version, attempts in (
            (("Connection: Close",), "1.1", 2),
            (("Connection: x, close",), "1.1", 2),
            ((), "1.0", 2),
            (("Connection: Keep-Alive",), "1.0", 1),
            (("Connection: x",), "1.1", 1),
        ):
            self.start()
            self.exchange(*headers, version=version)
            self.exchange()
            self.assertEqual(self.port.attempts, attempts, (headers, version))

    def stream(self) -> None:
        """One stream, to its end."""
        done = self.read()
        self.connection.begin()
        self.connection.piece(b"x")
        self.connection.end()
        self.assertEqual(self.successResultOf(done), b"x")

    def test_connection_that_stays_open_after_a_stream_is_used_again(self) -> None:
        """A connection that its backend keeps open after a stream serves the next request, once it
        has stayed open for a while."""
        for _ in range(3):
            self.stream()
            self.clock.advance(SETTLING)
        self.exchange()
        self.assertEqual(self.port.attempts, 1)

    def test_connection_is_not_used_again_just_after_a_stream(self) -> None:
        """Until then it is not given out: llama.cpp closes it after a stream without a word, and a
        request that was sent on it meanwhile would be lost."""
        for late in range(0, 240, 10):
            self.start()
            self.stream()
            self.clock.advance(late / 1000)
            self.exchange()
            self.assertEqual(self.port.attempts, 2, late)

    def trust(self) -> None:
        """Have so many connections stay open after a stream that the next need not."""
        for _ in range(TRUSTED):
            self.stream()
            self.clock.advance(SETTLING)
        self.exchange()

    def test_connection_to_a_backend_that_keeps_them_is_used_again_at_once(self) -> None:
        """Where a hundred have stayed open after a stream, the next one serves the next request
        at once: short streams need no connection each."""
        self.trust()
        for _ in range(3):
            self.stream()
        self.exchange()
        self.assertEqual(self.port.attempts, 1)

    def test_backend_that_closes_one_is_not_trusted_any_more(self) -> None:
        """As soon as one is closed, idle or with a request on it, connections have to stay open for
        a while once more: another backend may stand there by then."""
        for late in (0, SETTLING, IDLE_CONNECTION / 2):
            for asked in (False, True):
                self.start()
                self.trust()
                self.stream()
                self.clock.advance(late)
                lost = self.read() if asked else None
                self.connection.close()
                if lost is not None:
                    self.failureResultOf(lost, BackendUnavailable)
                self.stream()
                self.exchange()
                self.assertEqual(self.port.attempts, 3, (late, asked))

    def test_backend_that_was_not_asked_for_a_while_is_not_trusted_any_more(self) -> None:
        """Where no connection was open another backend may have come, and no close told of it."""
        self.trust()
        self.clock.advance(IDLE_CONNECTION + 0.1)
        self.stream()
        self.exchange()
        self.assertEqual(self.port.attempts, 3)

    def test_request_that_a_client_gives_up_costs_no_trust(self) -> None:
        """Nor does a connection that was closed on this side, because its client has left."""
        self.trust()
        self.stream()
        given_up = self.read()
        given_up.cancel()
        self.failureResultOf(given_up)
        for _ in range(3):
            self.stream()
        self.assertEqual(self.port.attempts, 2)

    def test_connection_closed_by_the_backend_after_a_stream_is_gone(self) -> None:
        """One that the backend closes meanwhile is forgotten."""
        self.stream()
        self.connection.close()
        self.clock.advance(SETTLING)
        self.exchange()
        self.assertEqual(self.port.attempts, 2)

    def test_connection_after_a_stream_is_closed_when_it_has_idled(self) -> None:
        """It is not kept any longer than another, whether it is asked for or not."""
        for asked in (False, True):
            self.start()
            self.stream()
            self.clock.advance(IDLE_CONNECTION / 2)
            if asked:
                self.agent.pool.put(self.agent.pool.take())
                self.clock.advance(IDLE_CONNECTION / 2)
            self.assertFalse(self.connection.closed)
            self.clock.advance(IDLE_CONNECTION / 2 + 0.2)
            self.assertTrue(self.connection.closed)
            self.assertEqual(len(self.deadlines), 0)

    def test_every_idle_connection_is_closed_at_the_end(self) -> None:
        """At the end those are closed too that may not be given out yet."""
        self.stream()
        self.agent.pool.close()
        self.assertTrue(self.connection.closed)

    def test_as_many_connections_are_kept_as_requests_ran_at_once(self) -> None:
        """As many connections are kept as there were requests at once, up to a thousand."""
        done = [self.read() for _ in range(50)]
        for connection in self.port.connections:
            connection.answer(b"x")
        for exchange in done:
            self.successResultOf(exchange)
        for _ in range(50):
            self.read()
        self.assertEqual(self.port.attempts, 50)
        self.assertGreaterEqual(POOLED_CONNECTIONS, 1000)

    def test_request_on_a_closed_connection_is_not_sent_again(self) -> None:
        """A GET on a connection that the backend then closes is not sent again either."""
        self.exchange()
        done = self.send(body=None)
        self.connection.reset()
        self.failureResultOf(done, BackendUnavailable)
        self.assertEqual(self.port.attempts, 1)


class Reactor:
    """A reactor whose turns are a test's: each deals with the events that are given."""

    def __init__(self) -> None:
        self._poller = self
        self._selectables: dict[int, Any] = {}
        self.doIteration = Iteration(self)

    def poll(self, timeout: float, count: int) -> list[tuple[int, int]]:
        return []


class CrowdedTurn(SynchronousTestCase):
    """Requests that are sent in a turn of the reactor in which much happens."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.port = BackendPort(self.clock)
        self.reactor = Reactor()
        self.agent = OriginAgent(
            "http://backend:9000", self.port, Deadlines(self.clock), self.reactor
        )

    def send(self) -> Deferred[IResponse]:
        return self.agent.request(b"GET", URL)

    def end_turn(self) -> None:
        self.reactor.doIteration(0)

    def idle(self) -> None:
        """Leave one idle connection in the pool."""
        done = self.send()
        self.port.connections[-1].answer()
        self.successResultOf(done)

    def test_request_goes_out_at_the_end_of_the_turn(self) -> None:
        """A request of a crowded turn is sent when the turn ends, and answered like any other;
        outside of one it is sent at once."""
        self.idle()
        self.reactor.doIteration.crowded = True
        done = self.send()
        (connection,) = self.port.connections
        self.assertEqual(len(connection.requests), 1)
        self.end_turn()
        self.assertEqual(len(connection.requests), 2)
        connection.answer(b"x")
        self.assertEqual(self.successResultOf(done).code, 200)

    def test_connection_is_looked_at_when_the_request_is_written(self) -> None:
        """A connection on which something came before the request went out is not used for it:
        that would be taken for the answer."""
        reading, writing = os.pipe()
        self.addCleanup(os.close, reading)
        self.addCleanup(os.close, writing)
        self.port.descriptor = reading
        self.idle()
        self.reactor.doIteration.crowded = True
        done = self.send()
        os.write(writing, b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nstolen")
        self.end_turn()
        stale, fresh = self.port.connections
        self.assertTrue(stale.wire.aborted)
        self.assertEqual(len(stale.requests), 1)
        fresh.answer(b"own", status=201)
        self.assertEqual(self.successResultOf(done).code, 201)

    def test_request_cancelled_before_the_end_of_the_turn_is_not_sent(self) -> None:
        """A request that is given up before its bytes went out never reaches the backend, and
        costs no connection."""
        self.idle()
        self.reactor.doIteration.crowded = True
        done = self.send()
        done.cancel()
        self.failureResultOf(done)
        self.end_turn()
        (connection,) = self.port.connections
        self.assertEqual(len(connection.requests), 1)
        self.assertFalse(connection.closed)

    def test_request_line_names_the_path_of_the_url(self) -> None:
        """A request line names the path of the URL, whatever the backend's address is."""
        for url, line, host in (
            ("http://backend:9000", b"GET /v1/models HTTP/1.1", b"backend:9000"),
            ("http://backend/base", b"GET /base/v1/models HTTP/1.1", b"backend"),
            ("http://[::1]:9000", b"GET /v1/models HTTP/1.1", b"[::1]:9000"),
        ):
            port = BackendPort(Clock())
            agent = OriginAgent(url, port, Deadlines(Clock()))
            verifyObject(IAgent, agent)
            agent.request(b"GET", url.encode() + b"/v1/models")
            sent = port.connections[0].received.split(b"\r\n")
            self.assertEqual(sent, [line, b"Host: " + host, b"", b""])
