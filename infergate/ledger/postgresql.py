"""The ledger in PostgreSQL, through psycopg 3. Needs the extra ``postgresql``.

Works through pgbouncer: there are no prepared statements, no settings of a session, and no lock
that outlives its transaction.

A batch is one transaction of two statements. The first, `MARK`, writes the batch's number under
the name of the process, unless a number as high is there; where it changed no row, the batch was
written before, by a commit whose answer got lost, and the second is left out. The second adds all
rows at once, an array for each column:

    INSERT INTO infergate_usage (hour, caller, ...)
    SELECT * FROM unnest('{1789999200,1789999200}'::bigint[], '{alice,bob}'::text[], ...)
    ON CONFLICT (hour, caller, operation, model, outcome) DO UPDATE SET ...

All of this runs in the ledger's one thread (`OneThread`), but for `abort`, and for `prepare` and
what is asked before the start, which run in the main thread. Whatever fails closes the connection,
and the next call makes another one.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any

import psycopg
from psycopg import sql as quoting
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from zope.interface import implementer

from infergate.ledger.gathering import Batch
from infergate.ledger.queries import Fetch
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

CONNECT = 5
"""Seconds to connect, to each address of the host."""

SILENT_PEER = 10_000
"""Milliseconds after which the kernel gives up a connection whose peer acknowledges nothing."""

LOCK = 0x1AFE26A7E
"""The advisory lock under which the tables are made. Any number will do that others do not use."""

_TYPES = ("bigint", "text", "text", "text", "text", *["bigint"] * 4, "double precision")

# One statement for all rows, in their order: an array for each column.
_ADD = (
    f"INSERT INTO infergate_usage ({', '.join(COLUMNS)}) SELECT * FROM "  # noqa: S608
    f"unnest({', '.join(f'%s::{name}[]' for name in _TYPES)}) {ADD_UP}"
)

_TABLES = ("infergate_usage", "infergate_batches", "infergate_schema")

_USABLE = """SELECT bool_and(has_table_privilege(name, privilege))
    FROM unnest(%s::text[]) AS name, unnest(ARRAY['SELECT', 'INSERT', 'UPDATE']) AS privilege"""

_MADE = """SELECT EXISTS (SELECT FROM pg_class
    WHERE relname = 'infergate_schema' AND pg_table_is_visible(oid))"""


@implementer(IStore)
class PostgresStore:
    """Made with a ``postgresql://`` URL; raises `ValueError` for one that is none. Its methods are
    those of `IStore`, where it is said in which order they are called and what they raise."""

    def __init__(self, url: str) -> None:
        self._conninfo = _conninfo(url)
        self._connection: psycopg.Connection[tuple[Any, ...]] | None = None

    def prepare(self) -> None:
        """Make or migrate the tables, and close the connection again. Raises `StoreAway` and
        `StoreRefused`."""
        self._try_open()

    def rehearse(self) -> None:
        """Make or migrate the tables in a transaction that is undone, so that what is missing
        shows. Raises `StoreAway` and `StoreRefused`."""
        self._try_open(keep=False)

    def add(self, batch: Batch) -> None:
        """Write the batch in one transaction; one whose number is written down already adds
        nothing. Raises `StoreAway`, also where the answer to the commit got lost."""
        with self._in_use() as connection, connection.transaction():
            mark = connection.execute(MARK.replace("?", "%s"), (batch.process, batch.number))
            if mark.rowcount:
                columns = [list(column) for column in zip(*values(batch), strict=True)]
                connection.execute(_ADD, columns)

    def check(self) -> None:
        self.fetch("SELECT 1", ())

    def fetch(self, sql: str, parameters: Sequence[Any]) -> list[tuple[Any, ...]]:
        """Return the rows of a question. The parameters' ``?`` becomes psycopg's ``%s``. Raises
        `StoreAway`."""
        with self._in_use() as connection:
            # The texts are our own, and none of them holds a per cent sign.
            return connection.execute(sql.replace("?", "%s"), parameters).fetchall()

    def abort(self) -> None:
        """Shut the socket down under the thread that waits for an answer on it. Called in the
        reactor's thread; does nothing where there is no connection, and raises nothing."""
        connection = self._connection
        if connection is None:
            return
        # The thread that waits for an answer sees the connection end, as it would see the peer's
        # end. `close` is not for two threads at once.
        with (
            suppress(psycopg.Error, OSError),
            socket.socket(fileno=os.dup(connection.fileno())) as same,
        ):
            same.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Close the connection, if there is one; a failure to do so is of no interest."""
        connection, self._connection = self._connection, None
        if connection is not None:
            with suppress(psycopg.Error):
                connection.close()

    @contextmanager
    def _in_use(self) -> Iterator[psycopg.Connection[tuple[Any, ...]]]:
        """Give the connection, opened where there is none, to a ``with`` block. One on which
        anything fails is closed and not used again. Raises `StoreAway` in place of psycopg's
        errors, and also where the tables will not do: while the gateway runs, that may be put
        right. Called for each batch and each question."""
        try:
            yield self._connection or self._open()
        except (psycopg.Error, StoreRefused) as why:
            self.close()
            raise StoreAway(_one_line(why)) from None

    def _try_open(self, *, keep: bool = True) -> None:
        """Connect, make the tables or with `keep` false only try to, and close again. Raises
        `StoreAway` where the database cannot be reached, and `StoreRefused` where a grant is
        missing or the tables are newer than this program. Called by `prepare` and `rehearse`."""
        try:
            self._open(keep=keep)
        except psycopg.Error as why:
            raise StoreAway(_one_line(why)) from None
        finally:
            self.close()

    def _open(self, *, keep: bool = True) -> psycopg.Connection[tuple[Any, ...]]:
        """Return a new connection, after the tables have been made or migrated in one transaction,
        which is undone where `keep` is false. Raises `psycopg.Error` and `StoreRefused`. Called for
        each new connection."""
        connection = self._connection = psycopg.connect(
            self._conninfo, autocommit=True, prepare_threshold=None
        )
        _check_encoding(connection)
        with connection.transaction(force_rollback=not keep):
            _migrate(connection)
        return connection


def reader(url: str) -> Fetch:
    """Return a function that reads a ledger and makes no table, as `IStore.fetch`: it connects for
    each question, read-only, and raises `StoreAway`. For ``infergate usage``. Raises `ValueError`
    for a URL that is none."""
    conninfo = _conninfo(url)

    def fetch(sql: str, parameters: Sequence[Any]) -> list[tuple[Any, ...]]:
        """Return the rows of a question, asked on a connection of its own; raises `StoreAway`."""
        try:
            with psycopg.connect(conninfo, prepare_threshold=None) as connection:
                connection.read_only = True
                return connection.execute(sql.replace("?", "%s"), parameters).fetchall()
        except psycopg.Error as why:
            raise StoreAway(_one_line(why)) from None

    return fetch


def _conninfo(url: str) -> str:
    """Return what to connect with, the words of the URL over our own time limits and name. Raises
    `ValueError`, which shows nothing of the URL, for one that libpq cannot read. Called when a
    store or a reader is made."""
    try:
        given = conninfo_to_dict(url)
    except psycopg.Error:
        raise ValueError("must be postgresql://[user[:password]@][host][:port]/database") from None
    ours: dict[str, Any] = {
        "connect_timeout": CONNECT,
        "tcp_user_timeout": SILENT_PEER,
        "application_name": "infergate",
        # Else the encoding is that of the database: without any, texts would come back as bytes.
        "client_encoding": "utf8",
    }
    return make_conninfo(**(ours | given))


def _check_encoding(connection: psycopg.Connection[tuple[Any, ...]]) -> None:
    """Raise `StoreRefused` for a database whose encoding has not all characters: the first name
    that it cannot hold would keep a batch from being written for good. ``SQL_ASCII`` is none: such
    a database keeps the bytes as they come. Called by `_open`."""
    encoding = connection.info.parameter_status("server_encoding")
    if encoding not in (None, "UTF8", "SQL_ASCII"):
        raise StoreRefused(
            f"the database's encoding, {encoding}, cannot hold all names: make it with "
            "ENCODING 'UTF8'"
        )


def _migrate(connection: psycopg.Connection[tuple[Any, ...]]) -> None:
    """Bring the tables to our version; one process at a time, and all others wait for it.

    Called in a transaction, whenever a connection is made: a database may have been restored to
    what it was. The version is read a second time under the lock, since another process may have
    made the tables while we waited. Raises `StoreRefused`, with the GRANT that is missing, where
    the role may not do what has to be done.
    """
    if _one(connection, _MADE) and not _one(connection, _USABLE, [list(_TABLES)]):
        raise StoreRefused(
            "the role may not use the tables: GRANT SELECT, INSERT, UPDATE ON "
            f"{', '.join(_TABLES)} TO {_name(connection, 'current_user')}"
        )
    version = _version(connection)
    if missing_migrations(version):
        connection.execute("SELECT pg_advisory_xact_lock(%s)", (LOCK,))
        version = _version(connection)
        try:
            with connection.transaction():
                _make(connection, version)
        except psycopg.errors.InsufficientPrivilege:
            raise StoreRefused(_may_not_create(connection)) from None


def _make(connection: psycopg.Connection[tuple[Any, ...]], version: int) -> None:
    """Make what leads from `version` to ours, and write down how far that is. Called in a
    transaction and under the lock. Raises `StoreRefused` where `version` is a later one, and
    `psycopg.Error`. Called by `_migrate`."""
    missing = missing_migrations(version)
    if not version:
        connection.execute("CREATE TABLE infergate_schema (version INTEGER NOT NULL)")
        connection.execute("INSERT INTO infergate_schema VALUES (0)")
    for statements in missing:
        for statement in statements:
            connection.execute(statement)
    connection.execute("UPDATE infergate_schema SET version = %s", (version + len(missing),))


def _version(connection: psycopg.Connection[tuple[Any, ...]]) -> int:
    """Return the version of the tables, 0 where there are none. Called by `_migrate`, before and
    under the lock; raises `psycopg.Error`."""
    # Read out of the catalogue itself: `to_regclass` would remember that there was no such table
    # when it was first asked, though another process has made it while this one waited.
    if not _one(connection, _MADE):
        return 0
    return int(_one(connection, "SELECT max(version) FROM infergate_schema"))


def _may_not_create(connection: psycopg.Connection[tuple[Any, ...]]) -> str:
    """Return the sentence about a role that may not make tables, ready to be pasted into psql.
    Called by `_migrate`, in place of PostgreSQL's own words; raises `psycopg.Error`."""
    role = _name(connection, "current_user")
    schema = _name(connection, "COALESCE(current_schema(), 'public')")
    return f"the role may not create the tables: GRANT USAGE, CREATE ON SCHEMA {schema} TO {role}"


def _name(connection: psycopg.Connection[tuple[Any, ...]], expression: str) -> str:
    """Return a name that the database gives, as that of the role, quoted as the GRANT needs it.
    Raises `psycopg.Error`."""
    name = _one(connection, f"SELECT {expression}")
    return quoting.Identifier(str(name)).as_string(connection)


def _one(
    connection: psycopg.Connection[tuple[Any, ...]], sql: str, parameters: Sequence[Any] = ()
) -> Any:
    """Return the first value of the first row that a question gives, None where it gives no row.
    Raises `psycopg.Error`."""
    row = connection.execute(sql, parameters).fetchone()
    return None if row is None else row[0]


def _one_line(why: Exception) -> str:
    """Return what psycopg says of an error, whose text has several lines, in one line for the log.
    Called for each `StoreAway`."""
    return " ".join(str(why).split()) or type(why).__name__
