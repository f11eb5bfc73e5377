"""Which record is a row of the ledger."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from infergate.ledger.entry import is_counted, stored
from tests.unit.ledger.records import ended, refused


class Counted(SynchronousTestCase):
    def test_operation_is_counted_whatever_became_of_it(self) -> None:
        """A refusal by a limit, a wrong body and a failure of the backend's stand in the ledger."""
        for record in (ended(), refused(), refused("client_error"), ended(outcome="backend_error")):
            self.assertTrue(is_counted(record), record.outcome)

    def test_other_routes_are_not_counted(self) -> None:
        """The list of models and a probe cost nothing that anybody pays for."""
        self.assertFalse(is_counted(ended(operation=None, route="/v1/models", method="GET")))

    def test_unauthorized_is_not_counted(self) -> None:
        """Nobody knows on whose account it would stand."""
        self.assertFalse(is_counted(refused("unauthorized", caller=None)))


class Stored(SynchronousTestCase):
    def test_what_no_database_takes_is_replaced(self) -> None:
        """A NUL and half a surrogate pair, which a token's `sub` may hold, spoil no batch."""
        self.assertEqual(stored("a\x00b\ud800c"), "a\ufffdb?c")

    def test_other_names_are_unchanged(self) -> None:
        """Names in any script stay what they are."""
        self.assertEqual(stored("qwen/ü-模型"), "qwen/ü-模型")
