"""Who is known, and on whose account a request goes."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from infergate.access.policy import Policies, Policy
from infergate.access.ratelimit import Rate
from infergate.access.roster import MAX_PERSON, Roster


class Accounts(SynchronousTestCase):
    shared = Policy(concurrent=2, user_field=b"x-user")
    roster = Roster(policies=Policies(Policy(), {"chat": shared}), rate_limit=Rate(5, 60))

    def name(self, *values: bytes) -> str | None:
        return self.roster.account("chat", {b"x-user": values}).name

    def test_caller_has_the_policy_of_its_name(self) -> None:
        """A name with rules of its own has these, any other what holds for everybody."""
        self.assertIs(self.roster.account("chat", {}).policy, self.shared)
        self.assertEqual(self.roster.account("other", {}).policy, Policy())

    def test_person_is_named_only_where_the_policy_asks_for_it(self) -> None:
        """A header field splits the account of a shared key, and of no other."""
        self.assertEqual(self.name(b"ann@example.org"), "chat/ann@example.org")
        self.assertEqual(self.roster.account("other", {b"x-user": [b"ann"]}).name, "other")

    def test_what_is_no_name_counts_as_the_callers_own(self) -> None:
        """A field that is there twice, too long, or not visible ASCII never reaches a log."""
        long = b"a" * MAX_PERSON
        self.assertEqual(self.name(long), f"chat/{long.decode()}")
        for values in ((), (b"",), (b"a", b"b"), (long + b"a",), (b"a b",), (b"a\n",), (b"\xe4",)):
            self.assertEqual(self.name(*values), "chat", values)

    def test_stranger_has_the_rate_limit_and_nothing_else(self) -> None:
        """An address is held to RATE_LIMIT, its wrong keys are counted apart from its requests."""
        asks, fails = self.roster.stranger("::1"), self.roster.stranger("::1", refused=True)
        self.assertEqual(asks.policy, Policy(rate=Rate(5, 60)))
        self.assertNotEqual(asks.bucket, fails.bucket)
        self.assertEqual((asks.is_refused, fails.is_refused, asks.name), (False, True, None))
