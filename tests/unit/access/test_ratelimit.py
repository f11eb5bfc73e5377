"""Rates, buckets and the fields that tell of them."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from infergate.access import ratelimit
from infergate.access.ratelimit import Decision, Rate, TokenBuckets, duration, parse_rate


def started(rate: str, capacity: int = 1000) -> tuple[TokenBuckets, Clock]:
    """Buckets on a clock that shows a time like today's."""
    clock = Clock()
    clock.advance(1_800_000_000.123456)
    return TokenBuckets(parse_rate(rate), clock.seconds, capacity), clock


class RateTests(SynchronousTestCase):
    """`parse_rate`."""

    def test_rates_are_read_by_their_period(self) -> None:
        """A rate is a count for a second, a minute or an hour."""
        self.assertEqual(parse_rate("1/second"), Rate(1, 1))
        self.assertEqual(parse_rate("60/minute"), Rate(60, 60))
        self.assertEqual(parse_rate("999999999/hour"), Rate(999999999, 3600))

    def test_anything_else_is_no_rate(self) -> None:
        """Anything else is refused at the start."""
        for text in ["", "60", "60/", "/minute", "0/second", "-1/second", "1.5/second", "01/hour"]:
            self.assertRaises(ValueError, parse_rate, text)
        for text in [
            "1/week",
            "1/Minute",
            "1 / minute",
            "1/minute\n",
            "٣/hour",
            "1" * 10 + "/hour",
        ]:
            self.assertRaises(ValueError, parse_rate, text)


class BucketTests(SynchronousTestCase):
    """`TokenBuckets`."""

    def test_peek_takes_nothing(self) -> None:
        """It says how the bucket stands, as often as it is asked."""
        buckets, _ = started("2/second")
        buckets.ask("a")
        self.assertEqual([buckets.peek("a").remaining for _ in range(3)], [1, 1, 1])
        self.assertEqual(buckets.ask("a").remaining, 0)

    def test_burst_is_the_whole_rate(self) -> None:
        """A new caller has the whole burst, and is told what is left of it and for how long."""
        buckets, _ = started("3/minute")
        self.assertEqual(
            [buckets.ask("alice") for _ in range(4)],
            [
                Decision(True, 3, 2, 20.0, 0),
                Decision(True, 3, 1, 40.0, 0),
                Decision(True, 3, 0, 60.0, 0),
                Decision(False, 3, 0, 60.0, 20),
            ],
        )

    def test_callers_share_no_bucket(self) -> None:
        """One caller's requests cost another nothing."""
        buckets, _ = started("1/hour")
        self.assertTrue(buckets.ask("alice").allowed)
        self.assertFalse(buckets.ask("alice").allowed)
        self.assertTrue(buckets.ask("bob").allowed)

    def test_bucket_refills_evenly(self) -> None:
        """Requests come back one by one, evenly, and never more than the burst."""
        buckets, clock = started("60/minute")
        for _ in range(60):
            self.assertTrue(buckets.ask("alice").allowed)
        clock.advance(0.75)
        self.assertEqual(buckets.ask("alice"), Decision(False, 60, 0, 59.25, 1))
        clock.advance(0.25)
        self.assertEqual(buckets.ask("alice"), Decision(True, 60, 0, 60.0, 0))
        clock.advance(10_000)
        self.assertEqual(buckets.ask("alice"), Decision(True, 60, 59, 1.0, 0))

    def test_refused_request_costs_nothing(self) -> None:
        """A caller that keeps asking while refused is let in no later than one that waits."""
        buckets, clock = started("1/minute")
        buckets.ask("alice")
        for left in range(60, 0, -1):
            self.assertEqual(buckets.ask("alice").retry_after, left)
            clock.advance(1)
        self.assertTrue(buckets.ask("alice").allowed)

    @given(
        st.integers(1, 30),
        st.sampled_from([1, 60, 3600]),
        st.lists(st.integers(0, 20_000_000), min_size=1, max_size=8),
    )
    def test_retry_after_is_never_less_than_the_truth(
        self, count: int, period: int, pauses: list[int]
    ) -> None:
        """Whoever waits as long as told is let in, and no caller ever gets more than its rate."""
        clock = Clock()
        clock.advance(1_800_000_000)
        buckets, let_in = TokenBuckets(Rate(count, period), clock.seconds), 0
        for pause in pauses:
            clock.advance(pause / 1_000_000)
            while (decision := buckets.ask("alice")).allowed:
                let_in += 1
            clock.advance(decision.retry_after)
            self.assertTrue(buckets.ask("alice").allowed)
            let_in += 1
            passed = clock.seconds() - 1_800_000_000
            self.assertLessEqual(let_in, count * (1 + passed / period) + 0.001)

    def test_large_counts_are_exact(self) -> None:
        """However many requests there were, what is left of a large count is exact."""
        buckets, _ = started("100000/hour")
        self.assertTrue(all(buckets.ask("alice").allowed for _ in range(1000)))
        self.assertEqual(buckets.ask("alice"), Decision(True, 100_000, 98_999, 36.036, 0))

    def test_memory_is_bounded(self) -> None:
        """However many callers there are, no more than the capacity are remembered."""
        buckets, _ = started("1/hour", capacity=100)
        for number in range(10_000):
            buckets.ask(f"caller-{number}")
            self.assertLessEqual(len(buckets), 100)
        self.assertEqual(ratelimit.CAPACITY, 170_000)

    def test_flood_forgets_those_unseen_the_longest(self) -> None:
        """A caller over its limit stays refused through a flood, as long as it goes on asking."""
        buckets, _ = started("1/hour", capacity=100)
        buckets.ask("alice")
        for number in range(10_000):
            buckets.ask(f"caller-{number}")
            if number % 40 == 0:
                self.assertFalse(buckets.ask("alice").allowed)

    def test_full_buckets_are_forgotten(self) -> None:
        """Callers who stay away are forgotten once their buckets are full, and not before."""
        buckets, clock = started("1/minute")
        for number in range(400):
            buckets.ask(f"caller-{number}")
        clock.advance(50)
        buckets.ask("bob")
        clock.advance(10)
        buckets.ask("alice")
        clock.advance(49)
        self.assertEqual(buckets.ask("bob").retry_after, 1)
        clock.advance(11)
        buckets.ask("alice")
        self.assertLessEqual(len(buckets), 3)

    def test_buckets_are_all_full_once_nobody_has_come_for_two_periods(self) -> None:
        """Not before the last one that was asked for is."""
        buckets, clock = started("2/minute")
        for seconds in (0, 59):
            clock.advance(seconds)
            buckets.ask("alice")
        clock.advance(60.5)
        self.assertFalse(buckets.all_full)
        self.assertEqual(buckets.peek("alice").remaining, 2)
        clock.advance(0.5)
        self.assertTrue(buckets.all_full)
        buckets.ask("alice")
        self.assertFalse(buckets.all_full)


class HeaderTests(SynchronousTestCase):
    """`rate_fields` and `duration`."""

    def test_header_fields_are_those_of_openai(self) -> None:
        """The three fields carry the limit, what remains, and when it is whole again."""
        self.assertEqual(
            ratelimit.rate_fields(Decision(True, 60, 59, 1.0, 0)),
            b"x-ratelimit-limit-requests: 60\r\n"
            b"x-ratelimit-remaining-requests: 59\r\n"
            b"x-ratelimit-reset-requests: 1s",
        )

    def test_durations_are_written_as_openai_does(self) -> None:
        """Times are written as OpenAI writes them, and never shorter than they are."""
        for seconds, text in [
            (0, "0s"),
            (0.0001, "1ms"),
            (0.02, "20ms"),
            (0.07, "70ms"),
            (0.999, "999ms"),
            (0.9995, "1s"),
            (1, "1s"),
            (1.001, "2s"),
            (59.5, "1m0s"),
            (60, "1m0s"),
            (360, "6m0s"),
            (3599.1, "1h0m0s"),
            (3603, "1h0m3s"),
            (7384, "2h3m4s"),
        ]:
            self.assertEqual(duration(seconds), text)
