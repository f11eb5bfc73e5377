"""Deadlines that cost nothing to move, on a clock that nobody can set.

A timer that is cancelled and set again for each chunk of each stream would be most of a stream's
work. A deadline here is a number that its owner assigns; one sweep, ten times a second while there
is anything to watch, calls those whose deadline has passed.

Nor does each sweep look at all of them: of five thousand idle connections most have a minute left.
What has more than `FAR` seconds left is looked at once in `FAR` seconds.

A reactor runs its timers before it reads its sockets. After a second in which it was busy, a
deadline of that second would therefore pass although the bytes that would have moved it have been
in the kernel all along. So a sweep has two steps with one event loop iteration between them: the
first notes the time, the second, when whatever had arrived by then was read, looks at the deadlines
before that time.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, Protocol

from twisted.internet.base import ReactorBase
from twisted.internet.interfaces import IDelayedCall, IReactorTime

RESOLUTION = 0.1
"""Seconds between two sweeps: how late a deadline may be."""

FAR = 1.0
"""Seconds that a deadline is away where it need not be looked at in each sweep."""

NEVER = float("inf")
"""A deadline that does not pass."""


class Watched(Protocol):
    """What has a `deadline`, in seconds on the reactor's clock, and is called when it has passed.

    The sweep sets `deadline` to `NEVER` and then calls `expired`, so that `expired` may set the
    next one. What `expired` raises is logged by the reactor; the remaining deadlines are looked at
    in the next sweep.
    """

    deadline: float

    def expired(self) -> None: ...


class Deadlines:
    """The deadlines of one process on one clock.

    Owners call `watch` once, assign their `deadline` as often as they like, and call `forget` when
    they have none any more. One who moves it to within `FAR` seconds calls `watch` again, or it may
    be so much late. After `forget`, `expired` is not called, not even by a sweep that is under way.
    """

    def __init__(self, clock: IReactorTime) -> None:
        """Make one that watches nothing, and so sets no timer yet. `now`, the clock's time in
        seconds, is for all who set deadlines on it."""
        self.now = clock.seconds
        self.clock = clock
        # Those that each sweep looks at, and those that are far away: some may be in both.
        self._near: set[Watched] = set()
        self._far: set[Watched] = set()
        self._far_looked_at = self.now()
        self._timer: IDelayedCall | None = None

    def __len__(self) -> int:
        """Return how many are watched, for the tests that nothing is left behind."""
        return len(self._near | self._far)

    def watch(self, one: Watched) -> None:
        """Look at the deadline of `one` from now on: in each sweep, until it turns out to be far
        away.

        Called again it makes sure that one which was far away is looked at in each sweep.
        """
        self._near.add(one)
        if self._timer is None:
            self._timer = self.clock.callLater(RESOLUTION, self._sweep)

    def forget(self, one: Watched) -> None:
        """Look at the deadline of `one` no more; raises nothing where it was not watched."""
        self._near.discard(one)
        self._far.discard(one)

    def soon(self, call: Callable[[], None]) -> None:
        """Call `call` in the next event loop iteration, between two looks at the sockets. Called
        where the server's connections take turns."""
        self.clock.callLater(0, call)

    def _sweep(self) -> None:
        """Do the first step: note the time, and let the reactor read what has arrived by now.
        Called by the timer, `RESOLUTION` seconds after the last one."""
        now = self.now()
        if now - self._far_looked_at >= FAR:
            self._sort(now)
        if any(one.deadline <= now for one in self._near):
            self._timer = self.clock.callLater(0, self._expire, now)
        else:
            self._next_sweep()

    def _expire(self, now: float) -> None:
        """Do the second step: what is still due at `now` has expired. What `expired` raises goes to
        the reactor, which logs it, and the next sweep comes all the same. Called by the timer that
        `_sweep` sets."""
        try:
            for one in [one for one in self._near if one.deadline <= now]:
                # One that expired before it in this loop may have ended or moved it.
                if one in self._near and one.deadline <= now:
                    one.deadline = NEVER
                    one.expired()
        finally:
            self._next_sweep()

    def _sort(self, now: float) -> None:
        """Look at all of them: which ones come before this is done again, with a sweep to spare.
        For `_sweep`, once in `FAR` seconds."""
        self._far_looked_at, soon = now, now + FAR + 2 * RESOLUTION
        watched = self._near | self._far
        self._near = {one for one in watched if one.deadline <= soon}
        self._far = watched - self._near

    def _next_sweep(self) -> None:
        """Set the timer of the next sweep, or none where nothing is watched."""
        watching = self._near or self._far
        self._timer = self.clock.callLater(RESOLUTION, self._sweep) if watching else None


def use_monotonic_clock(reactor: Any) -> None:
    """Have every `callLater`, and all who ask the reactor for the time, use a clock that is never
    set back or forward.

    Twisted's reactors go by `time.time`: set back by an hour, no deadline passes for an hour; set
    forward, all pass at once. `makeService` and `infergate check` call this before anything is
    scheduled, since a timer keeps the clock that it was made with. A test's clock is left alone.
    """
    if isinstance(reactor, ReactorBase):
        reactor.seconds = time.monotonic
