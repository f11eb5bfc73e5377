"""The event stream that the page reads."""

from __future__ import annotations

import json
from typing import Any

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from infergate.status.feed import Feed
from infergate.status.history import History
from infergate.telemetry.batch import Batch
from infergate.telemetry.record import Record


class Watching(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.batch = Batch()
        self.history = History(self.batch, self.clock.seconds, ())
        self.feed = Feed(
            self.history,
            lambda: {"state": "ready"},
            lambda ended, record: {"request_id": record.request_id, "time": ended},
            self.clock.seconds,
            self.clock,
        )
        self.heard: list[dict[str, Any]] = []

    def hear(self, event: bytes) -> None:
        self.assertTrue(event.startswith(b"data: ") and event.endswith(b"\n\n"))
        self.assertEqual(event.count(b"\n"), 2)
        self.heard.append(json.loads(event[6:]))

    def exchange(self, request_id: str) -> None:
        record = Record(0, "192.0.2.1", request_id)
        record.close(1)
        self.batch.add([record])

    def test_the_first_line_has_what_was(self) -> None:
        """Who opens the page sees the last exchanges and the last hour."""
        self.exchange("before")
        self.clock.advance(60)
        self.feed.watch(self.hear)
        (line,) = self.heard
        self.assertEqual([request["request_id"] for request in line["requests"]], ["before"])
        self.assertEqual(len(line["history"]), 1)
        self.assertEqual(line["state"]["state"], "ready")

    def test_a_line_each_second(self) -> None:
        """Each later line has what has ended since the one before, and each exchange once."""
        self.feed.watch(self.hear)
        self.exchange("one")
        self.clock.advance(1)
        self.clock.advance(1)
        self.exchange("two")
        self.clock.advance(1)
        ids = [[request["request_id"] for request in line["requests"]] for line in self.heard]
        self.assertEqual(ids, [[], ["one"], [], ["two"]])
        self.assertNotIn("history", self.heard[-1])

    def test_a_second_watcher_has_its_own_first_line(self) -> None:
        """One that joins later gets what was, and from then on the same lines as the first."""
        self.feed.watch(self.hear)
        self.exchange("one")
        late: list[bytes] = []
        self.feed.watch(late.append)
        self.assertIn(b'"one"', late[0])
        self.clock.advance(1)
        self.assertEqual(len(late), 2)
        self.assertEqual(len(self.heard), 2)
        self.assertEqual(len(self.heard[1]["requests"]), 1)

    def test_nothing_is_timed_while_nobody_looks(self) -> None:
        """Before the first watcher and after the last there is no timer; stopping twice is fine."""
        self.assertEqual(self.clock.getDelayedCalls(), [])
        stop, other = self.feed.watch(self.hear), self.feed.watch(lambda event: None)
        stop()
        stop()
        self.assertEqual(len(self.clock.getDelayedCalls()), 1)
        other()
        self.assertEqual(self.clock.getDelayedCalls(), [])
        self.feed.watch(self.hear)
        self.assertEqual(len(self.clock.getDelayedCalls()), 1)

    def test_watcher_that_fails_at_once_leaves_no_timer(self) -> None:
        """The next one is served as the first would have been."""

        def fails(event: bytes) -> None:
            raise RuntimeError

        self.assertRaises(RuntimeError, self.feed.watch, fails)
        self.assertEqual(self.clock.getDelayedCalls(), [])
        self.feed.watch(self.hear)
        self.assertEqual(len(self.heard), 1)
