"""The tables of the ledger, and what leads from one version of them to the next."""

from __future__ import annotations

import sqlite3

from twisted.trial.unittest import SynchronousTestCase

from infergate.ledger.entry import Key
from infergate.ledger.gathering import Batch, Sums
from infergate.ledger.schema import (
    ADD_UP,
    COLUMNS,
    MARK,
    MIGRATIONS,
    StoreRefused,
    missing_migrations,
    values,
)

ROW = (Key(1_789_999_200, "alice", "chat", "tiny", "ok"), Sums(1, 3, 1, 5, 0.5))


class Tables(SynchronousTestCase):
    def setUp(self) -> None:
        self.database = sqlite3.connect(":memory:")
        self.addCleanup(self.database.close)
        for statements in missing_migrations(0):
            for statement in statements:
                self.database.execute(statement)

    def test_columns_are_those_of_the_table(self) -> None:
        """A new ledger has each column that is written, in the order in which it is."""
        made = self.database.execute("SELECT name FROM pragma_table_info('infergate_usage')")
        self.assertEqual([name for (name,) in made], list(COLUMNS))

    def test_rows_of_one_key_add_up(self) -> None:
        """What is written twice under one key is one row with the sums of both."""
        places = ", ".join("?" * len(COLUMNS))
        for row in values(Batch("one", 1, (ROW, ROW))):
            self.database.execute(f"INSERT INTO infergate_usage VALUES ({places}) {ADD_UP}", row)
        (row,) = self.database.execute("SELECT * FROM infergate_usage").fetchall()
        self.assertEqual(row, (*ROW[0], 2, 6, 2, 10, 1.0))

    def test_number_of_a_batch_is_taken_once(self) -> None:
        """A batch that was written, or comes after a later one, changes no row; each process has
        numbers of its own."""
        marks = [("one", 1), ("one", 1), ("one", 3), ("one", 2), ("two", 1)]
        changed = [self.database.execute(MARK, mark).rowcount for mark in marks]
        self.assertEqual(changed, [1, 0, 1, 0, 1])


class Versions(SynchronousTestCase):
    def test_tables_of_this_version_are_left_alone(self) -> None:
        """A ledger that is up to date is not migrated, a new one gets everything."""
        self.assertEqual(missing_migrations(len(MIGRATIONS)), ())
        self.assertEqual(missing_migrations(0), MIGRATIONS)

    def test_later_tables_are_refused_with_both_versions(self) -> None:
        """An older program says which version it found and which it knows, and writes nothing."""
        later = len(MIGRATIONS) + 1
        error = self.assertRaises(StoreRefused, missing_migrations, later)
        self.assertIn(f"version {later}, and this infergate knows {later - 1}", str(error))
