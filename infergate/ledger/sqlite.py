"""The ledger in an SQLite file, through the standard library's driver.

The file is in WAL mode: beside ``usage.db`` stand ``usage.db-wal``, to which writers append, and
``usage.db-shm``. So a report reads while the gateway writes, and several processes write in turn,
each waiting `BUSY` for the lock of another. `prepare`, and what is asked before the start, run in
the main thread, all else in the ledger's one thread.

What fails is of two kinds. A file that is locked and a disk that is full pass by themselves: the
batch is tried again (`StoreAway`). All else, such as a file that is no database, will never do: at
the start it ends the process (`StoreRefused`). Later it counts as away too, since there is nobody
to tell but the log, and an operator may put it right while the gateway runs.
"""

from __future__ import annotations

import os
import shutil
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from urllib.parse import quote

from zope.interface import implementer

from infergate.ledger.gathering import Batch
from infergate.ledger.schema import (
    ADD_UP,
    COLUMNS,
    MARK,
    IStore,
    StoreAway,
    StoreRefused,
    missing_migrations,
    values,
)

BUSY = 0.25
"""Seconds to wait for another writer's lock; the next try comes with the next batch."""

_ADD = (
    f"INSERT INTO infergate_usage ({', '.join(COLUMNS)}) "  # noqa: S608  # names of our own
    f"VALUES ({', '.join('?' * len(COLUMNS))}) {ADD_UP}"
)

# What passes by itself; Python 3.10 tells the reason by its text alone.
_PASSING = ("locked", "busy", "full", "disk I/O error")


@implementer(IStore)
class SqliteStore:
    """Made with the path of the file, which `prepare` makes where there is none. Its methods are
    those of `IStore`, where it is said in which order they are called and what they raise."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._connection: sqlite3.Connection | None = None
        self._identity: tuple[int, int] | None = None

    def prepare(self) -> None:
        """Make or migrate the tables, and close the file again. Raises `StoreAway` where it is
        locked or the disk full, and `StoreRefused` for whatever else SQLite says."""
        try:
            self._open()
        except sqlite3.Error as why:
            raise _away_or_refused(why) from None
        finally:
            self.close()

    def rehearse(self) -> None:
        """Look at the folder, the version and the lock, and write nothing. A file that does not
        exist yet is not made. Raises `StoreAway` for a file that is locked, and `StoreRefused` for
        one that is no ledger or may not be written to, and for a folder that may not."""
        folder = os.path.dirname(os.path.abspath(self._path))
        if not os.access(folder, os.W_OK | os.X_OK):
            # SQLite keeps its log beside the file.
            raise StoreRefused(f"cannot be made or opened: {folder} may not be written to")
        if not os.path.exists(self._path):
            return
        try:
            with closing(sqlite3.connect(self._path, timeout=BUSY, isolation_level=None)) as there:
                missing_migrations(_version(there))
                # Nothing is written: closing rolls it back.
                there.execute("BEGIN IMMEDIATE")
        except sqlite3.Error as why:
            raise _away_or_refused(why) from None

    def add(self, batch: Batch) -> None:
        """Write the batch in one transaction; one whose number is written down already adds
        nothing. Raises `StoreAway`."""
        with self._in_use() as connection:
            connection.execute("BEGIN IMMEDIATE")
            if connection.execute(MARK, (batch.process, batch.number)).rowcount:
                connection.executemany(_ADD, values(batch))
            connection.execute("COMMIT")

    def check(self) -> None:
        self.fetch("SELECT 1", ())

    def fetch(self, sql: str, parameters: Sequence[Any]) -> list[tuple[Any, ...]]:
        """Return the rows of a question; SQLite's parameters are ``?`` as they are. Raises
        `StoreAway`."""
        with self._in_use() as connection:
            return connection.execute(sql, parameters).fetchall()

    def abort(self) -> None:
        """Do nothing: a disk that is slow is waited for, and nothing here waits for a peer."""

    def close(self) -> None:
        """Close the file, if it is open; what fails in this is of no interest."""
        connection, self._connection = self._connection, None
        if connection is not None:
            # A transaction that is open is rolled back; closing writes, and may fail as well.
            with suppress(sqlite3.Error):
                connection.close()

    @contextmanager
    def _in_use(self) -> Iterator[sqlite3.Connection]:
        """Give the connection, opened where there is none, to a ``with`` block; raises `StoreAway`
        for whatever fails in it. The connection stays where the file is locked or the disk full:
        closing it would shorten the write-ahead log, and a disk that was full just before would
        take a batch or two, again and again. Called for each batch and each question."""
        if self._connection is not None and self._identity != _identity(self._path):
            # Somebody moved or deleted the file: what is written to the old one is lost.
            self.close()
        try:
            yield self._connection or self._open()
        except (sqlite3.Error, OSError, StoreRefused) as why:
            if not (_passes(why) and self._connection and _rolled_back(self._connection)):
                self.close()
            raise StoreAway(str(why)) from None

    def _open(self) -> sqlite3.Connection:
        """Open the file, or make it, make or migrate the tables, and return the connection. Raises
        `sqlite3.Error`, and `StoreRefused` for tables that are newer than this program. Called by
        `prepare`, and by `_in_use` where the file is not open."""
        # Without an isolation level no transaction begins behind our back.
        connection = self._connection = sqlite3.connect(
            self._path, timeout=BUSY, isolation_level=None, check_same_thread=False
        )
        connection.execute("PRAGMA journal_mode = WAL")
        _migrate(connection)
        self._identity = _identity(self._path)
        return connection


def read(path: str, sql: str, parameters: Sequence[Any]) -> list[tuple[Any, ...]]:
    """Return the rows of a question, as `IStore.fetch`, from a ledger that a gateway may write
    meanwhile, and with no other right than to read it. For ``infergate usage``. Raises `OSError`
    where there is no such file or it may not be read, and `StoreAway` for whatever SQLite says."""
    with open(path, "rb"):
        pass
    # In a folder that may not be written to, a file in WAL mode cannot be opened the usual way
    # unless a writer has it open. What a writer that was killed has left in its log counts too:
    # then both are read where they can be put together.
    log = Path(f"{path}-wal")
    for read_as in (_read_only, _copied if log.exists() else _immutable):
        try:
            return read_as(path, sql, parameters)
        except sqlite3.Error as why:
            reason = str(why)
    raise StoreAway(reason)


def _fetch(mode: str, path: str, sql: str, parameters: Sequence[Any]) -> list[tuple[Any, ...]]:
    """Open the file in a `mode` of SQLite's URIs, ``mode=ro`` or ``immutable=1``, and return the
    rows of a question. Raises `sqlite3.Error`. Called by `read`, in the one mode and then the
    other, and by `_copied`."""
    uri = f"file:{quote(os.path.abspath(path))}?{mode}"
    with closing(sqlite3.connect(uri, uri=True, timeout=5)) as connection:
        return connection.execute(sql, parameters).fetchall()


_read_only = partial(_fetch, "mode=ro")
_immutable = partial(_fetch, "immutable=1")


def _copied(path: str, sql: str, parameters: Sequence[Any]) -> list[tuple[Any, ...]]:
    """Return the rows of a question, from what is in the file and in the log of a writer that was
    killed, put together in a folder where that may be done. Raises `OSError` and `sqlite3.Error`.
    Called by `read` where a log is there and the folder may not be written to."""
    with TemporaryDirectory() as folder:
        copy = os.path.join(folder, "copy")
        for suffix in ("", "-wal"):
            shutil.copyfile(path + suffix, copy + suffix)
        return _fetch("mode=rw", copy, sql, parameters)


def _away_or_refused(why: sqlite3.Error) -> StoreAway | StoreRefused:
    """Return what an error before the start is to be raised as: `StoreAway` for one that passes by
    itself, else `StoreRefused`. Called by `prepare` and `rehearse`."""
    if _passes(why):
        return StoreAway(str(why))
    return StoreRefused(f"cannot be made or opened: {why}")


def _passes(why: Exception) -> bool:
    """Return whether what failed passes by itself, as ``database is locked`` does."""
    return any(word in str(why) for word in _PASSING)


def _rolled_back(connection: sqlite3.Connection) -> bool:
    """Undo a transaction that failed, and return whether nothing of it is left. Raises nothing.
    Called where the connection is to be kept."""
    with suppress(sqlite3.Error):
        if connection.in_transaction:
            connection.execute("ROLLBACK")
    return not connection.in_transaction


def _migrate(connection: sqlite3.Connection) -> None:
    """Bring the tables to our version in one transaction. Another process may do so meanwhile: the
    version is read a second time under the lock. Called whenever the file is opened. Raises
    `sqlite3.Error`, and `StoreRefused` for tables that are newer."""
    if not missing_migrations(_version(connection)):
        return
    connection.execute("BEGIN IMMEDIATE")
    version = _version(connection)
    missing = missing_migrations(version)
    for statements in missing:
        for statement in statements:
            connection.execute(statement)
    # A pragma takes no parameter.
    connection.execute(f"PRAGMA user_version = {version + len(missing)}")
    connection.execute("COMMIT")


def _version(connection: sqlite3.Connection) -> int:
    """Return the version of the tables, which SQLite keeps in the head of the file; 0 for a new
    file. Raises `sqlite3.Error`, as for a file that is no database."""
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    return int(version)


def _identity(path: str) -> tuple[int, int] | None:
    """Return what tells the file at `path` from any other, None where there is none: its device and
    its inode. Called when the file is opened and before each use, to find out whether it was moved
    or deleted; raises nothing."""
    try:
        status = os.stat(path)
    except OSError:
        return None
    return status.st_dev, status.st_ino
