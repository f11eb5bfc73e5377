"""When something is pushed to a collector."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from infergate.telemetry import push
from infergate.telemetry.batch import Batch
from infergate.telemetry.collector import TIMEOUT
from infergate.telemetry.push import INTERVAL, LAST_PUSH, MetricsPusher, Pushers, SpanPusher
from infergate.telemetry.record import Record
from tests.unit.telemetry.pushing import OneCollector, Response

PARTS = (b"mes", b"", b"sage")


class MetricsPushers(OneCollector):
    module = push

    def setUp(self) -> None:
        super().setUp()
        self.pusher = MetricsPusher(self.collector, self.clock, lambda: iter(PARTS), b"".join)

    def test_pushes_are_regular(self) -> None:
        """There is a push in each interval, and a last one at the stop."""
        self.pusher.start()
        self.assertEqual(len(self.agent.requests), 0)
        for count in (1, 2):
            self.clock.advance(INTERVAL)
            self.assertEqual(len(self.agent.requests), count)
            self.agent.answers[-1].callback(Response(200))
        stopped = self.pusher.stop()
        self.assertEqual(len(self.agent.requests), 3)
        self.assertNoResult(stopped)
        self.agent.answers[-1].callback(Response(200))
        self.successResultOf(stopped)
        self.assertEqual((self.clock.getDelayedCalls(), self.events), ([], []))
        self.assertEqual({body for *_, body in self.agent.requests}, {b"message"})

    def test_push_that_hangs_delays_the_next_and_no_more(self) -> None:
        """One push at a time; one that hangs is given up."""
        self.pusher.start()
        self.clock.advance(INTERVAL)
        self.clock.advance(TIMEOUT)
        self.clock.advance(INTERVAL)
        self.assertEqual((len(self.agent.requests), self.agent.aborted), (2, 1))

    def test_stop_waits_no_longer_than_it_says(self) -> None:
        """A push under way is given up, and the last one has its time and no more."""
        self.pusher.start()
        self.clock.advance(INTERVAL)
        stopped = self.pusher.stop()
        self.assertEqual((len(self.agent.requests), self.agent.aborted), (2, 1))
        self.clock.advance(LAST_PUSH)
        self.successResultOf(stopped)
        self.assertEqual((self.agent.aborted, self.clock.getDelayedCalls()), (2, []))

    def test_what_never_started_pushes_at_its_end(self) -> None:
        """A process that ends before it has begun still says so."""
        self.pusher.stop()
        self.assertEqual(len(self.agent.requests), 1)

    def test_message_that_cannot_be_made_ends_nothing(self) -> None:
        """It is logged, and the next push comes as ever."""

        def fails() -> Iterator[bytes]:
            raise ZeroDivisionError
            yield b""

        parts: list[Any] = [fails, lambda: iter(PARTS)]
        pusher = MetricsPusher(self.collector, self.clock, lambda: parts.pop(0)(), b"".join)
        pusher.start()
        self.clock.advance(INTERVAL)
        self.assertEqual(len(self.agent.requests), 0)
        self.clock.advance(INTERVAL)
        self.assertEqual(len(self.agent.requests), 1)
        self.assertEqual([event["log_level"].name for event in self.events], ["critical"])


class SpanPushers(OneCollector):
    module = push

    def setUp(self) -> None:
        super().setUp()
        self.batch = Batch()
        self.pusher = SpanPusher(
            self.batch,
            self.collector,
            self.clock,
            lambda records: b"".join([one.request_id.encode() + b" " for one in records]),
            b"".join,
            delay=5,
            queue=6,
            most=3,
        )
        self.pusher.start()

    def end(self, *names: str, sampled: bool = True, settle: bool = True) -> None:
        """Exchanges that have ended, and that are told of at once, unless a batch is not full."""
        for name in names:
            record = Record(opened=1.0, client="", request_id=name, sampled=sampled)
            self.batch.add([record])
        if settle:
            self.batch.settle()

    @property
    def pushed(self) -> list[bytes]:
        return [body for *_, body in self.agent.requests]

    def answer(self) -> None:
        self.agent.answers[-1].callback(Response(200))

    def test_spans_are_pushed_soon_after_they_ended(self) -> None:
        """Together with those that end meanwhile; without any, nothing is pushed."""
        self.end("a", settle=False)
        self.clock.advance(4)
        self.end("b", settle=False)
        self.assertEqual(self.pushed, [])
        self.clock.advance(1)
        self.assertEqual(self.pushed, [b"a b "])
        self.answer()
        self.clock.advance(5)
        self.assertEqual(self.pushed, [b"a b "])
        self.end("c", settle=False)
        self.clock.advance(5)
        self.assertEqual(self.pushed, [b"a b ", b"c "])

    def test_exchange_that_is_not_recorded_has_no_span(self) -> None:
        """What the sampler, or the client, left out costs the collector nothing."""
        self.end("a", "b", "c", sampled=False)
        self.end("d")
        self.clock.advance(5)
        self.assertEqual(self.pushed, [b"d "])

    def test_spans_that_cannot_be_made_cost_no_others(self) -> None:
        """They are logged, and the next ones are pushed."""
        made = [ZeroDivisionError("spans"), None]

        def spans(records: Sequence[Record]) -> bytes:
            error = made.pop(0)
            if error is not None:
                raise error
            return b"made"

        self.pusher._spans = spans
        self.end("a")
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)
        self.end("b")
        self.clock.advance(5)
        self.assertEqual(self.pushed, [b"made"])

    def test_full_batch_is_pushed_at_once(self) -> None:
        """And the next one when that was taken."""
        self.end(*"abcdefg")
        self.assertEqual(self.pushed, [b"a b c "])
        self.answer()
        self.assertEqual(self.pushed, [b"a b c ", b"d e f "])
        self.answer()
        self.clock.advance(5)
        self.assertEqual(self.pushed, [b"a b c ", b"d e f ", b"g "])

    def test_collector_that_hangs_costs_spans_and_no_memory(self) -> None:
        """What the queue has no room for is lost; then it goes on."""
        self.end(*"abc")
        self.end(*"defghijklm")
        self.assertEqual(sum(count for count, _ in self.pusher._waiting), 6)
        self.clock.advance(TIMEOUT)
        self.assertEqual(self.agent.aborted, 1)
        self.assertEqual(self.pushed, [b"a b c ", b"d e f "])
        self.answer()
        self.assertEqual(self.pushed[-1], b"g h i ")

    def test_stop_pushes_what_is_left(self) -> None:
        """All of it, in one message, and nothing where nothing is left."""
        self.end("a", "b")
        stopped = self.pusher.stop()
        self.assertEqual(self.pushed, [b"a b "])
        self.answer()
        self.successResultOf(stopped)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_stop_without_spans_waits_for_nothing(self) -> None:
        """No collector is asked."""
        self.successResultOf(self.pusher.stop())
        self.assertEqual((self.pushed, self.clock.getDelayedCalls()), ([], []))

    def test_stop_waits_for_what_is_under_way(self) -> None:
        """A push that is answered in time is not lost, and the rest follows."""
        self.end(*"abcd")
        stopped = self.pusher.stop()
        self.assertEqual(self.pushed, [b"a b c "])
        self.answer()
        self.assertEqual(self.pushed, [b"a b c ", b"d "])
        self.answer()
        self.successResultOf(stopped)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_stop_waits_for_no_collector_that_hangs(self) -> None:
        """Half of the time for what is under way, the rest for what is left."""
        self.end(*"abcd")
        stopped = self.pusher.stop()
        self.clock.advance(LAST_PUSH / 2)
        self.assertEqual(self.pushed, [b"a b c ", b"d "])
        self.clock.advance(LAST_PUSH / 2)
        self.successResultOf(stopped)
        self.assertEqual(self.clock.getDelayedCalls(), [])


class Together(OneCollector):
    module = push

    def test_all_are_stopped_at_the_same_time(self) -> None:
        """Two that hang take no longer than one."""
        pushers = Pushers(
            [MetricsPusher(self.collector, self.clock, lambda: iter(PARTS), b"".join)] * 2
        )
        stopped = pushers.stop()
        self.clock.advance(LAST_PUSH)
        self.successResultOf(stopped)
        self.assertEqual(len(self.agent.requests), 2)

    def test_nothing_to_push_is_no_part_of_a_stop(self) -> None:
        """Nothing is waited for."""
        pushers = Pushers([])
        pushers.start()
        self.successResultOf(pushers.stop())
