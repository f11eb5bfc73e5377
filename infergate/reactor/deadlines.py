"""Deadlines that cost nothing to move.

A timer that is cancelled and set again for each piece of each stream would be most of a
stream's work. A deadline here is a number that its owner moves as it likes; one sweep, ten
times a second while there is anything to watch, calls those whose own has passed.
"""

from __future__ import annotations

from typing import Protocol

from twisted.internet.interfaces import IDelayedCall, IReactorTime

RESOLUTION = 0.1
"""Seconds between two sweeps: how late a deadline may be."""

NEVER = float("inf")


class Watched(Protocol):
    """What has a `deadline`, a moment on the clock's scale, and is called when it has passed.

    The sweep calls `expired` once and sets `deadline` to `NEVER` first, so that `expired` may
    set the next one.
    """

    deadline: float

    def expired(self) -> None: ...


class Deadlines:
    """The deadlines of one process on one clock."""

    def __init__(self, clock: IReactorTime) -> None:
        self.now = clock.seconds
        self._clock = clock
        self._watched: set[Watched] = set()
        self._sweep: IDelayedCall | None = None

    def __len__(self) -> int:
        return len(self._watched)

    def watch(self, one: Watched) -> None:
        self._watched.add(one)
        if self._sweep is None:
            self._sweep = self._clock.callLater(RESOLUTION, self._run)

    def forget(self, one: Watched) -> None:
        self._watched.discard(one)

    def _run(self) -> None:
        self._sweep = None
        now = self.now()
        try:
            for one in [one for one in self._watched if one.deadline <= now]:
                one.deadline = NEVER
                one.expired()
        finally:
            if self._watched and self._sweep is None:
                self._sweep = self._clock.callLater(RESOLUTION, self._run)
