"""The clock of the machine is set back and forward under a running gateway."""

from __future__ import annotations

import http.client
import os
import time
from contextlib import ExitStack
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from tests.e2e.harness import OFF, ROOT, chat, gateway, mock, running, wait_for

SITE = """
import os, time
_real = time.time

def _stepped():
    with open(os.environ["STEP"]) as file:
        return _real() + float(file.read() or 0)

time.time = _stepped
"""
"""A `sitecustomize` in which the clock is as many seconds wrong as a file says."""


class ClockTests(SynchronousTestCase):
    skip = OFF

    def setUp(self) -> None:
        directory = Path(self.mktemp())
        directory.mkdir()
        (directory / "sitecustomize.py").write_text(SITE)
        self.step = (directory / "step").resolve()
        self.set_clock(0)
        stack = ExitStack()
        self.addCleanup(stack.close)
        self.backend = mock()
        stack.enter_context(running(self.backend))
        self.gateway = gateway(
            {
                "PYTHONPATH": f"{directory.resolve()}{os.pathsep}{ROOT}",
                "STEP": str(self.step),
                "BACKEND_URL": self.backend.url,
                "BACKEND_TIMEOUT": "1",
                "HEADER_TIMEOUT": "1",
            }
        )
        stack.enter_context(running(self.gateway))

    def set_clock(self, seconds: float) -> None:
        """Set the clock of the gateway so many seconds forward."""
        new = self.step.with_suffix(".new")
        new.write_text(str(seconds))
        new.rename(self.step)

    def ask(self, delay: float) -> tuple[int, float]:
        """A chat that the backend begins to answer after so many seconds: status, duration."""
        began = time.monotonic()
        status, _, _ = chat(self.gateway.url, {"mock": {"delay": delay}})
        return status, time.monotonic() - began

    def test_clock_that_is_set_stops_and_fires_no_deadline(self) -> None:
        """Set back or forward by an hour, a deadline of one second passes after one second, a
        request of half a second is answered, and a kept connection stays open."""
        kept = http.client.HTTPConnection("127.0.0.1", self.gateway.port)
        self.addCleanup(kept.close)
        for step in (0, -3600, 3600, 0):
            kept.request("GET", "/healthz")
            self.assertEqual(kept.getresponse().read(), b'{"status":"ok"}')
            self.set_clock(step)
            status, seconds = self.ask(delay=0.5)
            self.assertEqual((status, seconds < 1), (200, True), (step, seconds))
            status, seconds = self.ask(delay=5)
            self.assertEqual((status, 0.9 < seconds < 1.6), (504, True), (step, seconds))

    def test_timestamps_of_the_log_go_by_the_clock_that_is_set(self) -> None:
        """Only what says when something was goes by the wall clock; latencies do not."""
        self.set_clock(-86400 * 365)
        chat(self.gateway.url, {"mock": {"delay": 0.2}}, {"X-Request-ID": "then"})
        wait_for(lambda: "then" in self.gateway.log_text(), 5, "the line")
        line = self.gateway.request_line("then")
        then = time.gmtime(time.time() - 86400 * 365)
        self.assertEqual(line["time"][:4], str(then.tm_year))
        self.assertTrue(200 <= line["latency_ms"] < 1000, line)
