"""The body of one request, as it arrives."""

from __future__ import annotations

from twisted.internet.defer import Deferred, maybeDeferred
from twisted.trial.unittest import SynchronousTestCase

from infergate.errors import BodyTooLarge, GatewayTimeout, RequestTimeout
from infergate.server.body import Body


def begun(body: Body) -> Deferred[bytes]:
    """Somebody who reads the body."""
    return maybeDeferred(body.read)


class BodyTests(SynchronousTestCase):
    def test_reader_gets_all_chunks_at_the_end(self) -> None:
        """Whoever reads, before the last chunk or after it, gets them all, in order."""
        for early in (True, False):
            body = Body(10)
            reading = begun(body) if early else None
            for chunk in (b"he", b"", b"llo"):
                body.receive(chunk)
            body.end()
            self.assertEqual(self.successResultOf(reading or begun(body)), b"hello")
            self.assertEqual(body._data, b"")

    def test_single_chunk_is_not_copied(self) -> None:
        """A body that came in one chunk is that chunk."""
        chunk = b"x" * 1000
        body = Body(1000)
        body.receive(chunk)
        body.end()
        self.assertIs(self.successResultOf(begun(body)), chunk)

    def test_too_large_body_is_let_go(self) -> None:
        """The chunk that is too much fails the body, and nothing of it, or after it, is kept."""
        body = Body(10)
        reading = begun(body)
        for _ in range(5):
            body.receive(b"12345")
        self.failureResultOf(reading, BodyTooLarge)
        self.assertEqual(body._data, b"")
        self.failureResultOf(begun(body), BodyTooLarge)

    def test_first_failure_is_the_true_one(self) -> None:
        """What follows a failure does not change what the reader is told."""
        body = Body(10)
        body.fail(RequestTimeout())
        body.fail(GatewayTimeout())
        self.failureResultOf(begun(body), RequestTimeout)

    def test_body_is_awaited_until_something_of_it_came(self) -> None:
        """A client that waits for a word is told only where nothing of its body has come."""
        body = Body(10)
        self.assertTrue(body.awaited)
        body.receive(b"x")
        self.assertFalse(body.awaited)
        empty = Body(10)
        empty.end()
        self.assertFalse(empty.awaited)
