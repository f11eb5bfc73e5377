"""Percentiles out of a few counts."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from infergate.status.durations import Durations


def durations(*values: float) -> Durations:
    made = Durations()
    made.add(values)
    return made


class Percentiles(SynchronousTestCase):
    def test_percentile_is_at_most_a_fifth_too_high(self) -> None:
        """Each is the upper bound of the bucket that it falls into."""
        values = [0.001 * number for number in range(1, 1001)]
        for share, found in zip((0.5, 0.9, 0.99), durations(*values).percentiles(), strict=True):
            assert found is not None
            self.assertGreaterEqual(found, share)
            self.assertLessEqual(found, share * 1.2 + 1e-4)

    def test_nothing_has_no_percentile(self) -> None:
        """The page shows a gap for it."""
        self.assertEqual(durations().percentiles(), [None, None, None])

    def test_what_is_outside_the_bounds_counts_as_the_bound(self) -> None:
        """Under a millisecond, and over a quarter of an hour."""
        self.assertEqual(durations(0.0).percentile(0.5), 0.001)
        self.assertEqual(durations(1e9).percentile(0.5), durations(2e9).percentile(0.99))

    def test_two_are_put_together(self) -> None:
        """The other one stays as it is."""
        both, other = durations(0.01), durations(1.0, 1.0, 1.0)
        alone = other.percentiles()
        both.add_all(other)
        self.assertEqual((both.percentiles(), other.percentiles()), (alone, alone))
