"""The budgets of a day, a week or a month, taken over from the ledger.

A gateway that is restarted at noon has counted nothing of the day; its ledger has. So the counts of
these windows begin with the sums of the ledger, read before the first request comes, and each
`REFRESH` seconds they are taken over anew, since other processes may write to the same ledger. What
this process has counted is part of what it reads: the ledger adds what it has not written yet.
Minutes and hours are not taken over: a row of the ledger stands for an hour.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Protocol

import attrs
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import LoopingCall

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


@attrs.define(eq=False, repr=False)
class Budgets:
    """Begins the lasting windows from the ledger, and keeps them right where several processes
    share it. `begin` blocks, and is called before the gateway listens; then `start`, and `stop` at
    the end. `roster` gives the current one."""

    _ledger: Source
    _limits: LocalLimits
    _roster: Callable[[], Roster]
    _clock: IReactorTime
    _wall: Callable[[], float] = time.time
    _loop: LoopingCall = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self._loop = LoopingCall(self.refresh)
        self._loop.clock = self._clock

    def begin(self) -> None:
        """Read what was used before this process began. A ledger that is away is read later."""
        try:
            for window in self._windows():
                began = bounds(window, self._wall())[0]
                self._limits.learn(window, began, self._ledger.tokens_now(began))
        except StoreAway:
            pass  # the ledger says so in the log

    def start(self) -> None:
        self._loop.start(REFRESH, now=False)

    def stop(self) -> None:
        if self._loop.running:
            self._loop.stop()

    def _windows(self) -> list[str]:
        lasting = self._roster().policies.windows
        return [window for window in LASTING if window in lasting]

    def refresh(self) -> Deferred[None]:
        """Read them now; never fails."""
        return Deferred.fromCoroutine(self._read()).addErrback(lambda _: None)

    async def _read(self) -> None:
        """Take over each window in which anybody has a budget, one question after another."""
        for window in self._windows():
            began = bounds(window, self._wall())[0]
            self._limits.learn(window, began, await self._ledger.tokens(began))
