"""What a body of ten megabytes costs at the most, in time and in memory.

These are bounds that a slow or busy machine keeps too; the benchmark has the measured times.
"""

from __future__ import annotations

import contextlib
import gc
import json
import time
import tracemalloc
from collections.abc import Callable

from twisted.trial.unittest import SynchronousTestCase

from infergate.api.chat import CHAT
from infergate.api.operation import Ask, Operation, Route, Rules, Stamp, check_in_steps
from infergate.api.operations import ROUTES
from infergate.api.reply import CHAT_KIND, shape_reply
from infergate.api.steps import at_once
from infergate.errors import GatewayError
from tests.e2e.harness import OFF
from tests.unit.api.shapes import BODIES, OTHERS, REPLIES

skip = OFF

ROUTE = CHAT.routes[0]
RULES = Rules("default", 1000)
STAMP = Stamp("r", 1)
ASK = Ask(ROUTE, "m", False, {})

SIZE = 10_000_000
SMALL = 1_000_000
"""Bytes of a body whose memory is measured, which takes many times as long; the batches of 64 KiB
may take as much again."""

SECONDS_PER_BYTE = 10e-9
MARGIN = 3
"""How many times the bound a busy machine may take."""


def judge_body(body: bytes) -> None:
    at_once(check_in_steps(CHAT, body, ROUTE, RULES)).body()


def judge_reply(reply: bytes) -> None:
    at_once(shape_reply(reply, ASK, STAMP, CHAT_KIND))


def seconds(work: Callable[[bytes], object], text: bytes) -> float:
    """The shorter of two runs, in CPU time."""
    times = []
    for _ in range(2):
        began = time.process_time()
        with contextlib.suppress(GatewayError, ValueError, RecursionError):
            work(text)
        times.append(time.process_time() - began)
    return min(times)


def peak(work: Callable[[bytes], object], text: bytes) -> int:
    gc.collect()
    tracemalloc.start()
    try:
        with contextlib.suppress(GatewayError):
            work(text)
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


class ScaleTests(SynchronousTestCase):
    def assert_bounded(
        self, work: Callable[[bytes], None], name: str, make: Callable[[int], bytes]
    ) -> None:
        text = make(SIZE)
        bound = max(seconds(json.loads, text), SECONDS_PER_BYTE * len(text))
        self.assertLess(seconds(work, text), MARGIN * bound, name)
        text = make(SMALL)
        self.assertLess(peak(work, text), 3 * len(text) + 2 * SMALL, name)

    def test_no_body_takes_longer_than_pythons_parser(self) -> None:
        """Judging a body of any shape takes no longer than `json.loads` would, or 10 ms a
        megabyte, and at most four times its size, itself included."""
        for name, make in BODIES.items():
            self.assert_bounded(judge_body, name, make)

    def test_no_reply_takes_longer_than_pythons_parser(self) -> None:
        """Nor does a backend's reply."""
        for name, make in REPLIES.items():
            self.assert_bounded(judge_reply, name, make)

    def test_no_body_of_another_operation_takes_longer(self) -> None:
        """Nor does a body of another operation."""
        for path, bodies in OTHERS.items():
            operation, route = ROUTES[path]

            def judge(body: bytes, operation: Operation = operation, route: Route = route) -> None:
                at_once(check_in_steps(operation, body, route, RULES)).body()

            for name, make in bodies.items():
                self.assert_bounded(judge, f"{path}: {name}", make)
