"""On whose account a request is served."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from infergate.access.account import MAX_NAME, of_address, of_caller
from infergate.access.policy import Policy
from infergate.access.ratelimit import MAX_KEY_LENGTH


class Accounts(SynchronousTestCase):
    def test_person_behind_a_shared_key_has_a_name_of_its_own(self) -> None:
        """Log and ledger tell people apart who share a key; the metrics do not."""
        shared = of_caller("chat", Policy())
        self.assertEqual((shared.name, shared.label, shared.is_person), ("chat", "chat", False))
        person = of_caller("chat", Policy(), "a@b")
        self.assertEqual((person.name, person.label, person.is_person), ("chat/a@b", "chat", True))

    def test_caller_address_and_wrong_credentials_are_counted_apart(self) -> None:
        """A caller with the name of an address takes nothing from it, nor do wrong keys."""
        buckets = {
            of_caller("192.0.2.1", Policy()).bucket,
            of_address("192.0.2.1", Policy()).bucket,
            of_address("192.0.2.1", Policy(), refused=True).bucket,
        }
        self.assertEqual(len(buckets), 3)

    def test_long_names_take_no_more_memory(self) -> None:
        """A long name, or one in any script, is one caller, and the limits keep it as a short one
        that is its own."""
        names = ["x" * 8000, "x" * 8000 + "y", "名" * 30, "\ud800"]
        buckets = {of_caller(name, Policy()).bucket for name in names}
        self.assertEqual(len(buckets), len(names))
        self.assertLessEqual(max(map(len, buckets)), MAX_KEY_LENGTH)

    def test_long_name_is_written_short(self) -> None:
        """Log, metrics and ledger have no longer name than a database can find a row by, and it is
        the caller's own."""
        longest, long, other = "x" * MAX_NAME, "x" * 8000, "x" * 8000 + "y"
        self.assertEqual(of_caller(longest, Policy()).name, longest)
        account, person = of_caller(long, Policy()), of_caller(long, Policy(), "a@b")
        assert account.name is not None
        self.assertEqual((len(account.name), account.label), (MAX_NAME, account.name))
        self.assertTrue(account.name.startswith("x" * 200))
        self.assertEqual((person.name, person.label), (f"{account.name}/a@b", account.name))
        self.assertNotEqual(of_caller(other, Policy()).name, account.name)
