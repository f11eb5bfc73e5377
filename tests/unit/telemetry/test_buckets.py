"""The upper ends of the buckets: what a dashboard may count on."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from infergate.telemetry import buckets


class Bounds(SynchronousTestCase):
    def test_bounds_rise_from_above_nothing(self) -> None:
        """Each bucket of each histogram ends above the one before it, the first above nothing."""
        bounds = {name: getattr(buckets, name) for name in dir(buckets) if name.isupper()}
        self.assertEqual(len(bounds), 7)
        for name, ends in bounds.items():
            self.assertEqual(sorted(set(ends)), list(ends), name)
            self.assertGreater(ends[0], 0, name)

    def test_values_reach_the_bounds_of_slow_models(self) -> None:
        """Buckets go on to where a request may still be answered."""
        for bounds, last in (
            (buckets.REQUEST_SECONDS, 600),
            (buckets.OPERATION_SECONDS, 600),
            (buckets.FIRST_TOKEN_SECONDS, 600),
            (buckets.TOKEN_SECONDS, 10),
        ):
            self.assertGreaterEqual(bounds[-1], last)
            self.assertEqual(sorted(set(bounds)), list(bounds))
        self.assertEqual(buckets.FIRST_TOKEN_SECONDS[-6:], (10, 30, 60, 120, 300, 600))

    def test_conventions_bounds_are_among_them(self) -> None:
        """A dashboard made for OpenTelemetry's conventions finds each of their buckets."""
        http = (0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10)
        self.assertEqual(buckets.REQUEST_SECONDS[: len(http)], http)
        for at, end in enumerate(buckets.OPERATION_SECONDS):
            self.assertAlmostEqual(end, 0.01 * 2**at)
        self.assertEqual((buckets.TOKENS[:3], buckets.TOKENS[-1]), ((1, 4, 16), 67108864))
