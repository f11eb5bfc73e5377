"""Which database a `USAGE_DB` names."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, Protocol

from infergate.ledger.schema import IStore, StoreRefused
from infergate.ledger.sqlite import SqliteReader, SqliteStore

_POSTGRESQL = re.compile("postgres(ql)?://")
_URL = re.compile("[a-z][a-z0-9+.-]*://", re.IGNORECASE)

NEEDS_EXTRA = "needs the extra: pip install 'infergate[postgresql]'"


class Reader(Protocol):
    def fetch(self, sql: str, parameters: Sequence[Any]) -> list[tuple[Any, ...]]:
        """As `IStore.fetch` does; raises `StoreAway`, and `OSError` for a file."""


def usage_db(text: str) -> str:
    """A `USAGE_DB`; raises `ValueError` with what is allowed."""
    if not text.isprintable() or (_URL.match(text) and not is_postgresql(text)):
        raise ValueError("must be the path of an SQLite file, or postgresql://...")
    return text


def is_postgresql(text: str) -> bool:
    return _POSTGRESQL.match(text) is not None


def store(text: str) -> IStore:
    """The ledger to write to; raises `StoreRefused` where the extra is missing."""
    if not is_postgresql(text):
        return SqliteStore(text)
    return _postgresql().PostgresStore(text)  # type: ignore[no-any-return]


def reader(text: str) -> Reader:
    """The ledger to read alone; raises `StoreRefused` likewise."""
    if not is_postgresql(text):
        return SqliteReader(text)
    return _postgresql().PostgresReader(text)  # type: ignore[no-any-return]


def _postgresql() -> Any:
    """Imported only where it is asked for: it takes some 60 ms, and may not be installed."""
    try:
        from infergate.ledger import postgresql
    except ImportError:
        raise StoreRefused(NEEDS_EXTRA) from None
    return postgresql
