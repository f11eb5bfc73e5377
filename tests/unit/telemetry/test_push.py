"""What is known afterwards, pushed to a collector that may take nothing."""

from __future__ import annotations

import io
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
from infergate.telemetry.push import INTERVAL, LAST_PUSH, TIMEOUT, Collector, Pusher

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


class Pushers(Setting):
    def setUp(self) -> None:
        super().setUp()
        self.pusher = Pusher(self.collector, self.clock, lambda: b"message")

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
