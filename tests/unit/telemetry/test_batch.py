"""Records that are accounted for together."""

from __future__ import annotations

from collections.abc import Sequence

from twisted.trial.unittest import SynchronousTestCase

from infergate.telemetry.batch import TOGETHER, Batch
from infergate.telemetry.record import Record


class Batches(SynchronousTestCase):
    def setUp(self) -> None:
        self.batch = Batch()
        self.told: list[list[str]] = []

    def tell(self, records: Sequence[Record]) -> None:
        self.told.append([record.request_id for record in records])

    def end(self, *names: str) -> None:
        self.batch.add([Record(1.0, "192.0.2.1", name) for name in names])

    def test_views_are_told_of_many_together(self) -> None:
        """Once a batch is full, of all in it, in the order in which they ended."""
        self.batch.tell(self.tell)
        names = [str(number) for number in range(TOGETHER)]
        for name in names[:-1]:
            self.end(name)
        self.assertEqual(self.told, [])
        self.end(names[-1])
        self.assertEqual(self.told, [names])

    def test_whoever_reads_has_the_views_told_first(self) -> None:
        """What is read is as of now, and each record is told of once."""
        self.batch.tell(self.tell)
        self.end("1")
        self.end("2", "3")
        self.batch.settle()
        self.batch.settle()
        self.assertEqual(self.told, [["1", "2", "3"]])

    def test_view_that_fails_costs_no_other_view_and_no_other_record(self) -> None:
        """A fault in one is logged; what ends later, it is told of again."""

        def fails(records: Sequence[Record]) -> None:
            self.tell(records)
            raise RuntimeError("a view that fails")

        self.batch.tell(fails)
        self.batch.tell(self.tell)
        for name in ("1", "2"):
            self.end(name)
            self.batch.settle()
        self.assertEqual(self.told, [["1"], ["1"], ["2"], ["2"]])
        self.assertEqual(len(self.flushLoggedErrors(RuntimeError)), 2)
