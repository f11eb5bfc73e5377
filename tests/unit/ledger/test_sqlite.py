"""The ledger in an SQLite file."""

from __future__ import annotations

import os
import shutil
import sqlite3
from functools import partial
from pathlib import Path
from unittest import mock

from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from infergate.ledger import queries, schema
from infergate.ledger.entry import Key
from infergate.ledger.gathering import Batch, Sums
from infergate.ledger.schema import IStore, StoreAway, StoreRefused
from infergate.ledger.sqlite import SqliteStore, read

HOUR = 1_789_999_200


def batch(number: int, *callers: str, process: str = "one") -> Batch:
    rows = tuple((Key(HOUR, name, "chat", "tiny", "ok"), Sums(1, 3, 1, 5, 0.5)) for name in callers)
    return Batch(process, number, rows)


class Files(SynchronousTestCase):
    def setUp(self) -> None:
        self.path = self.mktemp()
        self.store = SqliteStore(self.path)
        self.addCleanup(self.store.close)

    def requests(self) -> int:
        return queries.usage(self.store.fetch, None, 0).requests


class Rehearsal(Files):
    def test_nothing_is_made(self) -> None:
        """Neither a file that is not there yet, nor a change to one that is."""
        self.store.rehearse()
        self.assertFalse(os.path.exists(self.path))
        self.store.prepare()
        before = Path(self.path).read_bytes()
        self.store.rehearse()
        self.assertEqual(Path(self.path).read_bytes(), before)

    def test_what_the_start_would_say_is_said(self) -> None:
        """Of a folder that is not there, of what is no ledger, and of one that is locked."""
        error = self.assertRaises(StoreRefused, SqliteStore("no/such/x.db").rehearse)
        self.assertRaises(StoreRefused, SqliteStore(".").rehearse)
        self.assertIn("no/such may not be written to", str(error))
        Path(self.path).write_bytes(b"no database" * 100)
        self.assertRaises(StoreRefused, self.store.rehearse)
        os.remove(self.path)
        self.store.prepare()
        with sqlite3.connect(self.path, isolation_level=None) as other:
            other.execute("BEGIN IMMEDIATE")
            self.assertRaises(StoreAway, self.store.rehearse)
        other.close()


class Store(Files):
    def test_interface(self) -> None:
        """It is a store."""
        verifyObject(IStore, self.store)

    def test_prepare_makes_the_file_and_leaves_nothing_open(self) -> None:
        """The tables are there before the gateway listens, with a version, in WAL mode; and nothing
        is open that a fork would share."""
        self.store.prepare()
        with sqlite3.connect(self.path) as other:
            (mode,) = other.execute("PRAGMA journal_mode").fetchone()
            (version,) = other.execute("PRAGMA user_version").fetchone()
        other.close()
        self.assertEqual((mode, version), ("wal", len(schema.MIGRATIONS)))
        self.assertFalse(Path(f"{self.path}-wal").exists())

    def test_batches_add_up(self) -> None:
        """Rows of one key are one row of the table."""
        self.store.add(batch(1, "alice", "bob"))
        self.store.add(batch(2, "alice"))
        rows = self.store.fetch(
            "SELECT caller, requests, prompt_tokens, cached_tokens, completion_tokens, "
            "backend_seconds FROM infergate_usage ORDER BY caller",
            (),
        )
        self.assertEqual(rows, [("alice", 2, 6, 2, 10, 1.0), ("bob", 1, 3, 1, 5, 0.5)])

    def test_batch_is_added_once_however_often_it_is_given(self) -> None:
        """One whose commit got no answer is given again, and does not count twice."""
        self.store.add(batch(1, "alice"))
        self.store.add(batch(1, "alice"))
        self.assertEqual(self.requests(), 1)

    def test_two_processes_add_to_one_file(self) -> None:
        """Each has numbers of its own."""
        other = SqliteStore(self.path)
        self.addCleanup(other.close)
        self.store.add(batch(1, "alice"))
        other.add(batch(1, "alice", process="two"))
        self.store.add(batch(2, "alice"))
        self.assertEqual(self.requests(), 3)

    def test_locked_file_is_away_and_takes_the_batch_later(self) -> None:
        """Nothing of a batch is written while somebody else holds the lock."""
        self.store.prepare()
        with mock.patch("infergate.ledger.sqlite.BUSY", 0):
            locker = sqlite3.connect(self.path, isolation_level=None)
            locker.execute("BEGIN IMMEDIATE")
            error = self.assertRaises(StoreAway, self.store.add, batch(1, "alice"))
            self.assertIn("locked", str(error))
            locker.close()
            self.store.add(batch(1, "alice"))
        self.assertEqual(self.requests(), 1)

    def test_file_that_was_taken_away_is_made_anew(self) -> None:
        """What is written after somebody deleted the file is not lost with the old one."""
        self.store.add(batch(1, "alice"))
        for suffix in ("", "-wal", "-shm"):
            os.unlink(self.path + suffix)
        self.store.add(batch(2, "alice"))
        self.assertEqual(self.requests(), 1)
        self.assertTrue(Path(self.path).exists())

    def test_path_that_cannot_be_made_is_refused(self) -> None:
        """A folder that is not there will not come by itself."""
        error = self.assertRaises(StoreRefused, SqliteStore("no/such/folder/usage.db").prepare)
        self.assertIn("unable to open", str(error))

    def test_file_that_is_no_database_is_refused(self) -> None:
        """It is not overwritten either."""
        Path(self.path).write_text("a letter to my aunt, " * 100)
        error = self.assertRaises(StoreRefused, self.store.prepare)
        self.assertIn("not a database", str(error))
        self.assertIn("aunt", Path(self.path).read_text())

    def test_locked_file_at_the_start_is_away(self) -> None:
        """Another process may be making the tables just now."""
        with mock.patch("infergate.ledger.sqlite.BUSY", 0):
            locker = sqlite3.connect(self.path, isolation_level=None)
            locker.execute("BEGIN EXCLUSIVE")
            self.assertRaises(StoreAway, self.store.prepare)
            locker.close()


class Migrations(Files):
    def test_older_tables_are_brought_up_to_date(self) -> None:
        """What stands in a ledger of an older version stays, and the new version's rows go in."""
        later = (*schema.MIGRATIONS, ("ALTER TABLE infergate_usage ADD COLUMN extra INTEGER",))
        self.store.add(batch(1, "alice"))
        self.store.close()
        with mock.patch.object(schema, "MIGRATIONS", later):
            self.store.add(batch(2, "alice"))
        self.assertEqual(self.store.fetch("PRAGMA user_version", ()), [(len(later),)])
        self.assertEqual(self.requests(), 2)

    def test_tables_of_a_later_version_are_refused(self) -> None:
        """An older infergate does not write into what it does not know."""
        with sqlite3.connect(self.path) as other:
            other.execute("PRAGMA user_version = 99")
        other.close()
        error = self.assertRaises(StoreRefused, self.store.prepare)
        self.assertIn("version 99", str(error))


class Reading(Files):
    def test_reads_while_the_writer_writes(self) -> None:
        """What a gateway has written is seen though it has the file open."""
        self.store.add(batch(1, "alice"))
        self.assertEqual(queries.usage(partial(read, self.path), "alice", 0).requests, 1)

    def test_makes_no_file(self) -> None:
        """Where there is none, the reason says so and none is made."""
        self.assertRaises(FileNotFoundError, partial(read, self.path), "SELECT 1", ())
        self.assertFalse(Path(self.path).exists())

    def test_reads_without_a_writer(self) -> None:
        """The log beside the file is gone once the last writer has closed it."""
        self.store.add(batch(1, "alice"))
        self.store.close()
        self.assertEqual(queries.usage(partial(read, self.path), None, 0).requests, 1)

    def test_reads_what_a_killed_writer_left_in_its_log(self) -> None:
        """Where the folder may not be written to, the file and its log are read side by side."""
        self.store.add(batch(1, "alice"))
        other = self.mktemp()
        for suffix in ("", "-wal"):
            shutil.copyfile(self.path + suffix, other + suffix)

        def refuse(path: str, *arguments: object) -> None:
            raise sqlite3.OperationalError("unable to open database file")

        with mock.patch("infergate.ledger.sqlite._read_only", refuse):
            fetch = partial(read, other)
            self.assertEqual(queries.usage(fetch, None, 0).requests, 1)

    def test_names_with_marks_of_a_url(self) -> None:
        """A path is never taken for a URL with a query."""
        path = self.mktemp() + "a?mode=memory#b %41.db"
        SqliteStore(path).prepare()
        self.assertEqual(queries.usage(partial(read, path), None, 0).requests, 0)

    def test_file_without_tables_is_away(self) -> None:
        """It is not taken for an empty ledger."""
        sqlite3.connect(self.path).close()
        Path(self.path).touch()
        self.assertRaises(StoreAway, queries.usage, partial(read, self.path), None, 0)
