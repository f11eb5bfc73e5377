"""Where the time of an operation went, for its client."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from infergate.telemetry.record import Record
from infergate.telemetry.timing import server_timing


class Timing(SynchronousTestCase):
    def test_what_is_known_is_said_in_milliseconds(self) -> None:
        """In the order in which it happened, and nothing that is not known."""
        record = Record(opened=1.0, client="192.0.2.1", request_id="id-1")
        self.assertIsNone(server_timing(record))
        record.admission_seconds = 0.0002
        self.assertEqual(server_timing(record), b"admission;dur=0.20")
        record.check_seconds, record.backend_began = 0.00041, 2.0
        self.assertEqual(server_timing(record), b"admission;dur=0.20, checks;dur=0.41")
        record.answer_began = 2.6123
        self.assertEqual(
            server_timing(record), b"admission;dur=0.20, checks;dur=0.41, backend;dur=612.30"
        )
