"""What is read out of the ledger."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from infergate.ledger import queries
from infergate.ledger.entry import Key
from infergate.ledger.gathering import Batch, Row, Sums
from infergate.ledger.queries import Usage
from infergate.ledger.sqlite import SqliteStore

DAY = 1_789_948_800  # 2026-09-21T00:00Z
HOUR = 3600


def row(
    hour: int, caller: str, tokens: int, *, model: str = "tiny", outcome: str = "ok", count: int = 1
) -> Row:
    return Key(hour, caller, "chat", model, outcome), Sums(count, tokens, 0, tokens, 0.25)


class Queries(SynchronousTestCase):
    def setUp(self) -> None:
        store = SqliteStore(self.mktemp())
        self.addCleanup(store.close)
        self.fetch = store.fetch
        store.add(
            Batch(
                "one",
                1,
                (
                    row(DAY - HOUR, "alice", 100),
                    row(DAY, "alice", 10, count=2),
                    row(DAY, "bob", 30),
                    row(DAY, "bob", 0, outcome="rate_limited", count=7),
                    row(DAY + HOUR, "", 1, model=""),
                    row(DAY + 24 * HOUR, "carol", 30),
                ),
            )
        )

    def test_usage_of_one_caller(self) -> None:
        """The hours before are not in it, nor are others' requests."""
        self.assertEqual(queries.usage(self.fetch, "alice", DAY), Usage(2, 0, 10, 10, 0.25))
        self.assertEqual(queries.usage(self.fetch, "bob", DAY), Usage(8, 7, 30, 30, 0.5))

    def test_usage_of_everybody(self) -> None:
        """Where no key is needed, the caller is nobody in particular."""
        self.assertEqual(queries.usage(self.fetch, None, DAY).requests, 12)

    def test_usage_of_an_unknown_caller_is_zero(self) -> None:
        """A sum over no rows is no error."""
        self.assertEqual(queries.usage(self.fetch, "nobody", 0), Usage())

    def test_tokens_of_each_caller(self) -> None:
        """Prompt and completion are added, over all models and outcomes."""
        self.assertEqual(
            queries.tokens(self.fetch, DAY), {"alice": 20, "bob": 60, "": 2, "carol": 60}
        )

    def report(self, *by: str, since: int = 0, until: int = 1 << 60) -> list[tuple[object, ...]]:
        return [names for names, _ in queries.report(self.fetch, by, since, until)]

    def test_report_is_in_the_order_of_tokens_then_of_names(self) -> None:
        """Who used most comes first, and two who used the same come by name."""
        self.assertEqual(self.report("caller"), [("alice",), ("bob",), ("carol",), ("",)])

    def test_report_by_day_is_in_the_order_of_time(self) -> None:
        """A day is the second at which it begins; within it the order is by tokens."""
        self.assertEqual(
            self.report("caller", "day"),
            [
                ("alice", DAY - 24 * HOUR),
                ("bob", DAY),
                ("alice", DAY),
                ("", DAY),
                ("carol", DAY + 24 * HOUR),
            ],
        )

    def test_report_holds_what_is_between_the_two_times(self) -> None:
        """The first is inclusive, the second is not."""
        self.assertEqual(
            self.report("hour", since=DAY, until=DAY + 24 * HOUR), [(DAY,), (DAY + HOUR,)]
        )

    def test_report_sums(self) -> None:
        """All columns but the names are sums."""
        ((_, usage),) = queries.report(self.fetch, ["operation"], DAY, DAY + HOUR)
        self.assertEqual(usage, Usage(10, 7, 40, 40, 0.75))
