"""Messages that come again and again."""

from __future__ import annotations

from twisted.logger import LogEvent
from twisted.trial.unittest import SynchronousTestCase

from infergate.telemetry.record import Record
from infergate.telemetry.repeats import BURST, INTERVAL, KINDS, Repeats


class RepeatsTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.now = 100.0
        self.repeats = Repeats(lambda: self.now)

    def logged(self, event: LogEvent) -> bool:
        return self.repeats.lets_in(event)

    def count(self, events: int, **event: object) -> int:
        """How many of so many equal events are logged."""
        return sum(self.logged({"log_format": "x", **event}) for _ in range(events))

    def test_message_is_logged_a_few_times_in_each_interval(self) -> None:
        """In each interval the first of a kind are logged, and no more."""
        for _ in range(3):
            self.assertEqual(self.count(1000), BURST)
            self.now += INTERVAL

    def test_first_message_after_a_flood_says_how_many_were_left_out(self) -> None:
        """Only that one does."""
        self.count(BURST + 7)
        self.now += INTERVAL
        events: list[LogEvent] = [{"log_format": "x"} for _ in range(2)]
        for event in events:
            self.assertTrue(self.logged(event))
        self.assertEqual([event.get("left_out") for event in events], [7, None])

    def test_kinds_are_kept_apart(self) -> None:
        """A flood of one message hides no other; nor does one of the older kind."""
        self.assertEqual(self.count(1000), BURST)
        self.assertEqual(self.count(1, log_format="y"), 1)
        self.assertEqual(self.count(1, log_namespace="z"), 1)
        self.assertEqual(self.count(1000, message=("a",)), BURST)
        self.assertEqual(self.count(1, message=("b",)), 1)

    def test_lines_of_a_request_are_all_logged(self) -> None:
        """Each exchange has its line, and each fault of its own the traceback."""
        record = Record(opened=0.0, client="192.0.2.1", request_id="id-1")
        self.assertEqual(self.count(1000, record=record), 1000)
        self.assertEqual(self.count(1000, request_id="id-1"), 1000)

    def test_kinds_are_bounded(self) -> None:
        """However many kinds there are, what is kept of them is not endless."""
        for number in range(3 * KINDS):
            self.logged({"log_format": str(number)})
        self.assertLessEqual(len(self.repeats._kinds), KINDS)
