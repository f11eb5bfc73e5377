"""A small document over HTTP, bounded in size and time."""

from __future__ import annotations

from treq.testing import RequestTraversalAgent
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase
from twisted.web.http import Request
from twisted.web.resource import Resource

from infergate.backend.agent import OriginAgent
from infergate.backend.fetch import DEADLINE, MAX_BYTES, fetcher
from infergate.errors import BackendError
from infergate.reactor.deadlines import Deadlines
from tests.unit.inmemory import BackendPort

URL = "http://issuer.example/keys"


class Document(Resource):
    """Answers as it was told to."""

    isLeaf = True

    def __init__(self, body: bytes, status: int = 200, **headers: str) -> None:
        super().__init__()
        self.body = body
        self.status = status
        self.headers = headers
        self.asked: list[Request] = []

    def render(self, request: Request) -> bytes:
        self.asked.append(request)
        request.setResponseCode(self.status)
        for name, value in self.headers.items():
            request.setHeader(name.replace("_", "-"), value)
        return self.body


class Fetching(SynchronousTestCase):
    def fetch(self, document: Document) -> bytes:
        agent = RequestTraversalAgent(document)
        self.clock = Clock()
        fetched = fetcher(agent, URL, self.clock)()
        agent.flush()
        return self.successResultOf(fetched)

    def refused(self, document: Document, error: type[Exception]) -> str:
        agent = RequestTraversalAgent(document)
        failure = self.failureResultOf(fetcher(agent, URL, Clock())(), error)
        agent.flush()
        return failure.getErrorMessage()

    def test_document(self) -> None:
        """The body of a 200 is given, whatever its media type, and no timer is left."""
        document = Document(b"{}", content_type="text/plain")
        self.assertEqual(self.fetch(document), b"{}")
        self.assertEqual(document.asked[0].method, b"GET")
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_statuses(self) -> None:
        """Anything but a 200 is a failure."""
        for status in (201, 204, 404, 500):
            self.assertEqual(self.refused(Document(b"", status), ValueError), f"status {status}")

    def test_redirect(self) -> None:
        """No redirect is followed: the address was given by whoever runs the gateway."""
        document = Document(b"", 302, location="http://169.254.169.254/")
        self.assertEqual(self.refused(document, ValueError), "status 302")
        self.assertEqual(len(document.asked), 1)

    def test_size(self) -> None:
        """A document may be as large as the limit, and no larger."""
        self.assertEqual(len(self.fetch(Document(b"x" * MAX_BYTES))), MAX_BYTES)
        self.refused(Document(b"x" * (MAX_BYTES + 1)), ValueError)

    def test_compressed(self) -> None:
        """A compressed document is not asked for, and refused: its size is not known."""
        document = Document(b"\x1f\x8b", content_encoding="gzip")
        self.refused(document, BackendError)
        self.assertFalse(document.asked[0].requestHeaders.hasHeader("Accept-Encoding"))


class Deadline(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.port = BackendPort(self.clock)
        agent = OriginAgent(URL, self.port, Deadlines(self.clock))
        self.fetched = fetcher(agent, URL, self.clock)()

    def assert_given_up(self) -> None:
        self.clock.advance(DEADLINE - 0.1)
        self.assertNoResult(self.fetched)
        self.clock.advance(0.2)
        self.failureResultOf(self.fetched)
        (connection,) = self.port.connections
        self.assertTrue(connection.closed, "the connection is still open")

    def test_silent(self) -> None:
        """A server that does not answer is given up at the deadline, and its connection closed."""
        self.assert_given_up()

    def test_trickling(self) -> None:
        """A server that never comes to the end of its answer is given up like one that says
        nothing."""
        (connection,) = self.port.connections
        connection.begin(kind="application/json")
        connection.piece(b"{")
        self.assert_given_up()
