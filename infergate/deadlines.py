"""Deadlines that cost nothing to move.

A timer that is cancelled and set again for each piece of each stream would be most of a
stream's work. A deadline here is a number that its owner moves as it likes; one sweep, ten
times a second while there is anything to watch, calls those that have passed.
"""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.interfaces import IDelayedCall, IReactorTime

RESOLUTION = 0.1
"""Seconds between two sweeps: how late a deadline may be."""

NEVER = float("inf")


class Deadline:
    """A moment, ``at``, on the clock's scale, and what to call when it has passed.

    The sweep calls `expired` once and sets ``at`` to `NEVER` first, so that `expired` may
    set the next one.
    """

    __slots__ = ("at", "expired")

    def __init__(self, expired: Callable[[], None], at: float = NEVER) -> None:
        self.at = at
        self.expired = expired


class Deadlines:
    """The deadlines of one process on one clock."""

    def __init__(self, clock: IReactorTime) -> None:
        self.now = clock.seconds
        self._clock = clock
        self._watched: set[Deadline] = set()
        self._sweep: IDelayedCall | None = None

    def __len__(self) -> int:
        return len(self._watched)

    def watch(self, deadline: Deadline) -> None:
        self._watched.add(deadline)
        if self._sweep is None:
            self._sweep = self._clock.callLater(RESOLUTION, self._run)

    def forget(self, deadline: Deadline) -> None:
        self._watched.discard(deadline)

    def _run(self) -> None:
        self._sweep = None
        now = self.now()
        try:
            for deadline in [d for d in self._watched if d.at <= now]:
                deadline.at = NEVER
                deadline.expired()
        finally:
            if self._watched and self._sweep is None:
                self._sweep = self._clock.callLater(RESOLUTION, self._run)
