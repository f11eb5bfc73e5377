"""What is not written yet: rows that add up in memory, and the batches made of them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Any

from msgspec import Struct

from infergate.ledger.entry import HOUR, Key, is_counted, stored
from infergate.telemetry.record import Record

MAX_ROWS = 65_536
"""Rows held while the database is away: ten minutes of 100 requests a second, each of another
caller, model and outcome, in some 35 MB. As a rule many requests share a row."""

MAX_BATCH = 1_000
"""Rows of one batch. To make it takes the event loop some milliseconds; after a long outage of the
database there may be many of them."""

MAX_MODELS = 10_000
"""Names that the backend accepted; clients choose them, so they must not be endless."""

OTHER = "other"
"""Stands for every model that the backend never accepted."""


class Sums(Struct, gc=False):
    """What a row adds up."""

    requests: int = 0
    prompt_tokens: int = 0
    cached_tokens: int = 0
    completion_tokens: int = 0
    backend_seconds: float = 0.0

    def add(self, other: Sums) -> None:
        """Add the numbers of `other` to these, in place. Called by `Gathering.take`."""
        for name in self.__struct_fields__:
            setattr(self, name, getattr(self, name) + getattr(other, name))

    def account_for(self, records: Sequence[Record]) -> None:
        """Add what records say to these, in place. Called by `Gathering.add`."""
        usages = [record.usage for record in records]
        self.requests += len(records)
        self.prompt_tokens += sum([usage.prompt_tokens for usage in usages])
        self.cached_tokens += sum([usage.cached_tokens for usage in usages])
        self.completion_tokens += sum([usage.completion_tokens for usage in usages])
        self.backend_seconds += sum([record.backend_seconds or 0.0 for record in records])


Row = tuple[Key, Sums]


class Batch(Struct, frozen=True):
    """Rows that are written together or not at all.

    `process` and `number` name the batch in the database, so that one whose commit got no answer
    can be sent again without being added twice. The rows are in the order of their keys: two
    processes that write the same rows lock them in the same order, and never wait for each other
    in a circle.
    """

    process: str
    number: int
    rows: tuple[Row, ...]

    @property
    def requests(self) -> int:
        """How many requests these rows stand for."""
        return sum(sums.requests for _, sums in self.rows)


class Gathering:
    """Adds up records until `take` makes a batch of them.

    A hundred requests of alice for one model within an hour, all of them good, are one row:

        Key(1789999200, "alice", "chat", "qwen2.5-7b", "ok"): Sums(100, 4200, 0, 31000, 180.5)

    `Ledger` calls `add` with the records that have ended, in the reactor's thread, and `take` for
    each batch. Rows that were taken are the ledger's to keep until they are written: `held` of
    `add` is how many these are, so that both together stay within `max_rows`.
    """

    def __init__(self, max_rows: int = MAX_ROWS) -> None:
        self._max_rows = max_rows
        self._rows: dict[Key, Sums] = {}
        self._models: set[str] = set()
        self.requests = 0

    def __len__(self) -> int:
        """Return the number of rows, not of requests."""
        return len(self._rows)

    def __iter__(self) -> Iterator[Row]:
        """Return an iterator over the rows, the oldest first. They stay ours: the sums may still
        grow. For the questions about what is not written yet."""
        return iter(self._rows.items())

    def add(self, records: Sequence[Record], held: int = 0) -> int:
        """Add closed records to the rows of the hours in which they ended, those of one row
        together, and return how many found no place: they are not counted, since they would have
        begun one row too many. `held` is the number of rows that wait elsewhere. Raises nothing.
        Called by `Ledger.add`."""
        alike: dict[tuple[Any, ...], list[Record]] = {}
        for record in records:
            hour = int(record.epoch * 1e-9 + (record.closed or 0)) // HOUR
            labels = (
                hour, record.caller, record.operation, record.model, record.model_accepted,
                record.outcome,
            )  # fmt: skip
            alike.setdefault(labels, []).append(record)
        lost = 0
        for (hour, *_), group in alike.items():
            if is_counted(group[0]) and not self._add_alike(hour, group, held):
                lost += len(group)
        return lost

    def _add_alike(self, hour: int, records: Sequence[Record], held: int) -> bool:
        """Add records of one row, which ended in the same `hour` since 1970, to it, and return
        whether there was a place for it. Called by `add`."""
        one = records[0]
        key = Key(
            hour * HOUR,
            one.caller or "",
            one.operation or "",
            self._model(one),
            one.outcome,
        )
        sums = self._rows.get(key)
        if sums is None:
            if len(self._rows) + held >= self._max_rows:
                return False
            sums = self._rows[key] = Sums()
        sums.account_for(records)
        self.requests += len(records)
        return True

    def _model(self, record: Record) -> str:
        """Return the model under which a request is counted: `OTHER` for a name that no backend has
        ever accepted, of which clients could make up as many as there is memory for, and an empty
        text for a request without a model. A name that was accepted is remembered, up to
        `MAX_MODELS` of them. Called by `_add_alike`."""
        model = record.model
        if not model:
            return ""
        if model in self._models:
            return model
        if record.model_accepted and len(self._models) < MAX_MODELS:
            self._models.add(model)
            return model
        return OTHER

    def take(self, process: str, number: int) -> Batch:
        """Take the rows that have waited longest, `MAX_BATCH` at the most, out of memory, and
        return them as a batch. `process` and `number` are what the batch is called in the database.
        An empty batch where there is nothing. Called by `Ledger` before each write of another
        batch; raises nothing."""
        rows: dict[Key, Sums] = {}
        for key in list(islice(self._rows, MAX_BATCH)):
            sums = self._rows.pop(key)
            self.requests -= sums.requests
            clean = Key(key.hour, *map(stored, key[1:]))
            # Two names may be one once they are written as the database takes them.
            rows.setdefault(clean, Sums()).add(sums)
        return Batch(process, number, tuple(sorted(rows.items(), key=lambda row: row[0])))
