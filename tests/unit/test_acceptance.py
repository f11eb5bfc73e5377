"""What a backend says when it does not take a request, asked of one call."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import CancelledError, Deferred

from infergate.acceptance import REJECTION_BYTES, REJECTION_SECONDS, SUCCESS, rejection
from infergate.errors import BackendError, BackendRejected
from tests.unit.backend.onebackend import OneBackend

CUT = b"HTTP/1.1 %d No\r\nContent-Length: 99\r\n\r\n{"


class Accepted(OneBackend):
    def asked(self) -> Deferred[None]:
        """A question to the backend, which has not answered yet, and what is made of its status."""
        call = self.call()

        async def exchange() -> None:
            response = await self.send(call)
            if response.code not in SUCCESS:
                raise await rejection(call, response, self.deadlines)

        return Deferred.fromCoroutine(exchange())

    def test_success_is_not_read(self) -> None:
        """Any 2xx is a success at once, before a byte of its body has come."""
        for status in (200, 201, 204, 299):
            self.start()
            done = self.asked()
            self.connection.send(b"HTTP/1.1 %d Yes\r\nContent-Length: 9\r\n\r\n" % status)
            self.assertIsNone(self.successResultOf(done))

    def test_words_about_the_gateways_own_key_are_not_read(self) -> None:
        """What comes with a 401 or a 403 is not waited for, and its connection is closed."""
        for status in (401, 403):
            self.start()
            done = self.asked()
            self.connection.send(CUT % status)
            error: Any = self.failureResultOf(done, BackendError).value
            self.assertIn(str(status), error.message)
            self.clock.advance(0)
            self.assertTrue(self.connection.closed)

    def test_endless_reason_does_not_change_the_refusal(self) -> None:
        """A refusal whose reason is endless, or cut, is still the refusal that it is."""
        done = self.asked()
        self.connection.answer(b"x" * (REJECTION_BYTES + 1), status=400)
        error: Any = self.failureResultOf(done, BackendRejected).value
        self.assertEqual((error.status, "400" in error.message), (400, True))
        self.start()
        done = self.asked()
        self.connection.send(CUT % 422)
        self.connection.close()
        error = self.failureResultOf(done, BackendRejected).value
        self.assertEqual(error.status, 422)
        self.assert_over()

    def test_refusal_is_not_waited_for(self) -> None:
        """A refusal whose reason does not come has its status all the same, within seconds."""
        for status, failure in ((422, BackendRejected), (500, BackendError)):
            self.start()
            done = self.asked()
            self.connection.send(CUT % status)
            self.clock.pump([0.1] * round(10 * REJECTION_SECONDS - 2))
            self.assertNoResult(done)
            self.clock.pump([0.1] * 5)
            error: Any = self.failureResultOf(done, failure).value
            self.assertIn(str(status), error.message)
            self.assertTrue(self.connection.closed)

    def test_client_that_leaves_is_not_taken_for_a_refusal(self) -> None:
        """Who leaves while the reason is read has left, and nothing is watched any more."""
        done = self.asked()
        self.connection.send(CUT % 422)
        done.cancel()
        self.failureResultOf(done, CancelledError)
        self.assert_over()
