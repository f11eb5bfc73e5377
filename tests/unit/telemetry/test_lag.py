"""How late the event loop is."""

from __future__ import annotations

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from infergate.telemetry.histogram import Histogram
from infergate.telemetry.lag import INTERVAL, Lag


class LagTests(SynchronousTestCase):
    def test_late_timer_is_recorded_with_how_late_it_is(self) -> None:
        """A timer in time is one too; nothing is recorded after the stop."""
        clock = Clock()
        histogram = Histogram("lag", "", (), (0.01, 1))
        lag = Lag(histogram, clock)
        lag.start()
        clock.advance(INTERVAL)
        clock.advance(INTERVAL + 0.5)
        (series,) = histogram.series()
        self.assertEqual(series.counts, [1, 1, 0])
        self.assertAlmostEqual(series.sum, 0.5)
        lag.stop()
        lag.stop()
        clock.advance(10)
        self.assertEqual((sum(series.counts), clock.getDelayedCalls()), (2, []))
