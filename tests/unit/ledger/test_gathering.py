"""Records that add up until they are written."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from infergate.ledger.entry import Key
from infergate.ledger.gathering import MAX_BATCH, MAX_ROWS, Batch, Gathering, Sums
from infergate.telemetry.record import Record
from tests.unit.ledger.records import ended, refused, used

HOUR = 1_789_999_200  # 2026-09-21T14:00:00Z


def batch(*records: Record) -> Batch:
    gathering = Gathering()
    gathering.add(records)
    return gathering.take("process", 1)


class Adding(SynchronousTestCase):
    def test_same_key_adds_up(self) -> None:
        """Two requests of one caller, operation, model, outcome and hour are one row."""
        made = batch(ended(usage=used(3, 5, 2)), ended(usage=used(10, 20)))
        self.assertEqual(
            made.rows,
            ((Key(HOUR, "alice", "chat", "tiny", "ok"), Sums(2, 13, 2, 25, 4.0)),),
        )
        self.assertEqual(made.requests, 2)

    def test_hour_is_the_one_in_which_it_ended(self) -> None:
        """The row's hour begins at a whole hour, UTC."""
        last = HOUR + 3599.5
        made = batch(ended(at=last), ended(at=last + 1), ended(at=last + 3600))
        self.assertEqual(
            [(key.hour - HOUR, sums.requests) for key, sums in made.rows], [(0, 1), (3600, 2)]
        )

    def test_what_is_unknown_is_an_empty_text(self) -> None:
        """Where no key is needed, and where no model is named, the key holds no NULL."""
        (row,) = batch(ended(caller=None, model=None)).rows
        self.assertEqual(row[0], Key(HOUR, "", "chat", "", "ok"))

    def test_model_that_was_never_accepted_is_other(self) -> None:
        """Whoever invents names of models makes no rows with them."""
        made = batch(refused(model="invented"), refused(model="invented-too"))
        self.assertEqual([key.model for key, _ in made.rows], ["other"])

    def test_model_that_was_accepted_keeps_its_name_in_later_failures(self) -> None:
        """A failure of a model that is known stands under its name."""
        made = batch(ended(), ended(outcome="backend_error", model_accepted=False))
        self.assertEqual({key.model for key, _ in made.rows}, {"tiny"})

    def test_rows_are_in_the_order_of_their_keys(self) -> None:
        """Two processes that write the same rows lock them in the same order."""
        made = batch(ended(caller="zoe"), ended(caller="al"), refused(caller="al"), ended())
        keys = [key for key, _ in made.rows]
        self.assertEqual(keys, sorted(keys))

    def test_names_that_are_stored_alike_are_one_row(self) -> None:
        """A batch never holds one key twice: PostgreSQL would refuse it each time."""
        made = batch(ended(caller="a\x00"), ended(caller="a\ufffd"))
        ((key, sums),) = made.rows
        self.assertEqual((key.caller, sums.requests), ("a\ufffd", 2))

    def test_taking_begins_anew(self) -> None:
        """What is in one batch is not in the next."""
        gathering = Gathering()
        gathering.add([ended()])
        gathering.take("process", 1)
        self.assertEqual((len(gathering), gathering.requests), (0, 0))
        self.assertEqual(gathering.take("process", 2).rows, ())

    def test_batch_is_bounded(self) -> None:
        """After a long outage what has waited longest goes first, the rest with the next."""
        gathering = Gathering()
        for number in range(MAX_BATCH + 5):
            gathering.add([ended(caller=f"caller-{number:05}")])
        first, second = gathering.take("process", 1), gathering.take("process", 2)
        self.assertEqual((first.requests, second.requests), (MAX_BATCH, 5))
        self.assertEqual(second.rows[0][0].caller, f"caller-{MAX_BATCH:05}")
        self.assertEqual((len(gathering), gathering.requests), (0, 0))


class Bound(SynchronousTestCase):
    def test_ten_minutes_of_a_hundred_requests_a_second_find_a_place(self) -> None:
        """Each of them of a caller of its own, as if none shared a row with another."""
        self.assertGreaterEqual(MAX_ROWS, 10 * 60 * 100)

    def test_rows_are_bounded_and_requests_of_known_rows_are_not(self) -> None:
        """When memory is full, what adds to a row that is there still finds its place."""
        gathering = Gathering(max_rows=2)
        self.assertEqual(gathering.add([ended(caller="a")]), 0)
        self.assertEqual(gathering.add([ended(caller="b")]), 0)
        self.assertEqual(gathering.add([ended(caller="c")]), 1)
        self.assertEqual(gathering.add([ended(caller="a")]), 0)
        self.assertEqual(gathering.requests, 3)

    def test_rows_that_wait_elsewhere_count(self) -> None:
        """A batch that could not be written takes its share of the memory."""
        gathering = Gathering(max_rows=2)
        self.assertEqual(gathering.add([ended(caller="a")], held=1), 0)
        self.assertEqual(gathering.add([ended(caller="b")], held=1), 1)
