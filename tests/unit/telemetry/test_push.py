"""What is known afterwards, pushed to a collector that may take nothing."""

from __future__ import annotations

import io
from collections.abc import Iterator
from gzip import decompress
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectError
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.logger import LogEvent, Logger
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase
from twisted.web.iweb import IAgent, IBodyProducer
from zope.interface import implementer
from zope.interface.verify import verifyObject

from infergate.telemetry import push
from infergate.telemetry.push import (
    INTERVAL,
    LARGE,
    LAST_PUSH,
    TIMEOUT,
    Collector,
    MetricsPusher,
    Pushers,
    SpanPusher,
)
from infergate.telemetry.record import Record
from infergate.telemetry.tracing import Ended

PARTS = (b"mes", b"", b"sage")

URL = "http://collector:4318/v1/metrics"


class Response:
    """An answer, whose body is delivered over `transport`."""

    def __init__(self, code: int) -> None:
        self.code = code
        self.transport = StringTransport()

    def deliverBody(self, protocol: Any) -> None:
        protocol.makeConnection(self.transport)


@implementer(IAgent)
class Agent:
    """Takes requests, each of which hangs until the test answers it."""

    def __init__(self) -> None:
        self.requests: list[tuple[bytes, bytes, dict[bytes, list[bytes]], bytes]] = []
        self.answers: list[Deferred[Any]] = []
        self.aborted = 0

    def request(self, method: Any, uri: Any, headers: Any = None, bodyProducer: Any = None) -> Any:
        verifyObject(IBodyProducer, bodyProducer)
        body = io.BytesIO()
        bodyProducer.startProducing(body)
        assert len(body.getvalue()) == bodyProducer.length
        fields = dict(headers.getAllRawHeaders())
        self.requests.append((method, uri, fields, body.getvalue()))
        self.answers.append(Deferred(self._aborted))
        return self.answers[-1]

    def _aborted(self, _: Any) -> None:
        self.aborted += 1


class Setting(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.agent = Agent()
        self.collector = Collector(self.agent, self.clock, URL, {"api-key": "canary"})
        self.events: list[LogEvent] = []
        self.patch(push, "_log", Logger(observer=self.events.append))


class Collectors(Setting):
    def pushed(self, answer: Any) -> bool:
        """Push, and answer with a response or an error."""
        pushed = self.collector.push(b"message", 10)
        self.agent.answers[-1].callback(answer)
        return self.successResultOf(pushed)

    def test_message_is_posted_as_protobuf(self) -> None:
        """The body goes to the collector's URL with its media type and the headers asked for."""
        self.assertTrue(self.pushed(Response(200)))
        ((method, uri, headers, body),) = self.agent.requests
        self.assertEqual((method, uri, body), (b"POST", URL.encode(), b"message"))
        self.assertEqual(headers[b"Content-Type"], [b"application/x-protobuf"])
        self.assertEqual(headers[b"Api-Key"], [b"canary"])

    def test_connection_of_an_answer_is_closed(self) -> None:
        """The body of an answer is not read, however long it is."""
        response = Response(200)
        self.pushed(response)
        self.assertTrue(response.transport.disconnecting)

    def test_push_never_fails_and_says_so_once(self) -> None:
        """What the collector does not take is lost, with one line in the log each way."""
        for answer in (Response(503), Failure(ConnectError("canary")), Response(400)):
            self.assertFalse(self.pushed(answer))
        for _ in range(3):
            self.assertTrue(self.pushed(Response(200)))
        self.assertEqual([event["log_level"].name for event in self.events], ["warn", "info"])
        self.assertEqual(self.events[0]["why"], "it answered with status 503")
        self.assertNotIn("canary", str(self.events))

    def test_collector_that_hangs_is_left_in_time(self) -> None:
        """Its request is aborted when its time is up."""
        pushed = self.collector.push(b"message", 10)
        self.clock.advance(9.9)
        self.assertNoResult(pushed)
        self.clock.advance(0.1)
        self.assertFalse(self.successResultOf(pushed))
        self.assertEqual(self.agent.aborted, 1)
        self.assertEqual(self.events[0]["why"], "TimeoutError")

    def test_large_message_is_compressed_where_that_was_asked_for(self) -> None:
        """A small one would only grow."""
        collector = Collector(self.agent, self.clock, URL, gzip=True)
        for message in (b"x" * LARGE, b"x" * (LARGE - 1)):
            collector.push(message)
        (*_, headers, body), (*_, plain, small) = self.agent.requests
        self.assertEqual(
            (headers[b"Content-Encoding"], decompress(body)), ([b"gzip"], b"x" * LARGE)
        )
        self.assertNotIn(b"Content-Encoding", plain)
        self.assertEqual(small, b"x" * (LARGE - 1))


class MetricsPushers(Setting):
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


class SpanPushers(Setting):
    def setUp(self) -> None:
        super().setUp()
        self.pusher = SpanPusher(
            self.collector,
            self.clock,
            lambda ended: iter((ended.record.request_id.encode() + b" ",)),
            b"".join,
            delay=5,
            queue=6,
            batch=3,
        )

    def end(self, *names: str) -> None:
        """Exchanges that have ended."""
        for name in names:
            self.pusher.add(Ended(Record(opened=1.0, client="", request_id=name), 0))

    @property
    def pushed(self) -> list[bytes]:
        return [body for *_, body in self.agent.requests]

    def answer(self) -> None:
        self.agent.answers[-1].callback(Response(200))

    def test_spans_are_pushed_soon_after_they_ended(self) -> None:
        """Together with those that end meanwhile; without any, nothing is pushed."""
        self.pusher.start()
        self.assertEqual(self.clock.getDelayedCalls(), [])
        self.end("a")
        self.clock.advance(4)
        self.end("b")
        self.assertEqual(self.pushed, [])
        self.clock.advance(1)
        self.assertEqual(self.pushed, [b"a b "])
        self.answer()
        self.assertEqual(self.clock.getDelayedCalls(), [])
        self.end("c")
        self.clock.advance(5)
        self.assertEqual(self.pushed, [b"a b ", b"c "])

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
        self.assertEqual(len(self.pusher._waiting), 6)
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


class Together(Setting):
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
