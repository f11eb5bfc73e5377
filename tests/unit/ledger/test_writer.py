"""The ledger at work, on a clock."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.logger import globalLogPublisher
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer
from zope.interface.verify import verifyObject

from infergate.ledger.gathering import Batch, Gathering
from infergate.ledger.queries import Usage
from infergate.ledger.schema import IStore, StoreAway
from infergate.ledger.writer import ANSWER, BEAT, CHECK_BEATS, CLOSE, SILENCE, STOP, Ledger
from infergate.telemetry.batch import Batch as Ended
from tests.unit.ledger.records import AT, ended, refused, used


@implementer(IStore)
class Store:
    """Keeps what is added, unless it is `away`; answers every question with `rows`."""

    def __init__(self) -> None:
        self.away: str | None = None
        self.batches: list[Batch] = []
        self.rows: list[tuple[Any, ...]] = [(0, 0, 0, 0, 0.0)]
        self.closed = self.aborted = 0

    def prepare(self) -> None: ...
    def rehearse(self) -> None: ...

    def add(self, batch: Batch) -> None:
        self.check()
        self.batches.append(batch)

    def check(self) -> None:
        if self.away is not None:
            raise StoreAway(self.away)

    def fetch(self, sql: str, parameters: Sequence[Any]) -> list[tuple[Any, ...]]:
        self.check()
        return self.rows

    def abort(self) -> None:
        self.aborted += 1

    def close(self) -> None:
        self.closed += 1


class Thread:
    """Runs what it is given when `work` is called, or at once while it is `quick`."""

    def __init__(self) -> None:
        self.quick = True
        self.jobs: list[Callable[[], None]] = []
        self.ended = False

    def __call__(self, function: Callable[..., Any], *arguments: Any) -> Deferred[Any]:
        result: Deferred[Any] = Deferred()

        def job() -> None:
            try:
                value = function(*arguments)
            except BaseException:
                value = Failure()
            result.callback(value)

        self.jobs.append(job)
        if self.quick:
            self.work()
        return result

    def work(self) -> None:
        while self.jobs:
            self.jobs.pop(0)()

    def end(self) -> None:
        self.ended = True


class Ledgers(SynchronousTestCase):
    def setUp(self) -> None:
        self.store, self.thread, self.clock = Store(), Thread(), Clock()
        self.ledger = Ledger(self.store, self.thread, self.clock, gathering=Gathering(max_rows=3))
        self.lines: list[str] = []
        observer = lambda event: self.lines.append(event["log_format"].format(**event))  # noqa: E731
        globalLogPublisher.addObserver(observer)
        self.addCleanup(globalLogPublisher.removeObserver, observer)
        self.ledger.start()

    def beats(self, count: int = 1) -> None:
        self.clock.pump([BEAT] * count)

    def written(self) -> int:
        return sum(batch.requests for batch in self.store.batches)

    def said(self) -> list[str]:
        return [line for line in self.lines if line.startswith("USAGE_DB")]


class Writing(Ledgers):
    def test_fake_is_a_store(self) -> None:
        """What these tests hand over has all that a store has."""
        verifyObject(IStore, self.store)

    def test_requests_of_a_beat_are_one_batch(self) -> None:
        """A database sees two writes a second, whatever the traffic, and none without any."""
        for _ in range(5):
            self.ledger.add([ended()])
        self.assertEqual((self.store.batches, self.ledger.pending), ([], 5))
        self.beats(4)
        self.assertEqual([batch.requests for batch in self.store.batches], [5])
        self.assertEqual(self.ledger.pending, 0)

    def test_batches_are_numbered(self) -> None:
        """Under one name of the process, each number once, ascending."""
        for _ in range(3):
            self.ledger.add([ended()])
            self.beats()
        self.assertEqual([batch.number for batch in self.store.batches], [1, 2, 3])
        self.assertEqual(len({batch.process for batch in self.store.batches}), 1)

    def test_slow_database_gets_one_batch_at_a_time(self) -> None:
        """What comes meanwhile waits in memory, and is in the next batch."""
        self.thread.quick = False
        self.ledger.add([ended()])
        self.beats()
        self.ledger.add([ended()])
        self.beats(3)
        self.assertEqual(len(self.thread.jobs), 1)
        self.assertEqual(self.ledger.pending, 2)
        self.thread.work()
        self.beats()
        self.thread.work()
        self.assertEqual([batch.requests for batch in self.store.batches], [1, 1])


class Away(Ledgers):
    def test_nothing_is_lost_and_one_line_is_logged_each_way(self) -> None:
        """All that waited is written when the database is back, and the batch that failed comes
        again as it was, under its number."""
        self.store.away = "database is locked"
        for _ in range(5):
            self.ledger.add([ended()])
            self.beats()
        self.assertFalse(self.ledger.up)
        self.assertEqual(self.ledger.pending, 5)
        self.store.away = None
        self.beats(2)
        self.assertTrue(self.ledger.up)
        self.assertEqual((self.written(), self.ledger.pending), (5, 0))
        self.assertEqual([batch.number for batch in self.store.batches], [1, 2])
        self.assertEqual(len(self.said()), 2, self.said())
        self.assertIn("database is locked", self.said()[0])

    def test_database_that_only_answers_questions_is_still_away(self) -> None:
        """A file that is locked can be read, and the log does not say that it is back."""

        def locked(batch: Batch) -> None:
            raise StoreAway("database is locked")

        add, self.store.rows = self.store.add, [("alice", 1)]
        self.store.add = locked  # type: ignore[method-assign]
        self.ledger.add([ended()])
        self.beats()
        self.successResultOf(Deferred.fromCoroutine(self.ledger.tokens(0)))
        self.beats(3)
        self.assertFalse(self.ledger.up)
        self.assertEqual(len(self.said()), 1)
        self.store.add = add  # type: ignore[method-assign]
        self.beats()
        self.assertTrue(self.ledger.up)

    def test_seen_without_traffic(self) -> None:
        """A database that goes away at night is in the log before the first request."""
        self.store.away = "connection refused"
        self.beats(CHECK_BEATS)
        self.assertFalse(self.ledger.up)
        self.store.away = None
        self.beats()
        self.assertTrue(self.ledger.up)

    def test_seen_at_the_start(self) -> None:
        """A database that was away when the gateway started is said in its first second."""
        self.store.away = "connection refused"
        Ledger(self.store, self.thread, self.clock).start()
        self.assertEqual(len(self.said()), 1)

    def test_full_memory_is_said_once(self) -> None:
        """Rows beyond the bound are lost, and counted."""
        self.store.away = "disk is full"
        for name in "abcdef":
            self.ledger.add([ended(caller=name)])
        self.beats()
        self.assertEqual((self.ledger.pending, self.ledger.lost), (3, 3))
        self.assertEqual(len([line for line in self.said() if "memory is full" in line]), 1)

    def test_silent_database_is_given_up_after_ten_seconds(self) -> None:
        """A peer that says nothing does not keep the thread for ever."""
        self.thread.quick = False
        self.ledger.add([ended()])
        self.beats()
        self.clock.advance(SILENCE)
        self.assertEqual(self.store.aborted, 1)

    def test_fault_of_our_own_is_logged_and_the_batch_kept(self) -> None:
        """Not only what is expected to fail fails."""
        self.store.add = lambda batch: 1 / 0  # type: ignore[assignment, method-assign, return-value]
        self.ledger.add([ended()])
        self.beats()
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)
        self.assertFalse(self.ledger.up)
        self.assertEqual(self.ledger.pending, 1)


class Reading(Ledgers):
    def test_what_is_not_written_yet_is_part_of_the_answer(self) -> None:
        """A caller sees its last request, written or not."""
        self.store.rows = [(4, 1, 30, 50, 2.0)]
        self.ledger.add([ended(usage=used(3, 5))])
        self.ledger.add([refused()])
        self.ledger.add([ended(caller="bob")])
        usage = Deferred.fromCoroutine(self.ledger.usage("alice", 0))
        self.assertEqual(self.successResultOf(usage), Usage(6, 2, 33, 55, 4.0))

    def test_what_ended_just_now_is_part_of_the_answer(self) -> None:
        """So it is for a request that is still in the batch of those that have ended."""
        ended_now = Ended()
        self.ledger.follow(ended_now)
        ended_now.add([ended(usage=used(3, 5))])
        usage = Deferred.fromCoroutine(self.ledger.usage("alice", 0))
        self.assertEqual(self.successResultOf(usage), Usage(1, 0, 3, 5, 2.0))

    def test_other_hours_are_not(self) -> None:
        """What ended before the window is not in it."""
        self.ledger.add([ended()])
        usage = Deferred.fromCoroutine(self.ledger.usage("alice", AT + 3600))
        self.assertEqual(self.successResultOf(usage), Usage())

    def test_batch_that_is_being_written_counts_once(self) -> None:
        """Answers come in order: what was written before a question is in the answer alone."""
        self.thread.quick = False
        self.thread.work()
        self.ledger.add([ended()])
        self.beats()
        self.store.rows = [(1, 0, 3, 5, 2.0)]
        usage = Deferred.fromCoroutine(self.ledger.usage("alice", 0))
        self.thread.work()
        self.assertEqual(self.successResultOf(usage).requests, 1)

    def test_tokens_of_all_callers(self) -> None:
        """Written or not, known to the database or not."""
        self.store.rows = [("alice", 100)]
        self.ledger.add([ended(usage=used(3, 5))])
        self.ledger.add([ended(caller="bob", usage=used(1, 1))])
        tokens = Deferred.fromCoroutine(self.ledger.tokens(0))
        self.assertEqual(self.successResultOf(tokens), {"alice": 108, "bob": 2})

    def test_start_does_not_wait_twice_for_a_database_that_is_away(self) -> None:
        """Budgets are read before the gateway listens, unless there is nobody to ask."""
        self.store.rows = [("alice", 7)]
        self.assertEqual(self.ledger.tokens_now(0), {"alice": 7})
        self.assertEqual(self.store.closed, 1)
        away = Ledger(self.store, self.thread, self.clock, was_away=True)
        self.assertRaises(StoreAway, away.tokens_now, 0)

    def test_slow_database_holds_up_no_caller(self) -> None:
        """Who asks for its usage is told after a second that nobody knows; one that is known to
        be away is not asked at all."""
        self.thread.quick = False
        slow = Deferred.fromCoroutine(self.ledger.usage(None, 0))
        self.assertNoResult(slow)
        self.clock.advance(ANSWER)
        self.failureResultOf(slow, StoreAway)
        self.store.away = "gone"
        self.thread.work()
        self.thread.quick = True
        self.beats(CHECK_BEATS + 1)
        self.failureResultOf(Deferred.fromCoroutine(self.ledger.usage(None, 0)), StoreAway)

    def test_database_that_is_away_fails_the_question(self) -> None:
        """Nobody makes up a number."""
        self.store.away = "gone"
        self.failureResultOf(Deferred.fromCoroutine(self.ledger.usage(None, 0)), StoreAway)


class Stopping(Ledgers):
    def test_writes_to_the_last(self) -> None:
        """An orderly stop loses nothing, and closes the database last."""
        self.ledger.add([ended()])
        self.successResultOf(self.ledger.stop())
        self.assertEqual((self.written(), self.store.closed), (1, 1))
        self.assertTrue(self.thread.ended)
        self.assertEqual(self.said(), [])
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_waits_for_the_batch_under_way_and_then_writes_the_rest(self) -> None:
        """Two batches are left where the first was being written."""
        self.thread.quick = False
        self.ledger.add([ended()])
        self.beats()
        self.ledger.add([ended()])
        stopping = self.ledger.stop()
        self.thread.quick = True
        self.thread.work()
        self.successResultOf(stopping)
        self.assertEqual(self.written(), 2)

    def test_tries_again_until_its_time_has_passed(self) -> None:
        """A lock that goes away within the five seconds costs nothing."""
        self.store.away = "database is locked"
        self.ledger.add([ended()])
        stopping = self.ledger.stop()
        self.clock.advance(1)
        self.store.away = None
        self.clock.advance(1)
        self.successResultOf(stopping)
        self.assertEqual(self.written(), 1)

    def test_says_how_many_are_lost(self) -> None:
        """A stop never waits over five seconds."""
        self.thread.quick = False
        self.ledger.add([ended()])
        self.ledger.add([ended()])
        self.beats()
        stopping = self.ledger.stop()
        self.clock.advance(STOP)
        self.clock.advance(CLOSE)
        self.successResultOf(stopping)
        self.assertIn("2 requests are lost", self.said()[-1])
        self.assertEqual(self.store.aborted, 1)
