"""Tokens used in the current windows."""

from __future__ import annotations

import random

from twisted.trial.unittest import SynchronousTestCase

from infergate.access.policy import TokenLimit
from infergate.access.spending import Spending

DAY = 86400


class TwoCallers(SynchronousTestCase):
    """Room for two."""

    def setUp(self) -> None:
        self.now = 10.0 * DAY
        self.spending = Spending(lambda: self.now, capacity=2)


class Counting(TwoCallers):
    def test_each_window_begins_anew(self) -> None:
        """What was used yesterday is no longer counted, what was used this month is."""
        for window in ("day", "month"):
            self.spending.add("alice", [TokenLimit(1, window)], 30)
            self.spending.add("alice", [TokenLimit(1, window)], 12)
        self.now += DAY
        self.assertEqual(self.spending.used("alice", "day"), 0)
        self.assertEqual(self.spending.used("alice", "month"), 42)

    def test_callers_do_not_share(self) -> None:
        """Each has its own."""
        self.spending.add("alice", [TokenLimit(1, "day")], 30)
        self.assertEqual(self.spending.used("bob", "day"), 0)

    def test_one_idle_longest_makes_room(self) -> None:
        """Memory is bounded, and who has just come is not forgotten."""
        for caller in ("alice", "bob", "alice", "carol"):
            self.spending.add(caller, [TokenLimit(1, "day")], 1)
        self.assertEqual(len(self.spending), 2)
        self.assertEqual(self.spending.used("alice", "day"), 2)


class Tightest(SynchronousTestCase):
    def test_short_cut_says_what_counting_each_window_says(self) -> None:
        """Whatever is asked, charged, told by a ledger and over meanwhile, in whichever order: a
        caller stands as it does where each window is counted at once."""
        dice = random.Random(13)
        for _ in range(40):
            now = [10.0 * DAY]
            quick, plain = (Spending(lambda: now[0], capacity=2) for _ in range(2))  # noqa: B023
            windows = dice.sample(("minute", "hour", "day", "month"), 3)
            budgets = tuple(TokenLimit(dice.randrange(5, 60), window) for window in windows)
            for _ in range(80):
                who, tokens = dice.choice("abc"), dice.randrange(9)
                step = dice.random()
                if step < 0.1:
                    now[0] += dice.choice((1, 59, 3600, DAY))
                elif step < 0.15:
                    window = dice.choice(windows)
                    began = quick.bounds(window)[0]
                    for one in (quick, plain):
                        one.learn(window, began, {who: tokens})
                elif step < 0.2:
                    self.assertEqual(dict(quick.current()), dict(plain.current()))
                elif step < 0.6:
                    quick.add(who, budgets, tokens)
                    plain.add(who, list(budgets), tokens)
                else:
                    found = quick.tightest(who, budgets)
                    self.assertEqual(found, plain.tightest(who, list(budgets)))


class Learning(TwoCallers):
    def test_ledger_stands_over_what_was_counted(self) -> None:
        """It holds what this process has counted, and what others have."""
        self.spending.add("alice", [TokenLimit(1, "day")], 30)
        self.spending.learn("day", 10 * DAY, {"alice": 100})
        self.assertEqual(self.spending.used("alice", "day"), 100)
        self.spending.add("alice", [TokenLimit(1, "day")], 5)
        self.assertEqual(self.spending.used("alice", "day"), 105)

    def test_who_comes_later_begins_with_what_is_known(self) -> None:
        """After a restart a budget goes on where it was."""
        self.spending.learn("day", 10 * DAY, {"alice": 100})
        self.spending.add("alice", [TokenLimit(1, "day")], 5)
        self.assertEqual(self.spending.used("alice", "day"), 105)

    def test_what_is_known_of_yesterday_is_not_todays(self) -> None:
        """An answer that comes after midnight is forgotten, and so is one that came before it."""
        self.spending.learn("day", 10 * DAY, {"alice": 100})
        self.now += DAY
        self.assertEqual(self.spending.used("alice", "day"), 0)
        self.spending.learn("day", 10 * DAY, {"bob": 100})
        self.assertEqual(self.spending.used("bob", "day"), 0)
