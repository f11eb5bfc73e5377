"""The backend over treq: what every request to it carries, and how often it is sent."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.error import (
    DNSLookupError,
    TimeoutError,  # noqa: A004
)
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.trial.unittest import SynchronousTestCase
from twisted.web.iweb import IBodyProducer
from zope.interface.verify import verifyObject

from infergate import __version__
from infergate.api.operations import CHAT, MODELS_PATH
from infergate.backend import client
from infergate.backend.agent import OriginAgent
from infergate.backend.client import Backend
from infergate.backend.endpoint import Endpoint
from infergate.errors import BackendError, BackendUnavailable, GatewayTimeout
from infergate.reactor.deadlines import Deadlines
from infergate.telemetry.record import Record
from tests.unit.backend.onebackend import TIMEOUTS, OneBackend
from tests.unit.inmemory import BackendPort


class Sending(OneBackend):
    def test_request_carries_its_body_and_the_own_fields(self) -> None:
        """The backend reads the body as it was given, and the gateway's own fields."""
        self.send(body=b'{"a": 1}')
        request = self.connection.request
        self.assertEqual((request.method, request.path), ("POST", CHAT.path))
        self.assertEqual(request.body, b'{"a": 1}')
        self.assertEqual(
            request.headers,
            {
                "accept": "x/y",
                "user-agent": f"infergate/{__version__}",
                "content-length": "8",
                "host": "backend:9000",
            },
        )

    def test_get_has_no_body(self) -> None:
        """A GET has none."""
        self.send(body=None)
        request = self.connection.request
        self.assertEqual((request.method, request.path, request.body), ("GET", MODELS_PATH, b""))
        self.assertNotIn("transfer-encoding", request.headers)

    def test_api_key_goes_along(self) -> None:
        """BACKEND_API_KEY goes along, and without it no credentials do."""
        self.send()
        self.assertNotIn("authorization", self.connection.request.headers)
        self.start(api_key="canary")
        self.send()
        self.assertEqual(self.connection.request.headers["authorization"], "Bearer canary")

    def test_no_compression_is_asked_for(self) -> None:
        """No compression is asked for."""
        self.send()
        self.assertNotIn("accept-encoding", self.connection.request.headers)

    def test_cookie_of_one_caller_is_not_sent_for_another(self) -> None:
        """A cookie that the backend sets for one caller never goes out with another's request."""
        done = self.read()
        self.connection.answer(b"1", "Set-Cookie: caller=one; Path=/")
        self.successResultOf(done)
        self.read()
        self.assertNotIn("cookie", self.connection.requests[-1].headers)

    def test_redirect_is_not_followed(self) -> None:
        """A redirect is an answer like another, and is not followed."""
        done = self.send()
        self.connection.answer(b"", "Location: http://backend:9000/elsewhere", status=307)
        self.assertEqual(self.successResultOf(done).code, 307)
        self.assertEqual(len(self.connection.requests), 1)

    def test_body_is_written_at_once(self) -> None:
        """A body is written at once, whatever the backend has taken of it so far."""
        body = client.Body(b"x")
        verifyObject(IBodyProducer, body)
        transport = StringTransport()
        self.successResultOf(body.startProducing(transport))
        body.pauseProducing()
        body.resumeProducing()
        body.stopProducing()
        self.assertEqual((transport.value(), body.length), (b"x", 1))

    def test_compressed_answer_is_refused_unread(self) -> None:
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


class Retries(OneBackend):
    def test_failed_connection_is_tried_again(self) -> None:
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

    def test_request_that_was_sent_is_not_sent_again(self) -> None:
        """Once the request may have been seen it is not sent again."""
        done = self.send()
        self.connection.reset()
        error = self.failureResultOf(done, BackendUnavailable).value
        self.assertEqual(error.headers, [(b"x-should-retry", b"false")])
        self.assertEqual(self.port.attempts, 1)

    def test_connection_that_took_too_long_is_not_tried_again(self) -> None:
        """A connection that took too long is not tried again: the time is up."""
        self.port.failures = [TimeoutError()]
        error = self.failureResultOf(self.send(), GatewayTimeout).value
        self.assertEqual(self.port.attempts, 1)
        self.assertEqual(error.headers, [], "nothing was sent: an SDK may try again")

    def test_all_tries_together_have_the_time_of_one(self) -> None:
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

    def test_request_of_a_client_that_left_is_not_tried_again(self) -> None:
        """That holds whatever the attempt says of being given up: a name lookup says that it has
        failed, as one does that is tried again."""
        attempts: list[Deferred[Any]] = []

        def connect(factory: object) -> Deferred[Any]:
            attempts.append(Deferred(lambda lookup: lookup.errback(DNSLookupError())))
            return attempts[-1]

        self.patch(self.port, "connect", connect)
        self.agent._endpoint = Endpoint(self.port, None, 5, self.clock)
        done = self.send()
        done.cancel()
        self.failureResultOf(done, CancelledError)
        self.assertEqual(len(attempts), 1)
        self.assert_no_deadline()


class Paths(SynchronousTestCase):
    def test_path_is_below_the_base(self) -> None:
        """An operation's path is below the API's base, whatever that is; other paths are below the
        base without its /v1."""
        for base, path, target in (
            ("http://backend/v1", "/v1/models", "/v1/models"),
            ("http://backend/v1", "/health", "/health"),
            ("http://backend/proxy/v1", "/v1/models", "/proxy/v1/models"),
            ("http://backend/proxy/v1", "/health", "/proxy/health"),
            ("https://backend/api/paas/v4", "/v1/models", "/api/paas/v4/models"),
            ("https://backend/v1beta/openai", "/v1/models", "/v1beta/openai/models"),
            ("https://backend/v1beta/openai", "/health", "/v1beta/openai/health"),
            ("http://localhost/v1", "/v1/models?a=b", "/v1/models?a=b"),
        ):
            clock = Clock()
            port, deadlines = BackendPort(clock), Deadlines(clock)
            backend = Backend(
                OriginAgent(base, port, deadlines), base, deadlines, timeouts=TIMEOUTS
            )
            call = backend.call(Record(opened=0, client="x", request_id="id"))
            Deferred.fromCoroutine(backend.send(call, "GET", path, b"", None))
            (connection,) = port.connections
            self.assertEqual(connection.request.path, target)
