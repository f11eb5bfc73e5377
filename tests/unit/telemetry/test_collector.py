"""One endpoint of an OTLP collector, that may take nothing."""

from __future__ import annotations

from gzip import decompress
from typing import Any

from twisted.internet.error import ConnectError
from twisted.python.failure import Failure

from infergate.telemetry import collector
from infergate.telemetry.collector import LARGE, Collector
from tests.unit.telemetry.pushing import URL, OneCollector, Response


class Collectors(OneCollector):
    module = collector

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
