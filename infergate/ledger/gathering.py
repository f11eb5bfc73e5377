"""What is not written yet: rows that add up in memory, and the batches made of them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import islice

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
        """Add the numbers of `other` to these, in place. Called by `Gathering.take` alone: a record
        is added field by field."""
        for name in self.__struct_fields__:
            setattr(self, name, getattr(self, name) + getattr(other, name))


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
        """Add closed records to the rows of the hours in which they ended, and return how many
        found no place: they are not counted, since they would have begun one row too many. `held`
        is the number of rows that wait elsewhere. Raises nothing. Called by `Ledger.add`."""
        # To find the row of each record by its key takes three times as long.
        known: dict[tuple[object, ...], Sums] = {}
        lost = 0
        for record in records:
            hour = int(record.epoch * 1e-9 + (record.closed or 0)) // HOUR * HOUR
            labels = (
                hour, record.caller, record.operation, record.model, record.model_accepted,
                record.outcome,
            )  # fmt: skip
            sums = known.get(labels)
            if sums is None:
                if not is_counted(record):
                    continue
                sums = self._sums(hour, record, held)
                if sums is None:
                    lost += 1
                    continue
                known[labels] = sums
            usage = record.usage
            sums.requests += 1
            sums.prompt_tokens += usage.prompt_tokens
            sums.cached_tokens += usage.cached_tokens
            sums.completion_tokens += usage.completion_tokens
            sums.backend_seconds += record.backend_seconds or 0.0
            self.requests += 1
        return lost

    def _sums(self, hour: int, record: Record, held: int) -> Sums | None:
        """Return what the row of a record adds up, a new one where there is none yet; None where
        there is no place for it. Called by `add`."""
        model = self._model(record)
        key = Key(hour, record.caller or "", record.operation or "", model, record.outcome)
        sums = self._rows.get(key)
        if sums is None and len(self._rows) + held < self._max_rows:
            sums = self._rows[key] = Sums()
        return sums

    def _model(self, record: Record) -> str:
        """Return the model under which a request is counted: `OTHER` for a name that no backend has
        ever accepted, of which clients could make up as many as there is memory for, and an empty
        text for a request without a model. A name that was accepted is remembered, up to
        `MAX_MODELS` of them. Called by `add`."""
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
