"""Which database a `USAGE_DB` names."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any, Protocol, TypeVar

import attrs

from infergate.ledger.schema import IStore, StoreRefused
from infergate.ledger.sqlite import SqliteReader, SqliteStore

T = TypeVar("T")

_POSTGRESQL = re.compile("postgres(ql)?://")
_URL = re.compile("[a-z][a-z0-9+.-]*://", re.IGNORECASE)

NEEDS_EXTRA = "needs the extra: pip install 'infergate[postgresql]'"


class Reader(Protocol):
    def fetch(self, sql: str, parameters: Sequence[Any]) -> list[tuple[Any, ...]]:
        """As `IStore.fetch` does; raises `StoreAway`, and `OSError` for a file."""


@attrs.frozen
class UsageDB:
    """A database that was asked for. Its text may hold a password, and is never shown whole."""

    _text: str = attrs.field(repr=False)

    @property
    def path(self) -> str | None:
        """The path of an SQLite file, or None."""
        return None if _POSTGRESQL.match(self._text) else self._text

    def store(self) -> IStore:
        """The ledger to write to; raises `StoreRefused` for an URL that is none, and where the
        extra is not installed."""
        if self.path is not None:
            return SqliteStore(self.path)
        store: IStore = _connected(lambda: _postgresql().PostgresStore(self._text))
        return store

    def reader(self) -> Reader:
        """The ledger to read alone; raises `StoreRefused` likewise."""
        if self.path is not None:
            return SqliteReader(self.path)
        reader: Reader = _connected(lambda: _postgresql().PostgresReader(self._text))
        return reader


def parse_usage_db(text: str) -> UsageDB:
    """A `USAGE_DB`; raises `ValueError` with what is allowed."""
    if (
        not text.isprintable()
        # What SQLite would take for a database in memory, gone with each connection.
        or text == ":memory:"
        or (_URL.match(text) and not _POSTGRESQL.match(text))
    ):
        raise ValueError("must be the path of an SQLite file, or postgresql://...")
    return UsageDB(text)


def _connected(make: Callable[[], T]) -> T:
    try:
        return make()
    except ValueError as why:
        raise StoreRefused(str(why)) from None


def _postgresql() -> Any:
    """Imported only where it is asked for: it takes some 60 ms, and may not be installed."""
    try:
        from infergate.ledger import postgresql
    except ImportError:
        raise StoreRefused(NEEDS_EXTRA) from None
    return postgresql
