"""Limits that hold across processes, with a Redis that says what the test wants."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from twisted.internet.defer import Deferred, fail, succeed
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from infergate.access.account import Account, of_address, of_caller
from infergate.access.limits import ILimits, LocalLimits, Verdict
from infergate.access.policy import Policy, TokenLimit
from infergate.access.ratelimit import Decision, Rate
from infergate.access.scripts import ASK, CHARGE
from infergate.access.shared import RedisAway, SharedLimits
from infergate.errors import LimitsUnavailable

NOW = 10.0 * 86400


class Link:
    """Answers questions with `answer`, unless it is not up."""

    def __init__(self) -> None:
        self.up = True
        self.answer: list[Any] = [1, "0"]
        self.run_with: list[tuple[str, Sequence[str], str]] = []

    def run(self, script: str, keys: Sequence[str], text: str) -> Deferred[Any]:
        if not self.up:
            return fail(RedisAway())
        self.run_with.append((script, keys, text))
        return succeed(" ".join(map(str, self.answer)))


class Shared(SynchronousTestCase):
    policy = Policy(rate=Rate(60, 60), tokens=(TokenLimit(100, "day"), TokenLimit(900, "month")))

    def setUp(self) -> None:
        self.link = Link()
        self.local = LocalLimits(lambda: NOW, lambda: NOW)
        self.limits = SharedLimits(self.link, self.local)
        self.alice = of_caller("alice", self.policy)

    def asked(self, account: Account, *, costs: bool = True) -> Verdict:
        verdict = self.limits.ask(account, costs)
        return verdict if isinstance(verdict, Verdict) else self.successResultOf(verdict)


class Asking(Shared):
    def test_interface(self) -> None:
        """These are limits."""
        verifyObject(ILimits, self.limits)

    def test_one_question_for_all_limits(self) -> None:
        """The script gets each limit, and what this process knows of each budget."""
        self.local.charge(self.alice, 7)
        self.link.answer = [1, "1000000.000000", "40", "3600.500000", "400", "86400"]
        verdict = self.asked(self.alice)
        ((script, keys, text),) = self.link.run_with
        self.assertIs(script, ASK)
        self.assertEqual(
            keys,
            [
                "infergate:rate:60/60:caller alice",
                "infergate:tokens:day:alice",
                "infergate:tokens:month:alice",
            ],
        )
        day, month = self.local.began("day"), self.local.began("month")
        self.assertEqual(text, f"1 1 60 60 day 100 7 {day} month 900 7 {month}")
        self.assertEqual(verdict.rate, Decision(True, 60, 59, 1.0, 0))
        self.assertEqual([spent.used for spent in verdict.tokens], [40, 400])
        self.assertEqual(verdict.tokens[0].reset, 3600.5)

    def test_refused_by_the_rate(self) -> None:
        """A refused caller comes back when the bucket has room, and not before."""
        self.link.answer = [0, "59500000.000000", "0", "60", "0", "60"]
        verdict = self.asked(self.alice)
        self.assertEqual((verdict.refused_by, verdict.retry_after), ("rate", 1))

    def test_refused_by_the_tokens(self) -> None:
        """Over its tokens a caller is refused what costs some."""
        self.link.answer = [1, "0", "100", "99.5", "0", "60"]
        self.assertEqual(self.asked(self.alice).retry_after, 100)
        self.assertIsNone(self.asked(self.alice, costs=False).refused_by)

    def test_callers_without_limits_are_not_asked_about(self) -> None:
        """They cost no round trip."""
        self.assertEqual(self.asked(of_caller("bob", Policy())), Verdict())
        self.assertEqual(self.link.run_with, [])

    def test_look_takes_nothing(self) -> None:
        """The script is told so, and nothing is refused."""
        self.link.answer = [0, "60000000", "100", "60", "0", "60"]
        look = self.limits.look(self.alice)
        assert not isinstance(look, Verdict)
        self.assertIsNone(self.successResultOf(look).refused_by)
        self.assertTrue(self.link.run_with[0][2].startswith("0 0 "))

    def test_names_of_any_length_are_keys(self) -> None:
        """A token's `sub` may be 8 KB long, and hold anything."""
        self.asked(of_caller("ü" * 5000, Policy(rate=Rate(1, 1))))
        (key,) = self.link.run_with[0][1]
        self.assertLess(len(key), 80)
        self.assertTrue(key.isascii())


class Away(Shared):
    def test_each_process_counts_for_itself(self) -> None:
        """And goes on with the tokens that Redis told it of last."""
        self.link.answer = [1, "0", "99", "3600", "0", "60"]
        self.asked(self.alice)
        self.link.up = False
        self.assertEqual([spent.used for spent in self.asked(self.alice).tokens], [99])
        self.limits.charge(self.alice, 1)
        self.assertEqual(self.asked(self.alice).refused_by, "tokens")

    def test_refuses_who_has_limits_where_that_is_set(self) -> None:
        """Others are let in, and a wrong key is a wrong key."""
        self.limits = SharedLimits(self.link, self.local, refuse=True)
        self.link.up = False
        asked = self.limits.ask(self.alice, True)
        assert not isinstance(asked, Verdict)
        self.failureResultOf(asked, LimitsUnavailable)
        self.assertEqual(self.asked(of_caller("bob", Policy())), Verdict())
        stranger = of_address("192.0.2.1", Policy(rate=Rate(1, 60)), refused=True)
        self.assertIsNone(self.asked(stranger).refused_by)
        self.assertEqual(self.asked(stranger).refused_by, "rate")

    def test_what_could_not_be_charged_is_charged_later(self) -> None:
        """Once for each caller, with all that it owes."""
        self.link.up = False
        self.limits.charge(self.alice, 3)
        self.limits.charge(self.alice, 4)
        self.link.up = True
        self.limits.settle()
        self.limits.settle()
        ((script, keys, text),) = self.link.run_with
        self.assertIs(script, CHARGE)
        self.assertEqual(keys, ["infergate:tokens:day:alice", "infergate:tokens:month:alice"])
        day, month = self.local.began("day"), self.local.began("month")
        self.assertEqual(text, f"7 day 7 {day} month 7 {month}")
