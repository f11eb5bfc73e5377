"""Whether the backend can be reached, as far as is known."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from infergate.telemetry.batch import Batch
from infergate.telemetry.reachability import Reachability
from infergate.telemetry.record import Record


class ReachabilityTests(SynchronousTestCase):
    def after(
        self, up: bool | None = None, later: bool | None = None, **known: object
    ) -> float | None:
        """The value after an exchange, and after what was heard before it, and later."""
        batch = Batch()
        reachability = Reachability(batch)
        if up is not None:
            reachability.heard(up)
        record = Record(opened=1.0, client="192.0.2.1", request_id="id-1")
        for name, value in known.items():
            setattr(record, name, value)
        batch.add([record])
        if later is not None:
            reachability.heard(later)
        return reachability.value()

    def test_nothing_is_known_at_first(self) -> None:
        """There is no value before anybody has asked anything of the backend."""
        self.assertIsNone(Reachability(Batch()).value())
        self.assertIsNone(self.after(outcome="client_error"))

    def test_good_answer_says_that_it_is_up(self) -> None:
        """A success does, and so does its health route."""
        self.assertEqual(self.after(backend_status=200, outcome="ok"), 1)
        self.assertEqual(self.after(backend_status=201, outcome="ok", up=False), 1)
        self.assertEqual(self.after(up=True), 1)

    def test_answer_that_does_not_come_says_that_it_is_down(self) -> None:
        """So do a time limit for connecting, a 503 (it loads), and its health route."""
        for known in (
            {"outcome": "backend_unavailable"},
            {"outcome": "timeout", "cause": "BACKEND_CONNECT_TIMEOUT"},
            {"outcome": "backend_error", "backend_status": 503},
        ):
            self.assertEqual(self.after(up=True, **known), 0, known)
        self.assertEqual(self.after(up=False), 0)

    def test_health_route_has_the_last_word_on_what_ended_before(self) -> None:
        """What traffic said before the health route was asked is not held against it."""
        self.assertEqual(self.after(later=True, outcome="backend_unavailable"), 1)
        self.assertEqual(self.after(later=False, backend_status=200, outcome="ok"), 0)

    def test_other_failures_say_nothing(self) -> None:
        """A slow answer, a refusal or a broken reply come from a backend that is there."""
        for known in (
            {"outcome": "timeout", "cause": "BACKEND_TIMEOUT"},
            {"outcome": "client_error", "backend_status": 400},
            {"outcome": "backend_error", "backend_status": 500},
            {"outcome": "client_disconnected", "backend_status": 200},
        ):
            self.assertEqual([self.after(up, **known) for up in (True, False, None)], [1, 0, None])
