"""One closed record to everybody who accounts for it."""

from __future__ import annotations

import time
from types import SimpleNamespace

from twisted.trial.unittest import SynchronousTestCase

from infergate.reactor.epoll import Iteration
from infergate.telemetry.accounts import Accounts
from infergate.telemetry.batch import Batch
from infergate.telemetry.record import Record


class AccountsTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.told: list[str] = []
        self.clock = 3.0
        self.iteration = Iteration(
            SimpleNamespace(_poller=SimpleNamespace(poll=lambda *_: []), _selectables={})
        )
        self.batch = Batch()
        self.batch.tell(lambda records: self.told.append(f"{len(records)} together"))
        self.accounts = Accounts(
            self.log,
            self.batch,
            SimpleNamespace(doIteration=self.iteration, seconds=lambda: self.clock),
        )

    def log(self, record: Record) -> None:
        if record.request_id == "odd":
            raise RuntimeError("a log that fails")
        self.told.append(f"log {record.request_id}")

    def end(self, *ids: str, closed: float = 2.0) -> Record:
        for request_id in ids:
            record = Record(opened=1.0, client="192.0.2.1", request_id=request_id)
            record.at_end(lambda record: self.told.append(f"end of {record.request_id}"))
            record.close(closed)
            self.accounts.ended(record)
        return record

    def test_record_is_accounted_for_at_once_where_little_happens(self) -> None:
        """On a quiet gateway an exchange is in the log as soon as it has ended."""
        self.end("1")
        self.assertEqual(self.told, ["end of 1", "log 1"])

    def test_records_of_a_crowded_iteration_are_accounted_for_at_its_end(self) -> None:
        """On a busy gateway it is by the end of the event loop iteration, and no later; what an
        exchange gives back, such as its place, is given back at once."""
        self.iteration.crowded = True
        self.end("1", "2")
        self.assertEqual(self.told, ["end of 1", "end of 2"])
        self.iteration(0)
        self.assertEqual(self.told[2:], ["log 1", "log 2"])
        self.iteration(0)
        self.assertEqual(len(self.told), 4)

    def test_times_are_those_of_the_wall_clock(self) -> None:
        """The records' own clock begins anywhere, and the calendar may be set."""
        year = 31_536_000
        calendar = (year, 2 * year)
        seconds = []
        for now, self.clock in zip(calendar, (3.0, 10.0), strict=True):
            self.patch(time, "time_ns", lambda now=now: now * 10**9)
            record = self.end("1", closed=self.clock - 0.5)
            assert record.closed is not None
            seconds.append(record.epoch / 1e9 + record.closed)
        self.assertEqual(seconds, [now - 0.5 for now in calendar])

    def test_stop_within_a_crowded_iteration_loses_nothing(self) -> None:
        """The last exchange of a process is accounted for before the ledger is closed."""
        self.iteration.crowded = True
        self.end("1")
        self.accounts.stop()
        self.assertEqual(self.told[1:], ["log 1", "1 together"])
        self.iteration(0)
        self.assertEqual(len(self.told), 3)

    def test_line_that_fails_costs_no_other_line_and_no_other_view(self) -> None:
        """A fault in the log takes nothing out of the ledger or the metrics, and no other line."""
        self.iteration.crowded = True
        self.end("odd", "2")
        self.iteration(0)
        self.batch.settle()
        self.assertEqual(self.told[2:], ["log 2", "2 together"])
        self.assertEqual(len(self.flushLoggedErrors(RuntimeError)), 1)

    def test_record_lets_go_of_what_was_to_be_done_at_its_end(self) -> None:
        """A record that the status page keeps holds nothing of its exchange in memory."""
        self.assertEqual(self.end("1").endings, ())
