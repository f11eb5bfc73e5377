"""Which database a `USAGE_DB` names."""

from __future__ import annotations

import sys
from unittest import mock

from twisted.trial.unittest import SynchronousTestCase

from infergate.ledger import connecting
from infergate.ledger.schema import StoreRefused
from infergate.ledger.sqlite import SqliteReader, SqliteStore


class Names(SynchronousTestCase):
    def test_path_is_sqlite(self) -> None:
        """Any text that is no URL is a path."""
        self.assertIsInstance(connecting.store("var/usage.db"), SqliteStore)
        self.assertIsInstance(connecting.reader("var/usage.db"), SqliteReader)

    def test_other_urls_are_wrong(self) -> None:
        """A database that is not supported is not taken for the name of a file."""
        for text in ("mysql://host/db", "sqlite:///usage.db", "HTTP://host"):
            error = self.assertRaises(ValueError, connecting.usage_db, text)
            self.assertIn("postgresql://", str(error))

    def test_both_spellings_of_postgresql(self) -> None:
        """libpq takes either."""
        for text in ("postgresql://host/db", "postgres://user:password@host/db"):
            self.assertEqual(connecting.usage_db(text), text)
            self.assertTrue(connecting.is_postgresql(text))

    def test_missing_extra_is_named(self) -> None:
        """The line says what to install."""
        with mock.patch.dict(sys.modules, {"psycopg": None}):
            sys.modules.pop("infergate.ledger.postgresql", None)
            error = self.assertRaises(StoreRefused, connecting.store, "postgresql://host/db")
        self.assertIn("[postgresql]", str(error))
