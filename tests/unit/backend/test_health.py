"""How the backend is: what each answer means, and how often it is asked."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.error import (
    ConnectError,
    DNSLookupError,
    TimeoutError,  # noqa: A004
)

from infergate.backend.call import Timeouts
from infergate.backend.health import PROBE_INTERVAL, Health, State, connection, health_route
from tests.unit.backend.onebackend import OneBackend


class Connecting(OneBackend):
    def test_backend_that_takes_a_connection_is_alive(self) -> None:
        """Without a health route a backend is there if it takes a connection, which is closed at
        once."""
        health = Health(connection(self.port), self.deadlines)
        self.assertIs(self.successResultOf(health.ask()), State.ALIVE)
        self.clock.advance(0)
        self.assertTrue(self.connection.closed)
        self.assertEqual(self.connection.received, b"")

    def test_backend_that_takes_no_connection_is_away(self) -> None:
        """It is not there if it does not, however that fails."""
        for failure in (ConnectError(), DNSLookupError(), TimeoutError(), ValueError()):
            self.port.failures = [failure]
            health = Health(connection(self.port), self.deadlines)
            self.assertIs(self.successResultOf(health.ask()), State.AWAY)


class Route(OneBackend):
    def setUp(self) -> None:
        self.start(timeouts=Timeouts(3, 3, 3), retries=0)
        self.health = Health(health_route(self.backend, "/health", self.deadlines), self.deadlines)

    def asked(self) -> Deferred[State]:
        """Ask anew."""
        self.clock.advance(PROBE_INTERVAL)
        return self.health.ask()

    def answered(self, **answer: Any) -> State:
        done = self.asked()
        self.connection.answer(b"{}", **answer)
        return self.successResultOf(done)

    def test_question_is_a_get_of_its_own_connection(self) -> None:
        """The route is asked over a new connection, which is closed after the answer."""
        self.answered()
        self.answered()
        self.assertEqual(self.port.attempts, 2)
        request = self.connection.request
        self.assertEqual((request.method, request.path), ("GET", "/health"))
        self.clock.advance(0)
        self.assertTrue(self.connection.closed)

    def test_what_each_status_means(self) -> None:
        """200 is well, 503 loading, another 5xx but 501 a failure, and all else a sign of life."""
        for status, state, word in (
            (200, State.WELL, "ready"),
            (204, State.ALIVE, "ready"),
            (302, State.ALIVE, "ready"),
            (401, State.ALIVE, "ready"),
            (404, State.ALIVE, "ready"),
            (501, State.ALIVE, "ready"),
            (503, State.LOADING, "backend_loading"),
            (500, State.AWAY, "backend_unavailable"),
            (502, State.AWAY, "backend_unavailable"),
        ):
            self.assertIs(self.answered(status=status), state, status)
            self.assertEqual(state.word, word)

    def test_no_answer_is_away(self) -> None:
        """A backend that refuses, closes, is silent or speaks no HTTP is away, and that is known in
        the time to connect."""
        for end in (lambda: self.connection.close(), lambda: self.connection.send(b"SSH-2")):
            done = self.asked()
            end()
            self.assertIs(self.successResultOf(done), State.AWAY)
        self.port.refuse()
        self.assertIs(self.successResultOf(self.asked()), State.AWAY)
        done = self.asked()
        self.clock.advance(3.1)
        self.assertIs(self.successResultOf(done), State.AWAY)
        self.clock.advance(0.2)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_answer_holds_for_all_who_ask_meanwhile(self) -> None:
        """One question is asked for all who want to know within two seconds."""
        first, second = self.asked(), self.health.ask()
        self.assertEqual(self.port.attempts, 1)
        first.cancel()
        self.failureResultOf(first)
        self.connection.answer(b"{}")
        self.assertIs(self.successResultOf(second), State.WELL)
        self.clock.advance(PROBE_INTERVAL - 0.1)
        self.assertIs(self.successResultOf(self.health.ask()), State.WELL)
        self.assertEqual(self.port.attempts, 1)
