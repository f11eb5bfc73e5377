"""What is known of one request."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from infergate.api.usage import NO_USAGE
from infergate.errors import BackendError, BadRequest, ClientGone, GatewayTimeout
from infergate.telemetry.record import Record


def record(**known: object) -> Record:
    opened = Record(opened=100.0, client="192.0.2.1", request_id="id-1")
    for name, value in known.items():
        setattr(opened, name, value)
    return opened


class Closing(SynchronousTestCase):
    def test_record_closes_once(self) -> None:
        """An exchange ends once: what comes after its end changes nothing."""
        exchange = record(status=200)
        self.assertTrue(exchange.close(101.5))
        self.assertFalse(exchange.close(109.0))
        self.assertEqual(exchange.closed, 101.5)
        self.assertEqual(exchange.duration, 1.5)
        self.assertEqual(exchange.outcome, "ok")

    def test_first_reason_to_fail_is_the_one_that_counts(self) -> None:
        """The first reason is the true one: a timeout stays one though it costs the connection."""
        exchange = record(status=200)
        exchange.fail(GatewayTimeout())
        exchange.fail(ClientGone())
        exchange.fail(BackendError())
        self.assertEqual((exchange.error, exchange.outcome), ("gateway_timeout", "timeout"))

    def test_client_that_got_no_status_has_left(self) -> None:
        """Who was sent no status has status 499, and left."""
        exchange = record()
        exchange.close(101.0)
        self.assertEqual((exchange.status, exchange.outcome), (499, "client_disconnected"))

    def test_failure_before_any_status_is_kept(self) -> None:
        """Where there was a reason before the client left, it stays the reason."""
        exchange = record()
        exchange.fail(GatewayTimeout())
        exchange.close(101.0)
        self.assertEqual((exchange.status, exchange.outcome), (499, "timeout"))

    def test_answered_exchange_keeps_its_status(self) -> None:
        """The status that was sent stays, whatever comes of the connection."""
        exchange = record(status=200)
        exchange.fail(ClientGone())
        exchange.close(101.0)
        self.assertEqual((exchange.status, exchange.outcome), (200, "client_disconnected"))

    def test_open_exchange_has_no_duration(self) -> None:
        """An exchange that has not ended has taken no time yet."""
        self.assertEqual(record().duration, 0)


class Causes(SynchronousTestCase):
    def test_cause_comes_with_the_error_that_counts(self) -> None:
        """What an operator needs to know is that of the first reason, like the reason itself."""
        record = Record(opened=1.0, client="192.0.2.1", request_id="id-1")
        first = GatewayTimeout()
        first.cause = "BACKEND_TIMEOUT"
        record.fail(first)
        record.fail(ClientGone())
        self.assertEqual((record.error, record.cause), ("gateway_timeout", "BACKEND_TIMEOUT"))

    def test_framing_error_says_why_it_was_refused(self) -> None:
        """The client's message is the operator's cause."""
        record = Record(opened=1.0, client="192.0.2.1", request_id="id-1")
        record.fail(BadRequest("The Host header is not a host."))
        self.assertEqual(record.cause, "The Host header is not a host.")


class BackendTime(SynchronousTestCase):
    def test_backend_that_was_never_called_took_no_time(self) -> None:
        """Where the backend was not called, no time was spent on it."""
        exchange = record()
        exchange.close(101.0)
        self.assertIsNone(exchange.backend_seconds)

    def test_backend_time_ends_with_its_answer(self) -> None:
        """The backend's time is from the call to the end of its answer."""
        exchange = record(backend_began=101.0, backend_ended=104.0)
        exchange.close(109.0)
        self.assertEqual(exchange.backend_seconds, 3.0)

    def test_backend_time_of_a_cut_exchange_ends_with_it(self) -> None:
        """A call that never ended was waited for until the exchange ended."""
        exchange = record(backend_began=101.0)
        self.assertIsNone(exchange.backend_seconds)
        exchange.close(109.0)
        self.assertEqual(exchange.backend_seconds, 8.0)


class Beginning(SynchronousTestCase):
    def test_new_record_claims_nothing(self) -> None:
        """What is not known yet is not made up."""
        exchange = record()
        self.assertEqual((exchange.route, exchange.stream), ("other", False))
        self.assertIs(exchange.usage, NO_USAGE)
        self.assertEqual(NO_USAGE.source, "none")
        for name in ("method", "path", "caller", "model", "status", "error", "first_token"):
            self.assertIsNone(getattr(exchange, name), name)
