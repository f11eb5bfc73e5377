"""The ledger at work: one batch at a time, what a database that is away costs, and the stop.

    each `BEAT`                  what has come is made one batch and written; the next beat waits
    nothing has come             the database is looked at, each `CHECK_BEATS` beats
    it is away                   the same batch is tried at each beat, under its number; all else
                                 waits in memory, where rows of one key add up
    it says nothing              after `SILENCE` the connection is ended, and counts as away
    the stop                     what is left is written, for `STOP` seconds at the most

The reactor's thread makes the batches and the one thread of the ledger writes them. The rows of a
batch belong to the ledger until the write has ended well: a question that is asked meanwhile gets
the sum of what the database says and of what is not in it yet.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from functools import partial
from typing import Any, Protocol, TypeVar

import attrs
from twisted.internet.defer import CancelledError, Deferred, succeed
from twisted.internet.defer import TimeoutError as TooLate  # that of addTimeout
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import LoopingCall, deferLater
from twisted.logger import Logger
from twisted.python.failure import Failure

from infergate.ledger import queries
from infergate.ledger.entry import Key
from infergate.ledger.gathering import MAX_BATCH, Batch, Gathering, Sums
from infergate.ledger.queries import Usage
from infergate.ledger.schema import IStore, StoreAway
from infergate.telemetry.batch import Batch as Ended
from infergate.telemetry.record import Record

T = TypeVar("T")

BEAT = 0.5
"""Seconds between two batches: with the time of one write, no request is a second late."""

CHECK_BEATS = 10
"""Beats without a request after which the database is asked whether it is still there."""

SILENCE = 10.0
"""Seconds that a call may wait for a database that says nothing."""

ANSWER = 1.0
"""Seconds that a caller who asks for its usage waits for the database."""

STOP = 5.0
"""Seconds that a stop waits for what is not written yet."""

CLOSE = 0.5
"""Seconds that a stop then waits for the database to be closed."""

_log = Logger(namespace="infergate")


class InThread(Protocol):
    """Calls functions one after another, off the reactor's thread, and returns a Deferred of what
    each returns or raises; `end` lets that thread end (`thread.OneThread`)."""

    def __call__(self, function: Callable[..., T], /, *arguments: Any) -> Deferred[T]: ...
    def end(self) -> None: ...


@attrs.define(eq=False, repr=False)
class Ledger:
    """What `USAGE_DB` keeps. Made by `wiring.stores`, which has had the store make its tables.
    `follow` comes first, then `start`, then any question, `stop` last; all of it in the reactor's
    thread. What has ended it hears of by `add`, which never waits. `store` is used in the one
    thread of `in_thread` alone, but for `tokens_now` and for the `abort` of a call that takes too
    long.

    `was_away`: the database could not be reached when its tables were to be made.

    `up` says whether the last call of the database went well, `pending` how many requests are not
    written yet, `lost` how many found no place in memory while it was away.

    A batch that was not written is tried again as it is: a commit whose answer got lost may have
    been one, and the batch's number has the database add it once. What comes meanwhile is gathered
    for the next batch, so that a row may be in both, and its sums are added up in the database.
    """

    _store: IStore
    _in_thread: InThread
    _clock: IReactorTime
    _gathering: Gathering = attrs.field(factory=Gathering)
    _was_away: bool = attrs.field(default=False, kw_only=True)
    up: bool = attrs.field(default=True, init=False)
    lost: int = attrs.field(default=0, init=False)
    # The batch that is being written, or has to be written again.
    _batch: Batch | None = attrs.field(default=None, init=False)
    # Has `add` be called with all that has ended by now.
    _settle: Callable[[], None] = attrs.field(default=lambda: None, init=False)
    _process: str = attrs.field(factory=lambda: uuid.uuid4().hex, init=False)
    _number: int = attrs.field(default=0, init=False)
    # Beats without a request; at the start as many as have the first beat look at the database.
    _idle_beats: int = attrs.field(default=CHECK_BEATS, init=False)
    _loop: LoopingCall = attrs.field(init=False)
    # Fires when the last beat has ended.
    _beating: Deferred[Any] = attrs.field(factory=lambda: succeed(None), init=False)

    def __attrs_post_init__(self) -> None:
        failed = partial(_log.failure, "USAGE_DB: the ledger failed")
        # A beat that fails is no reason for the next one not to come.
        self._loop = LoopingCall(lambda: Deferred.fromCoroutine(self._beat()).addErrback(failed))
        self._loop.clock = self._clock

    @property
    def pending(self) -> int:
        """Requests that are gathered, or in a batch that is not known to be written. Read at each
        beat, and by the metrics at each scrape."""
        self._settle()
        return self._gathering.requests + (self._batch.requests if self._batch is not None else 0)

    def start(self) -> None:
        """Begin to write, once the ports listen; the database is looked at at once. Returns at
        once. Called by the service; raises nothing."""
        self._beating = self._loop.start(BEAT)

    def follow(self, ended: Ended) -> None:
        """Count what has ended, out of this batch. Called once, by `compose`."""
        self._settle = ended.settle
        ended.tell(self.add)

    def add(self, records: Sequence[Record]) -> None:
        """Count closed records, each in the hour in which it ended. Called by the batch that it
        follows; never waits and raises nothing. Those for which memory has no place are counted in
        `lost`, and the first of these are logged."""
        held = len(self._batch.rows) if self._batch is not None else 0
        lost = self._gathering.add(records, held)
        if lost and not self.lost:
            _log.error("USAGE_DB: its memory is full; requests are lost to the ledger")
        self.lost += lost

    async def usage(self, caller: str | None, since: int) -> Usage:
        """Return what `caller`, or with None everybody, has used since the hour of `since`, what is
        not written yet included. Called by the gateway for ``GET /v1/usage``. Raises `StoreAway`,
        after `ANSWER` seconds at the most."""
        if not self.up:
            raise StoreAway("the database is away")
        asked = self._in_time(queries.usage, self._store.fetch, caller, since)
        try:
            written = await asked.addTimeout(ANSWER, self._clock)
        except TooLate:
            raise StoreAway(f"no answer within {ANSWER} s") from None
        return written + self._pending_usage(caller, since)

    def tokens_now(self, since: int) -> dict[str, int]:
        """Return the tokens of every caller since the hour of `since`. Blocks, and is for the time
        before `start`, when nothing is pending: `Budgets.begin` calls it. Raises `StoreAway`, at
        once where it was away just now: to try again may take another five seconds."""
        if self._was_away:
            raise StoreAway("the database is away")
        try:
            return queries.tokens(self._store.fetch, since)
        finally:
            self._store.close()

    async def tokens(self, since: int) -> dict[str, int]:
        """Return the tokens of every caller since the hour of `since`, what is not written yet
        included, while the gateway runs. Called by `Budgets` at each refresh. Raises `StoreAway`,
        for a silent database after `SILENCE` seconds."""
        tokens = await self._in_time(queries.tokens, self._store.fetch, since)
        for key, sums in self._unwritten(since):
            used = sums.prompt_tokens + sums.completion_tokens
            tokens[key.caller] = tokens.get(key.caller, 0) + used
        return tokens

    def stop(self) -> Deferred[None]:
        """Write what is left, for `STOP` seconds at the most, log how many requests are lost, and
        close the database. The Deferred fires when that is done. Called by the service when the
        last exchange has ended."""
        return Deferred.fromCoroutine(self._stop())

    async def _stop(self) -> None:
        """Do what `stop` says, by which it is called. What is lost is said in one line, with the
        requests for which there was no place before."""
        try:
            await Deferred.fromCoroutine(self._write_all()).addTimeout(STOP, self._clock)
        except TooLate:
            self._store.abort()
        if self.lost or self.pending:
            _log.error(
                "USAGE_DB: {count} requests are lost to the ledger", count=self.lost + self.pending
            )
        # SQLite tidies up the files beside the database when the last connection is closed.
        with suppress(TooLate):
            await self._in_thread(self._store.close).addTimeout(CLOSE, self._clock)
        self._in_thread.end()

    async def _write_all(self) -> None:
        """Let the beat that is under way end, and write what is left, again and again while the
        database is away. Called by `_stop`, which ends it after `STOP` seconds."""
        if self._loop.running:
            self._loop.stop()
        await self._beating
        while self.pending:
            if not await self._write():
                await deferLater(self._clock, BEAT)

    async def _beat(self) -> None:
        """Write what has come since the last beat, or look at the database now and then. The next
        beat waits for this one. Called each `BEAT` seconds by the loop that `start` begins; what it
        raises is logged there."""
        if self.pending:
            self._idle_beats = 0
            # After an outage there is more than goes into one batch.
            while await self._write() and len(self._gathering) >= MAX_BATCH:
                pass
            return
        self._idle_beats += 1
        # One that is away is asked at each beat, so that it counts as back as soon as it is.
        if not self.up or self._idle_beats >= CHECK_BEATS:
            self._idle_beats = 0
            await self._ask(self._store.check)

    async def _write(self) -> bool:
        """Write one batch, that which was not written before first, and return whether it is
        written. A batch that is not stays where it is, for the next try. Raises nothing but its own
        cancelling. Called by `_beat` and `_write_all`."""
        if self._batch is None:
            self._number += 1
            self._batch = self._gathering.take(self._process, self._number)
        written = await self._ask(self._store.add, self._batch)
        if written:
            self._batch = None
        return written

    async def _ask(self, function: Callable[..., object], *arguments: Any) -> bool:
        """Call the database once by `function`, a method of the store, and return whether that went
        well. It says whether the database is up, in one line of the log each way. Not for
        questions: a database that is locked or full still answers those. Raises nothing but its own
        cancelling. Called for each batch, and for the look at the database."""
        try:
            await self._in_time(function, *arguments)
        except StoreAway as why:
            if self.up:
                _log.warn(
                    "USAGE_DB: the ledger cannot be written, requests wait in memory: {why}",
                    why=str(why),
                )
            self.up = False
        except CancelledError:
            raise
        except Exception:
            _log.failure("USAGE_DB: the ledger failed")
            self.up = False
        else:
            if not self.up:
                _log.info("USAGE_DB: the ledger is written again")
            self.up = True
        return self.up

    def _in_time(self, function: Callable[..., T], *arguments: Any) -> Deferred[T]:
        """Return the Deferred of one call of the database in its thread. After `SILENCE` seconds
        without an answer the connection is ended, so that the call fails with `StoreAway`; a file
        is waited for. Called for each use of the database while the gateway runs, but for its
        closing."""
        silence = self._clock.callLater(SILENCE, self._store.abort)

        def ended(result: T | Failure) -> T | Failure:
            """Let the time for the answer be over, and pass the answer on."""
            if silence.active():
                silence.cancel()
            return result

        return self._in_thread(function, *arguments).addBoth(ended)

    def _pending_usage(self, caller: str | None, since: int) -> Usage:
        """Return what `caller`, or with None everybody, has used since the hour of `since` that is
        not written yet. Called by `usage`."""
        total = Usage()
        for key, sums in self._unwritten(since):
            if caller is None or key.caller == caller:
                total += Usage(
                    sums.requests,
                    0 if key.outcome == "ok" else sums.requests,
                    sums.prompt_tokens,
                    sums.completion_tokens,
                    sums.backend_seconds,
                )
        return total

    def _unwritten(self, since: int) -> Iterator[tuple[Key, Sums]]:
        """Return, one after another, the rows from the hour of `since` on that no answer of the
        database holds. Answers come in the order of the calls, so that a batch that was written
        before a question is no longer among them. Called by `tokens` and `_pending_usage`, once the
        database has answered."""
        self._settle()
        if self._batch is not None:
            yield from (row for row in self._batch.rows if row[0].hour >= since)
        yield from (row for row in self._gathering if row[0].hour >= since)
