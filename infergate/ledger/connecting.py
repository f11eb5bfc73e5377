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
    """A database that was asked for. Its text may hold a password, and is never shown whole. Made
    by `parse_usage_db`; neither making it nor `store` and `reader` touch the database yet."""

    _text: str = attrs.field(repr=False)

    @property
    def path(self) -> str | None:
        """The path of an SQLite file, or None. Read where a file is to be looked at or named: by
        the wiring, the warnings at the start and ``infergate check``."""
        return None if _POSTGRESQL.match(self._text) else self._text

    def store(self) -> IStore:
        """Return the ledger to write to. Called by the wiring at the start, and by ``infergate
        check``. Raises `StoreRefused` for a URL that PostgreSQL's client cannot read, and where the
        extra ``postgresql`` is not installed."""
        store: IStore = (
            _of_postgresql(lambda module: module.PostgresStore(self._text))
            if self.path is None
            else _sqlite().SqliteStore(self.path)
        )
        return store

    def reader(self) -> Fetch:
        """Return a function that reads the ledger and nothing more, as `IStore.fetch` does; that
        one raises `StoreAway`, and `OSError` for a file. Called by ``infergate usage``. Raises
        `StoreRefused` as `store` does."""
        if self.path is not None:
            return partial(_sqlite().read, self.path)
        reader: Fetch = _of_postgresql(lambda module: module.reader(self._text))
        return reader


def parse_usage_db(text: str) -> UsageDB:
    """Convert a `USAGE_DB`, the path of a file or a ``postgresql://`` URL, into the database that
    it names. Called by `config.settings` and by ``infergate usage``; raises `ValueError`, with what
    is allowed and none of the text, for anything else."""
    if (
        not text.isprintable()
        # What SQLite would take for a database in memory, gone with each connection.
        or text == ":memory:"
        or (_URL.match(text) and not _POSTGRESQL.match(text))
    ):
        raise ValueError("must be the path of an SQLite file, or postgresql://...")
    return UsageDB(text)


def _sqlite() -> ModuleType:
    """Import the module `sqlite`, which takes 2 MiB, and return it: only where there is a ledger.
    Called by `UsageDB`; raises nothing."""
    from infergate.ledger import sqlite

    return sqlite


def _of_postgresql(make: Callable[[Any], Any]) -> Any:
    """Return what `make` makes of the module `postgresql`, which is imported only where it is asked
    for: that takes some 60 ms, and what it needs may not be installed. Raises `StoreRefused` for
    that, and for the `ValueError` of a URL that is none. Called by `UsageDB`."""
    try:
        from infergate.ledger import postgresql

        return make(postgresql)
    except ImportError:
        raise StoreRefused(NEEDS_EXTRA) from None
    except ValueError as why:
        raise StoreRefused(str(why)) from None
