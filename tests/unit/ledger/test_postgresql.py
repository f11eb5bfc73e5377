"""The ledger in PostgreSQL, as far as no server is needed: what it would be asked, and told."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from typing import Any
from unittest import mock

from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from infergate.ledger.entry import Key
from infergate.ledger.gathering import Batch, Sums
from infergate.ledger.schema import COLUMNS, MIGRATIONS, IStore, StoreAway, StoreRefused

if find_spec("psycopg") is None:
    skip = "needs the extra postgresql"
else:
    import psycopg
    from psycopg.conninfo import conninfo_to_dict

    from infergate.ledger.postgresql import CONNECT, PostgresStore

VERSION = len(MIGRATIONS)
URL = "postgresql://gate:canary@db/usage"
ROWS = tuple(
    (Key(1_789_999_200, name, "chat", "tiny", "ok"), Sums(1, 3, 1, 5, 0.5)) for name in ("a", "b")
)


class Connection:
    """Keeps what it is asked, and gives `value` as the one value of every answer."""

    def __init__(self, value: Any, changed: int = 1) -> None:
        self.value, self.rowcount = value, changed
        self.asked: list[tuple[str, Sequence[Any]]] = []
        self.failure: Exception | None = None
        self.closed = False
        self.encoding: str | None = "UTF8"

    @property
    def info(self) -> Connection:
        return self

    def parameter_status(self, name: str) -> str | None:
        return {"server_encoding": self.encoding}[name]

    def execute(self, sql: str, parameters: Sequence[Any] = ()) -> Connection:
        self.asked.append((sql, parameters))
        if self.failure is not None:
            raise self.failure
        return self

    def fetchone(self) -> tuple[Any, ...]:
        return (self.value,)

    def fetchall(self) -> list[tuple[Any, ...]]:
        return [(self.value,)]

    @contextmanager
    def transaction(self, *, force_rollback: bool = False) -> Iterator[None]:
        yield

    def close(self) -> None:
        self.closed = True


class Store(SynchronousTestCase):
    def connect(self, value: Any = VERSION, changed: int = 1) -> Connection:
        """What the store gets when it connects."""
        connection = Connection(value, changed)
        self.connecting = mock.Mock(return_value=connection)
        self.patch(psycopg, "connect", self.connecting)
        return connection

    def test_url_stands_over_the_time_limits_of_our_own(self) -> None:
        """A connection that is not answered ends in seconds, unless the URL says otherwise; a URL
        that is none is refused in words that show no password."""
        for query, seconds in (("", CONNECT), ("?connect_timeout=77", 77)):
            self.connect()
            store = PostgresStore(URL + query)
            verifyObject(IStore, store)
            store.check()
            given = conninfo_to_dict(self.connecting.call_args.args[0])
            self.assertEqual(given["connect_timeout"], str(seconds))
            self.assertEqual((given["password"], given["dbname"]), ("canary", "usage"))
        error = self.assertRaises(ValueError, PostgresStore, "postgresql://a:canary@[b/c")
        self.assertNotIn("canary", str(error))

    def test_batch_is_two_statements_with_an_array_for_each_column(self) -> None:
        """All rows go at once, each parameter in psycopg's style and of its column's type."""
        connection = self.connect()
        PostgresStore(URL).add(Batch("one", 7, ROWS))
        (mark, named), (add, columns) = connection.asked[-2:]
        self.assertEqual((mark.count("%s"), named), (2, ("one", 7)))
        self.assertEqual(add.count("%s::"), len(COLUMNS))
        self.assertEqual(len(columns), len(COLUMNS))
        self.assertEqual(columns[1], ["a", "b"])
        self.assertNotIn("?", mark + add)

    def test_batch_that_was_written_adds_nothing(self) -> None:
        """One whose commit got no answer may be given again."""
        connection = self.connect(changed=0)
        PostgresStore(URL).add(Batch("one", 7, ROWS))
        self.assertFalse([sql for sql, _ in connection.asked if "INTO infergate_usage" in sql])

    def test_failure_closes_the_connection_and_is_one_line(self) -> None:
        """A database that is away says why in one line of the log, and is connected to anew."""
        connection = self.connect()
        store = PostgresStore(URL)
        self.assertEqual(store.fetch("SELECT ?", (1,)), [(VERSION,)])
        self.assertEqual(connection.asked[-1], ("SELECT %s", (1,)))
        connection.failure = psycopg.OperationalError("server closed\n\tthe connection\n")
        error = self.assertRaises(StoreAway, store.check)
        self.assertEqual((str(error), connection.closed), ("server closed the connection", True))
        self.connect()
        store.check()
        self.connecting.assert_called_once()

    def test_database_that_cannot_hold_all_names_is_refused(self) -> None:
        """One with an encoding of few characters ends the start, before a name comes that it cannot
        write; where pgbouncer does not say which it is, and in one without any, UTF-8 is spoken."""
        connection = self.connect()
        for encoding in ("UTF8", "SQL_ASCII", None):
            connection.encoding = encoding
            PostgresStore(URL).prepare()
            given = conninfo_to_dict(self.connecting.call_args.args[0])
            self.assertEqual(given["client_encoding"], "utf8")
        connection.encoding = "LATIN1"
        error = self.assertRaises(StoreRefused, PostgresStore(URL).prepare)
        self.assertIn("LATIN1", str(error))
        self.assertIn("ENCODING 'UTF8'", str(error))

    def test_tables_of_a_later_version_are_refused(self) -> None:
        """The start ends, and while the gateway runs the ledger waits for the tables to be put
        right; nothing is written to them."""
        connection = self.connect(VERSION + 1)
        self.assertRaises(StoreRefused, PostgresStore(URL).prepare)
        self.assertRaises(StoreAway, PostgresStore(URL).add, Batch("one", 7, ROWS))
        self.assertTrue(connection.closed)
        self.assertFalse([sql for sql, _ in connection.asked if "INSERT INTO" in sql])
