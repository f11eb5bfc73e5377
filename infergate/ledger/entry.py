"""One record into one row of the ledger, or into none.

A row is found by its `Key` and adds up all records that have the same one. Only operations
(``chat``, ``embeddings`` and so on) have a row: lists of models, probes and pages have none.
"""

from __future__ import annotations

from typing import NamedTuple

from infergate.telemetry.record import Record

HOUR = 3600
"""Seconds for which one row stands."""


class Key(NamedTuple):
    """The primary key of a row. `hour` is the second since 1970 at which the hour begins; what is
    not known is an empty text, since a NULL in a key never meets its own upsert."""

    hour: int
    caller: str
    operation: str
    model: str
    outcome: str


def is_counted(record: Record) -> bool:
    """Return whether an exchange stands in the ledger: the operations do, whatever became of them,
    except where nobody knows on whose account (401). Called by `Gathering.add` for each record.
    Raises nothing."""
    return record.operation is not None and record.outcome != "unauthorized"


def stored(text: str) -> str:
    """Return `text` as a database takes it. A model or a JWT's `sub` may hold a NUL, which
    PostgreSQL refuses, or half a surrogate pair, which is no UTF-8: one such name must not spoil a
    batch. Called for each text of a row when a batch is made; raises nothing."""
    return text.encode("utf-8", "replace").decode("utf-8").replace("\x00", "\ufffd")
