"""Long work in slices."""

from __future__ import annotations

from collections.abc import Iterator

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from infergate.reactor.slices import SLICE, gathered, in_slices


class Slices(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.steps = 0

    def work(self, steps: int, seconds: float) -> Iterator[int]:
        for step in range(steps):
            self.clock.rightNow += seconds
            self.steps += 1
            yield step

    def test_short_work_is_done_at_once(self) -> None:
        """What fits into one slice waits for nobody."""
        self.assertEqual(
            self.successResultOf(in_slices(gathered(self.work(9, 0)), self.clock)), [*range(9)]
        )
        self.assertEqual(self.successResultOf(in_slices(gathered(iter(())), self.clock)), [])

    def test_long_work_gives_way(self) -> None:
        """After each slice everybody else has a turn."""
        done = in_slices(gathered(self.work(10, SLICE * 0.6)), self.clock)
        seen = [self.steps]
        while not done.called:
            self.clock.calls.pop().func()
            seen.append(self.steps)
        self.assertEqual(self.successResultOf(done), [*range(10)])
        self.assertEqual(seen, [2, 4, 6, 8, 10, 10])

    def test_work_that_fails(self) -> None:
        """Whoever asked for it is told."""

        def fails() -> Iterator[int]:
            yield 1
            raise ZeroDivisionError

        self.failureResultOf(in_slices(gathered(fails()), self.clock), ZeroDivisionError)

    def test_cancelled_work_stops(self) -> None:
        """Nothing more of it is done."""
        done = in_slices(gathered(self.work(10, SLICE)), self.clock)
        done.addErrback(lambda _: None)
        done.cancel()
        self.clock.advance(1)
        self.assertEqual(self.steps, 1)
