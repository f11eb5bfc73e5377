"""The backend over treq: one shared pool, four deadlines, and a name for each failure."""

from __future__ import annotations

import os
from typing import Any

from treq.testing import RequestTraversalAgent
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.endpoints import HostnameEndpoint, TCP4ClientEndpoint, TCP6ClientEndpoint
from twisted.internet.error import (
    ConnectBindError,
    ConnectError,
    ConnectionRefusedError,  # noqa: A004  # Twisted's
    DNSLookupError,
    NoRouteError,
    TCPTimedOutError,
    TimeoutError,  # noqa: A004
)
from twisted.internet.interfaces import IPushProducer, IStreamClientEndpoint
from twisted.internet.protocol import Factory
from twisted.internet.task import Clock
from twisted.internet.testing import MemoryReactorClock, StringTransport
from twisted.trial.unittest import SynchronousTestCase
from twisted.web.client import ResponseFailed
from twisted.web.http import Request
from twisted.web.http_headers import Headers
from twisted.web.iweb import IAgent, IBodyProducer
from twisted.web.resource import Resource
from zope.interface import implementer
from zope.interface.verify import verifyObject

from infergate.api.operations import CHAT, MODELS_PATH
from infergate.backend import agent as origin
from infergate.backend import call
from infergate.backend import client as backend
from infergate.backend.agent import (
    IDLE_CONNECTION,
    POOLED_CONNECTIONS,
    OriginAgent,
    backend_endpoint,
)
from infergate.backend.call import END_OF_BODY, Call, Timeouts
from infergate.backend.client import Backend, Plain
from infergate.backend.parser import MAX_HEAD
from infergate.errors import BackendError, BackendUnavailable, GatewayTimeout
from infergate.reactor.deadlines import Deadlines
from infergate.telemetry.record import Record
from tests.unit.inmemory import BackendConnection, BackendPort

TIMEOUTS = Timeouts(connect=5, response=60, idle=30, total=600)


class Setting(SynchronousTestCase):
    """A backend in memory, and one call of it."""

    def setUp(self) -> None:
        self.start()

    def start(self, **settings: Any) -> None:
        self.clock = Clock()
        self.clock.advance(1000)
        self.deadlines = Deadlines(self.clock)
        self.port = BackendPort(self.clock)
        self.agent = OriginAgent("http://backend:9000", self.port, self.deadlines)
        settings.setdefault("timeouts", TIMEOUTS)
        self.backend = Backend(
            self.agent, self.port, "http://backend:9000", self.deadlines, **settings
        )

    def call(self, opened: float = 0) -> Call:
        """A call for a request whose first byte came `opened` seconds ago."""
        opened = self.clock.seconds() - opened
        self.record = Record(opened=opened, client="x", request_id="id-1")
        return self.backend.call(self.record)

    def send(self, call: Call | None = None, body: bytes | None = b"{}") -> Deferred[Any]:
        self.last = call or self.call()
        method, path = ("GET", MODELS_PATH) if body is None else ("POST", CHAT.path)
        sending = self.backend.send(self.last, method, path, {b"Accept": [b"x/y"]}, body)
        return Deferred.fromCoroutine(sending)

    def read(self, limit: int = 1000) -> Deferred[bytes]:
        """The whole exchange, to its last byte."""

        call = self.call()

        async def exchange() -> bytes:
            await self.send(call)
            return await call.read_all(limit)

        return Deferred.fromCoroutine(exchange())

    @property
    def connection(self) -> BackendConnection:
        return self.port.connections[-1]

    def assert_no_deadline(self) -> None:
        """No exchange has one; connections that idle have one, all together."""
        idle = any(not connection.closed for connection in self.port.connections)
        self.assertEqual(len(self.deadlines), int(idle))

    def assert_over(self) -> None:
        """Nothing is left of any exchange but connections that may be used again."""
        self.clock.advance(IDLE_CONNECTION + 0.2)
        self.assertEqual((len(self.deadlines), self.clock.getDelayedCalls()), (0, []))
        for connection in self.port.connections:
            self.assertTrue(connection.closed)


class Sending(Setting):
    def test_request(self) -> None:
        """The backend reads the body as it was given, and the gateway's own fields."""
        self.send(body=b'{"a": 1}')
        request = self.connection.request
        self.assertEqual((request.method, request.path), ("POST", CHAT.path))
        self.assertEqual(request.body, b'{"a": 1}')
        self.assertEqual(
            request.headers,
            {
                "accept": "x/y",
                "user-agent": backend.USER_AGENT.decode(),
                "content-length": "8",
                "host": "backend:9000",
            },
        )

    def test_no_body(self) -> None:
        """A GET has none."""
        self.send(body=None)
        request = self.connection.request
        self.assertEqual((request.method, request.path, request.body), ("GET", MODELS_PATH, b""))
        self.assertNotIn("transfer-encoding", request.headers)

    def test_api_key(self) -> None:
        """BACKEND_API_KEY goes along, and without it no credentials do."""
        self.send()
        self.assertNotIn("authorization", self.connection.request.headers)
        self.start(api_key="canary")
        self.send()
        self.assertEqual(self.connection.request.headers["authorization"], "Bearer canary")

    def test_no_coding(self) -> None:
        """No compression is asked for."""
        self.send()
        self.assertNotIn("accept-encoding", self.connection.request.headers)

    def test_no_cookies(self) -> None:
        """A cookie that the backend sets for one caller never goes out with another's request."""
        done = self.read()
        self.connection.answer(b"1", "Set-Cookie: caller=one; Path=/")
        self.successResultOf(done)
        self.read()
        self.assertNotIn("cookie", self.connection.requests[-1].headers)

    def test_no_redirect(self) -> None:
        """A redirect is an answer like another, and is not followed."""
        done = self.send()
        self.connection.answer(b"", "Location: http://backend:9000/elsewhere", status=307)
        self.assertEqual(self.successResultOf(done).code, 307)
        self.assertEqual(len(self.connection.requests), 1)

    def test_slow_to_take(self) -> None:
        """A body is written at once, whatever the backend has taken of it so far."""
        body = backend._Body(b"x")
        verifyObject(IBodyProducer, body)
        transport = StringTransport()
        self.successResultOf(body.startProducing(transport))
        body.pauseProducing()
        body.resumeProducing()
        body.stopProducing()
        self.assertEqual((transport.value(), body.length), (b"x", 1))


class Pool(Setting):
    def exchange(self, *headers: str, version: str = "1.1") -> None:
        done = self.read()
        self.connection.send(
            f"HTTP/{version} 200 OK\r\nContent-Length: 1\r\n".encode()
            + b"".join(f"{header}\r\n".encode() for header in headers)
            + b"\r\nx"
        )
        self.assertEqual(self.successResultOf(done), b"x")

    def test_reused(self) -> None:
        """A connection serves one request after the other."""
        for _ in range(3):
            self.exchange()
        self.assertEqual(self.port.attempts, 1)
        self.assertEqual(len(self.connection.requests), 3)

    def test_given_up_before_the_backend_does(self) -> None:
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

    def test_closed_by_the_backend(self) -> None:
        """A connection that the backend has closed is not used again."""
        self.exchange()
        self.connection.close()
        self.exchange()
        self.assertEqual(self.port.attempts, 2)

    def test_about_to_be_read(self) -> None:
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

    def test_unasked(self) -> None:
        """One that brought what nobody asked for is closed, and not used again."""
        self.exchange()
        self.connection.wire.protocol.dataReceived(b"HTTP/1.1 200 OK\r\n\r\n")
        self.exchange()
        self.assertEqual(self.port.attempts, 2)
        self.assertTrue(self.port.connections[0].wire.aborted)

    def test_excess(self) -> None:
        """One that brought more than its response is not used again either."""
        done = self.read()
        self.connection.send(
            b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nxHTTP/1.1 200 OK\r\n\r\n"
        )
        self.assertEqual(self.successResultOf(done), b"x")
        self.exchange()
        self.assertEqual(self.port.attempts, 2)

    def test_last_of_its_connection(self) -> None:
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

    def test_many(self) -> None:
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

    def test_no_retry_of_its_own(self) -> None:
        """A GET on a connection that the backend then closes is not sent again either."""
        self.exchange()
        done = self.send(body=None)
        self.connection.reset()
        self.failureResultOf(done, BackendUnavailable)
        self.assertEqual(self.port.attempts, 1)


class Retries(Setting):
    def test_not_sent(self) -> None:
        """Where no connection could be made another is tried, as often as BACKEND_RETRIES says."""
        for retries, failures, attempts, good in (
            (1, 1, 2, True),
            (1, 2, 2, False),
            (0, 1, 1, False),
            (3, 3, 4, True),
        ):
            self.start(retries=retries)
            self.port.refuse(failures)
            done = self.send()
            self.assertEqual(self.port.attempts, attempts)
            if good:
                self.connection.answer(b"")
                self.assertEqual(self.successResultOf(done).code, 200)
            else:
                error = self.failureResultOf(done, BackendUnavailable).value
                self.assertEqual(error.headers, [], "an SDK may try again")
                self.assert_no_deadline()

    def test_sent(self) -> None:
        """Once the request may have been seen it is not sent again."""
        done = self.send()
        self.connection.reset()
        error = self.failureResultOf(done, BackendUnavailable).value
        self.assertEqual(error.headers, [(b"x-should-retry", b"false")])
        self.assertEqual(self.port.attempts, 1)

    def test_too_late(self) -> None:
        """A connection that took too long is not tried again: the time is up."""
        self.port.failures = [TimeoutError()]
        error = self.failureResultOf(self.send(), GatewayTimeout).value
        self.assertEqual(self.port.attempts, 1)
        self.assertEqual(error.headers, [], "nothing was sent: an SDK may try again")

    def test_one_deadline(self) -> None:
        """All tries together have the time of one."""
        self.port.silent = True
        done = self.send()
        self.clock.advance(40)
        self.port.silent = False
        self.port.give_up()
        self.assertEqual(self.port.attempts, 2)
        self.clock.advance(19.9)
        self.assertNoResult(done)
        self.clock.advance(0.2)
        self.failureResultOf(done, GatewayTimeout)
        self.record.close(self.clock.seconds())
        self.assertAlmostEqual(self.record.backend_seconds or 0, 60.1)


class Names(Setting):
    """Each failure of Twisted's client has one name, whatever it is called there."""

    def test_connecting(self) -> None:
        """What fails before there is a connection is unavailable, or was too late."""
        for failure, name in (
            (ConnectionRefusedError(), BackendUnavailable),
            (NoRouteError(), BackendUnavailable),
            (ConnectBindError(), BackendUnavailable),
            (ConnectError(), BackendUnavailable),
            (DNSLookupError(), BackendUnavailable),
            (TCPTimedOutError(), GatewayTimeout),
            (TimeoutError(), GatewayTimeout),
        ):
            self.start(retries=0)
            self.port.failures = [failure]
            self.failureResultOf(self.send(), name)

    def test_before_the_head(self) -> None:
        """A connection that closes before one byte of an answer is unavailable."""
        for end in ("close", "reset"):
            self.start()
            done = self.send()
            getattr(self.connection, end)()
            self.failureResultOf(done, BackendUnavailable)
            self.assert_over()

    def test_in_the_head(self) -> None:
        """An answer that breaks, or is none, is a backend error."""
        for data in (
            b"HTTP/1.1 200 OK\r\nConte",
            b"nonsense\r\n\r\n",
            b"HTTP/1.1 two OK\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n",
        ):
            self.start()
            done = self.send()
            self.connection.send(data)
            self.connection.close()
            self.failureResultOf(done, BackendError)
            self.assert_over()

    def test_endless_head(self) -> None:
        """A head without an end is cut, and does not fill the memory."""
        done = self.send()
        self.connection.send(b"HTTP/1.1 200 OK\r\n")
        sent = 0
        while not self.connection.closed and sent < 2 * MAX_HEAD:
            self.connection.send(b"X: " + b"y" * 1000 + b"\r\n")
            sent += 1005
        self.assertLess(sent, MAX_HEAD + 2000)
        self.failureResultOf(done, BackendError)
        self.assert_over()

    def test_body_is_not_head(self) -> None:
        """That bound is for the head: a body may be larger."""
        done = self.read(limit=2 * MAX_HEAD)
        self.connection.answer(b"x" * (MAX_HEAD + 65536))
        self.assertEqual(len(self.successResultOf(done)), MAX_HEAD + 65536)

    def test_in_the_body(self) -> None:
        """An answer that is cut or breaks in its body is a backend error."""
        for data, end in (
            (b"Content-Length: 9\r\n\r\n1234", "close"),
            (b"Content-Length: 9\r\n\r\n1234", "reset"),
            (b"Transfer-Encoding: chunked\r\n\r\n4\r\n1234\r\n", "close"),
            (b"Transfer-Encoding: chunked\r\n\r\nzz\r\n1234\r\n", "close"),
        ):
            self.start()
            done = self.read()
            self.connection.send(b"HTTP/1.1 200 OK\r\n" + data)
            getattr(self.connection, end)()
            self.failureResultOf(done, BackendError)
            self.assert_over()

    def test_to_the_end_of_the_connection(self) -> None:
        """A body without a length ends with the connection; that it may have been cut is known."""
        for head, framed in ((b"", False), (b"Content-Length: 4\r\n", True)):
            self.start()
            done = self.read()
            self.connection.send(b"HTTP/1.1 200 OK\r\n" + head + b"\r\n1234")
            self.connection.close()
            self.assertEqual(self.successResultOf(done), b"1234")
            self.assertEqual(self.last.framed, framed)

    def test_interim(self) -> None:
        """Interim responses are passed over."""
        done = self.read()
        self.connection.send(b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n")
        self.assertNoResult(done)
        self.connection.answer(b"1")
        self.assertEqual(self.successResultOf(done), b"1")


class FourDeadlines(Setting):
    def test_response(self) -> None:
        """A backend has BACKEND_TIMEOUT for the head of its answer."""
        done = self.send()
        self.clock.advance(59.9)
        self.assertNoResult(done)
        self.clock.advance(0.2)
        error = self.failureResultOf(done, GatewayTimeout).value
        self.assertEqual(error.headers, [(b"x-should-retry", b"false")])
        self.assertTrue(self.connection.wire.aborted)
        self.assert_over()

    def test_trickled_head(self) -> None:
        """A head that trickles in is no answer either."""
        done = self.send()
        self.connection.trickle(b"HTTP/1.1 200 OK\r\nX: " + b"y" * 100, 1)
        self.failureResultOf(done, GatewayTimeout)
        self.assert_over()

    def test_connecting(self) -> None:
        """The time to connect is within that for the head."""
        self.start(timeouts=Timeouts(connect=5, response=3))
        self.port.silent = True
        done = self.send()
        self.clock.advance(3.1)
        error = self.failureResultOf(done, GatewayTimeout).value
        self.assertEqual(self.port.abandoned, 1)
        self.assertEqual(error.headers, [], "nothing was sent: an SDK may try again")

    def test_idle(self) -> None:
        """Between two pieces of the body a backend has STREAM_IDLE_TIMEOUT."""
        done = self.read()
        self.connection.begin()
        for _ in range(3):
            self.clock.advance(29.9)
            self.connection.piece(b"x")
        self.assertNoResult(done)
        self.clock.advance(30.1)
        self.failureResultOf(done, GatewayTimeout)
        self.assertTrue(self.connection.closed)
        self.assert_over()

    def test_total(self) -> None:
        """All of the exchange has REQUEST_TIMEOUT, from the first byte that the client sent."""
        self.start(timeouts=Timeouts(total=100, idle=30, response=60))
        call = self.call(opened=10)
        done = self.send(call)
        self.connection.begin()
        self.successResultOf(done)
        reading = Deferred.fromCoroutine(call.read_all(1000))
        for _ in range(4):
            self.clock.advance(20)
            self.connection.piece(b"x")
        self.clock.advance(9.9)
        self.assertNoResult(reading)
        self.clock.advance(0.2)
        self.failureResultOf(reading, GatewayTimeout)
        self.assert_over()

    def test_in_time(self) -> None:
        """An exchange that ends leaves no deadline."""
        done = self.read()
        self.connection.answer(b"1")
        self.successResultOf(done)
        self.assert_no_deadline()
        self.assert_over()

    def test_recorded(self) -> None:
        """When the backend was called, and when its answer ended, is in the record."""
        done = self.read()
        self.clock.advance(2)
        self.connection.begin()
        self.clock.advance(3)
        self.connection.end()
        self.successResultOf(done)
        self.record.close(self.clock.seconds() + 9)
        self.assertEqual(self.record.backend_seconds, 5)


class Bodies(Setting):
    def test_limit(self) -> None:
        """A body may be as large as the limit, declared or not, and no larger."""
        for size, good in ((10, True), (11, False)):
            for declared in (True, False):
                self.start()
                done = self.read(limit=10)
                if declared:
                    self.connection.answer(b"x" * size)
                else:
                    self.connection.begin()
                    self.connection.piece(b"x" * 6)
                    self.connection.piece(b"x" * (size - 6))
                    self.connection.end()
                if good:
                    self.assertEqual(len(self.successResultOf(done)), size)
                else:
                    error = self.failureResultOf(done, BackendError).value
                    self.assertIn("too large", error.message)
                self.assert_over()

    def test_declared_too_large(self) -> None:
        """One that is declared larger is not read at all."""
        done = self.read(limit=10)
        self.connection.send(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n")
        self.failureResultOf(done, BackendError)
        self.assertTrue(self.connection.closed)

    def test_compressed(self) -> None:
        """A compressed answer, which was not asked for, is refused unread; identity is none."""
        for coding, good in (("gzip", False), ("BR", False), ("identity", True), ("", True)):
            self.start()
            done = self.read()
            self.connection.answer(b"1", f"Content-Encoding: {coding}")
            if good:
                self.assertEqual(self.successResultOf(done), b"1")
            else:
                self.failureResultOf(done, BackendError)
                self.assertEqual(len(self.connection.requests), 1)
            self.assert_over()

    def test_discarded(self) -> None:
        """An answer that nobody wants costs its connection, and no more."""
        done = self.send()
        self.connection.send(b"HTTP/1.1 500 No\r\nContent-Length: 1000000\r\n\r\n")
        self.successResultOf(done)
        self.last.discard()
        self.clock.advance(0)
        self.assertTrue(self.connection.closed)
        self.assert_no_deadline()

    def test_discarded_before_its_head(self) -> None:
        """Discarding what never came is no fault."""
        self.call().discard()

    def test_own_exception(self) -> None:
        """What the reader raises ends the exchange, and is what is raised."""

        def reader(piece: bytes) -> None:
            raise KeyError("mine")

        self.send()
        self.connection.begin()
        reading = Deferred.fromCoroutine(self.last.read(reader))
        self.connection.piece(b"x")
        self.failureResultOf(reading, KeyError)
        self.assertTrue(self.connection.closed)


class Leaving(Setting):
    """The client has left: the backend's work is to end at once."""

    def test_connecting(self) -> None:
        """Before there is a connection the attempt is given up."""
        self.port.silent = True
        done = self.send()
        done.addErrback(lambda _: None)
        done.cancel()
        self.assertEqual(self.port.abandoned, 1)
        self.assert_no_deadline()

    def test_request_of_a_client_that_left_is_not_tried_again(self) -> None:
        """That holds whatever the attempt says of being given up: a name lookup says that it has
        failed, as one does that is tried again."""
        attempts: list[Deferred[Any]] = []

        def connect(factory: object) -> Deferred[Any]:
            attempts.append(Deferred(lambda lookup: lookup.errback(DNSLookupError())))
            return attempts[-1]

        self.patch(self.port, "connect", connect)
        done = self.send()
        done.cancel()
        self.failureResultOf(done, CancelledError)
        self.assertEqual(len(attempts), 1)
        self.assert_no_deadline()

    def test_before_the_head(self) -> None:
        """Before the head the connection is cut."""
        done = self.send()
        done.addErrback(lambda _: None)
        done.cancel()
        self.clock.advance(0)
        self.assertTrue(self.connection.wire.aborted)
        self.assert_over()

    def test_in_the_body(self) -> None:
        """In the body it is closed."""
        done = self.read()
        done.addErrback(lambda _: None)
        self.connection.begin()
        self.connection.piece(b"x")
        done.cancel()
        self.clock.advance(0)
        self.assertTrue(self.connection.closed)
        self.assert_over()


class FlowControl(Setting):
    def reading(self) -> tuple[Deferred[None], list[bytes]]:
        pieces: list[bytes] = []

        def keep(piece: bytes) -> None:
            self.last.touch()
            pieces.append(piece)

        self.send()
        self.connection.begin()
        return Deferred.fromCoroutine(self.last.read(keep)), pieces

    def test_interface(self) -> None:
        """A call is what a client's connection can pause."""
        verifyObject(IPushProducer, self.call())

    def test_paused(self) -> None:
        """While the client holds the stream up nothing is read of the backend."""
        done, pieces = self.reading()
        self.last.pauseProducing()
        self.connection.piece(b"one")
        self.assertEqual(pieces, [])
        self.last.resumeProducing()
        self.clock.advance(0)
        self.assertEqual(pieces, [b"one"])
        self.connection.end()
        self.successResultOf(done)

    def test_paused_before_the_body(self) -> None:
        """A call that was paused before its body begins stays so."""
        self.send()
        self.last.pauseProducing()
        self.connection.begin()
        done = Deferred.fromCoroutine(self.last.read(lambda piece: None))
        self.assertTrue(self.connection.paused)
        self.last.resumeProducing()
        self.clock.advance(0)
        self.connection.end()
        self.successResultOf(done)

    def test_idle_deadline(self) -> None:
        """While the client holds it up the backend's idle deadline stands still; then it has all
        of it again."""
        done, _ = self.reading()
        self.last.pauseProducing()
        self.last.touch()
        self.clock.advance(300)
        self.assertNoResult(done)
        self.last.resumeProducing()
        self.clock.advance(29.9)
        self.assertNoResult(done)
        self.clock.advance(0.2)
        self.failureResultOf(done, GatewayTimeout)

    def test_total_deadline(self) -> None:
        """The deadline for all of it does not stand still."""
        done, _ = self.reading()
        self.last.pauseProducing()
        self.clock.advance(600.1)
        self.failureResultOf(done, GatewayTimeout)

    def test_stopped(self) -> None:
        """A call whose client is lost closes the backend's connection."""
        done, _ = self.reading()
        done.addErrback(lambda _: None)
        self.last.stopProducing()
        self.clock.advance(0)
        self.assertTrue(self.connection.closed)

    def test_finished(self) -> None:
        """When all that matters has come the reader goes on at once, and the backend may end its
        body in its own time, so that its connection can be used again."""
        done, _ = self.reading()
        self.last.finish()
        self.successResultOf(done)
        self.last.finish()
        self.clock.advance(END_OF_BODY - 0.1)
        self.connection.end()
        self.assertFalse(self.connection.closed)
        self.assert_no_deadline()
        self.send()
        self.assertEqual(self.port.attempts, 1)

    def test_finished_but_not_ended(self) -> None:
        """A backend that does not end its body then is cut, and nobody is told."""
        done, _ = self.reading()
        self.last.finish()
        self.successResultOf(done)
        self.clock.advance(END_OF_BODY + 0.1)
        self.assertTrue(self.connection.closed)
        self.assert_over()

    def test_finished_while_paused(self) -> None:
        """Also where the client held it up when the last that matters came."""
        done, _ = self.reading()
        self.last.pauseProducing()
        self.last.finish()
        self.successResultOf(done)
        self.assertFalse(self.connection.paused)
        self.connection.end()
        self.assert_no_deadline()


class Connectable(Setting):
    def test_connectable(self) -> None:
        """A backend is there if it takes a connection, which is closed at once."""
        self.assertTrue(self.successResultOf(Deferred.fromCoroutine(self.backend.connectable())))
        self.clock.advance(0)
        self.assertTrue(self.connection.closed)
        self.assertEqual(self.connection.received, b"")

    def test_not_connectable(self) -> None:
        """It is not if it does not, however that fails."""
        for failure in (ConnectError(), DNSLookupError(), TimeoutError(), ValueError()):
            self.port.failures = [failure]
            asked = Deferred.fromCoroutine(self.backend.connectable())
            self.assertFalse(self.successResultOf(asked))


class Endpoints(SynchronousTestCase):
    def endpoint(self, url: str) -> Any:
        within = backend_endpoint(url, MemoryReactorClock(), 5)
        verifyObject(IStreamClientEndpoint, within)
        self.assertEqual(within.seconds, 5)
        return within.endpoint

    def test_addresses(self) -> None:
        """An address needs no look-up, a name does."""
        for url, kind in (
            ("http://127.0.0.1:9000", TCP4ClientEndpoint),
            ("http://[::1]:9000", TCP6ClientEndpoint),
            ("http://backend:9000", HostnameEndpoint),
        ):
            self.assertIsInstance(self.endpoint(url), kind, url)

    def test_where(self) -> None:
        """The port is that of the URL, or of its scheme."""
        for url, port in (
            ("http://127.0.0.1:9000", 9000),
            ("http://127.0.0.1", 80),
            ("https://127.0.0.1", 443),
            ("https://127.0.0.1:9443", 9443),
        ):
            reactor = MemoryReactorClock()
            backend_endpoint(url, reactor, 5).connect(Factory()).addErrback(lambda _: None)
            host, connected, _, timeout, _ = reactor.tcpClients[0]
            self.assertEqual((host, connected, timeout), ("127.0.0.1", port, 5))

    def test_tls(self) -> None:
        """With https the connection is wrapped in TLS that knows the host's name."""
        self.assertIsInstance(self.endpoint("https://backend:9443"), origin._Secured)

    def test_too_slow(self) -> None:
        """Connecting has its deadline, and looking the name up is a part of it."""

        @implementer(IStreamClientEndpoint)
        class Silent:
            def __init__(self) -> None:
                self.given_up = 0

            def connect(self, factory: Any) -> Deferred[Any]:
                return Deferred(self._cancelled)

            def _cancelled(self, _: object) -> None:
                self.given_up += 1

        for endpoint, error in (
            (BackendPort(Clock()), TimeoutError),
            (Silent(), DNSLookupError),
        ):
            clock = Clock()
            endpoint.silent = True
            connecting = origin._Within(endpoint, 5, clock).connect(Factory())
            clock.advance(4.9)
            self.assertNoResult(connecting)
            clock.advance(0.2)
            self.failureResultOf(connecting, error)

    def test_target(self) -> None:
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


class PlainAgent(SynchronousTestCase):
    class Site(Resource):
        isLeaf = True
        coding = ""

        def render(self, request: Request) -> bytes:
            self.accepts = request.requestHeaders.getRawHeaders("Accept-Encoding")
            if self.coding:
                request.setHeader("Content-Encoding", self.coding)
            return b"body"

    def test_interface(self) -> None:
        """It is an agent around an agent."""
        verifyObject(IAgent, Plain(RequestTraversalAgent(self.Site())))

    def test_asks_for_none(self) -> None:
        """Whatever coding is asked for, none is."""
        site = self.Site()
        agent = Plain(RequestTraversalAgent(site))
        headers = Headers({b"Accept-Encoding": [b"gzip"]})
        self.successResultOf(agent.request(b"GET", b"http://x/", headers))
        self.assertIsNone(site.accepts)
        self.successResultOf(agent.request(b"GET", b"http://x/"))

    def test_takes_none(self) -> None:
        """A coding that comes all the same is refused."""
        site = self.Site()
        site.coding = "deflate"
        agent = Plain(RequestTraversalAgent(site))
        self.failureResultOf(agent.request(b"GET", b"http://x/"), BackendError)


class Urls(SynchronousTestCase):
    def test_fixed(self) -> None:
        """A URL reads as it was set, however often it is asked, and whatever its host is."""
        for text in (
            "http://backend:9000/v1/models",
            "https://[::1]:9000/base/v1/models",
            f"http://{'a' * 300}.com/v1/models",
        ):
            url = backend.FixedURL(text)
            self.assertIs(url.to_uri(), url)
            self.assertEqual(url.to_text(), text)


class Others(SynchronousTestCase):
    def test_own_names(self) -> None:
        """A failure that already has one of our names keeps it, and a fault of ours too."""
        for error in (BackendError("x"), KeyError("x")):
            self.assertIs(call._named(error), error)
        self.assertIsInstance(call._named(ResponseFailed([])), BackendError)

    def test_defaults(self) -> None:
        """The deadlines are those of the settings' defaults."""
        self.assertEqual(Timeouts(), Timeouts(connect=5, response=60, idle=60, total=600))
