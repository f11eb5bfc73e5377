"""What a large body costs: memory in proportion to its bytes, whatever they say."""

from __future__ import annotations

import contextlib
import gc
import tracemalloc
from collections.abc import Callable

from twisted.trial.unittest import SynchronousTestCase

from infergate.api.chat import CHAT
from infergate.api.operation import Ask, Rules, Stamp, check_in_steps
from infergate.api.reply import CHAT_KIND, as_chunks, shape_reply
from infergate.api.steps import at_once
from infergate.errors import GatewayError
from tests.e2e.harness import OFF
from tests.unit.api.shapes import BODIES, REPLIES

skip = OFF

ROUTE = CHAT.routes[0]
RULES = Rules("default", 1000)
STAMP = Stamp("r", 1)
ASK = Ask(ROUTE, "m", False, {})

SIZE = 600_000
SMALL = 1_500_000
"""Bytes of memory that may be used whatever the size: batches and blocks of 64 KiB."""


def peak(work: Callable[[], object]) -> int:
    """Bytes in use at the most, beyond those in use before."""
    gc.collect()
    tracemalloc.start()
    try:
        with contextlib.suppress(GatewayError):
            work()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def checked(body: bytes) -> Ask:
    """What the gateway makes of a large body."""
    return at_once(check_in_steps(CHAT, body, ROUTE, RULES))


class ScaleTests(SynchronousTestCase):
    def test_bodies_take_memory_in_proportion(self) -> None:
        """Judging a body and writing it anew takes at most three times its size beside it."""
        for name in (
            "messages with another member",
            "smallest messages",
            "messages with escaped names",
            "messages without text",
            "different pairs in a message",
            "empty objects in a message",
            "content parts",
            "content beyond the BMP",
            "members at the top",
            "stream options",
            "stop sequences",
            "a hundred deep",
        ):
            body = BODIES[name](SIZE)
            used = peak(lambda body=body: checked(body).body())  # type: ignore[misc]
            self.assertLess(used, 3 * len(body) + SMALL, name)

    def test_echo_takes_memory_in_proportion(self) -> None:
        """So does echoing it: a character may take four bytes in Python, and there are two copies
        of the last text."""
        echo = CHAT.echo
        assert echo is not None
        for name in ("smallest messages", "long content"):
            body = BODIES[name](SIZE)
            used = peak(lambda body=body: echo(checked(body), STAMP))  # type: ignore[misc]
            self.assertLess(used, 4 * len(body) + SMALL, name)

    def test_replies_take_memory_in_proportion(self) -> None:
        """So does a backend's reply, as it is and as a stream."""
        for name, make in REPLIES.items():
            reply = make(SIZE)

            def work(reply: bytes = reply) -> object:
                shaped = at_once(shape_reply(reply, ASK, STAMP, CHAT_KIND))
                return at_once(as_chunks(shaped.body, True, CHAT_KIND))

            self.assertLess(peak(work), 4 * len(reply) + SMALL, name)
