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
from contextlib import suppress
from typing import Protocol

import attrs
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import LoopingCall
from twisted.logger import Logger
from twisted.python.failure import Failure

from infergate.access.limits import LocalLimits
from infergate.access.roster import Roster
from infergate.access.windows import LASTING, bounds
from infergate.ledger.schema import StoreAway

REFRESH = 30.0
"""Seconds between two readings of the ledger, to which other processes may add too."""

_log = Logger(namespace="infergate")


class Source(Protocol):
    """The part of the ledger (`writer.Ledger`) that is asked: the tokens of each caller since the
    hour of `since`, in seconds since 1970. `tokens_now` blocks and is for the time before the
    start, `tokens` is for the time after it. Both fail with `StoreAway` where the database gives no
    answer."""

    def tokens_now(self, since: int) -> Mapping[str, int]: ...
    async def tokens(self, since: int) -> Mapping[str, int]: ...


@attrs.define(eq=False, repr=False)
class Budgets:
    """Begins the lasting windows from the ledger, and keeps them right where several processes
    share it.

    Made by `wiring.callers.lasting`, which calls `begin` before the gateway listens: it blocks.
    `start` follows once the ports listen, and `stop` at the end, as of every part of the service;
    `refresh` is called by its own timer, and by the connection to Redis (`before_up`). `roster`
    gives the current one, whose policies say which windows are needed at all.
    """

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
        """Read what was used before this process began, blocking the process until the database has
        answered. Raises nothing where the ledger is away, which the ledger itself says in the log:
        `refresh` reads it later."""
        with suppress(StoreAway):
            for window in self._windows():
                began = bounds(window, self._wall())[0]
                self._limits.learn(window, began, self._ledger.tokens_now(began))

    def start(self) -> None:
        """Begin to read the ledger anew each `REFRESH` seconds; the first time after `REFRESH`,
        since `begin` has just read it."""
        self._loop.start(REFRESH, now=False)

    def stop(self) -> None:
        """Read the ledger no more. A stop without a start does nothing."""
        if self._loop.running:
            self._loop.stop()

    def _windows(self) -> list[str]:
        """Return the names of those windows that last (`windows.LASTING`) and in which somebody's
        tokens are limited now: the others need not be read. Called before each reading."""
        lasting = self._roster().policies.windows
        return [window for window in LASTING if window in lasting]

    def refresh(self) -> Deferred[None]:
        """Read the windows from the ledger now. The Deferred fires when all of them have been taken
        over, or when one could not be read; it never fails, and the counts then stay as they are.
        """
        return Deferred.fromCoroutine(self._read()).addErrback(_not_read)

    async def _read(self) -> None:
        """Take over each window in which anybody has a budget, one question after another; raises
        `StoreAway` at the first that the ledger does not answer. Called by `refresh`."""
        for window in self._windows():
            began = bounds(window, self._wall())[0]
            self._limits.learn(window, began, await self._ledger.tokens(began))


def _not_read(failure: Failure) -> None:
    """Pass over a ledger that is away, which it says in the log itself, and a reading that was
    cancelled; log any other fault. Called by `Budgets.refresh`."""
    if not failure.check(StoreAway, CancelledError):
        _log.failure("The budgets were not read from USAGE_DB", failure)
