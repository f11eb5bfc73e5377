"""The budgets of a day, a week or a month, taken over from the ledger."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Protocol

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime

from infergate.access.limits import LocalLimits
from infergate.access.roster import Roster
from infergate.access.windows import LASTING, bounds
from infergate.ledger.schema import StoreAway

REFRESH = 30.0
"""Seconds after which they are read anew: other processes may add to the same ledger."""


class Source(Protocol):
    """What is asked of the ledger; both fail with `StoreAway`."""

    def tokens_now(self, since: int) -> Mapping[str, int]: ...
    async def tokens(self, since: int) -> Mapping[str, int]: ...


class Budgets:
    """Begins the lasting windows from the ledger, and keeps them right where several processes
    share it. `begin` blocks, and is called before the gateway listens; then `start`, and `stop` at
    the end. `roster` gives the current one."""

    def __init__(
        self,
        ledger: Source,
        limits: LocalLimits,
        roster: Callable[[], Roster],
        clock: IReactorTime,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self._ledger = ledger
        self._limits = limits
        self._roster = roster
        self._clock = clock
        self._wall = wall
        self._waiting: IDelayedCall | None = None
        self._reading = False

    def begin(self) -> None:
        """Read what was used before this process began. A ledger that is away is read later."""
        try:
            for window in self._windows():
                began = bounds(window, self._wall())[0]
                self._limits.learn(window, began, self._ledger.tokens_now(began))
        except StoreAway:
            pass  # the ledger says so in the log

    def start(self) -> None:
        self._waiting = self._clock.callLater(REFRESH, self._refresh)

    def stop(self) -> None:
        if self._waiting is not None:
            self._waiting.cancel()
            self._waiting = None

    def _windows(self) -> list[str]:
        lasting = self._roster().policies.windows
        return [window for window in LASTING if window in lasting]

    def refresh(self) -> Deferred[None]:
        """Read them now; never fails."""
        return Deferred.fromCoroutine(self._read()).addErrback(lambda _: None)

    def _refresh(self) -> None:
        self._waiting = self._clock.callLater(REFRESH, self._refresh)
        if not self._reading:
            self._reading = True
            self.refresh().addCallback(self._was_read)

    async def _read(self) -> None:
        for window in self._windows():
            began = bounds(window, self._wall())[0]
            self._limits.learn(window, began, await self._ledger.tokens(began))

    def _was_read(self, _: object) -> None:
        self._reading = False
