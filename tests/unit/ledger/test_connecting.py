"""Which database a `USAGE_DB` names."""

from __future__ import annotations

import sys
from unittest import mock

from twisted.trial.unittest import SynchronousTestCase

from infergate import ledger
from infergate.ledger.connecting import parse_usage_db
from infergate.ledger.schema import StoreRefused
from infergate.ledger.sqlite import SqliteStore


class Names(SynchronousTestCase):
    def test_path_is_sqlite(self) -> None:
        """Any text that is no URL is a path."""
        database = parse_usage_db("var/usage.db")
        self.assertEqual(database.path, "var/usage.db")
        self.assertIsInstance(database.store(), SqliteStore)
        self.assertRaises(FileNotFoundError, database.reader(), "SELECT 1", ())

    def test_other_urls_are_wrong(self) -> None:
        """A database that is not supported is not taken for the name of a file."""
        for text in ("mysql://host/db", "sqlite:///usage.db", "HTTP://host", ":memory:"):
            error = self.assertRaises(ValueError, parse_usage_db, text)
            self.assertIn("postgresql://", str(error))

    def test_both_spellings_of_postgresql(self) -> None:
        """libpq takes either."""
        for text in ("postgresql://host/db", "postgres://user:password@host/db"):
            database = parse_usage_db(text)
            self.assertIsNone(database.path)
            self.assertNotIn("password", repr(database))

    def test_missing_extra_is_named(self) -> None:
        """The line says what to install."""
        with mock.patch.dict(sys.modules, {"psycopg": None}):
            sys.modules.pop("infergate.ledger.postgresql", None)
            vars(ledger).pop("postgresql", None)
            error = self.assertRaises(StoreRefused, parse_usage_db("postgresql://host/db").store)
        self.assertIn("[postgresql]", str(error))
