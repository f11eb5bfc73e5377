"""Which database a `USAGE_DB` names."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import partial
from types import ModuleType
from typing import Any

import attrs

from infergate.ledger.queries import Fetch
from infergate.ledger.schema import IStore, StoreRefused

_POSTGRESQL = re.compile("postgres(ql)?://")
_URL = re.compile("[a-z][a-z0-9+.-]*://", re.IGNORECASE)

NEEDS_EXTRA = "needs the extra: pip install '.[postgresql]'"


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
        store: IStore = (
            _of_postgresql(lambda module: module.PostgresStore(self._text))
            if self.path is None
            else _sqlite().SqliteStore(self.path)
        )
        return store

    def reader(self) -> Fetch:
        """What reads the ledger and nothing more, as `IStore.fetch` does; it raises `StoreAway`,
        and `OSError` for a file. Raises `StoreRefused` likewise."""
        if self.path is not None:
            return partial(_sqlite().read, self.path)
        reader: Fetch = _of_postgresql(lambda module: module.reader(self._text))
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


def _sqlite() -> ModuleType:
    """The module `sqlite`, imported only where there is a ledger: that takes 2 MiB."""
    from infergate.ledger import sqlite

    return sqlite


def _of_postgresql(make: Callable[[Any], Any]) -> Any:
    """What is made of the module `postgresql`, which is imported only where it is asked for: that
    takes some 60 ms, and what it needs may not be installed."""
    try:
        from infergate.ledger import postgresql

        return make(postgresql)
    except ImportError:
        raise StoreRefused(NEEDS_EXTRA) from None
    except ValueError as why:
        raise StoreRefused(str(why)) from None
