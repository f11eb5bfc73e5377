"""One thread for what blocks."""

from __future__ import annotations

from queue import SimpleQueue
from threading import current_thread
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from infergate.ledger.thread import OneThread


class Calls(SynchronousTestCase):
    def setUp(self) -> None:
        self.calls: SimpleQueue[tuple[Any, ...]] = SimpleQueue()
        self.thread = OneThread("test", lambda *call: self.calls.put(call))
        self.addCleanup(self.thread.end)

    def run_one(self) -> None:
        function, *arguments = self.calls.get(timeout=5)
        function(*arguments)

    def test_result_comes_in_the_callers_thread(self) -> None:
        """The function runs in a thread that does not keep the process from ending."""
        running = self.thread(lambda: current_thread().daemon)
        self.assertNoResult(running)
        self.run_one()
        self.assertTrue(self.successResultOf(running))

    def test_what_it_raises_is_the_failure(self) -> None:
        """And the thread lives on."""
        failing = self.thread(int, "no number")
        working = self.thread(int, "7")
        self.run_one()
        self.run_one()
        self.failureResultOf(failing, ValueError)
        self.assertEqual(self.successResultOf(working), 7)
