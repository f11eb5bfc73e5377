"""Budgets that a restart does not begin anew."""

from __future__ import annotations

from collections.abc import Mapping

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from infergate.access.account import of_caller
from infergate.access.budgets import REFRESH, Budgets
from infergate.access.limits import LocalLimits
from infergate.access.policy import Policies, Policy, TokenLimit
from infergate.access.roster import Roster
from infergate.access.windows import bounds
from infergate.ledger.schema import StoreAway

NOW = 1_790_000_000.0


class Ledger:
    """Says for every window what `used` says, unless it is away."""

    def __init__(self) -> None:
        self.used: dict[str, int] = {}
        self.away = False
        self.asked: list[int] = []

    def tokens_now(self, since: int) -> Mapping[str, int]:
        self.asked.append(since)
        if self.away:
            raise StoreAway("gone")
        return dict(self.used)

    async def tokens(self, since: int) -> Mapping[str, int]:
        return self.tokens_now(since)


class Refreshing(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock, self.ledger = Clock(), Ledger()
        self.limits = LocalLimits(self.clock.seconds, lambda: NOW)
        self.use(TokenLimit(100, "minute"), TokenLimit(1000, "day"), TokenLimit(9000, "month"))
        self.budgets = Budgets(
            self.ledger, self.limits, lambda: self.roster, self.clock, lambda: NOW
        )

    def use(self, *tokens: TokenLimit) -> None:
        self.policy = Policy(tokens=tokens)
        self.roster = Roster(policies=Policies(self.policy))

    def used(self) -> list[int]:
        verdict = self.limits.look(of_caller("alice", self.policy))
        return [spent.used for spent in verdict.tokens]

    def test_lasting_windows_begin_from_the_ledger(self) -> None:
        """A minute and an hour begin anew: the rows of the ledger are hours."""
        self.ledger.used = {"alice": 500}
        self.budgets.begin()
        self.assertEqual(self.used(), [0, 500, 500])
        began = [bounds("day", NOW)[0], bounds("month", NOW)[0]]
        self.assertEqual(self.ledger.asked, began)

    def test_read_anew_each_thirty_seconds(self) -> None:
        """What other processes add to the same ledger counts."""
        self.budgets.begin()
        self.budgets.start()
        self.ledger.used = {"alice": 7}
        self.clock.advance(REFRESH)
        self.assertEqual(self.used(), [0, 7, 7])
        self.budgets.stop()
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_nothing_is_asked_where_nobody_has_a_budget(self) -> None:
        """A sum over a month is not made for nobody."""
        self.use()
        self.budgets.begin()
        self.budgets.start()
        self.clock.advance(REFRESH)
        self.assertEqual(self.ledger.asked, [])

    def test_ledger_that_is_away_is_read_later(self) -> None:
        """It neither stops the start nor forgets what was counted."""
        self.ledger.away = True
        self.budgets.begin()
        self.limits.charge(of_caller("alice", self.policy), 3)
        self.budgets.start()
        self.clock.advance(REFRESH)
        self.assertEqual(self.used(), [3, 3, 3])
        self.ledger.away, self.ledger.used = False, {"alice": 50}
        self.clock.advance(REFRESH)
        self.assertEqual(self.used(), [3, 50, 50])

    def test_fault_of_our_own_is_logged_and_read_over(self) -> None:
        """A budget that is never refreshed again would be noticed by nobody."""
        self.budgets.begin()
        self.budgets.start()
        self.patch(self.limits, "learn", lambda *_: 1 / 0)
        self.clock.advance(REFRESH)
        self.clock.advance(REFRESH)
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 2)
