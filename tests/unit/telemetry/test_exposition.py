"""The text of ``/metrics``, and how often it is written anew."""

from __future__ import annotations

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from infergate.telemetry.exposition import BURST, SHARE, Exposition
from infergate.telemetry.metrics import Metrics

LONG = 0.25
"""Seconds that the text takes to write here."""


class Slow(Metrics):
    """Metrics whose text takes long to write, and says how often it was."""

    def __init__(self, clock: Clock) -> None:
        super().__init__()
        self.clock = clock
        self.written = 0

    def text(self) -> bytes:
        self.clock.advance(LONG)
        self.written += 1
        return b"%d" % self.written


class Rationing(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.metrics = Slow(self.clock)
        self.exposition = Exposition(self.metrics, self.clock.seconds)

    def test_usual_scrape_gets_what_is_true_now(self) -> None:
        """Who scrapes each few seconds always gets the text of that time."""
        for number in range(1, 20):
            self.assertEqual(self.exposition.text(), b"%d" % number)
            self.clock.advance(5)

    def test_many_scrapes_take_no_more_than_their_share_of_the_time(self) -> None:
        """However often somebody asks, writing takes a tenth of the time, and each gets a text."""
        until = self.clock.seconds() + 100
        while self.clock.seconds() < until:
            self.assertTrue(self.exposition.text())
            self.clock.advance(0.01)
        self.assertLessEqual(self.metrics.written * LONG, BURST + SHARE * 100 + LONG)
        self.assertGreater(self.metrics.written * LONG, SHARE * 100 * 0.8)

    def test_first_scrape_is_never_empty(self) -> None:
        """The first text is written, however many ask at once."""
        texts = [self.exposition.text() for _ in range(100)]
        self.assertNotIn(b"", texts)
