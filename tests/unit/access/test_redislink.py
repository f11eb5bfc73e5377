"""A connection to Redis, on a clock and a wire in memory."""

from __future__ import annotations

from typing import Any

from twisted.internet import error
from twisted.internet.defer import Deferred, fail
from twisted.internet.interfaces import IStreamClientEndpoint
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.logger import globalLogPublisher
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer

from infergate.access.redislink import AGAIN, ANSWER, CONNECT, ITERATION, PROBE, RedisLink
from infergate.access.redisurl import SharedState
from infergate.access.shared import RedisAway

OK = b"+OK\r\n"


class Transport(StringTransport):
    """Tells its protocol that the connection has ended."""

    protocol: Any

    def abortConnection(self) -> None:
        if not self.disconnecting:
            self.disconnecting = True
            self.protocol.connectionLost(Failure(error.ConnectionDone()))

    def loseConnection(self) -> None:
        """A real one ends later."""


@implementer(IStreamClientEndpoint)
class Endpoint:
    """Refuses while it is not `open`; hangs while it is None."""

    def __init__(self) -> None:
        self.open: bool | None = True
        self.transports: list[Transport] = []

    def connect(self, factory: Any) -> Deferred[Any]:
        if self.open is None:
            return Deferred()
        connected: Deferred[Any] = Deferred()
        if not self.open:
            return fail(error.ConnectionRefusedError())
        transport = Transport()
        transport.protocol = factory.buildProtocol(None)
        transport.protocol.makeConnection(transport)
        self.transports.append(transport)
        connected.callback(transport.protocol)
        return connected


class Links(SynchronousTestCase):
    state = SharedState("cache")

    def setUp(self) -> None:
        self.clock, self.endpoint = Clock(), Endpoint()
        self.link = RedisLink(lambda: self.endpoint, self.clock, self.state)
        self.lines: list[str] = []
        observer = lambda event: self.lines.append(  # noqa: E731
            (event.get("log_format") or "").format(**event)
        )
        globalLogPublisher.addObserver(observer)
        self.addCleanup(globalLogPublisher.removeObserver, observer)
        self.addCleanup(self.link.stop)

    def said(self) -> list[str]:
        return [line for line in self.lines if line.startswith("SHARED_STATE")]

    def connect(self) -> None:
        self.link.start()
        self.answer(OK)

    def answer(self, data: bytes) -> None:
        self.endpoint.transports[-1].protocol.dataReceived(data)

    def overdue(self) -> None:
        """The time for an answer passes, and one iteration of the event loop."""
        self.clock.advance(ANSWER)
        self.clock.advance(ITERATION)

    def ask(self) -> Deferred[Any]:
        return self.link.run("return 1", ["infergate:key"], "7")


class Connected(Links):
    def test_answer(self) -> None:
        """A script is run with its keys and its text, and its answer comes back."""
        self.connect()
        self.assertTrue(self.link.up)
        asked = self.ask()
        sent = self.endpoint.transports[-1].value()
        self.assertIn(b"EVAL\r\n$8\r\nreturn 1\r\n", sent)
        self.answer(b"$5\r\n1 2.5\r\n")
        self.assertEqual(self.successResultOf(asked), "1 2.5")
        self.assertEqual(self.said(), [])

    def test_each_question_has_its_own_time(self) -> None:
        """A question that comes while another is under way has its tenth of a second too, and no
        timer is left when all are answered."""
        self.connect()
        first = self.ask()
        self.clock.advance(ANSWER * 0.9)
        second = self.ask()
        self.answer(b":1\r\n")
        self.clock.advance(ANSWER * 0.5)
        self.clock.advance(ITERATION)
        self.assertTrue(self.link.up)
        third = self.ask()
        self.answer(b":2\r\n")
        self.assertEqual([self.successResultOf(one) for one in (first, second)], [1, 2])
        self.clock.advance(ANSWER)
        self.clock.advance(ITERATION)
        self.failureResultOf(third, RedisAway)
        self.assertFalse(self.link.up)

    def test_stop_waits_for_the_last_answer(self) -> None:
        """The charge of the last exchange is not lost with the connection; nor does a Redis that
        says nothing hold up the stop."""
        for answers in (True, False):
            self.setUp()
            self.connect()
            self.ask().addErrback(lambda failure: failure.trap(RedisAway))
            stopped = self.link.stop()
            self.assertNoResult(stopped)
            if answers:
                self.answer(b":1\r\n+PONG\r\n")
            else:
                self.overdue()
            self.successResultOf(stopped)
            self.assertEqual(self.clock.getDelayedCalls(), [])
            self.assertEqual(self.said(), [])

    def test_no_answer_in_time(self) -> None:
        """A request waits a tenth of a second; those that come after it do not wait at all."""
        self.connect()
        asked = self.ask()
        self.overdue()
        self.failureResultOf(asked, RedisAway)
        self.assertFalse(self.link.up)
        self.failureResultOf(self.ask(), RedisAway)
        self.assertEqual(len(self.said()), 1)
        self.assertIn("cache:6379 is away: no answer within 0.1 s", self.said()[0])

    def test_answer_that_was_there_in_time_counts(self) -> None:
        """One that came while the event loop was busy is read before anybody is given up."""
        self.connect()
        asked = self.ask()
        self.clock.advance(10 * ANSWER)
        self.answer(b":1\r\n")
        self.clock.advance(ITERATION)
        self.assertEqual(self.successResultOf(asked), 1)
        self.assertTrue(self.link.up)

    def test_error_is_away_too(self) -> None:
        """One that became a replica, or is loading, is connected to anew."""
        for text, reason in (
            (b"READONLY You can't write against a read only replica.", "READONLY"),
            (b"MOVED 3999 127.0.0.1:6381", "Redis Cluster is not supported"),
        ):
            self.setUp()
            self.connect()
            asked = self.ask()
            self.answer(b"-%b\r\n" % text)
            self.failureResultOf(asked, RedisAway)
            self.assertFalse(self.link.up)
            self.assertIn(reason, self.said()[0])

    def test_client_that_leaves_takes_no_answer_of_anothers(self) -> None:
        """A question that is cancelled keeps its place in the line of answers."""
        self.connect()
        left, stays = self.ask(), self.ask()
        left.cancel()
        self.failureResultOf(left)
        self.answer(b":1\r\n:2\r\n")
        self.assertEqual(self.successResultOf(stays), 2)

    def test_asked_whether_it_is_there_without_traffic(self) -> None:
        """So that a Redis that hangs is seen before the next request."""
        self.connect()
        self.clock.advance(PROBE)
        self.overdue()
        self.assertFalse(self.link.up)


class Away(Links):
    def test_back_within_half_a_second(self) -> None:
        """One line each way; before it is asked again the budgets are read, and after it what is
        owed is charged."""
        self.connect()
        called: list[str] = []

        async def before_up() -> None:
            called.append(f"before {self.link.up}")

        self.link.before_up = lambda: Deferred.fromCoroutine(before_up())
        self.link.on_up = lambda: called.append(f"after {self.link.up}")
        self.endpoint.open = False
        self.endpoint.transports[-1].abortConnection()
        for _ in range(5):
            self.clock.advance(AGAIN)
        self.assertFalse(self.link.up)
        self.endpoint.open = True
        self.clock.advance(AGAIN)
        self.answer(OK)
        self.assertTrue(self.link.up)
        self.assertEqual(called, ["before False", "after True"])
        self.assertEqual(len(self.said()), 2, self.said())

    def test_hanging_connection_is_given_up(self) -> None:
        """The next attempt has a new one."""
        self.endpoint.open = None
        self.link.start()
        self.clock.advance(CONNECT)
        self.endpoint.open = True
        self.clock.advance(AGAIN)
        self.answer(OK)
        self.assertTrue(self.link.up)

    def test_first_questions_wait_for_the_first_connection(self) -> None:
        """A Redis that is there does not miss the first requests of a process."""
        waiting: Deferred[Any] = Deferred()
        self.endpoint.connect = lambda factory: waiting  # type: ignore[method-assign]
        self.link.start()
        asked = self.ask()
        self.assertNoResult(asked)
        self.overdue()
        self.failureResultOf(asked, RedisAway)

    def test_stopped_link_tries_no_more(self) -> None:
        """Nothing is left on the clock."""
        self.endpoint.open = False
        self.link.start()
        self.link.stop()
        self.assertEqual(self.clock.getDelayedCalls(), [])
