"""Rates and token budgets, in the memory of one process."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from infergate.access.account import Account, of_address, of_caller
from infergate.access.limits import ILimits, LocalLimits, Verdict, token_fields
from infergate.access.policy import Policy, TokenLimit
from infergate.access.ratelimit import Rate

DAY = 86400


def account(policy: Policy, name: str = "alice", user: str | None = None) -> Account:
    return of_caller(name, policy, user)


class Limits(SynchronousTestCase):
    def setUp(self) -> None:
        self.monotonic = 50.0
        self.wall = 10.0 * DAY + 100.5
        self.limits = LocalLimits(lambda: self.monotonic, lambda: self.wall)

    def ask(self, of: Account, *, costs: bool = True) -> Verdict:
        return self.limits.ask(of, costs)


class Rates(Limits):
    def test_interface(self) -> None:
        """These are limits."""
        verifyObject(ILimits, self.limits)

    def test_no_limit_says_nothing(self) -> None:
        """A caller without limits is let in and told nothing."""
        self.assertEqual(self.ask(account(Policy())), Verdict())

    def test_each_caller_has_its_own_rate(self) -> None:
        """One that is used up is refused, whatever the others have left."""
        slow = account(Policy(rate=Rate(1, 60)))
        quick = account(Policy(rate=Rate(3, 60)), "bob")
        self.assertIsNone(self.ask(slow).refused_by)
        refused = self.ask(slow)
        self.assertEqual((refused.refused_by, refused.retry_after), ("rate", 60))
        self.assertIsNone(self.ask(quick).refused_by)

    def test_changed_rate_begins_anew(self) -> None:
        """After a reload with another rate the caller has all of it."""
        self.ask(account(Policy(rate=Rate(1, 60))))
        self.assertIsNone(self.ask(account(Policy(rate=Rate(2, 60)))).refused_by)

    def test_rates_that_nobody_has_any_more_are_forgotten(self) -> None:
        """However often a reload changes a rate, memory holds those whose buckets are not full."""
        for count in range(1, 101):
            self.assertIsNone(self.ask(account(Policy(rate=Rate(count, 60)))).refused_by)
            self.monotonic += 60
        self.assertLessEqual(len(self.limits._rates), 3)
        # An hour is not over, whatever came meanwhile.
        slow = account(Policy(rate=Rate(1, 3600)))
        self.ask(slow)
        for count in range(1, 20):
            self.monotonic += 60
            self.ask(account(Policy(rate=Rate(count, 60))))
        self.assertEqual(self.ask(slow).refused_by, "rate")

    def test_addresses_and_callers_do_not_share(self) -> None:
        """Nor do the wrong keys of an address and those who need none."""
        policy = Policy(rate=Rate(1, 60))
        for one in (
            account(policy, "192.0.2.1"),
            of_address("192.0.2.1", policy),
            of_address("192.0.2.1", policy, refused=True),
        ):
            self.assertIsNone(self.ask(one).refused_by)

    def test_a_look_takes_nothing(self) -> None:
        """Nor does it refuse."""
        one = account(Policy(rate=Rate(1, 60), tokens=(TokenLimit(5, "day"),)))
        for _ in range(3):
            verdict = self.limits.look(one)
            assert verdict.rate is not None
            self.assertEqual((verdict.rate.remaining, verdict.refused_by), (1, None))
        self.ask(one)
        self.assertEqual(self.limits.look(one).rate.remaining, 0)  # type: ignore[union-attr]


class Tokens(Limits):
    def test_used_up_at_n(self) -> None:
        """A budget of 10 lets in at 9 and not at 10, until its window is over."""
        one = account(Policy(tokens=(TokenLimit(10, "day"),)))
        self.limits.charge(one, 9)
        self.assertIsNone(self.ask(one).refused_by)
        self.limits.charge(one, 1)
        refused = self.ask(one)
        self.assertEqual(refused.refused_by, "tokens")
        self.assertEqual(refused.retry_after, DAY - 100)
        self.wall = 11.0 * DAY
        self.assertIsNone(self.ask(one).refused_by)

    def test_what_costs_nothing_is_not_refused(self) -> None:
        """To count tokens, or to ask for the models, is still allowed."""
        one = account(Policy(tokens=(TokenLimit(10, "day"),)))
        self.limits.charge(one, 10)
        self.assertIsNone(self.ask(one, costs=False).refused_by)

    def test_refused_for_tokens_takes_nothing_from_the_rate(self) -> None:
        """What one limit refuses takes nothing from another."""
        one = account(Policy(rate=Rate(1, 60), tokens=(TokenLimit(10, "day"),)))
        self.limits.charge(one, 10)
        self.ask(one)
        self.wall = 11.0 * DAY
        self.assertIsNone(self.ask(one).refused_by)

    def test_longer_wait_is_the_true_one(self) -> None:
        """Where both refuse, the one that lets in later says when."""
        one = account(Policy(rate=Rate(1, 3600), tokens=(TokenLimit(1, "minute"),)))
        self.ask(one)
        self.limits.charge(one, 1)
        refused = self.ask(one)
        self.assertEqual((refused.refused_by, refused.retry_after), ("rate", 3600))

    def test_header_fields_show_the_budget_with_least_left(self) -> None:
        """Never below 0, without the exchange that they stand on."""
        one = account(Policy(tokens=(TokenLimit(1000, "day"), TokenLimit(100, "minute"))))
        self.limits.charge(one, 30)
        self.assertEqual(
            token_fields(self.ask(one).tokens),
            b"x-ratelimit-limit-tokens: 100\r\n"
            b"x-ratelimit-remaining-tokens: 70\r\n"
            b"x-ratelimit-reset-tokens: 20s",
        )
        self.limits.charge(one, 1000)
        self.assertIn(b"-remaining-tokens: 0\r\n", token_fields(self.ask(one).tokens))

    def test_people_behind_a_key_have_limits_of_their_own(self) -> None:
        """And so has the key itself, without a name of a person."""
        policy = Policy(tokens=(TokenLimit(10, "day"),))
        self.limits.charge(account(policy, user="ann"), 10)
        self.assertEqual(self.ask(account(policy, user="ann")).refused_by, "tokens")
        self.assertIsNone(self.ask(account(policy, user="ben")).refused_by)
        self.assertIsNone(self.ask(account(policy)).refused_by)

    def test_used_tokens_stay_when_the_budget_changes(self) -> None:
        """A reload neither gives nor takes."""
        self.limits.charge(account(Policy(tokens=(TokenLimit(10, "day"),))), 10)
        more = account(Policy(tokens=(TokenLimit(20, "day"),)))
        self.assertEqual(self.ask(more).tokens[0].remaining, 10)

    def test_begins_from_the_ledger(self) -> None:
        """What was used before a restart, and by other processes, counts."""
        self.limits.learn("day", 10 * DAY, {"alice": 10, "alice/ann": 9})
        policy = Policy(tokens=(TokenLimit(10, "day"),))
        self.assertEqual(self.ask(account(policy)).refused_by, "tokens")
        self.assertEqual(self.ask(account(policy, user="ann")).tokens[0].remaining, 1)
