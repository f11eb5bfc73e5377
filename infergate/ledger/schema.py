"""The tables, their versions, and what a database must do to hold them.

Two tables: ``infergate_usage`` has a row for each hour, caller, operation, model and outcome, and
``infergate_batches`` the number of the last batch of each process. The statements here are for both
databases, with ``?`` where a parameter stands; `sqlite` and `postgresql` implement `IStore`. The
version of the tables is kept by each in its own way. A program that finds older tables migrates
them, and one that finds newer tables refuses them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from msgspec.structs import astuple
from zope.interface import Interface

from infergate.ledger.entry import Key
from infergate.ledger.gathering import Batch, Sums

MIGRATIONS: tuple[tuple[str, ...], ...] = (
    (
        """CREATE TABLE infergate_usage (
            hour BIGINT NOT NULL,
            caller TEXT NOT NULL,
            operation TEXT NOT NULL,
            model TEXT NOT NULL,
            outcome TEXT NOT NULL,
            requests BIGINT NOT NULL,
            prompt_tokens BIGINT NOT NULL,
            cached_tokens BIGINT NOT NULL,
            completion_tokens BIGINT NOT NULL,
            backend_seconds DOUBLE PRECISION NOT NULL,
            PRIMARY KEY (hour, caller, operation, model, outcome)
        )""",
        # A caller who asks for its own usage does not read everybody's.
        "CREATE INDEX infergate_usage_by_caller ON infergate_usage (caller, hour)",
        # The number of the last batch that each process has written.
        "CREATE TABLE infergate_batches (process TEXT PRIMARY KEY, number BIGINT NOT NULL)",
    ),
)
"""What leads from one version to the next; the version is how many of them were made. In words
that SQLite and PostgreSQL understand alike. Only ever appended to."""

COLUMNS = (*Key._fields, *Sums.__struct_fields__)
"""The columns of ``infergate_usage``: what a row is found by, then what it adds up."""

ADD_UP = f"ON CONFLICT ({', '.join(Key._fields)}) DO UPDATE SET " + ", ".join(
    f"{name} = infergate_usage.{name} + excluded.{name}" for name in Sums.__struct_fields__
)
"""What becomes of a row that is there already: ``requests = infergate_usage.requests +
excluded.requests``, and so on for all that it adds up."""

MARK = """INSERT INTO infergate_batches (process, number) VALUES (?, ?)
    ON CONFLICT (process) DO UPDATE SET number = excluded.number
    WHERE infergate_batches.number < excluded.number"""
"""Changes a row only where the batch was not written before."""


class StoreAway(Exception):
    """The database cannot be used now: it is locked, full, slow or away. Nothing was written, or
    nobody knows: the same batch may be given again. Its text says why, and holds no password."""


class StoreRefused(Exception):
    """The database will not do however long one waits: it is none, its tables are of a newer
    version, a grant or an extra is missing. At the start it ends the process, and its text says
    why; while the gateway runs the stores raise `StoreAway` in its place."""


class IStore(Interface):
    """The ledger in one database. All but `abort` block, and are called by one thread at a time.

    `prepare` comes first, before the process forks or starts a thread, and leaves nothing open.
    """

    def prepare() -> None:
        """Make the tables, or migrate those of an older version. Raises `StoreAway` where the
        database cannot be reached now, and `StoreRefused` where it will never do. Called once, at
        the start."""

    def rehearse() -> None:
        """Find out what `prepare` would raise, and raise it; nothing is made or changed. Called by
        ``infergate check`` in place of `prepare`."""

    def add(batch: Batch) -> None:
        """Add `batch` in one transaction, once however often it is given; raises `StoreAway`, and
        then the same batch is to be given again. Called by `Ledger` for each batch."""

    def check() -> None:
        """Return where the database answers; else raise `StoreAway`. Called by `Ledger` where
        nothing is to be written."""

    def fetch(sql: str, parameters: Sequence[Any]) -> list[tuple[Any, ...]]:
        """Return the rows of a question, with ``?`` in `sql` where a parameter stands; raises
        `StoreAway`. Called by the functions of `queries`, and by nobody else outside the stores."""

    def abort() -> None:
        """Let a call that waits for a silent database fail now. Called from another thread, that of
        the reactor; raises nothing."""

    def close() -> None:
        """Close the connection, if there is one. Another call would open it again. Called at the
        stop, and after the questions before the start; raises nothing."""


def values(batch: Batch) -> list[tuple[Any, ...]]:
    """Return the rows of `batch` in the order of `COLUMNS`. Called by both stores for each
    batch."""
    return [(*key, *astuple(sums)) for key, sums in batch.rows]


def missing_migrations(version: int) -> tuple[tuple[str, ...], ...]:
    """Return what leads from `version` to ours, as statements of SQL; nothing where they are the
    same. Called by both stores whenever they open the database. Raises `StoreRefused` where
    `version` is a later one, which an older program must not write to."""
    if version > len(MIGRATIONS):
        raise StoreRefused(
            f"its tables have version {version}, and this infergate knows {len(MIGRATIONS)}: "
            "a newer one has made them"
        )
    return MIGRATIONS[version:]
