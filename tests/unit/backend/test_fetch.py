"""A small document over HTTP, bounded in size and time."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from infergate.backend.agent import OriginAgent
from infergate.backend.fetch import DEADLINE, MAX_BYTES, fetcher
from infergate.backend.parser import MAX_HEAD
from infergate.errors import BackendError, BackendUnavailable, GatewayTimeout
from infergate.reactor.deadlines import Deadlines
from tests.unit.inmemory import BackendConnection, BackendPort

URL = "http://issuer.example:8000/keys?use=sig"


class Fetching(SynchronousTestCase):
    def setUp(self) -> None:
        self.fetch(URL)

    def fetch(self, url: str) -> None:
        self.clock = Clock()
        self.port = BackendPort(self.clock)
        self.fetched: Deferred[bytes] = self.fetcher(url)()

    def fetcher(self, url: str) -> Callable[[], Deferred[bytes]]:
        deadlines = Deadlines(self.clock)
        return fetcher(OriginAgent(url, self.port, deadlines), url, deadlines)

    @property
    def issuer(self) -> BackendConnection:
        (connection,) = self.port.connections
        return connection

    def answered(self, *answer: Any, **how: Any) -> bytes:
        self.issuer.answer(*answer, **how)
        return self.successResultOf(self.fetched)

    def assert_refused(self, error: type[Exception]) -> str:
        """The fetch failed so, and nothing is left of it."""
        failure = self.failureResultOf(self.fetched, error)
        self.clock.advance(0.2)
        self.assertTrue(self.issuer.closed, "the connection is still open")
        self.assertEqual(self.clock.getDelayedCalls(), [])
        return failure.getErrorMessage()

    def test_document(self) -> None:
        """The body of a 200 is given, whatever its media type, and nothing is left."""
        self.assertEqual(self.answered(b"{}", kind="text/plain"), b"{}")
        self.assertEqual((self.issuer.request.method, self.issuer.request.body), ("GET", b""))
        self.clock.advance(0.2)
        self.assertTrue(self.issuer.closed)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_url_is_asked_as_it_stands(self) -> None:
        """The URL's path and query are asked for, and its host and port are named."""
        for url, target, host in (
            (URL, "/keys?use=sig", "issuer.example:8000"),
            ("https://issuer.example", "/", "issuer.example"),
            ("https://issuer.example?a=b", "/?a=b", "issuer.example"),
            ("http://[::1]:8000/a%20b", "/a%20b", "[::1]:8000"),
        ):
            self.fetch(url)
            request = self.issuer.request
            self.assertEqual((request.path, request.headers["host"]), (target, host))

    def test_each_call_asks_anew(self) -> None:
        """A document is fetched again each time, over a connection of its own."""
        fetch = self.fetcher(URL)
        for number in (1, 2):
            fetched = fetch()
            self.port.connections[number].answer(b"%d" % number)
            self.assertEqual(self.successResultOf(fetched), b"%d" % number)

    def test_any_other_status_is_refused(self) -> None:
        """Anything but a 200 is a failure; no redirect is followed: the address was given by who
        runs the gateway."""
        for status in (201, 204, 302, 404, 500):
            self.fetch(URL)
            self.issuer.answer(b"", "Location: http://169.254.169.254/", status=status)
            self.assertEqual(self.assert_refused(ValueError), f"status {status}")

    def test_body_is_bounded(self) -> None:
        """A document may be as large as the limit, and no larger."""
        self.assertEqual(len(self.answered(b"x" * MAX_BYTES)), MAX_BYTES)
        self.fetch(URL)
        self.issuer.begin()
        self.issuer.piece(b"x" * (MAX_BYTES + 1))
        self.assert_refused(BackendError)

    def test_head_is_bounded(self) -> None:
        """A response's head, and the interim ones before it, are bounded as the backend's are."""
        for start, more in (
            (b"HTTP/1.1 200 OK\r\n", b"X: " + b"y" * 1000 + b"\r\n"),
            (b"", b"HTTP/1.1 103 Early Hints\r\nX: " + b"y" * 1000 + b"\r\n\r\n"),
        ):
            self.fetch(URL)
            self.issuer.send(start)
            sent = 0
            while not self.issuer.closed and sent < 2 * MAX_HEAD:
                self.issuer.send(more)
                sent += len(more)
            self.assertLess(sent, MAX_HEAD + 2000)
            self.assert_refused(BackendError)

    def test_compressed_document_is_refused(self) -> None:
        """A compressed document is not asked for, and refused: its size is not known."""
        self.assertNotIn("accept-encoding", self.issuer.request.headers)
        self.issuer.answer(b"\x1f\x8b", "Content-Encoding: gzip")
        self.assert_refused(BackendError)

    def test_cut_document_is_refused(self) -> None:
        """A document that is cut short is none."""
        self.issuer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n{")
        self.issuer.reset()
        self.assert_refused(BackendError)

    def test_issuer_that_cannot_be_reached(self) -> None:
        """Where there is no connection there is no document."""
        self.port.refuse()
        failing = self.fetcher(URL)()
        self.failureResultOf(failing, BackendUnavailable)

    def test_silent_issuer_is_given_up(self) -> None:
        """A server that does not answer is given up at the deadline, and its connection closed."""
        self.clock.advance(DEADLINE - 0.1)
        self.assertNoResult(self.fetched)
        self.clock.advance(0.2)
        self.assert_refused(GatewayTimeout)

    def test_trickling_issuer_is_given_up(self) -> None:
        """A server that never comes to the end of its answer is given up like one that says
        nothing."""
        self.issuer.begin(kind="application/json")
        for _ in range(round(DEADLINE) - 1):
            self.issuer.piece(b"{")
            self.clock.advance(1)
        self.assertNoResult(self.fetched)
        self.clock.advance(1.1)
        self.assert_refused(GatewayTimeout)
