"""Deadlines that are cheap to move, and the clock that they are on."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from twisted.internet.asyncioreactor import AsyncioSelectorReactor
from twisted.internet.base import ReactorBase
from twisted.internet.epollreactor import EPollReactor
from twisted.internet.pollreactor import PollReactor
from twisted.internet.selectreactor import SelectReactor
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from infergate.reactor.deadlines import NEVER, RESOLUTION, Deadlines, use_monotonic_clock
from infergate.reactor.epoll import shorten


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

    def test_deadline_passes_in_time(self) -> None:
        """A deadline passes no sooner than it says, and no later than one sweep after."""
        for at in (0.05, 1.0, 1.23, 2.001):
            self.watch(at)
        self.pass_time(3)
        for at, passed in zip((0.05, 1.0, 1.23, 2.001), self.passed, strict=True):
            self.assertTrue(at <= passed <= at + RESOLUTION + 0.011, (at, passed))

    def test_deadline_passes_once(self) -> None:
        """A deadline passes once, and has no moment from then on."""
        watched = self.watch(0.5)
        self.pass_time(3)
        self.assertEqual(len(self.passed), 1)
        self.assertEqual(watched.deadline, NEVER)

    def test_what_is_far_away_is_seldom_looked_at(self) -> None:
        """Of many deadlines that have a minute left each sweep need not look at all; those that
        come near are met in time all the same, and those that are said to have."""
        looks: list[float] = []

        class Idle(Watched):
            def __getattribute__(self, name: str) -> Any:
                if name == "deadline":
                    looks.append(0)
                return super().__getattribute__(name)

        idle = [Idle(60.0 + n, lambda: None) for n in range(50)]
        for one in idle:
            self.deadlines.watch(one)
        far = self.watch(8.0)
        nearer = self.watch(60.0)
        self.pass_time(5)
        self.assertLess(len(looks), 50 * 2 * 7)
        nearer.deadline = 5.15
        self.deadlines.watch(nearer)
        self.pass_time(4)
        self.assertEqual((far.deadline, nearer.deadline), (NEVER, NEVER))
        for at, passed in zip((5.15, 8.0), self.passed, strict=True):
            self.assertTrue(at <= passed <= at + RESOLUTION + 0.011, (at, passed))

    def test_moving_a_deadline_starts_no_timer(self) -> None:
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

    def test_expired_may_set_the_next_deadline(self) -> None:
        """What is called when a deadline passes may set the next one."""
        watched = self.watch(0.5)

        def again() -> None:
            self.passed.append(self.clock.seconds())
            watched.deadline = self.clock.seconds() + 0.5

        watched.expired = again
        self.pass_time(1.8)
        self.assertEqual(len(self.passed), 3)

    def test_forgotten_deadline_never_passes(self) -> None:
        """A forgotten deadline never passes; forgetting it twice is no fault."""
        watched = self.watch(0.5)
        self.deadlines.forget(watched)
        self.deadlines.forget(watched)
        self.pass_time(1)
        self.assertEqual(self.passed, [])

    def test_no_timer_is_left_while_nothing_is_watched(self) -> None:
        """While nothing is watched no timer is left, and with the next there is one again."""
        first = self.watch(0.5)
        self.assertEqual((len(self.deadlines), len(self.clock.getDelayedCalls())), (1, 1))
        self.deadlines.forget(first)
        self.clock.advance(RESOLUTION)
        self.assertEqual((len(self.deadlines), self.clock.getDelayedCalls()), (0, []))
        self.watch(self.clock.seconds() + 0.5)
        self.pass_time(1)
        self.assertEqual(len(self.passed), 1)

    def test_thousand_deadlines_cost_one_timer(self) -> None:
        """A thousand deadlines cost one timer."""
        for _ in range(1000):
            self.watch(5.0)
        self.assertEqual(len(self.clock.getDelayedCalls()), 1)
        self.clock.advance(1)
        self.assertEqual(len(self.clock.getDelayedCalls()), 1)

    def test_deadline_watched_in_a_sweep_is_swept_too(self) -> None:
        """What one deadline's passing watches is swept too, and still by one timer."""
        watched = self.watch(0.5)
        watched.expired = lambda: self.deadlines.forget(watched) or self.watch(1.0)  # type: ignore[func-returns-value]
        self.pass_time(0.7)
        self.assertEqual(len(self.clock.getDelayedCalls()), 1)
        self.pass_time(1)
        self.assertEqual(len(self.passed), 1)

    def test_deadline_forgotten_in_a_sweep_does_not_pass_in_it(self) -> None:
        """What one deadline's passing forgets is not called any more, though it was due too."""
        watched = [self.watch(0.5) for _ in range(5)]

        def forget_all() -> None:
            self.passed.append(self.clock.seconds())
            for one in watched:
                self.deadlines.forget(one)

        for one in watched:
            one.expired = forget_all
        self.pass_time(2)
        self.assertEqual(len(self.passed), 1)

    def test_deadline_moved_in_a_sweep_does_not_pass_in_it(self) -> None:
        """What one deadline's passing moves into the future passes then, and not at once."""
        watched = [self.watch(0.5) for _ in range(5)]

        def move_all() -> None:
            self.passed.append(self.clock.seconds())
            for one in watched:
                one.deadline = NEVER

        for one in watched:
            one.expired = move_all
        self.pass_time(2)
        self.assertEqual(len(self.passed), 1)

    def test_failing_deadline_keeps_no_other_from_passing(self) -> None:
        """One that fails when its deadline passes leaves the others to the next sweep."""

        def fail() -> None:
            raise ValueError("mine")

        for _ in range(3):
            self.watch(0.5).expired = fail
        self.watch(0.5)
        failures = 0
        for _ in range(20):
            try:
                self.clock.advance(0.1)
            except ValueError:
                failures += 1
        self.assertEqual((failures, len(self.passed)), (3, 1))


class Stream:
    """A socket with a byte to read, which moves the deadline of what waits for it."""

    def __init__(self, near: socket.socket, waiting: Watched) -> None:
        self._near = near
        self._waiting = waiting

    def fileno(self) -> int:
        return self._near.fileno()

    def logPrefix(self) -> str:
        return "stream"

    def doRead(self) -> None:
        if self._near.recv(100):
            self._waiting.deadline = NEVER

    def connectionLost(self, reason: object) -> None:
        """Not looked at."""


def shortened() -> ReactorBase:
    reactor = EPollReactor()
    shorten(reactor)
    return reactor


class Reactors(SynchronousTestCase):
    """The same on each reactor that Twisted has here."""

    def reactors(self) -> Iterator[Any]:
        loop = asyncio.SelectorEventLoop()
        self.addCleanup(loop.close)
        for new in (
            shortened,
            EPollReactor,
            PollReactor,
            SelectReactor,
            lambda: AsyncioSelectorReactor(loop),
        ):
            reactor: Any = new()
            self.addCleanup(reactor.waker.connectionLost, None)
            yield reactor

    def test_what_has_arrived_is_read_before_a_deadline_is_looked_at(self) -> None:
        """A deadline that passed while the reactor was busy does not pass where what would have
        moved it had arrived in time, however long the reactor was busy; without it, it does."""
        for reactor in self.reactors():
            now = 100.0
            reactor.seconds = lambda: now  # noqa: B023
            deadlines = Deadlines(reactor)
            passed: list[str] = []
            heard = Watched(100.5, lambda: passed.append("heard"))  # noqa: B023
            unheard = Watched(100.5, lambda: passed.append("unheard"))  # noqa: B023
            near, far = socket.socketpair()
            self.addCleanup(near.close)
            self.addCleanup(far.close)
            stream = Stream(near, heard)
            reactor.addReader(stream)
            self.addCleanup(reactor.removeReader, stream)
            deadlines.watch(heard)
            deadlines.watch(unheard)
            reactor.iterate(0)
            far.send(b"x")
            now = 160.0
            for _ in range(30):  # asyncio's loop waits for its own clock, some 0.1 s
                reactor.iterate(0)
                if passed:
                    break
            self.assertEqual(passed, ["unheard"], reactor)

    def test_stepped_clock_moves_no_timer(self) -> None:
        """Setting the clock of the machine an hour back or forward changes no deadline."""
        wall = time.time()
        self.patch(ReactorBase, "seconds", staticmethod(lambda: wall))
        for reactor in self.reactors():
            use_monotonic_clock(reactor)
            call = reactor.callLater(5, lambda: None)
            for step in (-3600, 7200):
                wall += step
                self.assertTrue(4 < reactor.timeout() <= 5, (reactor, step))
                self.assertTrue(4 < call.getTime() - reactor.seconds() <= 5)
            call.cancel()

    def test_only_a_reactor_gets_another_clock(self) -> None:
        """A clock that tests advance stays as it is."""
        clock = Clock()
        use_monotonic_clock(clock)
        clock.advance(1)
        self.assertEqual(clock.seconds(), 1)
