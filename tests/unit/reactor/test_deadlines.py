"""Moments that are cheap to move."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from infergate.reactor.deadlines import NEVER, RESOLUTION, Deadlines


@dataclass(eq=False)
class Watched:
    deadline: float
    expired: Callable[[], None]


class DeadlinesTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.deadlines = Deadlines(self.clock)
        self.passed: list[float] = []

    def watch(self, at: float) -> Watched:
        watched = Watched(at, lambda: self.passed.append(self.clock.seconds()))
        self.deadlines.watch(watched)
        return watched

    def pass_time(self, seconds: float) -> None:
        self.clock.pump([0.01] * round(seconds / 0.01))

    def test_in_time(self) -> None:
        """A deadline passes no sooner than it says, and no later than one sweep after."""
        for at in (0.05, 1.0, 1.23, 2.001):
            self.watch(at)
        self.pass_time(3)
        for at, passed in zip((0.05, 1.0, 1.23, 2.001), self.passed, strict=True):
            self.assertTrue(at <= passed <= at + RESOLUTION + 0.011, (at, passed))

    def test_once(self) -> None:
        """A deadline passes once, and has no moment from then on."""
        watched = self.watch(0.5)
        self.pass_time(3)
        self.assertEqual(len(self.passed), 1)
        self.assertEqual(watched.deadline, NEVER)

    def test_moved(self) -> None:
        """Moving a deadline is setting a number: no timer is started or stopped for it."""
        watched = self.watch(0.5)
        timers = self.clock.getDelayedCalls()
        for _ in range(20):
            watched.deadline = self.clock.seconds() + 0.5
            self.assertEqual(self.clock.getDelayedCalls(), timers)
        self.clock.advance(0.4)
        watched.deadline = 5.0
        self.pass_time(2)
        self.assertEqual(self.passed, [])

    def test_next(self) -> None:
        """What is called when a deadline passes may set the next one."""
        watched = self.watch(0.5)

        def again() -> None:
            self.passed.append(self.clock.seconds())
            watched.deadline = self.clock.seconds() + 0.5

        watched.expired = again
        self.pass_time(1.8)
        self.assertEqual(len(self.passed), 3)

    def test_forgotten(self) -> None:
        """A forgotten deadline never passes; forgetting it twice is no fault."""
        watched = self.watch(0.5)
        self.deadlines.forget(watched)
        self.deadlines.forget(watched)
        self.pass_time(1)
        self.assertEqual(self.passed, [])

    def test_nothing_left(self) -> None:
        """While nothing is watched no timer is left, and with the next there is one again."""
        first = self.watch(0.5)
        self.assertEqual((len(self.deadlines), len(self.clock.getDelayedCalls())), (1, 1))
        self.deadlines.forget(first)
        self.clock.advance(RESOLUTION)
        self.assertEqual((len(self.deadlines), self.clock.getDelayedCalls()), (0, []))
        self.watch(self.clock.seconds() + 0.5)
        self.pass_time(1)
        self.assertEqual(len(self.passed), 1)

    def test_one_timer(self) -> None:
        """A thousand deadlines cost one timer."""
        for _ in range(1000):
            self.watch(5.0)
        self.assertEqual(len(self.clock.getDelayedCalls()), 1)
        self.clock.advance(1)
        self.assertEqual(len(self.clock.getDelayedCalls()), 1)

    def test_watched_while_passing(self) -> None:
        """What one deadline's passing watches is swept too, and still by one timer."""
        watched = self.watch(0.5)
        watched.expired = lambda: self.deadlines.forget(watched) or self.watch(1.0)  # type: ignore[func-returns-value]
        self.pass_time(0.7)
        self.assertEqual(len(self.clock.getDelayedCalls()), 1)
        self.pass_time(1)
        self.assertEqual(len(self.passed), 1)
