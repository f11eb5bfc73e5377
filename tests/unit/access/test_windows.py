"""The windows of token budgets."""

from __future__ import annotations

from datetime import datetime, timezone

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from infergate.access.windows import WINDOWS, bounds


def at(text: str) -> float:
    return datetime.fromisoformat(text).replace(tzinfo=timezone.utc).timestamp()


class Bounds(SynchronousTestCase):
    def test_in_utc(self) -> None:
        """Each window begins and ends where people expect, leap years and Sundays included."""
        for window, now, began, ends in (
            ("minute", "2026-11-27T02:39:31.500", "2026-11-27T02:39", "2026-11-27T02:40"),
            ("hour", "2026-11-27T02:39:31", "2026-11-27T02:00", "2026-11-27T03:00"),
            ("day", "2026-11-27T23:59:59.999", "2026-11-27T00:00", "2026-11-28T00:00"),
            ("week", "2026-11-29T23:59:59", "2026-11-23T00:00", "2026-11-30T00:00"),
            ("week", "2026-11-30T00:00:00", "2026-11-30T00:00", "2026-12-07T00:00"),
            ("month", "2026-12-31T23:59:59", "2026-12-01T00:00", "2027-01-01T00:00"),
            ("month", "2028-02-29T12:00:00", "2028-02-01T00:00", "2028-03-01T00:00"),
        ):
            self.assertEqual(bounds(window, at(now)), (at(began), at(ends)), (window, now))

    @given(st.sampled_from(WINDOWS), st.floats(0, 4e9))
    def test_the_next_begins_where_one_ends(self, window: str, now: float) -> None:
        """No time is in two windows or in none."""
        began, ends = bounds(window, now)
        self.assertTrue(began <= now < ends)
        self.assertEqual(bounds(window, ends)[0], ends)
        self.assertEqual(bounds(window, began), (began, ends))
