"""A slow model is told from a dead one. It takes minutes, and so is run by hand:

INFERGATE_E2E=1 INFERGATE_LONG=1 .venv/bin/trial tests.e2e.test_patience
"""

from __future__ import annotations

import json
import math
import os
import time

from twisted.trial.unittest import SynchronousTestCase

from tests.e2e.harness import OFF, chat, gateway, running
from tests.e2e.llama import missing
from tests.e2e.test_llama import llama

LONG = None if os.environ.get("INFERGATE_LONG") else "takes minutes: set INFERGATE_LONG=1"
skip = OFF or LONG or missing()

THREADS = 64
"""Threads of llama.cpp's, all on one core, where they mostly wait for one another."""

SECONDS = 80.0
"""What the answer is to take: well over the 60 s after which the backend's health is asked."""

CONTEXT = 960
"""Tokens that fit into llama.cpp's context beside the question."""


class SlowModelTests(SynchronousTestCase):
    def test_answer_that_takes_over_a_minute_is_delivered(self) -> None:
        """Under default settings a real llama.cpp may think for over a minute, of which a plain
        answer shows nothing before its end, and its answer is delivered whole."""
        here = os.sched_getaffinity(0)
        os.sched_setaffinity(0, {min(here)})
        try:
            with llama(f"--threads={THREADS}") as url:
                os.sched_setaffinity(0, here)
                with running(served := gateway({"BACKEND_URL": url})):
                    _, a_few = self.timed(served.url, 20)
                    tokens = min(CONTEXT, math.ceil(20 * SECONDS / a_few))
                    usage, seconds = self.timed(served.url, tokens)
                    self.assertGreater(seconds, 60.0, f"{tokens} tokens were too few")
                    self.assertEqual(usage["completion_tokens"], tokens)
                    line = served.requests()[-1]
                    self.assertEqual((line["status"], line["outcome"]), (200, "ok"))
                    self.assertEqual(served.complaints(), [])
        finally:
            os.sched_setaffinity(0, here)

    def timed(self, url: str, tokens: int) -> tuple[dict[str, int], float]:
        """The usage of a plain answer of so many tokens, and its seconds."""
        began = time.monotonic()
        asked = {"max_tokens": tokens, "ignore_eos": True}
        status, _, body = chat(url, asked, timeout=600)
        self.assertEqual(status, 200, body)
        return json.loads(body)["usage"], time.monotonic() - began
